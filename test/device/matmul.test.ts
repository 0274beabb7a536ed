/** Matrix kernels on SwiftShader against float64: every tile, tails, splits, broadcasting, transposition. */
import { describe, expect, it } from 'vitest';
import type { Expr } from '../../src/ir/expr.ts';
import { type Dims, elementCount, fromNumbers, toNumbers } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import type { TacticChooser } from '../../src/backends/webgpu/lower/context.ts';
import { matmulTactics, predictMatmulNs, tacticName } from '../../src/backends/webgpu/tactics/matmul.ts';
import { PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import { optimize } from '../helpers/passes.ts';
import { distance, noDevice, noise, runGraph } from './helpers.ts';
import { matMul } from './references.ts';
import { floats, type Operand, runOp } from './run-op.ts';

const tolerance = { absolute: 2e-5, relative: 1e-5 };

describe.skipIf(noDevice)('matrix products (skipped without SwiftShader)', () => {
  it.each<readonly [Dims, Dims]>([
    [[4, 4], [4, 4]],
    [[1, 64], [64, 10]],
    [[37, 19], [19, 41]],
    [[33, 36], [36, 68]],
    [[2, 3, 5, 8], [2, 3, 8, 12]],
    [[2, 1, 5, 8], [3, 8, 7]],
    [[3, 5, 7], [7, 6]],
    [[2, 6, 3], [1, 3, 5]],
    [[2, 300], [300, 5]],
  ])('%j times %j', async (a, b) => {
    const graph = newGraphBuilder('matmul');
    graph.input('a', { dtype: 'float32', dims: a });
    graph.input('b', { dtype: 'float32', dims: b });
    const y = graph.node('MatMul', ['a', 'b'], {}, { outputs: ['y'] });
    const [x0, x1] = [noise(elementCount(a), 1), noise(elementCount(b), 2)];
    const outputs = await runGraph(graph.finish([y]), { a: fromNumbers('float32', a, x0), b: fromNumbers('float32', b, x1) });
    const expected = matMul(a, b, x0, x1);
    expect(outputs['y']!.dims).toEqual(expected.dims);
    expect(distance(outputs['y']!, expected.values, tolerance)).toBeLessThan(1);
  });

  it('of more matrices than a dimension of the grid takes', async () => {
    const [a, b]: [Dims, Dims] = [[2, 10, 5, 24], [2, 10, 24, 3]];
    const graph = newGraphBuilder('matmul');
    graph.input('a', { dtype: 'float32', dims: a });
    graph.input('b', { dtype: 'float32', dims: b });
    const finished = graph.finish([graph.node('MatMul', ['a', 'b'], {}, { outputs: ['y'] })]);
    const [x0, x1] = [noise(elementCount(a), 1), noise(elementCount(b), 2)];
    for (const maxWorkgroupsPerDimension of [8, 19]) {
      const outputs = await runGraph(finished, { a: fromNumbers('float32', a, x0), b: fromNumbers('float32', b, x1) }, { ...PORTABLE_PROFILE, maxWorkgroupsPerDimension });
      expect(distance(outputs['y']!, matMul(a, b, x0, x1).values, tolerance)).toBeLessThan(1);
    }
  });

  it.each([[0, 0], [0, 1], [1, 0], [1, 1]] as const)('Gemm with transA %i, transB %i, alpha, beta and a constant right side', async (transA, transB) => {
    const [m, k, n] = [5, 9, 6];
    const graph = newGraphBuilder('gemm');
    graph.input('a', { dtype: 'float32', dims: transA ? [k, m] : [m, k] });
    const [x, w, c] = [noise(m * k, 1), noise(k * n, 2), noise(n, 3)];
    const weights = graph.constant(fromNumbers('float32', transB ? [n, k] : [k, n], w));
    const bias = graph.constant(fromNumbers('float32', [n], c));
    const y = graph.node('Gemm', ['a', weights, bias], { alpha: 0.5, beta: 2, transA, transB }, { outputs: ['y'] });
    const outputs = await runGraph(graph.finish([y]), { a: fromNumbers('float32', transA ? [k, m] : [m, k], x) });
    const expected = Array.from({ length: m * n }, (_, i) => {
      const [row, column] = [Math.floor(i / n), i % n];
      let sum = 0;
      for (let d = 0; d < k; d++) sum += x[transA ? d * m + row : row * k + d]! * w[transB ? column * k + d : d * n + column]!;
      return 0.5 * sum + 2 * c[column]!;
    });
    expect(distance(outputs['y']!, expected, tolerance)).toBeLessThan(1);
  });

  it.each([
    ['single', 1, 64, 24, /^rows 1 8x32 /],
    ['single', 3, 75, 21, /^rows 2 16x16 /],
    ['single', 4, 203, 37, /^rows 4 8x32 /],
    ['half', 1, 96, 40, /^rows 1 8x32 /],
    ['half', 4, 77, 22, /^rows 2 32x8 /],
  ] as const)('of few rows, in %s: %i rows, depth %i, %i columns', async (storage, m, k, n, name) => {
    const graph = newGraphBuilder('few rows');
    graph.input('x', { dtype: 'float32', dims: [m, k] });
    // Numbers that halves hold.
    const halves = (count: number, seed: number): number[] => Array.from(noise(count, seed), (value) => Math.round(value * 64) / 64);
    const [x, w, c] = [halves(m * k, 1), halves(k * n, 2), halves(n, 3)];
    const [weights, bias] = [graph.constant(fromNumbers('float32', [k, n], w)), graph.constant(fromNumbers('float32', [n], c))];
    graph.node('Gemm', [graph.node('Neg', ['x'], {}), weights, bias], { alpha: 1, beta: 1, transA: 0, transB: 0 }, { outputs: ['y'] });
    const taken: string[] = [];
    const choose: TacticChooser = (_, candidates) => {
      const found = candidates.find((candidate) => name.test(candidate.name));
      taken.push(found?.name ?? candidates.map((candidate) => candidate.name).join(', '));
      return found ?? candidates[0]!;
    };
    const outputs = await runGraph(graph.finish(['y']), { x: fromNumbers('float32', [m, k], x) }, PORTABLE_PROFILE, { choose, half: storage === 'half' });
    expect(taken).toEqual([expect.stringMatching(name)]);
    const expected = Array.from({ length: m * n }, (_, i) => {
      const [row, column] = [Math.floor(i / n), i % n];
      let sum = c[column]!;
      for (let d = 0; d < k; d++) sum -= x[row * k + d]! * w[d * n + column]!;
      return sum;
    });
    expect(distance(outputs['y']!, expected, tolerance)).toBeLessThan(1);
  });

  it('multiplies a vector by a matrix and a matrix by a vector', async () => {
    const graph = newGraphBuilder('vectors');
    graph.input('v', { dtype: 'float32', dims: [6] });
    graph.input('m', { dtype: 'float32', dims: [6, 6] });
    const left = graph.node('MatMul', ['v', 'm'], {});
    const right = graph.node('MatMul', ['m', 'v'], {});
    const [v, m] = [noise(6, 1), noise(36, 2)];
    const outputs = await runGraph(graph.finish([left, right]), { v: fromNumbers('float32', [6], v), m: fromNumbers('float32', [6, 6], m) });
    expect(distance(outputs[left]!, matMul([1, 6], [6, 6], v, m).values, tolerance)).toBeLessThan(1);
    expect(distance(outputs[right]!, matMul([6, 6], [6, 1], m, v).values, tolerance)).toBeLessThan(1);
  });

  it('fuses bias, transposed right side, activation and a masked selection', async () => {
    const [m, k, n] = [6, 8, 7];
    const graph = newGraphBuilder('fused');
    graph.input('a', { dtype: 'float32', dims: [2, m, k] });
    graph.input('b', { dtype: 'float32', dims: [2, n, k] });
    graph.input('keep', { dtype: 'bool', dims: [1, n] });
    const zero: Expr = { kind: 'const', value: 0, dtype: 'float32' };
    const epilogue: Expr = { kind: 'select', condition: { kind: 'input', index: 1, dtype: 'bool' }, a: { kind: 'input', index: 0, dtype: 'float32' }, b: zero };
    const bias = noise(n, 3);
    const inputs = ['a', 'b', graph.constant(fromNumbers('float32', [n], bias)), 'keep'];
    const y = graph.node('FusedMatMul', inputs, { alpha: 2, transA: 0, transB: 1, epilogue }, { outputs: ['y'] });
    const [a, b] = [noise(2 * m * k, 1), noise(2 * n * k, 2)];
    const keep = [1, 0, 1, 1, 0, 0, 1];
    const outputs = await runGraph(graph.finish([y]), {
      a: fromNumbers('float32', [2, m, k], a),
      b: fromNumbers('float32', [2, n, k], b),
      keep: fromNumbers('bool', [1, n], keep),
    });
    const expected = Array.from({ length: 2 * m * n }, (_, i) => {
      const [batch, row, column] = [Math.floor(i / (m * n)), Math.floor(i / n) % m, i % n];
      let sum = 0;
      for (let d = 0; d < k; d++) sum += a[(batch * m + row) * k + d]! * b[(batch * n + column) * k + d]!;
      return keep[column] ? 2 * sum + bias[column]! : 0;
    });
    expect(distance(outputs['y']!, expected, tolerance)).toBeLessThan(1);
  });
});

describe.skipIf(noDevice)('products over no elements (skipped without SwiftShader)', () => {
  const nothing = (dims: Dims, options: Partial<Operand> = {}): Operand => floats(dims, [], options);
  const kinds: readonly Partial<Operand>[] = [{}, { constant: true }, { dtype: 'float16' }];

  it.each(kinds)('are zeros, %j', async (options) => {
    for (const [a, b, dims] of [[[2, 0], [0, 3], [2, 3]], [[2, 2, 0], [0, 3], [2, 2, 3]], [[2, 1, 0], [2, 0, 4], [2, 1, 4]], [[0], [0, 3], [3]], [[2, 0], [0], [2]]]) {
      const [y] = await runOp('MatMul', {}, [nothing(a!, options.constant ? {} : options), nothing(b!, options)]);
      expect(y!.dims).toEqual(dims);
      expect(toNumbers(y!)).toEqual(Array.from({ length: elementCount(dims!) }, () => 0));
    }
  });

  // onnxruntime 1.30 leaves beta out here; ONNX: Y = alpha · A' · B' + beta · C.
  it.each(kinds)('are beta · C in Gemm, %j', async (options) => {
    const own = options.constant ? {} : options;
    const [y] = await runOp('Gemm', { alpha: 3, beta: 2, transA: 0, transB: 0 }, [nothing([2, 0], own), nothing([0, 3], options), floats([3], [1, 2, 3], options)]);
    expect(toNumbers(y!)).toEqual([2, 4, 6, 2, 4, 6]);
    const [columns] = await runOp('Gemm', { alpha: 1, beta: 0.5, transA: 1, transB: 1 }, [nothing([0, 2], own), nothing([3, 0], options), floats([2, 1], [1, 2], options)]);
    expect(toNumbers(columns!)).toEqual([0.5, 0.5, 0.5, 1, 1, 1]);
    const [zeros] = await runOp('Gemm', { alpha: 1, beta: 1, transA: 0, transB: 0 }, [nothing([2, 0], own), nothing([0, 3], options)]);
    expect(toNumbers(zeros!)).toEqual([0, 0, 0, 0, 0, 0]);
  });

  it('are what is added to them, fused', async () => {
    const graph = newGraphBuilder('empty');
    const [a, b] = [graph.input('a', { dtype: 'float32', dims: [2, 0] }), graph.input('b', { dtype: 'float32', dims: [0, 3] })];
    const sum = graph.node('Add', [graph.node('MatMul', [a, b], {}), graph.constant(fromNumbers('float32', [3], [-1, 0, 5]))], {});
    const ready = graph.finish([graph.node('Relu', [sum], {}, { outputs: ['y'] })]);
    const { graph: fused } = await optimize(ready, 'webgpu');
    expect(fused.nodes.map((node) => node.op)).toEqual(['FusedMatMul']);
    const outputs = await runGraph(fused, { a: fromNumbers('float32', [2, 0], []), b: fromNumbers('float32', [0, 3], []) });
    expect(toNumbers(outputs['y']!)).toEqual([0, 0, 5, 0, 0, 5]);
  });
});

describe('tactics of the matrix kernel', () => {
  it('splits the depth where there are few tiles and does not where there are many', () => {
    const late = matmulTactics({ batch: 1, rows: 49, columns: 512, depth: 4608 }, PORTABLE_PROFILE)[0]!;
    const early = matmulTactics({ batch: 1, rows: 12544 * 16, columns: 64, depth: 147 }, PORTABLE_PROFILE)[0]!;
    expect(late.splitK).toBeGreaterThan(1);
    expect(early.splitK).toBe(1);
  });

  it('ranks by predicted time', () => {
    const shape = { batch: 1, rows: 784, columns: 128, depth: 1152 };
    const predicted = matmulTactics(shape, PORTABLE_PROFILE).map((tactic) => predictMatmulNs(shape, tactic));
    expect(predicted).toEqual([...predicted].sort((a, b) => a - b));
    expect(new Set(matmulTactics(shape, PORTABLE_PROFILE).map(tacticName)).size).toBe(predicted.length);
  });
});
