/** One check's cases, asked of the worker: counted, shrunk to the smallest that fails, and explained. */
import fc from 'fast-check';
import { describeCase, type KitCase } from './case.ts';
import type { CheckName } from './checks.ts';
import { larger, NO_ERROR, type Worst } from './compare.ts';
import type { Answer, Lane } from './lane.ts';

/** What a hang may cost: each try takes its whole time. */
const HANG_TRIES = 8;
const HANG_TIMEOUT_MS = 3000;
/** For one case that counts, so many may be refused; of patterns, whose refusals are the kit's own, few. */
const SKIPS = { usual: 100, pattern: 3 } as const;

export interface Failure {
  readonly message: string;
  readonly input: string;
  readonly hung: boolean;
}

export class Trial {
  worst: Worst = NO_ERROR;
  /** Cases that were run, and those of them that the op did not refuse. */
  cases = 0;
  accepted = 0;
  shrinks = 0;
  /** What the op said of the last case that it refused. */
  refusal = '';
  readonly #timeoutMs: number;
  readonly #lane: Lane;
  readonly #op: number;
  readonly #check: CheckName;
  readonly #failures = new Map<string, Failure>();
  #hangs = 0;

  constructor({ timeoutMs }: { readonly timeoutMs: number }, lane: Lane, op: number, check: CheckName) {
    this.#timeoutMs = timeoutMs;
    this.#lane = lane;
    this.#op = op;
    this.#check = check;
  }

  /** The smallest case found that fails; undefined: none does. Throws what the plugin raises while it is loaded. */
  async search(cases: fc.Arbitrary<KitCase>, options: { readonly seed: number; readonly numRuns: number }): Promise<KitCase | undefined> {
    let broken: { readonly error: unknown } | undefined;
    const property = fc.asyncProperty(cases, async (given) => {
      const verdict = await this.#try(given).catch((error: unknown) => {
        broken ??= { error };
        throw error;
      });
      // Another case is drawn in its place.
      if (verdict === 'refused') fc.pre(false);
      return verdict !== 'failed';
    });
    const run = await fc.check(property, { ...options, maxSkipsPerRun: this.#check === 'pattern' ? SKIPS.pattern : SKIPS.usual });
    if (broken) throw broken.error;
    this.shrinks += run.numShrinks;
    return run.counterexample?.[0];
  }

  /** Goes on with simpler cases that fail as well, until none does. */
  async simplify(given: KitCase, simpler: (failing: KitCase) => readonly KitCase[]): Promise<KitCase> {
    for (const candidate of simpler(given)) {
      if ((await this.#try(candidate)) !== 'failed') continue;
      this.shrinks++;
      return this.simplify(candidate, simpler);
    }
    return given;
  }

  /** What went wrong with a case that failed. Where it does not in a new process, what it gives depends on the calls before. */
  async explain(given: KitCase): Promise<Failure> {
    const failure = this.#failures.get(JSON.stringify(given))!;
    if (failure.hung) return failure;
    this.#lane.end();
    const again = await this.#ask(given, this.#timeoutMs);
    return again.kind === 'passed' ? { ...failure, message: `depends on earlier calls, for by itself this input passes (is something kept from one call to the next?): ${failure.message}` } : failure;
  }

  async #try(given: KitCase): Promise<'passed' | 'failed' | 'refused'> {
    if (this.#hangs >= HANG_TRIES) return 'passed';
    this.cases++;
    const answer = await this.#ask(given, this.#hangs > 0 ? Math.min(this.#timeoutMs, HANG_TIMEOUT_MS) : this.#timeoutMs);
    if (answer.kind === 'hung') this.#hangs++;
    if (answer.kind === 'refused') {
      this.refusal = answer.reason;
      return 'refused';
    }
    this.accepted++;
    if (answer.kind === 'passed') {
      this.worst = larger(this.worst, answer.worst);
      return 'passed';
    }
    this.#failures.set(JSON.stringify(given), failureOf(answer, given));
    return 'failed';
  }

  #ask(given: KitCase, timeoutMs: number): Promise<Answer> {
    return this.#lane.check({ kind: 'check', op: this.#op, check: this.#check, given }, timeoutMs);
  }
}

function failureOf(answer: Exclude<Answer, { kind: 'passed' | 'refused' }>, given: KitCase): Failure {
  switch (answer.kind) {
    case 'failed':
      return { message: answer.message, input: answer.input, hung: false };
    case 'hung':
      return { message: 'it hangs: no answer in the time that a case may take (--timeout)', input: describeCase(given), hung: true };
    case 'died':
      return { message: answer.message, input: describeCase(given), hung: false };
    default:
      return answer satisfies never;
  }
}
