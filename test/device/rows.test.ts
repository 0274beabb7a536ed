/** Reductions, pools, softmax, normalizations and attention on SwiftShader against float64. */
import { describe, expect, it } from 'vitest';
import { type Dims, elementCount, fromNumbers, toNumbers } from '../../src/ir/tensor.ts';
import type { OpAttrs } from '../../src/ir/ops.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { distance, noDevice, noise, runGraph } from './helpers.ts';
import { broadcastIndex, conv, eachCoordinate, matMul } from './references.ts';
import { floats, known, runOp } from './run-op.ts';

const tolerance = { absolute: 2e-5, relative: 2e-5 };
const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

/** The rows of a tensor along `axes`, keyed by the coordinates that are left. */
function rowsOf(dims: Dims, axes: readonly number[], x: ArrayLike<number>): number[][] {
  const kept = dims.filter((_, axis) => !axes.includes(axis));
  return eachCoordinate(kept).map((left) => {
    const rest = [...left];
    const full = dims.map((_, axis) => (axes.includes(axis) ? -1 : rest.shift()!));
    return eachCoordinate(axes.map((axis) => dims[axis]!)).map((c) => {
      const at = full.map((value, axis) => (value === -1 ? c[axes.indexOf(axis)]! : value));
      return x[broadcastIndex(at, dims)]!;
    });
  });
}

type Reduce = Extract<keyof OpAttrs, `Reduce${string}`>;
const REDUCTIONS: { readonly [K in Reduce]: (row: readonly number[]) => number } = {
  ReduceSum: sum,
  ReduceMean: (row) => sum(row) / row.length,
  ReduceMax: (row) => Math.max(...row),
  ReduceMin: (row) => Math.min(...row),
  ReduceProd: (row) => row.reduce((a, b) => a * b, 1),
  ReduceL1: (row) => sum(row.map(Math.abs)),
  ReduceL2: (row) => Math.hypot(...row),
  ReduceSumSquare: (row) => sum(row.map((x) => x * x)),
  ReduceLogSum: (row) => Math.log(sum(row)),
  ReduceLogSumExp: (row) => Math.log(sum(row.map(Math.exp))),
};

describe.skipIf(noDevice)('reductions (skipped without SwiftShader)', () => {
  it.each(Object.entries(REDUCTIONS) as [Reduce, (row: readonly number[]) => number][])('%s', async (op, reference) => {
    const dims = [3, 4, 10];
    const graph = newGraphBuilder(op);
    graph.input('x', { dtype: 'float32', dims });
    const axes = graph.constant(fromNumbers('int64', [1], [-1]));
    const y = graph.node(op, ['x', axes], { keepdims: 1, noop_with_empty_axes: 0 }, { outputs: ['y'] });
    const x = noise(120).map((value) => Math.fround(op === 'ReduceLogSum' ? value + 1.1 : value));
    const outputs = await runGraph(graph.finish([y]), { x: fromNumbers('float32', dims, x) });
    expect(outputs['y']!.dims).toEqual([3, 4, 1]);
    expect(distance(outputs['y']!, rowsOf(dims, [2], x).map(reference), tolerance)).toBeLessThan(1);
  });

  it.each<readonly [Dims, readonly number[]]>([
    [[2, 3, 4, 8], [2]],
    [[2, 300], [1]],
    [[300, 3], [0]],
    [[2, 3, 5, 7], [1, 3]],
    [[4, 5], [0, 1]],
    [[1, 64, 1], [1]],
    [[2, 1024, 4], [1]],
  ])('sums %j over %j', async (dims, axes) => {
    const graph = newGraphBuilder('axes');
    graph.input('x', { dtype: 'float32', dims });
    const list = graph.constant(fromNumbers('int64', [axes.length], axes));
    const y = graph.node('ReduceSum', ['x', list], { keepdims: 0, noop_with_empty_axes: 0 }, { outputs: ['y'] });
    const x = noise(elementCount(dims));
    const outputs = await runGraph(graph.finish([y]), { x: fromNumbers('float32', dims, x) });
    expect(outputs['y']!.dims).toEqual(dims.filter((_, axis) => !axes.includes(axis)));
    expect(distance(outputs['y']!, rowsOf(dims, axes, x).map(sum), { absolute: 1e-4, relative: 1e-5 })).toBeLessThan(1);
  });

  it('reduces integers exactly', async () => {
    const graph = newGraphBuilder('integers');
    graph.input('x', { dtype: 'int64', dims: [2, 3] });
    const y = graph.node('ReduceMax', ['x'], { keepdims: 0, noop_with_empty_axes: 0 }, { outputs: ['y'] });
    const outputs = await runGraph(graph.finish([y]), { x: fromNumbers('int64', [2, 3], [-5, -9, -3, -2_000_000_001, -4, -8]) });
    expect(toNumbers(outputs['y']!)).toEqual([-3]);
  });
});

