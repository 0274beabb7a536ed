/** What `run` prints at its end: the table, what to know about it, where the records are, and what to do next. */
import { relative } from 'node:path';
import { BASELINE_ROUNDS } from '../gate/sequential.ts';
import { buildReport } from '../report/rows.ts';
import { tableReporter } from '../report/table.ts';
import { foldWords } from '../report/units.ts';
import { shellWord } from '../text.ts';
import type { RunResult } from '../workflows/run/request.ts';
import { engineWords, type NextCalls, nextCalls, shipCommands } from './ship.ts';

interface AskedRun {
  /** As it was called for: what a path found, its name alone need not. */
  readonly suite: string;
  /** Its flags, as they were given. */
  readonly flags: Readonly<Record<string, unknown>>;
}

export function describeRun(result: RunResult, asked: AskedRun, terminal: { readonly color: boolean; readonly width: number }): string {
  const { suite, records, baselineVariant } = result;
  const called = shellWord(asked.suite);
  const input = { suite, records, baselineVariant, ...terminal };
  const lines = [tableReporter.render(input).trimEnd(), ''];
  const { width } = terminal;
  for (const notice of new Set(result.notices)) lines.push(...labelled('note', notice, width));
  lines.push(...labelled('time', stageTimes(result), width));
  const files = result.files.length === 0 ? ['none: no case was finished'] : result.files.map(nearPath);
  lines.push(...files.map((file, index) => `${(index === 0 ? 'records' : '').padEnd(8)} ${file}`));
  // Each in one line, however long: folded it would not paste.
  if (!asked.flags['engine']) lines.push(...shipCommands(buildReport(input), called, engineWords(asked.flags)).map((command) => `ship     ${command}`));
  lines.push(...nextLines(result, nextCalls(called, asked.flags)));
  return lines.join('\n');
}

/** A remark beside its label, in as many lines as it needs. */
function labelled(label: string, text: string, width: number): string[] {
  return foldWords(text, width - 9).map((line, index) => `${(index === 0 ? label : '').padEnd(8)} ${line}`);
}

function stageTimes({ stagesMs }: RunResult): string {
  return Object.entries(stagesMs)
    .map(([stage, ms]) => `${stage} ${(ms / 1000).toFixed(1)} s`)
    .join(', ');
}

function nearPath(path: string): string {
  const near = relative(process.cwd(), path);
  return near.startsWith('..') ? path : near;
}

function nextLines({ records, interrupted }: RunResult, { resume, longer, save, gate }: NextCalls): string[] {
  if (interrupted) return [`next     ${records.length === 0 ? resume.replace(/ --resume$/, '') : `${resume}   (goes on with the cases that are left)`}`];
  const rounds = records.flatMap((record) => (record.status === 'completed' ? [record.rounds.length] : []));
  if (rounds.length > 0) {
    const isThin = Math.min(...rounds) < BASELINE_ROUNDS;
    return [`next     ${isThin ? `${longer} && ` : ''}${save}`, `then     ${gate}   (after a change)`];
  }
  return ['next     tsrt-bench doctor   (shows which backends are there and what is missing)'];
}
