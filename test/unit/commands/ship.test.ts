import { describe, expect, it } from 'vitest';
import Build from '../../../src/commands/build.ts';
import { describeRun } from '../../../src/commands/run-summary.ts';
import Run from '../../../src/commands/run.ts';
import { ENGINE_FLAGS, engineWords } from '../../../src/commands/ship.ts';
import type { BenchRecord } from '../../../src/results/record.ts';
import type { RunResult } from '../../../src/workflows/run/request.ts';
import { completed } from '../../helpers/records.ts';

/** A run's lines with the label `ship`. */
function shipLines(records: readonly BenchRecord[], engineWords: readonly string[] | undefined): string[] {
  const result: RunResult = { suite: 's', runId: 'r', files: ['s.jsonl'], records, baselineVariant: undefined, notices: [], stagesMs: {}, unsaved: undefined, interrupted: false };
  return describeRun(result, { suite: 'my suites', engineWords }, { color: false, width: 80 }).split('\n').filter((line) => line.startsWith('ship'));
}

const record = (variant: string, ms: number, more: Partial<Parameters<typeof completed>[0]> = {}): BenchRecord => completed({ variant, latencyMs: [[ms, ms, ms]], ...more });
const over = { warnings: [{ kind: 'over-budget', text: 'top-1 is 3 points below fp32' }] } as const;

describe('how to have the engine that a run recommends', () => {
  it('is a command on one line, for the fastest within the budget at each batch', () => {
    const records = [record('fp32', 4), record('int8', 2), record('int4', 1, over), record('fp32', 9, { batch: 8 }), record('int8', 10, { batch: 8 })];
    expect(shipLines(records, ['--dataset', 'a-very-long-folder-of-photographs-that-no-terminal-holds'])).toEqual([
      "ship     tsrt-bench build 'my suites' --dataset a-very-long-folder-of-photographs-that-no-terminal-holds --variant int8 --batch 1",
      "ship     tsrt-bench build 'my suites' --dataset a-very-long-folder-of-photographs-that-no-terminal-holds --variant fp32 --batch 8",
    ]);
  });

  it('is not said where nothing is recommended, or what was measured is a file', () => {
    expect(shipLines([record('fp32', 4, over), record('int8', 2, over)], [])).toEqual([]);
    expect(shipLines([record('fp32', 4), record('int8', 2)], undefined)).toEqual([]);
  });

  it('repeats what the run was told of its engines, quoted, and nothing else', () => {
    const flags = { dataset: "Anna's photos", option: ['threads=1', 'mode=a b'], dim: ['n=3'], seed: 7, tune: undefined, plugin: [], rounds: 3, batch: ['1', '8'], json: true };
    expect(engineWords(flags)).toEqual(["--dataset 'Anna'\\''s photos'", "--option 'threads=1'", "--option 'mode=a b'", "--dim 'n=3'", '--seed 7']);
  });

  it('takes flags that both commands have', () => {
    for (const command of [Run, Build]) expect(Object.keys(command.flags)).toEqual(expect.arrayContaining([...ENGINE_FLAGS]));
  });
});
