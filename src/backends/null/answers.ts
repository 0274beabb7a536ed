/**
 * The null backend's answers: values that look random, are the same on every machine, and follow from the inputs alone.
 *
 * Where the leading dimension of every binding is the batch, item i of the outputs follows from item i of the inputs only,
 * so that one picture has one answer at every batch size, as with a real network.
 */
import type { Binding, Precision } from '../../engine/engine.ts';
import { elementCount, fromNumbers, tensorBytes, type Tensor } from '../../ir/tensor.ts';
import type { TensorMap } from '../backend.ts';

/** Largest relative error that each precision adds to floating-point outputs: half an ulp of 11, 7 and 9 bits. */
export const PRECISION_ERROR: Readonly<Record<Precision, number>> = {
  fp32: 0,
  fp16: 2 ** -11,
  mixed: 2 ** -9,
  int8: 2 ** -7,
};

export interface AnswerRule {
  readonly inputs: readonly Binding[];
  readonly outputs: readonly Binding[];
  readonly batch: number;
  /** Of the model: another model, another answer. */
  readonly salt: number;
  /** Largest relative error of floating-point outputs. */
  readonly error: number;
}

/** Outputs for inputs. Floats lie in [-1, 1), integers in 0 … 9, bools are both. `tensors` are in the order of `inputs`. */
export function answer(rule: AnswerRule, tensors: readonly Tensor[]): TensorMap {
  const items = itemsOf(rule);
  const seeds = Array.from({ length: items }, (_, item) => {
    let hash = rule.salt;
    for (const tensor of tensors) {
      const bytes = tensor.data.byteLength / items;
      hash = fnv1a(tensor.data.subarray(item * bytes, (item + 1) * bytes), hash);
    }
    return hash;
  });
  return Object.fromEntries(
    rule.outputs.map((output, index) => [output.name, outputTensor(output, seeds, index, rule.error)]),
  );
}

/** How many items can be answered apart from each other: the batch, or 1 where some binding does not lead with it. */
function itemsOf({ inputs, outputs, batch }: AnswerRule): number {
  const all = [...inputs, ...outputs];
  const leads = all.every((binding) => binding.dims[0] === batch && tensorBytes(binding) > 0);
  return inputs.length > 0 && leads ? batch : 1;
}

function outputTensor(output: Binding, seeds: readonly number[], index: number, error: number): Tensor {
  const perItem = elementCount(output.dims) / seeds.length;
  const values = new Float64Array(elementCount(output.dims));
  const floating = output.dtype.includes('float');
  const levels = output.dtype === 'bool' ? 2 : 10;
  seeds.forEach((seed, item) => {
    const random = mulberry32(seed + index * 0x9e3779b9);
    const noise = mulberry32(~seed);
    for (let i = 0; i < perItem; i++) {
      const unit = random();
      const value = floating ? (2 * unit - 1) * (1 + error * (2 * noise() - 1)) : Math.floor(unit * levels);
      values[item * perItem + i] = value;
    }
  });
  return fromNumbers(output.dtype, output.dims, values);
}

/** FNV-1a (Fowler, Noll, Vo), 32 bits. */
export function fnv1a(bytes: Uint8Array, seed = 0x811c9dc5): number {
  let hash = seed;
  for (let i = 0; i < bytes.length; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193);
  return hash >>> 0;
}

/** Mulberry32 (Tommy Ettinger): a seeded generator of 32 bits of state, uniform in [0, 1). */
export function mulberry32(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
