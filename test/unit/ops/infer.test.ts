/**
 * What inference refuses, and how it says so; costs and documentation of the table.
 */
import { describe, expect, it } from 'vitest';
import type { Expr, ExprPart } from '../../../src/ir/expr.ts';
import type { OpAttrs, OpKind } from '../../../src/ir/ops.ts';
import { elementCount, fromNumbers } from '../../../src/ir/tensor.ts';
import type { DType, TensorType } from '../../../src/ir/tensor.ts';
import { importAttributes } from '../../../src/ops/attributes.ts';
import { boundedAxisOf } from '../../../src/ops/bounded.ts';
import { NotStaticError, ShapeError, UnsupportedError } from '../../../src/ops/def.ts';
import type { OpCost, RawAttribute } from '../../../src/ops/def.ts';
import { opTableRows } from '../../../src/ops/docs.ts';
import { inferContext, inferNode, opCost } from '../../../src/ops/infer.ts';
import type { InputInfo } from '../../../src/ops/infer.ts';
import { FAMILIES, OPS } from '../../../src/ops/table.ts';

type Attributes = Readonly<Record<string, RawAttribute>>;

function tensor(...dims: number[]): InputInfo {
  return { type: { dtype: 'float32', dims } };
}

function typed(dtype: DType, ...dims: number[]): InputInfo {
  return { type: { dtype, dims } };
}

function ints(...values: number[]): InputInfo {
  const constant = fromNumbers('int64', [values.length], values);
  return { type: constant, constant };
}

function infer(op: OpKind, inputs: readonly (InputInfo | undefined)[], attributes: Attributes = {}, outputs = 1): readonly TensorType[] {
  const context = inferContext(inputs, outputs);
  return inferNode(op, importAttributes(op, new Map(Object.entries(attributes)), context), context);
}

describe('wrong models are refused with input, expectation and finding', () => {
  it.each<[OpKind, readonly (InputInfo | undefined)[], Attributes, string]>([
    ['Conv', [tensor(1, 4, 8, 8), tensor(6, 3, 3, 3)], {}, 'input 1 (W) must have 4 / 1 input channels to match X [1,4,8,8] and group 1, found float32[6,3,3,3]'],
    ['Conv', [tensor(1, 3, 8, 8), tensor(6, 3, 3, 3), tensor(5)], {}, 'input 2 (B) must have shape [6] to match the filters, found float32[5]'],
    ['Conv', [tensor(1, 3, 2, 2), tensor(6, 3, 3, 3)], {}, 'a window of 3 is larger than the padded input of 2 along spatial axis 0'],
    ['Add', [tensor(2, 3), typed('int64', 3)], {}, 'input 1 (B) must be float32 like the other operands, found int64[3]'],
    ['Add', [tensor(2, 3), tensor(4)], {}, 'shapes [2,3] and [4] do not broadcast'],
    ['Not', [tensor(2)], {}, 'input 0 (X) must be bool, found float32[2]'],
    ['Gemm', [tensor(2, 3, 1), tensor(3, 4)], {}, 'input 0 (A) must have rank 2, found float32[2,3,1]'],
    ['Gemm', [tensor(2, 3), tensor(3, 4), tensor(3)], {}, 'input 2 (C) must broadcast to [2,4], found float32[3]'],
    ['Concat', [tensor(2, 3), tensor(2, 4)], { axis: 0 }, 'input 1 (inputs[1]) must match [2,3] on every axis but 0, found float32[2,4]'],
    ['Softmax', [tensor(2, 3)], { axis: 2 }, 'axis 2 is outside [-2, 1] for rank 2'],
    ['MatMul', [tensor(2, 3)], {}, 'MatMul takes 2 inputs, found 1'],
    ['MatMul', [tensor(2, 3), undefined], {}, 'input 1 is required'],
    ['Split', [tensor(5), ints(2, 2)], {}, 'split [2,2] must give 1 parts that add up to 5'],
    ['TopK', [tensor(5), ints(6)], {}, 'TopK takes 2 outputs, found 1'],
    ['Pad', [tensor(5), ints(-3, -3)], {}, 'pads -3 and -3 remove more than the 5 elements of axis 0'],
    ['Expand', [tensor(1), ints(2 ** 40, 2 ** 40)], {}, 'output 0 would be float32[1099511627776,1099511627776], which no memory can hold'],
    ['BatchNormalization', [tensor(1, 4, 2), tensor(4), tensor(3), tensor(4), tensor(4)], {}, 'input 2 (B) must have shape [4] to match the channels of X, found float32[3]'],
    ['QuantizeLinear', [tensor(2, 3), tensor(2)], {}, 'input 1 (y_scale) must have shape [3] to match axis 1 of the tensor, found float32[2]'],
    ['Resize', [tensor(1, 1, 2, 2), undefined, undefined, ints(4, 4)], {}, 'input 3 (sizes) must hold 4 values, one per resized axis, found int64[2]'],
    ['Resize', [tensor(1, 1, 2, 2)], {}, 'exactly one of input 2 (scales) and input 3 (sizes) must be given'],
    ['LSTM', [tensor(5, 2, 4), tensor(1, 12, 4), tensor(1, 12, 3), tensor(1, 12)], {}, 'input 3 (B) must have shape [1,24] for hidden_size 3 and direction forward, found float32[1,12]'],
  ])('%s', (op, inputs, attributes, message) => {
    expect(() => infer(op, inputs, attributes)).toThrow(new ShapeError(message));
  });
});

