/**
 * A session: an engine loaded on a device. It needs the engine and a WebGPU device, nothing of the compiler and nothing of
 * Node, so that it runs in a browser too.
 *
 * Requests share the activations: the queue runs in order, and what one request's kernels wrote is read before the next one's write.
 * What each request needs for itself lies in one of the plan's `streams` slots: memory to write large inputs into (upload.ts) and a copy
 * of the outputs to map (readback.ts). So the host prepares a request and reads another's answers while the device computes a third.
 * Arenas of their own would bring no more: Dawn orders accesses to a buffer by Vulkan barriers, which wait for all that was submitted
 * before of the same pipeline stage (TrackUsageAndGetResourceBarrier in its BufferVk.cpp), whatever buffer it worked on, and a device
 * has one queue. Independent requests become parallel work by a larger batch.
 */
import type { Binding, Engine } from '../../engine/engine.ts';
import { type Plan, type PlanBinding, PlanError, readPlan, stagingBytes, streamsOf } from '../../engine/plan.ts';
import { TsrtError } from '../../errors.ts';
import { formatType } from '../../ir/tensor.ts';
import type { DevicePeaks, DeviceYardstick, Execution, LayerTime, Loop, Session, TensorMap } from '../backend.ts';
import { quantile, sortSamples } from '../../stats/samples.ts';
import { checkInputs } from '../inputs.ts';
import { givenInputs } from '../loop.ts';
import type { WebgpuDevice } from './device.ts';
import { encodeExecutions, passesOf } from './encode.ts';
import { InputSet } from './input-set.ts';
import { carriedBindings, createLoop, createLoopMemory, type LoopMemory } from './loop.ts';
import { measurePeaks } from './peaks.ts';
import { createReadback, type Readback } from './readback.ts';
import { createResources, type Resources } from './resources.ts';
import { allocated, validated } from './scopes.ts';
import { profileSteps, timeExecutions } from './timestamps.ts';
import { trafficOf } from './traffic.ts';
import { toDevice } from './transfer.ts';
import { createUpload, type Inputs, type Upload } from './upload.ts';
import { createYardstick, type Yardstick } from './yardstick.ts';

/** Executions that `execute(count)` encodes before it submits them: the device works on some while the next are encoded. */
const MOST_AT_ONCE = 32;

/** Executions that are timed by the device's clock, at most, and how long together. */
const MOST_TIMED = 20;
const TIMED_NS = 50e6;

/** Loads an engine of the webgpu backend on a device. `release` is called once, after `dispose`. */
export async function createSession(engine: Engine, open: WebgpuDevice, release: () => void = () => undefined): Promise<Session> {
  const plan = checkPlan(engine);
  const resources = await createResources(open, plan, engine.parts);
  try {
    // Grids and ranges are looked at where commands are finished: beyond the device's limits they would be the device's error at the first request.
    await validated(open.device, () => encodeExecutions(open.device, resources, 1));
    return new WebgpuSession({ engine, open, plan, resources, slots: await createSlots(open, plan, resources.buffers) }, release);
  } catch (error) {
    resources.destroy();
    open.check();
    throw error;
  }
}

function checkPlan(engine: Engine): Plan {
  try {
    const plan = readPlan(engine.header.backendData, engine.parts);
    const { layers, inputs, outputs } = engine.header;
    if (plan.layerCount !== layers.length) throw new PlanError(`the plan has ${plan.layerCount} layers, the header ${layers.length}`);
    checkBindings('inputs', plan.inputs, inputs);
    checkBindings('outputs', plan.outputs, outputs);
    return plan;
  } catch (error) {
    if (!(error instanceof PlanError)) throw error;
    throw new TsrtError('ENGINE_INVALID', `the engine's plan is broken: ${error.message}`, {
      fix: 'build the engine again',
      cause: error,
    });
  }
}

function checkBindings(which: string, planned: readonly PlanBinding[], declared: readonly Binding[]): void {
  const form = (bindings: readonly Binding[]): string => bindings.map((binding) => `${binding.name} ${formatType(binding)}`).join(', ');
  if (form(planned) !== form(declared)) throw new PlanError(`the plan's ${which} are ${form(planned)}, the header's ${form(declared)}`);
}

