/** Code-review formats: which metrics become findings, and that the same finding keeps its name. */
import { describe, expect, it } from 'vitest';
import { comparePairs } from '../../../src/gate/compare.ts';
import { judge, type GateReport } from '../../../src/gate/judge.ts';
import { pairCases } from '../../../src/gate/pair.ts';
import { DEFAULT_POLICY } from '../../../src/gate/policy.ts';
import { gateGitlabReporter, gateSarifReporter } from '../../../src/report/gate-findings.ts';
import type { BenchRecord } from '../../../src/results/record.ts';
import { completed, failed } from '../../helpers/records.ts';

const timings = (ms: number) => [1, 2, 3, 4, 5, 6].map((round) => Array.from({ length: 20 }, (_, i) => ms * (1 + i * 1e-3 + round * 5e-4)));
const set = (records: readonly BenchRecord[]) => ({ label: 'set', suite: 'resnet50', records, paths: [], notices: [] });

function report(slowdown: number): GateReport {
  const before = [1, 2, 4, 8].map((batch) => completed({ batch, latencyMs: timings(10) }));
  const after = [completed({ batch: 1, latencyMs: timings(10 * slowdown) }), completed({ batch: 2, latencyMs: timings(7) }), failed({ batch: 4 }), completed({ batch: 8, latencyMs: timings(10) })];
  const pairing = pairCases(set(before), set(after), { allowDifferentDevice: false });
  const policy = { ...DEFAULT_POLICY, thresholds: { 'latency-p50': 5, 'memory-peak': 5 } };
  return judge(comparePairs(pairing, { baseline: 'a', candidate: 'b' }, policy), policy);
}

const parse = (text: string) => JSON.parse(text) as never;

describe('gitlab', () => {
  it('lists what regressed and what is undecided, not what improved or passed', () => {
    expect(parse(gateGitlabReporter.render(report(1.3), { color: false }))).toEqual([
      {
        description: expect.stringMatching(/^onnxruntime\/fp32\/fusion-on\/b1\/single-stream: latency p50 rose by 30/),
        check_name: 'tsrt-bench/latency-p50',
        fingerprint: expect.stringMatching(/^[0-9a-f]{64}$/),
        severity: 'major',
        location: { path: 'suites/resnet50/suite.yaml', lines: { begin: 1 } },
      },
      expect.objectContaining({ check_name: 'tsrt-bench/broken', severity: 'major' }),
    ]);
  });

  it('leaves out what is only watched and can not be told', () => {
    const both = report(1.3);
    const cases = both.cases.map((one) => ({ ...one, metrics: one.metrics.map((metric) => ({ ...metric, watched: true, verdict: 'inconclusive' as const })) }));
    const rules = (text: string) => (parse(text) as { check_name: string }[]).map(({ check_name }) => check_name);
    expect(rules(gateGitlabReporter.render({ ...both, cases }, { color: false }))).toEqual(['tsrt-bench/broken']);
  });

  it('gives a finding the same fingerprint with other figures, and each its own', () => {
    const prints = (slowdown: number) => (parse(gateGitlabReporter.render(report(slowdown), { color: false })) as { fingerprint: string }[]).map(({ fingerprint }) => fingerprint);
    expect(prints(1.3)).toEqual(prints(1.5));
    expect(new Set(prints(1.3)).size).toBe(2);
  });
});

describe('sarif', () => {
  it('is one run with a rule for each metric that is named, improvements as notes', () => {
    const document = parse(gateSarifReporter.render(report(1.3), { color: false })) as {
      version: string;
      runs: { tool: { driver: { rules: { id: string }[] } }; results: { ruleId: string; level: string }[] }[];
    };
    expect(document.version).toBe('2.1.0');
    expect(document.runs).toHaveLength(1);
    expect(document.runs[0]?.tool.driver.rules.map(({ id }) => id)).toEqual(['latency-p50', 'broken']);
    expect(document.runs[0]?.results.map(({ ruleId, level }) => [ruleId, level])).toEqual([
      ['latency-p50', 'error'],
      ['broken', 'error'],
      ['latency-p50', 'note'],
    ]);
  });
});
