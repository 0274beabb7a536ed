import { describe, expect, it } from 'vitest';
import Build from '../../../src/commands/build.ts';
import Gate from '../../../src/commands/gate.ts';
import { describeRun } from '../../../src/commands/run-summary.ts';
import Run from '../../../src/commands/run.ts';
import { ENGINE_FLAGS, engineWords, GATE_FLAGS, RUN_FLAGS } from '../../../src/commands/ship.ts';
import type { BenchRecord } from '../../../src/results/record.ts';
import type { RunResult } from '../../../src/workflows/run/request.ts';
import { completed } from '../../helpers/records.ts';

/** A run's lines with a label. */
function linesOf(label: RegExp, records: readonly BenchRecord[], flags: Readonly<Record<string, unknown>>, interrupted = false): string[] {
  const result: RunResult = { suite: 's', runId: 'r', files: ['s.jsonl'], records, baselineVariant: undefined, notices: [], stagesMs: {}, unsaved: undefined, interrupted };
  return describeRun(result, { suite: 'my suites', flags }, { color: false, width: 80 }).split('\n').filter((line) => label.test(line));
}
const shipLines = (records: readonly BenchRecord[], flags: Readonly<Record<string, unknown>>): string[] => linesOf(/^ship/, records, flags);

const record = (variant: string, ms: number, more: Partial<Parameters<typeof completed>[0]> = {}): BenchRecord => completed({ variant, latencyMs: [[ms, ms, ms]], ...more });
const over = { warnings: [{ kind: 'over-budget', text: 'top-1 is 3 points below fp32' }] } as const;

describe('how to have the engine that a run recommends', () => {
  it('is a command on one line, for the fastest within the budget at each batch', () => {
    const records = [record('fp32', 4), record('int8', 2), record('int4', 1, over), record('fp32', 9, { batch: 8 }), record('int8', 10, { batch: 8 })];
    expect(shipLines(records, { dataset: 'a-very-long-folder-of-photographs-that-no-terminal-holds' })).toEqual([
      "ship     tsrt-bench build 'my suites' --dataset a-very-long-folder-of-photographs-that-no-terminal-holds --variant int8 --batch 1",
      "ship     tsrt-bench build 'my suites' --dataset a-very-long-folder-of-photographs-that-no-terminal-holds --variant fp32 --batch 8",
    ]);
  });

  it('is not said where nothing is recommended, or what was measured is a file', () => {
    expect(shipLines([record('fp32', 4, over), record('int8', 2, over)], {})).toEqual([]);
    expect(shipLines([record('fp32', 4), record('int8', 2)], { engine: ['a.engine'] })).toEqual([]);
  });

  it('repeats what the run was told of its engines, quoted, and nothing else', () => {
    const flags = { dataset: "Anna's photos", option: ['threads=1', 'mode=a b'], dim: ['n=3'], seed: 7, tune: undefined, plugin: [], rounds: 3, batch: ['1', '8'], json: true };
    expect(engineWords(flags)).toEqual(["--dataset 'Anna'\\''s photos'", "--option 'threads=1'", "--option 'mode=a b'", "--dim 'n=3'", '--seed 7']);
  });

  it('is followed by commands that measure what the run did', () => {
    const flags = { model: 'my net.onnx', batch: ['1', '8'], results: 'r', rounds: 6, accuracy: false, quiet: true };
    const measured = "--model 'my net.onnx' --batch 1 --batch 8 --results r";
    expect(linesOf(/^(next|then)/, [record('fp32', 4)], flags)).toEqual([
      `next     tsrt-bench run 'my suites' ${measured} --no-accuracy --rounds 24 && tsrt-bench baseline save main --results r`,
      `then     tsrt-bench gate 'my suites' --measure ${measured}   (after a change)`,
    ]);
    expect(linesOf(/^next/, [record('fp32', 4)], flags, true)).toEqual([`next     tsrt-bench run 'my suites' ${measured} --no-accuracy --rounds 6 --resume   (goes on with the cases that are left)`]);
    expect(linesOf(/^next/, [], flags, true)).toEqual([`next     tsrt-bench run 'my suites' ${measured} --no-accuracy --rounds 6`]);
    // What a gate does not take, a run before it does.
    expect(linesOf(/^then/, [record('fp32', 4)], { tune: 'fast' })).toEqual(["then     tsrt-bench run 'my suites' --tune fast --rounds 24 && tsrt-bench gate 'my suites'   (after a change)"]);
  });

  it('takes flags that both commands have', () => {
    expect(Object.keys(Run.flags)).toEqual(expect.arrayContaining([...RUN_FLAGS]));
    expect(Object.keys(Gate.flags)).toEqual(expect.arrayContaining([...GATE_FLAGS]));
    for (const command of [Run, Build]) expect(Object.keys(command.flags)).toEqual(expect.arrayContaining([...ENGINE_FLAGS]));
  });
});
