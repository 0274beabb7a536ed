/** Names that become folders and files: suites, devices, runs and baselines. Nothing that a name holds can leave the results folder. */
import { createHash } from 'node:crypto';
import { TsrtError } from '../errors.ts';

/** Lower case, and nothing that a file system or a shell takes amiss. */
const FOLDER_NAME = /^[a-z0-9](?:[a-z0-9._-]{0,78}[a-z0-9])?$/;
const RUN_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;
const DEVICE_LIKE = /^(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)/;

/** The folder under which baselines lie, beside the suites' own; no suite can have it. */
export const BASELINES_FOLDER = 'baselines';

/** `2026-01-31T08:05:09.000Z` and six hexadecimal digits → `20260131T080509Z-a1b2c3`: ids sort by time and never meet. */
export function newRunId(startedAt: Date, entropy: string): string {
  const stamp = startedAt.toISOString().replace(/[-:]/g, '').replace(/\.\d+/, '');
  return `${stamp}-${createHash('sha256').update(entropy).digest('hex').slice(0, 6)}`;
}

/**
 * A folder name for any text. A fit name stays as it is; any other is spelled with dashes and gets a short hash of the
 * original, so that two texts never share a folder.
 */
export function folderName(text: string): string {
  if (FOLDER_NAME.test(text) && !DEVICE_LIKE.test(text) && text !== BASELINES_FOLDER) return text;
  const spelled = text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, 60)
    .replace(/^-+|-+$/g, '');
  const hash = createHash('sha256').update(text).digest('hex').slice(0, 8);
  return spelled ? `${spelled}-${hash}` : hash;
}

/** Throws USAGE unless the name is fit for a baseline: it is typed by people and becomes a folder. */
export function checkBaselineName(name: string): string {
  if (FOLDER_NAME.test(name) && !DEVICE_LIKE.test(name) && name !== 'latest') return name;
  throw new TsrtError('USAGE', `'${name}' can't name a baseline`, {
    fix: 'use lower-case letters, digits, dots, dashes and underscores, such as `main` or `v1.2`',
  });
}

export function isRunId(text: string): boolean {
  return RUN_ID.test(text);
}

/** Throws USAGE unless the text can be a run's id. */
export function checkRunId(runId: string): string {
  if (isRunId(runId)) return runId;
  throw new TsrtError('USAGE', `'${runId}' can't be the id of a run`, { fix: 'list the runs with `tsrt-bench report --list`' });
}
