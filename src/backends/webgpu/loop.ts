/** Requests whose outputs become inputs of the next one without leaving the device: each ends with copies from the plan's outputs to the inputs of the loop. */
import { bindingBytes, type Plan, type PlanBinding } from '../../engine/plan.ts';
import type { Loop, TensorMap } from '../backend.ts';
import { inTurn, loopEnded } from '../loop.ts';
import type { InputSet } from './input-set.ts';
import { createReadback, type Readback } from './readback.ts';
import type { Inputs } from './upload.ts';

export interface LoopParts {
  readonly device: GPUDevice;
  /** The loop's own. */
  readonly set: InputSet;
  /** Where each carried input comes from. */
  readonly carried: readonly Carried[];
  /** Of the outputs that are not carried; the loop's own, and destroyed by {@link release}. */
  readonly readback: Readback;
  readonly maxBufferBytes: number;
  /** The inputs of a step, in the order of {@link given}; throws TsrtError USAGE. */
  readonly convert: (inputs: TensorMap) => Inputs;
  readonly given: readonly PlanBinding[];
  /** Submits commands, with copies of outputs behind them, and waits for these. */
  readonly request: (commands: readonly GPUCommandBuffer[], readback: Readback) => Promise<TensorMap>;
  /** Called once. */
  readonly release: () => void;
}

export interface Carried {
  readonly input: PlanBinding;
  readonly output: PlanBinding;
}

/** The bindings of each pair; undefined where the device stores one otherwise than the other, or does not know how much of it there is. */
export function carriedBindings(plan: Plan, carried: Readonly<Record<string, string>>): readonly Carried[] | undefined {
  const pairs = Object.entries(carried).map(([into, from]) => ({ input: plan.inputs.find(({ name }) => name === into)!, output: plan.outputs.find(({ name }) => name === from)! }));
  return pairs.every(({ input, output }) => input.storage === output.storage && !output.length) ? pairs : undefined;
}

export function createLoop({ device, set, carried, readback, maxBufferBytes, convert, given, request, release }: LoopParts): Loop {
  const { buffers } = set.bound;
  const turn = inTurn();
  let ended = false;
  const alive = (): void => {
    if (ended) throw loopEnded();
  };
  const copies = (): GPUCommandBuffer => {
    const encoder = device.createCommandEncoder();
    for (const { input, output } of carried) encoder.copyBufferToBuffer(buffers[output.buffer]!, 0, buffers[input.buffer]!, 0, bindingBytes(input));
    return encoder.finish();
  };
  return {
    step: (inputs) =>
      turn(async () => {
        alive();
        const converted = convert(inputs);
        for (const [i, { buffer }] of given.entries()) if (converted[i]!.byteLength > 0) device.queue.writeBuffer(buffers[buffer]!, 0, converted[i]!);
        const answer = request([...set.take(1), copies()], readback);
        set.keep(1, false);
        readback.keep();
        return answer;
      }),
    state: () =>
      turn(async () => {
        alive();
        const whole = createReadback(device, { outputs: carried.map(({ input }) => input) }, buffers, maxBufferBytes);
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
