/** How large the inputs of one request may be. */
import type { EngineHeader } from '../engine/engine.ts';
import { TsrtError } from '../errors.ts';
import { tensorBytes } from '../ir/tensor.ts';

/** Inputs are handed to the workers in one file, which Node reads up to this size. */
const MAX_INPUT_BYTES = 2 ** 31 - 2 ** 20;

/** Throws OUT_OF_MEMORY, before anything of that size is made. */
export function checkInputSize({ inputs, options }: Pick<EngineHeader, 'inputs' | 'options'>): void {
  const bytes = inputs.reduce((sum, input) => sum + tensorBytes(input), 0);
  if (bytes <= MAX_INPUT_BYTES) return;
  throw new TsrtError('OUT_OF_MEMORY', `the inputs of one request of batch ${options.batch} take ${(bytes / 2 ** 30).toFixed(1)} GiB; a request may have 2 GiB`, {
    fix: 'ask for a smaller --batch',
  });
}
