/**
 * The commands that a run ends with, with the flags that it was given: `build` of the engine that it recommends, the run again for a
 * baseline, and the gate after a change.
 */
import { DEFAULT_ROUNDS } from '../gate/sequential.ts';
import { choicesOf } from '../report/choice.ts';
import { measuredRows, type Report } from '../report/rows.ts';
import { shellWord } from '../text.ts';

/** Flags of `run` that decide which variants there are and what their engines hold; `build` has the same. The batch is the variant's. */
export const ENGINE_FLAGS = ['model', 'dataset', 'backend', 'precision', 'fusion', 'option', 'dim', 'shape', 'fallback', 'seed', 'device', 'tune', 'tune-budget', 'timing-cache', 'frozen-tactics', 'plugin', 'cache'] as const;

/** Of those and of the others, what `gate --measure` takes too. */
export const GATE_FLAGS = ['model', 'dataset', 'backend', 'precision', 'fusion', 'option', 'dim', 'shape', 'fallback', 'device', 'plugin', 'cache', 'batch', 'limit', 'time', 'results'] as const;

/** Flags of `run` that decide what is measured, and where its records go; `--no-accuracy` besides. */
export const RUN_FLAGS = [...ENGINE_FLAGS, 'engine', 'rebuild', 'batch', 'limit', 'time', 'results'] as const;

type GivenFlags = Readonly<Record<string, unknown>>;

/** Flags as words to paste. */
function wordsOf(flags: GivenFlags, names: readonly string[]): string[] {
  return names.flatMap((name) => [flags[name] ?? []].flat().flatMap((value) => (value === true ? [`--${name}`] : value === false ? [] : [`--${name} ${shellWord(String(value))}`])));
}

/** What a run was told of its engines, as words to paste. */
export function engineWords(flags: GivenFlags): string[] {
  return wordsOf(flags, ENGINE_FLAGS);
}

/** What goes on from a run, as commands that measure what it did. */
export interface NextCalls {
  /** With the rounds that it had. */
  readonly resume: string;
  /** With as many as a baseline wants. */
  readonly longer: string;
  readonly save: string;
  readonly gate: string;
}

/** `suite` is quoted. */
export function nextCalls(suite: string, flags: GivenFlags): NextCalls {
  const call = (...words: readonly string[]): string => ['tsrt-bench', ...words].join(' ');
  const run = call('run', suite, ...wordsOf(flags, RUN_FLAGS), ...(flags['accuracy'] === false ? ['--no-accuracy'] : []));
  const longer = `${run} --rounds ${DEFAULT_ROUNDS}`;
  const results = wordsOf(flags, ['results']);
  const measures = RUN_FLAGS.every((name) => flags[name] === undefined || flags[name] === false || GATE_FLAGS.some((one) => one === name));
  return {
    resume: [run, ...wordsOf(flags, ['rounds']), '--resume'].join(' '),
    longer,
    save: call('baseline save main', ...results),
    gate: measures ? call('gate', suite, '--measure', ...wordsOf(flags, GATE_FLAGS)) : `${longer} && ${call('gate', suite, ...results)}`,
  };
}

/** One for each engine that is somewhere the fastest within its budget. `suite` and `words` are quoted. */
export function shipCommands(report: Report, suite: string, words: readonly string[]): string[] {
  const commands = choicesOf(measuredRows(report)).flatMap(({ fastest }) =>
    fastest ? [['tsrt-bench build', suite, ...words, '--variant', fastest.variant, '--batch', fastest.batch].join(' ')] : [],
  );
  return [...new Set(commands)];
}
