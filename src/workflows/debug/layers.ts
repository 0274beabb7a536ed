/**
 * `debug layers`: every value inside a model, as a backend computes it, beside what onnxruntime computes from the model's own file, unoptimized.
 *
 * The values are made outputs, of the graph that the engine is built from and of the file that the reference runs. A value that is read by
 * somebody outside can't be fused away, so that such an engine is less fused than the one that is used; hence the model's own outputs are
 * compared as they are, too: where these alone are off, it is a fusion that is wrong. Prior art: Polygraphy's `run --trt-outputs mark all`.
 */
import { basename, dirname } from 'node:path';
import type { Backend, BuildInput, TensorMap } from '../../backends/backend.ts';
import { readBuildInput, refusal } from '../../backends/compile.ts';
import type { BuildOptions, Precision } from '../../engine/engine.ts';
import { TsrtError } from '../../errors.ts';
import { freshName } from '../../ir/build.ts';
import { prune } from '../../ir/edit.ts';
import { typeOf, type AnyNode, type Graph, type ValueId } from '../../ir/graph.ts';
import { formatType, tensorBytes, type TensorType } from '../../ir/tensor.ts';
import { seededInputs } from '../../measure/inputs.ts';
import { markOutputs } from '../../onnx/mark-outputs.ts';
import { readModel, type OnnxModel } from '../../onnx/model.ts';
import type { OnRunEvent } from '../events.ts';
import { readModelFile } from '../model-file.ts';
import { chooseDevices } from '../probe.ts';
import { openRegistry } from '../registry.ts';
import { checkRequest } from '../request.ts';
import { readGivenArrays } from '../verify/arrays.ts';
import { addedBy, compareLayer, holds, wantedOf, type ValueReading } from './readings.ts';

export interface LayersRequest {
  readonly modelFile: string;
  readonly backend: string;
  readonly plugins: readonly string[];
  readonly options: Pick<BuildOptions, 'batch' | 'dims' | 'inputShapes' | 'fusion' | 'precision' | 'backendOptions'>;
  /** Whether the batch was asked for. */
  readonly rebatch: boolean;
  /** A file or folder of arrays to run in place of seeded inputs. */
  readonly arrays: string | undefined;
  readonly seed: number;
  readonly device: string | undefined;
  /** Decibels that every value is to have; undefined: what is usual in the precision. */
  readonly minSnrDb: number | undefined;
  /** Bytes of values that are read at a time; more take several engines. */
  readonly portionBytes?: number;
  readonly signal: AbortSignal;
  readonly onEvent: OnRunEvent;
}

export interface LayersResult {
  readonly device: { readonly slug: string; readonly description: string };
  /** Every value that the file and the graph have by the same name, in the order of the graph. */
  readonly values: readonly ValueReading[];
  /** The model's outputs from an engine of the model as it is. */
  readonly outputs: readonly ValueReading[];
  readonly notices: readonly string[];
}

const PORTION_BYTES = 2 ** 28;

/** Throws TsrtError for a model that the backend, or the intermediate representation, does not hold, and for inputs that do not fit. */
export async function debugLayers(request: LayersRequest): Promise<LayersResult> {
  const { options, signal, onEvent, portionBytes = PORTION_BYTES } = request;
  const registry = await openRegistry(request.plugins);
  const backend = registry.backend(request.backend);
  const device = (await chooseDevices(request.device, [backend])).get(backend.name);
  onEvent({ kind: 'stage', stage: 'model', text: request.modelFile });
  const bytes = await readModelFile(request.modelFile);
  const folder = dirname(request.modelFile);
  const model = readModel(bytes, { folder });
  const arrays = request.arrays === undefined ? undefined : await readGivenArrays(request.arrays, model);
  const given = arrays && Object.fromEntries([...arrays.inputs].map(([name, { dims }]) => [name, dims]));
  const input = await readBuildInput({
    modelBytes: bytes,
    modelName: basename(request.modelFile),
    folder,
    options: { ...options, backend: backend.name, disabledPasses: [], workspaceBytes: undefined, inputShapes: { ...options.inputShapes, ...given } },
    rebatch: request.rebatch,
    customOps: registry.ops,
  });
  const unsupported = input.graph.ok ? await backend.supports(input) : input.graph.unsupported;
  if (!input.graph.ok || unsupported.length > 0) throw refusal(input, backend, unsupported);
  const { graph } = input.graph;
  const bindings = graph.inputs.map((name) => ({ name, ...typeOf(graph, name) }));
  checkRequest(bindings, input.options.batch);
  const inputs: TensorMap = arrays ? Object.fromEntries(arrays.inputs) : seededInputs(bindings, request.seed, 'drawn');

  const reference = registry.backend('onnxruntime');
  const compared = new Map<ValueId, Omit<ValueReading, 'addedDb'>>();
  const portions = inPortions(sharedValues(graph, model), portionBytes);
  const run: Run = { input, bytes, folder, inputs, backend, reference, device, minSnrDb: request.minSnrDb, signal };
  for (const [at, portion] of portions.entries()) {
    onEvent({ kind: 'progress', stage: 'accuracy', label: 'layers', done: at, total: portions.length, unit: 'engines' });
    signal.throwIfAborted();
    for (const reading of (await compareValues(run, portion, marked(graph, portion, options.precision))).readings) compared.set(reading.value, reading);
  }
  const whole = await compareValues(run, new Map(graph.outputs.map((id) => [id, typeOf(graph, id)])), { graph, outputs: new Map(graph.outputs.map((id) => [id, id])) });
  const makers = producerOf(graph);
  const values = [...compared.values()].map((reading): ValueReading => {
    const before = makers.get(reading.value)!.inputs.flatMap((id) => (compared.has(id) ? [compared.get(id)!.snrDb] : []));
    return { ...reading, addedDb: addedBy(reading.snrDb, before) };
  });
  return { device: whole.device, values, outputs: whole.readings.map((reading) => ({ ...reading, addedDb: undefined })), notices: whole.notices };
}

