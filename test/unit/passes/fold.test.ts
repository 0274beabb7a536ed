import { describe, expect, it } from 'vitest';
import { fromNumbers } from '../../../src/ir/tensor.ts';
import { foldLinear } from '../../../src/passes/fold-linear.ts';
import { foldPads } from '../../../src/passes/fold-pads.ts';
import { transposes } from '../../../src/passes/transposes.ts';
import { applyPass } from '../../helpers/passes.ts';
import { CONV, F32, POOL, sketch, testRows, type Sketch } from '../../helpers/rules.ts';

const BN = { epsilon: 1e-3, momentum: 0.9, training_mode: 0 } as const;
const GEMM = { alpha: 1, beta: 1, transA: 0, transB: 0 } as const;

const batchNorm = ({ b, w, positive }: Sketch, from: string, channels: number): string =>
  b.node('BatchNormalization', [from, w(channels), w(channels), w(channels), positive(channels)], BN);
const conv = ({ b, x, w }: Sketch): string => b.node('Conv', [x(1, 2, 5, 5), w(4, 2, 3, 3)], CONV);

describe('affine into weights', () => {
  testRows(foldLinear, [
    ['BatchNorm into Conv', (s) => batchNorm(s, conv(s), 4), 'Conv'],
    ['BatchNorm into Conv with bias', (s) => batchNorm(s, s.b.node('Conv', [s.x(1, 2, 5, 5), s.w(4, 2, 3, 3), s.w(4)], CONV), 4), 'Conv'],
    ['BatchNorm into grouped Conv', (s) => batchNorm(s, s.b.node('Conv', [s.x(1, 4, 5, 5), s.w(6, 2, 3, 3)], { ...CONV, group: 2 }), 6), 'Conv'],
    [
      'BatchNorm into grouped ConvTranspose',
      (s) => batchNorm(s, s.b.node('ConvTranspose', [s.x(1, 4, 5, 5), s.w(4, 3, 3, 3), s.w(6)], { ...CONV, group: 2, output_padding: [0, 0] }), 6),
      'ConvTranspose',
    ],
    ['BatchNorm into Conv of one axis', (s) => batchNorm(s, s.b.node('Conv', [s.x(1, 2, 5), s.w(4, 2, 3)], { ...CONV, kernel_shape: [3], strides: [1], dilations: [1], pads: [1, 1] }), 4), 'Conv'],
    ['BatchNorm into Gemm', (s) => batchNorm(s, s.b.node('Gemm', [s.x(3, 5), s.w(5, 4), s.w(4)], GEMM), 4), 'Gemm'],
    ['BatchNorm into Gemm, transposed, scaled', (s) => batchNorm(s, s.b.node('Gemm', [s.x(3, 5), s.w(4, 5), s.w(1, 4)], { alpha: 0.5, beta: 2, transA: 0, transB: 1 }), 4), 'Gemm'],
    ['c · conv per channel', (s) => s.b.node('Mul', [s.w(4, 1, 1), conv(s)], {}), 'Conv'],
    ['conv / c', (s) => s.b.node('Div', [conv(s), s.positive(1, 4, 1, 1)], {}), 'Conv'],
    ['conv + c, conv − c, c − conv', (s) => s.b.node('Sub', [s.n(2), s.b.node('Sub', [s.b.node('Add', [conv(s), s.w(4, 1, 1)], {}), s.n(3)], {})], {}), 'Conv'],
    ['matmul · c per column', (s) => s.b.node('Mul', [s.b.node('MatMul', [s.x(2, 3, 5), s.w(5, 4)], {}), s.w(4)], {}), 'MatMul'],
    ['matmul + c has no bias to go to', (s) => s.b.node('Add', [s.b.node('MatMul', [s.x(2, 3, 5), s.w(5, 4)], {}), s.w(4)], {}), 'MatMul Add'],
    ['a product of vectors has no channels', (s) => s.b.node('Add', [s.b.node('Div', [s.b.node('MatMul', [s.x(5), s.w(5)], {}), s.n(2)], {}), s.n(3)], {}), 'MatMul Div Add'],
    ['c / conv is not affine', (s) => s.b.node('Div', [s.n(2), conv(s)], {}), 'Conv Div'],
    ['c differs within a channel', (s) => s.b.node('Mul', [conv(s), s.w(3, 3)], {}), 'Conv Mul'],
    ['c broadcasts the result', (s) => s.b.node('Mul', [conv(s), s.w(2, 1, 1, 1)], {}), 'Conv Mul'],
    ['the product is read elsewhere', (s) => { const y = conv(s); return [batchNorm(s, y, 4), s.b.node('Relu', [y], {})]; }, 'Conv BatchNormalization Relu'],
    ['the weights are read elsewhere', (s) => { const w = s.w(4, 2, 3, 3); const i = s.x(1, 2, 5, 5); return [batchNorm(s, s.b.node('Conv', [i, w], CONV), 4), s.b.node('Relu', [w], {})]; }, 'Conv BatchNormalization Relu'],
    ['a shift alone leaves weights that others read as they are', (s) => { const w = s.w(4, 2, 3, 3); const i = s.x(1, 2, 5, 5); return [s.b.node('Add', [s.b.node('Conv', [i, w], CONV), s.w(4, 1, 1)], {}), s.b.node('Relu', [w], {})]; }, 'Conv Relu'],
    ['the statistics are not constant', (s) => s.b.node('BatchNormalization', [conv(s), s.w(4), s.w(4), s.w(4), s.b.node('Exp', [s.b.input('v', F32(4))], {})], BN), 'Conv Exp BatchNormalization'],
    ['Gemm’s addend differs per row', (s) => batchNorm(s, s.b.node('Gemm', [s.x(3, 5), s.w(5, 4), s.w(3, 4)], GEMM), 4), 'Gemm BatchNormalization'],
    ['scale before a padded, grouped Conv', (s) => s.b.node('Conv', [s.b.node('Mul', [s.x(1, 4, 5, 5), s.w(4, 1, 1)], {}), s.w(6, 2, 3, 3)], { ...CONV, group: 2, pads: [1, 1, 1, 1] }), 'Conv'],
    ['c / x before a Conv stays', (s) => s.b.node('Conv', [s.b.node('Div', [s.n(2), s.b.node('Exp', [s.x(1, 2, 5, 5)], {})], {}), s.w(4, 2, 3, 3)], CONV), 'Exp Div Conv'],
  ]);

  it('unions origins and keeps the output’s name', async () => {
    const { graph } = await applyPass(foldLinear, sketch((s) => s.b.node('Mul', [s.n(2), conv(s)], {}, { name: 'scale' })));
    expect(graph.nodes[0]).toMatchObject({ origins: ['Conv_0', 'scale'], outputs: ['scale'] });
  });

  it('leaves float16 weights that would overflow', async () => {
    const graph = sketch(({ b }) => {
      const image = b.input('x', { dtype: 'float16', dims: [1, 1, 3, 3] });
      const w = b.constant(fromNumbers('float16', [1, 1, 3, 3], Array.from({ length: 9 }, () => 60000)));
      return b.node('Mul', [b.node('Conv', [image, w], CONV), b.constant(fromNumbers('float16', [], [8]))], {});
    });
    const result = await foldLinear.run(graph, { target: 'onnx', fusion: 'on', fold: undefined });
    expect(result.graph).toBe(graph);
  });
});