describe('sizes under an aspect ratio policy', () => {
  // The scales are those of the given axes alone; halves round up.
  it.each<[readonly number[], readonly number[], string, readonly number[]]>([
    [[2, 3], [7, 8], 'not_larger', [1, 2, 5, 8]],
    [[2, 3], [7, 8], 'not_smaller', [1, 2, 7, 11]],
    [[3, 2], [8, 7], 'not_larger', [1, 2, 5, 8]],
    [[-1, -2], [8, 7], 'not_smaller', [1, 2, 7, 11]],
    [[3], [5], 'not_larger', [1, 2, 4, 5]],
    [[2, 3], [1, 9], 'not_larger', [1, 2, 1, 2]],
  ])('axes %j to %j, %s', (axes, sizes, keep_aspect_ratio_policy, dims) => {
    const found = infer('Resize', [tensor(1, 2, 4, 6), undefined, undefined, ints(...sizes)], { axes, keep_aspect_ratio_policy });
    expect(found).toEqual([{ dtype: 'float32', dims }]);
  });
});

describe('shapes that depend on data are refused as such', () => {
  it.each<[OpKind, readonly (InputInfo | undefined)[], string]>([
    ['Reshape', [tensor(4), typed('int64', 1)], "the output's shape depends on input 1 (shape), whose value is not known at build"],
    ['Range', [typed('int64'), typed('int64'), typed('int64')], "the output's shape depends on input 0 (start), whose value is not known at build"],
    ['ReduceSum', [tensor(4), typed('int64', 1)], "the output's shape depends on input 1 (axes), whose value is not known at build"],
    ['Resize', [tensor(1, 1, 2, 2), undefined, undefined, typed('int64', 4)], "the output's shape depends on input 3 (sizes), whose value is not known at build"],
  ])('%s', (op, inputs, message) => {
    expect(() => infer(op, inputs)).toThrow(new NotStaticError(message));
  });

  it('but not where the data decide nothing', () => {
    expect(infer('NonMaxSuppression', [tensor(1, 4, 4), tensor(1, 1, 4)])).toEqual([{ dtype: 'int64', dims: [0, 3] }]);
    expect(infer('NonZero', [tensor(0, 4)])).toEqual([{ dtype: 'int64', dims: [2, 0] }]);
  });
});

describe('lengths that depend on data have an upper bound', () => {
  it.each<[OpKind, readonly (InputInfo | undefined)[], readonly number[], number | undefined]>([
    ['NonZero', [tensor(4, 5)], [2, 20], 1],
    ['NonZero', [ints(0, 7, 0)], [1, 1], undefined],
    ['NonMaxSuppression', [tensor(2, 10, 4), tensor(2, 3, 10), ints(4)], [24, 3], 0],
    ['NonMaxSuppression', [tensor(2, 10, 4), tensor(2, 3, 10), ints(99)], [60, 3], 0],
    ['NonMaxSuppression', [tensor(2, 10, 4), tensor(2, 3, 10), typed('int64')], [60, 3], 0],
    ['NonMaxSuppression', [tensor(2, 10, 4), tensor(2, 3, 10), ints(-1)], [0, 3], undefined],
    ['NonMaxSuppression', [tensor(2, 10, 4), tensor(2, 3, 10)], [0, 3], undefined],
  ])('%s', (op, inputs, dims, axis) => {
    expect(infer(op, inputs)).toEqual([{ dtype: 'int64', dims }]);
    const context = inferContext(inputs, 1);
    expect(boundedAxisOf(op, importAttributes(op, new Map(), context), context)).toBe(axis);
  });
});

it('training is refused as unsupported', () => {
  const yes = fromNumbers('bool', [], [1]);
  expect(() => infer('Dropout', [tensor(4), undefined, { type: yes, constant: yes }])).toThrow(
    new UnsupportedError('training_mode must be false: training is not supported'),
  );
});

