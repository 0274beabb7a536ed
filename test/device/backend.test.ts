/** The backend as the harness sees it: probing, building from ONNX, binding to a device, refusing what does not fit. */
import { describe, expect, it } from 'vitest';
import { compileModel } from '../../src/backends/compile.ts';
import { webgpuBackend } from '../../src/backends/webgpu/webgpu.ts';
import type { BuildOptions, Engine } from '../../src/engine/engine.ts';
import { TsrtError } from '../../src/errors.ts';
import { fromNumbers, toNumbers } from '../../src/ir/tensor.ts';
import { exportGraph } from '../../src/onnx/export.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { noDevice, noise } from './helpers.ts';

process.env['TSRT_BENCH_SWIFTSHADER'] = '1';

/** relu(x·W + b) as two ONNX nodes. */
function model(): { readonly bytes: Uint8Array; readonly w: Float64Array; readonly b: Float64Array } {
  const [w, b] = [noise(32, 1), noise(8, 2)];
  const graph = newGraphBuilder('tiny');
  graph.input('x', { dtype: 'float32', dims: [2, 4] });
  const parameters = [graph.constant(fromNumbers('float32', [4, 8], w)), graph.constant(fromNumbers('float32', [8], b))];
  const product = graph.node('Gemm', ['x', ...parameters], { alpha: 1, beta: 1, transA: 0, transB: 0 });
  return { bytes: exportGraph(graph.finish([graph.node('Relu', [product], {}, { outputs: ['y'] })])), w, b };
}

function compile(bytes: Uint8Array, options: Partial<BuildOptions> = {}): Promise<Engine> {
  const base: BuildOptions = {
    backend: 'webgpu',
    precision: 'fp32',
    fusion: 'on',
    batch: 2,
    dims: {},
    inputShapes: {},
    disabledPasses: [],
    workspaceBytes: undefined,
    backendOptions: {},
  };
  const context = { signal: undefined, onProgress: undefined };
  return compileModel({ modelBytes: bytes, modelName: 'tiny', folder: undefined, options: { ...base, ...options }, backend: webgpuBackend, context });
}

const load = (engine: Engine, device?: string) => webgpuBackend.load(engine, { device, signal: undefined });

async function refusal(action: Promise<unknown>): Promise<TsrtError> {
  try {
    await action;
  } catch (error) {
    if (error instanceof TsrtError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

describe.skipIf(noDevice)('the webgpu backend (skipped without SwiftShader)', () => {
  it('is available on SwiftShader, by name', async () => {
    const availability = await webgpuBackend.probe();
    if (availability.status !== 'available') throw new Error(availability.reason);
    const [device] = availability.devices;
    expect(device).toMatchObject({ slug: 'swiftshader', kind: 'cpu' });
    expect(device!.properties).toMatchObject({ vendor: 'google', architecture: 'swiftshader' });
    expect(device!.properties['features']).toContain('timestamp-query');
  });

  it('fuses to one kernel, or to two without fusion, with the same answer', async () => {
    const { bytes, w, b } = model();
    const x = noise(8, 3);
    const expected = Array.from({ length: 16 }, (_, i) => {
      const [row, column] = [Math.floor(i / 8), i % 8];
      return Math.max(0, [0, 1, 2, 3].reduce((sum, k) => sum + x[row * 4 + k]! * w[k * 8 + column]!, b[column]!));
    });
    for (const [fusion, layers] of [['on', 1], ['off', 2]] as const) {
      const engine = await compile(bytes, { fusion });
      expect(engine.header.layers).toHaveLength(layers);
      const session = await load(engine);
      const { y } = await session.run({ x: fromNumbers('float32', [2, 4], x) });
      for (const [i, value] of toNumbers(y!).entries()) expect(value).toBeCloseTo(expected[i]!, 5);
      await session.dispose();
    }
  });

  it('binds an engine to its device, and a portable one to none', async () => {
    const { bytes } = model();
    const engine = await compile(bytes);
    expect(engine.header.requires).toMatchObject({ architecture: 'swiftshader' });
    const foreign = { ...engine, header: { ...engine.header, requires: { ...engine.header.requires, architecture: 'hopper' } } };
    const error = await refusal(load(foreign));
    expect(error.code).toBe('ENGINE_INCOMPATIBLE');
    expect(error.details.join()).toContain('architecture: engine hopper, here swiftshader');
    expect((await compile(bytes, { backendOptions: { portable: true } })).header.requires).toEqual({});
  });

  it('says why sums of halves that were asked for are none', async () => {
    const { bytes } = model();
    const notices = async (precision: 'fp32' | 'fp16', backendOptions: BuildOptions['backendOptions']): Promise<string> => (await compile(bytes, { precision, backendOptions })).header.notices.join(' ');
    expect(await notices('fp16', { fp16Accumulation: true })).toContain('no matrices that sum halves in halves');
    expect(await notices('fp32', { fp16Accumulation: true })).toContain('nothing to do in fp32');
    expect(await notices('fp16', {})).not.toContain('fp16Accumulation');
  });

  it('builds the same bytes from the same model', async () => {
    const { bytes } = model();
    const [first, second] = [await compile(bytes), await compile(bytes)];
    expect(JSON.stringify(first.header)).toBe(JSON.stringify(second.header));
    expect(first.parts.get('weights')).toEqual(second.parts.get('weights'));
  });

  it('names the devices there are where none is meant', async () => {
    const error = await refusal(load(await compile(model().bytes), 'no such device'));
    expect(error.code).toBe('USAGE');
    expect(error.fix).toContain('SwiftShader');
  });

  it('takes a device by slug, index or part of its name', async () => {
    const engine = await compile(model().bytes);
    for (const name of ['swiftshader', '0', 'subzero']) {
      const session = await load(engine, name);
      expect(session.device.slug).toBe('swiftshader');
      await session.dispose();
    }
  });

  it('says that it builds fp32 only, and refuses options that it does not know', async () => {
    const { bytes } = model();
    expect((await refusal(compile(bytes, { precision: 'int8' }))).code).toBe('MODEL_UNSUPPORTED');
    expect((await refusal(compile(bytes, { backendOptions: { tiles: 3 } }))).code).toBe('USAGE');
  });
});
