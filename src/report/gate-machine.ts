/** The gate's answer for machines: JUnit XML, GitHub annotations, JSON. */
import type { CaseVerdict } from '../gate/judge.ts';
import { renderAnnotations, renderGroup, type Annotation } from './annotations.ts';
import { byVerdict, headlineOf, type GateReporter } from './gate-reporter.ts';
import { gateTableReporter } from './gate-text.ts';
import { jsonText } from './json.ts';
import { junitDocument } from './junit.ts';
import { renderXml, type XmlElement } from './xml.ts';

export const gateJunitReporter: GateReporter = {
  name: 'junit',
  description: 'JUnit XML, for CI systems: regressed fails, inconclusive is an error',
  fileExtension: 'xml',
  render: (report) => renderXml(junitDocument(`gate ${report.suite}`, report.cases.map(testCase), report.notices)),
};

export const gateGithubReporter: GateReporter = {
  name: 'github',
  description: "annotations and a folded table, for GitHub Actions' log",
  fileExtension: 'txt',
  render(report) {
    const cases = byVerdict(report.cases).filter((one) => one.verdict !== 'passed');
    const notices = report.notices.map((message): Annotation => ({ level: 'notice', title: `gate ${report.suite}`, message }));
    const table = gateTableReporter.render(report, { color: false });
    return renderAnnotations([...cases.map(annotation), ...notices]) + renderGroup(headlineOf(report), table);
  },
};

export const gateJsonReporter: GateReporter = {
  name: 'json',
  description: 'the whole answer as JSON: every metric with ratio, interval, threshold and reason',
  fileExtension: 'json',
  render: jsonText,
};

function testCase(one: CaseVerdict): XmlElement {
  return { name: 'testcase', attributes: { name: one.caseId, classname: 'tsrt-bench.gate' }, children: outcome(one) };
}

function outcome(one: CaseVerdict): XmlElement[] {
  const reasons = one.metrics.length > 0 ? one.metrics.map((metric) => `${metric.verdict}: ${metric.reason}`).join('\n') : one.reason;
  switch (one.verdict) {
    case 'regressed':
      return [{ name: 'failure', attributes: { message: one.reason, type: one.state === 'broken' ? 'broken' : 'regressed' }, children: [reasons] }];
    case 'inconclusive':
      return [{ name: 'error', attributes: { message: one.reason, type: 'inconclusive' }, children: [reasons] }];
    case 'improved':
    case 'passed':
      return [{ name: 'system-out', attributes: {}, children: [reasons] }];
    default:
      return one.verdict satisfies never;
  }
}

function annotation(one: CaseVerdict): Annotation {
  const level = one.verdict === 'regressed' ? 'error' : one.verdict === 'inconclusive' ? 'warning' : 'notice';
  return { level, title: `${one.verdict}: ${one.caseId}`, message: one.reason };
}
