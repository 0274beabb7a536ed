/** The timing cache: merged, kept apart by device, put aside where it can't be read, never fatal. */
import fc from 'fast-check';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { type CacheEntry, type CacheFile, emptyCache, merged, TimingCache } from '../../../../src/backends/webgpu/tune/timing-cache.ts';

const root = mkdtempSync(join(tmpdir(), 'timing-cache-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let folder = root;
beforeEach(() => {
  folder = mkdtempSync(join(root, 'case-'));
});

const here = { tool: '0.1.0', device: { vendor: 'nvidia', driver: '580' } };
const elsewhere = { tool: '0.1.0', device: { vendor: 'nvidia', driver: '570' } };
const fast = { ns: 1000, spreadNs: 5 };

async function keep(file: string, hash: string, timing: { ns: number; spreadNs: number } | { refused: string }, identity = here): Promise<TimingCache> {
  const cache = await TimingCache.open(file, identity);
  cache.put(hash, timing);
  await cache.flush();
  return cache;
}

const read = (file: string): CacheFile => JSON.parse(readFileSync(file, 'utf8')) as CacheFile;

describe('the timing cache', () => {
  it('gives back what it was given, times and refusals, in folders that it makes', async () => {
    const file = join(folder, 'deep', 'er', 'cache.json');
    await keep(file, 'a', fast);
    await keep(file, 'b', { refused: 'too large' });
    const cache = await TimingCache.open(file, here);
    expect([cache.get('a'), cache.get('b'), cache.get('c')]).toEqual([fast, { refused: 'too large' }, undefined]);
    expect(cache.notices).toEqual([]);
    expect(readdirSync(join(folder, 'deep', 'er'))).toEqual(['cache.json']);
  });

  it('without a file keeps times for the build alone', async () => {
    const cache = await TimingCache.open(undefined, here);
    cache.put('a', fast);
    await cache.flush();
    expect(cache.get('a')).toEqual(fast);
  });

  it('keeps times of other devices, drivers and versions, and does not use them', async () => {
    const file = join(folder, 'cache.json');
    await keep(file, 'a', fast, elsewhere);
    await keep(file, 'a', fast, { ...here, tool: '0.2.0' });
    const cache = await TimingCache.open(file, here);
    expect(cache.get('a')).toBeUndefined();
    expect(cache.notices).toEqual([expect.stringMatching(/2 other devices or versions only/)]);
    cache.put('a', { ns: 7, spreadNs: 0 });
    await cache.flush();
    expect(Object.values(read(file).sections).map(({ kernels }) => (kernels['a'] as { ns: number }).ns).sort((a, b) => a - b)).toEqual([7, 1000, 1000]);
    expect((await TimingCache.open(file, elsewhere)).get('a')).toEqual(fast);
  });

  it('merges what several processes measured', async () => {
    const file = join(folder, 'cache.json');
    const caches = await Promise.all(Array.from({ length: 6 }, () => TimingCache.open(file, here)));
    for (const [i, cache] of caches.entries()) cache.put(`k${i}`, { ns: i + 1, spreadNs: 0 });
    await Promise.all(caches.map((cache) => cache.flush()));
    const after = await TimingCache.open(file, here);
    expect(caches.map((_, i) => after.get(`k${i}`))).toEqual(caches.map((_, i) => ({ ns: i + 1, spreadNs: 0 })));
    expect(readdirSync(folder)).toEqual(['cache.json']);
  });

  it.each([
    ['no JSON', '{"format":"tsrt-bench timing cache","ver', /it is not JSON/],
    ['another thing', '{"name":"x"}', /it is not a timing cache/],
    ['a list', '[]', /it is not a timing cache/],
    ['null', 'null', /it is not a timing cache/],
    ['a later version', '{"format":"tsrt-bench timing cache","version":3,"sections":{}}', /version 3, this tool's is 2/],
    ['a broken entry', '{"format":"tsrt-bench timing cache","version":2,"sections":{"s":{"tool":"0","device":{},"kernels":{"a":{"ns":"fast"}}}}}', /it is not a timing cache/],
  ])('puts a file aside that is %s, and says so', async (_, text, reason) => {
    const file = join(folder, 'cache.json');
    writeFileSync(file, text);
    const cache = await keep(file, 'a', fast);
    expect(cache.notices).toEqual([expect.stringMatching(reason)]);
    expect(readFileSync(`${file}.unusable`, 'utf8')).toBe(text);
    expect((await TimingCache.open(file, here)).get('a')).toEqual(fast);
    // A second one does not overwrite the first.
    writeFileSync(file, 'also wrong');
    await keep(file, 'a', fast);
    expect([readFileSync(`${file}.unusable`, 'utf8'), readFileSync(`${file}.unusable-2`, 'utf8')]).toEqual([text, 'also wrong']);
  });

  it('leaves a file that it can not use where it is while there is nothing to write', async () => {
    const file = join(folder, 'cache.json');
    writeFileSync(file, 'wrong');
    await (await TimingCache.open(file, here)).flush();
    expect(readdirSync(folder)).toEqual(['cache.json']);
  });

  it('is no reason to fail where it can not be written', async () => {
    const file = join(folder, 'blocked', 'cache.json');
    writeFileSync(join(folder, 'blocked'), 'a file where the folder should be');
    const cache = await keep(file, 'a', fast);
    await cache.flush();
    expect(cache.notices.at(-1)).toMatch(/could not be written/);
    expect(cache.get('a')).toEqual(fast);
  });

  it.skipIf(process.getuid?.() === 0)('is no reason to fail in a folder that is read-only (skipped for root)', async () => {
    mkdirSync(join(folder, 'locked'));
    chmodSync(join(folder, 'locked'), 0o500);
    const file = join(folder, 'locked', 'cache.json');
    expect((await keep(file, 'a', fast)).notices).toHaveLength(1);
    expect(existsSync(file)).toBe(false);
  });

  it('merges to the same whatever the order, the later time of one kernel stays', () => {
    const entry = fc.record({ ns: fc.integer({ min: 1, max: 100 }), at: fc.integer({ min: 0, max: 50 }) }).map(({ ns, at }): CacheEntry => ({ ns, spreadNs: 0, when: new Date(at * 1000).toISOString() }));
    const entries = fc.array(fc.tuple(fc.constantFrom('a', 'b', 'c', 'd'), entry), { maxLength: 8 }).map((pairs) => new Map(pairs));
    fc.assert(
      fc.property(entries, entries, (one, two) => {
        // Two processes never write two times of one kernel in the same millisecond.
        for (const [hash, { when }] of one) if (two.get(hash)?.when === when) two.delete(hash);
        const left = merged(merged(emptyCache(), 's', here, one), 's', here, two);
        const right = merged(merged(emptyCache(), 's', here, two), 's', here, one);
        expect(left).toEqual(right);
        for (const hash of [...one.keys(), ...two.keys()]) {
          const latest = [one.get(hash), two.get(hash)].filter((found) => found !== undefined).sort((a, b) => (a.when < b.when ? 1 : -1))[0];
          expect(left.sections['s']!.kernels[hash]).toEqual(latest);
        }
      }),
    );
  });
});
