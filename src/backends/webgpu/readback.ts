/** One slot of the readback ring: mappable copies of the outputs, and the commands that fill them. */
import type { Plan } from '../../engine/plan.ts';
import type { Tensor } from '../../ir/tensor.ts';
import type { TensorMap } from '../backend.ts';
import { USAGE } from './resources.ts';
import { fromDevice, readbackBytes } from './transfer.ts';

export interface Readback {
  readonly bytes: number;
  /** Commands that copy the outputs here; to be submitted after those that compute them. */
  encode(): GPUCommandBuffer;
  /** Waits for the copy and returns the outputs. */
  read(): Promise<TensorMap>;
  destroy(): void;
}

/** Offsets of copies and mapped ranges are multiples of 8; sizes of bindings are multiples of 16. */
export function createReadback(device: GPUDevice, plan: Plan, buffers: readonly GPUBuffer[]): Readback {
  let bytes = 0;
  const places = plan.outputs.map((binding) => {
    const offset = bytes;
    bytes += readbackBytes(binding);
    return { binding, offset };
  });
  const staging = device.createBuffer({ label: 'readback', size: Math.max(16, bytes), usage: USAGE.mapRead | USAGE.copyDst });
  return {
    bytes,
    encode() {
      const encoder = device.createCommandEncoder();
      for (const { binding, offset } of places) {
        encoder.copyBufferToBuffer(buffers[binding.buffer]!, 0, staging, offset, readbackBytes(binding));
      }
      return encoder.finish();
    },
    async read() {
      await staging.mapAsync(USAGE.mapRead);
      const mapped = staging.getMappedRange();
      const outputs = places.map(({ binding, offset }): [string, Tensor] => [
        binding.name,
        fromDevice(binding, mapped.slice(offset, offset + readbackBytes(binding))),
      ]);
      staging.unmap();
      return Object.fromEntries(outputs);
    },
    destroy: () => staging.destroy(),
  };
}
