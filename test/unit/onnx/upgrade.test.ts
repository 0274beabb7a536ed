/**
 * Upgrades from older opsets: the model as it came and the model that was imported and written again must compute the same.
 * onnxruntime, which implements every opset, is the oracle.
 */
import { describe, expect, it } from 'vitest';
import { fromNumbers, elementCount, type DType, type Tensor } from '../../../src/ir/tensor.ts';
import { ONNX_DTYPE } from '../../../src/ops/specs.ts';
import { importGraph } from '../../../src/onnx/import.ts';
import { readModel } from '../../../src/onnx/model.ts';
import { countOps, expectSame, optimize } from '../../helpers/passes.ts';
import { floats, ints, modelBytes, node, value, type AttributeValue, type INode } from './models.ts';
import { expectSameAsModel, one, sample, type Case } from './upgraded.ts';

const microsoft = 'com.microsoft';

/** A quantized op of onnxruntime: x in bytes, and what `operands` names behind it; `s…` are scales, `z…` zero points. */
function quantized(op: string, operands: string[], attributes: Record<string, AttributeValue> = {}, more: Partial<Case> & { readonly dtype?: 'int8' | 'uint8' } = {}): Case {
  const { dtype = 'uint8', initializers = {}, ...rest } = more;
  const zero = (value: number): Tensor => fromNumbers(dtype, [], [dtype === 'uint8' ? value : value - 128]);
  const grids = { sx: floats([0.02], []), zx: zero(120), sy: floats([0.03], []), zy: zero(100) };
  return {
    opset: 17, domains: { [microsoft]: 1 }, x: [2, 3, 4], outputs: { y: dtype }, ...rest, initializers: { ...grids, ...initializers },
    nodes: [node('QuantizeLinear', ['x', 'sx', 'zx'], ['q']), node(op, operands, ['y'], attributes, { domain: microsoft })],
  };
}

const bytes = (dims: readonly number[], dtype: 'int8' | 'uint8' = 'uint8'): Tensor => fromNumbers(dtype, dims, Array.from({ length: elementCount(dims) }, (_, i) => ((i * 37) % 200) - (dtype === 'int8' ? 100 : 0)));
const second = { b: bytes([3, 4]), sb: floats([0.01], []), zb: fromNumbers('uint8', [], [90]) };

const heads = { num_heads: 2 };
const contrib = (op: string, inputs: string[], attributes: Record<string, AttributeValue> = {}, outs = ['y']): INode => node(op, inputs, outs, attributes, { domain: microsoft });

/** Attention of x to itself by the projections w and b, with `before` nodes in front. */
function selfAttention(inputs: string[], attributes: Record<string, AttributeValue> = {}, more: Partial<Case> & { readonly before?: INode[]; readonly outs?: string[] } = {}): Case {
  const { before = [], outs, initializers = {}, ...rest } = more;
  return {
    opset: 17, domains: { [microsoft]: 1 }, x: [2, 3, 8], ...rest, initializers: { w: sample([8, 24]), b: sample([24]), zero: floats([0], []), last: ints([-1]), ...initializers },
    nodes: [...before, contrib('Attention', ['x', 'w', 'b', ...inputs], { ...heads, ...attributes }, outs)],
  };
}

/** Attention of x to five keys k, values v of their own width. */
function crossAttention(inputs: string[], attributes: Record<string, AttributeValue> = {}, more: Partial<Case> & { readonly before?: INode[]; readonly outs?: string[] } = {}): Case {
  const { before = [], outs, initializers = {}, ...rest } = more;
  return {
    opset: 17, domains: { [microsoft]: 1 }, x: [2, 3, 8], ...rest, initializers: { k: sample([2, 5, 8]), v: sample([2, 5, 12]), b: sample([28]), ...initializers },
    nodes: [...before, contrib('MultiHeadAttention', ['x', ...inputs], { ...heads, ...attributes }, outs)],
  };
}

const whole = (dims: readonly number[], numbers: readonly number[]): Tensor => fromNumbers('int32', dims, numbers);
const keepSome = [1, 0, 1, 0, 1, 1];
const least = -3.4028234663852886e38;
const floatsOf = (...names: string[]): Record<string, DType> => Object.fromEntries(names.map((name) => [name, 'float32']));

/** Tokens, a table of words that is the input x, and the other tables. */
function embedding(inputs: string[], outs: string[], attributes: Record<string, AttributeValue> = {}): Case {
  const initializers = { t: whole([2, 3], [4, 0, 2, 2, 1, 3]), u: whole([2, 3], [0, 1, 1, 0, 0, 1]), m: whole([2, 3], [1, 1, 0, 1, 2, 0]), o: whole([1, 3], [3, 0, 2]), p: sample([4, 8]), g: sample([2, 8]), s: sample([8]), c: sample([8]) };
  return { opset: 17, domains: { [microsoft]: 1 }, x: [5, 8], initializers, outputs: Object.fromEntries(outs.filter((name) => name !== '').map((name) => [name, name === 'n' ? 'int32' : 'float32'])), nodes: [contrib('EmbedLayerNormalization', inputs, attributes, outs)] };
}

