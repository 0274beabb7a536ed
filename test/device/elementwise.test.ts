/** Elementwise kernels on SwiftShader against references written here. */
import { describe, expect, it } from 'vitest';
import type { OpKind } from '../../src/ir/ops.ts';
import { type Dims, elementCount, float16ToNumber, fromNumbers, numberToFloat16, toNumbers } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { buildPlan } from '../../src/backends/webgpu/build.ts';
import { PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import { optimize } from '../helpers/passes.ts';
import { distance, noDevice, noise, runGraph } from './helpers.ts';
import { broadcastIndex, eachCoordinate } from './references.ts';
import { floats, runOp } from './run-op.ts';

const BROADCASTS: readonly (readonly [Dims, Dims, Dims])[] = [
  [[2, 3, 4], [2, 3, 4], [2, 3, 4]],
  [[5], [5], [5]],
  [[2, 3, 5], [3, 1], [2, 3, 5]],
  [[2, 3, 8], [8], [2, 3, 8]],
  [[4, 1, 8], [3, 1], [4, 3, 8]],
  [[1, 1], [7, 6], [7, 6]],
  [[], [2, 2], [2, 2]],
  [[2, 1, 3, 1], [1, 4, 1, 5], [2, 4, 3, 5]],
  [[2, 0, 3], [1, 1, 3], [2, 0, 3]],
  [[1], [1], [1]],
];

describe.skipIf(noDevice)('elementwise kernels (skipped without SwiftShader)', () => {
  it.each(BROADCASTS)('broadcasts %j with %j', async (a, b, out) => {
    const graph = newGraphBuilder('broadcast');
    graph.input('a', { dtype: 'float32', dims: a });
    graph.input('b', { dtype: 'float32', dims: b });
    const y = graph.node('Sub', ['a', 'b'], {}, { outputs: ['y'] });
    const [x0, x1] = [noise(elementCount(a), 1), noise(elementCount(b), 2)];
    const outputs = await runGraph(graph.finish([y]), { a: fromNumbers('float32', a, x0), b: fromNumbers('float32', b, x1) });
    expect(outputs['y']!.dims).toEqual(out);
    const expected = eachCoordinate(out).map((c) => x0[broadcastIndex(c, a)]! - x1[broadcastIndex(c, b)]!);
    expect(distance(outputs['y']!, expected)).toBeLessThan(1);
  });

  const unary: readonly (readonly [OpKind, (x: number) => number, number])[] = [
    ['Abs', Math.abs, 3],
    ['Acos', Math.acos, 1],
    ['Asin', Math.asin, 1],
    ['Asinh', Math.asinh, 30],
    ['Atan', Math.atan, 9],
    ['Atanh', Math.atanh, 0.95],
    ['Ceil', Math.ceil, 5],
    ['Cos', Math.cos, 3],
    ['Cosh', Math.cosh, 3],
    ['Exp', Math.exp, 5],
    ['Floor', Math.floor, 5],
    ['Neg', (x) => -x, 5],
    ['Reciprocal', (x) => 1 / x, 5],
    ['Relu', (x) => Math.max(x, 0), 5],
    ['Sigmoid', (x) => 1 / (1 + Math.exp(-x)), 20],
    ['Sign', Math.sign, 5],
    ['Sin', Math.sin, 3],
    ['Sinh', Math.sinh, 3],
    ['Softplus', (x) => Math.log1p(Math.exp(x)), 9],
    ['Tanh', Math.tanh, 60],
    ['HardSwish', (x) => (x * Math.min(6, Math.max(0, x + 3))) / 6, 6],
  ];
  it.each(unary)('%s', async (op, reference, range) => {
    const graph = newGraphBuilder(op);
    graph.input('x', { dtype: 'float32', dims: [37] });
    const y = graph.node(op, ['x'], {} as never, { outputs: ['y'] });
    const x = noise(37, 5).map((value) => Math.fround(value * range));
    const outputs = await runGraph(graph.finish([y]), { x: fromNumbers('float32', [37], x) });
    // WGSL guarantees 4096 ULP for the inverse trigonometric functions, and less for the others.
    expect(distance(outputs['y']!, Array.from(x, reference), { absolute: 2e-4, relative: 1e-4 })).toBeLessThan(1);
  });

  it('computes erf to single precision', async () => {
    // Abramowitz & Stegun, table 7.1.
    const table = [[0, 0], [0.1, 0.1124629160], [0.5, 0.5204998778], [1, 0.8427007929], [1.5, 0.9661051465], [2, 0.9953222650], [-1, -0.8427007929], [9, 1]] as const;
    const graph = newGraphBuilder('erf');
    graph.input('x', { dtype: 'float32', dims: [table.length] });
    const y = graph.node('Erf', ['x'], {}, { outputs: ['y'] });
    const outputs = await runGraph(graph.finish([y]), { x: fromNumbers('float32', [table.length], table.map(([x]) => x)) });
    expect(distance(outputs['y']!, table.map(([, value]) => value), { absolute: 3e-7, relative: 3e-7 })).toBeLessThan(1);
  });

  it('computes erf of halves to their precision', async () => {
    const table = [[0, 0], [0.125, 0.1403162048], [0.5, 0.5204998778], [1, 0.8427007929], [2, 0.9953222650], [-1, -0.8427007929], [9, 1], [-60000, -1], [Number.NaN, Number.NaN]] as const;
    const [y] = await runOp('Erf', {}, [{ dtype: 'float16', dims: [table.length], values: table.map(([x]) => x) }]);
    // Half a unit in the last place, and the formula's own error.
    expect(distance(y!, table.map(([, value]) => value), { absolute: 2e-6, relative: 2 ** -11 })).toBeLessThan(1.01);
    // Everywhere, also where the formula ends, against its Maclaurin series in float64.
    const x = Array.from({ length: 1601 }, (_, i) => (i - 800) / 200);
    const halves = Array.from(x, (value) => float16ToNumber(numberToFloat16(value)));
    const [dense] = await runOp('Erf', {}, [{ dtype: 'float16', dims: [x.length], values: halves }]);
    expect(distance(dense!, halves.map(erf), { absolute: 2e-6, relative: 2 ** -11 })).toBeLessThan(1.01);
  });

  it.each([
    ['Gelu', { approximate: 'none' }, (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)), 5],
    ['Gelu', { approximate: 'tanh' }, (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))), 5],
    ['Erf', {}, erf, 4],
    ['Exp', {}, Math.exp, 10],
    ['Sigmoid', {}, (x) => 1 / (1 + Math.exp(-x)), 30],
    ['Softplus', {}, (x) => Math.log1p(Math.exp(-Math.abs(x))) + Math.max(x, 0), 60],
    ['Mish', {}, (x) => x * Math.tanh(Math.log1p(Math.exp(x))), 20],
  ] as readonly (readonly [OpKind, object, (x: number) => number, number])[])('%s %o between products of halves', async (op, attrs, reference, range) => {
    const [rows, width] = [40, 16];
    const graph = newGraphBuilder(op);
    graph.input('x', { dtype: 'float32', dims: [rows, width] });
    const identity = (name: string): string => graph.constant(fromNumbers('float32', [width, width], Float32Array.from({ length: width ** 2 }, (_, i) => (i % (width + 1) === 0 ? 1 : 0))), name);
    const inner = graph.node(op, [graph.node('MatMul', ['x', identity('first')], {})], attrs as never);
    graph.node('MatMul', [inner, identity('second')], {}, { outputs: ['y'] });
    const x = Array.from({ length: rows * width }, (_, i) => float16ToNumber(numberToFloat16(((2 * i) / (rows * width - 1) - 1) * range)));
    const { graph: ready } = await optimize(graph.finish(['y']), 'webgpu');
    const shaders = buildPlan(ready, PORTABLE_PROFILE, { half: true }).plan.shaders.map(({ wgsl }) => wgsl).join('');
    expect(shaders).not.toMatch(/\b(erf1|exp1)4?\(/);
    const { y } = await runGraph(ready, { x: fromNumbers('float32', [rows, width], x) }, PORTABLE_PROFILE, { half: true });
    // Half a unit in the last place, of a half that may be subnormal, and what the functions are off by.
    expect(distance(y!, x.map(reference), { absolute: 2 ** -17, relative: 2 ** -11 + 2e-5 })).toBeLessThan(1.01);
  });

  it('computes exp to single precision over its whole range', async () => {
    const x = Array.from({ length: 400 }, (_, i) => Math.fround(-86 + i * 0.4365));
    const special = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 89, -110];
    const all = [...x, ...special];
    const graph = newGraphBuilder('exp');
    graph.input('x', { dtype: 'float32', dims: [all.length] });
    const y = graph.node('Exp', ['x'], {}, { outputs: ['y'] });
    const outputs = await runGraph(graph.finish([y]), { x: fromNumbers('float32', [all.length], all) });
    const expected = [...x.map(Math.exp), Number.NaN, Number.POSITIVE_INFINITY, 0, Number.POSITIVE_INFINITY, 0];
    expect(distance(outputs['y']!, expected, { absolute: 0, relative: 2e-7 })).toBeLessThan(1);
  });

  it.each([
    ['Sin', Math.sin],
    ['Cos', Math.cos],
    ['Tan', Math.tan],
  ] as const)('computes %s far from zero, as positions and time steps ask', async (op, reference) => {
    const x = Array.from({ length: 500 }, (_, i) => Math.fround((i - 250) * (i % 3 === 0 ? 0.0123 : i % 3 === 1 ? 4.01 : 397.3)));
    const special = [0, Math.PI, -Math.PI / 4, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    const [y] = await runOp(op, {}, [floats([506], [...x, ...special])]);
    // The tangent multiplies an error of its argument by its own square.
    const tolerance = op === 'Tan' ? { absolute: 1e-4, relative: 1e-4 } : { absolute: 1e-6, relative: 0 };
    expect(distance(y!, [...x, ...special.map(Math.fround)].map(reference), tolerance)).toBeLessThan(1);
  });

  it('knows the logarithms of 0, of infinity and of what has none', async () => {
    const x = [0, -0, 1, Math.E, -1, Number.POSITIVE_INFINITY, Number.NaN, 1e-30];
    const [y] = await runOp('Log', {}, [floats([8], x)]);
    expect(distance(y!, x.map(Math.log), { absolute: 1e-6, relative: 1e-6 })).toBeLessThan(1);
  });

  it.each(['Asinh', 'Acosh', 'Atanh'] as const)('%s near zero, far away and beyond its domain', async (op) => {
    const magnitudes = [1e-30, 1e-4, 0.124, 0.126, 0.5, 0.999, 1, 1.0001, 1.5, 100, 1e10, 1e19, 3e38, Number.POSITIVE_INFINITY];
    const x = [0, -0, Number.NaN, ...magnitudes, ...magnitudes.map((value) => -value)].map(Math.fround);
    const reference = { Asinh: Math.asinh, Acosh: Math.acosh, Atanh: Math.atanh }[op];
    const [y] = await runOp(op, {}, [floats([x.length], x)]);
    expect(distance(y!, x.map((value) => reference(value)), { absolute: 0, relative: 3e-5 })).toBeLessThan(1);
  });

  it('raises negative bases to whole exponents and gives NaN for others', async () => {
    const cases = [[-2, 3], [-2, 2], [-2, 0.5], [0, 0], [0, 2], [0, -1], [-0, -1], [-0, -2], [3, -2], [-1, 5], [2.5, 1.5]] as const;
    const graph = newGraphBuilder('pow');
    graph.input('x', { dtype: 'float32', dims: [cases.length] });
    graph.input('e', { dtype: 'float32', dims: [cases.length] });
    const y = graph.node('Pow', ['x', 'e'], {}, { outputs: ['y'] });
    const outputs = await runGraph(graph.finish([y]), {
      x: fromNumbers('float32', [cases.length], cases.map(([x]) => x)),
      e: fromNumbers('float32', [cases.length], cases.map(([, e]) => e)),
    });
    expect(distance(outputs['y']!, cases.map(([x, e]) => x ** e))).toBeLessThan(1);
  });

  it.each([
    ['exponents that are inputs', false],
    ['constant exponents', true],
  ])('raises integers to floating exponents: exact where these are whole, cut to an integer elsewhere; %s', async (_, constant) => {
    const cases = [[2, 3], [10, 8], [16, 0.75], [4, 0.5], [7, 1.5], [-2, 3], [3, 2.7], [5, -1], [1, -2.5], [1000, 3], [46340, 2], [2, 30]] as const;
    for (const group of constant ? cases.map((one) => [one]) : [cases]) {
      const graph = newGraphBuilder('ipow');
      graph.input('x', { dtype: 'int32', dims: [group.length] });
      const exponents = fromNumbers('float32', [group.length], group.map(([, e]) => e));
      const e = constant ? graph.constant(exponents) : graph.input('e', { dtype: 'float32', dims: [group.length] });
      const graphWithOutput = graph.finish([graph.node('Pow', ['x', e], {}, { outputs: ['y'] })]);
      const x = fromNumbers('int32', [group.length], group.map(([base]) => base));
      const { y } = await runGraph(graphWithOutput, constant ? { x } : { x, e: exponents });
      expect(toNumbers(y!)).toEqual(group.map(([base, power]) => Math.trunc(Number((base ** power).toFixed(9)))));
    }
  });

  it('keeps int64, bool and uint8 exact, and wraps as C does', async () => {
    const graph = newGraphBuilder('integers');
    graph.input('n', { dtype: 'int64', dims: [5] });
    graph.input('u', { dtype: 'uint8', dims: [5] });
    const quotient = graph.node('Div', ['n', graph.constant(fromNumbers('int64', [], [3]))], {});
    const rest = graph.node('Mod', ['n', graph.constant(fromNumbers('int64', [], [3]))], { fmod: 0 });
    const sum = graph.node('Add', ['u', graph.constant(fromNumbers('uint8', [], [200]))], {});
    const less = graph.node('Less', ['n', graph.constant(fromNumbers('int64', [], [2]))], {});
    const n = [-7, -1, 0, 2, 1_000_000_007];
    const u = [0, 55, 56, 100, 255];
    const outputs = await runGraph(graph.finish([quotient, rest, sum, less]), {
      n: fromNumbers('int64', [5], n),
      u: fromNumbers('uint8', [5], u),
    });
    expect(toNumbers(outputs[quotient]!)).toEqual(n.map((value) => Math.trunc(value / 3) + 0));
    expect(toNumbers(outputs[rest]!)).toEqual(n.map((value) => ((value % 3) + 3) % 3));
    expect(toNumbers(outputs[sum]!)).toEqual(u.map((value) => (value + 200) & 255));
    expect(outputs[less]!.dtype).toBe('bool');
    expect(toNumbers(outputs[less]!)).toEqual([1, 1, 1, 0, 0]);
  });

  it('recognizes NaN and infinities', async () => {
    const values = [1, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0];
    const graph = newGraphBuilder('tests');
    graph.input('x', { dtype: 'float32', dims: [5] });
    const nan = graph.node('IsNaN', ['x'], {});
    const inf = graph.node('IsInf', ['x'], { detect_negative: 1, detect_positive: 1 });
    const outputs = await runGraph(graph.finish([nan, inf]), { x: fromNumbers('float32', [5], values) });
    expect(toNumbers(outputs[nan]!)).toEqual([0, 1, 0, 0, 0]);
    expect(toNumbers(outputs[inf]!)).toEqual([0, 0, 1, 1, 0]);
    for (const dims of [[5], [4]]) {
      const [set] = await runOp('Cast', { to: 'bool', saturate: 1 }, [floats(dims, values.slice(-dims[0]!))]);
      expect(toNumbers(set!)).toEqual([1, 1, 1, 1, 0].slice(-dims[0]!));
    }
  });

  it.each([[[2, 3, 4, 5], [0, 2, 3, 1]], [[3, 5], [1, 0]], [[2, 8, 4], [1, 0, 2]], [[1, 4, 1, 6], [2, 1, 0, 3]]])('transposes %j by %j', async (dims, perm) => {
    const graph = newGraphBuilder('transpose');
    graph.input('x', { dtype: 'float32', dims });
    const y = graph.node('Transpose', ['x'], { perm }, { outputs: ['y'] });
    const x = noise(elementCount(dims));
    const outputs = await runGraph(graph.finish([y]), { x: fromNumbers('float32', dims, x) });
    const outDims = perm.map((axis) => dims[axis]!);
    const expected = eachCoordinate(outDims).map((c) => {
      const source = dims.map(() => 0);
      for (const [axis, from] of perm.entries()) source[from] = c[axis]!;
      return x[broadcastIndex(source, dims)]!;
    });
    expect(outputs['y']!.dims).toEqual(outDims);
    expect(distance(outputs['y']!, expected)).toBe(0);
  });

  it('passes inputs and constants through as outputs', async () => {
    const graph = newGraphBuilder('through');
    graph.input('x', { dtype: 'float32', dims: [3] });
    const constant = graph.constant(fromNumbers('float32', [2], [4, 5]), 'c');
    const outputs = await runGraph(graph.finish(['x', constant]), { x: fromNumbers('float32', [3], [1, 2, 3]) });
    expect(toNumbers(outputs['x']!)).toEqual([1, 2, 3]);
    expect(toNumbers(outputs['c']!)).toEqual([4, 5]);
  });
});

/** erf by its Maclaurin series (DLMF 7.6.1), which float64 sums to 1e-9 within ±4. */
function erf(x: number): number {
  let [term, sum] = [x, x];
  for (let n = 1; n < 100; n++) {
    term *= (-x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}
