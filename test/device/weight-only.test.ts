/** Products whose weights alone are quantized, on SwiftShader: compared with onnxruntime on the same model files, and every kind of kernel with float64. */
import { describe, expect, it } from 'vitest';
import { compileModel } from '../../src/backends/compile.ts';
import type { TacticChooser } from '../../src/backends/webgpu/lower/context.ts';
import { PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import { webgpuBackend } from '../../src/backends/webgpu/webgpu.ts';
import { elementCount, fromNumbers, type DType, type Tensor } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { createRandom } from '../../src/stats/random.ts';
import { buildOptions } from '../helpers/options.ts';
import { floats, modelProto, encode, node, value, type INode } from '../unit/onnx/models.ts';
import { disagreement, runOnnx } from '../unit/onnx/run.ts';
import { distance, noDevice, runGraph } from './helpers.ts';

process.env['TSRT_BENCH_SWIFTSHADER'] = '1';

const random = createRandom(7);
const draw = (dims: readonly number[], low: number, high: number): number[] => Array.from({ length: elementCount(dims) }, () => low + (high - low) * random.uniform());
const bytes = (dims: readonly number[]): Tensor => fromNumbers('uint8', dims, draw(dims, 0, 256).map(Math.floor));
/** Steps of integers of so many bits: weights lie within ±0.4. */
const scales = (dims: readonly number[], bits: number, dtype: DType = 'float32'): Tensor => fromNumbers(dtype, dims, draw(dims, 0.2 / 2 ** bits, 0.8 / 2 ** bits));

interface Network {
  readonly x: readonly number[];
  readonly y: readonly number[];
  readonly dtype?: DType;
  readonly nodes: readonly INode[];
  readonly constants: Readonly<Record<string, Tensor>>;
  /** Default: the product alone. */
  readonly layers?: readonly string[];
}

function modelOf({ x, y, dtype = 'float32', nodes, constants }: Network): Uint8Array {
  const proto = modelProto({ opset: 21, domains: { 'com.microsoft': 1 }, inputs: [value('x', dtype, x)], outputs: [value('y', dtype, y)], initializers: constants, nodes });
  proto.irVersion = 10;
  return encode(proto);
}

/** x [rows…, K] by MatMulNBits. */
function nBits(rows: readonly number[], [depth, columns]: readonly [number, number], bits: number, block: number, more: { readonly zeros?: boolean; readonly bias?: boolean; readonly dtype?: DType } = {}): Network {
  const { zeros = false, bias = false, dtype = 'float32' } = more;
  const blocks = Math.ceil(depth / block);
  return {
    x: [...rows, depth], y: [...rows, columns], dtype,
    constants: {
      w: bytes([columns, blocks, (block * bits) / 8]), s: scales([columns * blocks], bits, dtype),
      ...(zeros && { z: bytes([columns * Math.ceil((blocks * bits) / 8)]) }), ...(bias && { b: fromNumbers(dtype, [columns], draw([columns], -1, 1)) }),
    },
    nodes: [node('MatMulNBits', ['x', 'w', 's', zeros ? 'z' : '', '', ...(bias ? ['b'] : [])], ['y'], { K: depth, N: columns, bits, block_size: block }, { domain: 'com.microsoft' })],
  };
}

const RANGES = { int4: [-8, 8], uint4: [0, 16], int8: [-128, 128], uint8: [0, 256] } as const;

/** x [rows…, K] by integers behind DequantizeLinear. */
function behind(dtype: keyof typeof RANGES, rows: readonly number[], [depth, columns]: readonly [number, number], { block, zeros = false, transposed = false, nodes }: { readonly block?: number; readonly zeros?: boolean; readonly transposed?: boolean; readonly nodes?: readonly INode[] }): Network {
  const integers = (dims: readonly number[]): Tensor => fromNumbers(dtype, dims, draw(dims, RANGES[dtype][0], RANGES[dtype][1]).map(Math.floor));
  const swap = (dims: number[]): number[] => (transposed ? dims.toReversed() : dims);
  const steps = block === undefined ? [columns] : swap([Math.ceil(depth / block), columns]);
  const [depthAxis, columnAxis] = transposed ? [1, 0] : [0, 1];
  return {
    x: [...rows, depth], y: [...rows, columns],
    constants: { w: integers(swap([depth, columns])), s: scales(steps, dtype.endsWith('4') ? 4 : 8), ...(zeros && { z: integers(steps) }), b: floats(draw([columns], -1, 1), [columns]) },
    nodes: [
      node('DequantizeLinear', ['w', 's', ...(zeros ? ['z'] : [])], ['v'], { axis: block === undefined ? columnAxis : depthAxis, ...(block !== undefined && { block_size: block }) }),
      ...(nodes ?? (transposed ? [node('Transpose', ['v'], ['t'], { perm: [1, 0] }), node('MatMul', ['x', 't'], ['y'])] : [node('MatMul', ['x', 'v'], ['y'])])),
    ],
  };
}

/** Queries and keys of one input, which are one product. */
function projections(): Network {
  const [q, k] = [nBits([3], [64, 16], 4, 32, { zeros: true }), nBits([3], [64, 16], 4, 32, { zeros: true })];
  const named = (network: Network, suffix: string) => Object.fromEntries(Object.entries(network.constants).map(([name, tensor]) => [`${name}${suffix}`, tensor]));
  const part = (suffix: string): INode[] => [
    node('MatMulNBits', ['x', `w${suffix}`, `s${suffix}`, `z${suffix}`], [`p${suffix}`], { K: 64, N: 16, bits: 4, block_size: 32 }, { domain: 'com.microsoft' }),
    node('Reshape', [`p${suffix}`, 'heads'], [`h${suffix}`]), node('Transpose', [`h${suffix}`], [`t${suffix}`], { perm: suffix === 'q' ? [1, 0, 2] : [1, 2, 0] }),
  ];
  return {
    x: [3, 64], y: [2, 3, 3], constants: { ...named(q, 'q'), ...named(k, 'k'), heads: fromNumbers('int64', [3], [3, 2, 8]) },
    nodes: [...part('q'), ...part('k'), node('MatMul', ['tq', 'tk'], ['y'])], layers: ['WeightOnlyMatMul', 'Transpose', 'Transpose', 'MatMul'],
  };
}

/** How far the engine is from onnxruntime, in tolerances. */
async function disagreementOf(network: Network, precision: 'fp32' | 'fp16', tolerance: number): Promise<number> {
  const modelBytes = modelOf(network);
  const engine = await compileModel({
    modelBytes, modelName: 'm', folder: undefined, rebatch: false, backend: webgpuBackend, context: { signal: undefined, onProgress: undefined },
    options: buildOptions({ backend: 'webgpu', precision, batch: network.x[0]! }),
  });
  expect(engine.header.layers.map(({ kind }) => kind).filter((kind) => kind !== 'Reformat')).toEqual(network.layers ?? ['WeightOnlyMatMul']);
  const session = await webgpuBackend.load(engine, { device: undefined, signal: undefined });
  try {
    const x = fromNumbers(network.dtype ?? 'float32', network.x, draw(network.x, -1, 1));
    const [actual, expected] = [await session.run({ x }), await runOnnx(modelBytes, { x })];
    return disagreement(actual['y']!, expected['y']!, tolerance, tolerance);
  } finally {
    await session.dispose();
  }
}

describe.skipIf(noDevice)('products with weights of few bits (skipped without SwiftShader)', () => {
  it.each(Object.entries({
    'MatMulNBits, one row': nBits([1], [96, 20], 4, 32),
    'MatMulNBits, odd columns, a depth of no whole blocks, zero points, a bias': nBits([1], [75, 13], 4, 32, { zeros: true, bias: true }),
    'MatMulNBits, five rows in a batch': nBits([1, 5], [160, 24], 4, 16, { zeros: true }),
    'MatMulNBits, rows of two batches': nBits([2, 3], [64, 9], 8, 32, { bias: true }),
    'MatMulNBits, 8 bits with zero points': nBits([7], [100, 36], 8, 16, { zeros: true }),
    'MatMulNBits, 2 bits': nBits([3], [64, 12], 2, 16),
    'MatMulNBits, tiles': nBits([37], [75, 21], 4, 32, { zeros: true, bias: true }),
    'MatMulNBits, tiles of 8 bits': nBits([2, 20], [72, 36], 8, 32),
    'uint4 by blocks, zero points': behind('uint4', [4], [80, 10], { block: 16, zeros: true }),
    'int4 by blocks of rows, a transpose between': behind('int4', [3], [72, 11], { block: 24, transposed: true }),
    'queries and keys by MatMulNBits': projections(),
    'int4 by columns': behind('int4', [2], [50, 12], { zeros: true }),
    'int8 by columns, a Gemm of the transpose': behind('int8', [2], [52, 14], { transposed: true, nodes: [node('Gemm', ['x', 'v', 'b'], ['g'], { transB: 1, alpha: { float: 0.5 } }), node('Relu', ['g'], ['y'])] }),
    'uint8 by columns, tiles': behind('uint8', [19], [33, 17], { zeros: true }),
  }))('%s', async (_, network) => {
    expect(await disagreementOf(network, 'fp32', 2e-5)).toBeLessThanOrEqual(1);
    expect(await disagreementOf(network, 'fp16', 4e-3)).toBeLessThanOrEqual(1);
  });

  const SHAPES = {
    'two rows': { rows: 2, bits: 4, block: 32 }, 'a row': { rows: 1, bits: 4, block: 16 }, 'workgroups of 224': { rows: 2, bits: 4, block: 32, maxInvocations: 224 },
    'sixteen rows': { rows: 16, bits: 8, block: 16 }, tiles: { rows: 40, bits: 2, block: 48 },
  } as const;
  it.each<readonly [keyof typeof SHAPES, RegExp, 'half' | 'single']>([
    ['two rows', /^rows 2 8x32 \/1$/, 'single'],
    ['two rows', /^rows 1 64x4 \/4$/, 'half'],
    ['workgroups of 224', /^rows 2 8x28 \/1$/, 'single'],
    ['a row', /^rows 1 4x64 \/1$/, 'single'],
    ['a row', /^rows 1 4x64 \/1$/, 'half'],
    ['two rows', /^lanes 64x128x/, 'half'],
    ['sixteen rows', /^rows 16 16x16 \/1$/, 'single'],
    ['sixteen rows', /^rows 8 32x8 \/2$/, 'half'],
    ['sixteen rows', /^64x64x16 8x4 \/4$/, 'single'],
    ['tiles', /^128x64x16 8x4 \/2$/, 'half'],
    ['tiles', /^64x8x32 2x4$/, 'single'],
    ['tiles', /^lanes 32x64x/, 'half'],
  ])('%s by %s, %s', async (shape, name, storage) => {
    const { rows, bits, block, maxInvocations = PORTABLE_PROFILE.maxInvocations } = { maxInvocations: undefined, ...SHAPES[shape] };
    const [depth, columns] = [208, 40];
    const blocks = Math.ceil(depth / block);
    const integers = draw([depth, columns], 0, 2 ** bits).map(Math.floor);
    const zeros = draw([blocks, columns], 0, 2 ** bits).map(Math.floor);
    // Halves hold them, and those of the rows.
    const steps = draw([blocks, columns], 8, 64).map((step) => Math.floor(step) / 64 / 2 ** bits);
    const x = draw([rows, depth], -64, 64).map((value) => Math.floor(value) / 64);
    const graph = newGraphBuilder('weight-only');
    graph.input('x', { dtype: 'float32', dims: [rows, depth] });
    const constants = [fromNumbers('uint8', [depth, columns], integers), fromNumbers('float32', [blocks, columns], steps), fromNumbers('uint8', [blocks, columns], zeros)];
    const attrs = { bits, block_size: block, zeroPoint: 0, alpha: 1, transB: 0, epilogue: { kind: 'input', index: 0, dtype: 'float32' } } as const;
    graph.node('WeightOnlyMatMul', [graph.node('Neg', ['x'], {}), ...constants.map((tensor) => graph.constant(tensor))], attrs, { outputs: ['y'] });
    const taken: string[] = [];
    const choose: TacticChooser = (_, candidates) => {
      const found = candidates.find((candidate) => name.test(candidate.name));
      taken.push(found?.name ?? candidates.map((candidate) => candidate.name).join(', '));
      return found ?? candidates[0]!;
    };
    const outputs = await runGraph(graph.finish(['y']), { x: fromNumbers('float32', [rows, depth], x) }, { ...PORTABLE_PROFILE, maxWorkgroupBytes: 49152, maxInvocations }, { choose, half: storage === 'half' });
    expect(taken).toEqual([expect.stringMatching(name)]);
    const expected = Array.from({ length: rows * columns }, (_, i) => {
      const [row, column] = [Math.floor(i / columns), i % columns];
      let sum = 0;
      for (let k = 0; k < depth; k++) {
        const at = Math.floor(k / block) * columns + column;
        sum -= x[row * depth + k]! * (integers[k * columns + column]! - zeros[at]!) * steps[at]!;
      }
      return sum;
    });
    expect(distance(outputs['y']!, expected, { absolute: 2e-5, relative: 1e-5 })).toBeLessThan(1);
  });
});
