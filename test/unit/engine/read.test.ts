import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { serializeEngine } from '../../../src/engine/file.ts';
import { examineEngineFile, isEngineAt, readEngine } from '../../../src/engine/read.ts';
import { writeEngine } from '../../../src/engine/write.ts';
import { sampleEngine } from '../../helpers/engine.ts';

let folder: string;
let path: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'engine-files-'));
  path = join(folder, 'sample.engine');
});
afterAll(() => rm(folder, { recursive: true }));

describe('engine files on disk', () => {
  it('are written as they are serialized, with their size and hash', async () => {
    const written = await writeEngine(path, sampleEngine());
    const bytes = await readFile(path);
    expect(bytes.equals(await serializeEngine(sampleEngine()))).toBe(true);
    expect(written).toEqual({ bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') });
  });

  it('are read, and examined without being held', async () => {
    const written = await writeEngine(path, sampleEngine());
    expect(await readEngine(path)).toEqual(sampleEngine());
    const parts = [...sampleEngine().parts].map(([name, { length }]) => ({ name, bytes: length }));
    expect(await examineEngineFile(path)).toEqual({ ...written, header: sampleEngine().header, parts });
    expect(await isEngineAt(path)).toBe(true);
  });

  it('are refused by name where they are damaged, missing or no files', async () => {
    const whole = await serializeEngine(sampleEngine());
    const broken = join(folder, 'broken.engine');
    for (const bytes of [whole.subarray(0, 10), whole.subarray(0, whole.length - 1), whole.with(whole.length - 1, 0xff)]) {
      await writeFile(broken, bytes);
      for (const read of [readEngine, examineEngineFile]) await expect(read(broken)).rejects.toMatchObject({ code: 'ENGINE_INVALID', place: broken });
    }
    await expect(readEngine(join(folder, 'none.engine'))).rejects.toMatchObject({ code: 'MODEL_NOT_FOUND', message: 'there is no such engine file' });
    await expect(readEngine(folder)).rejects.toMatchObject({ code: 'MODEL_NOT_FOUND', message: "the engine file can't be read" });
    expect(await isEngineAt(folder)).toBe(false);
  });

  it('are not read where a signal says so', async () => {
    await expect(readEngine(path, AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough');
  });
});
