/**
 * Requests in a row whose outputs become inputs of the next one, such as a decoder's cache of keys and values. A backend that can keeps them where its
 * device has them; on any other they pass through the host.
 */
import type { Binding } from '../engine/engine.ts';
import { TsrtError } from '../errors.ts';
import { formatType, sameDims } from '../ir/tensor.ts';
import type { Loop, Session, TensorMap } from './backend.ts';
import { checkInputs } from './inputs.ts';

/**
 * Starts with `state`, the carried inputs of the first step. `carried` names for each of them the output that it becomes, of the same type:
 * `{ 'past.0.key': 'present.0.key' }`. The session stays the caller's: dispose of the loop first.
 *
 * Throws TsrtError USAGE where names or types do not fit, and what the backend throws.
 */
export async function startLoop(session: Session, carried: Readonly<Record<string, string>>, state: TensorMap): Promise<Loop> {
  checkCarried(session, carried);
  checkInputs(carriedInputs(session, carried), state);
  return (await session.loop?.(carried, state)) ?? hostLoop(session, carried, state);
}

function checkCarried({ inputs, outputs }: Pick<Session, 'inputs' | 'outputs'>, carried: Readonly<Record<string, string>>): void {
  const details = Object.entries(carried).flatMap(([into, from]) => {
    const [input, output] = [inputs.find(({ name }) => name === into), outputs.find(({ name }) => name === from)];
    if (!input) return [`${into}: no such input`];
    if (!output) return [`${from}: no such output`];
    const fits = input.dtype === output.dtype && sameDims(input.dims, output.dims) && !input.dynamic && !output.dynamic;
    return fits ? [] : [`${into} is ${formatType(input)}, but ${from} is ${formatType(output)}`];
  });
  if (details.length > 0) throw new TsrtError('USAGE', 'outputs can’t be carried to these inputs', { details, fix: 'carry an output to an input of the same type, and pass others through the host: run()' });
}

/** The bindings of the inputs that are carried. */
export function carriedInputs({ inputs }: Pick<Session, 'inputs'>, carried: Readonly<Record<string, string>>): readonly Binding[] {
  return inputs.filter(({ name }) => Object.hasOwn(carried, name));
}

/** Those of the inputs that each step gives. */
export function givenInputs({ inputs }: Pick<Session, 'inputs'>, carried: Readonly<Record<string, string>>): readonly Binding[] {
  return inputs.filter(({ name }) => !Object.hasOwn(carried, name));
}

/** One step after another, whatever became of those before. */
export function inTurn(): <T>(work: () => Promise<T>) => Promise<T> {
  let last: Promise<unknown> = Promise.resolve();
  return (work) => {
    const mine = last.then(work);
    last = mine.catch(() => undefined);
    return mine;
  };
}

/** Use after disposal. */
export function loopEnded(): TsrtError {
  return new TsrtError('USAGE', 'the loop was disposed of', { fix: 'start another one' });
}

function hostLoop(session: Session, carried: Readonly<Record<string, string>>, first: TensorMap): Loop {
  const turn = inTurn();
  let state = first;
  let ended = false;
  const alive = (): void => {
    if (ended) throw loopEnded();
  };
  return {
    step: (inputs) =>
      turn(async () => {
        alive();
        checkInputs(givenInputs(session, carried), inputs);
        const outputs = await session.run({ ...inputs, ...state });
        state = Object.fromEntries(Object.entries(carried).map(([into, from]) => [into, outputs[from]!]));
        const kept = new Set(Object.values(carried));
        return Object.fromEntries(Object.entries(outputs).filter(([name]) => !kept.has(name)));
      }),
    state: () =>
      turn(async () => {
        alive();
        return state;
      }),
    dispose: () =>
      turn(async () => {
        ended = true;
      }),
  };
}
