/** `inspect`: what an ONNX or engine file holds, what it costs, what fused, and what a backend can't build. */
import { basename, dirname } from 'node:path';
import { type CompileRequest, readBuildInput } from '../backends/compile.ts';
import type { Backend, BuildContext, Unsupported } from '../backends/backend.ts';
import type { BuildOptions, EngineHeader } from '../engine/engine.ts';
import { examineEngineFile, isEngineAt, readEngine } from '../engine/read.ts';
import { EXTERNAL_PREFIX, MODEL_PART } from '../backends/onnxruntime/parts.ts';
import { reportError, TsrtError, type ErrorReport } from '../errors.ts';
import type { Graph } from '../ir/graph.ts';
import { type Tensor, tensorBytes } from '../ir/tensor.ts';
import { readModel } from '../onnx/model.ts';
import { coverage, type OpCoverage } from '../ops/custom-routes.ts';
import { nodeCost } from '../ops/infer.ts';
import type { Registry } from '../registry.ts';
import { inModelFile, readModelFile } from './model-file.ts';
import { writeOutput } from './output.ts';
import { chooseDevices } from './probe.ts';

export interface IoRow {
  readonly name: string;
  readonly dtype: string;
  /** A symbolic dimension keeps its name. */
  readonly dims: readonly (number | string)[] | undefined;
}

export interface OpRow {
  readonly op: string;
  readonly count: number;
  /** At the inspected batch; undefined where the graph is not in the IR. */
  readonly flops: number | undefined;
  readonly bytes: number | undefined;
}

export interface ModelInspection {
  readonly kind: 'model';
  readonly name: string;
  readonly file: string;
  readonly producer: string;
  readonly opsets: Readonly<Record<string, number>>;
  readonly inputs: readonly IoRow[];
  readonly outputs: readonly IoRow[];
  readonly nodes: number;
  readonly parameters: number;
  readonly weightBytes: number;
  readonly ops: readonly OpRow[];
  readonly flops: number | undefined;
  readonly options: BuildOptions;
  /** What plugins give of the custom ops in the model, and what they leave out. */
  readonly customOps: readonly OpCoverage[];
  /** Operators that the backend lacks. */
  readonly unsupported: readonly Unsupported[];
  /** Why the model can't be built otherwise: sizes that are missing, say. */
  readonly refusal: ErrorReport | undefined;
  /** The engine that the backend builds; undefined where it can't. */
  readonly engine: EngineHeader | undefined;
}

export interface EngineInspection {
  readonly kind: 'engine';
  readonly file: string;
  readonly fileBytes: number;
  readonly parts: readonly { readonly name: string; readonly bytes: number }[];
  readonly header: EngineHeader;
}

export type Inspection = ModelInspection | EngineInspection;

/** How a model is built that is inspected: for which device, and whether the options' batch takes the place of one that it fixes (default true). */
export type BuildWishes = Pick<BuildContext, 'device' | 'tuning'> & Pick<CompileRequest, 'rebatch'>;

/** Tells model and engine apart by their first bytes. Throws MODEL_NOT_FOUND, MODEL_INVALID or ENGINE_INVALID. */
export async function inspect(file: string, options: BuildOptions, registry: Registry, wishes: BuildWishes = {}): Promise<Inspection> {
  if (await isEngineAt(file)) return inspectEngine(file);
  const bytes = await readModelFile(file);
  return inModelFile(file, () => inspectModel(file, bytes, options, registry, wishes));
}

/**
 * Writes the ONNX file that an onnxruntime engine holds: optimized, and with Q/DQ where it is int8, to be run by anything that reads ONNX.
 * Throws USAGE for an engine of another backend, or of a model with weights in files of their own: one that came so and runs unchanged, or a large one.
 */
export async function writeModelOf(file: string, output: string): Promise<void> {
  const parts: ReadonlyMap<string, Uint8Array> = (await isEngineAt(file)) ? (await readEngine(file)).parts : new Map();
  const model = parts.get(MODEL_PART);
  if (!model) {
    throw new TsrtError('USAGE', 'only engines of the onnxruntime backend hold an ONNX file', {
      place: file,
      fix: 'build one first: tsrt-bench build MODEL --backend onnxruntime, with the precision that you want',
    });
  }
  if ([...parts.keys()].some((name) => name.startsWith(EXTERNAL_PREFIX))) {
    throw new TsrtError('USAGE', 'the engine holds an ONNX file whose weights are in files of their own', { place: file, fix: 'take the model itself, or for an optimized file below 2 GiB build it in int8' });
  }
  await writeOutput(output, model);
}

async function inspectEngine(file: string): Promise<EngineInspection> {
  const { bytes, header, parts } = await examineEngineFile(file);
  return { kind: 'engine', file, fileBytes: bytes, header, parts };
}

