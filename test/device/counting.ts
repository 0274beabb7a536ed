/** A WebGPU device that counts the buffers and query sets made on it and not yet destroyed. */
import type { WebgpuDevice } from '../../src/backends/webgpu/device.ts';

export interface Counted {
  readonly open: WebgpuDevice;
  /** Objects alive. */
  live(): { readonly buffers: number; readonly bytes: number; readonly querySets: number };
  /** Bytes of the largest buffer alive. */
  largest(): number;
}

export function countingDevice(open: WebgpuDevice): Counted {
  const buffers = new Map<object, number>();
  const querySets = new Set<object>();
  const device = new Proxy(open.device, {
    get(target, key) {
      if (key === 'createBuffer') {
        return (descriptor: GPUBufferDescriptor) => tracked(target.createBuffer(descriptor), (buffer) => buffers.set(buffer, descriptor.size), (buffer) => buffers.delete(buffer));
      }
      if (key === 'createQuerySet') {
        return (descriptor: GPUQuerySetDescriptor) => tracked(target.createQuerySet(descriptor), (set) => querySets.add(set), (set) => querySets.delete(set));
      }
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
  return {
    open: { ...open, device },
    live: () => ({ buffers: buffers.size, bytes: [...buffers.values()].reduce((sum, bytes) => sum + bytes, 0), querySets: querySets.size }),
    largest: () => Math.max(0, ...buffers.values()),
  };
}

function tracked<T extends { destroy(): undefined }>(made: T, add: (made: T) => void, remove: (made: T) => void): T {
  add(made);
  const destroy = made.destroy.bind(made);
  Object.defineProperty(made, 'destroy', {
    value: () => {
      remove(made);
      destroy();
    },
  });
  return made;
}
