/**
 * Live progress on standard error: a spinner on a terminal, plain lines elsewhere, nothing when quiet. Standard output is left
 * to the result, so that a pipe gets the table and nothing else.
 */
import type { BenchRecord } from '../results/record.ts';
import type { OnRunEvent, RunEvent, Stage } from '../workflows/events.ts';

export interface ProgressView {
  readonly onEvent: OnRunEvent;
  /** Removes the spinner; called before anything else is printed. */
  stop(): void;
}

export type ProgressMode = 'live' | 'lines' | 'off';

/** Live on a terminal that is not a CI log; lines elsewhere; off when quiet or when the output is for a program. */
export function progressMode(options: { readonly quiet: boolean; readonly json: boolean; readonly isTty: boolean; readonly ci: boolean }): ProgressMode {
  if (options.quiet || options.json) return 'off';
  return options.isTty && !options.ci ? 'live' : 'lines';
}

export async function createProgress(mode: ProgressMode, stream: NodeJS.WriteStream): Promise<ProgressView> {
  switch (mode) {
    case 'off':
      return { onEvent: () => {}, stop: () => {} };
    case 'lines':
      return lineProgress((line) => stream.write(`${line}\n`));
    case 'live':
      return liveProgress(stream);
    default:
      return mode satisfies never;
  }
}

/** Smaller files are there before a line is read. */
const WORTH_A_LINE_BYTES = 5e6;

/** One line per stage, per ended case and per quarter of anything long. */
export function lineProgress(write: (line: string) => void): ProgressView {
  let shown = '';
  return {
    onEvent: (event) => {
      if (event.kind === 'progress') {
        if (event.unit === 'bytes' && event.total < WORTH_A_LINE_BYTES) return;
        const quarter = Math.floor((4 * event.done) / Math.max(1, event.total));
        const mark = `${event.stage}/${event.unit === 'rounds' || event.unit === 'engines' || event.unit === 'nodes' ? '' : event.label}/${quarter}`;
        if (mark === shown || quarter === 0) return;
        shown = mark;
      }
      write(describe(event));
    },
    stop: () => {},
  };
}

async function liveProgress(stream: NodeJS.WriteStream): Promise<ProgressView> {
  const { default: ora } = await import('ora');
  const spinner = ora({ stream, discardStdin: false, hideCursor: true });
  return {
    onEvent: (event) => {
      if (event.kind === 'record' || event.kind === 'notice') spinner.clear().stop();
      if (event.kind === 'record' || event.kind === 'notice') stream.write(`${describe(event)}\n`);
      else spinner.text = describe(event);
      if (!spinner.isSpinning) spinner.start();
    },
    stop: () => spinner.stop(),
  };
}

const STAGE_WORDS: Readonly<Record<Stage, string>> = {
  model: 'model',
  dataset: 'dataset',
  build: 'build',
  accuracy: 'accuracy',
  measure: 'measure',
};

function describe(event: RunEvent): string {
  switch (event.kind) {
    case 'stage':
      return `${STAGE_WORDS[event.stage]}: ${event.text}`;
    case 'progress':
      return `${STAGE_WORDS[event.stage]}: ${event.label} ${amount(event)}`;
    case 'record':
      return `[${event.done}/${event.total}] ${event.record.case.id} ${outcome(event.record)}`;
    case 'notice':
      return `note: ${event.text}`;
    default:
      return event satisfies never;
  }
}

function amount(event: Extract<RunEvent, { kind: 'progress' }>): string {
  if (event.unit === 'bytes') return `${(event.done / 1e6).toFixed(1)}/${(event.total / 1e6).toFixed(1)} MB`;
  return `${event.done}/${event.total} ${event.unit}`;
}

function outcome(record: BenchRecord): string {
  switch (record.status) {
    case 'completed':
      return 'done';
    case 'failed':
      return `failed in ${record.stage}: ${record.error.message}`;
    case 'skipped':
      return `skipped: ${record.reason}`;
    case 'aborted':
      return 'aborted';
    default:
      return record satisfies never;
  }
}
