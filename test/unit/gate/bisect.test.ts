/** The planner of bisections, against every list of verdicts. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type BisectStep, nextStep, type ProbeVerdict, probeLimit } from '../../../src/gate/bisect.ts';

/** Runs a search whose comparison of state i says `truth[i]`; state 0 is never compared. */
function search(truth: readonly ProbeVerdict[]): { readonly step: BisectStep; readonly probes: readonly number[] } {
  const known = new Map<number, ProbeVerdict>();
  for (;;) {
    const step = nextStep(truth.length, known);
    if (step.kind !== 'probe') return { step, probes: [...known.keys()] };
    if (known.has(step.index)) throw new Error(`state ${step.index} was asked for twice`);
    known.set(step.index, truth[step.index]!);
  }
}

const monotone = (count: number, first: number): ProbeVerdict[] => Array.from({ length: count }, (_, i) => (i < first ? 'unchanged' : 'changed'));
const verdict = fc.constantFrom<ProbeVerdict>('changed', 'unchanged', 'skipped');

describe('nextStep', () => {
  test('finds the first changed state of a monotone list, in the steps of a binary search', () => {
    const cases = fc.integer({ min: 2, max: 500 }).chain((count) => fc.tuple(fc.constant(count), fc.integer({ min: 1, max: count - 1 })));
    fc.assert(
      fc.property(cases, ([count, first]) => {
        const { step, probes } = search(monotone(count, first));
        expect(step).toEqual({ kind: 'found', index: first });
        expect(probes.length).toBeLessThanOrEqual(1 + Math.ceil(Math.log2(Math.max(1, count - 1))));
      }),
    );
  });

  test('whatever the verdicts, the answer holds by what was seen, within the limit of probes', () => {
    const lists = fc.array(verdict, { minLength: 1, maxLength: 60 }).map((rest): ProbeVerdict[] => ['unchanged', ...rest]);
    fc.assert(
      fc.property(lists, (truth) => {
        const { step, probes } = search(truth);
        const last = truth.length - 1;
        expect(probes.length).toBeLessThanOrEqual(probeLimit(truth.length));
        expect(probes[0]).toBe(last);
        const seen = (index: number): ProbeVerdict | undefined => (index === 0 ? 'unchanged' : probes.includes(index) ? truth[index] : undefined);
        switch (step.kind) {
          case 'found':
            expect([seen(step.index - 1), seen(step.index)]).toEqual(['unchanged', 'changed']);
            break;
          case 'range':
            expect([seen(step.after), seen(step.upTo)]).toEqual(['unchanged', 'changed']);
            expect(step.upTo - step.after).toBeGreaterThan(1);
            break;
          case 'no-change':
            expect(truth[last]).toBe('unchanged');
            break;
          case 'undecided':
            expect(truth[last]).toBe('skipped');
            break;
          default:
            throw new Error('a search ends');
        }
      }),
    );
  });

  test('skipped states beside the change give the range that holds it, and nothing more', () => {
    const cases = fc
      .tuple(fc.integer({ min: 0, max: 20 }), fc.integer({ min: 1, max: 4 }), fc.integer({ min: 0, max: 20 }))
      .map(([before, skipped, after]) => ({ after: before, upTo: before + skipped + 1, truth: [...monotone(before + 1, before + 1), ...Array<ProbeVerdict>(skipped).fill('skipped'), ...Array<ProbeVerdict>(after + 1).fill('changed')] }));
    fc.assert(
      fc.property(cases, ({ after, upTo, truth }) => {
        const { step, probes } = search(truth);
        expect(step.kind).toBe('range');
        if (step.kind !== 'range') return;
        expect(step.after).toBeLessThanOrEqual(after);
        expect(step.upTo).toBeGreaterThanOrEqual(upTo);
        // Wider than need be only where the probes ran out.
        if (probes.length < probeLimit(truth.length)) expect([step.after, step.upTo]).toEqual([after, upTo]);
      }),
    );
  });

  test('a search goes on from any part of what it saw', () => {
    const known = new Map<number, ProbeVerdict>([[8, 'changed']]);
    expect(nextStep(9, known)).toEqual({ kind: 'probe', index: 4 });
    expect(nextStep(9, known.set(4, 'skipped'))).toEqual({ kind: 'probe', index: 3 });
    expect(nextStep(9, known.set(3, 'unchanged'))).toEqual({ kind: 'probe', index: 5 });
    expect(nextStep(9, known.set(5, 'changed'))).toEqual({ kind: 'range', after: 3, upTo: 5 });
  });

  test('a change that went away and came again: the first that was seen to begin', () => {
    const truth: ProbeVerdict[] = ['unchanged', 'changed', 'changed', 'unchanged', 'unchanged', 'changed'];
    expect(search(truth).step).toEqual({ kind: 'found', index: 1 });
  });

  test('two states need one comparison; fewer are none', () => {
    expect(search(['unchanged', 'changed'])).toEqual({ step: { kind: 'found', index: 1 }, probes: [1] });
    expect(() => nextStep(1, new Map())).toThrow(RangeError);
    expect(probeLimit(2)).toBe(1);
  });
});
