/** A problem's candidates as they are timed: generated, ranked, and its forms told apart by their kernels. */
import type { Instance, Problem, TimedCandidate } from './problems.ts';
import { timedForm } from './problems.ts';

/** A candidate, or why its kernels can't be generated. */
export type Generated = TimedCandidate | { readonly refused: string };

export interface Form {
  /** Layers that have it. */
  readonly count: number;
  /** By rank, as many as the contest has names. */
  readonly candidates: readonly Generated[];
}

export interface Contest {
  readonly problem: Problem;
  readonly names: readonly string[];
  readonly forms: readonly Form[];
}

/** The first candidates of a problem by the model's order; instances with equal kernels are one form. */
export function contestOf(problem: Problem, limit: number): Contest {
  const forms = new Map<string, { count: number; readonly candidates: readonly Generated[] }>();
  for (const instance of problem.instances) {
    const candidates = generate(instance, limit);
    const key = candidates.map((candidate) => (isTimed(candidate) ? candidate.hash : candidate.refused)).join('\n');
    const known = forms.get(key);
    if (known) known.count++;
    else forms.set(key, { count: 1, candidates });
  }
  return { problem, names: problem.names.slice(0, limit), forms: [...forms.values()] };
}

/** A tactic whose code can't be generated for this problem is out; the build does not need it. */
function generate({ candidates }: Instance, limit: number): Generated[] {
  return candidates.slice(0, limit).map((candidate): Generated => {
    try {
      return timedForm(candidate);
    } catch (error) {
      return { refused: `its kernels can't be generated: ${error instanceof Error ? error.message : String(error)}` };
    }
  });
}

export function isTimed(candidate: Generated): candidate is TimedCandidate {
  return 'hash' in candidate;
}

/** The same contest among its first candidates. */
export function firstOf({ problem, names, forms }: Contest, count: number): Contest {
  return { problem, names: names.slice(0, count), forms: forms.map((form) => ({ ...form, candidates: form.candidates.slice(0, count) })) };
}

/** Everything there is to time for a contest, each kernel once. */
export function timedOf({ forms }: Contest): TimedCandidate[] {
  const all = forms.flatMap(({ candidates }) => candidates.filter(isTimed));
  return [...new Map(all.map((candidate) => [candidate.hash, candidate])).values()];
}

/** What a wrong choice can cost grows with the work, which is known before anything is measured. */
export function costOf({ problem }: Contest): number {
  return problem.flops * problem.instances.length;
}
