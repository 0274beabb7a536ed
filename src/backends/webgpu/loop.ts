/**
 * Requests whose outputs become inputs of the next one without leaving the device. Two sets of bindings take turns: what a step writes as an output,
 * the next one reads as an input where it lies, and writes over what the first one read. An output for which that can't be is copied
 * at the end of each step.
 */
import { bindingBytes, type Plan, type PlanBinding } from '../../engine/plan.ts';
import type { Loop, TensorMap } from '../backend.ts';
import { inTurn, loopEnded } from '../loop.ts';
import type { WebgpuDevice } from './device.ts';
import { InputSet } from './input-set.ts';
import { createReadback, type Readback } from './readback.ts';
import { buffersOf, type Resources, USAGE } from './resources.ts';
import { allocated } from './scopes.ts';
import type { Inputs } from './upload.ts';

export interface Carried {
  readonly input: PlanBinding;
  readonly output: PlanBinding;
}

/** The bindings of each pair; undefined where the device stores one otherwise than the other, or does not know how much of it there is. */
export function carriedBindings(plan: Plan, carried: Readonly<Record<string, string>>): readonly Carried[] | undefined {
  const pairs = Object.entries(carried).map(([into, from]) => ({ input: plan.inputs.find(({ name }) => name === into)!, output: plan.outputs.find(({ name }) => name === from)! }));
  return pairs.every(({ input, output }) => input.storage === output.storage && !output.length) ? pairs : undefined;
}

/** What a loop has for itself on the device. */
export interface LoopMemory {
  readonly bytes: number;
  /** One after another, and from the beginning again. */
  readonly sets: readonly InputSet[];
  /** What the next step does not find where it was written. */
  readonly copied: readonly Carried[];
  /** Of the outputs that are not carried. */
  readonly readback: Readback;
  destroy(): void;
}

/** Throws TsrtError OUT_OF_MEMORY. */
export async function createLoopMemory({ device, profile }: WebgpuDevice, plan: Plan, resources: Resources, carried: readonly Carried[]): Promise<LoopMemory> {
  const swapped = carried.filter((pair) => canSwap(plan, carried, pair));
  const partners = new Map(swapped.flatMap(({ input, output }) => [[input.buffer, output.buffer], [output.buffer, input.buffer]] as const));
  const partnerOf = (i: number): number => partners.get(i) ?? i;
  const indices = [...buffersOf(plan, 'input'), ...swapped.map(({ output }) => output.buffer)];
  const sizes = indices.map((i) => Math.max(plan.buffers[i]!.bytes, plan.buffers[partnerOf(i)]!.bytes));
  const bytes = sizes.reduce((sum, size) => sum + size, 0);
  const make = (): GPUBuffer[] => sizes.map((size, at) => device.createBuffer({ label: `loop ${indices[at]!}`, size, usage: USAGE.storage | USAGE.copySrc | USAGE.copyDst }));
  const own = await allocated(device, bytes, make, 'for a loop: ');
  const destroyOwn = (): void => own.forEach((buffer) => buffer.destroy());
  try {
    const setOn = async (placeOf: (i: number) => number): Promise<InputSet> => new InputSet(device, plan, await resources.rebound(new Map(indices.map((i, at) => [placeOf(i), own[at]!]))));
    const sets = [await setOn((i) => i), ...(swapped.length > 0 ? [await setOn(partnerOf)] : [])];
    const kept = new Set(carried.map(({ output }) => output.name));
    const outputs = plan.outputs.filter(({ name }) => !kept.has(name));
    const readBytes = outputs.reduce((sum, binding) => sum + bindingBytes(binding), 0);
    const [readback] = await allocated(device, readBytes, (): [Readback] => [createReadback(device, { outputs }, resources.buffers, profile.maxBufferBytes)], 'for a loop: ');
    const destroy = (): void => {
      readback!.destroy();
      destroyOwn();
    };
    return { bytes: bytes + readback!.bytes, sets, copied: carried.filter((pair) => !swapped.includes(pair)), readback: readback!, destroy };
  } catch (error) {
    destroyOwn();
    throw error;
  }
}

/** Whether the buffers of a pair can trade places: nothing else is bound to either, and the output goes to this one input. */
function canSwap({ inputs, outputs }: Plan, carried: readonly Carried[], { input, output }: Carried): boolean {
  const users = [...inputs, ...outputs].filter(({ buffer }) => buffer === input.buffer || buffer === output.buffer);
  return users.length === 2 && carried.filter((pair) => pair.output === output).length === 1;
}

export interface LoopParts {
  readonly device: GPUDevice;
  readonly maxBufferBytes: number;
  readonly memory: LoopMemory;
  readonly carried: readonly Carried[];
  /** The carried inputs of the first step, in the order of {@link carried}. */
  readonly first: Inputs;
  readonly given: readonly PlanBinding[];
  /** The inputs of a step, in the order of {@link given}; throws TsrtError USAGE. */
  readonly convert: (inputs: TensorMap) => Inputs;
  /** Submits commands, with copies of outputs behind them, and waits for these. */
  readonly request: (commands: readonly GPUCommandBuffer[], readback: Readback) => Promise<TensorMap>;
  /** Whether a request is to be submitted in parts ({@link InputSet.keep}). */
  readonly early: () => boolean;
  /** Called once. */
  readonly release: () => void;
}

export function createLoop({ device, maxBufferBytes, memory, carried, first, given, convert, request, early, release }: LoopParts): Loop {
  const { sets, copied, readback } = memory;
  const turn = inTurn();
  let at = 0;
  let ended = false;
  const alive = (): void => {
    if (ended) throw loopEnded();
  };
  const write = (bindings: readonly PlanBinding[], inputs: Inputs): void => {
    for (const [i, { buffer }] of bindings.entries()) if (inputs[i]!.byteLength > 0) device.queue.writeBuffer(sets[at]!.bound.buffers[buffer]!, 0, inputs[i]!);
  };
  const copies = (): readonly GPUCommandBuffer[] => {
    if (copied.length === 0) return [];
    const { buffers } = sets[at]!.bound;
    const encoder = device.createCommandEncoder();
    for (const { input, output } of copied) encoder.copyBufferToBuffer(buffers[output.buffer]!, 0, buffers[input.buffer]!, 0, bindingBytes(input));
    return [encoder.finish()];
  };
  write(carried.map(({ input }) => input), first);
  return {
    step: (inputs) =>
      turn(async () => {
        alive();
        write(given, convert(inputs));
        const answer = request([...sets[at]!.take(1), ...copies()], readback);
        at = (at + 1) % sets.length;
        sets[at]!.keep(1, early());
        readback.keep();
        return answer;
      }),
    state: () =>
      turn(async () => {
        alive();
        const whole = createReadback(device, { outputs: carried.map(({ input }) => input) }, sets[at]!.bound.buffers, maxBufferBytes);
        try {
          return await request([], whole);
        } finally {
          whole.destroy();
        }
      }),
    dispose: () =>
      turn(async () => {
        if (ended) return;
        ended = true;
        release();
      }),
  };
}
