/**
 * Time by the device's own clock, from timestamp queries.
 *
 * Of layers: passes of their own cost a little between kernels, so their sum is above the time of one unprofiled execution; each kernel's own
 * time is not changed by it. Of whole executions: in the passes that they have anyway.
 */
import type { LayerTime } from '../backend.ts';
import { encodeDispatch, encodeSteps, encodeTransfer, passesOf } from './encode.ts';
import { type Bound, type ReadyStep, USAGE } from './resources.ts';

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
    const times = await timeSteps(device, part, buffers);
    for (const [i, step] of part.entries()) totals[step.layer]! += times[i]!;
  }
  return layers.map((layer, i) => ({ layer, durationNs: totals[i]! }));
}

/** Nanoseconds of every step; transfers have no timestamps and give zeros. */
async function timeSteps(device: GPUDevice, steps: readonly ReadyStep[], buffers: readonly GPUBuffer[]): Promise<number[]> {
  const spans = await spansOf(device, steps.length, (encoder, writesOf) => {
    for (const [i, step] of steps.entries()) {
      if (step.kind !== 'dispatch') {
        encodeTransfer(encoder, step, buffers);
        continue;
      }
      const pass = encoder.beginComputePass({ timestampWrites: writesOf(i, true, true) });
      encodeDispatch(pass, step);
      pass.end();
    }
  });
  return spans.map(({ begin, end }) => Number(end - begin));
}

/**
 * Nanoseconds of each of some executions in a row, from the beginning of its first pass to the end of its last one; zeros where there are no
 * passes. A pass may say that it begins while the one before it still works (Vulkan's top of the pipe): what counts begins where that one ended.
 */
export async function timeExecutions(device: GPUDevice, { steps, buffers }: Bound, count: number): Promise<number[]> {
  const passes = passesOf(steps);
  const spans = await spansOf(device, count, (encoder, writesOf) => {
    for (let i = 0; i < count; i++) {
      let next = 0;
      encodeSteps(encoder, steps, buffers, 1, () => {
        const [first, last] = [next === 0, next === passes - 1];
        next++;
        return encoder.beginComputePass(first || last ? { timestampWrites: writesOf(i, first, last) } : undefined);
      });
    }
  });
  return spans.map(({ begin, end }, i) => Number(end - (i > 0 && spans[i - 1]!.end > begin ? spans[i - 1]!.end : begin)));
}

type WritesOf = (span: number, begins: boolean, ends: boolean) => GPUComputePassTimestampWrites;

/** When a span began and ended, in nanoseconds of the device's clock. */
interface Span {
  readonly begin: bigint;
  readonly end: bigint;
}

/** So many spans, of each of which `encode` lets a pass write the begin and the same or a later one the end. */
export async function spansOf(device: GPUDevice, spans: number, encode: (encoder: GPUCommandEncoder, writesOf: WritesOf) => void): Promise<Span[]> {
  const count = 2 * spans;
  const querySet = device.createQuerySet({ type: 'timestamp', count });
  const resolved = device.createBuffer({ size: count * 8, usage: USAGE.queryResolve | USAGE.copySrc });
  const readback = device.createBuffer({ size: count * 8, usage: USAGE.mapRead | USAGE.copyDst });
  try {
    const encoder = device.createCommandEncoder();
    encode(encoder, (span, begins, ends) => ({ querySet, ...(begins && { beginningOfPassWriteIndex: 2 * span }), ...(ends && { endOfPassWriteIndex: 2 * span + 1 }) }));
    encoder.resolveQuerySet(querySet, 0, count, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, readback, 0, count * 8);
    device.queue.submit([encoder.finish()]);
    await readback.mapAsync(USAGE.mapRead);
    const stamps = new BigUint64Array(readback.getMappedRange());
    return Array.from({ length: spans }, (_, i) => ({ begin: stamps[2 * i]!, end: stamps[2 * i + 1]! }));
  } finally {
    readback.destroy();
    resolved.destroy();
    querySet.destroy();
  }
}