const pool = { auto_pad: 'NOTSET', ceil_mode: 0, dilations: [1, 1], kernel_shape: [3, 3], pads: [0, 0, 0, 0], strides: [1, 1] } as const;

describe.skipIf(noDevice)('pools (skipped without SwiftShader)', () => {
  it.each([
    ['padding', { ...pool, pads: [1, 1, 1, 1], strides: [2, 2] }, [2, 5, 6, 6]],
    ['ceil mode', { ...pool, ceil_mode: 1, strides: [2, 2] }, [1, 4, 6, 6]],
    ['dilation', { ...pool, dilations: [2, 2], pads: [1, 1, 1, 1] }, [1, 8, 7, 7]],
  ] as const)('with %s', async (_, attrs, dims) => {
    const graph = newGraphBuilder('pools');
    graph.input('x', { dtype: 'float32', dims });
    const max = graph.node('MaxPool', ['x'], { ...attrs, storage_order: 0 }, { outputs: ['max'] });
    const mean = graph.node('AveragePool', ['x'], { ...attrs, count_include_pad: 0 }, { outputs: ['mean'] });
    const whole = graph.node('AveragePool', ['x'], { ...attrs, count_include_pad: 1 }, { outputs: ['whole'] });
    const x = noise(elementCount(dims));
    const outputs = await runGraph(graph.finish([max, mean, whole]), { x: fromNumbers('float32', dims, x) });
    const out = outputs['max']!.dims;
    const windows = eachCoordinate(out).map(([n, c, ...at]) => {
      const places = eachCoordinate(attrs.kernel_shape).map((tap) => at.map((p, i) => p * attrs.strides[i]! - attrs.pads[i]! + tap[i]! * attrs.dilations[i]!));
      const inside = places.filter((place) => place.every((p, i) => p >= 0 && p < dims[i + 2]!));
      const padded = places.filter((place) => place.every((p, i) => p < dims[i + 2]! + attrs.pads[i + 2]!));
      return { values: inside.map((place) => x[broadcastIndex([n!, c!, ...place], dims)]!), padded: padded.length };
    });
    expect(distance(outputs['max']!, windows.map(({ values }) => Math.max(...values)))).toBe(0);
    expect(distance(outputs['mean']!, windows.map(({ values }) => sum(values) / values.length), tolerance)).toBeLessThan(1);
    expect(distance(outputs['whole']!, windows.map(({ values, padded }) => sum(values) / padded), tolerance)).toBeLessThan(1);
  });

  it.each([4, 5])('pools globally behind a convolution of %i channels', async (channels) => {
    const test = { x: [2, 4, 4, 4], w: [channels, 4, 1, 1], strides: [1, 1], pads: [0, 0, 0, 0], dilations: [1, 1], group: 1 };
    const graph = newGraphBuilder('global');
    graph.input('x', { dtype: 'float32', dims: test.x });
    const [x, w] = [noise(128, 1), noise(4 * channels, 2)];
    const attrs = { auto_pad: 'NOTSET', dilations: [1, 1], group: 1, kernel_shape: [1, 1], pads: test.pads, strides: [1, 1] } as const;
    const c = graph.node('Conv', ['x', graph.constant(fromNumbers('float32', test.w, w))], attrs);
    const g = graph.node('GlobalAveragePool', [c], {});
    const flat = graph.node('Flatten', [g], { axis: 1 }, { outputs: ['y'] });
    const outputs = await runGraph(graph.finish([flat]), { x: fromNumbers('float32', test.x, x) });
    const rows = rowsOf([2, channels, 4, 4], [2, 3], conv(test, x, w));
    expect(distance(outputs['y']!, rows.map((row) => sum(row) / 16), tolerance)).toBeLessThan(1);
  });
});

