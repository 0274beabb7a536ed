/** Histories for people: one line a case, and a sentence for each change of level. */
import type { CaseHistory } from '../gate/history.ts';
import { METRICS } from '../gate/metrics.ts';
import { changeOf, formatValue } from './gate-reporter.ts';
import { alignedGrid } from './grid.ts';
import { sparkline } from './sparkline.ts';
import { plural } from './units.ts';

/** Runs that a line shows. */
const SPARK_WIDTH = 40;

/** Ends with a line feed. */
export function renderHistories(histories: readonly CaseHistory[]): string {
  const [first] = histories;
  if (!first) return 'no completed case has it\n';
  const several = new Set(histories.map(({ device }) => device)).size > 1;
  const grid = alignedGrid({
    heads: ['case', ...(several ? ['device'] : []), 'runs', METRICS[first.metric].label, 'last', 'changes'],
    aligns: ['left', ...(several ? (['left'] as const) : []), 'right', 'left', 'right', 'right'],
    rows: histories.map(({ caseId, device, metric, points, changes }) => [
      caseId,
      ...(several ? [device] : []),
      String(points.length),
      sparkline(points.map(({ value }) => value), SPARK_WIDTH),
      formatValue(metric, points.at(-1)!.value),
      String(changes.length),
    ]),
  });
  const sentences = histories.flatMap(sentencesOf);
  return `${[grid, ...(sentences.length > 0 ? [sentences.join('\n')] : [])].join('\n\n')}\n`;
}

function sentencesOf({ caseId, metric, changes }: CaseHistory): string[] {
  return changes.map(({ at, before, after, otherModel }) => {
    const levels = `${formatValue(metric, before)} → ${formatValue(metric, after)} (${changeOf(metric, before, after)})`;
    const since = [`from run ${at.runId} on`, ...(at.revision === undefined ? [] : [`revision ${at.revision}`]), ...(otherModel ? ['which measured another model'] : [])];
    return `${caseId}: ${METRICS[metric].label} ${levels} ${since.join(', ')}`;
  });
}

/** Which runs were read: `12 runs of smoke, 2026-01-31 to 2026-03-02`. */
export function describeSpan(suite: string, histories: readonly CaseHistory[]): string {
  const points = histories.flatMap((history) => history.points);
  const runs = new Set(points.map(({ runId }) => runId)).size;
  const dates = points.map(({ startedAt }) => startedAt.slice(0, 10)).sort();
  return `${plural(runs, 'run')} of ${suite}${dates.length > 0 ? `, ${dates[0]} to ${dates.at(-1)}` : ''}`;
}
