/** The answer of a bisection for people: what was compared, and where the change is. */
import type { MetricChange } from '../gate/compare.ts';
import { METRICS, type MetricName } from '../gate/metrics.ts';
import { changeCells } from './gate-reporter.ts';
import { alignedGrid } from './grid.ts';
import { formatPercent, plural } from './units.ts';

/** What is shown of a search; the workflow's report has more. */
export interface BisectView {
  readonly suite: string;
  readonly metric: MetricName;
  readonly states: readonly string[];
  readonly caseId: string | undefined;
  readonly probes: readonly { readonly index: number; readonly verdict: string; readonly reason: string; readonly change: MetricChange | undefined }[];
  readonly answer: string;
  readonly errors: { readonly probes: number; readonly falseAlarms: number; readonly missed: number };
  readonly notices: readonly string[];
  readonly stateFile: string;
  readonly interrupted: boolean;
}

/** Ends with a line feed. */
export function renderBisect(view: BisectView): string {
  const { suite, metric, states, caseId, probes, answer, notices, errors, stateFile, interrupted } = view;
  const head = `bisect ${METRICS[metric].label}, suite ${suite}: ${plural(states.length, 'state')}, ${plural(probes.length, 'comparison')} with '${states[0]}'`;
  const rows = probes.map(({ index, verdict, change }) => {
    const [, before, after, ratio] = change ? changeCells({ change }) : ['', '–', '–', '–'];
    return [String(index + 1), states[index] ?? '', before, after, ratio, verdict];
  });
  const table = alignedGrid({ heads: ['state', 'what', 'first', 'here', 'change (interval)', 'verdict'], aligns: ['right', 'left', 'right', 'right', 'right', 'left'], rows });
  const remarks = [
    ...(caseId === undefined ? [] : [`case      ${caseId}`]),
    ...probes.filter(({ verdict }) => verdict === 'skipped').map(({ index, reason }) => `skipped   ${states[index]}: ${reason}`),
    `errors    over at most ${plural(errors.probes, 'comparison')}: an unchanged state called changed, at most ${formatPercent(errors.falseAlarms * 100)}; a change beyond the threshold missed, at most ${formatPercent(errors.missed * 100)}`,
    ...notices.map((text) => `note      ${text}`),
    `kept      ${stateFile}${interrupted ? '; the same command continues from here' : ''}`,
  ];
  return `${[head, ...(rows.length > 0 ? [table] : []), remarks.join('\n'), answer].join('\n\n')}\n`;
}
