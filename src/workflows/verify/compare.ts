/**
 * Compares an output with what was expected.
 *
 * Integers, bools and strings must be equal. A floating-point element passes where
 * |found − expected| ≤ atol · max(1, largest |expected| of the tensor) + rtol · |expected|; NaN equals NaN and infinity
 * itself. The defaults are onnxruntime's for ONNX's tests (onnx_backend_test_series_overrides.jsonc): rtol 1e-3, atol 1e-5.
 * The absolute part grows with the tensor because an element near zero among large ones carries their rounding errors
 * (a Fourier transform's zeros, say). Against the reference atol is 1e-4 by default: models without expected outputs are
 * mostly whole networks, whose layers add up their rounding. There, of outputs with many elements, one in ten thousand may
 * exceed the bound by up to ten times: the reference's own rounding does as much where a network is ill-conditioned
 * (onnxruntime's optimizer moves single elements of a detector's boxes that far).
 *
 * Those are bounds for f32. Halves have 11 bits and bytes 8, and the rounding of tens of layers adds up: a lower precision has bounds that tell a
 * broken kernel from rounding (BERT-base and ViT-B/16 in fp16 are off by less than half a percent of their outputs' scale, ResNet-50 in int8, which was calibrated on photographs, by
 * 10 % on noise). How good an answer is, accuracy runs say.
 *
 * A model whose own nodes compute in halves is rounded by the reference as well, after every node, so that an engine which rounds less often differs
 * from it by as much as one in fp16 does: the bounds of fp16 hold for every precision of it.
 *
 * A bfloat16 has 8 bits: next to it lies what differs from it by up to 2⁻⁷ of it, so that 1e-3 would ask for the same bits of whoever rounds
 * at other places than ONNX's reference, which rounds after every step. Its outputs may differ by two units of the last place.
 */
import type { Precision } from '../../engine/engine.ts';
import { isFewBitsInteger } from '../../ir/few-bits.ts';
import { type DType, formatType, toNumbers, typedView, type Tensor } from '../../ir/tensor.ts';
import type { TensorValue } from '../../onnx/value.ts';

export interface Tolerance {
  readonly rtol: number;
  readonly atol: number;
  /** Share of an output's elements that may exceed the bound by up to {@link OUTLIER_FACTOR} times. */
  readonly outlierShare: number;
  /** In the place of `rtol` for outputs in bfloat16, where the case has some and none was asked for. */
  readonly bfloat16Rtol?: number;
}

/** Two units in the last of a bfloat16's 8 bits, of the numbers in which a unit is most. */
const BFLOAT16_RTOL = 2 ** -6;

const OUTLIER_FACTOR = 10;

/** What the caller asks for; `undefined`: the default. */
export interface AskedTolerance {
  readonly rtol: number | undefined;
  readonly atol: number | undefined;
}

/** By precision; f32's absolute one depends on what is compared with. */
const LOWER: Readonly<Record<Exclude<Precision, 'fp32'>, { readonly rtol: number; readonly atol: number }>> = {
  fp16: { rtol: 1e-2, atol: 2e-2 },
  int8: { rtol: 0.1, atol: 0.2 },
  mixed: { rtol: 0.1, atol: 0.2 },
};

/** Bounds that the caller gives hold for every element. `dtypes`: of the expected outputs. */
export function toleranceFor(comparedWith: 'expected outputs' | 'reference', { rtol, atol }: AskedTolerance, precision: Precision = 'fp32', dtypes: readonly DType[] = []): Tolerance {
  const whole = comparedWith === 'reference';
  const strict = !whole || rtol !== undefined || atol !== undefined;
  const usual = precision === 'fp32' ? { rtol: 1e-3, atol: whole ? 1e-4 : 1e-5 } : LOWER[precision];
  const isCoarse = rtol === undefined && usual.rtol < BFLOAT16_RTOL && dtypes.includes('bfloat16');
  return { rtol: rtol ?? usual.rtol, atol: atol ?? usual.atol, outlierShare: strict ? 0 : 1e-4, ...(isCoarse && { bfloat16Rtol: BFLOAT16_RTOL }) };
}

