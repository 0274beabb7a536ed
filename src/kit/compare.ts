/** How far an implementation is from the reference: in units in the last place, absolutely and relatively. */
import type { CustomOp, Tolerance } from '../ir/custom.ts';
import { fromNumbers, toNumbers, type DType, type Tensor } from '../ir/tensor.ts';

/** An exact type allows nothing; float32 allows what WGSL's and onnxruntime's functions may differ by. */
const DEFAULTS: { readonly [D in DType]?: Tolerance } = {
  float32: { ulps: 64, relative: 1e-5, absolute: 1e-6 },
  float16: { ulps: 8, relative: 2e-3, absolute: 1e-3 },
};

export function toleranceOf(op: CustomOp, dtype: DType): Tolerance {
  return op.tolerance?.[dtype] ?? DEFAULTS[dtype] ?? {};
}

/** `4 ULP or 1e-6 absolute`. */
export function describeTolerance({ ulps = 0, absolute = 0, relative = 0 }: Tolerance): string {
  const parts = [...(ulps > 0 ? [`${ulps} ULP`] : []), ...(absolute > 0 ? [`${absolute} absolute`] : []), ...(relative > 0 ? [`${relative} relative`] : [])];
  return parts.join(' or ') || 'exactly the same';
}

/** The largest errors seen, each by itself. */
export interface Worst {
  readonly ulps: number;
  readonly absolute: number;
  readonly relative: number;
}

export interface Comparison extends Worst {
  /** The first element that is beyond the tolerance. */
  readonly failure: { readonly index: number; readonly got: number; readonly expected: number; readonly ulps: number; readonly relative: number } | undefined;
}

/** Compares a tensor with float64 values, rounded to its type. */
export function compareWith(got: Tensor, reference: ArrayLike<number>, { ulps = 0, absolute = 0, relative = 0 }: Tolerance): Comparison {
  const expected = toNumbers(fromNumbers(got.dtype, got.dims, reference));
  let worst = NO_ERROR;
  let failure: Comparison['failure'];
  for (const [index, value] of toNumbers(got).entries()) {
    const wanted = expected[index]!;
    if (value === wanted || (Number.isNaN(value) && Number.isNaN(wanted))) continue;
    const error = Math.abs(value - wanted);
    const inUlps = error / ulpOf(wanted, got.dtype);
    const inRelative = wanted === 0 ? Number.POSITIVE_INFINITY : error / Math.abs(wanted);
    const right = Number.isFinite(error) && (inUlps <= ulps || error <= absolute || inRelative <= relative);
    worst = larger(worst, { ulps: inUlps, absolute: error, relative: inRelative });
    if (!right) failure ??= { index, got: value, expected: wanted, ulps: inUlps, relative: inRelative };
  }
  return { ...worst, failure };
}

export const NO_ERROR: Worst = { ulps: 0, absolute: 0, relative: 0 };

export function larger(a: Worst, b: Worst): Worst {
  const of = (x: number, y: number): number => (Number.isNaN(y) ? Number.POSITIVE_INFINITY : Math.max(x, y));
  return { ulps: of(a.ulps, b.ulps), absolute: of(a.absolute, b.absolute), relative: of(a.relative, b.relative) };
}

/** Distance between neighbours of the type at a value (Goldberg, 1991); 1 for integers. */
export function ulpOf(value: number, dtype: DType): number {
  const [bits, least] = dtype === 'float32' ? [23, -149] : dtype === 'float16' ? [10, -24] : dtype === 'bfloat16' ? [7, -133] : dtype === 'float64' ? [52, -1074] : [0, 0];
  if (bits === 0) return 1;
  if (value === 0 || !Number.isFinite(value)) return 2 ** least;
  let exponent = Math.floor(Math.log2(Math.abs(value)));
  if (2 ** exponent > Math.abs(value)) exponent--;
  return 2 ** Math.max(least, exponent - bits);
}

/** `element 3 is 0.5, the reference says 0.25 (2097152 ULP, 100 %); the op claims 4 ULP`. */
export function describeFailure(what: string, { index, got, expected, ulps, relative }: NonNullable<Comparison['failure']>, tolerance: Tolerance): string {
  const far = Number.isFinite(ulps) ? ` (${Number(ulps.toPrecision(3))} ULP, ${Number((100 * relative).toPrecision(3))} %)` : '';
  return `${what}: element ${index} is ${format(got)}, the reference says ${format(expected)}${far}${tolerance.absolute === Number.POSITIVE_INFINITY ? '' : `; the op claims ${describeTolerance(tolerance)}`}`;
}

function format(value: number): string {
  return Number.isFinite(value) ? String(Number(value.toPrecision(9))) : String(value);
}
