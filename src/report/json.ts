/** The rows as JSON, for programs that want results but not raw samples; the records themselves are JSON Lines. */
import type { Reporter } from './reporter.ts';
import { buildReport } from './rows.ts';

export const jsonReporter: Reporter = {
  name: 'json',
  description: 'the rows of the table as JSON, with intervals',
  fileExtension: 'json',
  render: (input) => jsonText(buildReport(input)),
};

/** Indented, with a line feed at its end; numbers that JSON lacks are the strings `NaN`, `Infinity` and `-Infinity`, as in records. */
export function jsonText(value: unknown): string {
  return `${JSON.stringify(value, finite, 2)}\n`;
}

/** JSON has no NaN and no infinities; `null` would not say which it was. */
function finite(_key: string, value: unknown): unknown {
  return typeof value === 'number' && !Number.isFinite(value) ? String(value) : value;
}
