/** "Did you mean": the known word nearest to a wrong one. */
import { closest, distance } from 'fastest-levenshtein';

/** The nearest of `known` if it is near enough to be a slip (a third of the letters, at least one), else undefined. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  if (known.length === 0) return undefined;
  const guess = closest(word.toLowerCase(), [...known]);
  return distance(word.toLowerCase(), guess.toLowerCase()) <= Math.max(2, Math.ceil(word.length / 3)) ? guess : undefined;
}
