/** The tuner's device: pipelines, operands and a stopwatch on a WebGPU device that was opened for the purpose. */
import { availableParallelism } from 'node:os';
import { TsrtError } from '../../../errors.ts';
import type { Access } from '../../../engine/plan.ts';
import type { WebgpuDevice } from '../device.ts';
import { createLayout } from '../resources.ts';
import { scoped } from '../scopes.ts';
import { ClockWatch } from './clocks.ts';
import type { Clocks, Ready, Rules, Runs, TuningDevice } from './measure.ts';
import { OperandPool } from './operands.ts';
import type { TimedCandidate, TimedKernel } from './problems.ts';
import { createStopwatch, type Stopwatch, type Stretch } from './stopwatch.ts';

/** By timestamps, a few repetitions average out what one execution catches; by the wall clock there must be enough to hide the submit. */
const GPU_RULES: Rules = { rounds: 7, targetNs: 1e6, minRepetitions: 3, maxRepetitions: 200, lookahead: 64 };
const WALL_RULES: Rules = { ...GPU_RULES, targetNs: 5e6, minRepetitions: 20, lookahead: 0 };
/** Whole networks take longer, and differ by less. */
const NETWORK: Pick<Rules, 'rounds' | 'targetNs' | 'minRepetitions'> = { rounds: 9, targetNs: 8e6, minRepetitions: 1 };
/** Software compiles and runs on the same cores, so that nothing is compiled while something is timed. */
const SOFTWARE_RULES: Rules = { rounds: 2, targetNs: 2e6, minRepetitions: 1, maxRepetitions: 20, lookahead: 0 };

/** Chains of multiply-adds on every unit of a large GPU: what shows its clock. */
const BURN = `
@group(0) @binding(0) var<storage, read_write> out: array<f32, 262144>;
@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  var a = vec4<f32>(f32(id.x & 255u));
  for (var step = 0u; step < 1024u; step += 1u) {
    a = a * 0.999 + vec4<f32>(0.5, 0.25, 0.125, 1.0);
  }
  out[id.x] = a.x + a.y + a.z + a.w;
}
`;
const BURN_KERNEL: TimedKernel = {
  label: 'burn',
  wgsl: BURN,
  access: ['read_write'],
  workgroups: [1024, 1, 1],
  operands: [{ tensor: 0, constant: false, storage: 'f32', bytes: 262144 * 4 }],
};
/** More than the second-level cache of a large GPU holds. */
const COLD_BYTES = 96 * 2 ** 20;
/** A batch of the workload; a few milliseconds on a large GPU. */
const BURN_REPETITIONS = 32;
/** No proof after so long: there is none to be had. */
const GIVE_UP_MS = 5000;

interface ReadyKernels extends Ready {
  readonly pipelines: readonly GPUComputePipeline[];
}

/** Takes the device over: it is closed with what is returned. */
export async function createTuningDevice(open: WebgpuDevice): Promise<TuningDevice> {
  const made = new GpuTuningDevice(open);
  try {
    await made.start();
    return made;
  } catch (error) {
    made.destroy();
    throw error;
  }
}

class GpuTuningDevice implements TuningDevice {
  readonly #open: WebgpuDevice;
  readonly #pool: OperandPool;
  readonly #groups = new Map<string, readonly (readonly GPUBindGroup[])[]>();
  readonly #layouts = new Map<string, GPUBindGroupLayout>();
  readonly #pipelines = new Map<string, Promise<GPUComputePipeline>>();
  readonly #slots = new Slots(Math.min(16, availableParallelism()));
  readonly #clock = new ClockWatch();
  #stopwatch: Stopwatch | undefined;
  #burn: ReadyKernels | undefined;

  constructor(open: WebgpuDevice) {
    this.#open = open;
    this.#pool = new OperandPool(open.device, open.info.kind === 'gpu' ? COLD_BYTES : 0);
  }