async function inspectModel(file: string, bytes: Uint8Array, options: BuildOptions, registry: Registry, wanted: BuildWishes): Promise<ModelInspection> {
  const backend = registry.backend(options.backend);
  const device = (await chooseDevices(wanted.device, [backend])).get(backend.name);
  const folder = dirname(file);
  const model = readModel(bytes, { folder });
  const { graph, ...built } = await tryBuild({ modelBytes: bytes, modelName: basename(file).replace(/\.onnx$/, ''), folder, options, rebatch: wanted.rebatch, customOps: registry.ops }, backend, { ...wanted, device });
  const ops = graph ? costByOp(graph) : countByOp(model.nodes.map((node) => (node.domain ? `${node.domain}.${node.opType}` : node.opType)));
  const weights = weightsOf(model);
  return {
    kind: 'model',
    name: model.name,
    file,
    producer: model.producer,
    opsets: Object.fromEntries([...model.opsets].map(([domain, version]) => [domain || 'ai.onnx', version])),
    inputs: model.inputs.map(ioRow),
    outputs: model.outputs.map(ioRow),
    nodes: model.nodes.length,
    parameters: weights.reduce((sum, tensor) => sum + tensor.dims.reduce((product, dim) => product * dim, 1), 0),
    weightBytes: weights.reduce((sum, tensor) => sum + tensorBytes(tensor), 0),
    ops,
    flops: graph && ops.reduce((sum, row) => sum + (row.flops ?? 0), 0),
    customOps: graph ? coverageOf(graph) : [],
    ...built,
  };
}

type Built = Pick<ModelInspection, 'options' | 'unsupported' | 'refusal' | 'engine'> & { readonly graph: Graph | undefined };

/** What the backend makes of the model; a model that it refuses can still be described. */
async function tryBuild(request: Parameters<typeof readBuildInput>[0], backend: Backend, wishes: BuildWishes): Promise<Built> {
  let graph: Graph | undefined;
  let { options } = request;
  try {
    const input = await readBuildInput(request);
    options = input.options;
    graph = input.graph.ok ? input.graph.graph : undefined;
    const unsupported = await backend.supports(input);
    const engine = unsupported.length === 0 ? await backend.build(input, { ...wishes, signal: undefined, onProgress: undefined }) : undefined;
    return { graph, options, unsupported, refusal: undefined, engine: engine?.header };
  } catch (error) {
    if (!(error instanceof TsrtError) || error.code !== 'MODEL_UNSUPPORTED') throw error;
    return { graph, options, unsupported: [], refusal: reportError(error), engine: undefined };
  }
}

/** Custom ops of the model, each once. */
function coverageOf(graph: Graph): OpCoverage[] {
  const definitions = graph.nodes.flatMap((node) => (node.op === 'Custom' && node.attrs.definition ? [node.attrs.definition] : []));
  return [...new Map(definitions.map((definition) => [definition.op, coverage(definition)])).values()];
}

type OnnxModel = ReturnType<typeof readModel>;

/** Initializers, and the Constant nodes that some exporters write instead. */
function weightsOf(model: OnnxModel): Tensor[] {
  const constants = model.nodes.filter((node) => node.opType === 'Constant').flatMap((node) => [...node.attributes.values()]);
  const values = [...model.initializers.values(), ...constants.flatMap((attribute) => (attribute.kind === 'tensor' ? [attribute.value] : []))];
  return values.flatMap((value) => (value.kind === 'tensor' ? [value.tensor] : []));
}

function ioRow({ name, type }: OnnxModel['inputs'][number]): IoRow {
  return type.kind === 'tensor' ? { name, dtype: type.dtypeName, dims: type.dims } : { name, dtype: type.what, dims: undefined };
}

/** Rows by op, the most expensive first. */
function costByOp(graph: Graph): OpRow[] {
  const rows = new Map<string, { count: number; flops: number; bytes: number }>();
  for (const node of graph.nodes) {
    const row = rows.get(node.op) ?? { count: 0, flops: 0, bytes: 0 };
    const { flops, bytes } = nodeCost(graph, node);
    rows.set(node.op, { count: row.count + 1, flops: row.flops + flops, bytes: row.bytes + bytes });
  }
  return [...rows].map(([op, row]) => ({ op, ...row })).sort((a, b) => b.flops - a.flops || b.bytes - a.bytes);
}

function countByOp(ops: readonly string[]): OpRow[] {
  const counts = new Map<string, number>();
  for (const op of ops) counts.set(op, (counts.get(op) ?? 0) + 1);
  return [...counts].map(([op, count]) => ({ op, count, flops: undefined, bytes: undefined })).sort((a, b) => b.count - a.count);
}
