/**
 * Precision on the webgpu backend: what can be asked for, the graph in that precision, and the proof of what was built.
 *
 * fp16 is a matter of storage and operands (lower/): no graph changes. int8 is Q/DQ in the graph, by a calibration or by the model itself,
 * which the passes turn into products of integers; everything else of such a build is stored as f16.
 */
import type { EngineLayer, Precision } from '../../engine/engine.ts';
import { TsrtError } from '../../errors.ts';
import type { AnyNode, Graph, ValueId } from '../../ir/graph.ts';
import { type PipelineOptions, runPasses } from '../../passes/pipeline.ts';
import type { Calibration } from '../../quantize/calibration.ts';
import { checkCalibration } from '../../quantize/calibration.ts';
import { isQuantized, quantizedProducts, stayedFloat } from '../../quantize/detect.ts';
import { quantizeGraph } from '../../quantize/quantize-graph.ts';
import { HALF_MAX, typedView } from '../../ir/tensor.ts';
import { hasIntegerKernel } from '../../passes/integer-products.ts';
import type { BuildInput, Unsupported } from '../backend.ts';

/** Why the backend can't give the precision asked for; undefined where it can. */
export function precisionProblem({ options, graph, calibration }: BuildInput): string | undefined {
  const { precision } = options;
  if (precision === 'fp32' || precision === 'fp16') return undefined;
  if (!graph.ok) return `the model can't be quantized: ${graph.unsupported[0]?.op}: ${graph.unsupported[0]?.reason}`;
  if (isQuantized(graph.graph)) return precision === 'int8' ? undefined : 'the model comes with scales of its own, so that what runs in int8 is fixed';
  return calibration ? undefined : `${precision} needs a calibration: make one with tsrt-bench calibrate, and give it with --calibration`;
}

/**
 * Why nodes that fall back to onnxruntime leave no integers; undefined where none does: a fallback that is allowed changes nothing of such a model.
 * Halves are no matter: parts have the model's own types at their borders, as an engine has.
 */
export function fallbackProblem(precision: Precision, [first, ...others]: readonly Unsupported[]): string | undefined {
  if (precision === 'fp32' || precision === 'fp16' || first === undefined) return undefined;
  const more = others.length === 0 ? '' : ` and ${others.length} more`;
  return `a model of which onnxruntime runs a part is built in fp32 and fp16 only, not ${precision}, as its quantized values do not pass between the parts; that part is for ${first.op} '${first.node}'${more}: ${first.reason}`;
}

export interface InPrecision {
  readonly graph: Graph;
  /** Nodes of that graph that are to run in integers. */
  readonly products: readonly AnyNode[];
  /** Whether the model came with its scales. */
  readonly own: boolean;
  /** Products that a calibration could quantize and for which there is no integer kernel, by name. */
  readonly without: readonly string[];
}

/** The imported graph with Q/DQ where the build asks for int8. Throws TsrtError CALIBRATION_INVALID for a calibration of something else. */
export async function inPrecision(imported: Graph, { options, calibration, model }: BuildInput, passes: Omit<PipelineOptions, 'target'>): Promise<InPrecision> {
  const { precision, fusion, disabledPasses } = options;
  if (isQuantized(imported)) {
    const { graph, products } = marked(imported);
    // Their kernels multiply element by element in 32 bits: right, and not what int8 is asked for.
    const dynamic = precision === 'int8' ? graph.nodes.filter(({ op }) => op === 'ConvInteger' || op === 'MatMulInteger') : [];
    return { graph, products: [...products, ...dynamic], own: true, without: [] };
  }
  // Ranges of something else would keep the wrong values in f32.
  if (precision === 'fp16' && calibration) checkCalibration(calibration.cache, { model, fusion, disabledPasses });
  if ((precision !== 'int8' && precision !== 'mixed') || !calibration) return { graph: imported, products: [], own: false, without: [] };
  checkCalibration(calibration.cache, { model, fusion, disabledPasses });
  // A calibration names the values of the graph as it is written to ONNX.
  const { graph } = await runPasses(imported, { ...passes, target: 'onnx' });
  const kernelless = graph.nodes.filter((node) => !hasIntegerKernel(node, graph));
  const quantized = quantizeGraph(graph, calibration.cache, precision, { without: new Set(kernelless.map(({ name }) => name)), joinSums: true });
  return { ...marked(quantized.graph), own: false, without: kernelless.map(({ name }) => name) };
}

function marked(graph: Graph): Pick<InPrecision, 'graph' | 'products'> {
  const names = quantizedProducts(graph);
  return { graph, products: graph.nodes.filter(({ name }) => names.has(name)) };
}

/**
 * Checks that the products that were to run in integers do, and says what runs in them and what does not: undefined where no integers were asked
 * for. A model's own scales may ask for what there is no kernel for, which is named; what we chose must run as chosen. Throws TsrtError
 * MODEL_UNSUPPORTED.
 */
