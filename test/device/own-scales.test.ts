/** Models that come quantized, in onnxruntime's operator format and as Q/DQ: what runs in integers, what is named, and what is refused. */
import { describe, expect, it } from 'vitest';
import { compileModel } from '../../src/backends/compile.ts';
import { webgpuBackend } from '../../src/backends/webgpu/webgpu.ts';
import type { Engine, Precision } from '../../src/engine/engine.ts';
import { elementCount, fromNumbers, type Tensor, toNumbers } from '../../src/ir/tensor.ts';
import { buildOptions } from '../helpers/options.ts';
import { floats, modelBytes, node, value, type INode } from '../unit/onnx/models.ts';
import { runOnnx } from '../unit/onnx/run.ts';
import { noDevice } from './helpers.ts';

process.env['TSRT_BENCH_SWIFTSHADER'] = '1';

const domain = 'com.microsoft';
const bytes = (dims: readonly number[]): Tensor => fromNumbers('int8', dims, Array.from({ length: elementCount(dims) }, (_, i) => ((i * 37) % 101) - 50));
const grids = { sx: floats([0.02], []), zx: fromNumbers('uint8', [], [128]), sw: floats([0.01], []), zw: fromNumbers('int8', [], [0]), sy: floats([0.03], []), zy: fromNumbers('uint8', [], [120]) };

/** A convolution to `channels`, their means, and what `tail` makes of these. */
function network(channels: number, tail: readonly INode[], weights: Readonly<Record<string, Tensor>>): Uint8Array {
  return modelBytes({
    opset: 17, domains: { [domain]: 1 }, inputs: [value('x', 'float32', [1, 16, 8, 8])], outputs: [value('y', 'float32', [1, 8])],
    initializers: { ...grids, w: bytes([channels, 16, 3, 3]), ...weights },
    nodes: [
      node('QuantizeLinear', ['x', 'sx', 'zx'], ['q']),
      node('QLinearConv', ['q', 'sx', 'zx', 'w', 'sw', 'zw', 'sy', 'zy'], ['c'], { pads: [1, 1, 1, 1] }),
      node('QLinearGlobalAveragePool', ['c', 'sy', 'zy', 'sy', 'zy'], ['p'], { channels_last: 0 }, { domain }),
      node('Flatten', ['p'], ['f']),
      ...tail,
    ],
  });
}

const classifier = [node('QGemm', ['f', 'sy', 'zy', 'g', 'sw', 'zw', '', 'sx', 'zx'], ['o'], { transB: 1 }, { domain }), node('DequantizeLinear', ['o', 'sx', 'zx'], ['y'])];

/** One product of dequantized weights with the input, through the data's own grid where `isData`. */
function product(depth: number, isData: boolean): Uint8Array {
  const through = [node('QuantizeLinear', ['x', 'sx', 'zx'], ['q']), node('DequantizeLinear', ['q', 'sx', 'zx'], ['d'])];
  return modelBytes({
    opset: 17, inputs: [value('x', 'float32', [4, depth])], outputs: [value('y', 'float32', [4, 8])], initializers: { ...grids, w: bytes([depth, 8]) },
    nodes: [...(isData ? through : []), node('DequantizeLinear', ['w', 'sw', 'zw'], ['v']), node('MatMul', [isData ? 'd' : 'x', 'v'], ['y'])],
  });
}

function build(modelBytesOf: Uint8Array, precision: Precision): Promise<Engine> {
  const options = buildOptions({ backend: 'webgpu', precision, batch: 1 });
  return compileModel({ modelBytes: modelBytesOf, modelName: 'm', folder: undefined, options, rebatch: false, backend: webgpuBackend, context: { signal: undefined, onProgress: undefined } });
}

const integerKinds = ({ header }: Engine): readonly string[] => header.layers.filter(({ kind }) => kind.startsWith('QLinear') || kind.startsWith('Quantized')).map(({ kind }) => kind);

describe.skipIf(noDevice)('a model with scales of its own on webgpu (skipped without SwiftShader)', () => {
  it('runs the operator format on the kernels of Q/DQ', async () => {
    const model = network(16, classifier, { g: bytes([8, 16]) });
    const engine = await build(model, 'int8');
    expect(integerKinds(engine)).toEqual(['QuantizedConv', 'QuantizedMatMul']);
    expect(engine.header.notices.join(' ')).toMatch(/100\.0 % of the operations run in 8-bit integers\.$/);
    const session = await webgpuBackend.load(engine, { device: undefined, signal: undefined });
    const x = fromNumbers('float32', [1, 16, 8, 8], Array.from({ length: 1024 }, (_, i) => (((i * 7919) % 401) - 200) / 100));
    const [actual, expected] = [(await session.run({ x })).y!, (await runOnnx(model, { x })).y!].map(toNumbers) as [number[], number[]];
    await session.dispose();
    // A step of the last grid, where rounding tips.
    expect(Math.max(...actual.map((number, i) => Math.abs(number - expected[i]!)))).toBeLessThan(0.021);
  });

  it('names the one product that stays float beside convolutions in integers', async () => {
    const engine = await build(network(10, classifier, { g: bytes([8, 10]) }), 'int8');
    expect(integerKinds(engine)).toEqual(['QuantizedConv']);
    expect(engine.header.notices.at(-1)).toBe('1 of 2 products stay in float16, for want of an integer kernel: QGemm_of_o/Gemm.');
  });

  it('refuses int8 of which nothing would be left, and gives fp16', async () => {
    await expect(build(product(10, true), 'int8')).rejects.toMatchObject({ code: 'MODEL_UNSUPPORTED', details: [expect.stringContaining('MatMul_of_y')] });
    await expect(build(product(16, false), 'int8')).rejects.toMatchObject({ code: 'MODEL_UNSUPPORTED', message: expect.stringMatching(/^nothing of the model can run in int8/) });
    for (const isData of [true, false]) expect((await build(product(10, isData), 'fp16')).header.layers.map(({ kind }) => kind)).toContain('WeightOnlyMatMul');
  });
});