describe('pads', () => {
  const pads = [0, 0, 1, 2, 0, 0, 3, 0];
  const average = { ...POOL, kernel_shape: [4, 4], count_include_pad: 0 } as const;
  const max = { ...POOL, kernel_shape: [4, 4], storage_order: 0 } as const;
  const minusInfinity = Number.NEGATIVE_INFINITY;
  testRows(foldPads, [
    ['zeros into Conv', ({ b, x, w, ints }) => b.node('Conv', [b.node('Pad', [x(1, 2, 5, 5), ints(...pads)], { mode: 'constant' }), w(4, 2, 3, 3)], { ...CONV, pads: [1, 0, 0, 1] }), 'Conv'],
    ['zeros on chosen axes into Conv', ({ b, x, w, n, ints }) => b.node('Conv', [b.node('Pad', [x(1, 2, 5, 5), ints(1, 2), n(0), ints(-1)], { mode: 'constant' }), w(4, 2, 3, 3)], CONV), 'Conv'],
    ['ones stay', ({ b, x, w, n, ints }) => b.node('Conv', [b.node('Pad', [x(1, 2, 5, 5), ints(...pads), n(1)], { mode: 'constant' }), w(4, 2, 3, 3)], CONV), 'Pad Conv'],
    ['reflection stays', ({ b, x, w, ints }) => b.node('Conv', [b.node('Pad', [x(1, 2, 5, 5), ints(...pads)], { mode: 'reflect' }), w(4, 2, 3, 3)], CONV), 'Pad Conv'],
    ['padded channels stay', ({ b, x, w, ints }) => b.node('Conv', [b.node('Pad', [x(1, 1, 5, 5), ints(0, 1, 0, 0, 0, 0, 0, 0)], { mode: 'constant' }), w(4, 2, 3, 3)], CONV), 'Pad Conv'],
    ['cropping stays', ({ b, x, w, ints }) => b.node('Conv', [b.node('Pad', [x(1, 2, 5, 5), ints(0, 0, -1, 0, 0, 0, 0, 0)], { mode: 'constant' }), w(4, 2, 3, 3)], CONV), 'Pad Conv'],
    ['zeros into AveragePool', ({ b, x, ints }) => b.node('AveragePool', [b.node('Pad', [x(1, 2, 6, 6), ints(...pads)], { mode: 'constant' })], average), 'AveragePool'],
    ['zeros into AveragePool that leaves its own pads out stay', ({ b, x, ints }) => b.node('AveragePool', [b.node('Pad', [x(1, 2, 6, 6), ints(0, 0, 1, 1, 0, 0, 1, 1)], { mode: 'constant' })], { ...average, pads: [1, 1, 1, 1] }), 'Pad AveragePool'],
    ['−∞ into MaxPool', ({ b, x, n, ints }) => b.node('MaxPool', [b.node('Pad', [x(1, 2, 6, 6), ints(...pads), n(minusInfinity)], { mode: 'constant' })], max), 'MaxPool'],
    ['zeros into MaxPool stay', ({ b, x, ints }) => b.node('MaxPool', [b.node('Pad', [x(1, 2, 6, 6), ints(...pads)], { mode: 'constant' })], max), 'Pad MaxPool'],
    ['pads as wide as the window stay', ({ b, x, n, ints }) => b.node('MaxPool', [b.node('Pad', [x(1, 2, 6, 6), ints(...pads), n(minusInfinity)], { mode: 'constant' })], { ...max, kernel_shape: [3, 3] }), 'Pad MaxPool'],
  ]);
});

