/** The results of `verify` as lines of text: what failed, why the rest was not run, the totals. */
import type { CaseResult, VerifySummary } from './result.ts';
import type { OutputComparison } from './compare.ts';

/** Cases named in one line of unsupported ones. */
const NAMED = 3;

/** One failed or broken case, worth a line as it happens; undefined for the others. */
export function describeFailure(result: CaseResult): string[] {
  switch (result.status) {
    case 'passed':
    case 'unsupported':
      return [];
    case 'failed':
      return [`failed  ${result.name}`, ...result.outputs.filter((output) => !output.passed).map((output) => `          ${describeOutput(output)}`)];
    case 'error': {
      const { message, place, details = [], fix } = result.error;
      const lines = [`error   ${result.name}: ${message}${place ? ` (${place})` : ''}`, ...details.map((line) => `          ${line}`)];
      return fix ? [...lines, `          fix: ${fix}`] : lines;
    }
    default:
      return result satisfies never;
  }
}

function describeOutput({ output, maxAbsError, maxRelError, mismatches, elements, detail }: OutputComparison): string {
  if (elements === 0) return `${output} ${detail}`;
  const errors = `largest error ${format(maxAbsError)} absolute, ${format(maxRelError)} relative`;
  return `${output}: ${mismatches} of ${elements} elements differ, ${errors}; ${detail}`;
}

/** One line per reason, the most frequent first, with the cases that it holds back; then the ways out. */
export function describeUnsupported(results: readonly CaseResult[]): string[] {
  const groups = new Map<string, Set<string>>();
  for (const result of results) {
    if (result.status !== 'unsupported') continue;
    for (const { op, reason } of result.reasons) {
      const key = `${op}: ${reason}`;
      groups.set(key, (groups.get(key) ?? new Set()).add(result.name));
    }
  }
  const fixes = new Set(results.flatMap((result) => (result.status === 'unsupported' && result.fix !== undefined ? [`fix: ${result.fix}`] : [])));
  const lines = [...groups]
    .sort(([a, x], [b, y]) => y.size - x.size || (a < b ? -1 : 1))
    .map(([reason, names]) => {
      const shown = [...names].slice(0, NAMED).join(', ');
      const more = names.size > NAMED ? ` and ${names.size - NAMED} more` : '';
      return `unsupported  ${reason}  (${shown}${more})`;
    });
  return [...lines, ...[...fixes].map((fix) => `             ${fix}`)];
}

/** The last lines: totals, tolerances, the largest error of what passed, and what a single engine says of itself. */
export function describeSummary(results: readonly CaseResult[], summary: VerifySummary): string[] {
  const compared = results.flatMap((result) => (result.status === 'passed' ? result.outputs : []));
  const worst = Math.max(0, ...compared.map((output) => output.maxAbsError));
  const unchanged = results.filter((result) => result.status === 'passed' && result.notices.length > 0).length;
  const lines = [
    `${summary.passed} passed, ${summary.failed} failed, ${summary.unsupported} unsupported, ${summary.error} errors of ${summary.total}`,
    ...tolerances(results),
    ...(summary.passed > 0 ? [`largest absolute error of the passed: ${format(worst)}`] : []),
  ];
  const near = compared.filter((output) => output.mismatches > 0).length;
  if (near > 0) lines.push(`${near} of the passed outputs have single elements beyond the tolerance, as rounding gives them (see --json)`);
  const [only] = results.length === 1 ? results : [];
  if (only?.status === 'passed') lines.push(...only.notices.map((notice) => `note     ${notice}`));
  else if (unchanged > 0) lines.push(`${unchanged} of the passed came with notices, such as a model run unchanged (see --json)`);
  return lines;
}

/** One line per tolerance that was applied. */
function tolerances(results: readonly CaseResult[]): string[] {
  const lines = results.map((result) => {
    if (result.status !== 'passed' && result.status !== 'failed') return undefined;
    const { comparedWith, tolerance } = result;
    const coarse = tolerance.bfloat16Rtol === undefined ? '' : ` (of bfloat16 ${tolerance.bfloat16Rtol.toExponential()} ×)`;
    const bound = `${tolerance.atol.toExponential()} × the output's scale + ${tolerance.rtol.toExponential()} × |expected|${coarse}`;
    const outliers = tolerance.outlierShare > 0 ? `, exceeded by up to ten times in at most ${tolerance.outlierShare * 100} % of the elements` : '';
    return `compared with ${comparedWith}: tolerance ${bound}${outliers}`;
  });
  return [...new Set(lines)].filter((line) => line !== undefined);
}

function format(error: number): string {
  if (!Number.isFinite(error) || error === 0) return String(error);
  return error < 1e-3 || error >= 1e6 ? error.toExponential(2) : error.toPrecision(3);
}
