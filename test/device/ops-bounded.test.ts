/** Ops whose output length the data decides, against onnxruntime: counted on the device, cut at download. */
import { describe, expect, it } from 'vitest';
import { compileModel } from '../../src/backends/compile.ts';
import { webgpuBackend } from '../../src/backends/webgpu/webgpu.ts';
import { deserializeEngine, serializeEngine } from '../../src/engine/file.ts';
import { fromNumbers, toNumbers } from '../../src/ir/tensor.ts';
import { exportGraph } from '../../src/onnx/export.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { noDevice, noise } from './helpers.ts';
import { floats, ints, type Operand, oracle, runOp } from './run-op.ts';

process.env['TSRT_BENCH_SWIFTSHADER'] = '1';

/** Boxes of half the size of their unit square, in steps of 1/64, so that many overlap and areas are exact in float32. */
function boxes(batches: number, count: number, centered: boolean): Operand {
  const steps = noise(batches * count * 4, 5).map((value, i) => Math.round((value + 1) * 32) / (centered && i % 4 >= 2 ? 128 : 64));
  return floats([batches, count, 4], steps);
}

/** Few different scores: order among equals matters. */
const scores = (batches: number, classes: number, count: number, levels: number): Operand =>
  floats([batches, classes, count], noise(batches * classes * count, 6).map((value) => Math.round(value * levels) / levels));

const limit = (value: number, constant = true): Operand => ints([1], [value], { constant });
const scalar = (value: number, constant = true): Operand => floats([1], [value], { constant });

describe.skipIf(noDevice)('lengths up to the data (skipped without SwiftShader)', () => {
  it.each([
    ['one class, every box may stay', 1, 1, 40, [limit(40), scalar(1)], false],
    ['several batches and classes', 2, 3, 50, [limit(7), scalar(0.4), scalar(0.1)], false],
    ['more boxes than threads, equal scores', 1, 2, 700, [limit(100), scalar(0.3), scalar(-2)], false],
    ['centers and sizes', 2, 2, 60, [limit(20), scalar(0.25), scalar(0)], true],
    ['no score is high enough', 1, 2, 30, [limit(5), scalar(0.5), scalar(2)], false],
    ['the limit, the overlap and the score come as inputs', 1, 2, 30, [limit(5, false), scalar(0.5, false), scalar(0.2, false)], false],
    ['a limit beyond the number of boxes', 1, 1, 9, [limit(1000, false)], false],
    ['no limit, as PyTorch writes it', 1, 2, 9, [limit(Number.MAX_SAFE_INTEGER), scalar(0.5)], false],
  ] as const)('NonMaxSuppression: %s', async (_, batches, classes, count, more, centered) => {
    const attrs = { center_point_box: centered ? 1 : 0 } as const;
    const operands = [boxes(batches, count, centered), scores(batches, classes, count, 8), ...more];
    const [found] = await runOp('NonMaxSuppression', attrs, operands);
    const [expected] = await oracle('NonMaxSuppression', attrs, operands);
    expect(toNumbers(found!)).toEqual(expected);
    expect(found!.dims).toEqual([expected!.length / 3, 3]);
  });

  it('NonMaxSuppression without boxes, or with a limit of 0, selects nothing', async () => {
    expect((await runOp('NonMaxSuppression', { center_point_box: 0 }, [boxes(1, 0, false), scores(1, 1, 0, 2), limit(3)]))[0]!.dims).toEqual([0, 3]);
    expect((await runOp('NonMaxSuppression', { center_point_box: 0 }, [boxes(1, 4, false), scores(1, 1, 4, 2), limit(0, false)]))[0]!.dims).toEqual([0, 3]);
  });

  it.each([
    ['a vector', [5], 1],
    ['a volume of several chunks', [7, 11, 13], 3],
    ['nothing found', [300], 0],
  ] as const)('NonZero: %s', async (_, dims, levels) => {
    const count = dims.reduce((product, dim) => product * dim, 1);
    const x = floats(dims, noise(count, 9).map((value) => (levels === 0 ? 0 : Math.round(value * levels))));
    const [found] = await runOp('NonZero', {}, [x]);
    const [expected] = await oracle('NonZero', {}, [x]);
    expect(toNumbers(found!)).toEqual(expected);
    expect(found!.dims).toEqual([dims.length, expected!.length / dims.length]);
  });

  it('NonZero finds NaN and infinities, and no negative zero', async () => {
    const [found] = await runOp('NonZero', {}, [floats([5], [0, Number.NaN, -0, Number.POSITIVE_INFINITY, 0])]);
    expect(toNumbers(found!)).toEqual([1, 3]);
  });

  it('an engine says that the dimension is a bound, and requests in flight have a length each', async () => {
    const graph = newGraphBuilder('found');
    graph.input('x', { dtype: 'bool', dims: [2, 3] });
    const modelBytes = exportGraph(graph.finish([graph.node('NonZero', ['x'], {}, { outputs: ['y'] })]));
    const options = { backend: 'webgpu', precision: 'fp32', fusion: 'on', batch: 2, dims: {}, inputShapes: {}, disabledPasses: [], workspaceBytes: undefined, backendOptions: {} } as const;
    const built = await compileModel({ modelBytes, modelName: 'found', folder: undefined, options, backend: webgpuBackend, context: { signal: undefined, onProgress: undefined } });
    const engine = await deserializeEngine(await serializeEngine(built));
    expect(engine.header.outputs).toEqual([{ name: 'y', dtype: 'int64', dims: [2, 6], dynamic: true }]);
    const session = await webgpuBackend.load(engine, { device: undefined, signal: undefined });
    const inputs = [[1, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]];
    const found = await Promise.all(inputs.map((values) => session.run({ x: fromNumbers('bool', [2, 3], values) })));
    expect(found.map(({ y }) => [y!.dims, toNumbers(y!)])).toEqual([
      [[2, 2], [0, 1, 0, 2]],
      [[2, 0], []],
      [[2, 6], [0, 0, 0, 1, 1, 1, 0, 1, 2, 0, 1, 2]],
    ]);
    await session.dispose();
  });
});
