/** Stores behind URLs: what they keep, how they sign, and what becomes of faults, of half-written things and of two at once. */
import type { ServerResponse } from 'node:http';
import { describe, expect, it } from 'vitest';
import { baselineHistory, listBaselines, readBaseline, removeBaseline, saveBaseline } from '../../../src/results/baselines.ts';
import { openStore } from '../../../src/results/stores/store.ts';
import { temporaryFolder } from '../../helpers/folder.ts';
import { completed } from '../../helpers/records.ts';
import { type ObjectServer, serveObjects, signatureOf } from './object-server.ts';

const FAST = { timeoutMs: 300, retryPauseMs: 1 };
const SECRET = 'wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY';
const KEYS = { AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY: SECRET, AWS_REGION: 'eu-central-1' };
const wanted = { suite: 'resnet50', devices: ['cpu-test-2c'] };

const end = (response: ServerResponse, status: number, body = ''): true => {
  response.writeHead(status).end(body);
  return true;
};
const cut = (response: ServerResponse): true => {
  response.destroy();
  return true;
};

const web = (server: ObjectServer) => openStore(`${server.url}/bench`, {}, FAST);
const bucket = (server: ObjectServer, more = {}) => openStore('s3://perf/tsrt/bench', { ...KEYS, AWS_ENDPOINT_URL: server.url, ...more }, FAST);
const run = (runId: string, more = {}) => completed({ runId, startedAt: `2026-02-0${runId.at(-1)}T00:00:00.000Z`, ...more });

describe.each([
  { kind: 'HTTP', open: web, prefix: '/bench' },
  { kind: 'S3', open: bucket, prefix: '/perf/tsrt/bench' },
])('$kind', ({ open, prefix }) => {
  it('keeps, lists, replaces with a history, and forgets', async () => {
    const server = await serveObjects();
    const store = open(server);
    expect(await listBaselines(store)).toEqual([]);
    await saveBaseline(store, 'main', [run('r1'), run('r1', { device: 'gpu-b', variant: 'webgpu/fp32/fusion-on' })], false);
    expect((await readBaseline(store, 'main', wanted)).records).toEqual([run('r1')]);
    expect((await listBaselines(store)).map(({ name, suite, device, status }) => [name, suite, device, status])).toEqual([
      ['main', 'resnet50', 'cpu-test-2c', 'readable'],
      ['main', 'resnet50', 'gpu-b', 'readable'],
    ]);
    await expect(saveBaseline(store, 'main', [run('r2')], false)).rejects.toMatchObject({ code: 'USAGE', fix: expect.stringContaining('--force') });
    await saveBaseline(store, 'main', [run('r2')], true, { verdict: 'regressed', changes: ['latency p50 rose'], forced: true });
    expect((await readBaseline(store, 'main', wanted)).records).toEqual([run('r2')]);
    const [history] = await baselineHistory(store, 'main', wanted);
    expect(history?.updates).toMatchObject([{ runId: 'r1', cases: 1 }, { runId: 'r2', verdict: 'regressed', changes: ['latency p50 rose'], forced: true }]);
    // The old one is still there, and so is what the index said of it.
    expect([...server.objects.keys()].filter((key) => key.startsWith(`${prefix}/main/resnet50/cpu-test-2c/`))).toHaveLength(2);
    await removeBaseline(store, 'main', wanted);
    await expect(readBaseline(store, 'main', wanted)).rejects.toMatchObject({ code: 'BASELINE_NOT_FOUND', message: expect.stringContaining('it has gpu-b') });
  });

  it('a retry heals what passes: a 503, a 429, a broken connection, an answer that was lost after the write', async () => {
    const server = await serveObjects();
    let faults = 0;
    server.fault = (asked, response) => {
      faults++;
      if (faults === 1) return end(response, 503);
      if (faults === 3) return cut(response);
      if (faults === 5) return end(response, 429);
      if (faults === 7 && asked.method === 'PUT') {
        server.objects.set(asked.path, asked.body);
        return cut(response);
      }
      return false;
    };
    await saveBaseline(open(server), 'main', [run('r1')], false);
    server.fault = () => false;
    expect((await readBaseline(open(server), 'main', wanted)).records).toHaveLength(1);
    expect((await baselineHistory(open(server), 'main', wanted))[0]?.updates).toHaveLength(1);
  });
});

