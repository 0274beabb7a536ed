/** What `gate --update` did, for people. */
import type { SavedBaseline } from '../results/baselines.ts';
import { plural } from './units.ts';

/** Lines without a trailing line feed. */
export function renderUpdate(update: SavedBaseline & { readonly name: string; readonly changes: readonly string[]; readonly accepted: readonly string[] }): string {
  const places = update.places.map((place) => `baseline ${update.name} updated: ${plural(place.cases, 'case')} of ${place.suite} on ${place.device} (${place.path})`);
  const changes = update.changes.length === 0 ? ['  no metric moved beyond its threshold'] : update.changes.map((change) => `  ${change}`);
  const accepted = update.accepted.map((caseId) => `  accepted although it did not pass: ${caseId}`);
  const leftOut = update.leftOut.map((caseId) => `  left out, it did not complete: ${caseId}`);
  return [...places, ...changes, ...accepted, ...leftOut].join('\n');
}
