/** Reading files as they are found: whole, cut, mixed up, empty. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeRecord } from '../../../src/results/codec.ts';
import { folderName, newRunId } from '../../../src/results/names.ts';
import { lastPerCase, parseRecordFile, readRecordFile } from '../../../src/results/reader.ts';
import type { BenchRecord } from '../../../src/results/record.ts';
import { selectRecords } from '../../../src/results/select.ts';
import { latestRun, listRuns, readSet, runFilePath } from '../../../src/results/store.ts';
import { temporaryFolder } from '../../helpers/folder.ts';
import { aborted, completed, failed } from '../../helpers/records.ts';
import { anyText } from '../../helpers/text.ts';

const lines = [completed(), completed({ batch: 2 }), completed({ batch: 4 })].map((record) => `${encodeRecord(record)}\n`);
const bytes = Buffer.from(lines.join(''));

describe('readRecordFile', () => {
  it('reads the whole lines of a file cut anywhere, and says where it is cut', () => {
    fc.assert(
      fc.property(fc.nat(bytes.length), (length) => {
        const { records, notices, wholeBytes } = parseRecordFile(bytes.subarray(0, length), 'f.jsonl');
        const text = bytes.toString('utf8', 0, length);
        const whole = text.split('\n').length - 1;
        // A line that lacks only its line feed is whole too.
        const missesFeed = lines[whole] !== undefined && text.endsWith(lines[whole].trimEnd()) && !text.endsWith('\n');
        expect(records).toHaveLength(whole + (missesFeed ? 1 : 0));
        expect(wholeBytes).toBe(missesFeed ? length : lines.slice(0, whole).join('').length);
        const expected = wholeBytes < length ? [`f.jsonl:${whole + 1} is cut off`] : length === 0 ? ['f.jsonl holds no records'] : [];
        expect(notices.map((notice) => notice.replace(/ in the middle.*/, ''))).toEqual(expected);
      }),
      { seed: 3, numRuns: 300 },
    );
  });

  it('takes byte order marks, of one file and of several that were joined', () => {
    const marked = lines.map((line) => `\uFEFF${line}`).join('');
    expect(parseRecordFile(Buffer.from(marked), 'f.jsonl')).toEqual({ ...parseRecordFile(bytes, 'f.jsonl'), wholeBytes: bytes.length + 3 * lines.length });
    expect(parseRecordFile(Buffer.from(marked.trimEnd()), 'f.jsonl')).toMatchObject({ records: [{}, {}, {}], cut: false });
  });

  it('names the line where there is garbage in the middle', () => {
    const text = `${lines[0]}not json\n${lines[1]}`;
    expect(() => parseRecordFile(Buffer.from(text), 'f.jsonl')).toThrow(expect.objectContaining({ code: 'RESULTS_INVALID', place: 'f.jsonl:2' }));
  });

  it('does not take a garbled last line with a line feed for a cut one', () => {
    expect(() => parseRecordFile(Buffer.from(`${lines[0]}{"schema\n`), 'f.jsonl')).toThrow(expect.objectContaining({ place: 'f.jsonl:2' }));
  });

  it('skips blank lines and takes Windows line ends', () => {
    const text = `${lines[0]?.trimEnd()}\r\n\r\n${lines[1]}`;
    expect(parseRecordFile(Buffer.from(text), 'f').records).toHaveLength(2);
  });

  it('says what stands there instead of a file', async () => {
    const folder = await temporaryFolder();
    await expect(readRecordFile(folder)).rejects.toMatchObject({ code: 'RESULTS_INVALID', place: folder });
    await expect(readRecordFile(join(folder, 'none.jsonl'))).rejects.toMatchObject({ code: 'RESULTS_NOT_FOUND' });
  });
});

describe('readSet', () => {
  it('refuses no records and several suites', async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, 'empty.jsonl'), '');
    await writeFile(join(folder, 'mixed.jsonl'), `${lines[0]}${encodeRecord(completed({ suite: 'smoke' }))}\n`);
    await expect(readSet('x', [join(folder, 'empty.jsonl')])).rejects.toMatchObject({ code: 'RESULTS_INVALID', message: expect.stringContaining('no record') });
    await expect(readSet('x', [join(folder, 'mixed.jsonl')])).rejects.toMatchObject({ message: expect.stringContaining('resnet50, smoke') });
  });
});

