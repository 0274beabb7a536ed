/** Golden texts of the gate's reporters and of `compare`. */
import { stripVTControlCharacters } from 'node:util';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { comparePairs } from '../../../src/gate/compare.ts';
import { judge, type GateReport } from '../../../src/gate/judge.ts';
import { METRIC_NAMES } from '../../../src/gate/metrics.ts';
import { pairCases } from '../../../src/gate/pair.ts';
import { DEFAULT_POLICY } from '../../../src/gate/policy.ts';
import { renderComparison } from '../../../src/report/comparison.ts';
import { GATE_REPORTERS } from '../../../src/report/gate-reporters.ts';
import type { BenchRecord } from '../../../src/results/record.ts';
import type { RecordSet } from '../../../src/results/store.ts';
import { ACCURACY, completed, failed } from '../../helpers/records.ts';
import { parseXml, type XmlNode } from '../../helpers/xml.ts';
import { anyText } from '../../helpers/text.ts';

const timings = (ms: number) => [1, 2, 3, 4, 5, 6].map((round) => Array.from({ length: 20 }, (_, i) => ms * (1 + i * 1e-3 + round * 5e-4)));

const BEFORE = [1, 2, 4, 8, 16, 32].map((batch) => completed({ batch, latencyMs: timings(10 * batch), accuracy: ACCURACY }));
const AFTER: readonly BenchRecord[] = [
  completed({ batch: 1, latencyMs: timings(10), accuracy: ACCURACY }),
  completed({ batch: 2, latencyMs: timings(24), accuracy: ACCURACY }),
  completed({ batch: 4, latencyMs: timings(30), accuracy: ACCURACY }),
  completed({ batch: 8, latencyMs: timings(80), accuracy: { ...ACCURACY, top1Percent: 76.4, inputs: ACCURACY.inputs } }),
  failed({ batch: 16 }),
  completed({ batch: 64, latencyMs: timings(640) }),
];

const set = (label: string, records: readonly BenchRecord[]): RecordSet => ({ label, suite: 'resnet50', records, paths: [label], notices: [] });
const labels = { baseline: 'baseline main', candidate: 'run 20260131T080509Z-a1b2c3' };
const comparison = comparePairs(pairCases(set('a', BEFORE), set('b', AFTER), { allowDifferentDevice: false }), labels, {
  ...DEFAULT_POLICY,
  metrics: METRIC_NAMES.filter((metric) => metric === 'latency-p50' || metric === 'top1'),
});
const REPORT = judge({ ...comparison, notices: ['the machine itself ran 4.0 % slower'] }, DEFAULT_POLICY);

function render(name: string, report: GateReport = REPORT, color = false): string {
  const reporter = GATE_REPORTERS.find((one) => one.name === name);
  if (!reporter) throw new Error(`no reporter ${name}`);
  return reporter.render(report, { color });
}