describe.skipIf(noDevice)('pools of any norm (skipped without SwiftShader)', () => {
  const [dims, pixels] = [[2, 8, 5, 4], 20];
  const x = noise(elementCount(dims), 3);
  const norm = (p: number, values: readonly number[]): number => values.reduce((total, value) => total + Math.abs(value) ** p, 0) ** (1 / p);

  it.each([1, 2, 3, 5])('p = %i', async (p) => {
    const planes = Array.from({ length: 16 }, (_, plane) => Array.from(x.subarray(plane * pixels, (plane + 1) * pixels)));
    for (const channelsLast of [false, true]) {
      const [whole] = await runOp('GlobalLpPool', { p }, [floats(dims, x, { channelsLast })]);
      expect(distance(whole!, planes.map((plane) => norm(p, plane)), tolerance)).toBeLessThan(1);
    }
    const [rows] = await runOp('LpPool', { ...pool, kernel_shape: [1, 4], p }, [floats(dims, x)]);
    const expected = planes.flatMap((plane) => Array.from({ length: 5 }, (_, row) => norm(p, plane.slice(row * 4, row * 4 + 4))));
    expect(distance(rows!, expected, tolerance)).toBeLessThan(1);
  });
});

describe.skipIf(noDevice)('nothing (skipped without SwiftShader)', () => {
  const conv = { auto_pad: 'NOTSET', dilations: [1, 1], group: 1, kernel_shape: [3, 3], pads: [0, 0, 0, 0], strides: [1, 1] } as const;
  const layerNorm = { axis: -1, epsilon: 1e-5, stash_type: 1 } as const;

  it('comes of no samples', async () => {
    const dimsOf = async (outputs: Promise<readonly { readonly dims: Dims }[]>) => (await outputs)[0]!.dims;
    expect(await dimsOf(runOp('Softmax', { axis: 1 }, [floats([0, 3], [])]))).toEqual([0, 3]);
    expect(await dimsOf(runOp('GlobalAveragePool', {}, [floats([0, 2, 3, 3], [])]))).toEqual([0, 2, 1, 1]);
    expect(await dimsOf(runOp('LayerNormalization', layerNorm, [floats([0, 4], []), floats([4], [1, 2, 3, 4])]))).toEqual([0, 4]);
    expect(await dimsOf(runOp('Conv', conv, [floats([0, 2, 4, 4], []), floats([3, 2, 3, 3], noise(54), { constant: true })]))).toEqual([0, 3, 2, 2]);
  });

  it('is convolved to the bias', async () => {
    const weights = floats([3, 0, 3, 3], [], { constant: true });
    const [y] = await runOp('Conv', conv, [floats([1, 0, 4, 4], []), weights, floats([3], [1, 2, 3], { constant: true })]);
    expect(toNumbers(y!)).toEqual([1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]);
  });

  it('is what a row of zeros is normalized to', async () => {
    for (const p of [1, 2] as const) {
      const [rows] = await runOp('LpNormalization', { axis: 1, p }, [floats([2, 2], [0, 0, 0, 4])]);
      expect(toNumbers(rows!)).toEqual([0, 0, 0, 1]);
      const [columns] = await runOp('LpNormalization', { axis: 0, p }, [floats([2, 4], [0, 0, 0, 4, 0, 0, 0, 0])]);
      expect(toNumbers(columns!)).toEqual([0, 0, 0, 1, 0, 0, 0, 0]);
    }
  });
});