describe('faults that stay', () => {
  const answering = async (status: number, body = '') => {
    const server = await serveObjects();
    server.fault = (_asked, response) => end(response, status, body);
    return server;
  };

  it.each([
    { status: 403, says: /refused the request \(403 to GET\)/, fix: /s3:ListBucket/, calls: 1 },
    { status: 401, says: /refused the request \(401/, fix: /AWS_ACCESS_KEY_ID/, calls: 1 },
    { status: 301, says: /is at another address \(301\)/, fix: /AWS_REGION/, calls: 1 },
    { status: 400, says: /answered 400 to GET/, fix: /--store/, calls: 1 },
    { status: 500, says: /can't be reached: it answered 500, 4 times/, fix: /try again later/, calls: 4 },
  ])('$status is said with the way out, after $calls tries', async ({ status, says, fix, calls }) => {
    const server = await answering(status);
    const failure = await listBaselines(bucket(server)).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'STORE_UNAVAILABLE', exitStatus: 5, message: expect.stringMatching(says), fix: expect.stringMatching(fix) });
    expect(server.asked).toHaveLength(calls);
    expect(JSON.stringify(failure)).not.toContain(SECRET);
    expect(String((failure as Error).stack)).not.toMatch(/Signature|EXAMPLEKEY/);
  });

  it('a bucket that is not there is no empty store', async () => {
    const server = await answering(404, '<Error><Code>NoSuchBucket</Code></Error>');
    await expect(listBaselines(bucket(server))).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE', message: 'there is no such bucket: s3://perf/tsrt/bench' });
  });

  it('a server that is silent, or not there, ends in time', async () => {
    const silent = await serveObjects();
    silent.fault = () => true;
    await expect(listBaselines(openStore(`${silent.url}/x`, {}, { timeoutMs: 40, retryPauseMs: 1 }))).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE', message: expect.stringMatching(/in time/) });
    await expect(listBaselines(openStore('http://127.0.0.1:9/x', {}, FAST))).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE', message: expect.stringMatching(/nothing listens|failed/) });
  });

  it('a write that breaks off half-way leaves the old baseline', async () => {
    const server = await serveObjects();
    await saveBaseline(web(server), 'main', [run('r1')], false);
    server.fault = (asked, response) => asked.method === 'PUT' && asked.path.endsWith('/index.json') && end(response, 500);
    await expect(saveBaseline(web(server), 'main', [run('r2')], true)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    server.fault = () => false;
    expect((await readBaseline(web(server), 'main', wanted)).records).toEqual([run('r1')]);
  });

  it('an object that was cut or changed is found out, and so is an index', async () => {
    const server = await serveObjects();
    await saveBaseline(web(server), 'main', [run('r1')], false);
    const [key, body] = [...server.objects].find(([path]) => path.endsWith('.jsonl'))!;
    server.objects.set(key, body.slice(0, 100));
    await expect(readBaseline(web(server), 'main', wanted)).rejects.toMatchObject({ code: 'RESULTS_INVALID', message: expect.stringMatching(/not what was saved \(100 bytes of \d+\)/), fix: expect.stringContaining('--force') });
    server.objects.delete(key);
    await expect(readBaseline(web(server), 'main', wanted)).rejects.toMatchObject({ code: 'RESULTS_INVALID', message: expect.stringContaining('not where the index says') });
    const index = '/bench/index.json';
    for (const [text, says] of [['', /is empty/], ['<html>', /not JSON/], ['{"schemaVersion":2,"places":{}}', /this version can't read the baseline index/]] as const) {
      server.objects.set(index, text);
      await expect(listBaselines(web(server))).rejects.toMatchObject({ code: 'RESULTS_INVALID', message: expect.stringMatching(says), place: `${server.url}${index}` });
    }
  });
});

describe('two at once', () => {
  it('other places are both kept; the same place is not overwritten unseen', async () => {
    const server = await serveObjects();
    await Promise.all([1, 2, 3].map((i) => saveBaseline(web(server), `b${i}`, [run(`r${i}`)], false)));
    expect((await listBaselines(web(server))).map(({ name }) => name)).toEqual(['b1', 'b2', 'b3']);
    // Somebody saves the same place between the look at the index and its change.
    let meddled = false;
    server.fault = (asked) => {
      if (meddled || asked.method !== 'PUT' || !asked.path.endsWith('.jsonl')) return false;
      meddled = true;
      const index = JSON.parse(server.objects.get('/bench/index.json')!) as { places: Record<string, { key: string }[]> };
      index.places['b1/resnet50/cpu-test-2c']!.push({ ...index.places['b1/resnet50/cpu-test-2c']![0]!, key: 'b1/resnet50/cpu-test-2c/other.jsonl' });
      server.objects.set('/bench/index.json', JSON.stringify(index));
      return false;
    };
    await expect(saveBaseline(web(server), 'b1', [run('r4')], true)).rejects.toMatchObject({ code: 'RESULTS_LOCKED', message: expect.stringContaining("changed baseline 'b1'") });
  });

  it.each(['refused', 'unknown'] as const)('works without conditions where the server has none (%s)', async (conditions) => {
    const server = await serveObjects();
    server.conditions = conditions;
    await saveBaseline(bucket(server), 'main', [run('r1')], false);
    await saveBaseline(bucket(server), 'main', [run('r2')], true);
    expect((await readBaseline(bucket(server), 'main', wanted)).records).toEqual([run('r2')]);
  });
});

describe('signatures and credentials', () => {
  it('every request carries a right signature over its payload, and the session token', async () => {
    const server = await serveObjects();
    await saveBaseline(bucket(server, { AWS_SESSION_TOKEN: 'token-of-an-hour' }), 'main', [run('r1')], false);
    expect(server.asked.map(({ method }) => method)).toEqual(['GET', 'PUT', 'GET', 'PUT']);
    for (const asked of server.asked) {
      const { stated, right, scope, names } = signatureOf(asked, SECRET);
      expect(stated).toBe(right);
      expect(scope).toMatch(/^AKIDEXAMPLE\/\d{8}\/eu-central-1\/s3\/aws4_request$/);
      expect(names.split(';')).toEqual(expect.arrayContaining(['host', 'x-amz-content-sha256', 'x-amz-date', 'x-amz-security-token']));
      expect(asked.headers['x-amz-security-token']).toBe('token-of-an-hour');
      expect(signatureOf({ ...asked, body: `${asked.body} ` }, SECRET).right).not.toBe(stated);
    }
  });

  it('a token goes with each request to a web server, and never in the clear over a network', async () => {
    const server = await serveObjects();
    await listBaselines(openStore(server.url, { TSRT_BENCH_STORE_TOKEN: 'secret-token' }, FAST));
    expect(server.asked[0]?.headers.authorization).toBe('Bearer secret-token');
    expect(() => openStore('http://bench.example.org/x', { TSRT_BENCH_STORE_TOKEN: 'secret-token' })).toThrow(/not sent over plain HTTP/);
  });

  it.each([
    { store: 'https://user:pass@host/x', says: /can't have a user, password/ },
    { store: 'https://host/x?sig=abc', says: /can't have a user, password, query/ },
    { store: 'ftp://host/x', says: /can't be kept at ftp/ },
    { store: 's3://', says: /--store is not an S3 location/ },
    { store: 's3://b@d/x', says: /--store is not an S3 location/ },
  ])('refuses $store', ({ store, says }) => {
    const open = () => openStore(store, KEYS);
    expect(open).toThrow(says);
    expect(open).toThrow(expect.objectContaining({ code: 'USAGE', fix: expect.any(String) }));
  });

  it('says which variables are missing, and where buckets are', async () => {
    await expect(listBaselines(openStore('s3://perf', {}))).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE', fix: expect.stringContaining('AWS_ACCESS_KEY_ID') });
    expect(openStore('s3://perf/a/b/', KEYS).label).toBe('s3://perf/a/b');
    expect(() => openStore('s3://perf', { ...KEYS, AWS_ENDPOINT_URL: 'https://me:pw@host' })).toThrow(/is not a plain/);
  });
});

describe('a folder', () => {
  it('keeps what was replaced, the newest ten, and why', async () => {
    const folder = await temporaryFolder();
    const store = openStore(folder, {});
    for (let i = 1; i <= 4; i++) await saveBaseline(store, 'main', [run(`r${i}`)], true, i === 4 ? { verdict: 'passed' } : {});
    const [history] = await baselineHistory(store, 'main', wanted);
    expect(history?.updates.map(({ runId, verdict }) => [runId, verdict])).toEqual([['r1', undefined], ['r2', undefined], ['r3', undefined], ['r4', 'passed']]);
    expect((await listBaselines(store)).map(({ device }) => device)).toEqual(['cpu-test-2c']);
    await removeBaseline(store, 'main');
    expect(await listBaselines(store)).toEqual([]);
  });
});
