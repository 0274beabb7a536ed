/**
 * Observes a network's activations over a dataset: the optimized graph runs with every tensor that int8 needs as an output,
 * batch by batch, and only histograms stay in memory.
 */
import { readBuildInput } from '../../backends/compile.ts';
import { headOf } from '../../backends/head.ts';
import { evaluateConstants } from '../../backends/onnxruntime/evaluate.ts';
import { openGraph } from '../../backends/onnxruntime/observe.ts';
import type { Binding, BuildOptions } from '../../engine/engine.ts';
import { TsrtError } from '../../errors.ts';
import type { RegisteredOp } from '../../ir/custom.ts';
import { typeOf, type Graph } from '../../ir/graph.ts';
import type { Tail } from '../../onnx/tail.ts';
import { halvesAsFloat32 } from '../../passes/device-types.ts';
import { runPasses } from '../../passes/pipeline.ts';
import { createCollector, type Collector, observedValues } from '../../quantize/collect.ts';
import { equalize } from '../../quantize/equalize.ts';
import { isQuantized } from '../../quantize/detect.ts';
import { watchPeaks } from '../../quantize/peaks.ts';
import type { Scheme } from '../../quantize/params.ts';
import { calibrationOutputs, calibrationPlacement } from '../../quantize/quantize-graph.ts';
import type { Dataset } from '../../suite/source.ts';
import { checkRequest } from '../request.ts';

/** What decides which graph is calibrated. */
export type GraphOptions = Pick<BuildOptions, 'fusion' | 'disabledPasses' | 'dims' | 'inputShapes'>;

export interface ObserveRequest {
  readonly model: { readonly name: string; readonly bytes: Uint8Array; readonly folder: string };
  readonly options: GraphOptions;
  /** Ops of plugins. */
  readonly customOps?: readonly RegisteredOp[] | undefined;
  readonly scheme: Scheme;
  /** Observe the graph with equalized channels, as it will be quantized. */
  readonly equalization: boolean;
  /** Opens the samples for the graph's inputs and outputs. */
  readonly openDataset: (inputs: readonly Binding[], outputs: readonly Binding[], batch: number) => Promise<Dataset>;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: (done: number, total: number) => void;
}

export interface Observation {
  readonly modelSha256: string;
  readonly collector: Collector;
  /** Values beside the collector's that reached beyond the largest half. */
  readonly beyondHalf: readonly string[];
  readonly dataset: Dataset;
  readonly samples: number;
  readonly notices: readonly string[];
}

const PRODUCTS: ReadonlySet<string> = new Set(['Conv', 'Gemm', 'MatMul']);

/** Samples that run together: enough for onnxruntime's threads, few enough that all activations fit in memory. One, or what it has, where the model is fixed. */
const BATCHES = [2, 1, undefined] as const;

/** Nodes named in a notice. */
const NAMED = 3;

/** Throws TsrtError MODEL_UNSUPPORTED for a model that can't be quantized, and the dataset's errors. */
export async function observeActivations(request: ObserveRequest): Promise<Observation> {
  const { scheme, equalization, signal, onProgress } = request;
  const { graph: optimized, outputs, sha256, batch, notices } = await optimizedGraph(request);
  const graph = equalization ? equalize(optimized).graph : optimized;
  const placement = calibrationPlacement(graph, scheme);
  if (placement.roles.size === 0) {
    const types = graph.nodes.flatMap(({ op, inputs }) => (PRODUCTS.has(op) ? (graph.constants.get(inputs[1] ?? '')?.dtype ?? []) : []));
    const half = types.find((dtype) => dtype === 'float16' || dtype === 'bfloat16');
    throw unquantizable(request.model.name, half ? `its weights are ${half}, and int8 is made of float32: leave the pass ${halvesAsFloat32.name} in` : 'it has no convolution or matrix product with constant weights');
  }
  const bindings = (ids: readonly string[]) => ids.map((name): Binding => ({ name, ...typeOf(graph, name) }));
  checkRequest(bindings(graph.inputs), batch);
  const dataset = await request.openDataset(bindings(graph.inputs), outputs, batch);
  const collector = createCollector(graph, placement);
  const wanted = calibrationOutputs(graph, placement);
  const peaks = watchPeaks(graph, new Set(observedValues(graph, placement)));
  const runner = await openGraph({ ...peaks.graph, outputs: [...wanted, ...peaks.outputs] });
  let samples = 0;
  try {
    for await (const { inputs, count } of dataset.batches(signal)) {
      signal?.throwIfAborted();
      const outputs = await runner.run(inputs);
      peaks.add(outputs);
      collector.add(new Map([...Object.entries(inputs), ...wanted.map((id) => [id, outputs.get(id)!] as const)]), { count, batch });
      samples += count;
      onProgress(samples, dataset.size);
    }
  } finally {
    await runner.dispose();
  }
  return { modelSha256: sha256, collector, beyondHalf: peaks.beyondHalf(), dataset, samples, notices };
}

