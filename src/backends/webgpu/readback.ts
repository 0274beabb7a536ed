/** One slot of the readback ring: mappable copies of the outputs, and the commands that fill them. */
import { bindingBytes, type Plan } from '../../engine/plan.ts';
import type { Tensor } from '../../ir/tensor.ts';
import type { TensorMap } from '../backend.ts';
import { USAGE } from './resources.ts';
import { cutTo, fromDevice, storedBytes } from './transfer.ts';

/** A length is one i32, in a copy of the size that every buffer has at least. */
const LENGTH_BYTES = 16;

export interface Readback {
  readonly bytes: number;
  /** Commands that copy the outputs here; to be submitted once, after those that compute them. */
  take(): GPUCommandBuffer;
  /** Encodes what {@link take} gives next, while the device is busy. */
  keep(): void;
  /** Waits for the copy, and so for all that was submitted before, and returns the outputs. */
  read(): Promise<TensorMap>;
  destroy(): void;
}

/** Where a copy lies: in which of the buffers, and where in it. */
interface Place {
  readonly at: number;
  readonly offset: number;
  readonly bytes: number;
}

/** Puts copies into as few buffers as their greatest size allows. Sizes of bindings are multiples of 16, so that offsets are those of 8 that copies and mapped ranges ask for. */
class Places {
  /** Bytes of each buffer. */
  readonly sizes: number[] = [];
  readonly #most: number;

  constructor(most: number) {
    this.#most = most;
  }

  take(bytes: number): Place {
    const last = this.sizes.at(-1);
    if (last === undefined || last + bytes > this.#most) this.sizes.push(0);
    const at = this.sizes.length - 1;
    const offset = this.sizes[at]!;
    this.sizes[at] = offset + bytes;
    return { at, offset, bytes };
  }
}

/** Outputs that are larger together than the device allows a buffer to be (`maxBufferBytes`) are copied to several. */
export function createReadback(device: GPUDevice, plan: Pick<Plan, 'outputs'>, buffers: readonly GPUBuffer[], maxBufferBytes: number): Readback {
  const places = new Places(maxBufferBytes);
  const outputs = plan.outputs.map((binding) => ({ binding, place: places.take(bindingBytes(binding)), length: binding.length && { ...binding.length, place: places.take(LENGTH_BYTES) } }));
  const staging = places.sizes.map((size) => device.createBuffer({ label: 'readback', size, usage: USAGE.mapRead | USAGE.copyDst }));
  const encoded = (): GPUCommandBuffer => {
    const encoder = device.createCommandEncoder();
    const copy = (buffer: number, { at, offset, bytes }: Place): void => encoder.copyBufferToBuffer(buffers[buffer]!, 0, staging[at]!, offset, bytes);
    for (const { binding, place, length } of outputs) {
      copy(binding.buffer, place);
      if (length) copy(length.buffer, length.place);
    }
    return encoder.finish();
  };
  let spare: GPUCommandBuffer | undefined;
  return {
    bytes: places.sizes.reduce((sum, size) => sum + size, 0),
    take() {
      const commands = spare ?? encoded();
      spare = undefined;
      return commands;
    },
    keep() {
      spare ??= encoded();
    },
    async read() {
      // Who reads nothing waits all the same: requests in a row would otherwise pile up in the queue.
      if (staging.length === 0) await device.queue.onSubmittedWorkDone();
      await Promise.all(staging.map((buffer) => buffer.mapAsync(USAGE.mapRead)));
      const mapped = staging.map((buffer) => buffer.getMappedRange());
      const bytesAt = ({ at, offset }: Place, bytes: number): ArrayBuffer => mapped[at]!.slice(offset, offset + bytes);
      const read = outputs.map(({ binding, place, length }): [string, Tensor] => {
        const tensor = fromDevice(binding, bytesAt(place, storedBytes(binding)));
        return [binding.name, length ? cutTo(tensor, length.axis, new Int32Array(bytesAt(length.place, 4))[0]!) : tensor];
      });
      for (const buffer of staging) buffer.unmap();
      return Object.fromEntries(read);
    },
    destroy: () => staging.forEach((buffer) => buffer.destroy()),
  };
}