function softmax(row: readonly number[]): number[] {
  const exps = row.map((x) => Math.exp(x - Math.max(...row)));
  return exps.map((e) => e / sum(exps));
}

const logSoftmax = (row: readonly number[]): number[] => row.map((x) => x - Math.max(...row) - Math.log(sum(row.map((other) => Math.exp(other - Math.max(...row))))));

/** By the definition, log Σ exp(x), where its sum is 0 or infinite: with the maximum taken off, infinities would make NaN of each other. */
function logSumExp(row: readonly number[]): number {
  const max = Math.max(...row);
  return Number.isFinite(max) ? max + Math.log(sum(row.map((x) => Math.exp(x - max)))) : Math.log(sum(row.map(Math.exp)));
}

describe.skipIf(noDevice)('rows with infinities (skipped without SwiftShader)', () => {
  const { POSITIVE_INFINITY: up, NEGATIVE_INFINITY: down, NaN: nan } = Number;
  // onnxruntime 1.30 agrees on all of them.
  const rows = [[down, down, down, down], [up, 1, 2, 3], [up, down, 0, 1], [up, up, down, 0], [1, 2, down, 4], [88, 90, 100, 120], [-200, -300, -200, down], [nan, 1, 2, 3]];
  const ops = {
    ReduceLogSumExp: { reference: (row) => [logSumExp(row)], attrs: { keepdims: 1, noop_with_empty_axes: 0 } },
    Softmax: { reference: softmax, attrs: {} },
    LogSoftmax: { reference: logSoftmax, attrs: {} },
  } satisfies Record<string, { readonly reference: (row: readonly number[]) => number[]; readonly attrs: object }>;

  /** Rows as they lie, or as columns; of 4 in vectors along the row, of 3 in none, columns in vectors across them. */
  const lies = [['rows of 4', 4, 1], ['rows of 3', 3, 1], ['columns', 4, 0]] as const;
  const cases = (Object.keys(ops) as (keyof typeof ops)[]).flatMap((op) => lies.flatMap((place) => (['float32', 'float16'] as const).map((dtype) => [op, dtype, ...place] as const)));
  it.each(cases)('%s of %s, %s', async (op, dtype, _name, length, axis) => {
    const { reference, attrs } = ops[op];
    const used = rows.map((row) => row.slice(0, length));
    const place = (table: readonly (readonly number[])[]): number[] => (axis === 1 ? table.flat() : table[0]!.flatMap((_, i) => table.map((row) => row[i]!)));
    const dims = axis === 1 ? [rows.length, length] : [length, rows.length];
    const graph = newGraphBuilder(op);
    graph.input('x', { dtype, dims });
    const reduces = op === 'ReduceLogSumExp';
    graph.node(op, reduces ? ['x', graph.constant(fromNumbers('int64', [1], [axis]))] : ['x'], { axis, ...attrs }, { outputs: ['y'] });
    const x = fromNumbers(dtype, dims, place(used));
    const expected = place(used.map(reference));
    for (const half of [false, true]) {
      const outputs = await runGraph(graph.finish(['y']), { x }, undefined, { half });
      expect(distance(outputs['y']!, expected, dtype === 'float16' || half ? { absolute: 1e-3, relative: 1e-3 } : tolerance)).toBeLessThan(1);
    }
  });

  it('and the logarithms of what is 0 or less', async () => {
    const [y] = await runOp('ReduceLogSum', { keepdims: 0, noop_with_empty_axes: 0 }, [floats([4, 3], [0, 0, 0, -1, -2, -3, up, 0, 0, 1, 2, 3]), known(1)]);
    expect(distance(y!, [down, nan, up, Math.log(6)], tolerance)).toBeLessThan(1);
  });

  it('and logarithms beside a large maximum', async () => {
    const [y] = await runOp('LogSoftmax', { axis: 1 }, [floats([1, 4], [100000, 100001, 100002, 100003])]);
    expect(distance(y!, logSoftmax([0, 1, 2, 3]), tolerance)).toBeLessThan(1);
  });
});