const CASES: Readonly<Record<string, Case>> = {
  'Squeeze-11 axes': one('Squeeze', 11, { axes: [0, 2] }, { x: [1, 3, 1, 2] }),
  'Unsqueeze-11 axes': one('Unsqueeze', 11, { axes: [0, 3] }, { x: [3, 2] }),
  'ReduceSum-11 axes': one('ReduceSum', 11, { axes: [1], keepdims: 0 }, { x: [2, 3, 4] }),
  'ReduceSum-11 without axes': one('ReduceSum', 11, {}, { x: [2, 3, 4] }),
  'ReduceMean-13 axes': one('ReduceMean', 13, { axes: [-1, 1] }, { x: [2, 3, 4] }),
  'ReduceMax-12 axes': one('ReduceMax', 12, { axes: [0], keepdims: 1 }, { x: [2, 3] }),
  'Split-11 sizes': one('Split', 11, { axis: 1, split: [1, 3] }, { x: [2, 4], outs: ['y', 'z'], outputs: { y: 'float32', z: 'float32' } }),
  'Split-11 even': one('Split', 11, { axis: 1 }, { x: [2, 4], outs: ['y', 'z'], outputs: { y: 'float32', z: 'float32' } }),
  'Pad-7': one('Pad', 7, { pads: [0, 1, 2, 0], value: { float: 1.5 } }, { x: [2, 3] }),
  'Pad-10 reflect': one('Pad', 10, { mode: 'reflect', pads: [0, 1, 0, 2] }, { x: [2, 3] }),
  'Slice-9': one('Slice', 9, { axes: [1, 0], starts: [1, -2], ends: [9_007_199_254_740_991, -1] }, { x: [3, 4] }),
  'Slice-7 without axes': one('Slice', 7, { starts: [0, 1], ends: [2, 3] }, { x: [3, 4] }),
  'Clip-10': one('Clip', 10, { min: { float: -0.5 }, max: { float: 0.7 } }, { x: [3, 4] }),
  'Clip-7 one bound': one('Clip', 7, { max: { float: 0.7 } }, { x: [3, 4] }),
  'TopK-9': one('TopK', 9, { k: 2, axis: 1 }, { x: [3, 4], outs: ['y', 'i'], outputs: { y: 'float32', i: 'int64' } }),
  'Upsample-7': one('Upsample', 7, { mode: 'nearest', scales: { floats: [1, 1, 2, 3] } }, { x: [1, 2, 3, 2] }),
  'Upsample-9 linear': one('Upsample', 9, { mode: 'linear' }, { x: [1, 1, 3, 2], inputs: ['x', 's'], initializers: { s: floats([1, 1, 2, 2]) } }),
  'Resize-10 nearest up': one('Resize', 10, { mode: 'nearest' }, { x: [1, 1, 3, 5], inputs: ['x', 's'], initializers: { s: floats([1, 1, 1.7, 2]) } }),
  'Resize-10 nearest down': one('Resize', 10, { mode: 'nearest' }, { x: [1, 1, 5, 7], inputs: ['x', 's'], initializers: { s: floats([1, 1, 0.6, 0.5]) } }),
  'Resize-10 nearest, one axis down and one up': one('Resize', 10, { mode: 'nearest' }, { x: [1, 1, 5, 7], inputs: ['x', 's'], initializers: { s: floats([1, 1, 0.6, 1.5]) }, ops: ['Resize', 'Resize'] }),
  'Resize-10 linear': one('Resize', 10, { mode: 'linear' }, { x: [1, 1, 3, 5], inputs: ['x', 's'], initializers: { s: floats([1, 1, 2, 2]) } }),
  'Resize-11 empty roi and scales': one('Resize', 11, { mode: 'linear', coordinate_transformation_mode: 'half_pixel' }, {
    x: [1, 1, 3, 5], inputs: ['x', 'r', 'e', 't'], initializers: { r: floats([]), e: floats([]), t: ints([1, 1, 6, 7]) },
  }),
  'Resize-11 tf_half_pixel_for_nn': one('Resize', 11, { mode: 'nearest', coordinate_transformation_mode: 'tf_half_pixel_for_nn', nearest_mode: 'floor' }, {
    x: [1, 1, 3, 5], inputs: ['x', 'r', 's'], initializers: { r: floats([]), s: floats([1, 1, 2, 1.5]) },
  }),
  'Softmax-11 coerced': one('Softmax', 11, { axis: 1 }, { x: [2, 3, 4], ops: ['Reshape', 'Softmax', 'Reshape'] }),
  'Softmax-11 default axis': one('Softmax', 11, {}, { x: [2, 3, 4], ops: ['Reshape', 'Softmax', 'Reshape'] }),
  'Softmax-11 last axis': one('Softmax', 11, { axis: -1 }, { x: [2, 3, 4], ops: ['Softmax'] }),
  'Softmax-7 of [N,C,1,1]': one('Softmax', 7, {}, { x: [2, 3, 1, 1], ops: ['Softmax'] }),
  'LogSoftmax-9 axis 0': one('LogSoftmax', 9, { axis: 0 }, { x: [2, 3] }),
  'Hardmax-11 coerced': one('Hardmax', 11, { axis: 1 }, { x: [2, 3, 4] }),
  'Softmax-13': one('Softmax', 13, { axis: 1 }, { x: [2, 3, 4], ops: ['Softmax'] }),
  'Dropout-7': one('Dropout', 7, { ratio: { float: 0.4 } }, { x: [2, 3], ops: ['Identity'] }),
  'Dropout-12 with mask': one('Dropout', 12, {}, { x: [2, 3], outs: ['y', 'm'], outputs: { y: 'float32', m: 'bool' } }),
  'Dropout-13, trained with nothing dropped': one('Dropout', 13, {}, { x: [2, 3], inputs: ['x', 'r', 't'], initializers: { r: floats([0], []), t: fromNumbers('bool', [], [1]) }, ops: ['Identity'] }),
  'BatchNormalization-7': one('BatchNormalization', 7, { epsilon: { float: 0.01 }, spatial: 1 }, {
    x: [2, 2, 3], inputs: ['x', 's', 'b', 'm', 'v'],
    initializers: { s: floats([1, 2]), b: floats([0.5, -1]), m: floats([0.1, 0.2]), v: floats([1, 4]) },
  }),
  'BatchNormalization-7 by element': one('BatchNormalization', 7, { epsilon: { float: 0.01 }, spatial: 0 }, {
    x: [2, 2, 3], inputs: ['x', 's', 'b', 'm', 'v'],
    initializers: { s: sample([2, 3]), b: sample([2, 3]), m: sample([2, 3]), v: floats([1, 4, 2, 3, 0.5, 6], [2, 3]) },
  }),
  'GroupNormalization-18': one('GroupNormalization', 18, { num_groups: 2 }, { x: [2, 4, 3], inputs: ['x', 's', 'b'], initializers: { s: floats([1, 2]), b: floats([0.5, -1]) } }),
  'ImageScaler-1': one('ImageScaler', 8, { scale: { float: 0.5 }, bias: { floats: [1, -2, 3] } }, { x: [2, 3, 2, 2], ops: ['Mul', 'Add'] }),
  'Affine-1': one('Affine', 8, { alpha: { float: 0.5 }, beta: { float: 3 } }, { x: [2, 3], ops: ['Mul', 'Add'] }),
  'ParametricSoftplus-1': one('ParametricSoftplus', 8, { alpha: { float: 0.5 }, beta: { float: 3 } }, { x: [2, 3], ops: ['Mul', 'Softplus', 'Mul'] }),
  'ScaledTanh-1': one('ScaledTanh', 8, { alpha: { float: 0.5 }, beta: { float: 3 } }, { x: [2, 3], ops: ['Mul', 'Tanh', 'Mul'] }),
  'Crop-1': one('Crop', 8, { border: [1, 2, 3, 1] }, { x: [1, 2, 5, 6], ops: ['Slice'] }),
  'Crop-1 of a size': one('Crop', 8, { border: [1, 2, 0, 0], scale: [2, 3] }, { x: [1, 2, 5, 6], ops: ['Slice'] }),
  'Conv-11 SAME_UPPER': one('Conv', 11, { auto_pad: 'SAME_UPPER', strides: [2, 2] }, { x: [1, 2, 6, 7], inputs: ['x', 'w'], initializers: { w: sample([3, 2, 3, 2]) } }),
  'Conv-11 SAME_LOWER': one('Conv', 11, { auto_pad: 'SAME_LOWER' }, { x: [1, 2, 6, 7], inputs: ['x', 'w'], initializers: { w: sample([3, 2, 2, 2]) } }),
  'ConvTranspose-11 output_shape': one('ConvTranspose', 11, { strides: [2, 2], output_shape: [7, 8] }, { x: [1, 2, 3, 4], inputs: ['x', 'w'], initializers: { w: sample([2, 1, 3, 3]) } }),
  'ConvTranspose-11 SAME_UPPER': one('ConvTranspose', 11, { strides: [2, 2], auto_pad: 'SAME_UPPER' }, { x: [1, 2, 3, 4], inputs: ['x', 'w'], initializers: { w: sample([2, 1, 3, 3]) } }),
  'AveragePool-7': one('AveragePool', 7, { kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [2, 2] }, { x: [1, 1, 6, 5] }),
  'AveragePool-10 ceil': one('AveragePool', 10, { kernel_shape: [3, 3], strides: [2, 2], ceil_mode: 1 }, { x: [1, 1, 6, 6] }),
  'MaxPool-8 SAME_LOWER': one('MaxPool', 8, { kernel_shape: [3, 3], strides: [2, 2], auto_pad: 'SAME_LOWER' }, { x: [1, 1, 6, 5] }),
  'GridSample-16': one('GridSample', 16, { mode: 'bicubic' }, { x: [1, 1, 4, 4], inputs: ['x', 'g'], initializers: { g: sample([1, 3, 3, 2]) } }),
  'RoiAlign-10': one('RoiAlign', 10, { output_height: 2, output_width: 2, sampling_ratio: 2 }, {
    x: [1, 1, 6, 6], inputs: ['x', 'r', 'b'], initializers: { r: floats([0.5, 0.5, 4, 5], [1, 4]), b: ints([0]) },
  }),
  'Scatter-9': one('Scatter', 9, { axis: 1 }, { x: [2, 3], inputs: ['x', 'i', 'u'], initializers: { i: ints([2, 0], [2, 1]), u: floats([7, 8], [2, 1]) } }),
  'Gemm-7': one('Gemm', 7, { transB: 1, alpha: { float: 0.5 }, beta: { float: 2 } }, { x: [2, 3], inputs: ['x', 'w', 'c'], initializers: { w: sample([4, 3]), c: sample([4]) } }),
  'Cast-9': one('Cast', 9, { to: 7 }, { x: [2, 3], outputs: { y: 'int64' } }),
  'DepthToSpace-7': one('DepthToSpace', 7, { blocksize: 2 }, { x: [1, 8, 2, 3] }),
  'Transpose-7 without perm': one('Transpose', 7, {}, { x: [2, 3, 4] }),
  'QuantizeLinear-10': { opset: 10, x: [2, 3], outputs: { y: 'float32' }, initializers: { s: floats([0.05], []), z: fromNumbers('uint8', [], [128]) }, nodes: [node('QuantizeLinear', ['x', 's', 'z'], ['q']), node('DequantizeLinear', ['q', 's', 'z'], ['y'])] },
  'LSTM-7': one('LSTM', 7, { hidden_size: 2 }, { x: [3, 1, 2], inputs: ['x', 'w', 'r'], initializers: { w: sample([1, 8, 2]), r: sample([1, 8, 2]) } }),
  'GRU-7 bidirectional': one('GRU', 7, { hidden_size: 2, direction: 'bidirectional', linear_before_reset: 1 }, { x: [3, 1, 2], inputs: ['x', 'w', 'r'], initializers: { w: sample([2, 6, 2]), r: sample([2, 6, 2]) } }),
  'MeanVarianceNormalization-9': one('MeanVarianceNormalization', 9, {}, { x: [2, 3, 4, 5] }),
  'Mean of three': one('Mean', 8, {}, { x: [2, 3], inputs: ['x', 'a', 'b'], initializers: { a: sample([3]), b: sample([2, 1]) } }),
  'Constant in every form': {
    opset: 13, x: [2, 2],
    nodes: [
      node('Constant', [], ['a'], { value: floats([1, 2]) }), node('Constant', [], ['b'], { value_float: { float: 0.25 } }),
      node('Constant', [], ['c'], { value_floats: { floats: [3, 4] } }), node('Constant', [], ['d'], { value_int: 1 }),
      node('Constant', [], ['e'], { value_ints: [2, 2] }), node('Sum', ['x', 'a', 'b', 'c'], ['f']),
      node('Concat', ['e', 'g'], ['h'], { axis: 0 }), node('Unsqueeze', ['d', 'k'], ['g']), node('Constant', [], ['k'], { value_ints: [0] }),
      node('Reshape', ['f', 'h'], ['y']),
    ],
    ops: ['Sum', 'Reshape'],
  },
  'shape arithmetic': {
    opset: 13, x: [2, 3, 4], initializers: { zero: ints([0]), rest: ints([-1]) }, ops: ['Reshape'],
    nodes: [node('Shape', ['x'], ['s']), node('Gather', ['s', 'zero'], ['n']), node('Concat', ['n', 'rest'], ['t'], { axis: 0 }), node('Reshape', ['x', 't'], ['y'])],
  },
  'Attention-23 of three dimensions, heads shared, causal, capped': one('Attention', 23, { q_num_heads: 4, kv_num_heads: 2, is_causal: 1, softcap: { float: 2 }, scale: { float: 0.7 } }, {
    x: [2, 3, 8], inputs: ['x', 'k', 'v'], initializers: { k: sample([2, 5, 4]), v: sample([2, 5, 6]) },
  }),
  'Attention-23 with keys and values of before': one('Attention', 23, { is_causal: 1 }, {
    x: [1, 2, 3, 4], inputs: ['x', 'k', 'v', '', 'pk', 'pv'], outs: ['y', 'nk', 'nv'], outputs: { y: 'float32', nk: 'float32', nv: 'float32' },
    initializers: { k: sample([1, 2, 3, 4]), v: sample([1, 2, 3, 4]), pk: sample([1, 2, 2, 4]), pv: sample([1, 2, 2, 4]) },
  }),
  ...Object.fromEntries([0, 1].flatMap((is_causal) => {
    // The second row has no key; that is known at build, and is not.
    const keep = [1, 0, 1, 0, 0, 0, 1, 1, 0];
    const parts = { x: [1, 2, 3, 4], initializers: { k: sample([1, 2, 3, 4]), v: sample([1, 2, 3, 4]), m: fromNumbers('bool', [3, 3], keep), f: floats(keep.map((kept) => (kept ? 0.5 : Number.NEGATIVE_INFINITY)), [3, 3]), all: fromNumbers('bool', [3, 3], keep.with(4, 1)), h: floats([0], []) } };
    const masked = (name: string, nodes: INode[]): [string, Case] => [`Attention-23, ${name}${is_causal ? ', causal' : ''}`, { ...parts, opset: 23, nodes }];
    const attends = (mask: string): INode => node('Attention', ['x', 'k', 'v', mask], ['y'], { is_causal });
    const positive = [node('ReduceMax', ['x'], ['t'], { keepdims: 0 }), node('Greater', ['t', 'h'], ['p'])];
    return [
      masked('bools', [attends('m')]),
      masked('bools that leave no row out', [attends('all')]),
      masked('bools of the data', [...positive, node('And', ['m', 'p'], ['n']), attends('n')]),
      masked('floats', [attends('f')]),
      masked('floats of the data', [node('ReduceMax', ['x'], ['t'], { keepdims: 0 }), node('Add', ['f', 't'], ['n']), attends('n')]),
    ];
  })),
  'RotaryEmbedding-23 by positions': one('RotaryEmbedding', 23, {}, { x: [2, 3, 4, 8], inputs: ['x', 'c', 's', 'p'], initializers: { c: sample([7, 4]), s: sample([7, 4]), p: ints([0, 6, 2, 3, 1, 1, 5, 4], [2, 4]) } }),
  'RotaryEmbedding-23 in part': one('RotaryEmbedding', 23, { rotary_embedding_dim: 4 }, { x: [2, 3, 4, 8], inputs: ['x', 'c', 's'], initializers: { c: sample([2, 4, 2]), s: sample([2, 4, 2]) } }),
  'RotaryEmbedding-23 of three dimensions, interleaved': one('RotaryEmbedding', 23, { num_heads: 2, interleaved: 1, rotary_embedding_dim: 6 }, { x: [2, 3, 16], inputs: ['x', 'c', 's'], initializers: { c: sample([2, 3, 3]), s: sample([2, 3, 3]) } }),
  'AffineGrid of a plane': one('AffineGrid', 20, {}, { x: [2, 2, 3], inputs: ['x', 'n'], initializers: { n: ints([2, 1, 4, 3]) } }),
  'AffineGrid of a space, at the corners': one('AffineGrid', 20, { align_corners: 1 }, { x: [1, 3, 4], inputs: ['x', 'n'], initializers: { n: ints([1, 5, 2, 4, 3]) } }),
  'CenterCropPad both ways': one('CenterCropPad', 18, {}, { x: [3, 6, 4], inputs: ['x', 'n'], initializers: { n: ints([6, 3, 4]) } }),
  'CenterCropPad of some axes': one('CenterCropPad', 18, { axes: [-1, 0] }, { x: [3, 6, 4], inputs: ['x', 'n'], initializers: { n: ints([1, 4]) }, ops: ['Slice', 'Pad'] }),
  'Col2Im': one('Col2Im', 18, { strides: [2, 3], pads: [1, 0, 1, 2], dilations: [1, 2] }, { x: [2, 12, 9], inputs: ['x', 'n', 'b'], initializers: { n: ints([5, 9]), b: ints([2, 3]) }, ops: ['Reshape', 'ConvTranspose'] }),
  'Col2Im with a rest that no block reaches': one('Col2Im', 18, { strides: [3, 2] }, { x: [1, 4, 6], inputs: ['x', 'n', 'b'], initializers: { n: ints([7, 7]), b: ints([2, 2]) } }),
  'com.microsoft Gelu': one('Gelu', 17, {}, { x: [2, 3], domain: microsoft }),
  'com.microsoft FastGelu with bias': one('FastGelu', 17, {}, { x: [2, 3], inputs: ['x', 'b'], initializers: { b: floats([1, -1, 0.5]) }, domain: microsoft }),
  'com.microsoft BiasGelu': one('BiasGelu', 17, {}, { x: [2, 3], inputs: ['x', 'b'], initializers: { b: floats([1, -1, 0.5]) }, domain: microsoft }),
  'com.microsoft QuickGelu': one('QuickGelu', 17, { alpha: { float: 1.5 } }, { x: [2, 3], domain: microsoft }),
  'com.microsoft SkipLayerNormalization': one('SkipLayerNormalization', 17, { epsilon: { float: 1e-5 } }, {
    x: [2, 2, 4], inputs: ['x', 'k', 'g', 'b', 'a'], outs: ['y', '', '', 'sum'], outputs: { y: 'float32', sum: 'float32' },
    initializers: { k: sample([2, 2, 4]), g: floats([1, 2, 3, 4]), b: floats([0, 1, 0, 1]), a: floats([1, 0, 2, 0]) }, domain: microsoft,
  }),
  'com.microsoft SkipSimplifiedLayerNormalization, the sum alone, beside a node that leaves an input out': {
    opset: 17, domains: { [microsoft]: 1 }, x: [2, 4], outputs: { y: 'float32', t: 'float32' }, initializers: { g: floats([1, 2, 3, 4]), top: floats([0.5], []) },
    nodes: [node('Clip', ['x', '', 'top'], ['c']), contrib('SkipSimplifiedLayerNormalization', ['x', 'c', 'g'], { epsilon: { float: 1e-5 } }, ['y', '', '', 't'])],
  },
  'com.microsoft SkipSimplifiedLayerNormalization': one('SkipSimplifiedLayerNormalization', 17, { epsilon: { float: 1e-5 } }, {
    x: [2, 2, 4], inputs: ['x', 'k', 'g'], initializers: { k: sample([2, 2, 4]), g: floats([1, 2, 3, 4]) }, domain: microsoft,
  }),
  'com.microsoft FusedMatMul': one('FusedMatMul', 17, { transA: 1, transB: 1, alpha: { float: 0.125 } }, { x: [2, 4, 3], inputs: ['x', 'w'], initializers: { w: sample([5, 4]) }, domain: microsoft }),
  'com.microsoft FusedConv': one('FusedConv', 17, { kernel_shape: [2, 2], activation: 'LeakyRelu', activation_params: { floats: [0.3] } }, {
    x: [1, 2, 4, 4], inputs: ['x', 'w', 'b', 'z'], initializers: { w: sample([3, 2, 2, 2]), b: floats([1, 2, 3]), z: sample([1, 3, 3, 3]) }, domain: microsoft,
  }),
  'com.microsoft FusedGemm': one('FusedGemm', 17, { activation: 'LeakyRelu', activation_alpha: { float: 0.3 } }, { x: [2, 3], inputs: ['x', 'w', 'b'], initializers: { w: sample([3, 4]), b: sample([4]) }, domain: microsoft }),
  'com.microsoft FusedGemm, Elu': one('FusedGemm', 17, { activation: 'Elu', activation_alpha: { float: 0.3 } }, { x: [2, 3], inputs: ['x', 'w', 'b'], initializers: { w: sample([3, 4]), b: sample([4]) }, domain: microsoft }),
  'com.microsoft FusedGemm, Softplus': one('FusedGemm', 17, { activation: 'Softplus' }, { x: [2, 3], inputs: ['x', 'w', 'b'], initializers: { w: sample([3, 4]), b: sample([4]) }, domain: microsoft }),
  'com.microsoft FusedConv, Clip': one('FusedConv', 17, { kernel_shape: [2, 2], activation: 'Clip', activation_params: { floats: [-0.2, 0.4] } }, { x: [1, 2, 4, 4], inputs: ['x', 'w'], initializers: { w: sample([3, 2, 2, 2]) }, domain: microsoft }),
  'com.microsoft QLinearAdd': quantized('QLinearAdd', ['q', 'sx', 'zx', 'b', 'sb', 'zb', 'sy', 'zy'], {}, { initializers: second }),
  'com.microsoft QLinearMul': quantized('QLinearMul', ['q', 'sx', 'zx', 'b', 'sb', 'zb', 'sy', 'zy'], {}, { initializers: second }),
  'com.microsoft QLinearSigmoid': quantized('QLinearSigmoid', ['q', 'sx', 'zx', 'sy', 'zy']),
  'com.microsoft QLinearLeakyRelu': quantized('QLinearLeakyRelu', ['q', 'sx', 'zx', 'sy', 'zy'], { alpha: { float: 0.2 } }),
  'com.microsoft QLinearLeakyRelu of int8 without zero points': quantized('QLinearLeakyRelu', ['q', 'sx', '', 'sy', ''], { alpha: { float: 0.2 } }, { dtype: 'int8', initializers: { zx: fromNumbers('int8', [], [0]) } }),
  'com.microsoft QLinearSoftmax': quantized('QLinearSoftmax', ['q', 'sx', 'zx', 'sp', 'zp'], { axis: -1, opset: 13 }, { initializers: { sp: floats([1 / 256], []), zp: fromNumbers('uint8', [], [0]) } }),
  'com.microsoft QLinearAveragePool': quantized('QLinearAveragePool', ['q', 'sx', 'zx', 'sy', 'zy'], { kernel_shape: [2, 2], pads: [1, 1, 0, 0] }, { x: [1, 2, 4, 5], initializers: { sy: floats([0.0317], []) } }),
  'com.microsoft QLinearGlobalAveragePool': quantized('QLinearGlobalAveragePool', ['q', 'sx', 'zx', 'sy', 'zy'], { channels_last: 0 }, { x: [1, 2, 4, 5] }),
  'com.microsoft QLinearConcat': quantized('QLinearConcat', ['sy', 'zy', 'q', 'sx', 'zx', 'b', 'sb', 'zb'], { axis: 0 }, { x: [3, 4], initializers: second }),
  'com.microsoft QLinearWhere': quantized('QLinearWhere', ['c', 'q', 'sx', 'zx', 'b', 'sb', 'zb', 'sy', 'zy'], {}, { x: [3, 4], initializers: { ...second, c: fromNumbers('bool', [3, 1], [1, 0, 1]) } }),
  'com.microsoft QGemm by column': quantized('QGemm', ['q', 'sx', 'zx', 'w', 'sw', 'zw', 'c', 'sy', 'zy'], { transB: 1 }, {
    x: [2, 4], initializers: { w: bytes([3, 4], 'int8'), sw: floats([0.01, 0.02, 0.005]), zw: fromNumbers('int8', [3], [0, 0, 0]), c: fromNumbers('int32', [3], [500, -300, 40]) },
  }),
  'com.microsoft QGemm to floats': quantized('QGemm', ['q', 'sx', 'zx', 'w', 'sw', 'zw'], { alpha: { float: 0.5 } }, { x: [2, 4], outputs: { y: 'float32' }, initializers: { w: bytes([4, 3]), sw: floats([0.01], []), zw: fromNumbers('uint8', [], [100]) } }),
  'com.microsoft MatMulIntegerToFloat': quantized('MatMulIntegerToFloat', ['q', 'w', 'sx', 'sw', 'zx', 'zw', 'c'], {}, { outputs: { y: 'float32' }, initializers: { w: bytes([4, 3]), sw: floats([0.01, 0.02, 0.005]), zw: fromNumbers('uint8', [3], [100, 90, 80]), c: floats([1, 2, 3]) } }),
  'com.microsoft DynamicQuantizeMatMul': one('DynamicQuantizeMatMul', 17, {}, { x: [2, 3, 4], inputs: ['x', 'w', 'sw', '', 'c'], initializers: { w: bytes([4, 3]), sw: floats([0.01], []), c: floats([1, 2, 3]) }, domain: microsoft }),
  'com.microsoft EmbedLayerNormalization': embedding(['t', 'u', 'x', 'p', 'g', 's', 'c', 'm'], ['y', 'n', 'e'], { epsilon: { float: 0.1 } }),
  'com.microsoft EmbedLayerNormalization without segments and mask': embedding(['t', '', 'x', 'p', '', 's', 'c'], ['y', 'n']),
  'com.microsoft EmbedLayerNormalization by positions': embedding(['t', '', 'x', 'p', '', 's', 'c', '', 'o'], ['y', '', 'e']),
  'com.microsoft Attention': selfAttention([], {}, { ops: ['MatMul', 'Add', 'Split', 'Reshape', 'Transpose', 'Reshape', 'Transpose', 'Reshape', 'Transpose', 'Mul', 'Transpose', 'MatMul', 'Softmax', 'MatMul', 'Transpose', 'Reshape'] }),
  'com.microsoft Attention, lengths': selfAttention(['m'], { scale: { float: 0.3 } }, { initializers: { m: whole([2], [2, 3]) } }),
  'com.microsoft Attention, a mask by key, causal': selfAttention(['m'], { unidirectional: 1 }, { initializers: { m: whole([2, 3], keepSome) } }),
  'com.microsoft Attention, a mask by query': selfAttention(['m'], {}, { initializers: { m: whole([2, 3, 3], [...keepSome, ...keepSome, ...keepSome]) } }),
  'com.microsoft Attention, a mask of the data, filled with little': selfAttention(['m'], { mask_filter_value: { float: -1.5 } }, {
    before: [node('ReduceSum', ['x', 'last'], ['t'], { keepdims: 0 }), node('Greater', ['t', 'zero'], ['g']), node('Cast', ['g'], ['m'], { to: ONNX_DTYPE.int32 })],
  }),
  'com.microsoft Attention, rows of which nothing is left, causal': selfAttention(['m'], { unidirectional: 1, mask_filter_value: { float: least } }, { initializers: { m: whole([2, 3], [0, 0, 1, 0, 0, 0]) } }),
  'com.microsoft Attention, a bias of the scores, values of their own width': selfAttention(['', '', 'a'], { qkv_hidden_sizes: [4, 4, 16] }, { initializers: { a: sample([1, 2, 3, 3]) } }),
  'com.microsoft Attention, mask and bias of the scores': selfAttention(['m', '', 'a'], { unidirectional: 1 }, { initializers: { m: whole([2, 3], [1, 1, 0, 1, 1, 1]), a: sample([2, 1, 3, 3]) } }),
  'com.microsoft Attention with keys and values of before, causal': selfAttention(['', 'p'], { unidirectional: 1 }, { outs: ['y', 'n'], outputs: floatsOf('y', 'n'), initializers: { p: sample([2, 2, 2, 2, 4]) } }),
  'com.microsoft Attention that keeps keys and values': selfAttention([], {}, { outs: ['y', 'n'], outputs: floatsOf('y', 'n') }),
  'com.microsoft MultiHeadAttention': crossAttention(['k', 'v'], { scale: { float: 0.3 } }),
  'com.microsoft MultiHeadAttention, biased, causal': crossAttention(['k', 'v', 'b'], { unidirectional: 1 }, { x: [2, 5, 8] }),
  'com.microsoft MultiHeadAttention, causal with a single query': crossAttention(['k', 'v'], { unidirectional: 1 }, { x: [2, 1, 8] }),
  'com.microsoft MultiHeadAttention, lengths': crossAttention(['k', 'v', '', 'm'], {}, { initializers: { m: whole([2], [5, 2]) } }),
  'com.microsoft MultiHeadAttention, a mask by key and a bias of the scores': crossAttention(['k', 'v', '', 'm', 'a'], {}, { initializers: { m: whole([2, 5], [...keepSome, ...keepSome].slice(0, 10)), a: sample([1, 1, 3, 5]) } }),
  'com.microsoft MultiHeadAttention, a mask by query': crossAttention(['k', 'v', '', 'm'], { mask_filter_value: { float: -2 } }, { initializers: { m: whole([2, 3, 5], [...keepSome, ...keepSome, ...keepSome, ...keepSome, ...keepSome]) } }),
  'com.microsoft MultiHeadAttention, keys and values by head, biased queries': crossAttention(['k', 'v', 'b'], {}, { initializers: { k: sample([2, 2, 5, 4]), v: sample([2, 2, 5, 4]), b: sample([24]) } }),
  'com.microsoft MultiHeadAttention with keys and values of before, causal': crossAttention(['k', 'v', 'b', '', '', 'pk', 'pv'], { unidirectional: 1 }, {
    outs: ['y', 'nk', 'nv'], outputs: floatsOf('y', 'nk', 'nv'), initializers: { k: sample([2, 3, 8]), v: sample([2, 3, 8]), b: sample([24]), pk: sample([2, 2, 2, 4]), pv: sample([2, 2, 2, 4]) },
  }),
  'a custom op that onnxruntime knows': {
    ...one('Inverse', 17, {}, { x: [2, 2], domain: microsoft, ops: ['Custom'] }),
  },
};

