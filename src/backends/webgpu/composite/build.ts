/**
 * Builds composite engines: what has kernels as WebGPU segments, the rest as ONNX files for onnxruntime.
 *
 * The graph is partitioned as ONNX, before anything is fused: fused nodes have no form that onnxruntime reads, and no fusion
 * crosses a border anyway. Each WebGPU segment then gets its Q/DQ, if it is to run in integers, and goes through the WebGPU passes by
 * itself: what it reads and gives keeps the model's types, so that a value is dequantized once, by who made it. Where the passes leave a fused
 * node without a kernel, its nodes go to onnxruntime too and the partition is made again, with fewer nodes each time.
 */
import { COMPOSITE_VERSION, type CompositePlan, type CompositeSegment, type Runner, segmentPrefix } from '../../../engine/composite.ts';
import type { Binding, EngineLayer, MemoryLedger, TacticChoice } from '../../../engine/engine.ts';
import { TsrtError } from '../../../errors.ts';
import { type AnyNode, type Graph, typeOf, type ValueId } from '../../../ir/graph.ts';
import { partition, segmentGraphs } from '../../../ir/partition.ts';
import type { PixelInput } from '../../../ir/pixels.ts';
import type { DType } from '../../../ir/tensor.ts';
import { exportDivided, type ExportedModel } from '../../../onnx/export.ts';
import { withoutBfloat16 } from '../../../passes/device-types.ts';
import { withBytes } from '../../../passes/input-bytes.ts';
import type { PassReport } from '../../../passes/pass.ts';
import { type PipelineOptions, runPasses } from '../../../passes/pipeline.ts';
import type { Unsupported } from '../../backend.ts';
import { bindingOf } from '../../binding.ts';
import { unsupportedError } from '../../compile.ts';
import { layerOf, ledger } from '../../onnxruntime/build.ts';
import { wantsWindows, windowsReport } from '../build.ts';
import { inCarriers } from '../../onnxruntime/few-bits.ts';
import { loadOrt, reasonOf, SILENT } from '../../onnxruntime/library.ts';
import { externalData, modelParts } from '../../onnxruntime/parts.ts';
import { isBoundDtype, isOrtDtype } from '../../onnxruntime/tensors.ts';
import { unsupportedNodes } from '../lower/lower.ts';
import { gridsBeyondHalf, type InPrecision } from '../precision.ts';
import type { Planned } from '../tune/planner.ts';
import { copyLayer, copiesOf, describeFallback } from './copies.ts';
import { buildTail, type BuiltTail, type CompositeTail, describeTail } from './tail.ts';

export interface CompositeRequest {
  /** With no node that ONNX does not have. */
  readonly graph: Graph;
  /** Of the passes that made it. */
  readonly reports: readonly PassReport[];
  readonly modelName: string;
  readonly passes: Omit<PipelineOptions, 'target'>;
  /** A segment in the precision that was asked for. */
  readonly inPrecision: (segment: Graph) => InPrecision;
  /** Inputs of the graph that the engine takes as bytes. */
  readonly pixels: readonly PixelInput[];
  /** Lowers a segment that has kernels for all of its nodes; `wide`: its values that no half holds. */
  readonly plan: (graph: Graph, wide: ReadonlySet<ValueId>) => Promise<Planned>;
  readonly workspaceBytes: number | undefined;
  /** What follows the graph in the model, and is none. */
  readonly tail?: CompositeTail | undefined;
}

export interface BuiltComposite {
  readonly plan: CompositePlan;
  readonly parts: ReadonlyMap<string, Uint8Array>;
  readonly layers: readonly EngineLayer[];
  readonly choices: readonly TacticChoice[];
  readonly memory: MemoryLedger;
  readonly inputs: readonly Binding[];
  readonly outputs: readonly Binding[];
  readonly passes: readonly PassReport[];
  readonly notices: readonly string[];
  /** Of the segments on WebGPU. */
  readonly wanted: readonly InPrecision[];
  /** Nodes that run in onnxruntime, by name; those of the tail are not among them. */
  readonly elsewhere: readonly string[];
}

/** One segment on its way: a graph to export, or one that has been lowered. */
type Piece =
  | { readonly runner: 'webgpu'; readonly graph: Graph; readonly wanted: InPrecision; readonly built: Planned }
  | { readonly runner: 'onnxruntime'; readonly graph: Graph };