/** What one request under way has for itself. */
interface Slot {
  readonly upload: Upload;
  readonly readback: Readback;
  destroy(): void;
}

/** Throws TsrtError OUT_OF_MEMORY. */
function createSlots({ device, profile }: WebgpuDevice, plan: Plan, buffers: readonly GPUBuffer[]): Promise<readonly Slot[]> {
  const slot = (): Slot => {
    const upload = createUpload(device, plan, buffers);
    const readback = createReadback(device, plan, buffers, profile.maxBufferBytes);
    return { upload, readback, destroy: () => [upload, readback].forEach((side) => side.destroy()) };
  };
  return allocated(device, stagingBytes(plan), () => Array.from({ length: streamsOf(plan) }, slot), 'for requests under way: ');
}

/** An engine with what it has on a device. */
interface Loaded {
  readonly engine: Engine;
  readonly open: WebgpuDevice;
  readonly plan: Plan;
  readonly resources: Resources;
  readonly slots: readonly Slot[];
}

class WebgpuSession implements Session {
  readonly header;
  readonly device;
  readonly inputs;
  readonly outputs;
  readonly memory;
  readonly loadSteps;
  readonly maxInFlight;
  readonly profile?: (inputs: TensorMap) => Promise<readonly LayerTime[]>;
  readonly deviceTime?: () => Promise<number | undefined>;
  readonly #open: WebgpuDevice;
  readonly #plan: Plan;
  readonly #resources: Resources;
  readonly #release: () => void;
  readonly #free: Slot[];
  readonly #waiting: ((slot: Slot) => void)[] = [];
  readonly #slots: readonly Slot[];
  /** On the plan's own buffers: for requests, and for the first of the executions that are prepared. */
  readonly #plain: InputSet;
  /** For further executions of other inputs. */
  readonly #sets = new Set<InputSet>();
  readonly #loops = new Set<LoopMemory>();
  /** Submits whose answers are waited for. */
  #underWay = 0;
  /** The last answer was waited for. Where the host is slower than the device, it can't use an early start, and pays for it. */
  #waits = true;
  #yardstick: Promise<Yardstick> | undefined;
  #peaks: Promise<DevicePeaks> | undefined;
  /** Measurements that have not ended: each submits several times, on buffers that `dispose` would take away. */
  readonly #measuring = new Set<Promise<unknown>>();
  /** Whose outputs the plan's buffers hold, once all that was submitted is done. */
  #computed: Inputs | undefined;
  #disposed = false;

  constructor({ engine, open, plan, resources, slots }: Loaded, release: () => void) {
    this.header = engine.header;
    this.device = open.info;
    this.inputs = engine.header.inputs;
    this.outputs = engine.header.outputs;
    this.memory = engine.header.memory;
    this.loadSteps = resources.loadSteps;
    this.#open = open;
    this.#plan = plan;
    this.#resources = resources;
    this.#release = release;
    this.maxInFlight = slots.length;
    this.#slots = slots;
    this.#free = [...slots];
    this.#plain = new InputSet(open.device, plan, resources);
    if (!open.profile.features.has('timestamp-query')) return;
    this.profile = (inputs) => this.#measure(() => this.#profile(inputs));
    if (passesOf(resources.steps) > 0) this.deviceTime = () => this.#measure(() => this.#deviceTime());
  }

