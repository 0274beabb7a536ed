/** Ops of recent opsets, and forms of ops, of which onnxruntime lacks some, against their definitions in float64; it runs what they were imported as. */
import { describe, expect, it } from 'vitest';
import { type DType, elementCount, fromNumbers, type Tensor, toNumbers } from '../../../src/ir/tensor.ts';
import { exportGraph } from '../../../src/onnx/export.ts';
import { importGraph } from '../../../src/onnx/import.ts';
import { readModel } from '../../../src/onnx/model.ts';
import { ONNX_DTYPE } from '../../../src/ops/specs.ts';
import { ints, modelBytes, node, value, type AttributeValue } from './models.ts';
import { runOnnx } from './run.ts';
import { sample } from './upgraded.ts';

type Attributes = Record<string, AttributeValue>;

/** The outputs of one node on its inputs; integers are constants. */
async function outputsOf(op: string, opset: number, inputs: readonly (Tensor | undefined)[], attributes: Attributes, outs: readonly (readonly number[])[]): Promise<number[][]> {
  const named = inputs.flatMap((tensor, index) => (tensor ? [[`x${index}`, tensor] as const] : []));
  const free = named.filter(([, { dtype }]) => dtype !== 'int64');
  const bytes = modelBytes({
    opset,
    nodes: [node(op, inputs.map((tensor, index) => (tensor ? `x${index}` : '')), outs.map((_, index) => `y${index}`), attributes)],
    inputs: free.map(([name, { dtype, dims }]) => value(name, dtype, dims)),
    initializers: Object.fromEntries(named.filter(([, { dtype }]) => dtype === 'int64')),
    outputs: outs.map((dims, index) => value(`y${index}`, 'float32', dims)),
  });
  const imported = importGraph(readModel(bytes));
  if (!imported.ok) throw new Error(imported.unsupported[0]!.reason);
  const results = await runOnnx(exportGraph(imported.graph), Object.fromEntries(free));
  return outs.map((_, index) => toNumbers(results[`y${index}`]!));
}

/** The largest difference, by the scale of what is wanted. */
function difference(found: readonly number[], wanted: readonly number[]): number {
  if (found.length !== wanted.length) return Number.POSITIVE_INFINITY;
  const scale = Math.max(1, ...wanted.map(Math.abs));
  return Math.max(...found.map((number, at) => Math.abs(number - wanted[at]!) / scale));
}

const NEAR = 2e-6;

const indices = (count: number): number[] => Array.from({ length: count }, (_, at) => at);

describe('CumProd', () => {
  it.each(indices(2 * 2 * 3).map((at) => ({ exclusive: at & 1, reverse: (at >> 1) & 1, axis: (at >> 2) - 1 })))('%j', async ({ exclusive, reverse, axis }) => {
    const dims = [2, 5, 3];
    const x = sample(dims);
    const numbers = toNumbers(x);
    const along = axis < 0 ? axis + 3 : axis;
    const stride = elementCount(dims.slice(along + 1));
    const wanted = numbers.map((_, at) => {
      const place = Math.floor(at / stride) % dims[along]!;
      const isTaken = (other: number): boolean => (reverse ? other >= place + exclusive : other <= place - exclusive);
      return indices(dims[along]!).filter(isTaken).reduce((product, other) => product * numbers[at + (other - place) * stride]!, 1);
    });
    expect(difference((await outputsOf('CumProd', 26, [x, ints([axis], [])], { exclusive, reverse }, [dims]))[0]!, wanted)).toBeLessThan(NEAR);
  });
});