/** How one output compares. */
export interface OutputComparison {
  readonly output: string;
  readonly passed: boolean;
  /** Largest |found − expected|; infinite where types differ or only one of the two is finite (JSON has null for it). */
  readonly maxAbsError: number;
  /** Largest |found − expected| / |expected| over expected values other than zero. */
  readonly maxRelError: number;
  /** Elements out of tolerance, and how many there are. */
  readonly mismatches: number;
  readonly elements: number;
  /** The first mismatch, or how the types differ; undefined where there is none. */
  readonly detail: string | undefined;
}

export function compareValues(output: string, found: TensorValue, expected: TensorValue, tolerance: Tolerance): OutputComparison {
  if (found.kind === 'tensor' && expected.kind === 'tensor') return compareTensors(output, found.tensor, expected.tensor, tolerance);
  if (found.kind === 'strings' && expected.kind === 'strings' && found.dims.join() === expected.dims.join()) {
    return compareExact(output, found.strings, expected.strings);
  }
  return typesDiffer(output, describe(found), describe(expected));
}

export function compareTensors(output: string, found: Tensor, expected: Tensor, tolerance: Tolerance): OutputComparison {
  if (formatType(found) !== formatType(expected)) return typesDiffer(output, formatType(found), formatType(expected));
  if (isFewBitsInteger(expected.dtype)) return compareExact(output, toNumbers(found), toNumbers(expected));
  if (!expected.dtype.includes('float')) {
    return compareExact(output, Array.from<number | bigint>(typedView(found)), Array.from<number | bigint>(typedView(expected)));
  }
  const { rtol, bfloat16Rtol = rtol } = tolerance;
  return compareFloats(output, toNumbers(found), toNumbers(expected), { ...tolerance, rtol: expected.dtype === 'bfloat16' ? bfloat16Rtol : rtol });
}

function compareFloats(output: string, found: readonly number[], expected: readonly number[], { rtol, atol, outlierShare }: Tolerance): OutputComparison {
  let scale = 1;
  for (const value of expected) if (Number.isFinite(value)) scale = Math.max(scale, Math.abs(value));
  let [maxAbsError, maxRelError, mismatches, severe] = [0, 0, 0, 0];
  let detail: string | undefined;
  expected.forEach((want, index) => {
    const got = found[index]!;
    if (got === want) return;
    if (Number.isNaN(got) && Number.isNaN(want)) return;
    const difference = Math.abs(got - want);
    const error = Number.isNaN(difference) ? Infinity : difference;
    if (error > maxAbsError) maxAbsError = error;
    if (want !== 0 && error / Math.abs(want) > maxRelError) maxRelError = error / Math.abs(want);
    // An infinite bound, of an infinite expected value, would let everything through.
    const bound = Number.isFinite(want) ? atol * scale + rtol * Math.abs(want) : 0;
    if (error <= bound) return;
    mismatches++;
    if (!(error <= OUTLIER_FACTOR * bound)) severe++;
    detail ??= `[${index}] is ${got}, expected ${want}`;
  });
  return { output, passed: severe === 0 && mismatches <= Math.floor(outlierShare * expected.length), maxAbsError, maxRelError, mismatches, elements: expected.length, detail };
}

type Exact = number | bigint | string;

function compareExact(output: string, found: readonly Exact[], expected: readonly Exact[]): OutputComparison {
  let [maxAbsError, maxRelError, mismatches] = [0, 0, 0];
  let detail: string | undefined;
  expected.forEach((want, index) => {
    const got = found[index]!;
    if (got === want) return;
    mismatches++;
    detail ??= `[${index}] is ${got}, expected ${want}`;
    const error = typeof want === 'string' ? 0 : Math.abs(Number(got) - Number(want));
    maxAbsError = Math.max(maxAbsError, error);
    if (Number(want) !== 0 && error > 0) maxRelError = Math.max(maxRelError, error / Math.abs(Number(want)));
  });
  return { output, passed: mismatches === 0, maxAbsError, maxRelError, mismatches, elements: expected.length, detail };
}

function typesDiffer(output: string, found: string, expected: string): OutputComparison {
  const detail = `is ${found}, expected ${expected}`;
  return { output, passed: false, maxAbsError: Infinity, maxRelError: Infinity, mismatches: 0, elements: 0, detail };
}

function describe(value: TensorValue): string {
  return value.kind === 'tensor' ? formatType(value.tensor) : `${value.kind === 'strings' ? 'string' : value.dtype}[${value.dims.join(',')}]`;
}
