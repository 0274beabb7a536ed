/**
 * Inputs that stay on the device: the plan's input buffers, or a copy of them that an execution has for itself, with the steps bound
 * to it. Executions of different inputs then take turns without any upload between them.
 */
import type { Plan } from '../../engine/plan.ts';
import type { TensorMap } from '../backend.ts';
import { encodeSteps } from './encode.ts';
import { outOfMemory } from './fits.ts';
import { type Bound, buffersOf, type Resources, USAGE } from './resources.ts';
import type { Inputs } from './upload.ts';

export class InputSet {
  readonly bound: Bound;
  /** Bytes beyond the plan's. */
  readonly bytes: number;
  /** Executions that use it, and what they were prepared with: the same tensors are put there once. */
  users = 0;
  source: TensorMap | undefined;
  inputs: Inputs = [];
  readonly #device: GPUDevice;
  readonly #plan: Plan;
  readonly #own: readonly GPUBuffer[];
  /** Whose inputs the buffers hold. */
  #resident: Inputs | undefined;
  /** Finished commands of one execution, encoded while the device was busy: command buffers can be submitted once. */
  #spare: GPUCommandBuffer | undefined;

  constructor(device: GPUDevice, plan: Plan, bound: Bound, own: readonly GPUBuffer[] = []) {
    this.#device = device;
    this.#plan = plan;
    this.bound = bound;
    this.#own = own;
    this.bytes = own.reduce((sum, { size }) => sum + size, 0);
  }

  /** A set with buffers of its own. Throws TsrtError OUT_OF_MEMORY. */
  static async create(device: GPUDevice, plan: Plan, resources: Resources): Promise<InputSet> {
    device.pushErrorScope('out-of-memory');
    const indices = buffersOf(plan, 'input');
    const own = indices.map((i) => device.createBuffer({ label: `input ${i}`, size: plan.buffers[i]!.bytes, usage: USAGE.storage | USAGE.copySrc | USAGE.copyDst }));
    const exhausted = await device.popErrorScope();
    if (exhausted) {
      for (const buffer of own) buffer.destroy();
      throw outOfMemory(own.reduce((sum, { size }) => sum + size, 0), `for inputs of one more execution: ${exhausted.message}`);
    }
    return new InputSet(device, plan, await resources.rebound(new Map(indices.map((i, at) => [i, own[at]!]))), own);
  }

  /** The buffers were written by commands of somebody's own. */
  replaced(inputs: Inputs): void {
    this.#resident = inputs;
  }

  makeResident(inputs: Inputs): void {
    if (this.#resident === inputs) return;
    this.#resident = inputs;
    for (const [i, { buffer }] of this.#plan.inputs.entries()) {
      if (inputs[i]!.byteLength > 0) this.#device.queue.writeBuffer(this.bound.buffers[buffer]!, 0, inputs[i]!);
    }
  }

  encode(count: number): GPUCommandBuffer {
    const encoder = this.#device.createCommandEncoder();
    encodeSteps(encoder, this.bound.steps, this.bound.buffers, count);
    return encoder.finish();
  }

  takeSpare(): GPUCommandBuffer {
    const spare = this.#spare ?? this.encode(1);
    this.#spare = undefined;
    return spare;
  }

  keepSpare(): void {
    this.#spare ??= this.encode(1);
  }

  destroy(): void {
    for (const buffer of this.#own) buffer.destroy();
  }
}
