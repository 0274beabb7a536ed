/** What a build can leave out by name, and the check of names that a user gave. */
import { TsrtError } from '../errors.ts';
import { nearest } from '../nearest.ts';
import { PASSES } from './pipeline.ts';

/** The webgpu backend's lowering without copies: no rewrite of the graph, but left out and reported like a pass. */
export const WINDOWS = 'windows';

export const PASS_NAMES: readonly string[] = [...PASSES.map(({ name }) => name), WINDOWS];

/** The names, each checked. Throws USAGE for one that no pass has, with the nearest that there is. */
export function passNames(names: readonly string[], place: string): readonly string[] {
  for (const name of names) {
    if (PASS_NAMES.includes(name)) continue;
    const guess = nearest(name, PASS_NAMES);
    throw new TsrtError('USAGE', `there is no pass '${name}'${guess === undefined ? '' : `; did you mean '${guess}'?`}`, { place, fix: `one of ${PASS_NAMES.join(', ')}` });
  }
  return names;
}