describe('gate reporters', () => {
  it('table', () => {
    expect(render('table')).toMatchInlineSnapshot(`
      "REGRESSED: 7 cases (3 regressed, 1 inconclusive, 1 improved, 2 passed), run 20260131T080509Z-a1b2c3 against baseline main, suite resnet50

      case                                          metric          baseline  candidate             change (interval)  verdict
      ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
      onnxruntime/fp32/fusion-on/b2/single-stream   latency p50      20.2 ms    24.3 ms  +20.0 % (+19.2 % to +20.9 %)  regressed
                                                    top-1 accuracy    79.2 %     79.2 %                      0 points  passed
      onnxruntime/fp32/fusion-on/b8/single-stream   latency p50      80.9 ms    80.9 ms      0.0 % (−0.7 % to +0.7 %)  passed
                                                    top-1 accuracy    79.2 %     76.4 %                  −2.80 points  regressed
      onnxruntime/fp32/fusion-on/b16/single-stream  broken                 –          –                             –  regressed
      onnxruntime/fp32/fusion-on/b32/single-stream  missing                –          –                             –  inconclusive
      onnxruntime/fp32/fusion-on/b4/single-stream   latency p50      40.5 ms    30.3 ms  −25.0 % (−25.5 % to −24.5 %)  improved
                                                    top-1 accuracy    79.2 %     79.2 %                      0 points  passed
      onnxruntime/fp32/fusion-on/b1/single-stream   latency p50      10.1 ms    10.1 ms      0.0 % (−0.7 % to +0.7 %)  passed
                                                    top-1 accuracy    79.2 %     79.2 %                      0 points  passed
      onnxruntime/fp32/fusion-on/b64/single-stream  new                    –          –                             –  passed

      regressed    onnxruntime/fp32/fusion-on/b2/single-stream: latency p50 rose by 20 % (95 % interval +19.2 to +20.9 %), beyond chance and not within the 5 % allowed
      regressed    onnxruntime/fp32/fusion-on/b8/single-stream: top-1 accuracy fell by 2.8 points, more than the 0.5 points allowed
      regressed    onnxruntime/fp32/fusion-on/b16/single-stream: it completed in the baseline, but now fails (out-of-memory at measure): the worker ran out of memory
      inconclusive onnxruntime/fp32/fusion-on/b32/single-stream: the baseline has the case, but the candidate did not run it
      improved     onnxruntime/fp32/fusion-on/b4/single-stream: latency p50 fell by 25 % (95 % interval −25.5 to −24.5 %), for the better, beyond chance
      passed       onnxruntime/fp32/fusion-on/b64/single-stream: a new case: the baseline has nothing to compare it with
      note         the machine itself ran 4.0 % slower
      "
    `);
    expect(stripVTControlCharacters(render('table', REPORT, true))).toBe(render('table'));
  });

  it('markdown', () => {
    expect(render('markdown')).toMatchInlineSnapshot(`
      "### REGRESSED: 7 cases (3 regressed, 1 inconclusive, 1 improved, 2 passed), run 20260131T080509Z-a1b2c3 against baseline main, suite resnet50

      | case | metric | baseline | candidate | change (interval) | verdict |
      | :-- | :-- | --: | --: | --: | :-- |
      | onnxruntime/fp32/fusion-on/b2/single-stream | latency p50 | 20.2 ms | 24.3 ms | +20.0 % (+19.2 % to +20.9 %) | regressed |
      |  | top-1 accuracy | 79.2 % | 79.2 % | 0 points | passed |
      | onnxruntime/fp32/fusion-on/b8/single-stream | latency p50 | 80.9 ms | 80.9 ms | 0.0 % (−0.7 % to +0.7 %) | passed |
      |  | top-1 accuracy | 79.2 % | 76.4 % | −2.80 points | regressed |
      | onnxruntime/fp32/fusion-on/b16/single-stream | broken | – | – | – | regressed |
      | onnxruntime/fp32/fusion-on/b32/single-stream | missing | – | – | – | inconclusive |
      | onnxruntime/fp32/fusion-on/b4/single-stream | latency p50 | 40.5 ms | 30.3 ms | −25.0 % (−25.5 % to −24.5 %) | improved |
      |  | top-1 accuracy | 79.2 % | 79.2 % | 0 points | passed |
      | onnxruntime/fp32/fusion-on/b1/single-stream | latency p50 | 10.1 ms | 10.1 ms | 0.0 % (−0.7 % to +0.7 %) | passed |
      |  | top-1 accuracy | 79.2 % | 79.2 % | 0 points | passed |
      | onnxruntime/fp32/fusion-on/b64/single-stream | new | – | – | – | passed |

      - **regressed** onnxruntime/fp32/fusion-on/b2/single-stream: latency p50 rose by 20 % (95 % interval +19.2 to +20.9 %), beyond chance and not within the 5 % allowed
      - **regressed** onnxruntime/fp32/fusion-on/b8/single-stream: top-1 accuracy fell by 2.8 points, more than the 0.5 points allowed
      - **regressed** onnxruntime/fp32/fusion-on/b16/single-stream: it completed in the baseline, but now fails (out-of-memory at measure): the worker ran out of memory
      - **inconclusive** onnxruntime/fp32/fusion-on/b32/single-stream: the baseline has the case, but the candidate did not run it
      - **improved** onnxruntime/fp32/fusion-on/b4/single-stream: latency p50 fell by 25 % (95 % interval −25.5 to −24.5 %), for the better, beyond chance
      - **passed** onnxruntime/fp32/fusion-on/b64/single-stream: a new case: the baseline has nothing to compare it with
      - **note** the machine itself ran 4.0 % slower
      "
    `);
  });

  it('junit', () => {
    expect(render('junit')).toMatchInlineSnapshot(`
      "<?xml version="1.0" encoding="UTF-8"?>
      <testsuites>
        <testsuite name="gate resnet50" tests="7" failures="3" errors="1" skipped="0">
          <testcase name="onnxruntime/fp32/fusion-on/b1/single-stream" classname="tsrt-bench.gate">
            <system-out>passed: latency p50 did not change (95 % interval −0.7 to +0.7 %), within the 5 % allowed&#10;passed: top-1 accuracy did not change, within the 0.5 points allowed</system-out>
          </testcase>
          <testcase name="onnxruntime/fp32/fusion-on/b2/single-stream" classname="tsrt-bench.gate">
            <failure message="latency p50 rose by 20 % (95 % interval +19.2 to +20.9 %), beyond chance and not within the 5 % allowed" type="regressed">regressed: latency p50 rose by 20 % (95 % interval +19.2 to +20.9 %), beyond chance and not within the 5 % allowed&#10;passed: top-1 accuracy did not change, within the 0.5 points allowed</failure>
          </testcase>
          <testcase name="onnxruntime/fp32/fusion-on/b4/single-stream" classname="tsrt-bench.gate">
            <system-out>improved: latency p50 fell by 25 % (95 % interval −25.5 to −24.5 %), for the better, beyond chance&#10;passed: top-1 accuracy did not change, within the 0.5 points allowed</system-out>
          </testcase>
          <testcase name="onnxruntime/fp32/fusion-on/b8/single-stream" classname="tsrt-bench.gate">
            <failure message="top-1 accuracy fell by 2.8 points, more than the 0.5 points allowed" type="regressed">passed: latency p50 did not change (95 % interval −0.7 to +0.7 %), within the 5 % allowed&#10;regressed: top-1 accuracy fell by 2.8 points, more than the 0.5 points allowed</failure>
          </testcase>
          <testcase name="onnxruntime/fp32/fusion-on/b16/single-stream" classname="tsrt-bench.gate">
            <failure message="it completed in the baseline, but now fails (out-of-memory at measure): the worker ran out of memory" type="broken">it completed in the baseline, but now fails (out-of-memory at measure): the worker ran out of memory</failure>
          </testcase>
          <testcase name="onnxruntime/fp32/fusion-on/b64/single-stream" classname="tsrt-bench.gate">
            <system-out>a new case: the baseline has nothing to compare it with</system-out>
          </testcase>
          <testcase name="onnxruntime/fp32/fusion-on/b32/single-stream" classname="tsrt-bench.gate">
            <error message="the baseline has the case, but the candidate did not run it" type="inconclusive">the baseline has the case, but the candidate did not run it</error>
          </testcase>
          <system-out>the machine itself ran 4.0 % slower</system-out>
        </testsuite>
      </testsuites>
      "
    `);
  });

  it('github', () => {
    expect(render('github').split('::group::')[0]).toMatchInlineSnapshot(`
      "::error title=regressed%3A onnxruntime/fp32/fusion-on/b2/single-stream::latency p50 rose by 20 %25 (95 %25 interval +19.2 to +20.9 %25), beyond chance and not within the 5 %25 allowed
      ::error title=regressed%3A onnxruntime/fp32/fusion-on/b8/single-stream::top-1 accuracy fell by 2.8 points, more than the 0.5 points allowed
      ::error title=regressed%3A onnxruntime/fp32/fusion-on/b16/single-stream::it completed in the baseline, but now fails (out-of-memory at measure): the worker ran out of memory
      ::warning title=inconclusive%3A onnxruntime/fp32/fusion-on/b32/single-stream::the baseline has the case, but the candidate did not run it
      ::notice title=improved%3A onnxruntime/fp32/fusion-on/b4/single-stream::latency p50 fell by 25 %25 (95 %25 interval −25.5 to −24.5 %25), for the better, beyond chance
      ::notice title=gate resnet50::the machine itself ran 4.0 %25 slower
      "
    `);
  });

  it('json is the report', () => {
    expect(JSON.parse(render('json'))).toEqual(JSON.parse(JSON.stringify(REPORT)));
  });

  it('junit stays well-formed whatever the reasons say', () => {
    const counts = (reason: string): readonly (string | undefined)[] => {
      const cases = REPORT.cases.map((one) => Object.assign({}, one, { reason, metrics: [] }));
      const suite = parseXml(render('junit', { ...REPORT, cases })).children[0] as XmlNode;
      return [suite.attributes['tests'], suite.attributes['failures'], suite.attributes['errors']];
    };
    const reasons = fc.sample(anyText, { seed: 9, numRuns: 100 });
    expect(new Set(reasons.map((reason) => counts(reason).join()))).toEqual(new Set(['7,3,1']));
  });

  it('github folds what it would not show', () => {
    const regressed = REPORT.cases.find((one) => one.verdict === 'regressed');
    const cases = Array.from({ length: 25 }, (_, i) => Object.assign({}, regressed!, { caseId: `case-${i}` }));
    const errors = render('github', { ...REPORT, cases }).split('\n').filter((line) => line.startsWith('::error'));
    expect(errors).toHaveLength(10);
    expect(errors.at(-1)).toMatch(/title=16 more::regressed: case-9: .*case-24/);
  });
});

