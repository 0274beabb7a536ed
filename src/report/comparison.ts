/** Two sets of records side by side, without a verdict: for `compare`. */
import type { CaseComparison, Comparison } from '../gate/compare.ts';
import { changeCells } from './gate-reporter.ts';
import { alignedGrid, escapeMarkdown, pipeGrid, type Grid } from './grid.ts';
import { jsonText } from './json.ts';
import { createPaint } from './paint.ts';

export const COMPARISON_FORMATS = ['table', 'markdown', 'json'] as const;
export type ComparisonFormat = (typeof COMPARISON_FORMATS)[number];

/** Ends with a line feed. */
export function renderComparison(comparison: Comparison, format: ComparisonFormat, color: boolean): string {
  const heading = `${comparison.candidate} against ${comparison.baseline}, suite ${comparison.suite}`;
  switch (format) {
    case 'table': {
      const paint = createPaint(color);
      const notes = [...unpaired(comparison), ...comparison.notices].map((text) => `${paint('yellow', 'note')} ${text}`);
      return `${[paint('bold', heading), alignedGrid(gridOf(comparison)), ...(notes.length > 0 ? [notes.join('\n')] : [])].join('\n\n')}\n`;
    }
    case 'markdown': {
      const notes = [...unpaired(comparison), ...comparison.notices].map((text) => `- ${escapeMarkdown(text)}`);
      const parts = [`### ${escapeMarkdown(heading)}`, pipeGrid(gridOf(comparison))];
      if (notes.length > 0) parts.push(notes.join('\n'));
      return `${parts.join('\n\n')}\n`;
    }
    case 'json':
      return jsonText(comparisonData(comparison));
    default:
      return format satisfies never;
  }
}

/** The comparison without raw samples. */
export function comparisonData(comparison: Comparison): Readonly<Record<string, unknown>> {
  const cases = comparison.cases.map(({ pair, changes }) => ({ caseId: pair.caseId, state: pair.state, changes }));
  return { ...comparison, cases };
}

function gridOf(comparison: Comparison): Grid {
  return {
    heads: ['case', 'metric', 'baseline', 'candidate', 'change (interval)'],
    aligns: ['left', 'left', 'right', 'right', 'right'],
    rows: comparison.cases.flatMap(({ pair, changes }) => changes.map((change, i) => [i === 0 ? pair.caseId : '', ...changeCells({ change })])),
  };
}

/** A sentence for each case that could not be compared. */
function unpaired({ cases, baseline, candidate }: Comparison): string[] {
  return cases.flatMap(({ pair }: CaseComparison) => {
    switch (pair.state) {
      case 'both':
        return [];
      case 'missing':
        return [`${pair.caseId} is only in ${baseline}`];
      case 'new':
        return [`${pair.caseId} is only in ${candidate} (${pair.candidate.status})`];
      case 'broken':
        return [`${pair.caseId} completed in ${baseline} and is ${pair.candidate.status} in ${candidate}`];
      default:
        return pair satisfies never;
    }
  });
}
