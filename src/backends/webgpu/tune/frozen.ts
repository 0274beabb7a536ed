/**
 * Frozen tactics: a file that says which tactic each problem gets, so that a tuned engine can be built again byte for byte.
 *
 * The file is a JSON object from problem to tactic, or any object with such a map as its member `tactics`, which is what
 * `inspect ENGINE --tactics --json` prints.
 */
import { z } from 'zod';
import type { TacticChoice } from '../../../engine/engine.ts';
import { TsrtError } from '../../../errors.ts';
import { nearest } from '../../../nearest.ts';
import type { FrozenTactics } from '../../backend.ts';

const mapSchema = z.record(z.string(), z.string());
const fileSchema = z.union([mapSchema, z.looseObject({ tactics: mapSchema }).transform(({ tactics }) => tactics)]);

/** Parses the text of a file. Throws TsrtError USAGE. */
export function parseFrozen(text: string, place: string): FrozenTactics {
  try {
    return { tactics: new Map(Object.entries(fileSchema.parse(JSON.parse(text)))), place };
  } catch (cause) {
    throw new TsrtError('USAGE', 'this is not a list of frozen tactics', {
      place,
      fix: 'give a file that `tsrt-bench build --export-tactics` or `tsrt-bench inspect ENGINE --tactics --json` wrote: a JSON object from problem to tactic',
      cause,
    });
  }
}

/** Choices as such a file holds them, in the order of their problems. */
export function frozenOf(choices: readonly TacticChoice[]): Record<string, string> {
  return Object.fromEntries(choices.map(({ problem, tactic }) => [problem, tactic] as const).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** The frozen tactic of a problem; undefined where the list lacks it. Throws TsrtError USAGE for one that the problem does not have. */
export function frozenTactic({ tactics, place }: FrozenTactics, problem: string, names: readonly string[]): string | undefined {
  const name = tactics.get(problem);
  if (name === undefined || names.includes(name)) return name;
  const guess = nearest(name, names) ?? names[0];
  throw new TsrtError('USAGE', `the frozen tactic '${name}' of '${problem}' is not one that this device has for it`, {
    place,
    fix: `the nearest is '${guess}'; or export the list again from an engine that was built with this version for this device`,
    details: [`tactics of '${problem}': ${names.slice(0, 12).join(', ')}${names.length > 12 ? ' …' : ''}`],
  });
}

/**
 * What of list and graph does not meet, as notices. Problems that the list lacks get the model's choice; entries for other problems
 * are none of this graph's concern, but a list that has nothing at all for it is the wrong one: throws TsrtError USAGE.
 */
export function unmatched({ tactics, place }: FrozenTactics, problems: readonly string[]): string[] {
  const missing = problems.filter((problem) => !tactics.has(problem));
  if (missing.length === 0) return [];
  const guess = (problem: string): string => {
    const near = nearest(problem, [...tactics.keys()].filter((key) => !problems.includes(key)));
    return near === undefined ? '' : ` (the list has '${near}')`;
  };
  if (missing.length === problems.length) {
    throw new TsrtError('USAGE', 'the list of frozen tactics has none of the problems of this model', {
      place,
      details: [`the first of ${problems.length}: '${missing[0]}'${guess(missing[0]!)}`],
      fix: 'give the list of an engine of this model, with this batch, precision and version',
    });
  }
  const shown = missing.slice(0, 3).map((problem) => `'${problem}'${guess(problem)}`);
  return [`The list of frozen tactics lacks ${missing.length} of ${problems.length} problems, which got the cost model's choice: ${shown.join(', ')}${missing.length > 3 ? ' …' : ''}.`];
}
