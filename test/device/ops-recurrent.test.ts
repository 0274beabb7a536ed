/** LSTM, GRU, RNN and Einsum on SwiftShader, against onnxruntime and sums written here. */
import { describe, expect, it } from 'vitest';
import type { OpAttrs, RnnAttrs } from '../../src/ir/ops.ts';
import { elementCount } from '../../src/ir/tensor.ts';
import { distance, noDevice, noise } from './helpers.ts';
import { broadcastIndex, eachCoordinate } from './references.ts';
import { floats, type Operand, oracle, runOp } from './run-op.ts';

const [STEPS, BATCH, INPUT, HIDDEN] = [4, 3, 5, 6];
const GATES = { GRU: 3, LSTM: 4, RNN: 1 } as const;

type Op = keyof typeof GATES;

interface Variant {
  readonly op: Op;
  readonly direction: RnnAttrs['direction'];
  readonly activations: readonly string[];
  readonly more?: Partial<OpAttrs['LSTM'] & OpAttrs['GRU']>;
  /** Optional inputs by index. */
  readonly given: readonly (3 | 4 | 5 | 6 | 7)[];
}

const random = (dims: readonly number[], seed: number): Operand => floats(dims, Array.from(noise(elementCount(dims), seed), (v) => v * 0.7));

function operandsOf({ op, direction, given }: Variant): (Operand | undefined)[] {
  const directions = direction === 'bidirectional' ? 2 : 1;
  const width = GATES[op] * HIDDEN;
  const state = [directions, BATCH, HIDDEN];
  const all = [
    random([STEPS, BATCH, INPUT], 1),
    random([directions, width, INPUT], 2),
    random([directions, width, HIDDEN], 3),
    random([directions, 2 * width], 4),
    { dtype: 'int32', dims: [BATCH], values: [4, 2, 3] } as const,
    random(state, 5),
    random(state, 6),
    random([directions, 3 * HIDDEN], 7),
  ];
  const last = Math.max(2, ...given);
  return all.slice(0, last + 1).map((operand, i) => (i < 3 || given.includes(i as 3) ? operand : undefined));
}

const LSTM = ['Sigmoid', 'Tanh', 'Tanh'];
const GRU = ['Sigmoid', 'Tanh'];

const VARIANTS: readonly (readonly [string, Variant])[] = [
  ['LSTM', { op: 'LSTM', direction: 'forward', activations: LSTM, given: [] }],
  ['LSTM backward with everything', { op: 'LSTM', direction: 'reverse', activations: LSTM, given: [3, 4, 5, 6, 7] }],
  ['LSTM both ways, lengths', { op: 'LSTM', direction: 'bidirectional', activations: [...LSTM, ...LSTM], given: [3, 4, 6] }],
  ['LSTM with other functions, clipped', { op: 'LSTM', direction: 'forward', activations: ['HardSigmoid', 'Softsign', 'Relu'], more: { clip: 0.4 }, given: [3, 5] }],
  ['GRU', { op: 'GRU', direction: 'forward', activations: GRU, given: [3, 5] }],
  ['GRU, reset after the product', { op: 'GRU', direction: 'reverse', activations: GRU, more: { linear_before_reset: 1 }, given: [3, 4] }],
  ['GRU both ways with different functions', { op: 'GRU', direction: 'bidirectional', activations: ['Sigmoid', 'Tanh', 'HardSigmoid', 'Relu'], given: [3, 4, 5] }],
  ['RNN both ways', { op: 'RNN', direction: 'bidirectional', activations: ['Tanh', 'Relu'], given: [3, 4, 5] }],
];

describe.skipIf(noDevice)('recurrent ops (skipped without SwiftShader)', () => {
  it.each(VARIANTS)('%s', async (_name, variant) => {
    const { op, direction, activations, more } = variant;
    const common = { activations, activation_alpha: [], activation_beta: [], clip: undefined, direction, hidden_size: HIDDEN, layout: 0 } as const;
    const own = op === 'LSTM' ? { input_forget: 0 } : op === 'GRU' ? { linear_before_reset: 0 } : {};
    const attrs = { ...common, ...own, ...more } as OpAttrs['LSTM'] & OpAttrs['GRU'];
    const operands = operandsOf(variant);
    const outputs = op === 'LSTM' ? 3 : 2;
    const expected = await oracle(op, attrs, operands, outputs);
    const found = await runOp(op, attrs, operands, outputs);
    for (const [i, values] of expected.entries()) expect(distance(found[i]!, values, { absolute: 2e-5, relative: 1e-4 })).toBeLessThan(1);
  });

  it('gives the same with the batch first', async () => {
    const variant = VARIANTS[2]![1];
    const common = { activations: variant.activations, activation_alpha: [], activation_beta: [], clip: undefined, direction: 'bidirectional', hidden_size: HIDDEN, input_forget: 0 } as const;
    const operands = operandsOf({ ...variant, given: [3, 4] });
    const swap = (dims: readonly number[], values: ArrayLike<number>): number[] =>
      eachCoordinate([dims[1]!, dims[0]!, dims[2]!]).map(([b, s, k]) => values[broadcastIndex([s!, b!, k!], dims)]!);
    const [x, ...rest] = operands;
    const swapped = floats([BATCH, STEPS, INPUT], swap(x!.dims, x!.values));
    const [y] = await oracle('LSTM', { ...common, layout: 0 }, operands, 3);
    const [found] = await runOp('LSTM', { ...common, layout: 1 }, [swapped, ...rest], 3);
    const dims = [STEPS, 2, BATCH, HIDDEN];
    const expected = eachCoordinate([BATCH, STEPS, 2, HIDDEN]).map(([b, s, d, u]) => y![broadcastIndex([s!, d!, b!, u!], dims)]!);
    expect(distance(found!, expected, { absolute: 2e-5, relative: 1e-4 })).toBeLessThan(1);
  });
});

describe.skipIf(noDevice)('Einsum (skipped without SwiftShader)', () => {
  const equations: readonly (readonly [string, readonly (readonly number[])[]])[] = [
    ['ij,jk->ik', [[3, 4], [4, 5]]],
    ['bhwc,hkc->bhwk', [[2, 3, 4, 5], [3, 6, 5]]],
    ['bij,bkj->kbi', [[2, 3, 4], [2, 5, 4]]],
    ['ab,cbd->cda', [[3, 4], [2, 4, 5]]],
    ['...ij->...ji', [[2, 3, 4]]],
    ['bii->bi', [[2, 3, 3]]],
    ['ij->', [[3, 4]]],
    ['i,j,k->ikj', [[2], [3], [4]]],
    ['abc,cd,abd->a', [[2, 3, 4], [4, 5], [2, 3, 5]]],
  ];
  it.each(equations)('%s', async (equation, shapes) => {
    const operands = shapes.map((dims, i) => floats(dims, noise(elementCount(dims), i + 1)));
    const [expected] = await oracle('Einsum', { equation }, operands);
    const [y] = await runOp('Einsum', { equation }, operands);
    expect(distance(y!, expected!)).toBeLessThan(1);
  });
});
