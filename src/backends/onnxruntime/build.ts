/**
 * Builds onnxruntime engines: the optimized graph written back as ONNX, or the model's own bytes where the IR can't hold it.
 */
import { totalmem } from 'node:os';
import { liveLowerBound, type Lifetime } from '../../engine/memory.ts';
import type { Binding, Engine, EngineHeader, EngineLayer, MemoryLedger } from '../../engine/engine.ts';
import { TsrtError } from '../../errors.ts';
import { pluginWayOut } from '../compile.ts';
import { fullMask, isAttentionMask } from '../../ir/attention-mask.ts';
import { isFewBits } from '../../ir/few-bits.ts';
import { consumers, typeOf, type Graph } from '../../ir/graph.ts';
import { formatType, sameDims, tensorBytes } from '../../ir/tensor.ts';
import { exportDivided, type ExportedModel } from '../../onnx/export.ts';
import { nodeCost } from '../../ops/infer.ts';
import { unsignedActivations } from '../../passes/complete-qdq.ts';
import { droppedRounding } from '../../passes/device-types.ts';
import { withBytes } from '../../passes/input-bytes.ts';
import type { PassReport } from '../../passes/pass.ts';
import { runPasses } from '../../passes/pipeline.ts';
import { checkCalibration } from '../../quantize/calibration.ts';
import { isQuantized, quantizedProducts, stayedFloat } from '../../quantize/detect.ts';
import { quantizeGraph } from '../../quantize/quantize-graph.ts';
import { TOOL_VERSION } from '../../version.ts';
import { bindingOf } from '../binding.ts';
import { wantedPixels } from '../pixels.ts';
import type { BuildContext, BuildInput } from '../backend.ts';
import { evaluateConstants } from './evaluate.ts';
import { executedLayers, int8Proof } from './executed.ts';
import { externalFiles } from './external.ts';
import { inCarriers } from './few-bits.ts';
import { checkFits } from './fits.ts';
import { reasonOf, loadOrt, type OrtSession, type SessionOptions } from './library.ts';
import { optimizedNodes } from './optimized.ts';
import { buildSessionOptions, ortOptions, sessionOptions } from './options.ts';
import { EXTERNAL_PREFIX, externalData, MODEL_PART, modelParts } from './parts.ts';
import { fromOrt, isOrtDtype, refuseForeignOutputs, toOrt } from './tensors.ts';

/** What differs between an engine of ours and a model passed through. */
interface Content {
  readonly parts: ReadonlyMap<string, Uint8Array>;
  readonly inputs: readonly Binding[];
  readonly outputs: readonly Binding[];
  readonly memory: MemoryLedger;
  readonly passes: readonly PassReport[];
  readonly calibration?: EngineHeader['calibration'];
  readonly pixels?: EngineHeader['pixels'];
  readonly activations?: EngineHeader['activations'];
  readonly layers: readonly EngineLayer[];
  readonly notices: readonly string[];
}

/** Builds, and loads once to see that onnxruntime takes what was written. */
export async function buildOrtEngine(input: BuildInput, context: BuildContext): Promise<Engine> {
  const content = input.graph.ok && !staysPacked(input) ? await compiled(input, input.graph.graph, context) : await passedThrough(input, whyNot(input));
  checkFits([...content.inputs, ...content.outputs], totalmem());
  const header: EngineHeader = {
    formatVersion: 1,
    tool: { name: 'tsrt-bench', version: TOOL_VERSION },
    backend: 'onnxruntime',
    model: { name: input.model.name, sha256: input.model.sha256 },
    options: input.options,
    inputs: content.inputs,
    outputs: content.outputs,
    memory: content.memory,
    passes: content.passes,
    ...(content.calibration && { calibration: content.calibration }),
    ...(content.pixels && { pixels: content.pixels }),
    ...(content.activations && { activations: content.activations }),
    layers: content.layers,
    requires: {},
    notices: content.notices,
    backendData: null,
  };
  return { header, parts: content.parts };
}