it('gives as many types as the node has outputs', () => {
  expect(infer('LayerNormalization', [tensor(2, 3, 4), tensor(4)], {}, 1)).toHaveLength(1);
  expect(infer('LayerNormalization', [tensor(2, 3, 4), tensor(4)], { axis: 1 }, 3)[1]).toEqual({ dtype: 'float32', dims: [2, 1, 1] });
});

describe('cost', () => {
  function cost(op: OpKind, inputs: readonly InputInfo[], attributes: Attributes = {}, outputs = 1): OpCost {
    const context = inferContext(inputs, outputs);
    const attrs = importAttributes(op, new Map(Object.entries(attributes)), context) as OpAttrs[OpKind];
    return opCost(op, attrs, inputs.map((info) => info.type), inferNode(op, attrs, context));
  }

  it('of ResNet-50’s first convolution is its 118 million multiply-adds', () => {
    const { flops, bytes } = cost('Conv', [tensor(1, 3, 224, 224), tensor(64, 3, 7, 7)], { strides: [2, 2], pads: [3, 3, 3, 3] });
    expect(flops).toBe(2 * 118_013_952);
    expect(bytes).toBe(4 * (3 * 224 * 224 + 64 * 3 * 49 + 64 * 112 * 112));
  });

  it('of a depthwise convolution counts one channel per filter', () => {
    expect(cost('Conv', [tensor(1, 32, 8, 8), tensor(32, 1, 3, 3)], { group: 32, pads: [1, 1, 1, 1] }).flops).toBe(2 * 32 * 64 * 9);
  });

  it('of a transposed convolution is that of the convolution it undoes', () => {
    const forward = cost('Conv', [tensor(1, 8, 9, 9), tensor(4, 8, 3, 3)], { strides: [2, 2] });
    const backward = cost('ConvTranspose', [tensor(1, 4, 4, 4), tensor(4, 8, 3, 3)], { strides: [2, 2] });
    expect(backward.flops).toBe(forward.flops);
  });

  it('of matrix products is 2·M·N·K, however they are written', () => {
    const expected = 2 * 5 * 7 * 11 * 3;
    expect(cost('MatMul', [tensor(3, 5, 11), tensor(3, 11, 7)]).flops).toBe(expected);
    expect(cost('Einsum', [tensor(3, 5, 11), tensor(3, 11, 7)], { equation: 'bmk,bkn->bmn' }).flops).toBe(expected);
    expect(cost('Gemm', [tensor(11, 5), tensor(7, 11)], { transA: 1, transB: 1 }).flops).toBe(expected / 3);
  });

  it('of attention is two products and a softmax', () => {
    const attrs = { scale: 1, softcap: 0, transposedK: 0, zeroEmptyRows: 0 } as const;
    const types = [tensor(1, 2, 5, 8), tensor(1, 2, 7, 8), tensor(1, 2, 7, 9)].map((info) => info.type);
    const context = inferContext(types.map((type) => ({ type })), 1);
    const outputs = inferNode('FusedAttention', attrs, context);
    expect(outputs).toEqual([{ dtype: 'float32', dims: [1, 2, 5, 9] }]);
    expect(opCost('FusedAttention', attrs, types, outputs).flops).toBe(2 * 5 * 7 * (2 * 8 + 2 * 9 + 5));
  });

  it('of a selection of boxes are what any data need: each score looked at', () => {
    expect(cost('NonMaxSuppression', [tensor(2, 10, 4), tensor(2, 3, 10), ints(4)]).flops).toBe(60);
  });

  it('of an LSTM is its weights once per step and batch element', () => {
    const { flops } = cost('LSTM', [tensor(5, 2, 4), tensor(1, 12, 4), tensor(1, 12, 3)]);
    expect(flops).toBe(5 * 2 * (2 * (12 * 4 + 12 * 3) + 10 * 3));
  });

  it('of views is nothing, of a gather what it picks', () => {
    expect(cost('Flatten', [tensor(8, 8)])).toEqual({ flops: 0, bytes: 0 });
    expect(cost('Gather', [tensor(1000, 16), ints(1, 2)])).toEqual({ flops: 0, bytes: 2 * (2 * 16 * 4) + 2 * 8 });
  });

  it('of reductions and pools grows with their inputs and windows', () => {
    expect(cost('ReduceSum', [tensor(8, 16)]).flops).toBe(128);
    expect(cost('MaxPool', [tensor(1, 1, 8, 8)], { kernel_shape: [2, 2], strides: [2, 2] }).flops).toBe(16 * 4);
  });
});