/**
 * Throws TsrtError MODEL_UNSUPPORTED where onnxruntime does not take a segment either, OUT_OF_MEMORY where the workspace of all
 * segments together exceeds its bound.
 */
export async function buildComposite(request: CompositeRequest): Promise<BuiltComposite> {
  const { graph, reports, pixels } = request;
  const { pieces, reasons, segmentReports } = await buildPieces(request);
  const parts = new Map<string, Uint8Array>();
  for (const [index, piece] of pieces.entries()) {
    const prefix = segmentPrefix(index);
    const own = piece.runner === 'webgpu' ? piece.built.weights : modelParts(await exportChecked(piece.graph, request.modelName, reasons));
    for (const [name, part] of own) parts.set(prefix + name, part);
  }
  const bound = withBytes(graph, pixels).graph;
  const bind = (name: string): Binding => bindingOf(bound, name);
  const { tail } = request;
  if (tail) refuseForeign(isOrtDtype, tail.inputs, graph, request.modelName, tail.reasons);
  const end = tail && (await buildTail(tail, pieces.length, tail.inputs.map(bind), request.modelName));
  for (const [name, part] of end?.parts ?? []) parts.set(name, part);
  const { segments, layers } = describeSegments(pieces, end);
  const memory = totalMemory(segments.map((segment) => segment.memory));
  checkWorkspace(memory, request.workspaceBytes);
  const made = end?.segment.outputs ?? [];
  return {
    plan: { composite: COMPOSITE_VERSION, segments },
    parts,
    layers,
    choices: pieces.flatMap((piece) => (piece.runner === 'webgpu' ? piece.built.choices : [])),
    wanted: pieces.flatMap((piece) => (piece.runner === 'webgpu' ? [piece.wanted] : [])),
    elsewhere: pieces.flatMap((piece) => (piece.runner === 'onnxruntime' ? piece.graph.nodes.map(({ name }) => name) : [])),
    memory,
    inputs: graph.inputs.map(bind),
    outputs: (tail?.outputs ?? graph.outputs).map((name) => made.find((binding) => binding.name === name) ?? bind(name)),
    passes: [...reports, ...segmentReports],
    notices: [
      ...describeFallback({ nodes: graph.nodes.length, reasons: [...reasons.values()], segments: segments.slice(0, pieces.length) }),
      ...(tail && end ? [describeTail(tail, end.segment.inputs)] : []),
    ],
  };
}

interface Pieces {
  readonly pieces: readonly Piece[];
  /** Why a node runs in onnxruntime, by its name. */
  readonly reasons: ReadonlyMap<string, Unsupported>;
  readonly segmentReports: readonly PassReport[];
}

async function buildPieces({ graph, modelName, passes, inPrecision, pixels, plan }: CompositeRequest): Promise<Pieces> {
  // Outputs are no obstacle here: one that is a constant comes from onnxruntime.
  const found = [...unsupportedNodes(withoutBfloat16(graph)).filter(({ op }) => op !== 'binding'), ...wideNodes(graph)];
  const reasons = new Map(found.map((entry) => [entry.node, entry] as const));
  for (;;) {
    const runnerOf = (node: AnyNode): Runner => (reasons.has(node.name) ? 'onnxruntime' : 'webgpu');
    const cut = partition(graph, runnerOf);
    const graphs = withConstantOutputs(graph, segmentGraphs(graph, cut), cut.map(({ kind }) => kind));
    const pieces: Piece[] = [];
    const segmentReports: PassReport[][] = [];
    const before = reasons.size;
    for (const [index, { kind, nodes }] of cut.entries()) {
      const part = graphs[index]!;
      const asBytes = (segment: Graph): Graph => withBytes(segment, pixels.filter(({ input }) => part.inputs.includes(input))).graph;
      if (kind === 'onnxruntime') {
        pieces.push({ runner: kind, graph: asBytes(part) });
        continue;
      }
      const wanted = inPrecision(part);
      const wide = new Set([...(passes.wide ?? []), ...gridsBeyondHalf(wanted.graph)]);
      const result = await runPasses(asBytes(wanted.graph), { ...passes, wide, target: 'webgpu' });
      for (const entry of unsupportedNodes(result.graph)) {
        const moved = originsOf(entry, result.graph, nodes);
        // A quantization, which no node of the model asked for.
        if (moved.length === 0) throw unsupportedError(modelName, 'webgpu', [entry], false);
        for (const { name, op } of moved) reasons.set(name, { ...entry, node: name, op });
      }
      if (reasons.size > before) continue;
      const built = await plan(result.graph, wide);
      segmentReports.push([...result.reports, ...(wantsWindows(passes) ? [windowsReport(built.inPlace, result.graph)] : [])]);
      pieces.push({ runner: kind, graph: result.graph, wanted, built });
    }
    if (reasons.size === before) return { pieces, reasons, segmentReports: sumReports(segmentReports) };
  }
}

