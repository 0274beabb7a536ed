/** Parts of plugins that break their contracts in one way each, and some that keep them. What a worker does with them: lost-parts.test.ts. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import type { Backend, Session, TensorMap } from '../../../src/backends/backend.ts';
import { onnxruntimeBackend } from '../../../src/backends/onnxruntime/onnxruntime.ts';
import { fromNumbers } from '../../../src/ir/tensor.ts';
import { judgePart } from '../../../src/kit/part-checks.ts';
import { checkParts, type PartResult, type PartsRequest } from '../../../src/kit/parts.ts';
import type { Calibrator, Plugin } from '../../../src/plugin.ts';
import { createRegistry } from '../../../src/registry.ts';
import type { Dataset, DatasetSource } from '../../../src/suite/source.ts';
import { temporaryFolder } from '../../helpers/folder.ts';

/** Checked in this process, as the worker does it in its own. */
async function parts(plugin: Omit<Plugin, 'name' | 'version'>, more: Partial<PartsRequest> = {}): Promise<readonly PartResult[]> {
  const whole = { name: 'p', version: '1.0.0', ...plugin };
  const registry = createRegistry([{ plugin: whole, source: '/p/index.js', sha256: 'aa' }]);
  const lane: PartsRequest['lane'] = { checkPart: async ({ part, material }) => ({ kind: 'judged', verdict: await judgePart(registry, part, material) }), end: () => {} };
  return checkParts({ registry, plugin: whole, lane, datasetFolder: undefined, seed: 1, timeoutMs: 20_000, records: async () => [], ...more });
}

/** onnxruntime under another name, its session changed. */
function altered(change: (session: Session) => Partial<Session>): Backend {
  const header = <T extends { readonly header: { readonly backend: string } }>(engine: T, backend: string): T => ({ ...engine, header: { ...engine.header, backend } });
  return {
    ...onnxruntimeBackend,
    name: 'mine',
    build: async (input, context) => header(await onnxruntimeBackend.build(input, context), 'mine'),
    async load(engine, options) {
      const session = await onnxruntimeBackend.load(header(engine, 'onnxruntime'), options);
      const whole: Session = {
        header: session.header,
        device: session.device,
        inputs: session.inputs,
        outputs: session.outputs,
        maxInFlight: session.maxInFlight,
        memory: session.memory,
        observeMemory: () => session.observeMemory(),
        run: (inputs) => session.run(inputs),
        prepare: (inputs) => session.prepare(inputs),
        dispose: () => session.dispose(),
      };
      return { ...whole, ...change(session) };
    },
  };
}

/** The right answer. */
const PRODUCT = [1, -3.75, 6.25, -2.4375];
const zeros = (): TensorMap => ({ y: fromNumbers('float32', [2, 2], [0, 0, 0, 0]) });

describe('backends', () => {
  it('one that keeps the contract passes', async () => {
    expect(await parts({ backends: [altered(() => ({}))] })).toEqual([{ part: 'backend mine', status: 'passed' }]);
  });

  it.each<[string, (session: Session) => Partial<Session>, RegExp]>([
    ['wrong answers', () => ({ run: async () => zeros() }), /run\(\) of matmul gives float32\[2,2\] 0, 0, 0, 0; right is/],
    ['another element type', () => ({ run: async () => ({ y: fromNumbers('float64', [2, 2], PRODUCT) }) }), /run\(\) of matmul gives y as float64\[2,2\], not as float32\[2,2\]/],
    ['another shape', () => ({ run: async () => ({ y: fromNumbers('float32', [4], PRODUCT) }) }), /gives y as float32\[4\], not as float32\[2,2\]/],
    ['numbers in place of a tensor', () => ({ run: async () => ({ y: PRODUCT }) as unknown as TensorMap }), /a y whose data is not a Uint8Array/],
    ['nothing', () => ({ run: async () => undefined as unknown as TensorMap }), /run\(\) of matmul gives nothing, not y/],
    ['wrong answers without transfers', () => ({ prepare: async () => ({ execute: async () => {}, download: async () => zeros(), dispose: async () => {} }) }), /^execute\(2\) and download\(\) of matmul/],
    ['missing inputs taken', (session) => ({ run: (inputs) => session.run(Object.keys(inputs).length > 0 ? inputs : { x: fromNumbers('float32', [2, 3], [0, 0, 0, 0, 0, 0]) }) }), /run\(\) without the input must reject .* and answers/],
    ['alive after dispose', () => ({ dispose: async () => {} }), /run\(\) after dispose\(\) answers/],
    ['other inputs', () => ({ inputs: [] }), /takes x float32\[2,3\], and the session nothing/],
    ['a throw', () => ({ run: () => Promise.reject(new Error('no licence')) }), /no licence/],
  ])('%s', async (_, change, message) => {
    expect(await parts({ backends: [altered(change)] })).toEqual([{ part: 'backend mine', status: 'failed', message: expect.stringMatching(message) as string }]);
  });

  it('what is not there is skipped with the reason', async () => {
    const absent: Backend = { ...altered(() => ({})), probe: async () => ({ status: 'unavailable', reason: 'no driver', fix: 'install it' }) };
    expect(await parts({ backends: [absent] })).toEqual([{ part: 'backend mine', status: 'skipped', message: 'no driver. install it' }]);
    const picky = { ...altered(() => ({})), supports: () => [{ node: 'n', op: 'o', reason: 'not mine' }] };
    expect(await parts({ backends: [picky] })).toEqual([{ part: 'backend mine', status: 'skipped', message: expect.stringMatching(/none of the models of one op.*matmul: .*not mine/) as string }]);
  });
});

