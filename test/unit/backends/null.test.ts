import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { BuildInput } from '../../../src/backends/backend.ts';
import { nullBackend } from '../../../src/backends/null/null.ts';
import { deserializeEngine, serializeEngine } from '../../../src/engine/file.ts';
import type { BuildOptions } from '../../../src/engine/engine.ts';
import { fromNumbers, tensorBytes, toNumbers, type Tensor } from '../../../src/ir/tensor.ts';

type Overrides = Partial<BuildOptions>;

function buildInput(overrides: Overrides = {}): BuildInput {
  const batch = overrides.batch ?? 2;
  return {
    graph: { ok: false, unsupported: [{ node: 'n', op: 'If', reason: 'control flow' }] },
    model: {
      name: 'm',
      sha256: 'cd'.repeat(32),
      bytes: new Uint8Array(8),
      folder: undefined,
      inputs: [{ name: 'x', dtype: 'float32', dims: [batch, 4] }],
      outputs: [
        { name: 'scores', dtype: 'float32', dims: [batch, 10] },
        { name: 'label', dtype: 'int64', dims: [batch] },
      ],
    },
    options: {
      backend: 'null',
      precision: 'fp32',
      fusion: 'on',
      dims: {},
      inputShapes: {},
      disabledPasses: [],
      workspaceBytes: undefined,
      backendOptions: {},
      ...overrides,
      batch,
    },
  };
}

const context = { signal: undefined, onProgress: undefined };

async function open(overrides: Overrides = {}) {
  const engine = await nullBackend.build(buildInput(overrides), context);
  return nullBackend.load(await deserializeEngine(await serializeEngine(engine)), { device: undefined, signal: undefined });
}

const x = (values: readonly number[]): { x: Tensor } => ({ x: fromNumbers('float32', [values.length / 4, 4], values) });
const ramp = Array.from({ length: 8 }, (_, i) => i / 8);

async function timesNs(overrides: Overrides, count: number): Promise<number[]> {
  const session = await open(overrides);
  const execution = await session.prepare(x(ramp));
  const times: number[] = [];
  for (let i = 0; i < count; i++) {
    const start = session.clock!.now();
    await execution.execute(1);
    times.push(Number(session.clock!.now() - start));
  }
  return times;
}

describe('null backend answers', () => {
  it('gives every output in its type and shape, the same twice', async () => {
    const session = await open();
    const first = await session.run(x(ramp));
    for (const binding of session.outputs) {
      expect(first[binding.name]).toMatchObject({ dtype: binding.dtype, dims: binding.dims });
      expect(first[binding.name]!.data.byteLength).toBe(tensorBytes(binding));
    }
    expect(await (await open()).run(x(ramp))).toEqual(first);
    expect(toNumbers(first['scores']!).every((value) => value >= -1 && value < 1)).toBe(true);
    expect(toNumbers(first['label']!).every((value) => Number.isInteger(value) && value >= 0 && value < 10)).toBe(true);
  });

  it('answers an item the same at every batch', async () => {
    const both = await (await open()).run(x(ramp));
    const one = await (await open({ batch: 1 })).run(x(ramp.slice(4)));
    expect(toNumbers(both['scores']!).slice(10)).toEqual(toNumbers(one['scores']!));
  });

  it('answers differently to different inputs', async () => {
    const session = await open();
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 7 }), fc.float({ min: 1, max: 2, noNaN: true }), async (index, delta) => {
        const changed = ramp.map((value, i) => (i === index ? value + delta : value));
        expect((await session.run(x(changed)))['scores']).not.toEqual((await session.run(x(ramp)))['scores']);
      }),
      { seed: 3, numRuns: 30 },
    );
  });

  it.each([['fp16', 2 ** -11], ['int8', 2 ** -7], ['mixed', 2 ** -9]] as const)('errs in %s, and by its bound at most', async (precision, bound) => {
    const exact = toNumbers((await (await open()).run(x(ramp)))['scores']!);
    const rough = toNumbers((await (await open({ precision })).run(x(ramp)))['scores']!);
    const errors = exact.map((value, i) => Math.abs(rough[i]! - value) / Math.abs(value));
    expect(Math.max(...errors)).toBeGreaterThan(bound / 10);
    expect(Math.max(...errors)).toBeLessThan(bound * 1.001);
  });

  it('refuses inputs that do not fit, all at once', async () => {
    const session = await open();
    const wrong = { y: fromNumbers('float32', [1], [1]) };
    await expect(session.run(wrong)).rejects.toMatchObject({
      code: 'USAGE',
      details: ['x: expected float32[2,4], found nothing', 'y: no such input'],
    });
    await expect(session.prepare({ x: fromNumbers('int32', [2, 4], [0, 0, 0, 0, 0, 0, 0, 0]) })).rejects.toMatchObject({ code: 'USAGE' });
  });
});