/** Nodes on numbers that the device would round, casts too: onnxruntime holds them as they are. */
function wideNodes({ nodes, types }: Graph): Unsupported[] {
  return nodes.flatMap(({ name, op, inputs, outputs }) => {
    const id = [...inputs, ...outputs].find((value) => WIDE_TYPES.has(types.get(value)?.dtype));
    return id === undefined ? [] : [{ node: name, op, reason: `no device type holds ${types.get(id)!.dtype} (value ${id})` }];
  });
}

const WIDE_TYPES: ReadonlySet<DType | undefined> = new Set<DType>(['float64', 'uint64']);

/** The nodes of a segment that a fused one without a kernel came from. */
function originsOf(entry: Unsupported, fused: Graph, nodes: readonly AnyNode[]): readonly AnyNode[] {
  const origins = new Set(fused.nodes.find(({ name }) => name === entry.node)?.origins);
  return nodes.filter(({ name, origins: own }) => name === entry.node || own.some((origin) => origins.has(origin)));
}

/** An output that is a constant comes from a segment like any other: from onnxruntime, which has every type. */
function withConstantOutputs(graph: Graph, graphs: readonly Graph[], kinds: readonly Runner[]): readonly Graph[] {
  const constants = graph.outputs.filter((id) => graph.constants.has(id));
  const giver = Math.max(0, kinds.indexOf('onnxruntime'));
  return graphs.map((part, index) => {
    if (index !== giver || constants.length === 0) return part;
    const add = <V>(from: ReadonlyMap<string, V>, to: ReadonlyMap<string, V>) => new Map([...to, ...constants.map((id) => [id, from.get(id)!] as const)]);
    return { ...part, outputs: [...part.outputs, ...constants], types: add(graph.types, part.types), constants: add(graph.constants, part.constants) };
  });
}

/** The segment as an ONNX file that onnxruntime has been seen to load. */
async function exportChecked(graph: Graph, model: string, reasons: ReadonlyMap<string, Unsupported>): Promise<ExportedModel> {
  refuseForeign(isBoundDtype, [...graph.inputs, ...graph.outputs], graph, model, graph.nodes.flatMap(({ name }) => reasons.get(name) ?? []));
  const exported = exportDivided(inCarriers(graph));
  const ort = await loadOrt();
  try {
    await (await ort.InferenceSession.create(exported.bytes, { ...SILENT, graphOptimizationLevel: 'disabled', intraOpNumThreads: 1, externalData: externalData(exported.files) })).release();
    return exported;
  } catch (error) {
    const here = graph.nodes.flatMap(({ name }) => reasons.get(name) ?? []);
    const why = reasonOf(error);
    throw unsupportedError(model, 'webgpu', here.map((entry) => ({ ...entry, reason: `${entry.reason}; nor does onnxruntime take it: ${why}` })), false);
  }
}

/** Throws TsrtError MODEL_UNSUPPORTED where onnxruntime, which is to run something for these reasons, would bind a type that it lacks. */
function refuseForeign(binds: (dtype: DType) => boolean, ids: readonly ValueId[], graph: Graph, model: string, reasons: readonly Unsupported[]): void {
  const foreign = ids.find((id) => !binds(typeOf(graph, id).dtype));
  if (foreign === undefined) return;
  const why = `onnxruntime-node has no ${typeOf(graph, foreign).dtype} tensors, and would bind '${foreign}'`;
  throw unsupportedError(model, 'webgpu', reasons.map((entry) => ({ ...entry, reason: `${entry.reason}; ${why}` })), false);
}

