/** Attention by where queries may look, as opsets 24 and 25 have it, against its definition in float64. onnxruntime runs what it was imported as. */
import { describe, expect, it } from 'vitest';
import { elementCount, fromNumbers, type Tensor, toNumbers } from '../../../src/ir/tensor.ts';
import { exportGraph } from '../../../src/onnx/export.ts';
import { importGraph } from '../../../src/onnx/import.ts';
import { readModel } from '../../../src/onnx/model.ts';
import { modelBytes, node, value } from './models.ts';
import { runOnnx } from './run.ts';
import { sample } from './upgraded.ts';

interface Problem {
  readonly rows?: number;
  readonly columns?: number;
  readonly causal?: boolean;
  readonly older?: number;
  readonly newer?: number;
  readonly cap?: number;
  /** How many keys of each of the two samples are valid. */
  readonly lengths?: readonly [number, number];
  /** Of fewer columns than there are keys, too. */
  readonly mask?: Tensor;
}

const [BATCH, HEADS, SIZE] = [2, 2, 4];
const float64 = (dims: readonly number[]): number[] => toNumbers(sample(dims));

/** Scores as multiplied, capped, masked, behind the softmax, and the result, each [batch, heads, rows, …]. */
function reference({ rows = 3, columns = 5, causal, older = -1, newer = -1, cap = 0, lengths, mask }: Problem): readonly number[][] {
  const [q, k, v] = [float64([BATCH, HEADS, rows, SIZE]), float64([BATCH, HEADS, columns, SIZE]), float64([BATCH, HEADS, columns, SIZE])];
  const found: number[][] = [[], [], [], [], []];
  const masks = mask && toNumbers(mask);
  const own = mask?.dims.at(-1) ?? 0;
  for (let at = 0; at < BATCH * HEADS * rows; at++) {
    const [head, row] = [Math.floor(at / rows), at % rows];
    const valid = lengths?.[Math.floor(head / HEADS)] ?? columns;
    const offset = lengths ? valid - rows : 0;
    const given = (column: number): number => (!masks ? 0 : column >= own ? -Infinity : mask.dtype === 'bool' ? (masks[row * own + column] ? 0 : -Infinity) : masks[row * own + column]!);
    const allowed = (column: number): boolean => {
      const distance = row + offset - column;
      return column < valid && (!causal || distance >= 0) && (older < 0 || distance <= older) && (newer < 0 || -distance <= newer);
    };
    const all = Array.from({ length: columns }, (_, column) => column);
    const dot = all.map((column) => 0.5 * Array.from({ length: SIZE }, (_, i) => q[at * SIZE + i]! * k[(head * columns + column) * SIZE + i]!).reduce((a, b) => a + b, 0));
    const bent = dot.map((score) => (cap ? cap * Math.tanh(score / cap) : score));
    const masked = bent.map((score, column) => (allowed(column) ? score + given(column) : -Infinity));
    const highest = Math.max(...masked);
    const powers = masked.map((score) => (highest === -Infinity ? 0 : Math.exp(score - highest)));
    const sum = powers.reduce((a, b) => a + b, 0);
    const weights = powers.map((power) => (sum === 0 ? 0 : power / sum));
    const result = Array.from({ length: SIZE }, (_, i) => all.reduce((total, column) => total + weights[column]! * v[(head * columns + column) * SIZE + i]!, 0));
    for (const [index, values] of [dot, bent, masked, weights, result].entries()) found[index]!.push(...values);
  }
  return found;
}

async function expectReference(problem: Problem, mode: number): Promise<void> {
  const { rows = 3, columns = 5, causal, older, newer, cap, lengths, mask } = problem;
  const attributes = { qk_matmul_output_mode: mode, ...(causal && { is_causal: 1 }), ...(older !== undefined && { left_window_size: older }), ...(newer !== undefined && { right_window_size: newer }), ...(cap && { softcap: { float: cap } }) };
  const inputs = { q: sample([BATCH, HEADS, rows, SIZE]), k: sample([BATCH, HEADS, columns, SIZE]), v: sample([BATCH, HEADS, columns, SIZE]), ...(mask && { m: mask }), ...(lengths && { n: fromNumbers('int64', [BATCH], lengths) }) };
  const names = ['q', 'k', 'v', mask ? 'm' : '', '', '', ...(lengths ? ['n'] : [])];
  const bytes = modelBytes({
    opset: 25,
    nodes: [node('Attention', names, ['y', '', '', 's'], attributes)],
    inputs: Object.entries(inputs).map(([name, { dtype, dims }]) => value(name, dtype, dims)),
    outputs: [value('y', 'float32', [BATCH, HEADS, rows, SIZE]), value('s', 'float32', [BATCH, HEADS, rows, columns])],
  });
  const imported = importGraph(readModel(bytes));
  if (!imported.ok) throw new Error(JSON.stringify(imported.unsupported));
  const { y, s } = await runOnnx(exportGraph(imported.graph), inputs);
  const expected = reference(problem);
  for (const [found, wanted] of [[s!, expected[mode]!], [y!, expected[4]!]] as const) {
    const worst = toNumbers(found).findIndex((number, at) => !(number === wanted[at] || Math.abs(number - wanted[at]!) < 1e-5));
    expect(worst < 0 ? undefined : { worst, found: toNumbers(found)[worst], wanted: wanted[worst] }).toBeUndefined();
  }
}

