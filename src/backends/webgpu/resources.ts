/**
 * What a plan needs on a device: buffers with their weights, pipelines, bind groups. Made once per session.
 */
import type { Access, Plan, PlanBuffer, PlanStep } from '../../engine/plan.ts';
import type { LoadSteps } from '../backend.ts';
import type { WebgpuDevice } from './device.ts';
import { checkFits, sessionBytes } from './fits.ts';
import { allocated, validated } from './scopes.ts';

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

/** Steps and the buffers that they work on, by index in the plan. */
export interface Bound {
  readonly buffers: readonly GPUBuffer[];
  readonly steps: readonly ReadyStep[];
}

export interface Resources extends Bound {
  readonly bytes: number;
  readonly loadSteps: LoadSteps;
  /** The same steps on other buffers in place of some; all that is not bound anew is shared. */
  rebound(replaced: ReadonlyMap<number, GPUBuffer>): Promise<Bound>;
  destroy(): void;
}

/** `GPUBufferUsage` and `GPUShaderStage`, written out: in Node the globals exist only once Dawn is loaded. */
export const USAGE = { mapRead: 0x1, mapWrite: 0x2, copySrc: 0x4, copyDst: 0x8, storage: 0x80, queryResolve: 0x200 } as const;
const COMPUTE_STAGE = 0x4;

/** One upload; larger weights go in several, so that the driver's staging memory stays small. */
const UPLOAD_BYTES = 16 * 2 ** 20;

/** `parts` are the engine's. Throws TsrtError OUT_OF_MEMORY where the device can't hold the plan, DEVICE_LOST where it goes away meanwhile. */
export async function createResources(open: WebgpuDevice, plan: Plan, parts: ReadonlyMap<string, Uint8Array>): Promise<Resources> {
  const { device } = open;
  open.check();
  checkFits(plan, open.profile);
  const startMs = performance.now();
  const buffers = await allocated(device, sessionBytes(plan), () =>
    plan.buffers.map((buffer, i) => device.createBuffer({ label: `${buffer.kind} ${i}`, size: buffer.bytes, usage: USAGE.storage | USAGE.copySrc | USAGE.copyDst })),
  );
  const destroy = (): void => buffers.forEach((buffer) => buffer.destroy());
  try {
    uploadWeights(device, plan, buffers, parts);
    const uploadedMs = performance.now();
    const binder = await createBinder(device, plan);
    const steps = await validated(device, () => plan.steps.map((step) => binder(step, buffers)));
    const rebound = async (replaced: ReadonlyMap<number, GPUBuffer>): Promise<Bound> => {
      const other = buffers.map((buffer, i) => replaced.get(i) ?? buffer);
      const touches = (step: PlanStep): boolean => step.kind === 'dispatch' && step.bindings.some(({ buffer }) => replaced.has(buffer));
      return { buffers: other, steps: await validated(device, () => plan.steps.map((step, i) => (touches(step) ? binder(step, other) : steps[i]!))) };
    };
    const loadSteps = { uploadMs: uploadedMs - startMs, pipelinesMs: performance.now() - uploadedMs };
    return { buffers, steps, rebound, bytes: plan.buffers.reduce((sum, buffer) => sum + buffer.bytes, 0), loadSteps, destroy };
  } catch (error) {
    destroy();
    open.check();
    throw error;
  }
}

function uploadWeights(device: GPUDevice, plan: Plan, buffers: readonly GPUBuffer[], parts: ReadonlyMap<string, Uint8Array>): void {
  for (const [i, buffer] of plan.buffers.entries()) {
    if (buffer.kind !== 'weights') continue;
    const weights = parts.get(buffer.part) as Uint8Array<ArrayBuffer>;
    for (let at = 0; at < buffer.bytes; at += UPLOAD_BYTES) {
      const length = Math.min(UPLOAD_BYTES, buffer.bytes - at);
      device.queue.writeBuffer(buffers[i]!, at, weights, at, length);
    }
  }
}

/** Gives a step its device objects, on the buffers given. */
type Binder = (step: PlanStep, buffers: readonly GPUBuffer[]) => ReadyStep;

async function createBinder(device: GPUDevice, plan: Plan): Promise<Binder> {
  const layouts = new Map<string, GPUBindGroupLayout>();
  const layoutOf = (access: readonly Access[]): GPUBindGroupLayout => {
    const key = access.join();
    const known = layouts.get(key) ?? createLayout(device, access);
    layouts.set(key, known);
    return known;
  };
  const pipelines = await validated(device, () =>
    Promise.all(
      plan.shaders.map((shader) =>
        device.createComputePipelineAsync({
          label: shader.label,
          layout: device.createPipelineLayout({ bindGroupLayouts: [layoutOf(shader.access)] }),
          compute: { module: device.createShaderModule({ label: shader.label, code: shader.wgsl }), entryPoint: 'main' },
        }),
      ),
    ),
  );
  return (step, buffers) => {
    if (step.kind !== 'dispatch') return step;
    const group = device.createBindGroup({
      layout: layoutOf(plan.shaders[step.shader]!.access),
      entries: step.bindings.map(({ buffer, offset, bytes }, binding) => ({
        binding,
        resource: { buffer: buffers[buffer]!, offset, size: bytes },
      })),
    });
    return { kind: 'dispatch', pipeline: pipelines[step.shader]!, group, workgroups: step.workgroups, layer: step.layer };
  };
}

export function createLayout(device: GPUDevice, access: readonly Access[]): GPUBindGroupLayout {
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
