/**
 * The way in of one request: mapped memory that the host writes and the device copies from.
 *
 * `writeBuffer` of a large input makes staging memory for that one call, and its pages are touched for the first time while the
 * data is copied: several times slower than a copy into memory that stays. So each request that can be under way has its own, mapped
 * again as soon as the device has read it; the host then writes the next request while the device computes. Small inputs go through
 * `writeBuffer`, which has a ring of its own for them.
 */
import { bindingBytes, isStaged, type Plan } from '../../engine/plan.ts';
import { USAGE } from './resources.ts';

/** Inputs in the device's types, in the plan's order. */
export type Inputs = readonly Uint8Array<ArrayBuffer>[];

export interface Upload {
  readonly bytes: number;
  /** Resolves when the memory can be written; undefined where it can be at once. */
  readonly busy: Promise<void> | undefined;
  /** Puts the inputs where the commands that it gives find them, to be submitted first. Not while {@link busy}. */
  write(inputs: Inputs): GPUCommandBuffer[];
  /** To be called when the commands were submitted. */
  reclaim(): void;
  destroy(): void;
}

export function createUpload(device: GPUDevice, plan: Plan, buffers: readonly GPUBuffer[]): Upload {
  const ways = plan.inputs.map((binding, i) => {
    const target = buffers[binding.buffer]!;
    if (!isStaged(binding)) return { i, target, staging: undefined };
    const size = bindingBytes(binding);
    return { i, target, staging: device.createBuffer({ label: 'upload', size, usage: USAGE.mapWrite | USAGE.copySrc, mappedAtCreation: true }) };
  });
  const staged = ways.flatMap(({ staging }) => staging ?? []);
  let busy: Promise<void> | undefined;
  return {
    bytes: staged.reduce((sum, { size }) => sum + size, 0),
    get busy() {
      return busy;
    },
    write(inputs) {
      const encoder = staged.length > 0 ? device.createCommandEncoder() : undefined;
      for (const { i, target, staging } of ways) {
        const data = inputs[i]!;
        if (data.byteLength === 0) continue;
        if (!staging) device.queue.writeBuffer(target, 0, data);
        else {
          new Uint8Array(staging.getMappedRange()).set(data);
          staging.unmap();
          encoder!.copyBufferToBuffer(staging, 0, target, 0, data.byteLength);
        }
      }
      return encoder ? [encoder.finish()] : [];
    },
    reclaim() {
      if (staged.length === 0) return;
      const remap = async (): Promise<void> => {
        await Promise.all(staged.map((staging) => staging.mapAsync(USAGE.mapWrite)));
        if (busy === mapping) busy = undefined;
      };
      const mapping = remap();
      // Whoever waits is told of a failure; a session that is disposed of waits for nothing.
      mapping.catch(() => undefined);
      busy = mapping;
    },
    destroy: () => staged.forEach((staging) => staging.destroy()),
  };
}
