/**
 * Inputs for timing: tensors from a file that the parent process wrote, or seeded ones.
 *
 * Most kernels take the same time for any values; sparsity, denormals and gather patterns are the exceptions, so real inputs
 * are preferred and seeded ones are normal variates, neither zero nor denormal.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { deserialize, serialize } from 'node:v8';
import type { TensorMap } from '../backends/backend.ts';
import type { Binding } from '../engine/engine.ts';
import { fullMask, isAttentionMask } from '../ir/attention-mask.ts';
import { type Tensor, elementCount, fromNumbers } from '../ir/tensor.ts';
import { type Random, createRandom, normal } from '../stats/random.ts';

export type InputSource =
  /** Made by {@link writeTensors}. */
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'seed'; readonly seed: number };

export async function readInputs(source: InputSource, bindings: readonly Binding[]): Promise<TensorMap> {
  switch (source.kind) {
    case 'file':
      return deserialize(await readFile(source.path)) as TensorMap;
    case 'seed':
      return seededInputs(bindings, source.seed, 'full');
    default:
      return source satisfies never;
  }
}

/** Hands tensors to worker processes: V8's structured clone in a file, for processes of the same Node only. */
export async function writeTensors(path: string, tensors: TensorMap): Promise<void> {
  await writeFile(path, serialize(tensors));
}

/**
 * Standard normal variates for floating types; 0 or 1 for integers and booleans, which any table index or mask bears. `masks`: whether attention masks
 * are full, as for a request of tokens without padding, or drawn like any others, which shows whether they are heeded.
 */
export function seededInputs(bindings: readonly Binding[], seed: number, masks: 'full' | 'drawn'): TensorMap {
  const random = createRandom(seed);
  return Object.fromEntries(bindings.map((binding) => [binding.name, masks === 'full' && isAttentionMask(binding) ? fullMask(binding) : seededTensor(binding, random)]));
}

function seededTensor({ dtype, dims }: Binding, random: Random): Tensor {
  const draw = dtype.includes('float') ? () => normal(random) : () => random.below(2);
  return fromNumbers(dtype, dims, Float64Array.from({ length: elementCount(dims) }, draw));
}
