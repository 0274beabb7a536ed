/** Steps into command buffers: one compute pass, left only where a copy or clear demands it. */
import type { Bound, ReadyStep } from './resources.ts';

/** Parts in which an execution is submitted, how much each grows, and the fewest steps of the first one. */
const PARTS = 2;
const GROWTH = 4;
const FEWEST_STEPS = 4;

/**
 * Where the parts of an execution end; each has GROWTH times the steps of the one before. Dawn records commands for the driver when they are
 * submitted (60 to 160 µs for ResNet-50 beside an NVIDIA H200, up to a third of what the device takes at batch 1), so that the device begins with
 * a short part while the rest is recorded. A step takes the device longer than its recording takes the processor, but not more than about
 * four times as long: a shorter first part would leave the device idle after it. Of more parts the device has no use, and each takes the processor 10 to
 * 30 µs (`bench/submit.mjs`).
 */
export function partEnds(steps: number, parts = PARTS, growth = GROWTH): number[] {
  const whole = growth ** parts - 1;
  if (steps < (FEWEST_STEPS * whole) / (growth - 1)) return [steps];
  return Array.from({ length: parts }, (_, i) => Math.round((steps * (growth ** (i + 1) - 1)) / whole));
}

/** Executions in a row, as command buffers that are to be submitted one by one: the first execution's parts, then all others. */
export function encodeExecutions(device: GPUDevice, { steps, buffers }: Bound, count: number, ends = partEnds(steps.length)): GPUCommandBuffer[] {
  const commands = ends.map((end, i) => encoded(device, steps.slice(ends[i - 1] ?? 0, end), buffers, 1));
  return count > 1 ? [...commands, encoded(device, steps, buffers, count - 1)] : commands;
}

function encoded(device: GPUDevice, steps: readonly ReadyStep[], buffers: readonly GPUBuffer[], count: number): GPUCommandBuffer {
  const encoder = device.createCommandEncoder();
  encodeSteps(encoder, steps, buffers, count);
  return encoder.finish();
}

/** Executions in a row; `begin` opens each of the passes that {@link passesOf} counts in the steps of all of them: a pass goes on into the next execution. */
export function encodeSteps(encoder: GPUCommandEncoder, steps: readonly ReadyStep[], buffers: readonly GPUBuffer[], count: number, begin = () => encoder.beginComputePass()): void {
  let pass: GPUComputePassEncoder | undefined;
  const leavePass = (): void => {
    pass?.end();
    pass = undefined;
  };
  for (let i = 0; i < count; i++) {
    for (const step of steps) {
      if (step.kind === 'dispatch') {
        pass ??= begin();
        encodeDispatch(pass, step);
      } else {
        leavePass();
        encodeTransfer(encoder, step, buffers);
      }
    }
  }
  leavePass();
}

/** Compute passes of one execution: copies and clears stand between them. */
export function passesOf(steps: readonly ReadyStep[]): number {
  return steps.filter(({ kind }, i) => kind === 'dispatch' && steps[i - 1]?.kind !== 'dispatch').length;
}

export function encodeDispatch(pass: GPUComputePassEncoder, step: Extract<ReadyStep, { kind: 'dispatch' }>): void {
  pass.setPipeline(step.pipeline);
  pass.setBindGroup(0, step.group);
  const [x, y, z] = step.workgroups;
  // Arguments left away are cheaper: Dawn's binding takes each of them apart.
  if (y === 1 && z === 1) pass.dispatchWorkgroups(x);
  else pass.dispatchWorkgroups(x, y, z);
}

export function encodeTransfer(
  encoder: GPUCommandEncoder,
  step: Exclude<ReadyStep, { kind: 'dispatch' }>,
  buffers: readonly GPUBuffer[],
): void {
  switch (step.kind) {
    case 'copy':
      encoder.copyBufferToBuffer(buffers[step.from.buffer]!, step.from.offset, buffers[step.to.buffer]!, step.to.offset, step.to.bytes);
      return;
    case 'clear':
      encoder.clearBuffer(buffers[step.range.buffer]!, step.range.offset, step.range.bytes);
      return;
    default:
      step satisfies never;
  }
}
