/**
 * Ranges and the 8-bit grids that they make: x ≈ scale · (q − zeroPoint), q saturated to the integer type.
 *
 * As in ONNX's QuantizeLinear, round half to even. Zero always lies on the grid, so that padding and clipped activations stay
 * exact (Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018).
 */

/** `affine`: uint8 over [low, high]. `symmetric`: int8 over [−T, T], zero point 0, as TensorRT's explicit quantization wants. */
export const SCHEMES = ['affine', 'symmetric'] as const;
/** One of {@link SCHEMES}. */
export type Scheme = (typeof SCHEMES)[number];

/** A closed interval of real numbers that a grid is to cover. */
export interface Range {
  readonly low: number;
  readonly high: number;
}

export interface QuantParams {
  readonly dtype: 'uint8' | 'int8';
  /** Positive, exactly a float32. */
  readonly scale: number;
  readonly zeroPoint: number;
}

/** Below this a float32 scale would lose precision, and its reciprocal be infinite. */
const MIN_SCALE = 2 ** -100;

/** Integers of a grid's type. The symmetric grid leaves −128 out, so that −T and T are alike. */
export function gridLimits({ dtype }: Pick<QuantParams, 'dtype'>): { readonly min: number; readonly max: number } {
  return dtype === 'uint8' ? { min: 0, max: 255 } : { min: -128, max: 127 };
}

/** The grid that covers a range and zero. Throws RangeError for a range that is none. */
export function paramsOf(range: Range, scheme: Scheme): QuantParams {
  if (!(Number.isFinite(range.low) && Number.isFinite(range.high) && range.low <= range.high)) {
    throw new RangeError(`no range: ${range.low} to ${range.high}`);
  }
  if (scheme === 'symmetric') return { dtype: 'int8', scale: scaleOf(Math.max(-range.low, range.high, 0), 127), zeroPoint: 0 };
  const low = Math.min(range.low, 0);
  const scale = scaleOf(Math.max(range.high, 0) - low, 255);
  return { dtype: 'uint8', scale, zeroPoint: Math.min(255, Math.max(0, roundHalfEven(-low / scale))) };
}

function scaleOf(width: number, steps: number): number {
  return width === 0 ? 1 : Math.fround(Math.max(width / steps, MIN_SCALE));
}

/** The range that a grid represents. */
export function coveredRange(params: QuantParams): Range {
  const { min, max } = gridLimits(params);
  return { low: (min - params.zeroPoint) * params.scale, high: (max - params.zeroPoint) * params.scale };
}

/** The integer that stands for `x`. */
export function quantize(x: number, params: QuantParams): number {
  const { min, max } = gridLimits(params);
  return Math.min(max, Math.max(min, roundHalfEven(x / params.scale) + params.zeroPoint));
}

/** `x` after quantization and back. */
export function fakeQuantize(x: number, params: QuantParams): number {
  return (quantize(x, params) - params.zeroPoint) * params.scale;
}

/** Beside numbers of this size a float64 has no fraction left: a sum with it is rounded as IEEE 754 rounds, to even. */
const NO_FRACTION = 1.5 * 2 ** 52;

export function roundHalfEven(value: number): number {
  return Math.abs(value) < 2 ** 51 ? value + NO_FRACTION - NO_FRACTION : Math.round(value);
}