describe('BitCast', () => {
  const cast = (from: DType, to: DType, values: number[]) => async (): Promise<number[]> => {
    const bytes = modelBytes({ opset: 26, nodes: [node('BitCast', ['x'], ['y'], { to: ONNX_DTYPE[to] })], inputs: [value('x', from, [values.length])], outputs: [value('y', to, [values.length])] });
    const imported = importGraph(readModel(bytes));
    if (!imported.ok || imported.graph.nodes[0]!.op === 'Custom') throw new Error('it stays as it is');
    return toNumbers((await runOnnx(exportGraph(imported.graph), { x: fromNumbers(from, [values.length], values) }))['y']!);
  };
  it.each<[DType, DType, number[], number[]]>([
    ['int8', 'uint8', [-1, 5, -128], [255, 5, 128]],
    ['uint16', 'int16', [65535, 7], [-1, 7]],
    ['int32', 'uint32', [-2, 3], [4294967294, 3]],
    ['bool', 'uint8', [0, 1], [0, 1]],
  ])('%s to %s', async (from, to, values, wanted) => expect(await cast(from, to, values)()).toEqual(wanted));

  it.each<[DType, DType]>([['float32', 'int32'], ['int64', 'uint64'], ['uint8', 'bool']])('%s to %s is left to who has it', async (from, to) => {
    await expect(cast(from, to, [1])()).rejects.toThrow('it stays as it is');
  });
});

it('SwiGLU', async () => {
  const [a, b] = [sample([2, 3]), sample([3])];
  const wanted = toNumbers(a).map((x, at) => (x / (1 + Math.exp(-0.5 * x))) * toNumbers(b)[at % 3]!);
  expect(difference((await outputsOf('SwiGLU', 28, [a, b], { alpha: { float: 0.5 } }, [[2, 3]]))[0]!, wanted)).toBeLessThan(NEAR);
});

describe('TensorScatter', () => {
  const cases = ['linear', 'circular'].flatMap((mode) => [1, 3].flatMap((rows) => [{ mode, rows, axis: -2, starts: [0, 2] }, { mode, rows, axis: 1, starts: [1, 0] }, { mode, rows, axis: 3, starts: undefined }]));
  it.each([...cases, { mode: 'circular', rows: 3, axis: 2, starts: [4, 3] }])('%j', async ({ mode, rows, axis, starts }) => {
    const dims = [2, 5, 5, 5];
    const along = axis < 0 ? axis + 4 : axis;
    const [past, update] = [sample(dims), fromNumbers('float32', dims.with(along, rows), toNumbers(sample(dims.with(along, rows))).map((number) => number + 10))];
    const stride = elementCount(dims.slice(along + 1));
    const wanted = [...toNumbers(past)];
    for (const [at, number] of toNumbers(update).entries()) {
      const [outer, row, inner] = [Math.floor(at / (rows * stride)), Math.floor(at / stride) % rows, at % stride];
      const start = starts?.[Math.floor((outer * 2 * stride * 5) / elementCount(dims))] ?? 0;
      wanted[(outer * 5 + ((start + row) % 5)) * stride + inner] = number;
    }
    const attributes = { axis, mode };
    expect((await outputsOf('TensorScatter', 24, [past, update, starts && ints(starts)], attributes, [dims]))[0]).toEqual(wanted);
  });

  it('refuses what is no cache', async () => {
    const run = (update: readonly number[], attributes: Attributes) => outputsOf('TensorScatter', 24, [sample([2, 3, 4]), sample(update)], attributes, [[2, 3, 4]]);
    await expect(run([2, 1, 4], { axis: 0 })).rejects.toThrow('axis 0 of 3 dimensions, the first of which is the batch');
    await expect(run([2, 4, 4], {})).rejects.toThrow('[2,4,4] are not entries of a cache of [2,3,4] along axis 1');
    await expect(run([2, 1, 4], { mode: 'round' })).rejects.toThrow("attribute 'mode' must be linear or circular");
  });
});

/** Real points of the side of a spectrum that has no conjugates in it, by the definition; frequencies beyond what is given are zero. */
function realPoints(length: number, re: readonly number[], im: readonly number[]): number[] {
  const bin = (k: number): readonly [number, number] => (2 * k <= length ? [re[k] ?? 0, 2 * k === length || k === 0 ? 0 : (im[k] ?? 0)] : [re[length - k] ?? 0, -(im[length - k] ?? 0)]);
  return indices(length).map((t) => indices(length).reduce((sum, k) => sum + bin(k)[0] * Math.cos((2 * Math.PI * k * t) / length) - bin(k)[1] * Math.sin((2 * Math.PI * k * t) / length), 0) / length);
}