  get rules(): Rules {
    if (this.#open.info.kind !== 'gpu') return SOFTWARE_RULES;
    return this.#stopwatch?.kind === 'wall' ? WALL_RULES : GPU_RULES;
  }

  get networkRules(): Rules {
    return { ...this.rules, ...NETWORK };
  }

  get quantumNs(): number {
    return this.#stopwatch!.quantumNs;
  }

  async start(): Promise<void> {
    this.#burn = await this.prepare({ hash: 'burn', kernels: [BURN_KERNEL] });
    await this.#pool.reserve([this.#burn.candidate]);
    this.#stopwatch = await createStopwatch(this.#open.device, this.#stretch({ ready: this.#burn, repetitions: 0 }));
    this.check();
  }

  async prepare(candidate: TimedCandidate): Promise<ReadyKernels> {
    this.#checkLimits(candidate);
    return { candidate, pipelines: await Promise.all(candidate.kernels.map((kernel) => this.#pipeline(kernel))) };
  }

  async round(runs: readonly Runs[]): Promise<readonly number[]> {
    if (await this.#pool.reserve(runs.map(({ ready }) => ready.candidate))) this.#groups.clear();
    const startMs = performance.now();
    const times = await this.#bound(() => this.#time(runs.map((run) => this.#stretch(run))));
    this.#clock.observe(startMs, performance.now());
    return times.map((ns, i) => ns / runs[i]!.repetitions);
  }

  async warmUp(until: Promise<unknown>, enough?: AbortSignal): Promise<Clocks> {
    let settledAt: number | undefined;
    const settle = (): void => {
      settledAt ??= performance.now();
    };
    const settling = until.then(settle, settle);
    if (this.#open.info.kind !== 'gpu') {
      await Promise.race([settling, aborted(enough)]);
      return 'software';
    }
    for (;;) {
      await this.#batch();
      const now = performance.now();
      if (enough?.aborted) return 'unproven';
      if (settledAt === undefined) continue;
      if (this.#clock.isProven(now)) return 'proven';
      if (now - settledAt > GIVE_UP_MS) return 'unproven';
    }
  }

  async holds(): Promise<boolean> {
    return this.#open.info.kind !== 'gpu' || this.#clock.holds(await this.#batch());
  }

  check(): void {
    try {
      this.#open.check();
    } catch (error) {
      if (error instanceof TsrtError) throw error;
      throw new TsrtError('BACKEND_FAILED', error instanceof Error ? error.message : String(error), { cause: error });
    }
  }

  destroy(): void {
    this.#stopwatch?.destroy();
    this.#pool.destroy();
    this.#open.destroy();
  }

  /** One batch of the workload, seen by the clock's watch. */
  async #batch(): Promise<number> {
    const run = { ready: this.#burn!, repetitions: BURN_REPETITIONS };
    const startMs = performance.now();
    const [ns = 0] = await this.#time([this.#stretch(run)]);
    this.#clock.observe(startMs, performance.now(), ns);
    return ns;
  }

  /** A plan with such operands would be refused when it is loaded. */
  #checkLimits({ kernels }: TimedCandidate): void {
    const { maxBindingBytes, maxBufferBytes } = this.#open.profile;
    const [most, allowed] = [Math.max(...kernels.flatMap(({ operands }) => operands.map(({ bytes }) => bytes))), Math.min(maxBindingBytes, maxBufferBytes)];
    if (most > allowed) throw new Error(`it needs ${most} bytes in one binding, and the device allows ${allowed}`);
  }

  /** What the device refuses while kernels are bound ends their measurement, not the device. Throws TsrtError BACKEND_FAILED. */
  async #bound<T>(work: () => Promise<T>): Promise<T> {
    const { done, fault } = await scoped(this.#open.device, 'validation', work);
    if (fault) throw new TsrtError('BACKEND_FAILED', `the device refuses to run the kernels: ${fault.message.split('\n', 1)[0]}`);
    if (done.status === 'rejected') throw done.reason;
    return done.value;
  }

  /** A device that fails here fails for good. */
  async #time(stretches: readonly Stretch[]): Promise<number[]> {
    try {
      return await this.#stopwatch!.time(stretches);
    } catch (error) {
      this.check();
      throw new TsrtError('BACKEND_FAILED', `the device failed while kernels were timed: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
    } finally {
      this.check();
    }
  }

  #stretch({ ready, repetitions }: Runs): Stretch {
    const { candidate, pipelines } = ready as ReadyKernels;
    const groups = this.#groupsOf(candidate);
    return (pass) => {
      for (let i = 0; i < repetitions; i++) {
        for (const [at, { workgroups }] of candidate.kernels.entries()) {
          const copies = groups[at]!;
          if (i === 0 || pipelines.length > 1) pass.setPipeline(pipelines[at]!);
          if (i === 0 || pipelines.length > 1 || copies.length > 1) pass.setBindGroup(0, copies[i % copies.length]!);
          pass.dispatchWorkgroups(...workgroups);
        }
      }
    };
  }

  /** Bind groups of each kernel, in the order in which repetitions take them. */
  #groupsOf(candidate: TimedCandidate): readonly (readonly GPUBindGroup[])[] {
    const known = this.#groups.get(candidate.hash);
    if (known) return known;
    const made = this.#pool
      .bindings(candidate, this.rules.maxRepetitions)
      .map((copies, i) => copies.map((entries) => this.#open.device.createBindGroup({ layout: this.#layout(candidate.kernels[i]!.access), entries })));
    this.#groups.set(candidate.hash, made);
    return made;
  }

  #pipeline(kernel: TimedKernel): Promise<GPUComputePipeline> {
    const known = this.#pipelines.get(kernel.wgsl);
    if (known) return known;
    const made = this.#slots.run(() => this.#compile(kernel));
    this.#pipelines.set(kernel.wgsl, made);
    return made;
  }

  /** What the device refuses is this kernel's fault alone. */
  async #compile({ label, wgsl, access }: TimedKernel): Promise<GPUComputePipeline> {
    const { device } = this.#open;
    const { done, fault } = await scoped(device, 'validation', () =>
      device.createComputePipelineAsync({
        label,
        layout: device.createPipelineLayout({ bindGroupLayouts: [this.#layout(access)] }),
        compute: { module: device.createShaderModule({ label, code: wgsl }), entryPoint: 'main' },
      }),
    );
    if (fault) throw new Error(fault.message);
    if (done.status === 'rejected') throw done.reason;
    return done.value;
  }

  #layout(access: readonly Access[]): GPUBindGroupLayout {
    const key = access.join();
    const known = this.#layouts.get(key) ?? createLayout(this.#open.device, access);
    this.#layouts.set(key, known);
    return known;
  }
}

/** Resolves when the signal is aborted. */
function aborted(signal: AbortSignal | undefined): Promise<void> {
  if (signal?.aborted) return Promise.resolve();
  return new Promise((resolve) => signal?.addEventListener('abort', () => resolve(), { once: true }));
}

/** At most so many at once; the others wait in order. */
class Slots {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free++;
    }
  }
}
