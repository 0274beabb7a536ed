/** Choices that are tried in their network: on made-up times, which a network has from its kernels. */
import { describe, expect, it } from 'vitest';
import type { Decision, Timing } from '../../../../src/backends/webgpu/tune/decide.ts';
import { type NetworkTimes, refine } from '../../../../src/backends/webgpu/tune/refine.ts';
import type { TimedCandidate } from '../../../../src/backends/webgpu/tune/problems.ts';
import { chain, surveyed } from './fake.ts';

const { problems, network } = surveyed(chain([3, 1, 3, 1]));
const [big, small] = problems as [(typeof problems)[0], (typeof problems)[0]];

/** By each problem alone: the second candidate is the fastest, the third and the fourth come close. */
function alone(names: readonly string[], scale: number): Decision {
  const ns = [3000, 1000, 1050, 1100, 1500];
  return { tactic: names[1], times: ns.map((time, i) => ({ tactic: names[i]!, ns: time * scale, spreadNs: 1 })) };
}
const DECIDED = new Map([
  [big.id, alone(big.names, 9)],
  [small.id, alone(small.names, 1)],
]);
const NONE: ReadonlySet<string> = new Set();

/** Labels of the products' kernels in a network, in the order of its layers: that of each tactic is its own. The sums of split products share theirs. */
function tacticsIn(candidate: TimedCandidate): readonly string[] {
  return candidate.kernels.map(({ label }) => label).filter((label) => label.startsWith('Conv') && !label.includes('sum'));
}

/** A network takes what `cost` says of the labels of its kernels. Counts what is measured; after `most` sittings only comparisons are to be had, unless `fails`. */
class Times implements NetworkTimes {
  readonly kept = new Map<string, Timing>();
  readonly measured: (readonly (readonly string[])[])[] = [];
  readonly #cost: (labels: readonly string[]) => number;
  readonly #most: number;
  readonly #fails: boolean;

  constructor(cost: (labels: readonly string[]) => number, most = Number.POSITIVE_INFINITY, fails = false) {
    this.#cost = cost;
    this.#most = most;
    this.#fails = fails;
  }

  get(key: string): Timing | undefined {
    return this.kept.get(key);
  }

  put(key: string, timing: Timing): void {
    this.kept.set(key, timing);
  }

  async measure(candidates: readonly TimedCandidate[]): Promise<readonly Timing[] | undefined> {
    return this.measured.length >= this.#most ? undefined : this.#take(candidates);
  }

  async compare(pair: readonly TimedCandidate[]): Promise<readonly Timing[] | undefined> {
    return this.#fails && this.measured.length >= this.#most ? undefined : this.#take(pair);
  }

