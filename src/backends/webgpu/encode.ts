/** Steps into command buffers: one compute pass, left only where a copy or clear demands it. */
import type { ReadyStep } from './resources.ts';

export function encodeSteps(encoder: GPUCommandEncoder, steps: readonly ReadyStep[], buffers: readonly GPUBuffer[], count: number): void {
  let pass: GPUComputePassEncoder | undefined;
  const leavePass = (): void => {
    pass?.end();
    pass = undefined;
  };
  for (let i = 0; i < count; i++) {
    for (const step of steps) {
      if (step.kind === 'dispatch') {
        pass ??= encoder.beginComputePass();
        encodeDispatch(pass, step);
      } else {
        leavePass();
        encodeTransfer(encoder, step, buffers);
      }
    }
  }
  leavePass();
}

export function encodeDispatch(pass: GPUComputePassEncoder, step: Extract<ReadyStep, { kind: 'dispatch' }>): void {
  pass.setPipeline(step.pipeline);
  pass.setBindGroup(0, step.group);
  pass.dispatchWorkgroups(...step.workgroups);
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