describe('the table', () => {
  it('is the disjoint union of its families', () => {
    const names = Object.values(FAMILIES).flatMap((defs) => Object.keys(defs));
    expect(new Set(names).size).toBe(names.length);
    expect(names.sort()).toEqual(Object.keys(OPS).sort());
  });

  it('documents every op that a model may contain', () => {
    const rows = opTableRows();
    const internal = Object.values(OPS).filter((def) => def.domain === 'internal' || def.domain === 'custom');
    expect(rows.length).toBe(Object.keys(OPS).length - internal.length);
    expect(rows).toContainEqual({ op: 'Swish', domain: '', since: 24, family: 'Elementwise, one input' });
  });

  it('infers elementwise fusions from their expressions', () => {
    const x = { kind: 'input', index: 0, dtype: 'float32' } as const;
    const attrs = { exprs: [{ kind: 'binary', fn: 'add', a: x, b: { kind: 'const', value: 1, dtype: 'float32' } }, { kind: 'unary', fn: 'isnan', x }] } as const;
    const context = inferContext([tensor(2, 3)], 2);
    const types = inferNode('FusedElementwise', attrs, context);
    expect(types).toEqual([{ dtype: 'float32', dims: [2, 3] }, { dtype: 'bool', dims: [2, 3] }]);
    expect(opCost('FusedElementwise', attrs, [tensor(2, 3).type], types).flops).toBe(2 * elementCount([2, 3]));
  });

  it('infers concatenations of expressions, and refuses parts that leave gaps or operands that do not fit them', () => {
    const [x, y] = [0, 1].map((index) => ({ kind: 'input', index, dtype: 'float32' }) as const) as [Expr, Expr];
    const inTurn = [0, 1].map((start) => ({ start, step: 2, extent: 4, expr: { kind: 'unary', fn: 'neg', x } as const }));
    const join = (...parts: ExprPart[]) => ({ joined: [{ axis: 2, parts }] });
    const context = inferContext([tensor(3, 4), tensor(2, 1, 1)], 1);
    const attrs = join(...inTurn, { start: 8, step: 1, extent: 5, expr: y });
    const types = inferNode('FusedConcat', attrs, context);
    expect(types).toEqual([{ dtype: 'float32', dims: [2, 3, 13] }]);
    expect(opCost('FusedConcat', attrs, [tensor(3, 4).type, tensor(2, 1, 1).type], types).flops).toBe(2 * 3 * 8);
    expect(() => inferNode('FusedConcat', join({ start: 1, step: 1, extent: 4, expr: x }), context)).toThrow('begins at 1 of axis 2, not at 0');
    expect(() => inferNode('FusedConcat', join({ start: 0, step: 1, extent: 5, expr: x }), context)).toThrow('[3,4] does not broadcast to 5 elements along axis 2');
    expect(() => inferNode('FusedConcat', join(inTurn[0]!), context)).toThrow('are not 2 in turn');
  });

  it('infers products with epilogues, and refuses extras that do not broadcast', () => {
    const acc = { kind: 'input', index: 0, dtype: 'float32' } as const;
    const epilogue = { kind: 'binary', fn: 'add', a: acc, b: { kind: 'input', index: 1, dtype: 'float32' } } as const;
    const conv = { auto_pad: 'NOTSET', dilations: [1, 1], group: 1, kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [1, 1], epilogue } as const;
    const inputs = [tensor(1, 3, 8, 8), tensor(4, 3, 3, 3), tensor(4), tensor(1, 4, 8, 8)];
    const types = inferNode('FusedConv', conv, inferContext(inputs, 1));
    expect(types).toEqual([{ dtype: 'float32', dims: [1, 4, 8, 8] }]);
    // Multiply-adds, then the bias and the addition of the epilogue.
    const flops = 2 * 256 * 27 + 256 + 256;
    expect(opCost('FusedConv', conv, inputs.map((info) => info.type), types).flops).toBe(flops);
    const bad = inferContext([...inputs.slice(0, 3), tensor(1, 5, 8, 8)], 1);
    expect(() => inferNode('FusedConv', conv, bad)).toThrow(new ShapeError('input 3 (extra 0) must broadcast to [1,4,8,8], found float32[1,5,8,8]'));

    const product = { alpha: 1, transA: 0, transB: 1, epilogue } as const;
    const matrices = inferContext([tensor(2, 5, 11), tensor(7, 11), undefined, tensor(7)], 1);
    expect(inferNode('FusedMatMul', product, matrices)).toEqual([{ dtype: 'float32', dims: [2, 5, 7] }]);
  });

  it('leaves the types of custom ops to models and plugins', () => {
    const attrs = { domain: 'com.acme', opType: 'Warp', opset: 1, attributes: [] };
    expect(() => inferNode('Custom', attrs, inferContext([tensor(2)], 1))).toThrow(
      new NotStaticError("types of com.acme::Warp come from the model's value_info or a plugin"),
    );
  });
});
