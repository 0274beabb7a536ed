/**
 * Device time per layer, from timestamp queries around every step. Passes of their own cost a little between kernels, so the
 * sum is above the time of one unprofiled execution; each kernel's own time is not changed by it.
 */
import type { LayerTime } from '../backend.ts';
import { encodeDispatch, encodeTransfer } from './encode.ts';
import { type ReadyStep, USAGE } from './resources.ts';

/** WebGPU's bound for one query set is 4096 queries; each dispatch takes two. */
const DISPATCHES_PER_SET = 2048;

/** Executes the steps once and sums the time of each layer's dispatches, in layer order. */
export async function profileSteps(
  device: GPUDevice,
  steps: readonly ReadyStep[],
  buffers: readonly GPUBuffer[],
  layers: readonly string[],
): Promise<LayerTime[]> {
  const totals = layers.map(() => 0);
  for (let from = 0; from < steps.length; from += DISPATCHES_PER_SET) {
    const part = steps.slice(from, from + DISPATCHES_PER_SET);
    const stamps = await timeSteps(device, part, buffers);
    for (const [i, step] of part.entries()) totals[step.layer]! += Number(stamps[2 * i + 1]! - stamps[2 * i]!);
  }
  return layers.map((layer, i) => ({ layer, durationNs: totals[i]! }));
}

/** Begin and end of every step in nanoseconds; transfers have none and give zeros. */
async function timeSteps(device: GPUDevice, steps: readonly ReadyStep[], buffers: readonly GPUBuffer[]): Promise<BigUint64Array> {
  const count = 2 * steps.length;
  const querySet = device.createQuerySet({ type: 'timestamp', count });
  const resolved = device.createBuffer({ size: count * 8, usage: USAGE.queryResolve | USAGE.copySrc });
  const readback = device.createBuffer({ size: count * 8, usage: USAGE.mapRead | USAGE.copyDst });
  try {
    const encoder = device.createCommandEncoder();
    for (const [i, step] of steps.entries()) {
      if (step.kind !== 'dispatch') {
        encodeTransfer(encoder, step, buffers);
        continue;
      }
      const timestampWrites = { querySet, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 };
      const pass = encoder.beginComputePass({ timestampWrites });
      encodeDispatch(pass, step);
      pass.end();
    }
    encoder.resolveQuerySet(querySet, 0, count, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, readback, 0, count * 8);
    device.queue.submit([encoder.finish()]);
    await readback.mapAsync(USAGE.mapRead);
    return new BigUint64Array(readback.getMappedRange().slice(0));
  } finally {
    readback.destroy();
    resolved.destroy();
    querySet.destroy();
  }
}
