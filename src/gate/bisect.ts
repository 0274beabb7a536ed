/**
 * Which of an ordered list of states to compare next with its first, to find the one at which a metric changed. A pure planner:
 * what is known goes in, the next step comes out, so that a search can be stopped and resumed anywhere.
 *
 * Prior art: `git bisect`. As there, a state that can't be decided is skipped, and where only skipped states are left between
 * the last that is unchanged and the first that is changed, the answer is a range. Unlike there, a comparison may be wrong; the
 * number of comparisons is bounded beforehand, and each may spend that part of the error rates, so that the rates hold for the
 * whole search (union bound), in whatever order and wherever it ends.
 */

/** What comparing a state with the first one said. */
export type ProbeVerdict = 'changed' | 'unchanged' | 'skipped';

export type BisectStep =
  | { readonly kind: 'probe'; readonly index: number }
  /** `index` is changed, the state before it is not. */
  | { readonly kind: 'found'; readonly index: number }
  /** The change lies after `after` and up to `upTo`; what is between could not be decided. */
  | { readonly kind: 'range'; readonly after: number; readonly upTo: number }
  /** The ends do not differ. */
  | { readonly kind: 'no-change' }
  /** The ends could not be compared. */
  | { readonly kind: 'undecided' };

/** At most so many comparisons of `count` states: the ends, twice the halvings of what lies between, never a state twice. */
export function probeLimit(count: number): number {
  return Math.min(count - 1, 1 + 2 * Math.ceil(Math.log2(Math.max(1, count - 1))));
}

/** The next step where `known` holds what the comparisons of states 1 … count−1 with state 0 said. */
export function nextStep(count: number, known: ReadonlyMap<number, ProbeVerdict>): BisectStep {
  if (!Number.isInteger(count) || count < 2) throw new RangeError(`${count} states have no change between them`);
  const last = count - 1;
  switch (known.get(last)) {
    case undefined:
      return { kind: 'probe', index: last };
    case 'unchanged':
      return { kind: 'no-change' };
    case 'skipped':
      return { kind: 'undecided' };
    case 'changed':
      break;
  }
  const upTo = Math.min(...indexesOf(known, 'changed'));
  const after = Math.max(0, ...indexesOf(known, 'unchanged').filter((index) => index < upTo));
  if (upTo - after === 1) return { kind: 'found', index: upTo };
  const middle = (after + upTo) / 2;
  const untried = range(after + 1, upTo).filter((index) => !known.has(index));
  const [best] = untried.sort((a, b) => Math.abs(a - middle) - Math.abs(b - middle) || a - b);
  return best === undefined || known.size >= probeLimit(count) ? { kind: 'range', after, upTo } : { kind: 'probe', index: best };
}

function indexesOf(known: ReadonlyMap<number, ProbeVerdict>, verdict: ProbeVerdict): number[] {
  return [...known].flatMap(([index, one]) => (one === verdict ? [index] : []));
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i);
}