describe('null backend time', () => {
  it('passes on the fake clock exactly as the options say', async () => {
    const backendOptions = { latencyNs: 1000, latencyPerItemNs: 500 };
    expect(await timesNs({ backendOptions }, 3)).toEqual([2000, 2000, 2000]);
    expect(await timesNs({ backendOptions, precision: 'int8', fusion: 'off' }, 1)).toEqual([750]);
  });

  it('is slow at first, drifts and jitters on request, the same for the same seed', async () => {
    expect(await timesNs({ backendOptions: { latencyNs: 1000, slowFirst: 2 } }, 4)).toEqual([4000, 4000, 1000, 1000]);
    expect(await timesNs({ backendOptions: { latencyNs: 1000, drift: 0.1 } }, 3)).toEqual([1000, 1100, 1210]);
    const jittery = { backendOptions: { latencyNs: 1e6, jitter: 0.05 } };
    const times = await timesNs(jittery, 200);
    expect(await timesNs(jittery, 200)).toEqual(times);
    const logs = times.map((time) => Math.log(time / 1e6));
    const mean = logs.reduce((sum, value) => sum + value, 0) / logs.length;
    const deviation = Math.sqrt(logs.reduce((sum, value) => sum + (value - mean) ** 2, 0) / logs.length);
    expect(Math.abs(mean)).toBeLessThan(0.0125);
    expect(deviation).toBeGreaterThan(0.04);
    expect(deviation).toBeLessThan(0.06);
  });

  it('sums over layers to one execution', async () => {
    const session = await open({ backendOptions: { latencyNs: 1200 } });
    const layers = await session.profile!(x(ramp));
    expect(layers.reduce((sum, layer) => sum + layer.durationNs, 0)).toBe(1200);
  });

  it('leaves the machine’s clock to the harness when asked', async () => {
    const session = await open({ backendOptions: { clock: 'wall', latencyNs: 1000 } });
    expect(session.clock).toBeUndefined();
    await expect(session.run(x(ramp))).resolves.toHaveProperty('scores');
  });
});

describe('null backend faults', () => {
  it.each(['build', 'load', 'run'] as const)('fails at %s', async (faultAt) => {
    const attempt = open({ backendOptions: { fault: 'out-of-memory', faultAt } }).then((session) => session.run(x(ramp)));
    await expect(attempt).rejects.toMatchObject({ code: 'OUT_OF_MEMORY', message: expect.stringContaining(faultAt) });
  });

  it('ends some executions well before it fails', async () => {
    const session = await open({ backendOptions: { fault: 'error', faultAfter: 2 } });
    const execution = await session.prepare(x(ramp));
    await execution.execute(2);
    await expect(execution.execute(1)).rejects.toMatchObject({ code: 'DEVICE_LOST' });
  });

  it('refuses misspelt and misvalued options by name, all at once', async () => {
    await expect(open({ backendOptions: { latencyNS: 1, fault: 'fire', jitter: -1 } })).rejects.toMatchObject({
      code: 'USAGE',
      details: [
        "latencyNS: no such option; did you mean 'latencyNs'?",
        'jitter: expected a number from 0 to 10, found -1',
        'fault: expected one of none, error, crash, hang, out-of-memory, found "fire"',
      ],
    });
  });
});

describe('null sessions', () => {
  it('hold the memory they were asked to until disposed of, and refuse to run afterwards', async () => {
    const session = await open({ backendOptions: { memoryBytes: 4096 } });
    expect(session.observeMemory()).toEqual({ deviceBytes: 4096 });
    expect(session.memory.weightBytes).toBe(4096);
    await session.dispose();
    await session.dispose();
    expect(session.observeMemory()).toEqual({ deviceBytes: 0 });
    await expect(session.run(x(ramp))).rejects.toMatchObject({ code: 'USAGE' });
  });

  it('come only from engines of their own backend', async () => {
    const engine = await nullBackend.build(buildInput(), context);
    const foreign = { ...engine, header: { ...engine.header, backend: 'webgpu' } };
    await expect(nullBackend.load(foreign, { device: undefined, signal: undefined })).rejects.toMatchObject({
      code: 'ENGINE_INCOMPATIBLE',
    });
  });

  it('say why a model without bindings is not supported', () => {
    const input = buildInput();
    expect(nullBackend.supports({ ...input, model: { ...input.model, inputs: undefined } })).toHaveLength(1);
    expect(nullBackend.supports(input)).toEqual([]);
  });
});
