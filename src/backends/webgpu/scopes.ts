/** Errors of one piece of work on a device that others share: caught in a scope, so that they are charged to nobody else. */
import { TsrtError } from '../../errors.ts';
import { outOfMemory } from './fits.ts';

/** How a piece of work ended, and what the device says against it. */
export interface Scoped<T> {
  readonly done: PromiseSettledResult<T>;
  readonly fault: GPUError | null;
}

/** `make` makes everything before it first waits: what others make while it waits is not in the scope. */
export async function scoped<T>(device: GPUDevice, filter: GPUErrorFilter, make: () => T | Promise<T>): Promise<Scoped<T>> {
  device.pushErrorScope(filter);
  // As a promise, so that what throws at once does not leave the scope open.
  const making = Promise.allSettled([(async () => make())()]);
  const fault = await device.popErrorScope();
  const [done] = await making;
  return { done, fault };
}

/** Makes device objects of what an engine holds; what the device refuses is this engine's fault. Throws TsrtError ENGINE_INVALID. */
export async function validated<T>(device: GPUDevice, make: () => T | Promise<T>): Promise<T> {
  const { done, fault } = await scoped(device, 'validation', make);
  if (!fault && done.status === 'fulfilled') return done.value;
  const cause: unknown = fault ?? (done.status === 'rejected' ? done.reason : undefined);
  const { message } = cause as { readonly message: string };
  throw new TsrtError('ENGINE_INVALID', `the device refuses the engine's kernels: ${message}`, { fix: 'build the engine again, on this device', cause });
}

/** Makes buffers, or what holds some; none stays where there is no memory for all. `purpose` goes before the device's words. Throws TsrtError OUT_OF_MEMORY. */
export async function allocated<T extends { destroy(): void }>(device: GPUDevice, neededBytes: number, make: () => readonly T[], purpose = ''): Promise<readonly T[]> {
  const { done, fault } = await scoped(device, 'out-of-memory', make);
  if (done.status === 'rejected') throw done.reason;
  if (!fault) return done.value;
  for (const made of done.value) made.destroy();
  throw outOfMemory(neededBytes, `${purpose}${fault.message}`);
}
