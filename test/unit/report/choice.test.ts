import { describe, expect, it } from 'vitest';
import { choiceLines, choicesOf } from '../../../src/report/choice.ts';
import { buildReport, measuredRows } from '../../../src/report/rows.ts';
import { tableReporter } from '../../../src/report/table.ts';
import type { BenchRecord } from '../../../src/results/record.ts';
import { ACCURACY, completed } from '../../helpers/records.ts';

const MIB = 2 ** 20;

/** A variant of a latency, a top-1 and a peak of memory. */
function record(variant: string, ms: number, top1Percent: number, mib: number, over = false, batch = 1): BenchRecord {
  return completed({
    variant,
    batch,
    latencyMs: [[ms, ms, ms]],
    residentPeakBytes: mib * MIB,
    accuracy: { ...ACCURACY, top1Percent },
    warnings: over ? [{ kind: 'over-budget', text: 'top-1 is 3.00 points below fp32, more than the 1 allowed' }] : [],
  });
}

const input = (records: readonly BenchRecord[]) => ({ suite: 's', records, baselineVariant: undefined, color: false, width: 200 });
const choices = (records: readonly BenchRecord[]) => choicesOf(measuredRows(buildReport(input(records))));

describe('the choice at the end of a run', () => {
  it('is the fastest variant within the budget, not the fastest', () => {
    const [choice] = choices([record('fp32', 10, 80, 900), record('int8', 4, 79.8, 700), record('int4', 2, 70, 600, true)]);
    expect(choice?.fastest?.variant).toBe('int8');
  });

  it('is none where all are over it', () => {
    const records = [record('a', 4, 60, 700, true), record('b', 2, 50, 600, true)];
    expect(choices(records)[0]?.fastest).toBeUndefined();
    expect(choiceLines(buildReport(input(records)))[0]).toEqual({ label: 'fastest', text: 'at batch 1, single-stream: none, as every variant is over the accuracy budget' });
  });

  it('lists what nothing beats in accuracy, latency and memory at once', () => {
    const records = [record('slow', 10, 80, 900), record('worse', 11, 79, 950), record('fast', 4, 79, 800), record('small', 6, 79, 700), record('twin', 4, 79, 800)];
    expect(choices(records)[0]?.pareto.map(({ variant }) => variant)).toEqual(['fast', 'twin', 'small', 'slow']);
  });

  it('compares within a batch only, and says nothing where there is no choice', () => {
    expect(choices([record('a', 4, 80, 700), record('b', 5, 80, 700), record('a', 1, 80, 700, false, 8)]).map(({ batch }) => batch)).toEqual([1]);
    expect(choices([record('a', 4, 80, 700)])).toEqual([]);
  });

  it('says on which device, where there are several, and states each speed-up on its own', () => {
    const on = (device: string, variant: string, ms: number) => completed({ device, variant, latencyMs: [[ms, ms]] });
    const records = [on('cpu-a', 'fp32', 10), on('cpu-a', 'int8', 5), on('cpu-b', 'fp32', 2), on('cpu-b', 'int8', 4)];
    expect(choiceLines(buildReport(input(records))).map(({ text }) => text.replace(/, its.*: /, ': ').replace(/, \d+ MiB/, ''))).toEqual(['on cpu-a at batch 1, single-stream: int8 5.00 ms', 'on cpu-b at batch 1, single-stream: fp32 2.00 ms']);
    expect(measuredRows(buildReport(input(records))).map(({ speedup }) => speedup)).toEqual([1, 1, 2, 0.5]);
  });

  it('an unknown accuracy beats nothing and is beaten by nothing', () => {
    const unknown = { ...completed({ variant: 'unknown', latencyMs: [[1, 1]], residentPeakBytes: 600 * MIB }), accuracy: undefined };
    expect(choices([unknown, record('known', 5, 80, 700)])[0]?.pareto).toHaveLength(2);
  });

  it('says it in lines, and the table marks what is over the budget', () => {
    const records = [record('fp32', 10, 80, 900), record('int8', 4, 77, 700, true)];
    const lines = choiceLines(buildReport(input(records)));
    expect(lines.map(({ label }) => label)).toEqual(['fastest', 'pareto', 'pareto']);
    expect(lines[0]?.text).toMatch(/^at batch 1, single-stream, within the accuracy budget: fp32 10\.0 ms, top-1 80\.0 %, \d+ MiB$/);
    expect(lines[1]?.text).toMatch(/int8 4\.00 ms.*over the accuracy budget$/);
    const table = tableReporter.render(input(records));
    expect(table).toContain('int8 !');
    expect(table).toContain('! marks variants over the accuracy budget.');
    expect(table).not.toContain('fp32 !');
  });
});