function describeSegments(pieces: readonly Piece[], end: BuiltTail | undefined): { readonly segments: readonly CompositeSegment[]; readonly layers: readonly EngineLayer[] } {
  const layers: EngineLayer[] = [];
  const segments: CompositeSegment[] = [];
  const taken = new Set<string>();
  const copies = copiesOf([...pieces.map(({ runner, graph }) => bindingsOf(runner, graph)), ...(end ? [end.segment] : [])]);
  for (const [index, piece] of pieces.entries()) {
    const bindings = bindingsOf(piece.runner, piece.graph);
    const { uploads, downloads } = copies[index]!;
    if (uploads.length > 0) layers.push(copyLayer(`host to segment ${index}`, uploads));
    const own = layersOf(piece).map((layer) => ({ ...layer, name: uniqueName(layer.name, index, taken) }));
    const memory = piece.runner === 'webgpu' ? piece.built.memory : ledger(piece.graph, bindings.inputs, bindings.outputs);
    segments.push({ ...bindings, memory, firstLayer: layers.length, layerCount: own.length, data: piece.runner === 'webgpu' ? piece.built.plan : null });
    layers.push(...own);
    if (downloads.length > 0) layers.push(copyLayer(`segment ${index} to host`, downloads));
  }
  if (end) {
    const own = end.layers.map((layer) => ({ ...layer, name: uniqueName(layer.name, pieces.length, taken) }));
    segments.push({ ...end.segment, firstLayer: layers.length, layerCount: own.length });
    layers.push(...own);
  }
  return { segments, layers };
}

function bindingsOf(runner: Runner, graph: Graph): Pick<CompositeSegment, 'runner' | 'inputs' | 'outputs'> {
  const bind = (name: string): Binding => bindingOf(graph, name);
  return { runner, inputs: graph.inputs.map(bind), outputs: graph.outputs.map(bind) };
}

function layersOf(piece: Piece): readonly EngineLayer[] {
  if (piece.runner === 'webgpu') return piece.built.layers;
  return piece.graph.nodes.map((node) => {
    const kind = node.op === 'Custom' ? [node.attrs.domain, node.attrs.opType].filter(Boolean).join('.') : node.op;
    return { ...layerOf(piece.graph, node), kind: `onnxruntime ${kind}` };
  });
}

/** Profiles join on layer names; two segments may have given one name each to a node of their own. */
function uniqueName(name: string, segment: number, taken: Set<string>): string {
  const unique = taken.has(name) ? `${name} (segment ${segment})` : name;
  taken.add(unique);
  return unique;
}

/** The same pass over several segments as one row. */
function sumReports(reports: readonly (readonly PassReport[])[]): readonly PassReport[] {
  const [first = [], ...others] = reports;
  return first.map((report, index) => {
    const all = [report, ...others.map((list) => list[index]!)];
    const rewrites: Record<string, number> = {};
    for (const [rule, count] of all.flatMap((one) => Object.entries(one.rewrites))) rewrites[rule] = (rewrites[rule] ?? 0) + count;
    const sum = (key: 'nodesBefore' | 'nodesAfter'): number => all.reduce((total, one) => total + one[key], 0);
    return { pass: `${report.pass} (segments)`, nodesBefore: sum('nodesBefore'), nodesAfter: sum('nodesAfter'), rewrites };
  });
}

/** All segments are loaded at once. */
function totalMemory(ledgers: readonly MemoryLedger[]): MemoryLedger {
  const sum = (key: keyof MemoryLedger): number => ledgers.reduce((total, one) => total + one[key], 0);
  return { weightBytes: sum('weightBytes'), activationBytes: sum('activationBytes'), workspaceBytes: sum('workspaceBytes'), stagingBytes: sum('stagingBytes') };
}

function checkWorkspace({ workspaceBytes: needed }: MemoryLedger, allowed: number | undefined): void {
  if (allowed === undefined || needed <= allowed) return;
  throw new TsrtError('OUT_OF_MEMORY', `the build needs ${needed} bytes of workspace in all its segments, but --workspace allows ${allowed}`, {
    fix: `give it --workspace ${needed}, or a smaller batch`,
  });
}