const bools = (columns: number): Tensor => fromNumbers('bool', [3, columns], Array.from({ length: 3 * columns }, (_, at) => Number(at % 3 !== 1 && Math.floor(at / columns) !== 1)));
const numbers = (columns: number): Tensor => fromNumbers('float32', [3, columns], Array.from({ length: elementCount([3, columns]) }, (_, at) => (at % 4 === 2 ? -Infinity : at / 10)));

describe('Attention looks where it may', () => {
  it.each<[string, Problem]>([
    ['at all', {}],
    ['at older keys', { causal: true }],
    ['at a window of older keys', { causal: true, older: 1 }],
    ['at a window to both sides', { older: 1, newer: 2 }],
    ['at newer keys alone', { older: 0, newer: 1 }],
    ['at nothing, for the last rows', { rows: 6, columns: 2, causal: true, older: 1 }],
    ['at older keys, where the window is wider', { causal: true, newer: 3 }],
    ['at valid keys', { lengths: [5, 2] }],
    ['at valid keys that are older', { lengths: [5, 2], causal: true }],
    ['at a window of valid keys', { lengths: [4, 0], older: 1, newer: 1 }],
    ['at what bools allow', { mask: bools(5), cap: 2 }],
    ['at what bools of some keys allow', { mask: bools(4), causal: true }],
    ['at what bools and lengths allow', { mask: bools(4), lengths: [5, 3], causal: true, older: 2 }],
    ['at what numbers allow', { mask: numbers(5), older: 2, cap: 1.5 }],
    ['at what numbers of some keys allow', { mask: numbers(3) }],
    ['at what numbers and lengths allow', { mask: numbers(4), lengths: [5, 3], causal: true }],
  ])('%s', async (_, problem) => {
    for (const mode of [0, 1, 2, 3]) await expect(expectReference(problem, mode)).resolves.toBeUndefined();
  });

  it('at all, as FlexAttention without graphs of its own', async () => {
    const inputs = { q: sample([BATCH, HEADS, 3, SIZE]), k: sample([BATCH, HEADS, 5, SIZE]), v: sample([BATCH, HEADS, 5, SIZE]) };
    const imported = importGraph(readModel(modelBytes({
      opset: 24, domains: { 'ai.onnx.preview': 1 }, nodes: [node('FlexAttention', ['q', 'k', 'v'], ['y'], { scale: { float: 0.5 } }, { domain: 'ai.onnx.preview' })],
      inputs: Object.entries(inputs).map(([name, { dtype, dims }]) => value(name, dtype, dims)), outputs: [value('y', 'float32', [BATCH, HEADS, 3, SIZE])],
    })));
    if (!imported.ok) throw new Error(JSON.stringify(imported.unsupported));
    const found = toNumbers((await runOnnx(exportGraph(imported.graph), inputs))['y']!);
    const wanted = reference({})[4]!;
    expect(Math.max(...found.map((number, at) => Math.abs(number - wanted[at]!)))).toBeLessThan(1e-5);
  });

  it.each<[string, string[], Record<string, number>, RegExp]>([
    ['a window of a negative size', ['q', 'q', 'q'], { left_window_size: -2 }, /'left_window_size' must be -1 or more/],
    ['an output of no mode', ['q', 'q', 'q'], { qk_matmul_output_mode: 4 }, /'qk_matmul_output_mode' must be 0, 1, 2 or 3, found 4/],
    ['a mask of more keys than there are', ['q', 'q', 'q', 'm'], {}, /the mask has 4 columns for 3 keys/],
    ['lengths beside keys of before', ['q', 'q', 'q', '', 'q', 'q', 'n'], {}, /both past keys and a number of valid ones/],
  ])('%s is refused', (_, names, attributes, reason) => {
    const read = () => importGraph(readModel(modelBytes({
      opset: 25, nodes: [node('Attention', names, ['y', '', '', 's'], attributes)],
      inputs: [value('q', 'float32', [1, 1, 3, 4]), value('m', 'float32', [3, 4]), value('n', 'int64', [1])],
      outputs: [value('y', 'float32', [1, 1, 3, 4]), value('s', 'float32', [1, 1, 3, 3])],
    })));
    const message = (): string => {
      try {
        const imported = read();
        return imported.ok ? 'imported' : imported.unsupported[0]!.reason;
      } catch (error) {
        return JSON.stringify([(error as Error).message, (error as { details?: unknown }).details]);
      }
    };
    expect(message()).toMatch(reason);
  });
});
