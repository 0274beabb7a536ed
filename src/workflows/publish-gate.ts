/** Puts a gate's answer where it is wanted: the terminal, a file, a CI job's summary. */
import { TsrtError } from '../errors.ts';
import type { GateReport } from '../gate/judge.ts';
import { headlineOf } from '../report/gate-reporter.ts';
import { GATE_REPORTERS } from '../report/gate-reporters.ts';
import { gateMarkdownReporter } from '../report/gate-text.ts';
import { appendText, writeText } from './output.ts';

export interface Publication {
  /** Name of a gate reporter. */
  readonly format: string;
  /** The rendered answer goes to this file instead of the terminal. */
  readonly output: string | undefined;
  /** The markdown form is added to this file. */
  readonly summaryFile: string | undefined;
  readonly color: boolean;
}

/** Writes the files and returns what the terminal should show. Throws USAGE for an unknown format, RESULTS_UNWRITABLE. */
export async function publishGate(report: GateReport, publication: Publication): Promise<string> {
  const { format, output, summaryFile } = publication;
  const reporter = GATE_REPORTERS.find((one) => one.name === format);
  if (!reporter) {
    throw new TsrtError('USAGE', `the gate has no output format '${format}'`, { fix: `known: ${GATE_REPORTERS.map((one) => one.name).join(', ')}` });
  }
  const text = reporter.render(report, { color: publication.color && output === undefined });
  if (summaryFile !== undefined) await appendText(summaryFile, gateMarkdownReporter.render(report, { color: false }));
  if (output === undefined) return text.trimEnd();
  await writeText(output, text);
  return `${headlineOf(report)}\n${reporter.name} written to ${output}`;
}