async function compiled(input: BuildInput, imported: Graph, { signal, onProgress }: BuildContext): Promise<Content> {
  onProgress?.('passes', 0, 3);
  const { precision, fusion, disabledPasses } = input.options;
  const { graph, reports } = await runPasses(imported, {
    target: 'onnx',
    fusion,
    disabled: disabledPasses,
    fold: evaluateConstants,
    forInt8: (precision === 'int8' || precision === 'mixed') && !isQuantized(imported),
  });
  signal?.throwIfAborted();
  onProgress?.('export', 1, 3);
  const own = isQuantized(graph);
  const precise = own ? asKernelsWant(graph, input) : inPrecision(graph, input);
  const pixels = wantedPixels(input);
  const { graph: final, reports: bytesReports } = withBytes(precise, pixels);
  const exported = exportDivided(inCarriers(final));
  onProgress?.('check', 2, 3);
  const refusal = await loadError(exported, input);
  if (refusal !== undefined) {
    if (final !== graph) throw new Error(`onnxruntime does not take the graph that was changed for it: ${refusal}`);
    return passedThrough(input, `onnxruntime does not take the compiled graph (${refusal})`);
  }
  const bind = (name: string): Binding => bindingOf(final, name);
  const [inputs, outputs] = [final.inputs.map(bind), final.outputs.map(bind)];
  const proven = own || precise !== graph ? await provenLayers(final, exported, input, own) : { layers: final.nodes.map((node) => layerOf(final, node)), notices: [] };
  return {
    parts: modelParts(exported),
    inputs,
    outputs,
    memory: ledger(final, inputs, outputs),
    passes: [...reports, ...bytesReports],
    ...(pixels.length > 0 && { pixels }),
    ...(precise !== graph && !own && input.calibration && { calibration: input.calibration.stamp }),
    ...proven,
    notices: [...proven.notices, ...droppedRounding(imported, reports)],
  };
}

/** A model's own Q/DQ, for the provider that runs it: TensorRT wants signed activations, processors unsigned ones. */
function asKernelsWant(graph: Graph, { options }: BuildInput): Graph {
  return ortOptions(options).provider === 'cpu' ? unsignedActivations(graph) : graph;
}

/** The graph with Q/DQ where the build asks for int8. Throws TsrtError CALIBRATION_INVALID for a calibration of something else. */
function inPrecision(graph: Graph, { options, calibration, model }: BuildInput): Graph {
  const { precision, fusion, disabledPasses } = options;
  if (precision !== 'int8' && precision !== 'mixed') return graph;
  if (!calibration) throw new Error('build was called for a precision that supports() refuses');
  checkCalibration(calibration.cache, { model, fusion, disabledPasses });
  return quantizeGraph(graph, calibration.cache, precision).graph;
}

/**
 * Layers as onnxruntime executes them, and what to say of their precision. A model's own scales may ask for what onnxruntime has no integer
 * kernel for: that is named. What we chose must run as chosen.
 */
async function provenLayers(graph: Graph, exported: ExportedModel, { options }: BuildInput, own: boolean): Promise<Pick<Content, 'layers' | 'notices'>> {
  const layers = executedLayers(graph, await optimizedNodes(exported, sessionOptions(options)));
  const products = quantizedProducts(graph);
  const { share, float } = int8Proof(layers, products);
  if (float.length > 0 && options.precision !== 'fp32' && (!own || float.length === products.size)) {
    throw new TsrtError('MODEL_UNSUPPORTED', `onnxruntime runs ${float.length} nodes in fp32 that were to run in int8`, {
      details: float.slice(0, 5),
      fix: own ? 'run the model in fp32, or quantize its float original with tsrt-bench calibrate' : 'Keep these in fp32 with precision mixed.',
    });
  }
  if (own && share === 0 && options.precision !== 'fp32') {
    throw new TsrtError('MODEL_UNSUPPORTED', 'nothing of the model runs in int8: no product reads both quantized data and quantized weights', { fix: 'run the model in fp32, or quantize its float original with tsrt-bench calibrate' });
  }
  const percent = (100 * share).toFixed(1);
  const notice = options.precision === 'fp32' ? 'The model comes with scales of its own and runs in int8' : `In ${options.precision}`;
  const proven = `${notice}: ${percent} % of the operations run in 8-bit integers, as onnxruntime's optimized graph shows.`;
  return { layers, notices: [proven, ...stayedFloat(float, products.size, 'float32')] };
}

