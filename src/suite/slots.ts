/** A suite's inputs beside the model's: which describes which, and what of a sample each takes. */
import { setImmediate } from 'node:timers/promises';
import type { TensorMap } from '../backends/backend.ts';
import type { Binding } from '../engine/engine.ts';
import { TsrtError } from '../errors.ts';
import { sameDims, type Tensor } from '../ir/tensor.ts';
import { imageDims } from './preprocess.ts';
import { spread } from './images.ts';
import type { ImageInput, SuiteInput } from './schema.ts';
import type { DatasetPart, DatasetRequest } from './source.ts';
import { stack, syntheticSample, valuesByType } from './synthetic.ts';

/** An input of the suite with the model's input that it feeds. */
export interface Slot {
  readonly input: SuiteInput;
  readonly binding: Binding;
  /** Shape of one sample; the whole shape where the binding has no batch dimension. */
  readonly sampleDims: readonly number[];
  readonly batched: boolean;
}
export type ImageSlot = Slot & { readonly input: ImageInput };

export function isImage(slot: Slot): slot is ImageSlot {
  return slot.input.kind === 'image';
}

/** Suite inputs by name, or by position where the suite gives none. */
export function matchInputs({ inputs, bindings, batch }: DatasetRequest): Slot[] {
  const listed = bindings.map((binding) => binding.name).join(', ');
  if (inputs.length === 0) return bindings.map((binding) => slotOf({ kind: 'synthetic', values: valuesByType(binding) }, binding, batch));
  if (inputs.length !== bindings.length) {
    throw new TsrtError('SUITE_INVALID', `the suite describes ${inputs.length} inputs, but the model has ${bindings.length} (${listed})`, {
      fix: 'describe every input of the model under `inputs`, or none, for seeded numbers of their types',
    });
  }
  return inputs.map((input, index) => {
    const binding = input.name === undefined ? bindings[index] : bindings.find(({ name }) => name === input.name);
    if (binding === undefined) {
      throw new TsrtError('SUITE_INVALID', `the model has no input '${input.name}'; it has ${listed}`, {
        fix: 'name one of them, or leave `name` out to go by position',
      });
    }
    if (input.dtype !== undefined && input.dtype !== binding.dtype) {
      throw new TsrtError('SUITE_INVALID', `input '${binding.name}' is ${binding.dtype} in the model, but ${input.dtype} in the suite`, {
        fix: 'leave `dtype` out to take the model’s',
      });
    }
    const slot = slotOf(input, binding, batch);
    if (input.kind === 'image' && !(slot.batched && sameDims(slot.sampleDims, imageDims(input.preprocess)))) {
      const wanted = [batch, ...imageDims(input.preprocess)].join(',');
      throw new TsrtError('SUITE_INVALID', `preprocessing gives [${wanted}], but the model's input '${binding.name}' is [${binding.dims.join(',')}]`, {
        fix: 'set `preprocess.crop` and `preprocess.layout` to what the model takes',
      });
    }
    return slot;
  });
}

function slotOf(input: SuiteInput, binding: Binding, batch: number): Slot {
  const batched = binding.dims[0] === batch;
  return { input, binding, batched, sampleDims: batched ? binding.dims.slice(1) : binding.dims };
}

/** Samples drawn without a pause; a large batch takes minutes, in which a signal must be heard. */
const DRAWN_AT_ONCE = 16;

/** What the slots draw for these samples, by the names of the model's inputs. */
export async function syntheticInputs(slots: readonly Slot[], seed: number, indices: readonly number[], signal: AbortSignal | undefined): Promise<TensorMap> {
  const inputs: Record<string, Tensor> = {};
  for (const { input, binding, sampleDims, batched } of slots) {
    const drawn = new Map<number, Tensor>();
    const wanted = batched ? indices : indices.slice(0, 1);
    for (const index of wanted) {
      if (drawn.has(index)) continue;
      if (drawn.size % DRAWN_AT_ONCE === 0) await setImmediate();
      signal?.throwIfAborted();
      drawn.set(index, syntheticSample(input, binding.name, { dtype: binding.dtype, dims: sampleDims }, seed, index));
    }
    const samples = wanted.map((index) => drawn.get(index)!);
    inputs[binding.name] = batched ? stack(samples, binding.dims) : samples[0]!;
  }
  return inputs;
}

/** What falls into one of the two parts; undefined: all. */
export function partOf<T>(items: readonly T[], part: DatasetPart | undefined): readonly T[] {
  if (part === undefined) return items;
  const reserved = new Set(spread(items, Math.min(part.calibrationSamples, Math.floor(items.length / 2))));
  return items.filter((item) => reserved.has(item) === (part.take === 'calibration'));
}
