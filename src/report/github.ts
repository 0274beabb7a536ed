/** For GitHub Actions' log: an annotation for what failed or deserves a look, and the table in a fold. */
import { renderAnnotations, renderGroup, type Annotation } from './annotations.ts';
import type { Reporter } from './reporter.ts';
import { buildReport, unmeasuredRows } from './rows.ts';
import { tableReporter } from './table.ts';
import { plural } from './units.ts';

export const githubReporter: Reporter = {
  name: 'github',
  description: "annotations and a folded table, for GitHub Actions' log",
  fileExtension: 'txt',
  render(input) {
    const report = buildReport(input);
    const unmeasured = unmeasuredRows(report).map((row): Annotation => {
      const message = row.fix === undefined ? row.reason : `${row.reason}\nfix: ${row.fix}`;
      return { level: row.status === 'failed' ? 'error' : 'warning', title: `${row.status}: ${row.caseId}`, message };
    });
    const warnings = report.warnings.map((warning): Annotation => {
      const message = warning.advice === undefined ? warning.sentence : `${warning.sentence}\n${warning.advice}`;
      return { level: warning.kind === 'note' ? 'notice' : 'warning', title: `${report.suite}: ${plural(warning.cases.length, 'case')}`, message };
    });
    const table = tableReporter.render({ ...input, color: false, width: 160 });
    return renderAnnotations([...unmeasured, ...warnings]) + renderGroup(`results of ${report.suite}`, table);
  },
};
