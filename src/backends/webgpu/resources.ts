/**
 * What a plan needs on a device: buffers with their weights, pipelines, bind groups. Made once per session.
 */
import { TsrtError } from '../../errors.ts';
import type { Access, Plan, PlanBuffer, PlanStep } from '../../engine/plan.ts';
import type { WebgpuDevice } from './device.ts';

/** A step with its device objects. */
export type ReadyStep =
  | {
      readonly kind: 'dispatch';
      readonly pipeline: GPUComputePipeline;
      readonly group: GPUBindGroup;
      readonly workgroups: readonly [number, number, number];
      readonly layer: number;
    }
  | Exclude<PlanStep, { kind: 'dispatch' }>;

export interface Resources {
  readonly buffers: readonly GPUBuffer[];
  readonly steps: readonly ReadyStep[];
  readonly bytes: number;
  destroy(): void;
}

/** `GPUBufferUsage` and `GPUShaderStage`, written out: in Node the globals exist only once Dawn is loaded. */
export const USAGE = { mapRead: 0x1, copySrc: 0x4, copyDst: 0x8, storage: 0x80, queryResolve: 0x200 } as const;
const COMPUTE_STAGE = 0x4;

/** One upload; larger weights go in several, so that the driver's staging memory stays small. */
const UPLOAD_BYTES = 16 * 2 ** 20;

/** Throws TsrtError OUT_OF_MEMORY where the device can't hold the plan. */
export async function createResources(open: WebgpuDevice, plan: Plan, weights: Uint8Array): Promise<Resources> {
  const { device } = open;
  checkFits(open, plan);
  device.pushErrorScope('out-of-memory');
  const buffers = plan.buffers.map((buffer, i) =>
    device.createBuffer({ label: `${buffer.kind} ${i}`, size: buffer.bytes, usage: USAGE.storage | USAGE.copySrc | USAGE.copyDst }),
  );
  const destroy = (): void => buffers.forEach((buffer) => buffer.destroy());
  const exhausted = await device.popErrorScope();
  if (exhausted) {
    destroy();
    throw outOfMemory(plan, exhausted.message);
  }
  try {
    uploadWeights(device, plan, buffers, weights);
    return { buffers, steps: await createSteps(device, plan, buffers), bytes: totalBytes(plan), destroy };
  } catch (error) {
    destroy();
    throw error;
  }
}

function totalBytes(plan: Plan): number {
  return plan.buffers.reduce((sum, buffer) => sum + buffer.bytes, 0);
}

function checkFits(open: WebgpuDevice, plan: Plan): void {
  const { maxBufferBytes, maxBindingBytes } = open.profile;
  const largest = Math.max(0, ...plan.buffers.map((buffer) => buffer.bytes));
  if (largest > maxBufferBytes) throw outOfMemory(plan, `one buffer of ${largest} bytes, and the device allows ${maxBufferBytes}`);
  for (const step of plan.steps) {
    if (step.kind !== 'dispatch') continue;
    const bound = Math.max(...step.bindings.map((range) => range.bytes));
    if (bound > maxBindingBytes) throw outOfMemory(plan, `one binding of ${bound} bytes, and the device allows ${maxBindingBytes}`);
  }
}

function outOfMemory(plan: Plan, reason: string): TsrtError {
  return new TsrtError('OUT_OF_MEMORY', `the engine needs ${totalBytes(plan)} bytes of device memory: ${reason}`, {
    fix: 'Build with a smaller batch, or dispose other sessions first.',
  });
}

function uploadWeights(device: GPUDevice, plan: Plan, buffers: readonly GPUBuffer[], weights: Uint8Array): void {
  for (const [i, buffer] of plan.buffers.entries()) {
    if (buffer.kind !== 'weights') continue;
    for (let at = 0; at < buffer.bytes; at += UPLOAD_BYTES) {
      const length = Math.min(UPLOAD_BYTES, buffer.bytes - at);
      device.queue.writeBuffer(buffers[i]!, at, weights as Uint8Array<ArrayBuffer>, buffer.offset + at, length);
    }
  }
}

async function createSteps(device: GPUDevice, plan: Plan, buffers: readonly GPUBuffer[]): Promise<ReadyStep[]> {
  const layouts = new Map<string, GPUBindGroupLayout>();
  const layoutOf = (access: readonly Access[]): GPUBindGroupLayout => {
    const key = access.join();
    const known = layouts.get(key) ?? createLayout(device, access);
    layouts.set(key, known);
    return known;
  };
  const pipelines = await Promise.all(
    plan.shaders.map((shader) =>
      device.createComputePipelineAsync({
        label: shader.label,
        layout: device.createPipelineLayout({ bindGroupLayouts: [layoutOf(shader.access)] }),
        compute: { module: device.createShaderModule({ label: shader.label, code: shader.wgsl }), entryPoint: 'main' },
      }),
    ),
  );
  return plan.steps.map((step): ReadyStep => {
    if (step.kind !== 'dispatch') return step;
    const group = device.createBindGroup({
      layout: layoutOf(plan.shaders[step.shader]!.access),
      entries: step.bindings.map(({ buffer, offset, bytes }, binding) => ({
        binding,
        resource: { buffer: buffers[buffer]!, offset, size: bytes },
      })),
    });
    return { kind: 'dispatch', pipeline: pipelines[step.shader]!, group, workgroups: step.workgroups, layer: step.layer };
  });
}

function createLayout(device: GPUDevice, access: readonly Access[]): GPUBindGroupLayout {
  return device.createBindGroupLayout({
    entries: access.map((kind, binding) => ({
      binding,
      visibility: COMPUTE_STAGE,
      buffer: { type: kind === 'read' ? 'read-only-storage' : 'storage' },
    })),
  });
}

/** Buffers of one kind, with their sizes, by index in the plan. */
export function buffersOf(plan: Plan, kind: PlanBuffer['kind']): number[] {
  return plan.buffers.flatMap((buffer, i) => (buffer.kind === kind ? [i] : []));
}