describe('upgrades compute what the model computed', () => {
  it.each(Object.entries(CASES))('%s', async (_, test) => {
    await expect(expectSameAsModel(test)).resolves.toBeUndefined();
  });
});

describe('attention of onnxruntime is one kernel on webgpu, and computes the same', () => {
  const mask = { m: whole([2, 3], keepSome) };
  it.each(Object.entries({
    'Attention': selfAttention(['m'], {}, { initializers: mask }),
    'Attention, causal': selfAttention(['m'], { unidirectional: 1 }, { initializers: mask }),
    'Attention, a bias of the scores': selfAttention(['m', '', 'a'], {}, { initializers: { ...mask, a: sample([1, 2, 3, 3]) } }),
    'MultiHeadAttention': crossAttention(['k', 'v', 'b', 'm'], {}, { initializers: { m: whole([2], [5, 2]) } }),
  }))('%s', async (_, { opset, nodes, x = [], initializers = {}, domains = {} }) => {
    const width = initializers.v?.dims[2] ?? 8;
    const imported = importGraph(readModel(modelBytes({ opset, nodes, inputs: [value('x', 'float32', x)], initializers, domains, outputs: [value('y', 'float32', [2, 3, width])] })));
    if (!imported.ok) throw new Error(JSON.stringify(imported.unsupported));
    const { graph } = await optimize(imported.graph, 'webgpu');
    const { FusedAttention, MatMul, Softmax } = countOps(graph);
    expect({ FusedAttention, MatMul, Softmax }).toEqual({ FusedAttention: 1 });
    await expectSame(imported.graph, graph);
  });
});