  async run(inputs: TensorMap): Promise<TensorMap> {
    const converted = this.#convert(inputs);
    return this.#withSlot(async ({ upload, readback }) => {
      if (upload.busy) {
        await upload.busy;
        this.#check();
      }
      const commands = upload.write(converted);
      this.#plain.replaced(converted);
      this.#submit([...commands, ...this.#plain.take(1)], readback);
      this.#computed = converted;
      upload.reclaim();
      const outputs = this.#waitFor(readback.read());
      this.#plain.keep(1, this.#waits);
      readback.keep();
      return outputs;
    });
  }

  async prepare(inputs: TensorMap): Promise<Execution> {
    const set = await this.#setFor(inputs);
    const converted = set.inputs;
    set.makeResident(converted);
    let ended = false;
    const alive = (): void => {
      if (ended) throw new TsrtError('USAGE', 'the execution was disposed of', { fix: 'prepare the inputs again' });
    };
    return {
      execute: async (count) => {
        alive();
        await this.#execute(set, converted, count);
      },
      download: async () => {
        alive();
        return this.#withSlot(({ readback }) => {
          // Whatever ran since has the outputs in the same buffers.
          const again = this.#computed === converted ? [] : this.#compute(set, converted, 1);
          this.#submit(again, readback);
          return this.#waitFor(readback.read());
        });
      },
      dispose: async () => {
        if (!ended) this.#leave(set);
        ended = true;
      },
    };
  }

  async loop(carried: Readonly<Record<string, string>>, state: TensorMap): Promise<Loop | undefined> {
    this.#check();
    const pairs = carriedBindings(this.#plan, carried);
    if (!pairs) return undefined;
    const given = givenInputs(this, carried).map(({ name }) => this.#planned(name));
    const convert = (bindings: readonly PlanBinding[], tensors: TensorMap): Inputs => checkInputs(bindings, tensors).map((tensor, i) => toDevice(bindings[i]!, tensor));
    const first = convert(pairs.map(({ input }) => input), state);
    const memory = await createLoopMemory(this.#open, this.#plan, this.#resources, pairs);
    const release = (): void => {
      if (this.#loops.delete(memory)) memory.destroy();
    };
    this.#loops.add(memory);
    if (this.#disposed) release();
    this.#check();
    const { device, profile } = this.#open;
    return createLoop({
      device, memory, carried: pairs, first, given, release, maxBufferBytes: profile.maxBufferBytes, early: () => this.#waits,
      convert: (tensors) => {
        this.#check();
        return convert(given, tensors);
      },
      request: async (commands, from) => {
        this.#check();
        this.#computed = undefined;
        this.#submit(commands, from);
        try {
          const outputs = await this.#waitFor(from.read());
          this.#open.check();
          return outputs;
        } catch (error) {
          this.#check();
          throw error;
        }
      },
    });
  }

  yardstick(): Promise<DeviceYardstick> {
    return this.#measure(async () => {
      this.#yardstick ??= createYardstick(this.#open.device);
      return (await this.#yardstick).measure();
    });
  }

  peaks(): Promise<DevicePeaks> {
    return this.#measure(() => (this.#peaks ??= measurePeaks(this.#open)));
  }

  observeMemory() {
    const staging = this.#slots.reduce((sum, { upload, readback }) => sum + upload.bytes + readback.bytes, 0);
    const further = [...this.#sets, ...this.#loops].reduce((sum, { bytes }) => sum + bytes, 0);
    return { deviceBytes: this.#disposed ? 0 : this.#resources.bytes + staging + further };
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const slot of this.#slots) slot.destroy();
    // What is submitted on destroyed buffers is an error of the device's, which others may share.
    await Promise.allSettled(this.#measuring);
    for (const each of [...this.#sets, ...this.#loops]) each.destroy();
    (await this.#yardstick?.catch(() => undefined))?.destroy();
    this.#resources.destroy();
    this.#release();
  }

  /** The set that an execution of these inputs works on; theirs already, the plan's own, or a new one. */
  async #setFor(inputs: TensorMap): Promise<InputSet> {
    const same = [this.#plain, ...this.#sets].find((set) => set.users > 0 && set.source === inputs);
    if (same) {
      this.#check();
      same.users++;
      return same;
    }
    const converted = this.#convert(inputs);
    const isFree = this.#plain.users === 0;
    // Taken before anything is waited for.
    if (isFree) this.#plain.users = 1;
    const set = isFree ? this.#plain : await InputSet.create(this.#open.device, this.#plan, this.#resources);
    if (!isFree && !this.#disposed) this.#sets.add(set);
    else if (!isFree) set.destroy();
    this.#check();
    return Object.assign(set, { users: 1, source: inputs, inputs: converted });
  }

  /**
   * Each by itself, so that an idle device begins with one while the next is recorded; a busy one would gain nothing by it. Outputs are copied for
   * the host with the last.
   */
  #submit(commands: readonly GPUCommandBuffer[], readback?: Readback): void {
    const { queue } = this.#open.device;
    const early = this.#underWay > 0 ? [] : commands.slice(0, -1);
    for (const each of early) queue.submit([each]);
    queue.submit([...commands.slice(early.length), ...(readback ? [readback.take()] : [])]);
    this.#open.submitted?.();
  }

  /** Waits for what was submitted; until then the device is busy. */
  async #waitFor<T>(answer: Promise<T>): Promise<T> {
    this.#underWay++;
    try {
      return await answer;
    } finally {
      this.#underWay--;
      this.#waits = this.#open.answered?.() ?? true;
    }
  }

  #leave(set: InputSet): void {
    set.users--;
    if (set.users > 0) return;
    set.source = undefined;
    if (this.#sets.delete(set)) set.destroy();
  }

  /** Commands of executions in a row; what they compute is the outputs from then on. */
  #compute(set: InputSet, inputs: Inputs, count: number): readonly GPUCommandBuffer[] {
    set.makeResident(inputs);
    this.#computed = inputs;
    return set.take(count);
  }

  async #execute(set: InputSet, inputs: Inputs, count: number): Promise<void> {
    this.#check();
    const first = Math.min(count, MOST_AT_ONCE);
    this.#submit(this.#compute(set, inputs, first));
    for (let left = count - first; left > 0; left -= MOST_AT_ONCE) this.#submit(set.take(Math.min(left, MOST_AT_ONCE)));
    const done = this.#waitFor(this.#open.device.queue.onSubmittedWorkDone());
    set.keep(first, this.#waits);
    await done;
    this.#open.check();
  }

  /** The device's error, where there is one, is what it is about. */
  async #measure<T>(measure: () => Promise<T>): Promise<T> {
    this.#check();
    const measuring = measure();
    this.#measuring.add(measuring);
    try {
      return await measuring;
    } finally {
      this.#measuring.delete(measuring);
      this.#open.check();
    }
  }

  async #profile(inputs: TensorMap): Promise<readonly LayerTime[]> {
    const converted = this.#convert(inputs);
    this.#plain.makeResident(converted);
    this.#computed = converted;
    const { steps, buffers } = this.#resources;
    const times = await profileSteps(this.#open.device, steps, buffers, this.header.layers.map((layer) => layer.name));
    const traffic = trafficOf(this.#plan, this.header.layers);
    return times.map((time, i) => ({ ...time, bytes: traffic[i]! }));
  }

  async #deviceTime(): Promise<number | undefined> {
    // They compute what lies in the plan's own buffers.
    this.#computed = undefined;
    const time = async (count: number): Promise<readonly number[]> => (await timeExecutions(this.#open.device, this.#plain.bound, count)).filter((ns) => ns > 0);
    // What one takes says how many fit, and wakes the device; of a long one that one is enough.
    const first = await time(1);
    const count = Math.floor(Math.min(MOST_TIMED, TIMED_NS / (first[0] ?? TIMED_NS)));
    const times = count > 1 ? await time(count) : first;
    return times.length === 0 ? undefined : quantile(sortSamples(times), 0.5);
  }

  #planned(name: string): PlanBinding {
    return this.#plan.inputs.find((binding) => binding.name === name)!;
  }

  #convert(inputs: TensorMap): Inputs {
    this.#check();
    const tensors = checkInputs(this.inputs, inputs);
    return tensors.map((tensor, i) => toDevice(this.#plan.inputs[i]!, tensor));
  }

  #check(): void {
    if (this.#disposed) throw new TsrtError('USAGE', 'the session was disposed of', { fix: 'load the engine again' });
    this.#open.check();
  }

  async #withSlot(use: (slot: Slot) => Promise<TensorMap>): Promise<TensorMap> {
    this.#check();
    const slot = this.#free.pop() ?? (await new Promise<Slot>((resolve) => this.#waiting.push(resolve)));
    try {
      this.#check();
      const outputs = await use(slot);
      this.#open.check();
      return outputs;
    } catch (error) {
      this.#check();
      throw error;
    } finally {
      const next = this.#waiting.shift();
      if (next) next(slot);
      else this.#free.push(slot);
    }
  }
}
