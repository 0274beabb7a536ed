/** Tuning end to end on SwiftShader, and its device on Dawn's null backend, which validates what is bound and runs nothing. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compileModel } from '../../src/backends/compile.ts';
import type { TuningContext } from '../../src/backends/backend.ts';
import { PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import { frozenOf, parseFrozen } from '../../src/backends/webgpu/tune/frozen.ts';
import { createTuningDevice } from '../../src/backends/webgpu/tune/gpu.ts';
import { sample, type Ready } from '../../src/backends/webgpu/tune/measure.ts';
import { OperandPool } from '../../src/backends/webgpu/tune/operands.ts';
import { type TimedOperand, timedForm } from '../../src/backends/webgpu/tune/problems.ts';
import { ProblemIds, survey } from '../../src/backends/webgpu/tune/survey.ts';
import { webgpuBackend } from '../../src/backends/webgpu/webgpu.ts';
import type { BuildOptions, Engine, Precision } from '../../src/engine/engine.ts';
import { serializeEngine } from '../../src/engine/file.ts';
import { type Dims, elementCount, fromNumbers, toNumbers } from '../../src/ir/tensor.ts';
import { exportGraph } from '../../src/onnx/export.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { distance, noDevice, noise, validatingDevice } from './helpers.ts';

process.env['TSRT_BENCH_SWIFTSHADER'] = '1';

/** A small convolutional network: two equal convolutions, one with a residual, a classifier. */
function network() {
  const graph = newGraphBuilder('network');
  graph.input('x', { dtype: 'float32', dims: [1, 16, 12, 12] });
  const weights = (dims: Dims, seed: number) => graph.constant(fromNumbers('float32', dims, noise(elementCount(dims), seed).map((value) => value / 4)));
  const conv = (from: string, seed: number): string =>
    graph.node('Conv', [from, weights([16, 16, 3, 3], seed)], { auto_pad: 'NOTSET', dilations: [1, 1], group: 1, kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [1, 1] });
  const first = graph.node('Relu', [conv('x', 1)], {});
  const second = graph.node('Relu', [graph.node('Add', [conv(first, 2), 'x'], {})], {});
  const pooled = graph.node('Flatten', [graph.node('GlobalAveragePool', [second], {})], { axis: 1 });
  const y = graph.node('Gemm', [pooled, weights([16, 10], 3)], { alpha: 1, beta: 1, transA: 0, transB: 0 }, { outputs: ['y'] });
  return graph.finish([y]);
}

const OPTIONS: BuildOptions = {
  backend: 'webgpu',
  precision: 'fp32',
  fusion: 'on',
  batch: 1,
  dims: {},
  inputShapes: {},
  disabledPasses: [],
  workspaceBytes: undefined,
  backendOptions: {},
};

function compile(tune: string, tuning: TuningContext = {}, signal?: AbortSignal, precision: Precision = 'fp32'): Promise<Engine> {
  const options = { ...OPTIONS, precision, backendOptions: tune === 'none' ? {} : { tune } };
  const context = { signal, onProgress: undefined, tuning };
  return compileModel({ modelBytes: exportGraph(network()), modelName: 'network', folder: undefined, options, backend: webgpuBackend, context });
}

async function answer(engine: Engine): Promise<number[]> {
  const session = await webgpuBackend.load(engine, { device: undefined, signal: undefined });
  try {
    return toNumbers((await session.run({ x: fromNumbers('float32', [1, 16, 12, 12], noise(16 * 144, 7)) }))['y']!);
  } finally {
    await session.dispose();
  }
}