export function provePrecision(layers: readonly EngineLayer[], { products, own, without }: InPrecision, precision: string): readonly string[] {
  const isAsked = precision === 'int8' || precision === 'mixed';
  if (products.length === 0) {
    if (own && isAsked) throw new TsrtError('MODEL_UNSUPPORTED', 'nothing of the model can run in int8: no product reads both quantized data and quantized weights', { fix: 'run the model in fp16, or quantize its float original with tsrt-bench calibrate' });
    return [];
  }
  const integer = layers.filter((layer) => layer.precision === 'int8' || layer.precision === 'uint8');
  const covered = new Set(integer.filter(({ kind }) => INTEGER_PRODUCTS.has(kind)).flatMap(({ origins }) => origins));
  const float = products.filter(({ origins }) => !origins.every((origin) => covered.has(origin)));
  if (isAsked && float.length > 0 && (!own || float.length === products.length)) {
    throw new TsrtError('MODEL_UNSUPPORTED', `the webgpu backend has no integer kernel for ${float.length} nodes that were to run in int8`, {
      details: float.slice(0, 5).map(({ op, name }) => `${op} '${name}'`),
      fix: own ? 'run the model in fp16, or use --backend onnxruntime' : 'keep these in higher precision with precision mixed, or use --backend onnxruntime',
    });
  }
  const sum = (some: readonly EngineLayer[]): number => some.reduce((total, { flops }) => total + flops, 0);
  const percent = ((100 * sum(integer)) / Math.max(1, sum(layers))).toFixed(1);
  const names = [...float.map(({ name }) => name), ...without];
  return [`${percent} % of the operations run in 8-bit integers.`, ...stayedFloat(names, products.length + without.length, precision === 'fp32' ? 'float32' : 'float16')];
}

/** Kinds of layers whose kernels multiply 8-bit integers. */
const INTEGER_PRODUCTS: ReadonlySet<string> = new Set(['ConvInteger', 'MatMulInteger', 'QLinearConv', 'QLinearMatMul', 'QuantizedConv', 'QuantizedMatMul', 'QuantizedShortcut']);

/**
 * What a user should know of an engine that stores halves: the values that stay f32, by name, or the bound that was taken for granted;
 * and constants that no half holds.
 */
export function halfNotices(graph: Graph, calibration: Calibration | undefined): readonly string[] {
  const kept = [...beyondHalf(calibration)].filter((id) => graph.types.has(id) && !graph.constants.has(id));
  const ranges = calibration
    ? kept.length === 0 ? [] : [`${named(kept)} ${kept.length === 1 ? 'reaches' : 'reach'} beyond ±${HALF_MAX} in the calibration and stay${kept.length === 1 ? 's' : ''} f32.`]
    : [`Without a calibration every value is taken to lie within ±${HALF_MAX}; what does not becomes that bound.`];
  const outside = [...graph.constants].filter(([, tensor]) => tensor.dtype === 'float32' && (typedView(tensor) as Float32Array).some((value) => Math.abs(value) > HALF_MAX));
  return [...ranges, ...(outside.length === 0 ? [] : [`Of ${named(outside.map(([id]) => id))} some values are beyond ±${HALF_MAX} and become that bound where they are stored as halves.`])];
}

function named(ids: readonly string[]): string {
  const first = ids.slice(0, 5).map((id) => `'${id}'`).join(', ');
  return ids.length > 5 ? `${first} and ${ids.length - 5} more` : first;
}

/** Values of a calibrated graph whose range is beyond binary16: they stay f32 in builds that store halves. */
export function beyondHalf(calibration: Calibration | undefined): ReadonlySet<ValueId> {
  const found = new Set<ValueId>(calibration?.beyondHalf);
  for (const [id, { seen }] of Object.entries(calibration?.tensors ?? {})) if (Math.max(-seen.low, seen.high) > HALF_MAX) found.add(id);
  return found;
}

/** Values before and behind grids that reach beyond binary16: Q/DQ gives them names of their own, which no calibration has. */
export function gridsBeyondHalf({ nodes, constants }: Graph): ReadonlySet<ValueId> {
  const found = new Set<ValueId>();
  for (const { op, inputs, outputs } of nodes) {
    if (op !== 'QuantizeLinear' && op !== 'DequantizeLinear') continue;
    const scale = constants.get(inputs[1]!);
    const type = constants.get(inputs[2] ?? '')?.dtype;
    if ((type !== 'int8' && type !== 'uint8') || scale?.dtype !== 'float32') continue;
    if ((typedView(scale) as Float32Array).some((step) => step * 255 > HALF_MAX)) found.add(op === 'QuantizeLinear' ? inputs[0]! : outputs[0]!);
  }
  return found;
}
