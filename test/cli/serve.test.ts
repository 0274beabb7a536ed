/** Engines behind HTTP, as a user serves them: asked at once, wrongly, and while the server ends. */
import { beforeAll, describe, expect, it } from 'vitest';
import { type Tensor, toNumbers } from '../../src/ir/tensor.ts';
import { openEngine } from '../../src/node.ts';
import { buildSmoke } from '../../src/suite/builders/smoke.ts';
import { groupFolder } from '../helpers/folder.ts';
import { randomTensor, runModel } from '../helpers/ort.ts';
import { seededRandom } from '../helpers/random.ts';
import { workplace, type Workplace } from './cli.ts';

const smoke = (seed: number): Uint8Array => Buffer.concat([...buildSmoke({ seed, classes: 10 }).chunks()]);
const model = smoke(1);
const images = (count: number, seed: number): Tensor => randomTensor({ dtype: 'float32', dims: [count, 3, 32, 32] }, seededRandom(seed));

const makeFolder = groupFolder();
let place: Workplace;
beforeAll(async () => {
  place = await workplace(undefined, await makeFolder());
  await place.write('pictures.onnx', model);
  await place.write('other.onnx', smoke(2));
  const engines = [['pictures', '1', 'b1'], ['pictures', '4', 'b4'], ['other', '1', 'other']] as const;
  await Promise.all(engines.map(([name, batch, engine]) => place.runApart('build', `${name}.onnx`, '--batch', batch, '--output', `${engine}.engine`)));
});

interface Answer {
  readonly error?: string;
  readonly id?: string;
  readonly outputs: readonly { readonly shape: readonly number[]; readonly data: readonly number[] }[];
}

/** Starts a server, does `work` with its address, and ends it by a signal. */
async function whileServing(words: readonly string[], work: (address: string) => Promise<void>) {
  let working: Promise<void> | undefined;
  const outcome = await place.start(['serve', ...words, '--port', '0'], (text, kill) => {
    const address = /listening on (\S+)/.exec(text)?.[1];
    if (address !== undefined) working = work(address).finally(() => kill('SIGTERM'));
  });
  await working;
  return outcome;
}

/** As bytes behind the JSON, both ways. */
async function askBinary(address: string, image: Tensor): Promise<number[]> {
  const header = JSON.stringify({ parameters: { binary_data_output: true }, inputs: [{ name: 'input', shape: image.dims, datatype: 'FP32', parameters: { binary_data_size: image.data.byteLength } }] });
  const response = await fetch(`${address}/v2/models/pictures/infer`, { method: 'POST', headers: { 'Inference-Header-Content-Length': String(Buffer.byteLength(header)) }, body: Buffer.concat([Buffer.from(header), image.data]) });
  const body = new Uint8Array(await response.arrayBuffer());
  expect(response.status).toBe(200);
  return toNumbers({ dtype: 'float32', dims: [], data: body.subarray(Number(response.headers.get('Inference-Header-Content-Length'))) });
}

async function askJson(address: string, body: object): Promise<{ readonly status: number; readonly answer: Answer }> {
  const response = await fetch(`${address}/v2/models/pictures/infer`, { method: 'POST', body: JSON.stringify(body) });
  return { status: response.status, answer: (await response.json()) as Answer };
}

const asJson = ({ dims, ...image }: Tensor, more: object = {}): object => ({ id: '7', inputs: [{ name: 'input', shape: dims, datatype: 'FP32', data: toNumbers({ dims, ...image }), ...more }] });

const distance = (found: readonly number[], expected: readonly number[]): number => (found.length === expected.length ? Math.max(...found.map((value, i) => Math.abs(value - expected[i]!))) : Number.POSITIVE_INFINITY);