describe.skipIf(noDevice)('a tuned build on SwiftShader (skipped without it)', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tuned-'));
  const cacheFile = join(folder, 'timing-cache.json');
  let untuned: Engine;
  let tuned: Engine;

  beforeAll(async () => {
    untuned = await compile('none');
    tuned = await compile('fast', { cacheFile });
  }, 120_000);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('measures every problem, on this device, and answers as the untuned one does', async () => {
    const { tuning, choices } = tuned.header.tactics!;
    expect(tuning).toMatchObject({ level: 'fast', reused: 0, refused: 0, unmeasured: 0, clocks: 'software' });
    expect(tuning!.measured).toBeGreaterThan(4);
    for (const { times, tactic, candidates } of choices.filter(({ by }) => by === 'measured')) {
      expect(candidates).toBeGreaterThan(1);
      expect(times!.find((time) => time.tactic === tactic)).toHaveProperty('ns');
      for (const time of times!) expect('ns' in time && time.ns > 0).toBe(true);
    }
    expect(choices.flatMap(({ layers }) => layers)).toHaveLength(3);
    expect(distance(fromNumbers('float32', [10], await answer(tuned)), await answer(untuned), { absolute: 1e-5, relative: 1e-5 })).toBeLessThan(1);
  });

  it('tunes halves too, whose kernels are others', { timeout: 120_000 }, async () => {
    const engine = await compile('fast', {}, undefined, 'fp16');
    const { tuning, choices } = engine.header.tactics!;
    expect(tuning).toMatchObject({ refused: 0, unmeasured: 0 });
    expect(choices.some(({ problem }) => problem.includes(' f16 '))).toBe(true);
    expect(distance(fromNumbers('float32', [10], await answer(engine)), await answer(untuned), { absolute: 1e-2, relative: 1e-2 })).toBeLessThan(1);
  });

  it('says what the cost model chose where nothing is tuned, without times', () => {
    const { tuning, choices } = untuned.header.tactics!;
    expect(tuning).toBeUndefined();
    expect(choices.every(({ by, times }) => by === 'model' && times === undefined)).toBe(true);
  });

  it('takes all times from the cache the second time', async () => {
    const again = await compile('fast', { cacheFile });
    expect(again.header.tactics!.tuning).toMatchObject({ measured: 0, reused: tuned.header.tactics!.tuning!.measured });
    expect(again.header.tactics!.choices.map(({ tactic }) => tactic)).toEqual(tuned.header.tactics!.choices.map(({ tactic }) => tactic));
  });

  it('is built again byte for byte from frozen tactics, those of the model or any other', async () => {
    const last = Object.fromEntries(tuned.header.tactics!.choices.map(({ problem, times, tactic }) => [problem, times?.at(-1)?.tactic ?? tactic]));
    for (const map of [frozenOf(tuned.header.tactics!.choices), last]) {
      const frozen = parseFrozen(JSON.stringify(map), 'frozen.json');
      const [one, two] = [await compile('none', { frozen }), await compile('none', { frozen, cacheFile })];
      expect(Buffer.from(await serializeEngine(one)).equals(await serializeEngine(two))).toBe(true);
      expect(frozenOf(one.header.tactics!.choices)).toEqual(map);
      expect(one.header.tactics!.choices.every(({ by, times }) => by === 'frozen' && times === undefined)).toBe(true);
    }
  });

  it('ends at once where it is aborted', async () => {
    const controller = new AbortController();
    const building = compile('full', {}, controller.signal);
    controller.abort(new Error('enough'));
    await expect(building).rejects.toThrow('enough');
  });
});