describe('MatMul + Add', () => {
  testRows(foldLinear, [
    ['matrices and a row', ({ b, x, w }) => b.node('Add', [b.node('MatMul', [x(3, 5), w(5, 4)], {}), w(4)], {}), 'Gemm'],
    ['the addend first, and not constant', ({ b, x, w }) => b.node('Add', [x(3, 4), b.node('MatMul', [x(3, 5), w(5, 4)], {})], {}), 'Gemm'],
    ['and then BatchNorm', (s) => batchNorm(s, s.b.node('Add', [s.b.node('MatMul', [s.x(3, 5), s.w(5, 4)], {}), s.w(4)], {}), 4), 'Gemm'],
    ['after a scale', ({ b, x, w }) => b.node('Add', [b.node('Mul', [b.node('MatMul', [x(3, 5), w(5, 4)], {}), w(4)], {}), w(4)], {}), 'Gemm'],
    ['a batch stays', ({ b, x, w }) => b.node('Add', [b.node('MatMul', [x(2, 3, 5), w(5, 4)], {}), w(4)], {}), 'MatMul Add'],
    ['an addend that broadcasts the product stays', ({ b, x, w }) => b.node('Add', [b.node('MatMul', [x(3, 5), w(5, 4)], {}), w(2, 1, 1)], {}), 'MatMul Add'],
    ['a product that is read elsewhere stays', ({ b, x, w }) => { const y = b.node('MatMul', [x(3, 5), w(5, 4)], {}); return [b.node('Add', [y, w(4)], {}), b.node('Relu', [y], {})]; }, 'MatMul Add Relu'],
  ]);
});