describe('what is up to the data or packed otherwise is refused in words', () => {
  const refused: Readonly<Record<string, readonly [Case, RegExp]>> = {
    'Attention, begins and ends': [selfAttention(['m'], {}, { initializers: { m: whole([4], [3, 3, 0, 1]) } }), /a mask of \[4\] is neither the lengths of 2 samples, nor \[2,3\], nor \[2,3,3\]/],
    'Attention, a mask of four dimensions': [selfAttention(['m'], {}, { initializers: { m: whole([2, 1, 3, 3], [...keepSome, ...keepSome, ...keepSome]) } }), /a mask of \[2,1,3,3\]/],
    'Attention, rotary': [selfAttention([], { do_rotary: 1 }), /'do_rotary' is not supported/],
    'Attention, a buffer that is shared': [selfAttention([], { past_present_share_buffer: 1 }), /'past_present_share_buffer' is not supported/],
    'MultiHeadAttention, keys of five dimensions with values': [crossAttention(['k', 'v'], {}, { initializers: { k: sample([2, 5, 2, 2, 4]), v: sample([2, 5, 8]) } }), /of 3, 5, 3 dimensions/],
    'MultiHeadAttention, queries alone': [crossAttention([]), /of 3, 0, 0 dimensions/],
    'MultiHeadAttention, causal with keys of another sequence': [crossAttention(['k', 'v'], { unidirectional: 1 }), /which of 5 keys come after each of 3 queries/],
    'MultiHeadAttention, a buffer that is shared': [crossAttention(['k', 'v', '', '', '', '', '', 'n'], {}, { initializers: { n: whole([1], [2]) } }), /past_sequence_length/],
    'MultiHeadAttention, the products': [crossAttention(['k', 'v'], {}, { outs: ['y', '', '', 's'], outputs: floatsOf('y', 's') }), /\(qk\) are used/],
  };
  it.each(Object.entries(refused))('%s', (_, [{ opset, nodes, x = [], initializers = {}, domains = {}, outputs = floatsOf('y') }, reason]) => {
    const imported = importGraph(readModel(modelBytes({ opset, nodes, inputs: [value('x', 'float32', x)], initializers, domains, outputs: Object.keys(outputs).map((name) => value(name, 'float32', [2, 3, 8])) })));
    expect(imported).toMatchObject({ ok: false, unsupported: [{ reason: expect.stringMatching(reason) }] });
  });
});