it.each([{ bins: 4, length: undefined }, { bins: 4, length: 7 }, { bins: 4, length: 6 }, { bins: 6, length: 6 }, { bins: 3, length: 9 }, { bins: 1, length: undefined }])('DFT back from one side: %j', async ({ bins, length }) => {
  const points = length ?? Math.max(1, 2 * (bins - 1));
  const x = sample([2, bins, 2]);
  const part = (row: number, which: number): number[] => indices(bins).map((k) => toNumbers(x)[(row * bins + k) * 2 + which]!);
  const wanted = indices(2).flatMap((row) => realPoints(points, part(row, 0), part(row, 1)));
  const given = [x, length === undefined ? undefined : ints([length], []), ints([1], [])];
  expect(difference((await outputsOf('DFT', 20, given, { inverse: 1, onesided: 1 }, [[2, points, 1]]))[0]!, wanted)).toBeLessThan(NEAR);
});

it('BatchNormalization by the statistics of the batch', async () => {
  const [x, scale, bias, mean, variance] = [sample([3, 4, 5]), sample([4]), sample([4]), sample([4]), sample([4])] as const;
  const channel = (c: number): number[] => toNumbers(x).filter((_, at) => Math.floor(at / 5) % 4 === c);
  const means = indices(4).map((c) => channel(c).reduce((sum, number) => sum + number, 0) / 15);
  const variances = indices(4).map((c) => channel(c).reduce((sum, number) => sum + (number - means[c]!) ** 2, 0) / 15);
  const y = toNumbers(x).map((number, at) => {
    const c = Math.floor(at / 5) % 4;
    return ((number - means[c]!) / Math.sqrt(variances[c]! + 0.01)) * toNumbers(scale)[c]! + toNumbers(bias)[c]!;
  });
  const moved = (old: Tensor, own: readonly number[]): number[] => toNumbers(old).map((number, c) => 0.7 * number + 0.3 * own[c]!);
  const attributes = { training_mode: 1, epsilon: { float: 0.01 }, momentum: { float: 0.7 } };
  const found = await outputsOf('BatchNormalization', 15, [x, scale, bias, mean, variance], attributes, [[3, 4, 5], [4], [4]]);
  for (const [index, wanted] of [y, moved(mean, means), moved(variance, variances)].entries()) expect(difference(found[index]!, wanted)).toBeLessThan(NEAR);
});

const rules = ['linear', 'gated', 'delta', 'gated_delta'] as const;

/** By its recurrence, one element after the other. */
function recurrence(rule: (typeof rules)[number], { batch, steps, heads, shared, size, wide }: Readonly<Record<'batch' | 'steps' | 'heads' | 'shared' | 'size' | 'wide', number>>, tensors: readonly Tensor[], perHead: boolean): readonly number[][] {
  const [q, k, v, past, decay, beta] = tensors.map(toNumbers) as [number[], number[], number[], number[], number[], number[]];
  const state = [...past];
  const result = Array.from({ length: batch * steps * heads * shared * wide }, () => 0);
  for (let b = 0; b < batch; b++) for (let h = 0; h < heads; h++) for (let t = 0; t < steps; t++) {
    const row = (b * steps + t) * heads + h;
    const at = (i: number, j: number): number => ((b * heads + h) * size + i) * wide + j;
    if (rule.startsWith('gated')) for (const i of indices(size)) for (const j of indices(wide)) state[at(i, j)]! *= Math.exp(decay[perHead ? row : row * size + i]!);
    const read = indices(wide).map((j) => indices(size).reduce((sum, i) => sum + k[row * size + i]! * state[at(i, j)]!, 0));
    for (const i of indices(size)) for (const j of indices(wide)) {
      const value = v[row * wide + j]!;
      state[at(i, j)]! += k[row * size + i]! * (rule.endsWith('delta') ? beta[row]! * (value - read[j]!) : value);
    }
    for (const g of indices(shared)) for (const j of indices(wide)) {
      const head = (row * shared) + g;
      result[head * wide + j] = indices(size).reduce((sum, i) => sum + q[head * size + i]! * state[at(i, j)]!, 0) / Math.sqrt(size);
    }
  }
  return [result, state];
}

