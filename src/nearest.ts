/** "Did you mean": the known word nearest to a wrong one. */
import { distance } from 'fastest-levenshtein';

/** The nearest of `known` if it is near enough to be a slip (a third of the letters, at least two), else undefined; capitals count for nothing. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const wrong = word.toLowerCase();
  let best: { readonly name: string; readonly far: number } | undefined;
  for (const name of known) {
    const far = slips(wrong, name.toLowerCase());
    if (!best || far < best.far) best = { name, far };
  }
  return best && best.far <= Math.max(2, Math.ceil(word.length / 3)) ? best.name : undefined;
}

/** Edits from one to the other, two letters that changed places counting as less than two. */
function slips(a: string, b: string): number {
  const edits = distance(a, b);
  return edits > 1 && letters(a) === letters(b) ? edits - 0.5 : edits;
}

function letters(word: string): string {
  return [...word].sort().join('');
}
