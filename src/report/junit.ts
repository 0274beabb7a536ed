/** JUnit XML, as CI systems read it: one test case per case; failed cases fail, skipped ones are skipped. */
import { renderXml, type XmlElement } from './xml.ts';
import type { Reporter } from './reporter.ts';
import { buildReport, describeAgreement, describeTop1, type ReportRow } from './rows.ts';
import { formatBytes, formatNumber } from './units.ts';

export const junitReporter: Reporter = {
  name: 'junit',
  description: 'JUnit XML, for CI systems',
  fileExtension: 'xml',
  render(input) {
    const report = buildReport(input);
    return renderXml(junitDocument(report.suite, report.rows.map(testCase)));
  },
};

/** `<testsuites>` with one suite; the counts are those of the test cases' children. `remarks` go to the suite's own output. */
export function junitDocument(suite: string, cases: readonly XmlElement[], remarks: readonly string[] = []): XmlElement {
  const count = (name: string): number =>
    cases.filter((one) => one.children.some((child) => typeof child !== 'string' && child.name === name)).length;
  const attributes = { name: suite, tests: cases.length, failures: count('failure'), errors: count('error'), skipped: count('skipped') };
  const output = remarks.length === 0 ? [] : [{ name: 'system-out', attributes: {}, children: [remarks.join('\n')] }];
  return { name: 'testsuites', attributes: {}, children: [{ name: 'testsuite', attributes, children: [...cases, ...output] }] };
}

function testCase(row: ReportRow): XmlElement {
  const attributes = { name: row.caseId, classname: row.variant };
  return { name: 'testcase', attributes, children: [outcome(row)] };
}

function outcome(row: ReportRow): XmlElement {
  switch (row.status) {
    case 'completed': {
      const latency = [row.latencyMs.p50, row.latencyMs.p95, row.latencyMs.p99].map((estimate) => formatNumber(estimate.point)).join(' / ');
      const text = `p50 / p95 / p99 ${latency} ms, ${formatNumber(row.itemsPerSecond.point)} items/s, ${formatBytes(row.memoryBytes)}, top-1 ${describeTop1(row.accuracy)}, vs fp32 ${describeAgreement(row.accuracy)}`;
      return { name: 'system-out', attributes: {}, children: [text] };
    }
    case 'failed':
      return { name: 'failure', attributes: { message: row.reason, type: 'failed' }, children: row.fix === undefined ? [] : [`fix: ${row.fix}`] };
    case 'aborted':
      return { name: 'error', attributes: { message: row.reason, type: 'aborted' }, children: [] };
    case 'skipped':
      return { name: 'skipped', attributes: { message: row.reason }, children: [] };
    default:
      return row satisfies never;
  }
}
