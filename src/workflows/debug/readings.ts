/**
 * How far the values inside a network are from what they should be, and where that came from.
 *
 * A signal-to-noise ratio per value (power of what is right over power of the difference) adds up along a network: what a node adds by itself is
 * the noise behind it less the most of what came in. That is an estimate, for a node may amplify noise or level it; it is exact where what comes in is.
 */
import type { Precision } from '../../engine/engine.ts';
import { formatType, sameDims, toNumbers, type DType, type Tensor } from '../../ir/tensor.ts';

export interface ValueReading {
  /** The ONNX value's name. */
  readonly value: string;
  /** What makes it: the node's name and op. */
  readonly node: string;
  readonly op: string;
  readonly type: string;
  /** Decibels; undefined where not one element differs. Of floats; integers and bools have {@link mismatches}. */
  readonly snrDb: number | undefined;
  /** Decibels that the node's own noise would leave, had what comes in been right; undefined where it adds none. */
  readonly addedDb: number | undefined;
  readonly maxAbsError: number;
  /** The largest finite magnitude that is right. */
  readonly largest: number;
  /** Elements that are finite in one of the two alone, or integers that differ. */
  readonly mismatches: number;
  readonly elements: number;
  /** Decibels that it is to have. */
  readonly minSnrDb: number;
  /** Whether it has them, or is off by too little to matter. */
  readonly holds: boolean;
}

export type Comparison = Pick<ValueReading, 'snrDb' | 'maxAbsError' | 'largest' | 'mismatches' | 'elements'>;

/** Compares a value with what is right; floats may be of another size. Throws where the dimensions differ. */
export function compareLayer(found: Tensor, expected: Tensor): Comparison {
  if (!sameDims(found.dims, expected.dims)) throw new Error(`it is ${formatType(found)}, and ${formatType(expected)} in the reference`);
  const [got, want] = [toNumbers(found), toNumbers(expected)];
  const isFloat = expected.dtype.includes('float');
  let [signal, noise, maxAbsError, largest, mismatches] = [0, 0, 0, 0, 0];
  for (const [i, right] of want.entries()) {
    const value = got[i]!;
    if (Number.isFinite(right)) largest = Math.max(largest, Math.abs(right));
    if (value === right || (Number.isNaN(value) && Number.isNaN(right))) {
      if (Number.isFinite(right)) signal += right * right;
      continue;
    }
    const error = Math.abs(value - right);
    if (!isFloat || !Number.isFinite(error)) mismatches++;
    if (!Number.isFinite(error)) continue;
    maxAbsError = Math.max(maxAbsError, error);
    signal += right * right;
    noise += error * error;
  }
  const isExact = !isFloat || noise === 0;
  return { snrDb: isExact ? undefined : decibels(signal, noise), maxAbsError: mismatches > 0 && isFloat ? Number.POSITIVE_INFINITY : maxAbsError, largest, mismatches, elements: want.length };
}

/** Noise on what should be zero throughout has no ratio; it counts as the least that is told. */
const LEAST_DB = -200;

const decibels = (signal: number, noise: number): number => Math.max(LEAST_DB, 10 * Math.log10(signal / noise));

/** Power of noise beside a signal of 1. */
const noiseOf = (snrDb: number | undefined): number => (snrDb === undefined ? 0 : 10 ** (-snrDb / 10));

/** What a node added to the noise of its inputs, in decibels; undefined: nothing. */
export function addedBy(snrDb: number | undefined, inputs: readonly (number | undefined)[]): number | undefined {
  const added = noiseOf(snrDb) - Math.max(0, ...inputs.map(noiseOf));
  return added > 0 ? -10 * Math.log10(added) : undefined;
}

/** What a value is to have: a ratio in decibels, or an error that is nobody's matter. */
export interface Wanted {
  readonly minSnrDb: number;
  readonly maxAbsError: number;
}

/** Ordinary networks stay above these: floats by 110 to 140 dB, halves by 45 to 70. A sigmoid's 1e-4 is as near to right as its 1 is, and has no such ratio. */
const USUAL: Readonly<Record<'floats' | 'halves', Wanted>> = { floats: { minSnrDb: 80, maxAbsError: 1e-6 }, halves: { minSnrDb: 30, maxAbsError: 1e-3 } };

/** What is usual for a value of the type, computed in the precision; a ratio that the user gives holds alone. */
export function wantedOf(dtype: DType, precision: Precision, minSnrDb: number | undefined): Wanted {
  if (minSnrDb !== undefined) return { minSnrDb, maxAbsError: 0 };
  return dtype === 'float32' || dtype === 'float64' ? USUAL[precision === 'fp16' ? 'halves' : 'floats'] : USUAL.halves;
}

/** Whether a value is within what is wanted. */
export function holds({ snrDb, mismatches, maxAbsError }: Pick<Comparison, 'snrDb' | 'mismatches' | 'maxAbsError'>, wanted: Wanted): boolean {
  return mismatches === 0 && (snrDb === undefined || snrDb >= wanted.minSnrDb || maxAbsError <= wanted.maxAbsError);
}

/** Those that add the most noise, or are wrong in what no ratio tells, the worst first. */
export function worstOf(readings: readonly ValueReading[], count: number): readonly ValueReading[] {
  const badness = ({ mismatches, addedDb }: ValueReading): number => (mismatches > 0 ? Number.NEGATIVE_INFINITY : (addedDb ?? Number.POSITIVE_INFINITY));
  return readings.toSorted((a, b) => compareNumbers(badness(a), badness(b))).slice(0, count);
}

const compareNumbers = (a: number, b: number): number => (a < b ? -1 : a > b ? 1 : 0);
