/**
 * What a device reaches: memory traffic of a plain copy, arithmetic of chains in registers, and the time of an empty kernel.
 *
 * Peak numbers of data sheets hold for other clocks and other instructions than WebGPU can issue; these are what a kernel of ours
 * could reach on this card today. Prior art: Williams, Waterman and Patterson, "Roofline" (2009); ERT, the Empirical Roofline Toolkit.
 */
import { TsrtError } from '../../errors.ts';
import type { DevicePeaks } from '../backend.ts';
import type { WebgpuDevice } from './device.ts';
import { type Arithmetic, arithmetics, COPY_PER_THREAD, copyKernel, EMPTY_KERNEL, GROUP } from './peak-kernels.ts';
import { USAGE } from './resources.ts';
import { allocated } from './scopes.ts';
import { createStopwatch, type Stopwatch, type Stretch } from './tune/stopwatch.ts';

/** Larger than the caches of the largest devices; software adapters have none of their own, and take long. */
const COPY_BYTES = { gpu: 2 ** 28, cpu: 2 ** 24, fake: 2 ** 20 } as const;
/** Where a session left less memory, a copy is good enough whose two sides together are still twice an H200's second-level cache (50 MB). */
const LEAST_COPY_BYTES = 2 ** 26;
/** A stretch lasts at least so long, or is as large as can be. */
const LONG_NS = 2e6;
const MOST_GROUPS = 2 ** 15;
const REPEATS = 5;
/** A GPU that idled, and be it while kernels compiled, takes a third of a second of work until its clock is up. */
const WARM_MS = { gpu: 400, cpu: 0, fake: 0 } as const;
const WARM_STRETCHES = 32;

interface Bench {
  readonly device: GPUDevice;
  readonly stopwatch: Stopwatch;
  /** Makes a kernel ready on buffers of these sizes. */
  ready(wgsl: string, bytes: readonly number[]): Promise<(groups: number) => Stretch>;
}

/** Rejects with the device's errors, and TsrtError OUT_OF_MEMORY where it has no room for the copy. */
export async function measurePeaks({ device, profile, info }: WebgpuDevice): Promise<DevicePeaks> {
  const buffers: GPUBuffer[] = [];
  const ready: Bench['ready'] = async (wgsl, bytes) => {
    const pipeline = await device.createComputePipelineAsync({ label: 'peak', layout: 'auto', compute: { module: device.createShaderModule({ code: wgsl }), entryPoint: 'main' } });
    const make = (): GPUBuffer[] => bytes.map((size) => device.createBuffer({ label: 'peak', size, usage: USAGE.storage }));
    const own = await allocated(device, bytes.reduce((sum, size) => sum + size, 0), make, 'for measuring what the device reaches: ');
    buffers.push(...own);
    const group = own.length > 0 ? device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries: own.map((buffer, binding) => ({ binding, resource: { buffer } })) }) : undefined;
    return (groups) => (pass) => {
      pass.setPipeline(pipeline);
      if (group) pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(groups);
    };
  };
  const empty = await ready(EMPTY_KERNEL, []);
  const stopwatch = await createStopwatch(device, empty(1));
  const bench: Bench = { device, stopwatch, ready };
  try {
    const copy = await copyOf(bench, Math.min(COPY_BYTES[info.kind], profile.maxBufferBytes, profile.maxBindingBytes));
    const kernels = await Promise.all(arithmetics(profile).map(async (arithmetic) => ({ arithmetic, kernel: await ready(arithmetic.wgsl, [16 * GROUP]) })));
    await keepBusy(bench, copy.stretch, WARM_MS[info.kind]);
    const launchNs = await least(bench, empty(1));
    const bytesPerSecond = (copy.bytes * 1e9) / (await least(bench, copy.stretch));
    const operationsPerSecond: Partial<Record<Arithmetic['type'], number>> = {};
    for (const { arithmetic, kernel } of kernels) {
      const rate = await arithmeticRate(bench, arithmetic, kernel);
      operationsPerSecond[arithmetic.type] = Math.max(operationsPerSecond[arithmetic.type] ?? 0, rate);
    }
    return { bytesPerSecond, operationsPerSecond, launchNs, quantumNs: stopwatch.quantumNs };
  } finally {
    stopwatch.destroy();
    for (const buffer of buffers) buffer.destroy();
  }
}

/** Least of several times; never less than the clock can tell. */
async function least({ stopwatch }: Bench, stretch: Stretch): Promise<number> {
  const times = await stopwatch.time(Array.from({ length: REPEATS }, () => stretch));
  return Math.max(stopwatch.quantumNs, Math.min(...times));
}

async function keepBusy({ stopwatch }: Bench, stretch: Stretch, ms: number): Promise<void> {
  const end = performance.now() + ms;
  while (performance.now() < end) await stopwatch.time(Array.from({ length: WARM_STRETCHES }, () => stretch));
}

/** A copy of so many bytes, or of fewer where there is no memory for them, and the traffic that it makes. */
async function copyOf(bench: Bench, most: number): Promise<{ readonly stretch: Stretch; readonly bytes: number }> {
  const bytes = most - (most % (16 * GROUP * COPY_PER_THREAD));
  const vectors = bytes / 16;
  try {
    const kernel = await bench.ready(copyKernel(vectors), [bytes, bytes]);
    return { stretch: kernel(vectors / GROUP / COPY_PER_THREAD), bytes: 2 * bytes };
  } catch (error) {
    if (!(error instanceof TsrtError) || error.code !== 'OUT_OF_MEMORY' || bytes / 2 < LEAST_COPY_BYTES) throw error;
    return copyOf(bench, bytes / 2);
  }
}

/** Workgroups are doubled until there are enough for every unit of the device to be busy for a while. */
async function arithmeticRate(bench: Bench, { operationsPerGroup }: Arithmetic, kernel: (groups: number) => Stretch): Promise<number> {
  for (let groups = 16; ; groups *= 2) {
    const ns = await least(bench, kernel(groups));
    if (ns >= LONG_NS || groups >= MOST_GROUPS) return (operationsPerGroup * groups * 1e9) / ns;
  }
}