  #take(candidates: readonly TimedCandidate[]): readonly Timing[] {
    this.measured.push(candidates.map(tacticsIn));
    return candidates.map((candidate) => ({ ns: this.#cost(tacticsIn(candidate)), spreadNs: 1 }));
  }
}

const labelsOf = (id: string, rank: number): readonly string[] => problems.find((problem) => problem.id === id)!.instances[0]!.candidates[rank]!.kernels().map(({ source }) => source.label).slice(0, 1);

/** Every kernel counts 1000, those of the candidates that a problem is to get count less. */
const preferring = (wanted: readonly (readonly [string, number])[]) => {
  const cheap = new Set(wanted.flatMap(([id, rank]) => labelsOf(id, rank)));
  return (labels: readonly string[]): number => labels.reduce((sum, label) => sum + (cheap.has(label) ? 700 : 1000), 0);
};

describe('a network with open choices', () => {
  it('has the kernels of what is chosen, for every layer, in their order', () => {
    const timed = network.timed((id) => problems.find((problem) => problem.id === id)!.names[0]!);
    const [b, s] = [big, small].map(({ id }) => labelsOf(id, 0));
    expect(tacticsIn(timed)).toEqual([...b!, ...s!, ...b!, ...s!]);
    const other = network.timed((id) => problems.find((problem) => problem.id === id)!.names[1]!);
    expect(other.hash).not.toBe(timed.hash);
    expect(network.timed((id) => problems.find((problem) => problem.id === id)!.names[0]!).hash).toBe(timed.hash);
  });

  it('gives the memory of what is not needed any more to what comes, and keeps constants and what nobody writes', () => {
    const { kernels } = surveyed(chain([3, 3, 3, 3, 3, 3])).network.timed(() => big.names[0]!);
    const writes = kernels.map(({ operands, access }) => operands[access.indexOf('read_write')]!.tensor);
    expect(new Set(writes).size).toBe(2);
    for (const { operands, access } of kernels) {
      const written = new Set(operands.filter((_, i) => access[i] === 'read_write').map(({ tensor }) => tensor));
      expect(operands.filter(({ tensor }, i) => access[i] !== 'read_write' && written.has(tensor))).toEqual([]);
    }
    // The output of one kernel is what the next one reads.
    for (const [at, { operands }] of kernels.slice(1).entries()) expect(operands.map(({ tensor }) => tensor)).toContain(writes[at]);
    const constants = kernels.flatMap(({ operands }) => operands.filter(({ constant }) => constant === 'once').map(({ tensor }) => tensor));
    expect(new Set(constants).size).toBe(6);
    expect(constants.some((tensor) => writes.includes(tensor))).toBe(false);
    const input = kernels[0]!.operands.find(({ constant }, i) => !constant && kernels[0]!.access[i] === 'read')!.tensor;
    expect(writes).not.toContain(input);
  });
});

describe('choices tried in their network', () => {
  it('are those with which it is fastest, the dearest problem first, of what came close alone', async () => {
    const times = new Times(preferring([[big.id, 3], [small.id, 2]]));
    const { decisions, missed } = await refine(network, problems, DECIDED, NONE, 'fast', times);
    expect(missed).toBeUndefined();
    expect(decisions.get(big.id)!.tactic).toBe(big.names[3]);
    expect(decisions.get(small.id)!.tactic).toBe(small.names[2]);
    expect(decisions.get(big.id)!.inNetwork!.map(({ tactic }) => tactic)).toEqual([1, 2, 3].map((rank) => big.names[rank]));
    // The fifth takes half as long again by itself.
    expect(times.measured.map((networks) => networks.length)).toEqual([2, 3, 3, 2]);
    expect(times.measured[2]![0]).toEqual(expect.arrayContaining([...labelsOf(big.id, 3)]));
  });

  it('stay what they were alone where the network takes as long with another', async () => {
    const { decisions } = await refine(network, problems, DECIDED, NONE, 'fast', new Times((labels) => (labels.some((label) => labelsOf(big.id, 0).includes(label)) ? 9000 : 4000)));
    expect([big, small].map(({ id }) => decisions.get(id)!.tactic)).toEqual([big.names[1], small.names[1]]);
  });

  it('are the cost model\'s where the network is faster with these', async () => {
    const { decisions } = await refine(network, problems, DECIDED, NONE, 'fast', new Times(preferring([[big.id, 0], [small.id, 0]])));
    expect([big, small].map(({ id }) => decisions.get(id)!.tactic)).toEqual([big.names[0], small.names[0]]);
  });

  it('are the same again by the same times, of which none is measured anew', async () => {
    const times = new Times(preferring([[big.id, 2]]));
    const first = await refine(network, problems, DECIDED, NONE, 'fast', times);
    const again = new Times(() => 1);
    for (const [key, timing] of times.kept) again.put(key, timing);
    expect(await refine(network, problems, DECIDED, NONE, 'fast', again)).toEqual(first);
    expect(again.measured).toEqual([]);
  });

  it('are searched for from the cost model\'s on where the network is faster with these', async () => {
    const times = new Times(preferring([[big.id, 0], [small.id, 2]]));
    const { decisions, missed } = await refine(network, problems, DECIDED, NONE, 'fast', times);
    expect([missed, decisions.get(big.id)!.tactic, decisions.get(small.id)!.tactic]).toEqual([undefined, big.names[0], small.names[2]]);
    // What is fastest alone is a rival of the model's.
    expect(decisions.get(big.id)!.inNetwork!.map(({ tactic }) => tactic)).toEqual([0, 1, 2, 3].map((rank) => big.names[rank]));
  });

  it('never make the network slower than the untuned one, however early time ends', async () => {
    const cost = preferring([[big.id, 0], [small.id, 2]]);
    const standing = (decisions: ReadonlyMap<string, Decision>): number => cost(tacticsIn(network.timed((id) => decisions.get(id)!.tactic!)));
    const untuned = cost(tacticsIn(network.timed((id) => problems.find((problem) => problem.id === id)!.names[0]!)));
    expect(standing(DECIDED)).toBeGreaterThan(untuned);
    for (const [sittings, missed] of [[0, 2], [1, 2], [2, 1]] as const) {
      const times = new Times(cost, sittings);
      const refined = await refine(network, problems, DECIDED, NONE, 'fast', times);
      expect(standing(refined.decisions)).toBeLessThanOrEqual(untuned);
      expect(refined.missed).toEqual({ kind: 'problems', count: missed });
      expect(times.measured[0]).toHaveLength(2);
    }
    expect((await refine(network, problems, DECIDED, NONE, 'fast', new Times(cost, 3))).missed).toBeUndefined();
  });

  it('go back to the cost model\'s where the network is faster with these by less than the measurement can tell, and stay where it is as fast', async () => {
    for (const [ns, rank] of [[1000.1, 0], [1000, 1], [999.9, 1]] as const) {
      const close: NetworkTimes = {
        get: () => undefined,
        put: () => undefined,
        measure: async () => undefined,
        compare: async () => [{ ns, spreadNs: 50 }, { ns: 1000, spreadNs: 50 }],
      };
      const { decisions } = await refine(network, problems, DECIDED, NONE, 'fast', close);
      expect([big, small].map(({ id }) => decisions.get(id)!.tactic)).toEqual([big.names[rank], small.names[rank]]);
    }
  });

  it('are left alone where the device fails, and where a part of the engine was built with them', async () => {
    const none = await refine(network, problems, DECIDED, NONE, 'fast', new Times(preferring([[big.id, 0]]), 0, true));
    expect(none).toEqual({ decisions: DECIDED, missed: { kind: 'comparison' } });
    const few = new Times(preferring([[big.id, 3], [small.id, 2]]), 2);
    const { decisions, missed } = await refine(network, problems, DECIDED, NONE, 'fast', few);
    expect([missed, decisions.get(big.id)!.tactic, decisions.get(small.id)!.tactic]).toEqual([{ kind: 'problems', count: 1 }, big.names[3], small.names[1]]);
    expect(decisions.get(small.id)!.inNetwork).toBeUndefined();
    // What was found by then stands against the untuned network as well.
    expect(few.measured.map((networks) => networks.length)).toEqual([2, 3, 2]);
    const fixed = await refine(network, problems, DECIDED, new Set([big.id]), 'fast', new Times(preferring([[big.id, 3], [small.id, 0]])));
    expect([fixed.decisions.get(big.id)!.tactic, fixed.decisions.get(small.id)!.tactic]).toEqual([big.names[1], small.names[0]]);
  });

  it('stay where the device fails before the second comparison with the untuned network', async () => {
    const times = new Times(preferring([[big.id, 3], [small.id, 1]]), 3, true);
    const { decisions, missed } = await refine(network, problems, DECIDED, NONE, 'fast', times);
    expect([missed, times.measured.length, decisions.get(big.id)!.tactic, decisions.get(small.id)!.tactic]).toEqual([{ kind: 'last-comparison' }, 3, big.names[3], small.names[1]]);
  });

  it('stand against an untuned network without what could not be generated', async () => {
    const refused = new Map([...DECIDED].map(([id, { tactic, times }]) => [id, { tactic, times: [{ tactic: times[0]!.tactic, refused: 'no code' }, ...times.slice(1)] }]));
    const times = new Times(preferring([]));
    const { decisions } = await refine(network, problems, refused, NONE, 'fast', times);
    expect([big, small].map(({ id }) => decisions.get(id)!.tactic)).toEqual([big.names[1], small.names[1]]);
    const first = new Set([big, small].flatMap(({ id }) => labelsOf(id, 0)));
    expect(times.measured.flat(2).filter((label) => first.has(label))).toEqual([]);
  });

  it('leave out what the device refuses', async () => {
    const refusing: NetworkTimes = { get: () => undefined, put: () => undefined, measure: async (candidates) => candidates.map((_, i) => (i === 1 ? { refused: 'no' } : { ns: 1000 - i, spreadNs: 0.1 })), compare: async () => [{ ns: 998, spreadNs: 0.1 }, { ns: 1000, spreadNs: 0.1 }] };
    const { decisions } = await refine(network, [big, small], new Map([[big.id, DECIDED.get(big.id)!]]), NONE, 'fast', refusing);
    expect(decisions.get(big.id)!.inNetwork![1]).toEqual({ tactic: big.names[2], refused: 'no' });
    expect(decisions.get(big.id)!.tactic).toBe(big.names[3]);
  });
});
