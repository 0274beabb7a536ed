/** Whether a plan can be held by a device, told before anything is allocated: at build for the device that is meant, at load again. */
import { type Plan, stagingBytes } from '../../engine/plan.ts';
import { TsrtError } from '../../errors.ts';
import type { DeviceProfile } from './profile.ts';

/** Device memory of one session: the plan's buffers, and what each request in flight has of its own. */
export function sessionBytes(plan: Plan): number {
  return plan.buffers.reduce((sum, buffer) => sum + buffer.bytes, 0) + stagingBytes(plan);
}

/** Throws TsrtError OUT_OF_MEMORY that says what the plan needs and which of the device's limits it exceeds. */
export function checkFits(plan: Plan, { maxBufferBytes, maxBindingBytes, memoryBytes }: DeviceProfile): void {
  const total = sessionBytes(plan);
  if (memoryBytes !== undefined && total > memoryBytes) throw outOfMemory(total, `the device has ${memoryBytes}`);
  const largest = Math.max(0, ...plan.buffers.map((buffer) => buffer.bytes));
  if (largest > maxBufferBytes) throw outOfMemory(total, `${largest} in one buffer, but the device allows ${maxBufferBytes} (maxBufferSize)`);
  for (const step of plan.steps) {
    if (step.kind !== 'dispatch') continue;
    const bound = Math.max(0, ...step.bindings.map((range) => range.bytes));
    if (bound > maxBindingBytes) {
      throw outOfMemory(total, `${bound} in one binding, but the device allows ${maxBindingBytes} (maxStorageBufferBindingSize)`);
    }
  }
}

/** `why` follows the total: `the device has …`. */
export function outOfMemory(neededBytes: number, why: string): TsrtError {
  return new TsrtError('OUT_OF_MEMORY', `the engine needs ${neededBytes} bytes of device memory: ${why}`, { fix: 'build with a smaller batch or smaller inputs, or dispose other sessions first' });
}
