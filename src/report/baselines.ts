/** The list of baselines as a table. */
import type { BaselineSummary } from '../results/baselines.ts';
import { alignedGrid } from './grid.ts';

/** Without trailing line feed; what can't be read stands beneath with the reason. */
export function renderBaselines(summaries: readonly BaselineSummary[]): string {
  const grid = alignedGrid({
    heads: ['name', 'suite', 'device', 'cases', 'measured', 'tsrt-bench'],
    aligns: ['left', 'left', 'left', 'right', 'left', 'left'],
    rows: summaries.map((one) => [one.name, one.suite, one.device, ...factsOf(one)]),
  });
  const broken = summaries.flatMap((one) => (one.status === 'unreadable' ? [`${one.path}: ${one.error.message}; ${one.error.fix ?? ''}`] : []));
  return [grid, ...broken].join('\n');
}

function factsOf(summary: BaselineSummary): [cases: string, measured: string, tool: string] {
  if (summary.status === 'unreadable') return ['–', 'unreadable', '–'];
  const { version, revision } = summary.tool;
  const measured = summary.measuredAt.slice(0, 16).replace('T', ' ');
  return [String(summary.cases), measured, revision === undefined ? version : `${version} (${revision.slice(0, 12)})`];
}
