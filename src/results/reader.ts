/**
 * Reads results files. A file cut in the middle of its last line (a crash, a full disk, a copy that broke off) gives its
 * whole lines and a notice; anything else that is wrong is an error that names the line.
 */
import { readFile } from 'node:fs/promises';
import { TsrtError } from '../errors.ts';
import { withoutMark } from '../text.ts';
import { decodeLine } from './codec.ts';
import { unreadable } from './errors.ts';
import type { BenchRecord } from './record.ts';

/** What a results file gave. */
export interface RecordFile {
  readonly path: string;
  /** In file order; a case that was measured again after `--resume` stands more than once. */
  readonly records: readonly BenchRecord[];
  /** Sentences for the user: a cut line, a file without records. */
  readonly notices: readonly string[];
  /** Whether the last line is cut off in the middle. */
  readonly cut: boolean;
  /** Bytes up to the end of the last whole line: where writing goes on. */
  readonly wholeBytes: number;
}

const LINE_FEED = 10;

/** Throws RESULTS_NOT_FOUND, or RESULTS_INVALID naming `file:line`. */
export async function readRecordFile(path: string): Promise<RecordFile> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (error) {
    throw unreadable(error, path);
  }
  return parseRecordFile(bytes, path);
}

/** See {@link readRecordFile}; `path` is only named in notices and errors. */
export function parseRecordFile(bytes: Buffer, path: string): RecordFile {
  const records: BenchRecord[] = [];
  let start = 0;
  for (let number = 1; start < bytes.length; number++) {
    const feed = bytes.indexOf(LINE_FEED, start);
    const line = withoutMark(bytes.toString('utf8', start, feed === -1 ? bytes.length : feed));
    const place = `${path}:${number}`;
    if (feed === -1 && isCut(line)) {
      const before = records.length === 0 ? 'no complete record before it was' : records.length === 1 ? 'the complete record before it was' : `the ${records.length} complete records before it were`;
      return { path, records, notices: [`${place} is cut off in the middle; ${before} read`], cut: true, wholeBytes: start };
    }
    if (line.trim() !== '') records.push(decodeLine(line, place));
    start = feed === -1 ? bytes.length : feed + 1;
  }
  return { path, records, notices: records.length === 0 ? [`${path} holds no records`] : [], cut: false, wholeBytes: bytes.length };
}

/** A last line without a line feed is cut unless it is whole JSON: then only the line feed is missing. */
function isCut(line: string): boolean {
  try {
    JSON.parse(line);
    return false;
  } catch {
    return true;
  }
}

/**
 * One record per case: the last one written, in the order in which the cases first appear. Where a case completed on several
 * devices (the files of two machines in one), one for each of them: a try that did not complete has no device of its own.
 */
export function lastPerCase(records: readonly BenchRecord[]): BenchRecord[] {
  const byCase = new Map<string, Map<string, BenchRecord>>();
  for (const record of records) {
    const { slug } = record.provenance.environment.device;
    const others = [...(byCase.get(record.case.id) ?? [])].filter(([device, other]) => record.status === 'completed' && other.status === 'completed' && device !== slug);
    byCase.set(record.case.id, new Map([...others, [slug, record]]));
  }
  return [...byCase.values()].flatMap((devices) => [...devices.values()]);
}

/** Records in the order of their suite; those that do not say their place come last, as they lie. */
export function inSuiteOrder(records: readonly BenchRecord[]): BenchRecord[] {
  const place = ({ inSuite }: BenchRecord): number => inSuite?.index ?? Number.MAX_SAFE_INTEGER;
  return records.toSorted((a, b) => place(a) - place(b));
}

/** The one suite of some records. Throws RESULTS_INVALID, with `notices` as details, for none and for several. */
export function onlySuite(records: readonly BenchRecord[], place: string, notices: readonly string[] = []): string {
  const suites = [...new Set(records.map((record) => record.case.suite))];
  const [suite] = suites;
  if (suite !== undefined && suites.length === 1) return suite;
  throw new TsrtError(
    'RESULTS_INVALID',
    suite === undefined ? 'there is no record to read' : `the records are of several suites: ${suites.join(', ')}`,
    { place, details: notices, fix: suite === undefined ? 'measure first: `tsrt-bench run`' : 'keep the records of one suite in one file' },
  );
}
