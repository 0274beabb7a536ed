/**
 * Precision on the webgpu backend: what can be asked for, the graph in that precision, and the proof of what was built.
 *
 * fp16 is a matter of storage and operands (lower/): no graph changes. int8 is Q/DQ in the graph, by a calibration or by the model itself,
 * which the passes turn into products of integers; everything else of such a build is stored as f16.
 */
import type { EngineLayer, Precision } from '../../engine/engine.ts';
import { TsrtError } from '../../errors.ts';
import type { AnyNode, Graph, ValueId } from '../../ir/graph.ts';
import type { PassReport } from '../../passes/pass.ts';
import { type PipelineOptions, type PipelineResult, runPasses } from '../../passes/pipeline.ts';
import type { Calibration } from '../../quantize/calibration.ts';
import { checkCalibration } from '../../quantize/calibration.ts';
import { isQuantized, quantizedProducts, stayedFloat } from '../../quantize/detect.ts';
import { productsOf } from '../../quantize/placement.ts';
import { calibrationPlacement, forParts, quantizeGraph } from '../../quantize/quantize-graph.ts';
import { type DType, HALF_MAX, typedView } from '../../ir/tensor.ts';
import { hasIntegerKernel } from '../../passes/integer-products.ts';
import type { BuildInput } from '../backend.ts';

/** Why the backend can't give the precision asked for of a graph, the model or the head of it; undefined where it can. */
export function precisionProblem({ options: { precision }, calibration }: BuildInput, graph: Graph): string | undefined {
  if (precision === 'fp32' || precision === 'fp16') return undefined;
  if (isQuantized(graph)) return precision === 'int8' ? undefined : 'the model comes with scales of its own, so what runs in int8 is fixed';
  return calibration ? undefined : `${precision} needs a calibration: make one with tsrt-bench calibrate, and give it with --calibration`;
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

/** How a build makes its precision, of the whole graph or of each of the parts that it is cut into. */
export interface PrecisionPlan {
  /** The graph whose values the calibration names, which parts must be cut from; undefined where no calibration decides: the imported one. */
  readonly named: PipelineResult | undefined;
  /** Products that would run in integers wherever there are kernels for them, by name. */
  readonly products: ReadonlySet<string>;
  /** With Q/DQ where the build asks for int8. A part keeps the types of what it reads and gives. */
  of(graph: Graph): InPrecision;
}

/** Throws TsrtError CALIBRATION_INVALID for a calibration of something else. */
export async function planPrecision(imported: Graph, { options, calibration, model }: BuildInput, passes: Omit<PipelineOptions, 'target'>): Promise<PrecisionPlan> {
  const { precision, fusion, disabledPasses } = options;
  if (isQuantized(imported)) return { named: undefined, products: quantizedProducts(imported), of: (graph) => withOwnScales(graph, precision) };
  // Ranges of something else would keep the wrong values in f32.
  if (precision !== 'fp32' && calibration) checkCalibration(calibration.cache, { model, fusion, disabledPasses });
  if ((precision !== 'int8' && precision !== 'mixed') || !calibration) {
    return { named: undefined, products: new Set(), of: (graph) => ({ graph, products: [], own: false, without: [] }) };
  }
  const result = await runPasses(imported, { ...passes, target: 'onnx', forInt8: true });
  const { graph, ranges, kept } = forParts(result.graph, calibration.cache);
  return {
    named: { ...result, graph },
    products: productsOf(calibrationPlacement(graph, ranges.scheme)),
    of(part) {
      const without = part.nodes.filter((node) => !hasIntegerKernel(node, part)).map(({ name }) => name);
      const quantized = quantizeGraph(part, ranges, precision, { without: new Set([...without, ...kept]), fused: true });
      return { ...marked(quantized.graph), own: false, without };
    },
  };
}

function withOwnScales(graph: Graph, precision: Precision): InPrecision {
  const { products } = marked(graph);
  // Their kernels multiply element by element in 32 bits: right, and not what int8 is asked for.
  const dynamic = precision === 'int8' ? graph.nodes.filter(({ op }) => op === 'ConvInteger' || op === 'MatMulInteger') : [];
  return { graph, products: [...products, ...dynamic], own: true, without: [] };
}

/** Of parts, what is to be proven of all of them. */
export function together(parts: readonly InPrecision[]): Omit<InPrecision, 'graph'> {
  return { products: parts.flatMap(({ products }) => products), own: parts.some(({ own }) => own), without: parts.flatMap(({ without }) => without) };
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
export function provePrecision(layers: readonly EngineLayer[], { products, own, without }: Omit<InPrecision, 'graph'>, precision: string): readonly string[] {
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

/** What to say of products that a fallback keeps from the kernels of integers: they run as the model has them. */
export function precisionElsewhere(elsewhere: readonly string[], products: ReadonlySet<string>): readonly string[] {
  const names = elsewhere.filter((name) => products.has(name));
  if (names.length === 0) return [];
  return [`${names.length} of ${products.size} products run in onnxruntime, in floats: ${named(names)}.`];
}

/** Kinds of layers whose kernels multiply 8-bit integers. */
const INTEGER_PRODUCTS: ReadonlySet<string> = new Set(['ConvInteger', 'MatMulInteger', 'QLinearConv', 'QLinearMatMul', 'QuantizedConv', 'QuantizedMatMul', 'QuantizedShortcut']);

/** What a user should know of values that are computed in another type than the model's, of which the passes tell how many there are. */
export function typeNotices({ types, constants }: Graph, passes: readonly PassReport[]): readonly string[] {
  const counts = new Map(passes.flatMap(({ rewrites }) => Object.entries(rewrites)));
  const say = (dtype: DType, how: (ids: string) => string): string[] => {
    const ids = [...types].flatMap(([id, type]) => (type.dtype === dtype ? [id] : []));
    return counts.has(dtype) && ids.length > 0 ? [how(named(ids.toSorted((a, b) => Number(constants.has(a)) - Number(constants.has(b)))))] : [];
  };
  const rounded = [...constants].flatMap(([id, tensor]) => (tensor.dtype === 'float64' && (typedView(tensor) as Float64Array).some((value) => Number.isInteger(value) && Math.fround(value) !== value) ? [id] : []));
  return [
    ...say('bfloat16', (ids) => `What is bfloat16 in the model (${ids}) is computed in float32, and rounded to bfloat16 where the model casts to it and in outputs.`),
    ...say('float64', (ids) => `What is float64 in the model (${ids}) is computed in float32: 24 bits of precision, up to 3.4e38.`),
    ...(counts.has('float64') && rounded.length > 0 ? [`Of ${named(rounded)} whole numbers are rounded to 24 bits.`] : []),
    ...say('uint64', (ids) => `What is uint64 in the model (${ids}) is computed in 32 bits: a result beyond 4294967295 is wrong.`),
  ];
}

/**
 * What a user should know of an engine that stores halves: the values that stay f32, by name, or the bound that was taken for granted;
 * and constants that no half holds.
 */
export function halfNotices(graph: Graph, calibration: Calibration | undefined): readonly string[] {
  // The calibration of a model in halves knows its values in float32.
  const kept = [...beyondHalf(calibration)].filter((id) => graph.types.get(id)?.dtype === 'float32' && !graph.constants.has(id));
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