export interface OptimizedGraph {
  /** Of a model that the IR holds in part, the head: what follows runs as it is, in onnxruntime. */
  readonly graph: Graph;
  /** The model's. */
  readonly outputs: readonly Binding[];
  /** Of the model. */
  readonly sha256: string;
  /** Samples that it takes at once. */
  readonly batch: number;
  /** What has no ranges. */
  readonly notices: readonly string[];
}

/** The graph that a build of these options would quantize; its names do not depend on the batch. */
export async function optimizedGraph({ model, options, customOps, signal }: Pick<ObserveRequest, 'model' | 'options' | 'customOps' | 'signal'>): Promise<OptimizedGraph> {
  const { fusion, disabledPasses, dims, inputShapes } = options;
  /** Undefined: at the batch that the model, or a size given for it, has. */
  const read = (batch: number | undefined) => {
    const build: BuildOptions = { backend: 'onnxruntime', precision: 'fp32', fusion, batch: batch ?? 1, dims, inputShapes, disabledPasses, workspaceBytes: undefined, backendOptions: {} };
    return readBuildInput({ modelBytes: model.bytes, modelName: model.name, folder: model.folder, options: build, rebatch: batch !== undefined, customOps });
  };
  const readHead = async (batch: number | undefined) => {
    const input = await read(batch);
    const head = headOf(input);
    // Sizes given for whole inputs may fix the batch, and win.
    if (head && batch !== undefined && batch > 1 && head.graph.inputs.every((name) => typeOf(head.graph, name).dims[0] !== batch)) throw unquantizable(model.name, `no input takes ${batch} samples`);
    if (head) return { input, ...head };
    const [first] = input.graph.ok ? [] : input.graph.unsupported;
    throw unquantizable(model.name, `${first?.op}: ${first?.reason}`);
  };
  const { input, graph: imported, tail } = await BATCHES.slice(1).reduce(
    (before, batch) =>
      before.catch((error: unknown) => {
        if (error instanceof TsrtError) return readHead(batch);
        throw error;
      }),
    readHead(BATCHES[0]),
  );
  const { graph } = await runPasses(imported, { target: 'onnx', fusion, disabled: disabledPasses, fold: evaluateConstants, forInt8: true, signal });
  const opaque = graph.nodes.find((node) => node.op === 'Custom' && node.attrs.definition !== undefined);
  if (opaque?.op === 'Custom') throw unquantizable(model.name, `calibrations run in onnxruntime, and the plugin gives no decomposition of ${opaque.attrs.domain}.${opaque.attrs.opType}`);
  if (isQuantized(graph)) throw unquantizable(model.name, 'it comes with scales of its own, and runs in int8 without a calibration');
  const { sha256, outputs: declared } = input.model;
  return { graph, outputs: outputsOf(tail?.outputs ?? graph.outputs, graph, declared ?? []), sha256, batch: input.options.batch, notices: tail ? [withoutRanges(tail)] : [] };
}

/** With types where the graph or the file gives them. */
function outputsOf(names: readonly string[], { types }: Graph, declared: readonly Binding[]): readonly Binding[] {
  return names.map((name): Binding => {
    const type = types.get(name);
    return type ? { name, ...type } : (declared.find((binding) => binding.name === name) ?? { name, dtype: 'float32', dims: [], dynamic: true });
  });
}

function withoutRanges({ nodes }: Tail): string {
  const names = nodes.slice(0, NAMED).map(({ op, name }) => `${op} '${name}'`).join(', ');
  const more = nodes.length > NAMED ? ` and ${nodes.length - NAMED} more` : '';
  const last = nodes.length === 1 ? 'node' : `${nodes.length} nodes`;
  return `Ranges are of what comes before the last ${last} of the model, which a fallback runs in onnxruntime as they are: ${names}${more}.`;
}

function unquantizable(name: string, reason: string): TsrtError {
  return new TsrtError('MODEL_UNSUPPORTED', `${name} can't be calibrated: ${reason}`, { fix: 'run it in fp32, or export it otherwise' });
}
