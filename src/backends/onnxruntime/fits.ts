/** Whether the machine can hold what one request brings and takes: said at build, where a run would be ended by the kernel. */
import { TsrtError } from '../../errors.ts';
import { tensorBytes, type TensorType } from '../../ir/tensor.ts';

/** Throws OUT_OF_MEMORY with what is needed and what there is. */
export function checkFits(bindings: readonly TensorType[], memoryBytes: number): void {
  const gib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
  const needed = bindings.reduce((sum, binding) => sum + tensorBytes(binding), 0);
  if (needed <= memoryBytes) return;
  throw new TsrtError('OUT_OF_MEMORY', `the inputs and outputs of one request take ${gib(needed)}; this machine has ${gib(memoryBytes)} of memory`, {
    fix: 'build with a smaller batch or smaller inputs',
  });
}