describe('datasets', () => {
  const dims = [2, 3, 8, 8];
  const gives = (batch: (turn: number) => Partial<Awaited<ReturnType<typeof collect>>>, size = 2): DatasetSource => {
    let turn = 0;
    return {
      name: 'mine',
      description: '',
      async open(): Promise<Dataset> {
        const one = { inputs: { x: fromNumbers('float32', dims, new Float32Array(384)) }, count: 2, labels: [1, 2], names: ['a', 'b'], ...batch(turn++) };
        return { description: '', sha256: undefined, size, labelled: 2, notices: [], skipped: [], batches: async function* () { yield one; } } as unknown as Dataset;
      },
    };
  };
  const collect = async () => ({ inputs: {} as TensorMap, count: 0, labels: [] as number[], names: [] as string[] });

  it.each<[string, DatasetSource, RegExp | undefined]>([
    ['right', gives(() => ({})), undefined],
    ['another shape', gives(() => ({ inputs: { x: fromNumbers('float32', [1, 3], [1, 2, 3]) } })), /inputs\.x: the model takes float32\[2,3,8,8\], found float32\[1,3\]/],
    ['no tensor', gives(() => ({ inputs: {} })), /inputs\.x: the model takes float32\[2,3,8,8\], found nothing/],
    ['too few labels', gives(() => ({ labels: [1] })), /labels: expected one for each of the 2 samples, found 1/],
    ['another order the second time', gives((turn) => ({ names: turn === 0 ? ['a', 'b'] : ['b', 'a'] })), /two readings of it differ/],
    ['fewer than it says', gives(() => ({}), 9), /holds 9 samples, and yields 2/],
  ])('%s', async (_, source, message) => {
    const [result] = await parts({ datasets: [source] });
    if (message) expect(result).toMatchObject({ status: 'failed', message: expect.stringMatching(message) as string });
    else expect(result).toEqual({ part: 'dataset mine', status: 'passed' });
  });

  it('one of pictures needs a folder, and is read from it', async () => {
    const folder = await temporaryFolder();
    await sharp({ create: { width: 9, height: 9, channels: 3, background: 'red' } }).png().toFile(join(folder, 'a.png'));
    const source: DatasetSource = { name: 'mine', description: '', images: async (place) => ({ images: [{ name: 'a', path: join(place, 'a.png'), label: 3 }], labelSource: 'labels file', notices: [] }) };
    expect(await parts({ datasets: [source] })).toMatchObject([{ status: 'skipped', message: expect.stringMatching(/--dataset/) as string }]);
    expect(await parts({ datasets: [source] }, { datasetFolder: folder })).toEqual([{ part: 'dataset mine', status: 'passed' }]);
  });
});

describe('calibrators, reporters and suites', () => {
  const calibrator = (range: Calibrator['range']): Calibrator => ({ name: 'mine', description: '', range });

  it.each<[string, Calibrator['range'], RegExp | undefined]>([
    ['right', ({ min, max }) => ({ low: Math.min(0, min), high: Math.max(0, max) }), undefined],
    ['zero outside', ({ min, max }) => ({ low: min / 2, high: max / 2 }), /of values below 0 it makes the range -\S+ to -\S+: finite numbers, zero among them/],
    ['no number', ({ max, count, zeros: z }) => ({ low: 0, high: count === z ? Number.NaN : Math.max(0, max) }), /of zeros alone it makes the range 0 to NaN/],
  ])('a calibrator: %s', async (_, range, message) => {
    const [result] = await parts({ calibrators: [calibrator(range)] });
    expect(result).toMatchObject(message ? { status: 'failed', message: expect.stringMatching(message) as string } : { status: 'passed' });
  });

  it('a reporter that counts its calls, and one that gives no text', async () => {
    let calls = 0;
    const reporter = { name: 'mine', description: '', fileExtension: 'txt' };
    expect(await parts({ reporters: [{ ...reporter, render: () => String(calls++) }] })).toMatchObject([{ status: 'failed', message: expect.stringMatching(/two texts for no records/) as string }]);
    expect(await parts({ reporters: [{ ...reporter, render: () => 3 as unknown as string }] })).toMatchObject([{ status: 'failed', message: 'report format mine.render gives a number, not text' }]);
  });

  it('a reporter’s time begins when the records are there; others need none', async () => {
    const events: string[] = [];
    const lane: PartsRequest['lane'] = { checkPart: async ({ part }) => (events.push(part.kind), { kind: 'judged', verdict: { status: 'passed' } }), end: () => {} };
    const records = async (): Promise<readonly []> => (events.push('records'), []);
    await parts({ calibrators: [calibrator(() => ({ low: 0, high: 0 }))], reporters: [{ name: 'mine', description: '', fileExtension: 'txt', render: () => '' }] }, { lane, records });
    expect(events).toEqual(['records', 'calibrator', 'reporter']);
    await parts({ calibrators: [calibrator(() => ({ low: 0, high: 0 }))] }, { lane, records });
    expect(events.slice(3)).toEqual(['calibrator']);
  });

  it('a suite with a mistake', async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, 'suite.json'), '{ "name": "s", "modle": {} }');
    expect(await parts({ suites: [folder] })).toMatchObject([{ status: 'failed', message: expect.stringMatching(/modle/) as string }]);
  });
});
