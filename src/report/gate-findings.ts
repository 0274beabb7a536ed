/**
 * The gate's findings for code-review tools: GitLab's code quality report (docs.gitlab.com, "Code Quality": the subset of Code
 * Climate's format that it reads) and SARIF 2.1.0 (OASIS, 2020). A finding is a metric of a case that is not passed.
 */
import { createHash } from 'node:crypto';
import type { CaseVerdict, GateReport, Verdict } from '../gate/judge.ts';
import { TOOL_VERSION } from '../version.ts';
import { byVerdict, type GateReporter } from './gate-reporter.ts';

interface Finding {
  readonly caseId: string;
  /** Metric, or how the case is not comparable. */
  readonly rule: string;
  readonly verdict: Verdict;
  readonly message: string;
}

export const gateGitlabReporter: GateReporter = {
  name: 'gitlab',
  description: "GitLab's code quality report: what regressed is major, what is inconclusive minor",
  fileExtension: 'json',
  render(report) {
    const issues = findingsOf(report)
      .filter(({ verdict }) => verdict !== 'improved')
      .map((finding) => ({
        description: `${finding.caseId}: ${finding.message}`,
        check_name: `tsrt-bench/${finding.rule}`,
        fingerprint: fingerprintOf(report, finding),
        severity: finding.verdict === 'regressed' ? 'major' : 'minor',
        location: { path: placeOf(report), lines: { begin: 1 } },
      }));
    return `${JSON.stringify(issues, null, 2)}\n`;
  },
};

const LEVELS = { regressed: 'error', inconclusive: 'warning', improved: 'note', passed: 'none' } as const satisfies Record<Verdict, string>;

export const gateSarifReporter: GateReporter = {
  name: 'sarif',
  description: 'SARIF 2.1.0, for code scanning: regressed is an error, inconclusive a warning, improved a note',
  fileExtension: 'sarif',
  render(report) {
    const findings = findingsOf(report);
    const rules = [...new Set(findings.map(({ rule }) => rule))].map((id) => ({ id, shortDescription: { text: `tsrt-bench gate: ${id}` } }));
    const results = findings.map((finding) => ({
      ruleId: finding.rule,
      level: LEVELS[finding.verdict],
      message: { text: `${finding.caseId}: ${finding.message}` },
      locations: [{ physicalLocation: { artifactLocation: { uri: placeOf(report) }, region: { startLine: 1 } } }],
      partialFingerprints: { case: fingerprintOf(report, finding) },
    }));
    const driver = { name: 'tsrt-bench', version: TOOL_VERSION, rules };
    const document = { $schema: 'https://json.schemastore.org/sarif-2.1.0.json', version: '2.1.0', runs: [{ tool: { driver }, results }] };
    return `${JSON.stringify(document, null, 2)}\n`;
  },
};

function findingsOf(report: GateReport): Finding[] {
  return byVerdict(report.cases).flatMap(findingsOfCase);
}

function findingsOfCase(one: CaseVerdict): Finding[] {
  const { caseId } = one;
  if (one.verdict === 'passed') return [];
  if (one.metrics.length === 0) return [{ caseId, rule: one.state, verdict: one.verdict, message: one.reason }];
  return one.metrics
    // What is only watched and can't be told decides nothing: no reviewer need look at it.
    .filter(({ verdict, watched }) => verdict !== 'passed' && !(watched && verdict === 'inconclusive'))
    .map(({ metric, verdict, reason }) => ({ caseId, rule: metric, verdict, message: reason }));
}

/** The same finding of the next run has the same one, whatever its figures, so that tools tell new from known. */
function fingerprintOf({ suite }: GateReport, { caseId, rule, verdict }: Finding): string {
  return createHash('sha256').update(JSON.stringify([suite, caseId, rule, verdict])).digest('hex');
}

/** Both formats want a file: the suite's, which says what is measured. */
function placeOf({ suite }: GateReport): string {
  return `suites/${encodeURIComponent(suite)}/suite.yaml`;
}
