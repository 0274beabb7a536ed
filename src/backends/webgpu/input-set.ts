/**
 * Inputs that stay on the device: the plan's input buffers, or a copy of them that an execution has for itself, with the steps bound
 * to it. Executions of different inputs then take turns without any upload between them.
 */
import { type Plan, planBytes } from '../../engine/plan.ts';
import type { TensorMap } from '../backend.ts';
import { encodeExecutions, partEnds } from './encode.ts';
import { type Bound, buffersOf, type Resources, USAGE } from './resources.ts';
import { allocated } from './scopes.ts';
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
  /** Finished commands of so many executions, encoded while the device was busy: command buffers can be submitted once. */
  #spare: { readonly count: number; readonly commands: readonly GPUCommandBuffer[] } | undefined;

  constructor(device: GPUDevice, plan: Plan, bound: Bound, own: readonly GPUBuffer[] = []) {
    this.#device = device;
    this.#plan = plan;
    this.bound = bound;
    this.#own = own;
    this.bytes = own.reduce((sum, { size }) => sum + size, 0);
  }

  /** A set with buffers of its own. Throws TsrtError OUT_OF_MEMORY, and what rebinding throws. */
  static async create(device: GPUDevice, plan: Plan, resources: Pick<Resources, 'rebound'>): Promise<InputSet> {
    const indices = buffersOf(plan, 'input');
    const make = (): GPUBuffer[] => indices.map((i) => device.createBuffer({ label: `input ${i}`, size: plan.buffers[i]!.bytes, usage: USAGE.storage | USAGE.copySrc | USAGE.copyDst }));
    const own = await allocated(device, planBytes(plan, 'input'), make, 'for inputs of one more execution: ');
    try {
      return new InputSet(device, plan, await resources.rebound(new Map(indices.map((i, at) => [i, own[at]!]))), own);
    } catch (error) {
      for (const buffer of own) buffer.destroy();
      throw error;
    }
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

  /** Commands of executions in a row, to be submitted one by one. */
  take(count: number): readonly GPUCommandBuffer[] {
    const spare = this.#spare;
    if (spare?.count !== count) return encodeExecutions(this.#device, this.bound, count);
    this.#spare = undefined;
    return spare.commands;
  }

  /** Encodes for the next request, which is most likely like the last one: in parts for a device that is to begin early. */
  keep(count: number, early: boolean): void {
    const { steps } = this.bound;
    if (this.#spare?.count !== count) this.#spare = { count, commands: encodeExecutions(this.#device, this.bound, count, early ? partEnds(steps.length) : [steps.length]) };
  }

  destroy(): void {
    for (const buffer of this.#own) buffer.destroy();
  }
}
