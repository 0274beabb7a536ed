/** How much may go into one request: something, and no more than a worker can be handed. */
import type { Binding } from '../engine/engine.ts';
import { TsrtError } from '../errors.ts';
import { elementCount, tensorBytes } from '../ir/tensor.ts';

/** Inputs are handed to the workers in one file, which Node reads up to this size. */
const MAX_INPUT_BYTES = 2 ** 31 - 2 ** 20;

/**
 * Throws before anything is made: OUT_OF_MEMORY for inputs that are too large, MODEL_UNSUPPORTED where all of them are empty. Then there is nothing to
 * compute, and some of onnxruntime's kernels (LSTM, GRU, InstanceNormalization) end the process. One that is empty beside others may be meant, as the
 * keys of before are.
 */
export function checkRequest(inputs: readonly Binding[], batch: number): void {
  const bytes = inputs.reduce((sum, input) => sum + tensorBytes(input), 0);
  if (inputs.length > 0 && inputs.every(({ dims }) => elementCount(dims) === 0)) {
    throw new TsrtError('MODEL_UNSUPPORTED', `the inputs of the model have no elements: ${inputs.map(({ name, dims }) => `'${name}' is [${dims.join(',')}]`).join(', ')}`, {
      fix: 'give sizes above 0 (--dim, --shape)',
    });
  }
  if (bytes <= MAX_INPUT_BYTES) return;
  throw new TsrtError('OUT_OF_MEMORY', `the inputs of one request of batch ${batch} take ${(bytes / 2 ** 30).toFixed(1)} GiB, more than the 2 GiB that a request may have`, {
    fix: 'ask for a smaller --batch',
  });
}
