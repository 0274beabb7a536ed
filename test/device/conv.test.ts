/** Convolution kernels on SwiftShader against float64. */
import { describe, expect, it } from 'vitest';
import type { Expr } from '../../src/ir/expr.ts';
import { elementCount, fromNumbers } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { distance, noDevice, noise, runGraph } from './helpers.ts';
import { conv, type ConvCase, convDims, convTranspose } from './references.ts';

const tolerance = { absolute: 2e-5, relative: 1e-5 };

const base = { strides: [1, 1], pads: [0, 0, 0, 0], dilations: [1, 1], group: 1 };
const CASES: Readonly<Record<string, ConvCase>> = {
  'pointwise': { ...base, x: [2, 8, 5, 4], w: [12, 8, 1, 1] },
  'pointwise with stride': { ...base, x: [1, 8, 7, 7], w: [8, 8, 1, 1], strides: [2, 2] },
  '3x3 with padding': { ...base, x: [1, 4, 6, 5], w: [8, 4, 3, 3], pads: [1, 1, 1, 1] },
  'uneven pads and strides': { ...base, x: [2, 4, 7, 9], w: [4, 4, 3, 2], pads: [0, 1, 2, 1], strides: [2, 3] },
  'dilation': { ...base, x: [1, 4, 9, 9], w: [4, 4, 3, 3], pads: [2, 2, 2, 2], dilations: [2, 2] },
  'image of three channels (read as it lies)': { ...base, x: [1, 3, 9, 8], w: [6, 3, 3, 3], pads: [1, 1, 1, 1], strides: [2, 2] },
  'channels that need padding': { ...base, x: [1, 5, 4, 4], w: [7, 5, 3, 3], pads: [1, 1, 1, 1] },
  'one channel': { ...base, x: [1, 1, 5, 5], w: [1, 1, 3, 3] },
  'more columns than a tile, depth tail': { ...base, x: [1, 20, 3, 3], w: [68, 20, 1, 1] },
  'groups of whole vectors': { ...base, x: [1, 8, 4, 4], w: [16, 4, 3, 3], group: 2, pads: [1, 1, 1, 1] },
  'groups of odd size': { ...base, x: [2, 6, 4, 4], w: [9, 2, 3, 3], group: 3, pads: [1, 1, 1, 1] },
  'depthwise': { ...base, x: [2, 8, 6, 6], w: [8, 1, 3, 3], group: 8, pads: [1, 1, 1, 1], strides: [2, 2] },
  'depthwise with padding lanes': { ...base, x: [1, 6, 5, 5], w: [6, 1, 5, 5], group: 6, pads: [2, 2, 2, 2] },
  'depthwise with a multiplier': { ...base, x: [1, 4, 5, 5], w: [8, 1, 3, 3], group: 4 },
  'large depthwise window (loops)': { ...base, x: [1, 4, 9, 9], w: [4, 1, 9, 9], group: 4, pads: [4, 4, 4, 4] },
  '1-D': { x: [2, 6, 11], w: [4, 6, 3], strides: [2], pads: [1, 1], dilations: [1], group: 1 },
  '3-D': { x: [1, 4, 3, 4, 5], w: [4, 4, 2, 2, 2], strides: [1, 1, 1], pads: [0, 0, 0, 1, 1, 1], dilations: [1, 1, 1], group: 1 },
  'split depth': { ...base, x: [1, 64, 3, 3], w: [16, 64, 3, 3], pads: [1, 1, 1, 1] },
};

function attrsOf(test: ConvCase) {
  return { auto_pad: 'NOTSET', dilations: test.dilations, group: test.group, kernel_shape: test.w.slice(2), pads: test.pads, strides: test.strides } as const;
}