describe('selectRecords', () => {
  async function stored(): Promise<string> {
    const results = await temporaryFolder();
    const runs = [
      ['resnet50', '20260101T000000Z-000001'],
      ['resnet50', '20260102T000000Z-000002'],
      ['smoke', '20260103T000000Z-000003'],
      ['smoke', '20260102T000000Z-000002'],
    ] as const;
    for (const [suite, runId] of runs) {
      const path = runFilePath(results, suite, 'cpu-test-2c', runId);
      await mkdir(join(path, '..'), { recursive: true });
      await writeFile(path, `${encodeRecord(completed({ suite, runId }))}\n`);
    }
    return results;
  }

  it('finds runs by id, `latest` and path', async () => {
    const results = await stored();
    expect((await selectRecords('latest', { results })).suite).toBe('smoke');
    expect((await selectRecords('latest', { results, suite: 'resnet50' })).label).toBe('run 20260102T000000Z-000002');
    expect((await selectRecords('20260101T000000Z-000001', { results })).records).toHaveLength(1);
    const path = runFilePath(results, 'smoke', 'cpu-test-2c', '20260103T000000Z-000003');
    expect((await selectRecords(path, { results })).paths).toEqual([path]);
    expect((await listRuns(results)).map((run) => run.suite)).toEqual(['resnet50', 'resnet50', 'smoke', 'smoke']);
    expect((await latestRun(results))?.runId).toBe('20260103T000000Z-000003');
  });

  it('asks for the suite where an id is ambiguous', async () => {
    const results = await stored();
    await expect(selectRecords('run:20260102T000000Z-000002', { results })).rejects.toMatchObject({ code: 'USAGE', fix: expect.stringContaining('--suite') });
    expect((await selectRecords('20260102T000000Z-000002', { results, suite: 'smoke' })).suite).toBe('smoke');
  });

  it('helps with a slip, and with an empty folder', async () => {
    const results = await stored();
    await expect(selectRecords('20260101T000000Z-00000', { results })).rejects.toMatchObject({
      code: 'RESULTS_NOT_FOUND',
      message: expect.stringContaining("did you mean '20260101T000000Z-000001'"),
    });
    const empty = await temporaryFolder();
    await expect(selectRecords('latest', { results, suite: 'resnet5', called: 'mine/suite.yaml' })).rejects.toMatchObject({ fix: expect.stringContaining('`tsrt-bench run mine/suite.yaml`') as string });
    await expect(selectRecords('latest', { results, suite: 'resnet5' })).rejects.toMatchObject({ message: "there is no run of suite resnet5; did you mean 'resnet50'?", fix: expect.stringMatching(/^known: resnet50, smoke; or measure it: `tsrt-bench run resnet5`/) as string });
    await expect(selectRecords('latest', { results: empty })).rejects.toMatchObject({ code: 'RESULTS_NOT_FOUND', fix: expect.stringContaining('tsrt-bench run') });
  });
});

describe('one record per case', () => {
  const one = (device: string, runId: string) => completed({ device, runId });
  const place = ({ provenance: { environment, runId }, status }: BenchRecord) => `${status} ${environment.device.slug} ${runId}`;

  it('is the last one, of each device on which the case completed', () => {
    expect(lastPerCase([one('a', '1'), one('b', '1'), one('a', '2')]).map(place)).toEqual(['completed b 1', 'completed a 2']);
  });

  it('is one where a try before or after had no device of its own', () => {
    expect(lastPerCase([aborted({ device: 'b' }), one('a', '1')]).map(place)).toEqual(['completed a 1']);
    expect(lastPerCase([one('a', '1'), failed({ device: 'b', runId: '2' })]).map(place)).toEqual(['failed b 2']);
  });
});

describe('names', () => {
  it('any text becomes one folder inside, and different texts different folders', () => {
    fc.assert(
      fc.property(anyText, anyText, (a, b) => {
        const [one, other] = [folderName(a), folderName(b)];
        return /^[a-z0-9](?:[a-z0-9._-]{0,78}[a-z0-9])?$/.test(one) && (one === other) === (a === b);
      }),
      { seed: 4 },
    );
    expect(folderName('nvidia-h200')).toBe('nvidia-h200');
    expect(folderName('../../etc')).toMatch(/^etc-[0-9a-f]{8}$/);
    expect(folderName('baselines')).not.toBe('baselines');
    expect(folderName('con')).not.toBe('con');
  });

  it('run ids sort by time', () => {
    const early = newRunId(new Date('2026-01-31T08:05:09.123Z'), 'x');
    expect(early).toMatch(/^20260131T080509Z-[0-9a-f]{6}$/);
    expect(early < newRunId(new Date('2026-01-31T08:05:10Z'), 'a')).toBe(true);
    expect(newRunId(new Date(0), 'x')).not.toBe(newRunId(new Date(0), 'y'));
  });

});
