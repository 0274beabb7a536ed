/**
 * A session: an engine loaded on a device. It needs the engine and a WebGPU device, nothing of the compiler and nothing of
 * Node, so that it runs in a browser too.
 *
 * Requests share the activations: the queue runs in order. What each needs for itself is a copy of the outputs to map, so a
 * ring of {@link REQUESTS_IN_FLIGHT} slots bounds how many are under way. Command buffers can be submitted once; each slot
 * encodes its next one while the device works.
 */
import type { Binding, Engine } from '../../engine/engine.ts';
import { type Plan, type PlanBinding, PlanError, readPlan, REQUESTS_IN_FLIGHT } from '../../engine/plan.ts';
import { TsrtError } from '../../errors.ts';
import { formatType } from '../../ir/tensor.ts';
import type { Execution, LayerTime, Session, TensorMap } from '../backend.ts';
import { checkInputs } from '../inputs.ts';
import type { WebgpuDevice } from './device.ts';
import { encodeSteps } from './encode.ts';
import { createReadback, type Readback } from './readback.ts';
import { createResources, type Resources } from './resources.ts';
import { profileSteps } from './timestamps.ts';
import { toDevice } from './transfer.ts';
import { createYardstick, type Yardstick } from './yardstick.ts';

/** Executions recorded into one command buffer by `execute(count)`. */
const EXECUTIONS_PER_SUBMIT = 32;

/** Loads an engine of the webgpu backend on a device. `release` is called once, after `dispose`. */
export async function createSession(engine: Engine, open: WebgpuDevice, release: () => void = () => undefined): Promise<Session> {
  const weights = engine.parts.get('weights') ?? new Uint8Array();
  const plan = checkPlan(engine, weights.byteLength);
  const resources = await createResources(open, plan, weights);
  return new WebgpuSession(engine, open, plan, resources, release);
}

function checkPlan(engine: Engine, weightBytes: number): Plan {
  try {
    const plan = readPlan(engine.header.backendData, weightBytes);
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

/** Inputs in the device's types, in the plan's order. */
type Upload = readonly Uint8Array<ArrayBuffer>[];

class WebgpuSession implements Session {
  readonly header;
  readonly device;
  readonly inputs;
  readonly outputs;
  readonly memory;
  readonly loadSteps;
  readonly maxInFlight = REQUESTS_IN_FLIGHT;
  readonly profile?: (inputs: TensorMap) => Promise<readonly LayerTime[]>;
  readonly #open: WebgpuDevice;
  readonly #plan: Plan;
  readonly #resources: Resources;
  readonly #release: () => void;
  readonly #free: Readback[];
  readonly #waiting: ((slot: Readback) => void)[] = [];
  readonly #slots: readonly Readback[];
  /** A finished command buffer of one execution, encoded while the device was busy. */
  #spare: GPUCommandBuffer | undefined;
  #yardstick: Promise<Yardstick> | undefined;
  /** Whose inputs the device's input buffers hold. */
  #resident: Upload | undefined;
  #disposed = false;

  constructor(engine: Engine, open: WebgpuDevice, plan: Plan, resources: Resources, release: () => void) {
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
    this.#slots = Array.from({ length: REQUESTS_IN_FLIGHT }, () => createReadback(open.device, plan, resources.buffers));
    this.#free = [...this.#slots];
    if (open.profile.features.has('timestamp-query')) this.profile = (inputs) => this.#profile(inputs);
  }

  async run(inputs: TensorMap): Promise<TensorMap> {
    const upload = this.#convert(inputs);
    return this.#withSlot((slot) => {
      this.#makeResident(upload);
      const { queue } = this.#open.device;
      queue.submit([this.#takeSpare(), slot.encode()]);
      const outputs = slot.read();
      this.#spare = this.#encode(1);
      return outputs;
    });
  }

  async prepare(inputs: TensorMap): Promise<Execution> {
    const upload = this.#convert(inputs);
    this.#makeResident(upload);
    let ended = false;
    const alive = (): void => {
      if (ended) throw new Error('this execution was disposed');
    };
    return {
      execute: async (count) => {
        alive();
        await this.#execute(upload, count);
      },
      download: async () => {
        alive();
        return this.#withSlot((slot) => {
          this.#open.device.queue.submit([slot.encode()]);
          return slot.read();
        });
      },
      dispose: async () => {
        ended = true;
      },
    };
  }

  async yardstick(): Promise<number> {
    this.#check();
    this.#yardstick ??= createYardstick(this.#open.device);
    return (await this.#yardstick).measure();
  }

  observeMemory() {
    const readback = this.#slots.reduce((sum, slot) => sum + slot.bytes, 0);
    return { deviceBytes: this.#disposed ? 0 : this.#resources.bytes + readback };
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const slot of this.#slots) slot.destroy();
    (await this.#yardstick)?.destroy();
    this.#resources.destroy();
    this.#release();
  }

  async #execute(upload: Upload, count: number): Promise<void> {
    this.#check();
    this.#makeResident(upload);
    const { queue } = this.#open.device;
    if (count === 1) queue.submit([this.#takeSpare()]);
    else for (let left = count; left > 0; left -= EXECUTIONS_PER_SUBMIT) queue.submit([this.#encode(Math.min(left, EXECUTIONS_PER_SUBMIT))]);
    const done = queue.onSubmittedWorkDone();
    this.#spare ??= this.#encode(1);
    await done;
    this.#open.check();
  }

  async #profile(inputs: TensorMap): Promise<readonly LayerTime[]> {
    this.#makeResident(this.#convert(inputs));
    const { steps, buffers } = this.#resources;
    const times = await profileSteps(this.#open.device, steps, buffers, this.header.layers.map((layer) => layer.name));
    this.#open.check();
    return times;
  }

  #convert(inputs: TensorMap): Upload {
    this.#check();
    const tensors = checkInputs(this.inputs, inputs);
    return tensors.map((tensor, i) => toDevice(this.#plan.inputs[i]!, tensor));
  }

  #check(): void {
    if (this.#disposed) throw new Error('this session was disposed');
    this.#open.check();
  }

  #makeResident(upload: Upload): void {
    if (this.#resident === upload) return;
    this.#resident = upload;
    for (const [i, binding] of this.#plan.inputs.entries()) {
      if (upload[i]!.byteLength > 0) this.#open.device.queue.writeBuffer(this.#resources.buffers[binding.buffer]!, 0, upload[i]!);
    }
  }

  #encode(count: number): GPUCommandBuffer {
    const encoder = this.#open.device.createCommandEncoder();
    encodeSteps(encoder, this.#resources.steps, this.#resources.buffers, count);
    return encoder.finish();
  }

  #takeSpare(): GPUCommandBuffer {
    const spare = this.#spare ?? this.#encode(1);
    this.#spare = undefined;
    return spare;
  }

  async #withSlot(use: (slot: Readback) => Promise<TensorMap>): Promise<TensorMap> {
    this.#check();
    const slot = this.#free.pop() ?? (await new Promise<Readback>((resolve) => this.#waiting.push(resolve)));
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