describe.skipIf(noDevice)('convolutions (skipped without SwiftShader)', () => {
  it.each(Object.entries(CASES))('%s', async (_, test) => {
    const graph = newGraphBuilder('conv');
    graph.input('x', { dtype: 'float32', dims: test.x });
    const [x, w, b] = [noise(elementCount(test.x), 1), noise(elementCount(test.w), 2), noise(test.w[0]!, 3)];
    const weights = [graph.constant(fromNumbers('float32', test.w, w)), graph.constant(fromNumbers('float32', [test.w[0]!], b))];
    const y = graph.node('Conv', ['x', ...weights], attrsOf(test), { outputs: ['y'] });
    const outputs = await runGraph(graph.finish([y]), { x: fromNumbers('float32', test.x, x) });
    expect(outputs['y']!.dims).toEqual(convDims(test));
    expect(distance(outputs['y']!, conv(test, x, w, b), tolerance)).toBeLessThan(1);
  });

  it('adds a residual and a gate per channel in the epilogue', async () => {
    const test: ConvCase = { ...base, x: [2, 6, 4, 3], w: [6, 6, 3, 3], pads: [1, 1, 1, 1] };
    const dims = convDims(test);
    const graph = newGraphBuilder('fused');
    graph.input('x', { dtype: 'float32', dims: test.x });
    graph.input('residual', { dtype: 'float32', dims });
    graph.input('gate', { dtype: 'float32', dims: [2, 6, 1, 1] });
    const [x, w, residual, gate] = [noise(elementCount(test.x), 1), noise(elementCount(test.w), 2), noise(elementCount(dims), 3), noise(12, 4)];
    const input = (index: number): Expr => ({ kind: 'input', index, dtype: 'float32' });
    const gated: Expr = { kind: 'binary', fn: 'mul', a: input(0), b: input(2) };
    const sum: Expr = { kind: 'binary', fn: 'add', a: gated, b: input(1) };
    const epilogue: Expr = { kind: 'binary', fn: 'max', a: sum, b: { kind: 'const', value: 0, dtype: 'float32' } };
    const weights = graph.constant(fromNumbers('float32', test.w, w));
    const y = graph.node('FusedConv', ['x', weights, '', 'residual', 'gate'], { ...attrsOf(test), epilogue }, { outputs: ['y'] });
    const outputs = await runGraph(graph.finish([y]), {
      x: fromNumbers('float32', test.x, x),
      residual: fromNumbers('float32', dims, residual),
      gate: fromNumbers('float32', [2, 6, 1, 1], gate),
    });
    const expected = conv(test, x, w).map((value, i) => Math.max(0, value * gate[Math.floor(i / 12)]! + residual[i]!));
    expect(distance(outputs['y']!, expected, tolerance)).toBeLessThan(1);
  });

  it('chains layouts: image, convolutions with padded channels, elementwise, output', async () => {
    const [first, second]: ConvCase[] = [
      { ...base, x: [1, 3, 6, 6], w: [5, 3, 3, 3], pads: [1, 1, 1, 1] },
      { ...base, x: [1, 5, 6, 6], w: [5, 5, 1, 1] },
    ];
    const graph = newGraphBuilder('chain');
    graph.input('x', { dtype: 'float32', dims: first!.x });
    const [x, w1, w2] = [noise(elementCount(first!.x), 1), noise(elementCount(first!.w), 2), noise(elementCount(second!.w), 3)];
    const a = graph.node('Conv', ['x', graph.constant(fromNumbers('float32', first!.w, w1))], attrsOf(first!));
    // exp(0) is not 0: the padding lanes must be masked, or the second convolution sums them.
    const e = graph.node('Exp', [a], {});
    const c = graph.node('Conv', [e, graph.constant(fromNumbers('float32', second!.w, w2))], attrsOf(second!));
    const y = graph.node('Add', [c, a], {}, { outputs: ['y'] });
    const outputs = await runGraph(graph.finish([y]), { x: fromNumbers('float32', first!.x, x) });
    const inner = conv(first!, x, w1);
    const outer = conv(second!, inner.map(Math.exp), w2);
    expect(distance(outputs['y']!, outer.map((value, i) => value + inner[i]!), { absolute: 1e-4, relative: 1e-4 })).toBeLessThan(1);
  });

  it.each([
    [{ ...base, x: [1, 4, 3, 3], w: [4, 6, 3, 3], strides: [2, 2], pads: [1, 1, 1, 1], y: [1, 6, 5, 5] }],
    [{ ...base, x: [2, 6, 3, 4], w: [6, 4, 2, 2], strides: [2, 2], y: [2, 4, 6, 8] }],
    [{ ...base, x: [1, 4, 4, 4], w: [4, 2, 3, 3], group: 2, dilations: [2, 1], strides: [1, 3], y: [1, 4, 8, 12] }],
  ])('transposes %j', async (test) => {
    const graph = newGraphBuilder('transposed');
    graph.input('x', { dtype: 'float32', dims: test.x });
    const [x, w] = [noise(elementCount(test.x), 1), noise(elementCount(test.w), 2)];
    const weights = graph.constant(fromNumbers('float32', test.w, w));
    const y = graph.node('ConvTranspose', ['x', weights], { ...attrsOf(test), output_padding: [0, 0] }, { outputs: ['y'] });
    const outputs = await runGraph(graph.finish([y]), { x: fromNumbers('float32', test.x, x) });
    expect(outputs['y']!.dims).toEqual(test.y);
    expect(distance(outputs['y']!, convTranspose(test, x, w), tolerance)).toBeLessThan(1);
  });
});
