/**
 * The proof of a precision: in which types an engine's operations run, from its layers, and whether that is what was asked for.
 *
 * A precision that a device lacks could otherwise become another one on the way, and every figure would be of something else.
 */
import type { DType } from '../ir/tensor.ts';
import type { EngineHeader, EngineLayer, Precision } from './engine.ts';

/** Shares of an engine's operations by the type of their arithmetic; they add up to 1. */
export type PrecisionShares = Readonly<Partial<Record<DType, number>>>;

/** Undefined where the layers tell no operations, as for a model that runs unchanged. */
export function precisionShares(layers: readonly Pick<EngineLayer, 'precision' | 'flops'>[]): PrecisionShares | undefined {
  const total = layers.reduce((sum, { flops }) => sum + flops, 0);
  if (total === 0) return undefined;
  const sums = new Map<DType, number>();
  for (const { precision, flops } of layers) if (flops > 0) sums.set(precision, (sums.get(precision) ?? 0) + flops);
  return Object.fromEntries([...sums].sort((a, b) => b[1] - a[1]).map(([dtype, flops]) => [dtype, flops / total]));
}

/**
 * The precision by whose bounds an engine's answers are judged: a model that runs unchanged may compute more coarsely than the fp32 reference, if it
 * says itself that it may.
 */
export function judgedPrecision(precision: Precision, { activations }: Pick<EngineHeader, 'activations'>): Precision {
  return activations ?? precision;
}

/** Types that make up a precision. Mixed is int8 with exceptions. */
const TYPES: Readonly<Record<Precision, readonly DType[]>> = { fp32: [], fp16: ['float16', 'bfloat16'], int8: ['int8', 'uint8'], mixed: ['int8', 'uint8'] };

/**
 * Why an engine is not in the precision that was asked for; undefined where it is, or where nothing can be told. fp32 means the model's
 * own types, so that anything is right; fp16 must be where most operations are; of int8 some must be in integers, which of them is for
 * the backend to prove.
 */
export function precisionMismatch(precision: Precision, shares: PrecisionShares | undefined): string | undefined {
  if (precision === 'fp32' || !shares) return undefined;
  const share = TYPES[precision].reduce((sum, dtype) => sum + (shares[dtype] ?? 0), 0);
  const enough = precision === 'fp16' ? share >= 0.5 : share > 0;
  return enough ? undefined : `the engine was requested in ${precision}, but runs ${describeShares(shares)}`;
}

/** `99.8 % float16, 0.2 % float32`. */
export function describeShares(shares: PrecisionShares): string {
  return Object.entries(shares).map(([dtype, share]) => `${percentOf(share)} % ${dtype}`).join(', ');
}

/** Never 100 % or 0 % of what is not whole. */
function percentOf(share: number): string {
  const text = (100 * share).toFixed(1);
  if (text === '100.0') return share === 1 ? '100' : '>99.9';
  return text === '0.0' ? '<0.1' : text;
}