describe('compare', () => {
  it('table', () => {
    expect(renderComparison(comparison, 'table', false)).toMatchInlineSnapshot(`
      "run 20260131T080509Z-a1b2c3 against baseline main, suite resnet50

      case                                         metric          baseline  candidate             change (interval)
      ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
      onnxruntime/fp32/fusion-on/b1/single-stream  latency p50      10.1 ms    10.1 ms      0.0 % (−0.7 % to +0.7 %)
                                                   top-1 accuracy    79.2 %     79.2 %                      0 points
      onnxruntime/fp32/fusion-on/b2/single-stream  latency p50      20.2 ms    24.3 ms  +20.0 % (+19.2 % to +20.9 %)
                                                   top-1 accuracy    79.2 %     79.2 %                      0 points
      onnxruntime/fp32/fusion-on/b4/single-stream  latency p50      40.5 ms    30.3 ms  −25.0 % (−25.5 % to −24.5 %)
                                                   top-1 accuracy    79.2 %     79.2 %                      0 points
      onnxruntime/fp32/fusion-on/b8/single-stream  latency p50      80.9 ms    80.9 ms      0.0 % (−0.7 % to +0.7 %)
                                                   top-1 accuracy    79.2 %     76.4 %                  −2.80 points

      note onnxruntime/fp32/fusion-on/b16/single-stream completed in baseline main and is failed in run 20260131T080509Z-a1b2c3
      note onnxruntime/fp32/fusion-on/b64/single-stream is only in run 20260131T080509Z-a1b2c3 (completed)
      note onnxruntime/fp32/fusion-on/b32/single-stream is only in baseline main
      "
    `);
  });

  it('markdown', () => {
    expect(renderComparison(comparison, 'markdown', false).split('\n').slice(-4)).toMatchInlineSnapshot(`
      [
        "- onnxruntime/fp32/fusion-on/b16/single-stream completed in baseline main and is failed in run 20260131T080509Z-a1b2c3",
        "- onnxruntime/fp32/fusion-on/b64/single-stream is only in run 20260131T080509Z-a1b2c3 (completed)",
        "- onnxruntime/fp32/fusion-on/b32/single-stream is only in baseline main",
        "",
      ]
    `);
  });

  it('json says that an end is infinite, which one round leaves it', () => {
    const one = { label: 'a', suite: 'resnet50', records: [completed({ latencyMs: [[10, 11, 12]] })], paths: [], notices: [] };
    const text = renderComparison(comparePairs(pairCases(one, one, { allowDifferentDevice: false }), { baseline: 'a', candidate: 'b' }, { ...DEFAULT_POLICY, metrics: ['latency-p50'] }), 'json', false);
    expect(JSON.parse(text)).toMatchObject({ cases: [{ changes: [{ ratio: { low: 0, point: 1, high: 'Infinity' } }] }] });
  });

  it('json has no raw samples', () => {
    const data = JSON.parse(renderComparison(comparison, 'json', false)) as { readonly cases: readonly Record<string, unknown>[] };
    expect(data.cases.map((one) => one['state'])).toEqual(['both', 'both', 'both', 'both', 'broken', 'new', 'missing']);
    expect(Object.keys(data.cases[0] ?? {})).toEqual(['caseId', 'state', 'changes']);
  });
});
