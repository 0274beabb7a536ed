/** The tuner on a device with made-up times: sharing, ties, budget, interruption, and never slower than untuned. */
import fc from 'fast-check';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { combine, decide, type Decision } from '../../../../src/backends/webgpu/tune/decide.ts';
import type { Candidate } from '../../../../src/backends/webgpu/tactics/tactic.ts';
import { type TimedCandidate, timedForm } from '../../../../src/backends/webgpu/tune/problems.ts';
import { TimingCache } from '../../../../src/backends/webgpu/tune/timing-cache.ts';
import { candidatesPerProblem, Tuner, type TunerOptions } from '../../../../src/backends/webgpu/tune/tuner.ts';
import { TsrtError } from '../../../../src/errors.ts';
import { chain, chance, FakeDevice, problems, surveyed } from './fake.ts';

const folder = mkdtempSync(join(tmpdir(), 'tune-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const IDENTITY = { tool: '0.1.0', device: { vendor: 'fake', driver: '1' } };
let files = 0;
const newFile = (): string => join(folder, `cache-${files++}.json`);

async function tunerOn(device: FakeDevice, options: Partial<TunerOptions> & { readonly file?: string } = {}): Promise<Tuner> {
  const { file, ...rest } = options;
  const cache = await TimingCache.open(file, IDENTITY);
  return new Tuner({ level: 'fast', ...(rest.level === undefined && { candidates: 8 }), cache, open: device.open, budgetMs: undefined, signal: undefined, onProgress: undefined, ...rest });
}

/** By the kernels' code, so that equal kernels take equally long. */
const byHash = ({ hash }: { readonly hash: string }): number => 1000 + 9000 * chance(hash);

describe('problems', () => {
  it('are told apart by key, counted by layer, and generated only when asked for', () => {
    const found = problems(chain([3, 3, 1, 3]));
    expect(found.map(({ id, instances }) => [id, instances.map(({ layer }) => layer)])).toEqual([
      ['Conv f32 1x196x64x576', ['conv0', 'conv1', 'conv3']],
      ['Conv f32 1x196x64x64', ['conv2']],
    ]);
    expect(new Set(found[0]!.names).size).toBe(found[0]!.names.length);
  });

  it('give equal candidates equal hashes, and different ones different', () => {
    const [first, second] = problems(chain([3, 3, 1]));
    const [a, b] = first!.instances;
    expect(timedForm(a!.candidates[0]!).hash).toBe(timedForm(b!.candidates[0]!).hash);
    const all = [...first!.instances[0]!.candidates, ...second!.instances[0]!.candidates].map((candidate) => timedForm(candidate).hash);
    expect(new Set(all).size).toBe(all.length);
  });

  it('are one where only their floating-point literals differ, and not where whole numbers do', () => {
    const kernel = (wgsl: string): Candidate => ({
      name: 'x',
      scratchBytes: 0,
      kernels: () => [{ source: { label: 'x', wgsl, access: [], invocations: 1, workgroupBytes: 0 }, operands: [], workgroups: [1, 1, 1] }],
    });
    const hash = (wgsl: string): string => timedForm(kernel(wgsl)).hash;
    expect(hash('y = x * 56.808937072753906f + -1e-7f')).toBe(hash('y = x * 3f + 0.25f'));
    expect(hash('y = a[i + 16u]')).not.toBe(hash('y = a[i + 32u]'));
  });

  it('time the two kernels of a split product as one candidate, the memory between them as one operand', () => {
    const split = problems(chain([3], 256, 7))[0]!.instances[0]!.candidates.find(({ name }) => name.endsWith(' /4'))!;
    const { kernels } = timedForm(split);
    expect(kernels).toHaveLength(2);
    expect(kernels[1]!.operands[0]!.tensor).toBe(kernels[0]!.operands.at(-1)!.tensor);
    expect(kernels[0]!.access.at(-1)).toBe('read_write');
  });
});

describe('the tuner', () => {
  it('times equal kernels once, the costliest problem first, and chooses the fastest', async () => {
    const device = new FakeDevice({ time: byHash });
    const tuner = await tunerOn(device);
    const found = problems(chain([1, 3, 3]));
    const decisions = await tuner.decideAll(found);
    expect(device.prepared.length).toBe(new Set(device.prepared).size);
    expect(device.prepared.length).toBe(16);
    const big = found.find(({ id }) => id.endsWith('x576'))!;
    expect(device.rounds[0]).toEqual(big.instances[0]!.candidates.slice(0, 8).map((candidate) => timedForm(candidate).hash));
    for (const { id, instances } of found) {
      const times = instances[0]!.candidates.slice(0, 8).map((candidate) => ({ name: candidate.name, ns: byHash(timedForm(candidate)) }));
      expect(decisions.get(id)!.tactic).toBe(times.reduce((best, other) => (other.ns < best.ns ? other : best)).name);
      expect(decisions.get(id)!.times.map(({ tactic }) => tactic)).toEqual(times.map(({ name }) => name));
    }
    expect(tuner.counts()).toEqual({ measured: 16, reused: 0, refused: 0, unmeasured: 0, networks: 0, clocks: 'proven' });
  });

  it('shares candidates out among the problems where it is to be fast', () => {
    expect([0, 1, 6, 10, 20, 60].map((problems) => candidatesPerProblem('fast', problems))).toEqual([24, 24, 24, 16, 8, 8]);
    expect([1, 60].map((problems) => candidatesPerProblem('full', problems))).toEqual([40, 40]);
  });

  it('times all candidates in full, and keeps hopeless ones to a few executions, but never the first', async () => {
    const found = problems(chain([3]));
    const hopeless = new Set(found[0]!.instances[0]!.candidates.flatMap((candidate, i) => (i % 2 === 0 ? [timedForm(candidate).hash] : [])));
    const device = new FakeDevice({ time: ({ hash }) => (hopeless.has(hash) ? 90_000 : 10_000) });
    const tuner = await tunerOn(device, { level: 'full' });
    await tuner.decideAll(found);
    const first = timedForm(found[0]!.instances[0]!.candidates[0]!).hash;
    const rounds = (hash: string): number => device.rounds.filter((round) => round.includes(hash)).length;
    expect(device.prepared.length).toBe(Math.min(40, found[0]!.names.length));
    expect([...hopeless].filter((hash) => device.prepared.includes(hash) && hash !== first).map(rounds)).toEqual(expect.arrayContaining([2]));
    // Once among all, once against the winner alone.
    expect(rounds(first)).toBe(14);
  });

  it('leaves ties to the order of the model, however fine the clock', async () => {
    const found = problems(chain([3]));
    const tied = await (await tunerOn(new FakeDevice({ time: () => 5000 }))).decideAll(found);
    expect([...tied.values()].map(({ tactic }) => tactic)).toEqual([found[0]!.names[0]]);
    // Differences below the clock's quantum are none.
    const coarse = new FakeDevice({ time: ({ hash }) => 5000 + Math.floor(300 * chance(hash)), quantumNs: 65_536, rules: { maxRepetitions: 1 } });
    expect([...(await (await tunerOn(coarse)).decideAll(found)).values()].map(({ tactic }) => tactic)).toEqual([found[0]!.names[0]]);
  });

  it('times a winner again against the first alone, so that luck among many does not decide', async () => {
    const found = problems(chain([3]));
    const [first, second, third] = found[0]!.instances[0]!.candidates.map((candidate) => timedForm(candidate).hash) as [string, string, string];
    // The second is lucky at first, the third is faster indeed.
    const time = ({ hash }: { readonly hash: string }, round: number): number => (hash === second ? (round <= 7 ? 3000 : 6000) : hash === third ? 4000 : hash === first ? 5000 : 9000);
    const device = new FakeDevice({ time });
    const decision = (await (await tunerOn(device)).decideAll(found)).get(found[0]!.id)!;
    expect(decision.tactic).toBe(found[0]!.names[2]);
    expect(decision.times.slice(0, 3).map((timing) => 'ns' in timing && timing.ns)).toEqual([5000, 6000, 4000]);
    expect(device.rounds.map((round) => round.length)).toEqual([8, 8, 8, 8, 3, 3, 3, ...Array.from({ length: 14 }, () => 2)]);
  });

  it('records what the device refuses and goes on without it', async () => {
    const found = problems(chain([3]));
    const [first, second] = found[0]!.instances[0]!.candidates.map((candidate) => timedForm(candidate).hash);
    const device = new FakeDevice({ time: ({ hash }) => (hash === first ? 'too many registers' : hash === second ? 1000 : 3000) });
    const tuner = await tunerOn(device);
    const { tactic, times } = (await tuner.decideAll(found)).get(found[0]!.id)!;
    expect(times[0]).toEqual({ tactic: found[0]!.names[0], refused: 'too many registers' });
    expect(tactic).toBe(found[0]!.names[1]);
    expect(tuner.counts()).toMatchObject({ measured: 7, refused: 1 });
  });

  it('reuses every time of a cache without opening the device', async () => {
    const file = newFile();
    const found = problems(chain([3, 1]));
    const cold = await (await tunerOn(new FakeDevice({ time: byHash }), { file })).decideAll(found);
    const unused = new FakeDevice({ time: () => 'never asked' });
    const tuner = await tunerOn(unused, { file });
    expect(await tuner.decideAll(found)).toEqual(cold);
    expect(unused.opened).toBe(0);
    expect(tuner.counts()).toEqual({ measured: 0, reused: 16, refused: 0, unmeasured: 0, networks: 0, clocks: undefined });
  });

  it('stops where the budget ends; what is unmeasured gets the choice of the model', async () => {
    let nowMs = 0;
    const device = new FakeDevice({ time: byHash, onRound: () => (nowMs += 10) });
    const file = newFile();
    const tuner = await tunerOn(device, { file, budgetMs: 100, now: () => nowMs });
    const found = problems(chain([1, 3, 5]));
    const decisions = await tuner.decideAll(found);
    const tactics = [...found].sort((a, b) => b.flops - a.flops).map(({ id }) => decisions.get(id)!.tactic);
    expect(tactics.map((tactic) => tactic !== undefined)).toEqual([true, false, false]);
    expect(tuner.counts()).toMatchObject({ measured: 4, unmeasured: 2 });
    expect(tuner.notices).toEqual([expect.stringMatching(/the budget is spent.*of 3 problems that had no times, 2 have the cost model's choice, 1 have the best of their first 4 candidates/)]);
    // What was measured is kept; without a budget a problem is measured whole.
    const again = await tunerOn(new FakeDevice({ time: byHash }), { file, budgetMs: 100_000, now: () => nowMs });
    await again.decideAll(found);
    expect(again.counts()).toMatchObject({ measured: 20, reused: 4 });
    const unbounded = await tunerOn(new FakeDevice({ time: byHash }), { file });
    await unbounded.decideAll(found);
    expect(unbounded.counts()).toMatchObject({ measured: 0, reused: 24 });
  });

  it('spends a budget on the first candidates of every problem, then on the rest of each beside the best so far', async () => {
    const found = [...problems(chain([1, 3, 5]))].sort((a, b) => b.flops - a.flops);
    const hashes = found.map(({ instances }) => instances[0]!.candidates.slice(0, 8).map((candidate) => timedForm(candidate).hash));
    let nowMs = 0;
    const device = new FakeDevice({ time: byHash, onRound: () => (nowMs += 10) });
    const whole = await (await tunerOn(device, { budgetMs: 100_000, now: () => nowMs })).decideAll(found);
    expect(device.prepared.slice(0, 12)).toEqual(hashes.flatMap((all) => all.slice(0, 4)));
    // The best is the one that is found without a budget.
    const tacticsOf = (decisions: ReadonlyMap<string, Decision>): (string | undefined)[] => found.map(({ id }) => decisions.get(id)!.tactic);
    expect(tacticsOf(whole)).toEqual(tacticsOf(await (await tunerOn(new FakeDevice({ time: byHash }))).decideAll(found)));
    const bestOf = (all: readonly string[]): string => all.toSorted((a, b) => byHash({ hash: a }) - byHash({ hash: b }))[0]!;
    const second = device.rounds.find((round) => round.includes(hashes[0]![7]!))!;
    expect(new Set(second)).toEqual(new Set([hashes[0]![0], bestOf(hashes[0]!.slice(0, 4)), ...hashes[0]!.slice(4)]));

    // The budget ends within the second course.
    const rounds = device.rounds.findIndex((round) => round.includes(hashes[0]![7]!)) + 3;
    const file = newFile();
    nowMs = 0;
    const cut = await tunerOn(new FakeDevice({ time: byHash, onRound: () => (nowMs += 10) }), { file, budgetMs: rounds * 10, now: () => nowMs });
    const decisions = await cut.decideAll(found);
    for (const [i, { id, names }] of found.entries()) {
      const { tactic, times } = decisions.get(id)!;
      expect(times.map((time) => time.tactic)).toEqual(names.slice(0, 4));
      expect(tactic).toBe(names[hashes[i]!.indexOf(bestOf(hashes[i]!.slice(0, 4)))]);
    }
    expect(cut.counts()).toMatchObject({ measured: 12, unmeasured: 0 });
    expect(cut.notices).toEqual([expect.stringMatching(/of 3 problems that had no times, 3 have the best of their first 4 candidates\./)]);
    // The next build goes on with them.
    nowMs = 0;
    const next = await tunerOn(new FakeDevice({ time: byHash }), { file, budgetMs: 100_000, now: () => nowMs });
    expect(await next.decideAll(found)).toEqual(whole);
    expect(next.counts()).toMatchObject({ measured: 12, reused: 12 });
  });

  it('waits for slow compilation no longer than the budget', async () => {
    const device = new FakeDevice({ time: byHash });
    device.prepare = () => new Promise(() => undefined);
    const tuner = await tunerOn(device, { budgetMs: 20 });
    expect([...(await tuner.decideAll(problems(chain([3])))).values()]).toEqual([{ tactic: undefined, times: [] }]);
  });

  it.each([0, 3, 8, 11])('keeps a usable cache when it is interrupted in round %i', async (at) => {
    const file = newFile();
    const controller = new AbortController();
    const device = new FakeDevice({ time: byHash, onRound: (rounds) => rounds === at && controller.abort() });
    const tuner = await tunerOn(device, { file, signal: controller.signal });
    const found = problems(chain([1, 3, 5]));
    await expect(tuner.decideAll(found)).rejects.toThrow(/aborted/i);
    const after = await tunerOn(new FakeDevice({ time: byHash }), { file });
    const decisions = await after.decideAll(found);
    expect(decisions).toEqual(await (await tunerOn(new FakeDevice({ time: byHash }))).decideAll(found));
    expect(after.counts().reused).toBe(8 * Math.floor(at / 7));
  });

  it('ends where the device is lost, and the build goes on', async () => {
    const device = new FakeDevice({
      time: byHash,
      onRound: (rounds) => {
        if (rounds === 8) throw new TsrtError('DEVICE_LOST', 'the WebGPU device was lost');
      },
    });
    const tuner = await tunerOn(device);
    const decisions = await tuner.decideAll(problems(chain([1, 3, 5])));
    expect([...decisions.values()].filter(({ tactic }) => tactic !== undefined)).toHaveLength(1);
    expect(tuner.notices).toEqual([expect.stringMatching(/device was lost.*of 3 problems that had no times, 2 have the cost model's choice\./)]);
  });

  it('leaves a problem that the device can not run to the model, and measures the others', async () => {
    let refused = 0;
    const device = new FakeDevice({
      time: byHash,
      onRound: (rounds) => {
        if (rounds === 14 && refused++ === 0) throw new TsrtError('OUT_OF_MEMORY', 'no room for operands');
      },
    });
    const tuner = await tunerOn(device);
    const found = [...problems(chain([1, 3, 5]))].sort((a, b) => b.flops - a.flops);
    const decisions = await tuner.decideAll(found);
    expect(found.map(({ id }) => decisions.get(id)!.tactic !== undefined)).toEqual([true, false, true]);
    expect(tuner.counts()).toMatchObject({ measured: 16, unmeasured: 1 });
    expect(tuner.notices).toEqual([expect.stringMatching(/was not measured: no room for operands/)]);
  });

  it('does not keep times of a clock that was not proven, and measures again where it moved', async () => {
    const file = newFile();
    const found = problems(chain([3]));
    const winner = timedForm(found[0]!.instances[0]!.candidates[2]!).hash;
    const time = ({ hash }: { readonly hash: string }): number => (hash === winner ? 1500 : 2000);
    const unproven = await tunerOn(new FakeDevice({ time, clocks: ['unproven'] }), { file });
    expect((await unproven.decideAll(found)).get(found[0]!.id)!.tactic).toBeDefined();
    expect(unproven.counts()).toMatchObject({ measured: 8, clocks: 'unproven' });
    let asked = 0;
    const moved = new FakeDevice({ time, holds: () => asked++ > 0 });
    const tuner = await tunerOn(moved, { file });
    await tuner.decideAll(found);
    expect(tuner.counts()).toEqual({ measured: 8, reused: 0, refused: 0, unmeasured: 0, networks: 0, clocks: 'proven' });
    // All twice, and the winner against the first.
    expect(moved.rounds).toHaveLength(21);
    expect((await TimingCache.open(file, IDENTITY)).get(moved.prepared[0]!)).toBeDefined();
  });

  it('is never slower than untuned by its own times, however noisy the device', async () => {
    const found = problems(chain([1, 3]));
    await fc.assert(
      fc.asyncProperty(fc.nat(), fc.double({ min: 0, max: 1, noNaN: true }), async (seed, noise) => {
        const device = new FakeDevice({ time: ({ hash }, round) => 1000 * (1 + chance(hash, seed)) * (1 + noise * chance(hash, seed + round)) });
        for (const { tactic, times } of (await (await tunerOn(device)).decideAll(found)).values()) {
          const [first, chosen] = [times[0]!, times.find((time) => time.tactic === tactic)!] as { ns: number; spreadNs: number }[];
          expect(chosen === first || chosen!.ns < first!.ns - Math.max(first!.spreadNs, chosen!.spreadNs)).toBe(true);
        }
      }),
      { numRuns: 25 },
    );
  });

  it('shows its progress, which never falls', async () => {
    const seen: number[][] = [];
    const tuner = await tunerOn(new FakeDevice({ time: byHash }), { onProgress: (done, total) => seen.push([done, total]) });
    await tuner.decideAll(problems(chain([1, 3])));
    expect(seen).toEqual([[0, 16], [8, 16], [16, 16]]);
  });
});

describe('the choice', () => {
  const timing = fc.oneof(
    { weight: 6, arbitrary: fc.record({ ns: fc.double({ min: 0, max: 1e9, noNaN: true }), spreadNs: fc.double({ min: 0, max: 1e8, noNaN: true }) }) },
    { weight: 1, arbitrary: fc.record({ refused: fc.string() }) },
  );

  it('is never slower than the first, and another only where it is faster by more than the spread', () => {
    fc.assert(
      fc.property(fc.array(timing, { minLength: 1, maxLength: 12 }), (timings) => {
        const candidates = timings.map((one, i) => ({ name: String(i), timing: one }));
        const ran = candidates.filter((candidate) => !('refused' in candidate.timing));
        const chosen = decide(candidates);
        expect(chosen === undefined).toBe(ran.length === 0);
        if (chosen === undefined) return;
        const [first, taken] = [ran[0]!, ran.find(({ name }) => name === chosen)!].map((one) => ({ name: one.name, ...(one.timing as { ns: number; spreadNs: number }) }));
        if (taken!.name !== first!.name) expect(first!.ns - taken!.ns).toBeGreaterThan(Math.max(first!.spreadNs, taken!.spreadNs));
      }),
      { numRuns: 2000 },
    );
  });

  it('takes the earlier of two that can not be told apart', () => {
    const at = (name: string, ns: number, spreadNs = 1) => ({ name, timing: { ns, spreadNs } });
    expect(decide([at('a', 100), at('b', 50, 5), at('c', 47, 5), at('d', 44, 2)])).toBe('c');
    expect(decide([at('a', 100), at('b', 99.5)])).toBe('a');
    expect(decide([at('a', 100, 60), at('b', 50)])).toBe('a');
  });

  it('weighs forms of a problem by their layers', () => {
    expect(combine([{ timing: { ns: 10, spreadNs: 1 }, count: 3 }, { timing: { ns: 50, spreadNs: 5 }, count: 1 }])).toEqual({ ns: 20, spreadNs: 2 });
    expect(combine([{ timing: { ns: 10, spreadNs: 1 }, count: 3 }, { timing: { refused: 'no' }, count: 1 }])).toEqual({ refused: 'no' });
  });

  it('tries what came close in the network, keeps those times, and a part of a budget for it', async () => {
    const file = newFile();
    const { problems: found, network } = surveyed(chain([3, 1, 3]));
    const nearly = ({ hash, kernels }: TimedCandidate): number => (kernels.length > 4 ? 50_000 + 5000 * chance(hash) : 5000 + 200 * chance(hash));
    const device = new FakeDevice({ time: nearly });
    const tuner = await tunerOn(device, { file, inNetwork: true });
    const alone = await tuner.decideAll(found);
    const refined = await tuner.refineIn(network, found, alone, new Set());
    expect(tuner.counts().networks).toBeGreaterThan(3);
    expect([...refined.values()].every(({ inNetwork }) => inNetwork!.length > 1)).toBe(true);
    expect([...refined].map(([id, { times }]) => [id, times])).toEqual([...alone].map(([id, { times }]) => [id, times]));
    const again = await tunerOn(new FakeDevice({ time: () => 'never' }), { file, inNetwork: true });
    expect(await again.refineIn(network, found, await again.decideAll(found), new Set())).toEqual(refined);
    expect(again.counts()).toMatchObject({ measured: 0, networks: 0 });

    const alike = await tunerOn(new FakeDevice({ time: () => 'never' }), { file });
    expect(await alike.refineIn(network, found, alone, new Set())).toBe(alone);

    let nowMs = 0;
    const slow = new FakeDevice({ time: nearly, onRound: () => (nowMs += 10) });
    const short = await tunerOn(slow, { inNetwork: true, budgetMs: 1000, now: () => nowMs });
    const half = await short.decideAll(found);
    expect(nowMs).toBeLessThan(1000);
    nowMs = 1000;
    const kept = await short.refineIn(network, found, half, new Set());
    // The comparison with the untuned network is not for the budget to prevent, and the trials are.
    expect(short.counts().networks).toBe(2);
    expect(short.notices.at(-1)).toBe('Tuning in the network ended early (the budget is spent): 2 problems were not tried in it.');
    expect([...kept].map(([id]) => id)).toEqual([...half].map(([id]) => id));
  });

  it('times networks for half a minute, or five to be thorough, where they are slow', async () => {
    const { problems: found, network } = surveyed(chain([3, 1, 3]));
    for (const [level, seconds, round] of [['fast', 30, 11], ['full', 300, 110]] as const) {
      let nowMs = 0;
      const device = new FakeDevice({ time: ({ hash }) => 5000 + 200 * chance(hash), onRound: () => (nowMs += 1) });
      const tuner = await tunerOn(device, { level, inNetwork: true, now: () => nowMs });
      const decided = await tuner.decideAll(found);
      const timed = device.rounds.length;
      const from = nowMs;
      const slow = new FakeDevice({ time: () => 1e9, onRound: () => (nowMs += round * 1000) });
      device.round = (runs) => slow.round(runs);
      await tuner.refineIn(network, found, decided, new Set());
      expect(device.rounds.length).toBe(timed);
      expect(nowMs - from).toBeGreaterThanOrEqual(seconds * 1000);
      expect(nowMs - from).toBeLessThan((seconds + round) * 1000 + 1);
      expect(tuner.notices).toEqual([`Tuning in the network ended early (its ${seconds} s are over): every problem has what is fastest by itself, and the network was not compared with the untuned one.`]);
    }
  });

  it('stops warming up where the budget or the signal ends, so that nothing runs beside what comes next', async () => {
    const { problems: found, network } = surveyed(chain([3, 1, 3]));
    const device = new FakeDevice({ time: byHash, hangs: true });
    const tuner = await tunerOn(device, { inNetwork: true, budgetMs: 40 });
    const decided = await tuner.decideAll(found);
    expect([device.warming, tuner.counts().unmeasured]).toEqual([0, 2]);
    expect(await tuner.refineIn(network, found, decided, new Set())).toEqual(decided);
    expect(device.warming).toBe(0);
    expect(tuner.notices.every((notice) => /budget is spent/.test(notice))).toBe(true);

    const stopped = new FakeDevice({ time: byHash, hangs: true });
    const signal = AbortSignal.timeout(20);
    await expect((await tunerOn(stopped, { signal })).decideAll(found)).rejects.toThrow(/timeout/);
    expect(stopped.warming).toBe(0);
  });
});
