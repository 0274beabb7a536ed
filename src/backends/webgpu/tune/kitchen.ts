/** Compiles candidates ahead of their turn, in the order of their turns, each once. */
import type { Ready, TuningDevice } from './measure.ts';
import type { TimedCandidate } from './problems.ts';

/** A candidate ready to run, or why the device refuses it. */
export type Prepared = Ready | { readonly refused: string };

export class Kitchen {
  readonly #device: TuningDevice;
  #waiting: readonly TimedCandidate[];
  readonly #begun = new Map<string, Promise<Prepared>>();

  /** The candidates in the order in which they will be asked for. */
  constructor(device: TuningDevice, candidates: readonly TimedCandidate[]) {
    this.#device = device;
    this.#waiting = candidates;
  }

  /** The candidates by hash; those that come after them are begun meanwhile. Never rejects. */
  async prepare(candidates: readonly TimedCandidate[]): Promise<ReadonlyMap<string, Prepared>> {
    const asked = new Map(candidates.map((candidate) => [candidate.hash, this.#begin(candidate)]));
    this.#waiting = this.#waiting.filter(({ hash }) => !asked.has(hash));
    for (const candidate of this.#waiting.slice(0, this.#device.rules.lookahead)) void this.#begin(candidate);
    const prepared = new Map<string, Prepared>();
    for (const [hash, made] of asked) {
      prepared.set(hash, await made);
      this.#begun.delete(hash);
    }
    return prepared;
  }

  #begin(candidate: TimedCandidate): Promise<Prepared> {
    const known = this.#begun.get(candidate.hash);
    if (known) return known;
    const making = this.#device.prepare(candidate).catch((error: unknown): Prepared => ({ refused: error instanceof Error ? error.message : String(error) }));
    this.#begun.set(candidate.hash, making);
    return making;
  }
}
