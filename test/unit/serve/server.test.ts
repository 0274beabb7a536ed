/** HTTP before made-up models: statuses, headers, metrics, and an end that answers what is under way. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import type { TensorMap } from '../../../src/backends/backend.ts';
import { TsrtError } from '../../../src/errors.ts';
import { createMetrics } from '../../../src/serve/metrics.ts';
import type { ServedModel } from '../../../src/serve/model.ts';
import { startServer } from '../../../src/serve/server.ts';

/** x float32 [-1] → itself, by `infer`. */
function fakeModel(name: string, infer: (inputs: TensorMap) => Promise<TensorMap>, more: Partial<ServedModel> = {}): ServedModel {
  const x = { name: 'x', dtype: 'float32', dims: [4] } as const;
  return { name, backend: 'fake', inputs: [x], outputs: [x], isBatched: true, waiting: () => 3, isReady: () => true, infer, close: async () => {}, ...more };
}

const BODY = JSON.stringify({ inputs: [{ name: 'x', shape: [1], datatype: 'FP32', data: [1] }] });
const post = (body: string): RequestInit => ({ method: 'POST', body });

async function start(...models: ServedModel[]) {
  const faults: string[] = [];
  const metrics = createMetrics();
  const server = await startServer({ models, metrics, onFault: ({ message }) => faults.push(message) }, { host: '127.0.0.1', port: 0 });
  onTestFinished(() => server.close());
  const ask = async (path: string, init?: RequestInit) => {
    const response = await fetch(`${server.address}${path}`, init);
    return { status: response.status, headers: response.headers, text: await response.text() };
  };
  return { server, ask, faults, metrics };
}

it('answers in the words of what went wrong, with the status of whose fault it is', async () => {
  const failures: Record<string, Error> = {
    usage: new TsrtError('USAGE', 'no', { details: ['x: a', 'y: b'], fix: 'Do this.' }),
    full: new TsrtError('OVERLOADED', '7 items are already waiting'),
    lost: new TsrtError('DEVICE_LOST', 'the device is gone'),
    bug: new TypeError('a bug'),
  };
  const models = Object.entries(failures).map(([name, error]) => fakeModel(name, () => Promise.reject(error)));
  const { ask, faults } = await start(...models, fakeModel('echo', async (inputs) => inputs));
  const said = async (path: string, init?: RequestInit) => {
    const { status, headers, text } = await ask(path, init);
    return [status, (JSON.parse(text) as { error?: string }).error, headers.get('retry-after')];
  };
  expect(await said('/v2/models/usage/infer', post(BODY))).toEqual([400, 'no: x: a; y: b (Do this)', null]);
  expect(await said('/v2/models/full/infer', post(BODY))).toEqual([503, '7 items are already waiting', '1']);
  expect(await said('/v2/models/lost/infer', post(BODY))).toEqual([500, 'the device is gone', null]);
  expect(await said('/v2/models/bug/infer', post(BODY))).toEqual([500, 'internal error', null]);
  expect(faults).toEqual(['the device is gone', 'a bug']);
  expect(await said('/v2/models/eco/infer', post(BODY))).toEqual([404, "there is no model 'eco'; did you mean 'echo'?", null]);
  expect(await said('/v2/models/echo/infer')).toEqual([404, 'there is no GET /v2/models/echo/infer', null]);
  expect(await said('/v2/models/echo/infer', post('x'.repeat(2 ** 21)))).toEqual([413, 'Request body is too large', null]);
  expect(await said('/v2/models/echo/infer', { method: 'POST' })).toEqual([400, expect.stringMatching(/the request is not JSON/), null]);
  expect(await said('/v2/models/echo/infer', { ...post(BODY), headers: { 'content-encoding': 'gzip' } })).toEqual([415, 'Content-Encoding gzip is not supported', null]);
  expect(await said('/v2/models/echo/infer', { ...post(BODY), headers: { 'inference-header-content-length': 'x' } })).toEqual([400, expect.stringMatching(/expected a number of bytes/), null]);
  // Whatever type the body is said to have.
  for (const type of ['application/json', 'application/octet-stream', 'x/y']) expect(await said('/v2/models/echo/infer', { ...post(BODY), headers: { 'content-type': type } })).toEqual([200, undefined, null]);
});

it('is not ready once engines are gone', async () => {
  const { ask } = await start(fakeModel('gone', async (inputs) => inputs, { isReady: () => false }), fakeModel('well', async (inputs) => inputs));
  const statuses = await Promise.all(['health/live', 'health/ready', 'models/gone/ready', 'models/well/ready'].map(async (path) => (await ask(`/v2/${path}`)).status));
  expect(statuses).toEqual([503, 503, 503, 200]);
});

