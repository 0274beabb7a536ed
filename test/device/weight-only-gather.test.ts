/** Gathers of rows from tables of few bits, on SwiftShader: compared with onnxruntime on the same model files, and with float64. */
import { describe, expect, it } from 'vitest';
import { compileModel } from '../../src/backends/compile.ts';
import { PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import { webgpuBackend } from '../../src/backends/webgpu/webgpu.ts';
import { elementCount, fromNumbers, type DType, type Tensor, toNumbers } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { createRandom } from '../../src/stats/random.ts';
import { buildOptions } from '../helpers/options.ts';
import { encode, modelProto, node, value, type INode } from '../unit/onnx/models.ts';
import { disagreement, runOnnx } from '../unit/onnx/run.ts';
import { distance, noDevice, runGraph } from './helpers.ts';

process.env['TSRT_BENCH_SWIFTSHADER'] = '1';

const random = createRandom(11);
const draw = (dims: readonly number[], low: number, high: number): number[] => Array.from({ length: elementCount(dims) }, () => low + (high - low) * random.uniform());
const integers = (dtype: DType, dims: readonly number[], [low, high]: readonly [number, number]): Tensor => fromNumbers(dtype, dims, draw(dims, low, high).map(Math.floor));
const scales = (dims: readonly number[], dtype: DType = 'float32'): Tensor => fromNumbers(dtype, dims, draw(dims, 0.01, 0.05));

interface Network {
  readonly y: readonly number[];
  readonly dtype?: DType;
  readonly nodes: readonly INode[];
  readonly constants: Readonly<Record<string, Tensor>>;
  /** Default: the gather alone. */
  readonly layers?: readonly string[];
}

/** Indices [2, 3] into tables of 7 rows, from either end. */
const INDICES = fromNumbers('int64', [2, 3], [3, 0, 6, -1, -7, 3]);

/** Rows by GatherBlockQuantized; its indices count from the end as well. */
function blockQuantized(columns: number, bits: number, block: number, { zeros = false, dtype = 'float32' }: { readonly zeros?: boolean; readonly dtype?: DType } = {}): Network {
  const blocks = Math.ceil(columns / block);
  return {
    y: [2, 3, columns], dtype,
    constants: { w: integers('uint8', [7, (columns * bits) / 8], [0, 256]), s: scales([7, blocks], dtype), ...(zeros && { z: integers('uint8', [7, Math.ceil((blocks * bits) / 8)], [0, 256]) }) },
    nodes: [node('GatherBlockQuantized', ['w', 'i', 's', ...(zeros ? ['z'] : [])], ['y'], { bits, block_size: block, gather_axis: 0, quantize_axis: 1 }, { domain: 'com.microsoft' })],
  };
}

const RANGES = { int4: [-8, 8], uint4: [0, 16], int8: [-128, 128], uint8: [0, 256] } as const;

/** Rows of integers behind DequantizeLinear, with scales of these dims. */
function behind(dtype: keyof typeof RANGES, columns: number, steps: readonly number[], { zeros = false, nodes, ...more }: { readonly zeros?: boolean; readonly block?: number; readonly nodes?: readonly INode[]; readonly y?: readonly number[]; readonly layers?: readonly string[]; readonly constants?: Network['constants'] } = {}): Network {
  const { block, y = [2, 3, columns], constants = {}, layers } = more;
  return {
    y, ...(layers && { layers }),
    constants: { w: integers(dtype, [7, columns], RANGES[dtype]), s: scales(steps), ...(zeros && { z: integers(dtype, steps, RANGES[dtype]) }), ...constants },
    nodes: [
      node('DequantizeLinear', ['w', 's', ...(zeros ? ['z'] : [])], ['v'], block === undefined ? { axis: 0 } : { axis: 1, block_size: block }),
      ...(nodes ?? [node('Gather', ['v', 'i'], ['y'], { axis: 0 })]),
    ],
  };
}

/** Rows written into a concatenation, behind `before` columns of others. */
function joined(before: number): Network {
  const nodes = [node('Gather', ['v', 'i'], ['g'], { axis: 0 }), node('Gather', ['p', 'i'], ['h'], { axis: 0 }), node('Concat', ['h', 'g'], ['c'], { axis: 2 }), node('Neg', ['c'], ['y'])];
  return behind('uint4', 16, [7, 2], { block: 8, zeros: true, nodes, y: [2, 3, 16 + before], layers: ['WeightOnlyGather', 'Gather', 'Concat', 'Neg'], constants: { p: fromNumbers('float32', [7, before], draw([7, before], -1, 1)) } });
}

const tied = behind('uint4', 32, [7, 2], {
  block: 16, y: [2, 3, 7], layers: ['WeightOnlyGather', 'WeightOnlyMatMul'],
  nodes: [node('Gather', ['v', 'i'], ['g'], { axis: 0 }), node('Transpose', ['v'], ['t'], { perm: [1, 0] }), node('MatMul', ['g', 't'], ['y'])],
});

/** How far the engine is from onnxruntime, in tolerances. */
async function disagreementOf({ y, dtype = 'float32', nodes, constants, layers = ['WeightOnlyGather'] }: Network, precision: 'fp32' | 'fp16', tolerance: number): Promise<number> {
  const proto = modelProto({ opset: 21, domains: { 'com.microsoft': 1 }, inputs: [value('i', 'int64', INDICES.dims)], outputs: [value('y', dtype, y)], initializers: constants, nodes });
  proto.irVersion = 10;
  const modelBytes = encode(proto);
  const engine = await compileModel({
    modelBytes, modelName: 'm', folder: undefined, rebatch: false, backend: webgpuBackend, context: { signal: undefined, onProgress: undefined },
    options: buildOptions({ backend: 'webgpu', precision, batch: INDICES.dims[0]! }),
  });
  expect(engine.header.layers.map(({ kind }) => kind).filter((kind) => kind !== 'Reformat')).toEqual(layers);
  const session = await webgpuBackend.load(engine, { device: undefined, signal: undefined });
  try {
    const [actual, expected] = [await session.run({ i: INDICES }), await runOnnx(modelBytes, { i: INDICES })];
    return disagreement(actual['y']!, expected['y']!, tolerance, tolerance);
  } finally {
    await session.dispose();
  }
}

describe.skipIf(noDevice)('rows of tables of few bits (skipped without SwiftShader)', () => {
  it.each(Object.entries({
    'GatherBlockQuantized, 4 bits': blockQuantized(64, 4, 32),
    'GatherBlockQuantized, 4 bits with zero points, rows of no whole blocks': blockQuantized(40, 4, 16, { zeros: true }),
    'GatherBlockQuantized, 8 bits with zero points': blockQuantized(48, 8, 16, { zeros: true }),
    'GatherBlockQuantized of halves': blockQuantized(32, 4, 32, { dtype: 'float16' }),
    'int4 by blocks': behind('int4', 24, [7, 3], { block: 8 }),
    'uint4 by rows, zero points, rows that end within a word': behind('uint4', 12, [7], { zeros: true }),
    'int8 by rows, zero points': behind('int8', 20, [7], { zeros: true }),
    'uint8 of one scale': behind('uint8', 16, [], { zeros: true }),
    'rows joined behind whole vectors': joined(8),
    'rows joined behind three columns': joined(3),
    'a table that is the matrix of a product too': tied,
  }))('%s', async (_, network) => {
    expect(await disagreementOf(network, 'fp32', network.dtype === 'float16' ? 1e-3 : 1e-6)).toBeLessThanOrEqual(1);
    expect(await disagreementOf(network, 'fp16', 2e-3)).toBeLessThanOrEqual(1);
  });

  it.each([2, 4, 8] as const)('%i bits, indices beyond the table', async (bits) => {
    const [rows, columns, block] = [5, 24, 12];
    const table = integers('uint8', [rows, columns], [0, 2 ** bits]);
    const steps = scales([rows, 2]);
    const zeros = integers('uint8', [rows, 2], [0, 2 ** bits]);
    const indices = [0, 4, 5, 2 ** 31 - 1, -1, -5, -6, -(2 ** 31)];
    const graph = newGraphBuilder('rows');
    graph.input('i', { dtype: 'int32', dims: [indices.length] });
    graph.node('WeightOnlyGather', [graph.constant(table), 'i', graph.constant(steps), graph.constant(zeros)], { bits, block_size: block, zeroPoint: 0 }, { outputs: ['y'] });
    const outputs = await runGraph(graph.finish(['y']), { i: fromNumbers('int32', [indices.length], indices) }, PORTABLE_PROFILE);
    const [q, s, z] = [table, steps, zeros].map(toNumbers) as [number[], number[], number[]];
    // As Gather: what is beyond the table reads its nearest row.
    const expected = indices.flatMap((index) => {
      const row = Math.min(Math.max(index < 0 ? index + rows : index, 0), rows - 1);
      return Array.from({ length: columns }, (_, column) => {
        const at = row * 2 + Math.floor(column / block);
        return (q[row * columns + column]! - z[at]!) * s[at]!;
      });
    });
    expect(distance(outputs['y']!, expected, { absolute: 0, relative: 1e-6 })).toBeLessThanOrEqual(1);
  });
});