/** The model's own bytes as the engine. `why` becomes a notice: nothing is passed through silently. */
async function passedThrough(input: BuildInput, why: string): Promise<Content> {
  const { model } = input;
  if (!model.inputs) throw new Error('build was called for a model that supports() refuses');
  checkOwnBindings([...model.inputs, ...(model.outputs ?? [])], why);
  const files = externalFiles(model.bytes, model.folder);
  const session = await openOrRefuse(model.bytes, { ...buildSessionOptions(input.options), externalData: files }, model.name);
  try {
    checkFixedDims(session, model.inputs);
    const outputs = await outputBindings(session, model.inputs, model.outputs ?? []);
    const weightBytes = model.bytes.byteLength + files.reduce((sum, file) => sum + file.data.byteLength, 0);
    return {
      parts: new Map([[MODEL_PART, model.bytes], ...files.map((file) => [EXTERNAL_PREFIX + file.path, file.data] as const)]),
      inputs: model.inputs,
      outputs,
      memory: { weightBytes, activationBytes: 0, workspaceBytes: 0, stagingBytes: sumBytes([...model.inputs, ...outputs]) },
      passes: [],
      layers: [],
      ...(model.allowsInt8 && { activations: 'int8' as const }),
      notices: [
        `The model runs unchanged, without our passes: ${why}. Its activations are not in the memory ledger.`,
        ...(model.allowsInt8 ? ['Its products with weights of few bits may quantize what they read to int8 (accuracy_level 4), and its answers have the bounds of int8. The fp32 reference computes them in floats.'] : []),
      ],
    };
  } finally {
    await session.release();
  }
}

/** A few bits' numbers lie in a wider type only in a graph of ours. Throws TsrtError MODEL_UNSUPPORTED. */
function checkOwnBindings(bindings: readonly Binding[], why: string): void {
  const foreign = bindings.find(({ dtype }) => isFewBits(dtype));
  if (!foreign) return;
  throw new TsrtError('MODEL_UNSUPPORTED', `onnxruntime-node has no ${foreign.dtype} tensors, such as '${foreign.name}', and the model would have to run unchanged`, {
    details: [why],
    fix: 'export the model without what is named, or with casts of its own at its inputs and outputs',
  });
}

/** What a session gives: as declared, unless a trial shows otherwise; what is not declared, as seen on the trial. */
export async function outputBindings(session: OrtSession, inputs: readonly Binding[], declared: readonly Binding[]): Promise<readonly Binding[]> {
  const ort = await loadOrt();
  refuseForeignOutputs(session);
  const feeds = Object.fromEntries(inputs.map((binding) => [binding.name, toOrt(ort, isAttentionMask(binding) ? fullMask(binding) : zeros(binding))]));
  // Zeros may be no valid input; then shapes that depend on data stay unknown.
  const trial = await session.run(feeds).catch(() => undefined);
  return session.outputNames.map((name): Binding => {
    const known = declared.find((binding) => binding.name === name);
    const seen = trial?.[name];
    if (known && (!seen || sameDims(known.dims, seen.dims))) return known;
    return seen ? { ...typeOnly(fromOrt(seen)), name, dynamic: true } : { name, ...declaredType(session, name), dynamic: true };
  });
}

/** onnxruntime has kernels for weights of few bits: as floats they would take many times the memory, and the time would be of another model. */
function staysPacked(input: BuildInput): boolean {
  return input.model.hasFewBits === true && input.options.precision === 'fp32' && wantedPixels(input).length === 0;
}

function whyNot({ graph }: BuildInput): string {
  if (graph.ok) return 'its weights of few bits stay packed';
  const reasons = graph.unsupported.map(({ node, op, reason }) => `${op} '${node}': ${reason}`);
  const more = reasons.length > 3 ? ` and ${reasons.length - 3} more` : '';
  return reasons.slice(0, 3).join('; ') + more;
}

/** What onnxruntime says against a model, or undefined where it loads. */
async function loadError({ bytes, files }: ExportedModel, input: BuildInput): Promise<string | undefined> {
  const ort = await loadOrt();
  try {
    const session = await ort.InferenceSession.create(bytes, { ...buildSessionOptions(input.options), externalData: externalData(files) });
    await session.release();
    return undefined;
  } catch (error) {
    return reasonOf(error);
  }
}

async function openOrRefuse(bytes: Uint8Array, options: SessionOptions, name: string): Promise<OrtSession> {
  const ort = await loadOrt();
  try {
    return await ort.InferenceSession.create(bytes, options);
  } catch (cause) {
    throw new TsrtError('MODEL_UNSUPPORTED', `onnxruntime can't load ${name}`, {
      details: [reasonOf(cause)],
      fix: wayOut(reasonOf(cause)),
      cause,
    });
  }
}

