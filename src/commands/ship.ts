/** The command that writes the engine which a run recommends: `build` with what the run was told of its engines, and the variant. */
import { choicesOf } from '../report/choice.ts';
import { measuredRows, type Report } from '../report/rows.ts';
import { shellWord } from '../text.ts';

/** Flags of `run` that decide which variants there are and what their engines hold; `build` has the same. The batch is the variant's. */
export const ENGINE_FLAGS = ['model', 'dataset', 'backend', 'precision', 'fusion', 'option', 'dim', 'shape', 'fallback', 'seed', 'device', 'tune', 'tune-budget', 'timing-cache', 'frozen-tactics', 'plugin', 'cache'] as const;

/** What a run was told of its engines, as words to paste. */
export function engineWords(flags: Readonly<Record<string, unknown>>): string[] {
  return ENGINE_FLAGS.flatMap((name) => [flags[name] ?? []].flat().map((value) => `--${name} ${shellWord(String(value))}`));
}

/** One for each engine that is somewhere the fastest within its budget. `suite` and `words` are quoted. */
export function shipCommands(report: Report, suite: string, words: readonly string[]): string[] {
  const commands = choicesOf(measuredRows(report)).flatMap(({ fastest }) =>
    fastest ? [['tsrt-bench build', suite, ...words, '--variant', fastest.variant, '--batch', fastest.batch].join(' ')] : [],
  );
  return [...new Set(commands)];
}