describe('transposes', () => {
  const NHWC = { perm: [0, 2, 3, 1] };
  const NCHW = { perm: [0, 3, 1, 2] };
  testRows(transposes, [
    ['cancel', ({ b, x }) => b.node('Relu', [b.node('Transpose', [b.node('Transpose', [x(1, 2, 3, 4)], NHWC)], NCHW)], {}), 'Relu'],
    ['compose', ({ b, x }) => b.node('Transpose', [b.node('Transpose', [x(1, 2, 3, 4)], NHWC)], NHWC), 'Transpose'],
    ['cancel across elementwise ops and constants per channel', ({ b, x, w, n }) => b.node('Transpose', [b.node('Mul', [b.node('Relu', [b.node('Add', [b.node('Transpose', [x(1, 2, 3, 4)], NHWC), w(2)], {})], {}), n(2)], {})], NCHW), 'Add Relu Mul'],
    ['merge below an addition', ({ b, x }) => b.node('Add', [b.node('Transpose', [x(2, 3)], { perm: [1, 0] }), b.node('Transpose', [x(2, 3)], { perm: [1, 0] })], {}), 'Add Transpose'],
    ['merge below Concat, whose axis moves', ({ b, x }) => b.node('Concat', [b.node('Transpose', [x(1, 2, 3, 4)], NHWC), b.node('Transpose', [x(1, 5, 3, 4)], NHWC)], { axis: -1 }), 'Concat Transpose'],
    ['cancel across Softmax, whose axis moves', ({ b, x }) => b.node('Transpose', [b.node('Softmax', [b.node('Transpose', [x(1, 2, 3, 4)], NHWC)], { axis: 3 })], NCHW), 'Softmax'],
    ['different ones stay', ({ b, x }) => b.node('Add', [b.node('Transpose', [x(3, 3)], { perm: [1, 0] }), x(3, 3)], {}), 'Transpose Add'],
    ['with nothing to meet below stay', ({ b, x }) => b.node('Relu', [b.node('Transpose', [x(2, 3)], { perm: [1, 0] })], {}), 'Transpose Relu'],
    ['between views that merge the leading axes', ({ b, x, ints }) => b.node('Reshape', [b.node('Transpose', [b.node('Reshape', [x(2, 3, 4, 5), ints(6, 4, 5)], { allowzero: 0 })], { perm: [0, 2, 1] }), ints(2, 3, 5, 4)], { allowzero: 0 }), 'Transpose'],
    ['between views of other leading axes', ({ b, x, ints }) => b.node('Reshape', [b.node('Transpose', [b.node('Reshape', [x(1, 6, 4, 5), ints(6, 4, 5)], { allowzero: 0 })], { perm: [0, 2, 1] }), ints(2, 3, 5, 4)], { allowzero: 0 }), 'Reshape Transpose'],
    ['between views that regroup stay', ({ b, x, ints }) => b.node('Reshape', [b.node('Transpose', [b.node('Reshape', [x(2, 3, 4, 5), ints(6, 5, 4)], { allowzero: 0 })], { perm: [0, 2, 1] }), ints(2, 3, 2, 10)], { allowzero: 0 }), 'Reshape Transpose Reshape'],
    ['into Gemm, both sides', ({ b, x }) => b.node('Gemm', [b.node('Transpose', [x(5, 3)], { perm: [1, 0] }), b.node('Transpose', [x(5, 4)], { perm: [1, 0] })], { ...GEMM, transB: 1 }), 'Gemm'],
  ]);
});
