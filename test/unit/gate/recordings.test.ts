/** Recordings of noise that the simulation takes (bench/gate-simulation/recordings.mjs). */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { temporaryFolder } from '../../helpers/folder.ts';

interface Round {
  readonly p50: number;
  readonly throughput: number | undefined;
}

interface Row {
  readonly model: string;
  readonly design: string;
  readonly noise: number;
  readonly traces: readonly { readonly a: readonly Round[]; readonly b: readonly Round[] }[];
  readonly tooShort: string | undefined;
}

const { recordedRows } = (await import(new URL('../../../bench/gate-simulation/recordings.mjs', import.meta.url).href)) as {
  recordedRows(paths: readonly string[], rounds: { readonly interleaved: number; readonly stored: number }): Promise<readonly Row[]>;
};

const rounds = { interleaved: 3, stored: 2 };

async function recording(content: unknown, name = 'mine.json'): Promise<string> {
  const path = join(await temporaryFolder(), name);
  await writeFile(path, typeof content === 'string' ? content : JSON.stringify(content));
  return path;
}

describe('a recording', () => {
  test('may be one latency a round, or named columns in any order', async () => {
    const plain = await recording({ cases: [{ id: 'one', a: [10, 11, 12, 10], b: [10, 10, 11, 12] }] });
    const [interleaved, stored] = await recordedRows([plain], rounds);
    expect(interleaved).toMatchObject({ model: 'mine', design: 'interleaved', tooShort: undefined });
    expect(interleaved!.traces[0]!.a.map(({ p50 }) => p50)).toEqual([10, 11, 12, 10]);
    expect(stored).toMatchObject({ design: 'stored', tooShort: undefined });
    const named = await recording({ columns: ['items/s', 'yardstick memory us', 'p50 ms'], cases: [{ id: 'one', a: [[80, 5, 12], [90, 5, 11], [85, 6, 11]], b: [[80, 5, 12], [90, 5, 11], [85, 6, 11]] }] });
    expect((await recordedRows([named], rounds))[0]!.traces[0]!.a[0]).toMatchObject({ p50: 12, throughput: 80 });
  });

  test('has the noise of its rounds: the deviation of the logarithms of a side', async () => {
    const path = await recording({ cases: [{ id: 'one', a: [1, Math.E, 1, Math.E], b: [1, Math.E, Math.E, 1] }] });
    expect((await recordedRows([path], rounds))[0]!.noise).toBeCloseTo(0.5, 12);
  });

  test('that is too short for a design says so', async () => {
    const path = await recording({ cases: [{ id: 'one', a: [1, 2, 1], b: [1, 1, 2] }] });
    const [interleaved, stored] = await recordedRows([path], rounds);
    expect(interleaved!.tooShort).toBeUndefined();
    expect(stored!.tooShort).toBe('no case has 4 rounds');
  });

  test.each([
    ['not JSON', '{', /mine\.json is not JSON/],
    ['no latencies', { columns: ['items/s'], cases: [] }, /a column 'p50 ms'/],
    ['no cases', {}, /a recording has cases/],
    ['a latency of 0', { cases: [{ id: 'one', a: [1, 0, 1], b: [1, 1, 1] }] }, /a number above 0, found 0/],
    ['null', 'null', /a recording has cases/],
  ] as const)('is refused with its file: %s', async (_, content, message) => {
    await expect(recordedRows([await recording(content)], rounds)).rejects.toThrow(message);
  });

  test('folders give all of their files', async () => {
    const folder = join(await temporaryFolder(), 'noise');
    await mkdir(folder);
    for (const name of ['b.json', 'a.json']) await writeFile(join(folder, name), JSON.stringify({ cases: [{ id: 'one', a: [1, 2, 1], b: [1, 1, 2] }] }));
    await writeFile(join(folder, 'README.md'), 'what else ran');
    expect((await recordedRows([folder], rounds)).filter(({ design }) => design === 'interleaved').map(({ model }) => model)).toEqual(['a', 'b']);
  });
});
