/**
 * The reference of a model with custom ops: onnxruntime runs what it has, unoptimized, and the plugins' own float64 references the
 * rest, so that no kernel is compared with itself.
 */
import { TsrtError } from '../../errors.ts';
import type { RegisteredOp } from '../../ir/custom.ts';
import { typeOf, type Graph, type ValueId } from '../../ir/graph.ts';
import { partition, segmentGraphs } from '../../ir/partition.ts';
import type { Tensor } from '../../ir/tensor.ts';
import { importGraph } from '../../onnx/import.ts';
import { readModel, type OnnxModel } from '../../onnx/model.ts';
import { findOp } from '../../ops/custom.ts';
import { runReference } from '../../ops/custom-reference.ts';
import type { ReferenceModel, ReferenceSource } from '../backend.ts';
import { exportGraph } from '../../onnx/export.ts';
import { inCarriers } from './few-bits.ts';
import { loadOrt, SILENT } from './library.ts';
import { fromOrt, toOrt } from './tensors.ts';
import { referenceThreads } from './threads.ts';

const PLAIN = { ...SILENT, graphOptimizationLevel: 'disabled', enableCpuMemArena: false } as const;

/** Runs one segment of a graph on values by name. */
interface Step {
  readonly inputs: readonly ValueId[];
  run(values: ReadonlyMap<ValueId, Tensor>): Promise<readonly (readonly [ValueId, Tensor])[]>;
  dispose(): Promise<void>;
}

/** Undefined for a model without ops of these plugins: onnxruntime runs it whole. */
export function openCustomReference(model: ReferenceSource, ops: readonly RegisteredOp[]): ReferenceModel | undefined {
  const read = readModel(model.bytes, { folder: model.folder });
  if (!read.nodes.some((node) => findOp(ops, node))) return undefined;
  const opened = new Map<string, Promise<{ readonly graph: Graph; readonly steps: readonly Step[] }>>();
  return {
    inputNames: read.inputs.map(({ name }) => name),
    outputNames: read.outputs.map(({ name }) => name),
    async run(inputs) {
      const tensors = new Map<ValueId, Tensor>();
      for (const [name, value] of inputs) {
        if (value.kind !== 'tensor') throw new TsrtError('MODEL_UNSUPPORTED', `input '${name}' is not a tensor of numbers`, { fix: 'give it one' });
        tensors.set(name, value.tensor);
      }
      const key = JSON.stringify([...tensors].map(([name, { dims }]) => [name, dims]));
      const open = opened.get(key) ?? openSteps(read, tensors, ops, referenceThreads(model));
      opened.set(key, open);
      const { graph, steps } = await open;
      const values = new Map([...graph.constants, ...tensors]);
      for (const step of steps) for (const [id, tensor] of await step.run(values)) values.set(id, tensor);
      return new Map(graph.outputs.map((id) => [id, { kind: 'tensor', tensor: values.get(id)! }]));
    },
    async dispose() {
      for (const open of opened.values()) for (const step of (await open.catch(() => undefined))?.steps ?? []) await step.dispose();
    },
  };
}

async function openSteps(model: OnnxModel, inputs: ReadonlyMap<ValueId, Tensor>, customOps: readonly RegisteredOp[], threads: number): Promise<{ graph: Graph; steps: readonly Step[] }> {
  const inputShapes = Object.fromEntries([...inputs].map(([name, { dims }]) => [name, dims]));
  const imported = importGraph(model, { inputShapes, customOps });
  if (!imported.ok) {
    throw new TsrtError('MODEL_UNSUPPORTED', 'the reference of a model with custom ops needs the rest of it in the op vocabulary', {
      details: imported.unsupported.map(({ node, op, reason }) => `${op} '${node}': ${reason}`),
      fix: 'give expected outputs beside the model',
    });
  }
  const { graph } = imported;
  const segments = partition(graph, (node) => (node.op === 'Custom' && node.attrs.definition ? 'plugin' : 'onnxruntime'));
  const graphs = segmentGraphs(graph, segments);
  const steps: Step[] = [];
  for (const [index, part] of graphs.entries()) steps.push(segments[index]!.kind === 'plugin' ? pluginStep(part) : await ortStep(part, threads));
  return { graph, steps };
}

function pluginStep(graph: Graph): Step {
  return {
    inputs: graph.inputs,
    async run(given) {
      const values = new Map(given);
      for (const node of graph.nodes) {
        if (node.op !== 'Custom') continue;
        const types = node.outputs.map((id, index) => graph.types.get(id) ?? missingOutput(node.name, index));
        const results = runReference(node.attrs.definition!, node.inputs.map((id) => values.get(id)), types);
        for (const [index, id] of node.outputs.entries()) values.set(id, results[index]!);
      }
      return graph.outputs.map((id) => [id, values.get(id)!]);
    },
    dispose: () => Promise.resolve(),
  };
}

function missingOutput(node: string, index: number): never {
  throw new TsrtError('MODEL_UNSUPPORTED', `output ${index} of '${node}' is left out, and its reference gives all`, { fix: 'name every output in the model' });
}

async function ortStep(graph: Graph, threads: number): Promise<Step> {
  const ort = await loadOrt();
  const session = await ort.InferenceSession.create(exportGraph(inCarriers(graph)), { ...PLAIN, intraOpNumThreads: threads });
  return {
    inputs: graph.inputs,
    async run(values) {
      const feeds = Object.fromEntries(graph.inputs.map((id) => [id, toOrt(ort, values.get(id)!)]));
      const outputs = await session.run(feeds);
      return graph.outputs.map((id) => [id, fromOrt(outputs[id]!, typeOf(graph, id).dtype)]);
    },
    dispose: () => session.release(),
  };
}
