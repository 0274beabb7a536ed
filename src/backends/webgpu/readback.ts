/** One slot of the readback ring: mappable copies of the outputs, and the commands that fill them. */
import type { Plan } from '../../engine/plan.ts';
import type { Tensor } from '../../ir/tensor.ts';
import type { TensorMap } from '../backend.ts';
import { USAGE } from './resources.ts';
import { cutTo, fromDevice, readbackBytes } from './transfer.ts';

/** A length is one i32, in a copy of the size that every buffer has at least. */
const LENGTH_BYTES = 16;

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
  const take = (size: number): number => {
    bytes += size;
    return bytes - size;
  };
  const places = plan.outputs.map((binding) => ({ binding, offset: take(readbackBytes(binding)), lengthAt: binding.length && take(LENGTH_BYTES) }));
  const staging = device.createBuffer({ label: 'readback', size: Math.max(16, bytes), usage: USAGE.mapRead | USAGE.copyDst });
  return {
    bytes,
    encode() {
      const encoder = device.createCommandEncoder();
      for (const { binding, offset, lengthAt } of places) {
        encoder.copyBufferToBuffer(buffers[binding.buffer]!, 0, staging, offset, readbackBytes(binding));
        if (binding.length && lengthAt !== undefined) encoder.copyBufferToBuffer(buffers[binding.length.buffer]!, 0, staging, lengthAt, LENGTH_BYTES);
      }
      return encoder.finish();
    },
    async read() {
      await staging.mapAsync(USAGE.mapRead);
      const mapped = staging.getMappedRange();
      const outputs = places.map(({ binding, offset, lengthAt }): [string, Tensor] => {
        const tensor = fromDevice(binding, mapped.slice(offset, offset + readbackBytes(binding)));
        if (!binding.length || lengthAt === undefined) return [binding.name, tensor];
        return [binding.name, cutTo(tensor, binding.length.axis, new Int32Array(mapped, lengthAt, 1)[0]!)];
      });
      staging.unmap();
      return Object.fromEntries(outputs);
    },
    destroy: () => staging.destroy(),
  };
}