describe('a server', () => {
  it("answers many at once with onnxruntime's numbers and the session's own, in either form, refuses what does not fit, and counts", async () => {
    const requests = [1, 1, 1, 3, 4, 2, 1, 1].map((count, seed) => images(count, seed + 1));
    const expected = await Promise.all(requests.map(async (image) => toNumbers((await runModel(model, new Map([['input', image]]))).get('output')!)));
    const session = await openEngine(`${place.folder}/b4.engine`);
    const own = toNumbers((await session.run({ input: requests[4]! }))['output']!);
    await session.dispose();
    const { status, stderr } = await whileServing(['b1.engine', 'b4.engine', '--max-queue-delay', '20ms'], async (address) => {
      const answers = await Promise.all(requests.map((image) => askBinary(address, image)));
      for (const [i, answer] of answers.entries()) expect(distance(answer, expected[i]!)).toBeLessThan(1e-4);
      // A whole batch runs on the engine for it, bit for bit.
      expect(answers[4]).toEqual(own);
      const { status: ok, answer } = await askJson(address, asJson(requests[5]!));
      expect([ok, answer.id, answer.outputs[0]!.shape]).toEqual([200, '7', [2, 10]]);
      expect(distance(answer.outputs[0]!.data, expected[5]!)).toBeLessThan(1e-4);

      const refused = await Promise.all([asJson(images(5, 1)), asJson(requests[0]!, { name: 'image' }), asJson(requests[0]!, { shape: [1, 3, 32, 31] }), asJson(requests[0]!, { datatype: 'FP64' }), asJson(requests[0]!, { data: [1] })].map((body) => askJson(address, body)));
      expect(refused.map((each) => each.status)).toEqual([400, 400, 400, 400, 400]);
      expect(refused.map((each) => each.answer.error)).toEqual([
        'the request has 5 items, but the largest engine takes 4 (split the request, or serve an engine with a larger batch as well)',
        expect.stringContaining('input: expected float32[1,3,32,32], found nothing; image: no such input'),
        expect.stringContaining('input: expected float32[1,3,32,32], found float32[1,3,32,31]'),
        expect.stringContaining('input: expected float32[1,3,32,32], found float64[1,3,32,32]'),
        expect.stringContaining('input: float32[1,3,32,32] takes 12288 bytes, found 4'),
      ]);
      expect(await (await fetch(`${address}/v2/models/pictures`)).json()).toMatchObject({ name: 'pictures', inputs: [{ name: 'input', datatype: 'FP32', shape: [-1, 3, 32, 32] }] });
      const metrics = await (await fetch(`${address}/metrics`)).text();
      expect(metrics).toContain('tsrt_bench_requests_total{model="pictures",status="200"} 9\n');
      expect(metrics).toContain('tsrt_bench_request_errors_total{model="pictures"} 5\n');
      expect(metrics).toContain('tsrt_bench_batch_items_sum{model="pictures"} 16\n');
    });
    expect(stderr).toMatch(/^pictures: onnxruntime on .*, batches 1, 4\nlistening on http:\/\/127\.0\.0\.1:\d+\nstopping: requests under way will be answered\n$/);
    expect(status).toBe(0);
  });

  it('answers what it took when it is told to end', async () => {
    let answers: Promise<number[]>[] = [];
    const image = images(1, 9);
    const expected = toNumbers((await runModel(model, new Map([['input', image]]))).get('output')!);
    // They wait for a fourth, which does not come: the signal ends their wait.
    const { status } = await whileServing(['b4.engine', '--max-queue-delay', '30s'], async (address) => {
      answers = [1, 2, 3].map(() => askBinary(address, image));
      while (!/waiting_items\{model="pictures"\} 3/.test(await (await fetch(`${address}/metrics`)).text())) await new Promise((resolve) => setTimeout(resolve, 5));
    });
    for (const answer of await Promise.all(answers)) expect(distance(answer, expected)).toBeLessThan(1e-4);
    expect(status).toBe(0);
  });

  it('refuses engines that do not go together before it listens', async () => {
    const [two, mixed, none] = await Promise.all([place.runApart('serve', 'b1.engine', 'b1.engine'), place.runApart('serve', 'b1.engine', 'other.engine', '--name', 'm'), place.runApart('serve', 'a=none.engine', '--json')]);
    expect([two.status, two.stderr]).toEqual([2, expect.stringMatching(/^error: two of the sessions are for batch 1\n/)]);
    expect([mixed.status, mixed.stderr]).toEqual([2, expect.stringMatching(/^error: two different models would be called 'm': pictures from b1\.engine, and other from other\.engine\n {2}fix: give one of them another name: NAME=other\.engine\n/)]);
    expect([none.status, JSON.parse(none.stdout)]).toMatchObject([2, { error: { code: 'MODEL_NOT_FOUND', place: 'none.engine' } }]);
  });
});
