/** What a suite's preprocessing does to pixels, as the compiler takes it; and which of the two forms of a picture an engine wants. */
import type { TensorMap } from '../backends/backend.ts';
import type { Binding, EngineHeader } from '../engine/engine.ts';
import { TsrtError } from '../errors.ts';
import { networkDims, type PixelInput } from '../ir/pixels.ts';
import type { Batch } from './source.ts';
import { pixelAffine } from './preprocess.ts';
import type { SuiteInput } from './schema.ts';

/** The image inputs of a suite, for a model with these inputs: by name, or by position where the suite gives none. */
export function pixelInputs(inputs: readonly SuiteInput[], bindings: readonly Pick<Binding, 'name' | 'dtype'>[]): readonly PixelInput[] {
  return inputs.flatMap((input, index) => {
    const binding = input.name === undefined ? bindings[index] : bindings.find(({ name }) => name === input.name);
    if (input.kind !== 'image' || binding === undefined) return [];
    return [{ input: binding.name, layout: input.preprocess.layout, dtype: binding.dtype, ...pixelAffine(input.preprocess) }];
  });
}

type Pictured = Pick<EngineHeader, 'inputs' | 'pixels'>;

/** The model's own inputs, for an engine that may take some of them as bytes. */
export function modelInputs({ inputs, pixels = [] }: Pictured): readonly Binding[] {
  return inputs.map((binding) => {
    const entry = pixels.find(({ input }) => input === binding.name);
    return entry ? { ...binding, dtype: entry.dtype, dims: networkDims(entry, binding.dims) } : binding;
  });
}

/** A batch as the engine takes it. Throws DATASET_INVALID for a dataset that gives tensors alone to an engine that takes pictures. */
export function engineInputs({ pixels }: Pick<EngineHeader, 'pixels'>, { inputs, pictures }: Pick<Batch, 'inputs' | 'pictures'>): TensorMap {
  if (!pixels) return inputs;
  const bytes = pixels.map(({ input }) => {
    const picture = pictures?.[input];
    if (picture) return [input, picture] as const;
    throw new TsrtError('DATASET_INVALID', `the dataset gives no pictures for '${input}', and the engine takes them as bytes`, {
      fix: 'build with preprocess=host, or let the dataset give `pictures` beside the tensors',
    });
  });
  return { ...inputs, ...Object.fromEntries(bytes) };
}