describe.skipIf(noDevice)('softmax and normalizations (skipped without SwiftShader)', () => {
  it.each<readonly [Dims, number]>([[[2, 3, 40], -1], [[2, 5, 3], 1], [[3, 7], 1], [[2, 400], 1], [[8, 4], 0]])('softmax of %j along %i', async (dims, axis) => {
    const graph = newGraphBuilder('softmax');
    graph.input('x', { dtype: 'float32', dims });
    const s = graph.node('Softmax', ['x'], { axis }, { outputs: ['s'] });
    const l = graph.node('LogSoftmax', ['x'], { axis }, { outputs: ['l'] });
    const x = noise(elementCount(dims)).map((value) => value * 100);
    const outputs = await runGraph(graph.finish([s, l]), { x: fromNumbers('float32', dims, x) });
    const at = (axis + dims.length) % dims.length;
    const rows = rowsOf(dims, [at], outputs['s']!.dims.length ? toNumbers(outputs['s']!) : []);
    const logs = rowsOf(dims, [at], toNumbers(outputs['l']!));
    for (const [i, row] of rowsOf(dims, [at], x.map(Math.fround)).entries()) {
      const expected = softmax(row);
      expect(Math.max(...expected.map((value, k) => Math.abs(value - rows[i]![k]!)))).toBeLessThan(1e-5);
      const shift = Math.max(...row) + Math.log(sum(row.map((v) => Math.exp(v - Math.max(...row)))));
      expect(Math.max(...row.map((value, k) => Math.abs(value - shift - logs[i]![k]!)))).toBeLessThan(1e-3);
    }
  });

  it.each<readonly [Dims, number]>([[[2, 3, 24], -1], [[2, 3, 5], 1], [[4, 300], 1]])('layer normalization of %j from axis %i', async (dims, axis) => {
    const from = (axis + dims.length) % dims.length;
    const [tail, x] = [dims.slice(from), noise(elementCount(dims)).map((value) => Math.fround(value * 3 + 100))];
    const [scale, bias] = [noise(elementCount(tail), 2), noise(elementCount(tail), 3)];
    const graph = newGraphBuilder('norm');
    graph.input('x', { dtype: 'float32', dims });
    const parameters = [graph.constant(fromNumbers('float32', tail, scale)), graph.constant(fromNumbers('float32', tail, bias))];
    const y = graph.node('LayerNormalization', ['x', ...parameters], { axis, epsilon: 1e-5, stash_type: 1 }, { outputs: ['y'] });
    const outputs = await runGraph(graph.finish([y]), { x: fromNumbers('float32', dims, x) });
    const axes = tail.map((_, i) => from + i);
    const expected = rowsOf(dims, axes, x).flatMap((row) => {
      const mean = sum(row) / row.length;
      const variance = sum(row.map((value) => (value - mean) ** 2)) / row.length;
      return row.map((value, k) => ((value - mean) / Math.sqrt(variance + 1e-5)) * scale[k]! + bias[k]!);
    });
    expect(distance(outputs['y']!, expected, { absolute: 1e-3, relative: 1e-3 })).toBeLessThan(1);
  });

  it('instance, group and batch normalization', async () => {
    const dims = [2, 6, 3, 4];
    const [x, scale, bias] = [noise(elementCount(dims)), noise(6, 2), noise(6, 3)];
    const [mean, variance] = [noise(6, 4), noise(6, 5).map((v) => v + 1.5)];
    const graph = newGraphBuilder('norms');
    graph.input('x', { dtype: 'float32', dims });
    const vector = (values: ArrayLike<number>): string => graph.constant(fromNumbers('float32', [6], values));
    const parameters = [vector(scale), vector(bias)];
    const instance = graph.node('InstanceNormalization', ['x', ...parameters], { epsilon: 1e-5 });
    const group = graph.node('GroupNormalization', ['x', ...parameters], { epsilon: 1e-5, num_groups: 3, stash_type: 1 });
    const batch = graph.node('BatchNormalization', ['x', ...parameters, vector(mean), vector(variance)], { epsilon: 1e-5, momentum: 0.9, training_mode: 0 });
    const outputs = await runGraph(graph.finish([instance, group, batch]), { x: fromNumbers('float32', dims, x) });
    const normalized = (row: readonly number[]): number[] => {
      const m = sum(row) / row.length;
      const v = sum(row.map((value) => (value - m) ** 2)) / row.length;
      return row.map((value) => (value - m) / Math.sqrt(v + 1e-5));
    };
    const channel = (i: number): number => Math.floor(i / 12) % 6;
    const scaled = (values: readonly number[]): number[] => values.map((value, i) => value * scale[channel(i)]! + bias[channel(i)]!);
    expect(distance(outputs[instance]!, scaled(rowsOf([12, 12], [1], x).flatMap(normalized)), tolerance)).toBeLessThan(1);
    expect(distance(outputs[group]!, scaled(rowsOf([6, 24], [1], x).flatMap(normalized)), tolerance)).toBeLessThan(1);
    const expected = Array.from(x, (value, i) => ((value - mean[channel(i)]!) / Math.sqrt(variance[channel(i)]! + 1e-5)) * scale[channel(i)]! + bias[channel(i)]!);
    expect(distance(outputs[batch]!, expected, tolerance)).toBeLessThan(1);
  });

  it.each([0, 1] as const)('attention with a mask, transposedK %i', async (transposedK) => {
    const [heads, rows, length, depth, width] = [2, 5, 7, 8, 4];
    const kDims = transposedK ? [1, heads, depth, length] : [1, heads, length, depth];
    const graph = newGraphBuilder('attention');
    graph.input('q', { dtype: 'float32', dims: [1, heads, rows, depth] });
    graph.input('k', { dtype: 'float32', dims: kDims });
    graph.input('v', { dtype: 'float32', dims: [1, heads, length, width] });
    graph.input('mask', { dtype: 'float32', dims: [1, 1, 1, length] });
    const y = graph.node('FusedAttention', ['q', 'k', 'v', 'mask'], { scale: 0.5, softcap: 0, transposedK, zeroEmptyRows: 0 }, { outputs: ['y'] });
    const [q, k, v] = [noise(heads * rows * depth, 1), noise(heads * length * depth, 2), noise(heads * length * width, 3)];
    const mask = [0, 0, -1e4, 0, 0, -1e4, 0];
    const outputs = await runGraph(graph.finish([y]), {
      q: fromNumbers('float32', [1, heads, rows, depth], q),
      k: fromNumbers('float32', kDims, k),
      v: fromNumbers('float32', [1, heads, length, width], v),
      mask: fromNumbers('float32', [1, 1, 1, length], mask),
    });
    const scores = eachCoordinate([heads, rows]).flatMap(([h, r]) =>
      softmax(
        mask.map((bias, l) => {
          const dot = Array.from({ length: depth }, (_, d) => q[(h! * rows + r!) * depth + d]! * k[transposedK ? (h! * depth + d) * length + l : (h! * length + l) * depth + d]!);
          return 0.5 * sum(dot) + bias;
        }),
      ),
    );
    const expected = matMul([heads, rows, length], [heads, length, width], scores, v).values;
    expect(distance(outputs['y']!, expected, tolerance)).toBeLessThan(1);
  });
});
