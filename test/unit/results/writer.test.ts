/** Writing runs: what is on the disk, what happens when the disk says no. */
import { appendFile, chmod, mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { TsrtError } from '../../../src/errors.ts';
import { decodeLine, encodeRecord } from '../../../src/results/codec.ts';
import { readRecordFile } from '../../../src/results/reader.ts';
import { finishedCases, latestRun, listRuns, readRun } from '../../../src/results/store.ts';
import { openRunWriter, type RunTarget } from '../../../src/results/writer.ts';
import { temporaryFolder } from '../../helpers/folder.ts';
import { aborted, completed, failed, skipped } from '../../helpers/records.ts';

const RUN = '20260131T080509Z-a1b2c3';

function target(results: string, more: Partial<RunTarget> = {}): RunTarget {
  return { results, suite: 'resnet50', runId: RUN, resume: false, ...more };
}

/** `open`, but the disk is full after so many bytes until `free()`: the write that crosses the line is done in part. */
function fullDisk(bytes: number): { readonly open: typeof open; readonly free: () => void } {
  let left = bytes;
  return {
    free: () => {
      left = Infinity;
    },
    open: async (...args) => {
      const handle = await open(...args);
      return new Proxy(handle, {
        get(file, key) {
          if (key === 'writeFile') {
            return async (data: Uint8Array) => {
              await file.writeFile(data.subarray(0, left));
              if (data.length > left) throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
              left -= data.length;
            };
          }
          const value: unknown = Reflect.get(file, key, file);
          return typeof value === 'function' ? (value.bind(file) as unknown) : value;
        },
      });
    },
  };
}

/** `open`, but a handle lacks what it lacks under Yarn's Plug'n'Play. */
const plugAndPlay: typeof open = async (...args) =>
  Object.assign(await open(...args), {
    sync() {
      throw new Error('Method not implemented.');
    },
  });

describe('openRunWriter', () => {
  it('has each record on the disk, whole, when append resolves', async () => {
    const results = await temporaryFolder();
    const writer = await openRunWriter(target(results));
    const records = [completed(), failed({ batch: 2 }), skipped({ batch: 4 })];
    for (const [i, record] of records.entries()) {
      const path = await writer.append(record);
      expect(path).toBe(join(results, 'resnet50', 'cpu-test-2c', `${RUN}.jsonl`));
      const lines = (await readFile(path, 'utf8')).split('\n');
      expect(lines).toHaveLength(i + 2);
      expect(decodeLine(lines[i]!, 'x')).toEqual(record);
    }
    await writer.close();
  });

  it('writes under Yarn\'s Plug\'n\'Play', async () => {
    const writer = await openRunWriter(target(await temporaryFolder(), { open: plugAndPlay }));
    expect(await readRecordFile(await writer.append(completed()))).toMatchObject({ records: [completed()] });
    await writer.close();
  });

  it('keeps the order of records that are appended at once', async () => {
    const results = await temporaryFolder();
    const writer = await openRunWriter(target(results));
    const records = Array.from({ length: 8 }, (_, i) => completed({ batch: i + 1 }));
    const [path] = await Promise.all(records.map((record) => writer.append(record)));
    await writer.close();
    expect((await readRecordFile(path!)).records.map((record) => record.case.id)).toEqual(records.map((record) => record.case.id));
  });

  it('writes a file for each device of a run, and reads them as one', async () => {
    const results = await temporaryFolder();
    const writer = await openRunWriter(target(results));
    await writer.append(completed({ device: 'cpu-a' }));
    await writer.append(completed({ device: 'gpu-b', variant: 'webgpu/fp32/fusion-on' }));
    await writer.close();
    expect(writer.paths).toHaveLength(2);
    const [run] = await listRuns(results);
    expect(run?.files.map((file) => file.device)).toEqual(['cpu-a', 'gpu-b']);
    expect((await readRun(run!)).records).toHaveLength(2);
  });

  it('says that the disk is full, keeps what is not saved, leaves no half line, and goes on when there is space', async () => {
    const results = await temporaryFolder();
    const first = completed();
    const disk = fullDisk(encodeRecord(first).length + 1 + 300);
    const writer = await openRunWriter(target(results, { open: disk.open }));
    const path = await writer.append(first);
    const second = completed({ batch: 2 });
    await expect(writer.append(second)).rejects.toMatchObject({
      code: 'RESULTS_UNWRITABLE',
      message: expect.stringContaining('disk is full'),
      place: path,
      fix: expect.stringContaining('--results'),
      details: ['1 finished case is not saved yet'],
    });
    expect(writer.unsaved).toEqual([second]);
    expect(await readFile(path, 'utf8')).toBe(`${encodeRecord(first)}\n`);
    disk.free();
    await writer.append(completed({ batch: 4 }));
    expect(writer.unsaved).toEqual([]);
    await writer.close();
    expect((await readRecordFile(path)).records.map((record) => record.case.variant.options.batch)).toEqual([1, 2, 4]);
  });

  it('puts what it could never save into a file elsewhere, and says where', async () => {
    const [results, rescueFolder] = [await temporaryFolder(), await temporaryFolder()];
    const disk = fullDisk(100);
    const writer = await openRunWriter(target(results, { open: disk.open, rescueFolder }));
    const records = [completed(), completed({ batch: 2 })];
    for (const record of records) await expect(writer.append(record)).rejects.toMatchObject({ code: 'RESULTS_UNWRITABLE' });
    const rescued = join(rescueFolder, `tsrt-bench-${RUN}.jsonl`);
    await expect(writer.close()).rejects.toMatchObject({
      code: 'RESULTS_UNWRITABLE',
      message: expect.stringMatching(/^2 cases could not be saved here: .*disk is full/),
      details: [`they are kept in ${rescued}`],
    });
    await writer.close();
    expect((await readRecordFile(rescued)).records).toEqual(records);
    expect(await listRuns(results)).toEqual([]);
    await (await openRunWriter(target(results))).close();
  });

  it('says so where nothing can be saved anywhere', async () => {
    const results = await temporaryFolder();
    const writer = await openRunWriter(target(results, { open: fullDisk(0).open, rescueFolder: join(results, 'absent') }));
    await expect(writer.append(completed())).rejects.toThrow('disk is full');
    await expect(writer.close()).rejects.toMatchObject({ message: expect.stringContaining('neither here nor in'), fix: expect.stringContaining('--resume') });
  });

  it('saves at the end what could not be saved before', async () => {
    const results = await temporaryFolder();
    const disk = fullDisk(0);
    const writer = await openRunWriter(target(results, { open: disk.open }));
    await expect(writer.append(completed())).rejects.toThrow('disk is full');
    disk.free();
    await writer.close();
    expect((await readRun((await latestRun(results))!)).records).toHaveLength(1);
  });

  it('takes an empty file for no run', async () => {
    const results = await temporaryFolder();
    const writer = await openRunWriter(target(results));
    const path = await writer.append(completed());
    await writer.close();
    await writeFile(path.replace('20260131', '20270131'), '');
    expect((await latestRun(results))?.runId).toBe(RUN);
  });

  it('finds out before measuring that the results folder is a file', async () => {
    const results = join(await temporaryFolder(), 'results');
    await writeFile(results, '');
    await expect(openRunWriter(target(results))).rejects.toMatchObject({
      code: 'RESULTS_UNWRITABLE',
      message: expect.stringMatching(/file|name/),
      place: join(results, 'resnet50'),
    });
  });

  it.skipIf(process.getuid?.() === 0 || process.platform === 'win32')('finds out before measuring that the folder is read-only (needs a user who is not root)', async () => {
    const results = await temporaryFolder();
    await chmod(results, 0o500);
    await expect(openRunWriter(target(results))).rejects.toMatchObject({ code: 'RESULTS_UNWRITABLE', message: expect.stringContaining('may not be written') });
  });

  it('lets two runs write at once, and refuses two writers of one run', async () => {
    const results = await temporaryFolder();
    const one = await openRunWriter(target(results));
    const other = await openRunWriter(target(results, { runId: '20260131T080509Z-ffffff' }));
    await Promise.all([one.append(completed()), other.append(completed())]);
    await expect(openRunWriter(target(results, { resume: true }))).rejects.toMatchObject({ code: 'RESULTS_LOCKED', message: expect.stringContaining(RUN) });
    await Promise.all([one.close(), other.close()]);
    expect(await listRuns(results)).toHaveLength(2);
    const again = await openRunWriter(target(results, { resume: true }));
    await again.close();
  });

  it('never writes into an existing run unless told to resume', async () => {
    const results = await temporaryFolder();
    const first = await openRunWriter(target(results));
    const path = await first.append(completed());
    await first.close();
    const before = await readFile(path);
    const second = await openRunWriter(target(results, { rescueFolder: await temporaryFolder() }));
    await expect(second.append(completed())).rejects.toMatchObject({ code: 'RESULTS_UNWRITABLE' });
    await expect(second.close()).rejects.toThrow('already has that name');
    expect(await readFile(path)).toEqual(before);
  });

  it('resumes after a cut line, and the last record of a case wins', async () => {
    const results = await temporaryFolder();
    const first = await openRunWriter(target(results));
    const path = await first.append(completed());
    await first.append(aborted({ batch: 2 }));
    await first.close();
    await appendFile(path, encodeRecord(completed({ batch: 4 })).slice(0, 200));
    const run = await latestRun(results, 'resnet50');
    const earlier = await readRun(run!);
    expect(earlier.notices).toEqual([expect.stringContaining(`${path}:3 is cut off`)]);
    expect([...finishedCases(earlier.records)]).toEqual(['onnxruntime/fp32/fusion-on/b1/single-stream']);

    const second = await openRunWriter(target(results, { resume: true }));
    await second.append(completed({ batch: 2 }));
    await second.close();
    const later = await readRun(run!);
    expect(later.notices).toEqual([]);
    expect(later.records.map((record) => [record.case.variant.options.batch, record.status])).toEqual([
      [1, 'completed'],
      [2, 'completed'],
    ]);
  });

  it('resumes a file whose last line is whole but has no line feed', async () => {
    const results = await temporaryFolder();
    const folder = join(results, 'resnet50', 'cpu-test-2c');
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, `${RUN}.jsonl`), encodeRecord(completed()));
    const writer = await openRunWriter(target(results, { resume: true }));
    const path = await writer.append(completed({ batch: 2 }));
    await writer.close();
    expect((await readRecordFile(path)).records).toHaveLength(2);
  });

  it('refuses a run id that would leave the folder', async () => {
    const results = await temporaryFolder();
    const error = await openRunWriter(target(results, { runId: '../evil' })).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(TsrtError);
    expect(error).toMatchObject({ code: 'USAGE' });
  });
});