describe('LinearAttention', () => {
  it.each(rules.flatMap((rule) => [true, false].map((perHead) => ({ rule, perHead }))))('%j', async ({ rule, perHead }) => {
    const shape = { batch: 2, steps: 3, heads: 2, shared: 2, size: 4, wide: 3 };
    const rows = (width: number): Tensor => sample([2, 3, width]);
    const small = (tensor: Tensor): Tensor => ({ ...tensor, data: new Uint8Array(Float32Array.from(toNumbers(tensor), (number) => number / 4).buffer) });
    const all = [rows(16), small(rows(8)), rows(6), sample([2, 2, 4, 3]), small(rows(perHead ? 2 : 8)), small(rows(2))];
    const given = all.map((tensor, index) => ((index === 4 && !rule.startsWith('gated')) || (index === 5 && !rule.endsWith('delta')) ? undefined : tensor));
    const found = await outputsOf('LinearAttention', 27, given, { q_num_heads: 4, kv_num_heads: 2, update_rule: rule }, [[2, 3, 12], [2, 2, 4, 3]]);
    for (const [index, wanted] of recurrence(rule, shape, all, perHead).entries()) expect(difference(found[index]!, wanted)).toBeLessThan(NEAR);
  });

  it('refuses what it does not know', async () => {
    const given = [sample([1, 2, 4]), sample([1, 2, 4]), sample([1, 2, 4])];
    const run = (attributes: Attributes) => outputsOf('LinearAttention', 27, given, { q_num_heads: 1, kv_num_heads: 1, update_rule: 'linear', ...attributes }, [[1, 2, 4]]);
    await expect(run({ normalize: 1 })).rejects.toThrow("attribute 'normalize' is not known");
    await expect(run({ update_rule: 'momentum' })).rejects.toThrow("'update_rule' must be one of linear, gated, delta, gated_delta");
    await expect(run({ update_rule: 'gated' })).rejects.toThrow('are not those of the update rule');
  });
});

describe('CausalConvWithState', () => {
  it.each([{ kernel: 3, past: true }, { kernel: 5, past: false }, { kernel: 1, past: true }])('%j', async ({ kernel, past }) => {
    const [x, w, b, state] = [sample([2, 3, 4]), sample([3, 1, kernel]), sample([3]), sample([2, 3, kernel - 1])];
    const kept = kernel - 1;
    const before = (row: number, at: number): number => (at >= 0 ? toNumbers(x)[row * 4 + at]! : past ? toNumbers(state)[row * kept + at + kept]! : 0);
    const sums = indices(2 * 3 * 4).map((at) => {
      const row = Math.floor(at / 4);
      return indices(kernel).reduce((sum, i) => sum + toNumbers(w)[(row % 3) * kernel + i]! * before(row, (at % 4) - kept + i), toNumbers(b)[row % 3]!);
    });
    const found = await outputsOf('CausalConvWithState', 27, [x, w, b, past && kept > 0 ? state : undefined], { activation: 'silu' }, [[2, 3, 4], ...(kept > 0 ? [[2, 3, kept]] : [])]);
    expect(difference(found[0]!, sums.map((sum) => sum / (1 + Math.exp(-sum))))).toBeLessThan(NEAR);
    if (kept > 0) expect(difference(found[1]!, indices(6 * kept).map((at) => before(Math.floor(at / kept), 4 - kept + (at % kept))))).toBeLessThan(NEAR);
  });
});