/** An op that onnxruntime does not know is a plugin's business. */
function wayOut(reason: string): string {
  const [, op] = reason.match(/\b([\w.]+(?::\w+)?)\(-?\d+\) is not a registered function\/op/) ?? [];
  if (op === undefined) return 'export the model for an older opset, or with other types';
  return pluginWayOut(op.replace(':', '.'));
}

/** The model's own bytes can't be given another size than they fix. */
function checkFixedDims(session: OrtSession, inputs: readonly Binding[]): void {
  const details = session.inputMetadata.flatMap((declared) => {
    const binding = inputs.find(({ name }) => name === declared.name);
    if (!binding || !declared.isTensor) return [];
    const fits = declared.shape.every((dim, axis) => typeof dim !== 'number' || dim === binding.dims[axis]);
    return fits ? [] : [`${binding.name}: the model has ${declared.type}[${declared.shape.join(',')}], asked for ${formatType(binding)}`];
  });
  if (details.length === 0) return;
  throw new TsrtError('MODEL_UNSUPPORTED', 'the model runs unchanged, so its fixed sizes can not be replaced', {
    details,
    fix: 'ask for the sizes that it has, or export it with dynamic axes',
  });
}

function declaredType(session: OrtSession, name: string): Pick<Binding, 'dtype' | 'dims'> {
  const metadata = session.outputMetadata.find((output) => output.name === name);
  if (!metadata?.isTensor || !isOrtDtype(metadata.type)) {
    throw new TsrtError('MODEL_UNSUPPORTED', `the output '${name}' is not a tensor of numbers`, {
      fix: 'export the model with tensors of numbers as outputs',
    });
  }
  return { dtype: metadata.type as Binding['dtype'], dims: [] };
}

function typeOnly({ dtype, dims }: Pick<Binding, 'dtype' | 'dims'>): Pick<Binding, 'dtype' | 'dims'> {
  return { dtype, dims };
}

function zeros(binding: Binding) {
  return { dtype: binding.dtype, dims: binding.dims, data: new Uint8Array(tensorBytes(binding)) };
}

/** One node as onnxruntime gets it. */
export function layerOf(graph: Graph, node: Graph['nodes'][number]): EngineLayer {
  const operand = node.inputs.find(Boolean) ?? node.outputs.find(Boolean)!;
  const { flops, bytes } = nodeCost(graph, node);
  return { name: node.name, kind: node.op, precision: typeOf(graph, operand).dtype, origins: node.origins, flops, bytes };
}

/** Weights are the constants; activations the most that is alive at once, which onnxruntime's own planner can't beat. */
export function ledger(graph: Graph, inputs: readonly Binding[], outputs: readonly Binding[]): MemoryLedger {
  let weightBytes = 0;
  for (const tensor of graph.constants.values()) weightBytes += tensor.data.byteLength;
  return {
    weightBytes,
    activationBytes: liveLowerBound(lifetimes(graph)),
    workspaceBytes: 0,
    stagingBytes: sumBytes([...inputs, ...outputs]),
  };
}

/** Q/DQ around an integer kernel is no memory: the integers live until the last reader of their dequantized form. */
function lifetimes(graph: Graph): Lifetime[] {
  const readers = consumers(graph);
  const unreal = (id: string, producer: Graph['nodes'][number]): boolean => {
    if (graph.outputs.includes(id)) return false;
    return producer.op === 'DequantizeLinear' || (readers.get(id) ?? []).every(({ op }) => op === 'QuantizeLinear');
  };
  const last = new Map<string, number>();
  graph.nodes.forEach((node, step) => node.inputs.forEach((id) => last.set(id, step)));
  for (const id of graph.outputs) last.set(id, graph.nodes.length);
  for (const { op, inputs, outputs } of graph.nodes) {
    if (op === 'DequantizeLinear') last.set(inputs[0]!, Math.max(last.get(inputs[0]!) ?? 0, last.get(outputs[0]!) ?? 0));
  }
  return graph.nodes.flatMap((node, step) =>
    node.outputs
      .filter((id) => id && !(readers.has(id) && unreal(id, node)))
      .map((id): Lifetime => ({ bytes: tensorBytes(typeOf(graph, id)), first: step, last: last.get(id) ?? step })),
  );
}

function sumBytes(bindings: readonly Binding[]): number {
  return bindings.reduce((sum, binding) => sum + tensorBytes(binding), 0);
}
