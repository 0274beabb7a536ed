import { describe, expect, it } from 'vitest';
import type { OpKind } from '../../../src/ir/ops.ts';
import { fromNumbers } from '../../../src/ir/tensor.ts';
import type { Dims, TensorType } from '../../../src/ir/tensor.ts';
import { importAttributes, readAttributes, writeAttributes } from '../../../src/ops/attributes.ts';
import { ShapeError, UnsupportedError } from '../../../src/ops/def.ts';
import type { AttrSpec, RawAttribute } from '../../../src/ops/def.ts';
import { inferContext } from '../../../src/ops/infer.ts';
import { OPS } from '../../../src/ops/table.ts';

function raw(attributes: Readonly<Record<string, RawAttribute>>): ReadonlyMap<string, RawAttribute> {
  return new Map(Object.entries(attributes));
}

function context(...shapes: readonly Dims[]) {
  return inferContext(
    shapes.map((dims): { type: TensorType } => ({ type: { dtype: 'float32', dims } })),
    1,
  );
}

describe('defaults', () => {
  it('are the schema’s, floats rounded to float32', () => {
    expect(readAttributes('LeakyRelu', raw({}))).toEqual({ alpha: Math.fround(0.01) });
    expect(readAttributes('Softmax', raw({}))).toEqual({ axis: -1 });
    expect(readAttributes('LRN', raw({ size: 5 }))).toEqual({ alpha: Math.fround(1e-4), beta: 0.75, bias: 1, size: 5 });
    expect(readAttributes('ConstantOfShape', raw({}))).toEqual({ value: { dtype: 'float32', value: 0 } });
    expect(readAttributes('Shape', raw({}))).toEqual({ start: 0, end: undefined });
  });

  const specsOf = (op: OpKind) => Object.entries(OPS[op].attrs as Readonly<Record<string, AttrSpec<unknown>>>);
  const inOnnx = (op: OpKind): boolean => specsOf(op).every(([, spec]) => spec.type !== 'internal');
  const ops = Object.keys(OPS) as OpKind[];

  it.each(ops.filter(inOnnx))('%s writes back what it reads', (op) => {
    const sample: Readonly<Record<string, RawAttribute>> = { int: 1, float: 0.5, string: 'DCR', ints: [1, 1], strings: ['Tanh'], floats: [1] };
    const words: Readonly<Record<string, string>> = { direction: 'LEFT', equation: 'ij->ji' };
    const required = specsOf(op).filter(([, spec]) => !('default' in spec));
    const given = raw(Object.fromEntries(required.map(([name, spec]) => [name, words[name] ?? sample[spec.type]!])));
    const attrs = readAttributes(op, given);
    const written = new Map([...writeAttributes(op, attrs)].map(([name, { value }]) => [name, value]));
    expect(readAttributes(op, written)).toEqual(attrs);
  });

  it.each(ops.filter((op) => !inOnnx(op)))('%s is not written', (op) => {
    expect(() => writeAttributes(op, {} as never)).toThrow('has no form in ONNX');
  });
});

describe('what shapes decide', () => {
  it('resolves auto_pad of a convolution, with the kernel of its weights', () => {
    const attrs = importAttributes('Conv', raw({ auto_pad: 'SAME_UPPER', strides: [2, 2] }), context([1, 3, 224, 224], [64, 3, 7, 7]));
    expect(attrs).toEqual({ auto_pad: 'NOTSET', dilations: [1, 1], group: 1, kernel_shape: [7, 7], pads: [2, 2, 3, 3], strides: [2, 2] });
  });

  it('counts the axes of a resize from the front', () => {
    expect(importAttributes('Resize', raw({ axes: [-1, 2] }), context([1, 3, 4, 6]))).toMatchObject({ axes: [3, 2] });
    expect(() => importAttributes('Resize', raw({ axes: [4] }), context([1, 3, 4, 6]))).toThrow(new ShapeError('axes 4 is outside [-4, 3] for rank 4'));
  });

  it('resolves output_shape of a transposed convolution', () => {
    const attrs = importAttributes('ConvTranspose', raw({ output_shape: [10, 8], strides: [3, 2] }), context([1, 1, 3, 3], [1, 2, 3, 3]));
    expect(attrs).toMatchObject({ pads: [0, 0, 0, 0], output_padding: [1, 1] });
    expect(attrs).not.toHaveProperty('output_shape');
  });

  it('reverses axes for Transpose, counts parts for Split, reads the hidden size', () => {
    expect(importAttributes('Transpose', raw({}), context([2, 3, 4]))).toEqual({ perm: [2, 1, 0] });
    expect(importAttributes('Split', raw({}), inferContext([{ type: { dtype: 'float32', dims: [6] } }], 3))).toEqual({ axis: 0, num_outputs: 3 });
    const lstm = importAttributes('LSTM', raw({ direction: 'bidirectional' }), context([5, 2, 4], [2, 12, 4], [2, 12, 3]));
    expect(lstm).toMatchObject({ hidden_size: 3, activations: ['Sigmoid', 'Tanh', 'Tanh', 'Sigmoid', 'Tanh', 'Tanh'] });
  });
});

describe('refuses', () => {
  const image = context([1, 3, 8, 8], [4, 3, 3, 3]);

  it.each<[string, OpKind, Readonly<Record<string, RawAttribute>>, typeof ShapeError | typeof UnsupportedError, string]>([
    ['an unknown attribute', 'Relu', { slope: 1 }, UnsupportedError, "attribute 'slope' is not known to Relu"],
    ['a required one left out', 'Concat', {}, ShapeError, "attribute 'axis' is required"],
    ['a wrong type', 'Softmax', { axis: 'x' }, ShapeError, "attribute 'axis' must be of type int"],
    ['a wrong list', 'Conv', { strides: [1, 2, 3] }, ShapeError, "attribute 'strides' must hold 2 integers to match the spatial axes, found [1,2,3]"],
    ['a stride of zero', 'Conv', { strides: [0, 1] }, ShapeError, "attribute 'strides' must be 1 or more, found [0,1]"],
    ['a flag of two', 'Gemm', { transA: 2 }, ShapeError, "attribute 'transA' must be 0 or 1, found 2"],
    ['an unknown word', 'Pad', { mode: 'mirror' }, ShapeError, "attribute 'mode' must be one of constant, reflect, edge, wrap, found 'mirror'"],
    ['an unknown auto_pad', 'Conv', { auto_pad: 'SAME' }, UnsupportedError, "attribute 'auto_pad' must be one of NOTSET, SAME_UPPER, SAME_LOWER, VALID, found 'SAME'"],
    ['an element type that the IR lacks', 'Cast', { to: 8 }, UnsupportedError, "attribute 'to' names ONNX element type 8, which is not supported"],
    ['training', 'BatchNormalization', { training_mode: 1 }, UnsupportedError, "attribute 'training_mode' must be 0: training is not supported"],
    ['a constant of two elements', 'ConstantOfShape', { value: fromNumbers('int64', [2], [1, 2]) }, ShapeError, "attribute 'value' must hold one element, found [2]"],
    ['a pool without a kernel', 'MaxPool', {}, ShapeError, "attribute 'kernel_shape' is required"],
  ])('%s', (_what, op, attributes, kind, message) => {
    expect(() => importAttributes(op, raw(attributes), image)).toThrow(new kind(message));
  });
});