it('counts what it did', async () => {
  const { ask, metrics } = await start(fakeModel('echo', async (inputs) => inputs));
  await ask('/v2/models/echo/infer', post(BODY));
  await ask('/v2/models/echo/infer', post('{'));
  await ask('/v2/models/nosuch/infer', post(BODY));
  metrics.batch('echo', { batch: 8, queuedMs: [1, 3, 200], tookMs: 20 });
  const { text, headers } = await ask('/metrics');
  expect(headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
  const lines = text.split('\n');
  for (const line of [
    'tsrt_bench_requests_total{model="echo",status="200"} 1',
    'tsrt_bench_requests_total{model="echo",status="400"} 1',
    'tsrt_bench_requests_total{model="",status="404"} 1',
    'tsrt_bench_request_errors_total{model="echo"} 1',
    'tsrt_bench_batch_items_sum{model="echo"} 3',
    'tsrt_bench_batch_items_count{model="echo"} 1',
    'tsrt_bench_queue_duration_seconds_bucket{le="0.0025",model="echo"} 1',
    'tsrt_bench_queue_duration_seconds_bucket{le="0.25",model="echo"} 3',
    'tsrt_bench_compute_duration_seconds_sum{model="echo",batch="8"} 0.02',
    'tsrt_bench_waiting_items{model="echo"} 3',
  ]) {
    expect(lines).toContain(line);
  }
});

it('answers what is under way before it ends, and refuses the rest', async () => {
  let finish = (): void => {};
  let arrived = (): void => {};
  const underWay = new Promise<void>((resolve) => (arrived = resolve));
  const model = fakeModel('slow', (inputs) => new Promise((resolve) => {
    finish = () => resolve(inputs);
    arrived();
  }));
  const { server, ask } = await start(model);
  const { port } = new URL(server.address);
  const first = ask('/v2/models/slow/infer', post(BODY));
  await underWay;
  // One whose head is on its way.
  const late = connect(Number(port), '127.0.0.1');
  await once(late, 'connect');
  late.write('POST /v2/models/slow/infer HTTP/1.1\r\n');
  // One whose body is.
  const later = connect(Number(port), '127.0.0.1');
  await once(later, 'connect');
  later.write(`POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nContent-Length: ${BODY.length}\r\n\r\n${BODY.slice(0, 5)}`);
  // The server has read them when it answers this one.
  await ask('/v2/health/live');
  const closed = server.close();
  late.write(`Host: x\r\nContent-Length: ${BODY.length}\r\n\r\n${BODY}`);
  later.write(BODY.slice(5));
  for (const connection of [late, later]) {
    const [refusal] = (await once(connection, 'data')) as [Buffer];
    expect(refusal.toString()).toMatch(/^HTTP\/1\.1 503 [\s\S]*retry-after: 1[\s\S]*\{"error":"the server is shutting down"\}$/i);
    connection.destroy();
  }
  finish();
  const answer = await first;
  expect([answer.status, answer.headers.get('connection')]).toEqual([200, 'close']);
  expect(JSON.parse(answer.text)).toEqual({ model_name: 'slow', outputs: [{ name: 'x', shape: [1], datatype: 'FP32', data: [1] }] });
  await closed;
  await expect(ask('/v2/health/live')).rejects.toThrow('fetch failed');
});

it('waits for nobody who has gone', async () => {
  let arrived = (): void => {};
  const underWay = new Promise<void>((resolve) => (arrived = resolve));
  let closed = 0;
  const { server } = await start(fakeModel('slow', () => new Promise(() => arrived()), { close: async () => void closed++ }));
  const gone = connect(Number(new URL(server.address).port), '127.0.0.1');
  gone.write(`POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nContent-Length: ${BODY.length}\r\n\r\n${BODY}`);
  await underWay;
  gone.destroy();
  await server.close();
  expect(closed).toBe(1);
  await expect(fetch(`${server.address}/v2`)).rejects.toThrow('fetch failed');
});

it('names a port that is taken', async () => {
  const { server } = await start(fakeModel('echo', async (inputs) => inputs));
  const { port } = new URL(server.address);
  const second = startServer({ models: [fakeModel('echo', async (inputs) => inputs)], metrics: createMetrics(), onFault: () => {} }, { host: '127.0.0.1', port: Number(port) });
  await expect(second).rejects.toMatchObject({ code: 'USAGE', message: `can't listen on 127.0.0.1, port ${port}: another program is using it` });
});