interface Run {
  readonly input: BuildInput;
  readonly bytes: Uint8Array;
  readonly folder: string;
  readonly inputs: TensorMap;
  readonly backend: Backend;
  readonly reference: Backend;
  readonly device: string | undefined;
  readonly minSnrDb: number | undefined;
  readonly signal: AbortSignal;
}

interface Compared {
  readonly readings: readonly Omit<ValueReading, 'addedDb'>[];
  readonly device: LayersResult['device'];
  readonly notices: readonly string[];
}

/** What nodes of the graph give that the file calls by the same name, in the graph's order. */
function sharedValues(graph: Graph, { nodes }: OnnxModel): ReadonlyMap<ValueId, TensorType> {
  const named = new Set(nodes.flatMap(({ outputs }) => outputs));
  return new Map(graph.nodes.flatMap((node) => node.outputs.filter((id) => id !== '' && named.has(id)).map((id) => [id, typeOf(graph, id)])));
}

function producerOf(graph: Graph): ReadonlyMap<ValueId, AnyNode> {
  return new Map(graph.nodes.flatMap((node) => node.outputs.map((id) => [id, node])));
}

/** Runs of values of at most so many bytes; one that is larger stands alone. */
function inPortions(values: ReadonlyMap<ValueId, TensorType>, most: number): readonly ReadonlyMap<ValueId, TensorType>[] {
  const portions: Map<ValueId, TensorType>[] = [];
  let left = 0;
  for (const [id, type] of values) {
    const size = tensorBytes(type);
    if (portions.length === 0 || size > left) {
      portions.push(new Map());
      left = most;
    }
    portions.at(-1)!.set(id, type);
    left -= size;
  }
  return portions;
}

/** A graph that gives some of its values, by the names of its outputs. */
interface Marked {
  readonly graph: Graph;
  readonly outputs: ReadonlyMap<ValueId, ValueId>;
}

/**
 * The graph with these values as its outputs. In fp16 what the model has as floats is given in halves, as it lies between kernels: an output in floats
 * would be one that nobody rounded, and would hide what a half does not hold.
 */
function marked(graph: Graph, values: ReadonlyMap<ValueId, TensorType>, precision: Precision): Marked {
  const taken = new Set(graph.types.keys());
  const types = new Map(graph.types);
  const casts: AnyNode[] = [];
  const outputs = new Map<ValueId, ValueId>();
  for (const [id, { dtype, dims }] of values) {
    if (precision !== 'fp16' || dtype !== 'float32') {
      outputs.set(id, id);
      continue;
    }
    const half = freshName(taken, `${id}_half`);
    types.set(half, { dtype: 'float16', dims });
    casts.push({ op: 'Cast', name: half, inputs: [id], outputs: [half], attrs: { to: 'float16', saturate: 1 }, origins: [] });
    outputs.set(id, half);
  }
  return { graph: prune({ ...graph, types, nodes: [...graph.nodes, ...casts], outputs: [...outputs.values()] }), outputs };
}

/** Compares values that an engine of the graph gives. */
async function compareValues(run: Run, values: ReadonlyMap<ValueId, TensorType>, { graph, outputs }: Marked): Promise<Compared> {
  const { backend, device, signal, minSnrDb } = run;
  const engine = await backend.build({ ...run.input, graph: { ok: true, graph } }, { device, signal, onProgress: undefined });
  const session = await backend.load(engine, { device, signal });
  try {
    const found = await session.run(run.inputs);
    const expected = await referenceValues(run, values);
    const makers = producerOf(graph);
    const readings = [...values].map(([value, type]) => {
      const comparison = compareLayer(found[outputs.get(value)!]!, expected[value]!);
      const { name: node = '', op = '' } = makers.get(value) ?? {};
      const wanted = wantedOf(type.dtype, run.input.options.precision, minSnrDb);
      return { value, node, op, type: formatType(type), ...comparison, minSnrDb: wanted.minSnrDb, holds: holds(comparison, wanted) };
    });
    const { slug, description } = session.device;
    return { readings, device: { slug, description }, notices: engine.header.notices };
  } finally {
    await session.dispose();
  }
}

async function referenceValues({ reference, bytes, folder, inputs }: Run, values: ReadonlyMap<ValueId, TensorType>): Promise<TensorMap> {
  const opened = await reference.reference!({ bytes: markOutputs(bytes, values), folder });
  try {
    const outputs = await opened.run(new Map(Object.entries(inputs).map(([name, tensor]) => [name, { kind: 'tensor', tensor }])));
    return Object.fromEntries(
      [...outputs].map(([name, value]) => {
        if (value.kind !== 'tensor') throw new TsrtError('MODEL_UNSUPPORTED', `the value '${name}' is not a tensor of numbers`);
        return [name, value.tensor];
      }),
    );
  } finally {
    await opened.dispose();
  }
}