describe('the device of the tuner on the null backend', () => {
  it('binds the operands of every candidate validly, those that share a buffer and those that are written', { timeout: 60_000 }, async () => {
    const open = await validatingDevice();
    const device = await createTuningDevice(open);
    const graph = network();
    const instances = survey(graph, PORTABLE_PROFILE, {}, new ProblemIds()).problems.flatMap(({ instances: all }) => all);
    for (const { candidates } of instances) {
      const ready: Ready[] = [];
      for (const candidate of candidates.slice(0, 12)) ready.push(await device.prepare(timedForm(candidate)));
      const samples = await sample(device, ready, () => undefined);
      expect(samples).toHaveLength(ready.length);
    }
    device.check();
    device.destroy();
  });

  it('ends its warming up when told, whatever is still compiled', async () => {
    const device = await createTuningDevice(await validatingDevice());
    expect(['software', 'unproven']).toContain(await device.warmUp(new Promise(() => undefined), AbortSignal.timeout(20)));
    device.destroy();
  });

  it('runs a whole network, in the memory of a few tensors, and its constants once', async () => {
    const open = await validatingDevice();
    const device = await createTuningDevice(open);
    const { problems, network: whole } = survey(network(), PORTABLE_PROFILE, {}, new ProblemIds());
    const networks = [0, 1].map((rank) => whole.timed((id) => problems.find((problem) => problem.id === id)!.names[rank]!));
    const ready: Ready[] = [];
    for (const candidate of networks) ready.push(await device.prepare(candidate));
    expect(await sample(device, ready, () => undefined, device.networkRules)).toHaveLength(2);
    device.check();
    device.destroy();
  });

  it('lets repetitions take turns with copies of weights, until no cache holds them', async () => {
    const open = await validatingDevice();
    const pool = new OperandPool(open.device, 2 ** 20);
    const operand = (tensor: number, constant: TimedOperand['constant'], bytes: number) => ({ tensor, constant, storage: 'f16' as const, bytes });
    const kernel = { label: 'k', wgsl: '', access: ['read', 'read', 'read', 'read_write'] as const, workgroups: [1, 1, 1] as const };
    const candidate = { hash: 'h', kernels: [{ ...kernel, operands: [operand(0, false, 4096), operand(1, 'repeated', 300_000), operand(2, 'repeated', 128), operand(3, false, 4096)] }] };
    expect(await pool.reserve([candidate])).toBe(true);
    expect(await pool.reserve([candidate])).toBe(false);
    const [groups] = pool.bindings(candidate, 200);
    const offsets = groups!.map((entries) => entries.map(({ resource }) => (resource as GPUBufferBinding).offset));
    // 2^20 bytes in 300,000 each, at multiples of 256; what is small, and what a network has just written, lies in one place.
    expect(offsets).toEqual([0, 300_032, 600_064, 900_096].map((offset) => [0, offset, 0, 0]));
    expect(pool.bindings(candidate, 2)[0]).toHaveLength(2);
    pool.destroy();
    open.destroy();
  });

  it('gives the reason where the device refuses a kernel, and harms no other', async () => {
    const device = await createTuningDevice(await validatingDevice());
    const kernel = (wgsl: string) => ({ label: 'k', wgsl, access: ['read_write'] as const, workgroups: [1, 1, 1] as const, operands: [{ tensor: 0, constant: false as const, storage: 'f32' as const, bytes: 64 }] });
    const code = (size: number) => `@group(0) @binding(0) var<storage, read_write> out: array<f32, 16>;\n@compute @workgroup_size(${size}) fn main() { out[0] = 1f; }`;
    await expect(device.prepare({ hash: 'a', kernels: [kernel(code(100_000))] })).rejects.toThrow(/workgroup|invocations/i);
    await expect(device.prepare({ hash: 'b', kernels: [kernel('no WGSL')] })).rejects.toThrow(/WGSL|unexpected|expected/i);
    const huge = { ...kernel(code(1)), operands: [{ tensor: 0, constant: false as const, storage: 'f32' as const, bytes: 2 ** 40 }] };
    await expect(device.prepare({ hash: 'd', kernels: [huge] })).rejects.toThrow(/bytes in one binding/);
    // Fewer bytes than the kernel declares.
    const small = { ...kernel(code(1)), operands: [{ tensor: 0, constant: false as const, storage: 'f32' as const, bytes: 32 }] };
    await expect(device.round([{ ready: await device.prepare({ hash: 'e', kernels: [small] }), repetitions: 1 }])).rejects.toThrow(/refuses to run the kernels/);
    const ready = await device.prepare({ hash: 'c', kernels: [kernel(code(1))] });
    expect(await device.round([{ ready, repetitions: 3 }])).toHaveLength(1);
    device.check();
    device.destroy();
  });
});
