import { describe, expect, it } from 'vitest';
import type { Graph } from '../../../src/ir/graph.ts';
import { fromNumbers } from '../../../src/ir/tensor.ts';
import { formatExpr } from '../../../src/ir/print.ts';
import { batchNormToAffine } from '../../../src/passes/batch-norm.ts';
import { fuseAttention } from '../../../src/passes/fuse-attention.ts';
import { fuseProjections } from '../../../src/passes/fuse-projections.ts';
import { fuseSiblings } from '../../../src/passes/fuse-siblings.ts';
import { fuseShortcuts } from '../../../src/passes/fuse-shortcuts.ts';
import { fuseElementwise } from '../../../src/passes/fuse-elementwise.ts';
import { fuseConvEpilogues, fuseMatMulEpilogues } from '../../../src/passes/fuse-epilogue.ts';
import { verifyGraph } from '../../../src/ir/verify.ts';
import { OP_RULES } from '../../../src/ops/builder.ts';
import { applyPass, expectSame } from '../../helpers/passes.ts';
import { CONV, sketch, testRows, type Sketch } from '../../helpers/rules.ts';

const conv = ({ b, w }: Sketch, from: string): string => b.node('Conv', [from, w(4, 4, 1, 1), w(4)], { ...CONV, kernel_shape: [1, 1] });

describe('convolution epilogues', () => {
  testRows(fuseConvEpilogues, [
    ['an activation', (s) => s.b.node('Relu', [conv(s, s.x(1, 4, 3, 3))], {}), 'FusedConv'],
    ['nothing to take in', (s) => conv(s, s.x(1, 4, 3, 3)), 'Conv'],
    ['a residual on the right', (s) => { const i = s.x(1, 4, 3, 3); return s.b.node('Relu', [s.b.node('Add', [conv(s, i), i], {})], {}); }, 'FusedConv'],
    ['a residual on the left', (s) => { const i = s.x(1, 4, 3, 3); return s.b.node('Relu', [s.b.node('Sub', [i, conv(s, i)], {})], {}); }, 'FusedConv'],
    ['two convolutions added: one takes the other in', (s) => { const i = s.x(1, 4, 3, 3); return s.b.node('Relu', [s.b.node('Add', [conv(s, i), conv(s, i)], {})], {}); }, 'Conv FusedConv'],
    ['a diamond: x·σ(x)', (s) => { const y = conv(s, s.x(1, 4, 3, 3)); return s.b.node('Mul', [y, s.b.node('Sigmoid', [y], {})], {}); }, 'FusedConv'],
    ['a diamond whose middle is read late', (s) => { const y = conv(s, s.x(1, 4, 3, 3)); const e = s.b.node('Exp', [y], {}); return s.b.node('Div', [s.b.node('Mul', [y, s.b.node('Tanh', [e], {})], {}), s.b.node('Add', [e, s.n(1)], {})], {}); }, 'FusedConv'],
    ['a comparison and Where', (s) => { const y = conv(s, s.x(1, 4, 3, 3)); return s.b.node('Where', [s.b.node('Less', [y, s.n(0)], {}), s.n(0), y], {}); }, 'FusedConv'],
    ['an accumulator that is also an output', (s) => { const y = conv(s, s.x(1, 4, 3, 3)); return [y, s.b.node('Relu', [y], {})]; }, 'Conv Relu'],
    ['an accumulator that leaves the tree', (s) => { const y = conv(s, s.x(1, 4, 3, 3)); return s.b.node('Mul', [y, s.b.node('Sigmoid', [s.b.node('GlobalAveragePool', [y], {})], {})], {}); }, 'Conv GlobalAveragePool Sigmoid Mul'],
    ['stops where the tree is left', (s) => { const y = s.b.node('Relu', [conv(s, s.x(1, 4, 3, 3))], {}); return s.b.node('Mul', [y, s.b.node('Sigmoid', [s.b.node('GlobalAveragePool', [y], {})], {})], {}); }, 'FusedConv GlobalAveragePool Sigmoid Mul'],
    ['an operand that broadcasts the result', (s) => s.b.node('Add', [conv(s, s.x(1, 4, 3, 3)), s.x(2, 1, 1, 1)], {}), 'Conv Add'],
    ['a result of another type', (s) => s.b.node('Cast', [conv(s, s.x(1, 4, 3, 3))], { to: 'int32', saturate: 1 }), 'Conv Cast'],
    ['a type that comes back', (s) => s.b.node('Cast', [s.b.node('Greater', [conv(s, s.x(1, 4, 3, 3)), s.n(0)], {})], { to: 'float32', saturate: 1 }), 'FusedConv'],
    ['a reader that is not elementwise', (s) => s.b.node('Softmax', [conv(s, s.x(1, 4, 3, 3))], { axis: 1 }), 'Conv Softmax'],
    ['more operands than bindings', (s) => Array.from({ length: 6 }).reduce<string>((y) => s.b.node('Add', [y, s.x(1, 4, 3, 3)], {}), conv(s, s.x(1, 4, 3, 3))), 'FusedConv Add Add'],
  ]);

  it('numbers operands after the accumulator, and unions origins', async () => {
    const graph = sketch((s) => { const i = s.x(1, 4, 3, 3); return s.b.node('Relu', [s.b.node('Add', [i, conv(s, i)], {}, { name: 'sum' })], {}, { name: 'act' }); });
    const [node] = (await applyPass(fuseConvEpilogues, graph)).graph.nodes;
    expect(node).toMatchObject({ op: 'FusedConv', origins: ['Conv_0', 'sum', 'act'], outputs: ['act'] });
    expect(node!.op === 'FusedConv' && formatExpr(node!.attrs.epilogue)).toBe('max((x1 + x0), 0)');
  });
});

describe('convolutions of one image', () => {
  const branch = ({ b, w }: Sketch, from: string, out: number, size = 1): string => b.node('Conv', [from, w(out, 4, size, size), w(out)], { ...CONV, kernel_shape: [size, size] });
  const read = ({ b, w }: Sketch, from: string, channels: number): string => b.node('Conv', [from, w(4, channels, 1, 1)], { ...CONV, kernel_shape: [1, 1] });
  testRows(fuseSiblings, [
    ['of equal filters, read by convolutions', (s) => { const i = s.x(1, 4, 3, 3); return [read(s, branch(s, i, 16), 16), read(s, branch(s, i, 32), 32)]; }, 'Conv Slice Conv Slice Conv'],
    ['three of them', (s) => { const i = s.x(1, 4, 3, 3); return [16, 16, 32].map((out) => read(s, branch(s, i, out), out)); }, 'Conv Slice Conv Slice Conv Slice Conv'],
    ['of other filters', (s) => { const i = s.x(1, 4, 3, 3); return [read(s, branch(s, i, 16), 16), read(s, branch(s, i, 16, 3), 16)]; }, 'Conv Conv Conv Conv'],
    ['of channels that are no whole vectors', (s) => { const i = s.x(1, 4, 3, 3); return [read(s, branch(s, i, 16), 16), read(s, branch(s, i, 20), 20)]; }, 'Conv Conv Conv Conv'],
    ['of which one is joined to others', (s) => { const i = s.x(1, 4, 3, 3); return [read(s, branch(s, i, 16), 16), s.b.node('Concat', [branch(s, i, 16), i], { axis: 1 })]; }, 'Conv Conv Conv Concat'],
    ['of which one is an output', (s) => { const i = s.x(1, 4, 3, 3); return [read(s, branch(s, i, 16), 16), branch(s, i, 16)]; }, 'Conv Conv Conv'],
    ['of two images', (s) => [read(s, branch(s, s.x(1, 4, 3, 3), 16), 16), read(s, branch(s, s.x(1, 4, 3, 3), 16), 16)], 'Conv Conv Conv Conv'],
  ]);
});

describe('projection shortcuts', () => {
  /** After epilogues were taken in, as in the pipeline. */
  const fused = async (draw: (s: Sketch) => string | string[]): Promise<Graph> => (await fuseConvEpilogues.run(sketch(draw), { target: 'webgpu', fusion: 'on', fold: undefined })).graph;
  const wide = ({ b, w }: Sketch, from: string): string => b.node('Conv', [from, w(8, 8, 1, 1), w(8)], { ...CONV, kernel_shape: [1, 1] });
  const cases: readonly (readonly [string, (s: Sketch) => string | string[], string])[] = [
    ['two convolutions added', (s) => { const i = s.x(1, 8, 3, 3); return s.b.node('Relu', [s.b.node('Add', [wide(s, i), wide(s, i)], {})], {}); }, 'FusedShortcut'],
    ['a sum that is scaled', (s) => { const i = s.x(1, 8, 3, 3); return s.b.node('Mul', [s.b.node('Add', [wide(s, i), wide(s, i)], {}), s.n(2)], {}); }, 'FusedShortcut'],
    ['a difference', (s) => { const i = s.x(1, 8, 3, 3); return s.b.node('Sub', [wide(s, i), wide(s, i)], {}); }, 'Conv FusedConv'],
    ['a shortcut that somebody else reads', (s) => { const i = s.x(1, 8, 3, 3); const y = wide(s, i); return [s.b.node('Relu', [s.b.node('Add', [wide(s, i), y], {})], {}), s.b.node('Softmax', [y], { axis: 1 })]; }, 'Conv FusedConv Softmax'],
    ['a shortcut that is activated', (s) => { const i = s.x(1, 8, 3, 3); return s.b.node('Add', [wide(s, i), s.b.node('Relu', [wide(s, i)], {})], {}); }, 'FusedConv FusedConv'],
    ['few channels', (s) => { const i = s.x(1, 4, 3, 3); return s.b.node('Add', [conv(s, i), conv(s, i)], {}); }, 'Conv FusedConv'],
  ];
  it.each(cases)('%s', async (_, draw, expected) => {
    const before = await fused(draw);
    const { graph } = await fuseShortcuts.run(before, { target: 'webgpu', fusion: 'on', fold: undefined });
    verifyGraph(graph, { stage: 'webgpu', rules: OP_RULES });
    await expectSame(before, graph);
    expect(graph.nodes.map(({ op }) => op).join(' ')).toBe(expected);
  });
});

describe('matrix product epilogues', () => {
  const GEMM = { alpha: 0.5, beta: 1, transA: 0, transB: 1 } as const;
  testRows(fuseMatMulEpilogues, [
    ['bias and activation', ({ b, x, w }) => b.node('Relu', [b.node('Add', [w(4), b.node('MatMul', [x(2, 3, 5), w(5, 4)], {})], {})], {}), 'FusedMatMul'],
    ['Gemm and activation', ({ b, x, w }) => b.node('Tanh', [b.node('Gemm', [x(3, 5), w(4, 5), w(4)], GEMM)], {}), 'FusedMatMul'],
    ['Gemm with a weighted addend stays', ({ b, x, w }) => b.node('Tanh', [b.node('Gemm', [x(3, 5), w(4, 5), w(4)], { ...GEMM, beta: 2 })], {}), 'Gemm Tanh'],
    ['a residual of the full shape', ({ b, x, w }) => b.node('Add', [b.node('MatMul', [x(2, 3, 5), w(5, 4)], {}), x(2, 3, 4)], {}), 'FusedMatMul'],
    ['a bias, then a residual', ({ b, x, w }) => b.node('Add', [x(2, 3, 4), b.node('Add', [b.node('MatMul', [x(2, 3, 5), w(5, 4)], {}), w(4)], {})], {}), 'FusedMatMul'],
    ['transposed operands', ({ b, x }) => b.node('MatMul', [b.node('Transpose', [x(2, 5, 3)], { perm: [0, 2, 1] }), b.node('Transpose', [x(2, 4, 5)], { perm: [0, 2, 1] })], {}), 'FusedMatMul'],
    ['an operand transposed otherwise stays', ({ b, x }) => b.node('MatMul', [b.node('Transpose', [x(3, 2, 5)], { perm: [1, 0, 2] }), x(2, 5, 4)], {}), 'Transpose MatMul'],
    ['a transpose that is read elsewhere stays', ({ b, x }) => { const t = b.node('Transpose', [x(5, 3)], { perm: [1, 0] }); return [b.node('MatMul', [t, x(5, 4)], {}), b.node('Relu', [t], {})]; }, 'Transpose MatMul Relu'],
    ['a vector operand stays', ({ b, x, w }) => b.node('Relu', [b.node('MatMul', [x(2, 5), w(5)], {})], {}), 'MatMul Relu'],
    ['a product alone stays', ({ b, x, w }) => b.node('MatMul', [x(2, 5), w(5, 4)], {}), 'MatMul'],
  ]);

  it('takes a number into the epilogue, not as a bias', async () => {
    const graph = sketch(({ b, x, w, n }) => b.node('Add', [b.node('MatMul', [x(3, 5), w(5, 4)], {}), n(3)], {}));
    const [node] = (await applyPass(fuseMatMulEpilogues, graph)).graph.nodes;
    expect(node!.inputs).toHaveLength(2);
    expect(node!.op === 'FusedMatMul' && formatExpr(node!.attrs.epilogue)).toBe('(x0 + 3)');
  });

  it('keeps a bias apart from the epilogue', async () => {
    const graph = sketch(({ b, x, w }) => b.node('Relu', [b.node('Add', [b.node('MatMul', [x(3, 5), w(5, 4)], {}), w(4)], {})], {}));
    const [node] = (await applyPass(fuseMatMulEpilogues, graph)).graph.nodes;
    expect(node!.inputs).toHaveLength(3);
    expect(node!.op === 'FusedMatMul' && formatExpr(node!.attrs.epilogue)).toBe('max(x0, 0)');
  });
});

describe('projections', () => {
  const view = ({ b, ints }: Sketch, from: string): string => b.node('Reshape', [from, ints(2, 3, 2, 4)], { allowzero: 0 });
  const dense = ({ b, w }: Sketch, x: string, from = 5): string => b.node('Add', [w(8), b.node('MatMul', [x, w(from, 8)], {})], {});
  /** Eight columns of integers with a step for each entry of an axis; of axis 0, where there are five, one for all. */
  const quantized = ({ b }: Sketch, axis: number, rows = 5): string => {
    const steps = axis === 0 && rows !== 8 ? [0.5] : Array.from({ length: 8 }, (_, i) => 0.25 + i / 8);
    const weights = b.constant(fromNumbers('int8', [rows, 8], Array.from({ length: rows * 8 }, (_, i) => ((i * 37) % 255) - 127)));
    return b.node('DequantizeLinear', [weights, b.constant(fromNumbers('float32', steps.length === 1 ? [] : [8], steps))], { axis, block_size: 0 });
  };
  /** Integers below `range`, with a step and a zero point for each block of 8 depths of 16. */
  const blocked = ({ b }: Sketch, range: number): string => {
    const integers = (dims: readonly number[], factor: number): string => b.constant(fromNumbers('uint8', dims, Array.from({ length: dims[0]! * dims[1]! }, (_, i) => (i * factor) % range)));
    return b.node('DequantizeLinear', [integers([16, 8], 37), b.constant(fromNumbers('float32', [2, 8], Array.from({ length: 16 }, (_, i) => (i + 1) / 64))), integers([2, 8], 5)], { axis: 0, block_size: 8 });
  };
  testRows(fuseProjections, [
    ['two of weights with steps by block', (s) => { const x = s.x(2, 3, 16); return [0, 1].map(() => view(s, s.b.node('MatMul', [x, blocked(s, 16)], {}))); }, 'DequantizeLinear MatMul Slice Reshape Slice Reshape'],
    ['weights of 4 and of 8 bits stay', (s) => { const x = s.x(2, 3, 16); return [16, 256].map((range) => view(s, s.b.node('MatMul', [x, blocked(s, range)], {}))); }, 'DequantizeLinear MatMul Reshape DequantizeLinear MatMul Reshape'],
    ['three with biases', (s) => { const x = s.x(2, 3, 5); return [0, 1, 2].map(() => view(s, dense(s, x))); }, 'MatMul Add Slice Reshape Slice Reshape Slice Reshape'],
    ['two of dequantized weights, a step for all and one for each column', (s) => { const x = s.x(2, 3, 5); return [0, 1].map((axis) => view(s, s.b.node('MatMul', [x, quantized(s, axis)], {}))); }, 'DequantizeLinear MatMul Slice Reshape Slice Reshape'],
    ['one of dequantized weights and one of floats stay', (s) => { const x = s.x(2, 3, 5); return [view(s, s.b.node('MatMul', [x, quantized(s, 1)], {})), view(s, s.b.node('MatMul', [x, s.w(5, 8)], {}))]; }, 'DequantizeLinear MatMul Reshape MatMul Reshape'],
    ['weights with a step for each row stay', (s) => { const x = s.x(2, 3, 8); return [0, 1].map(() => view(s, s.b.node('MatMul', [x, quantized(s, 0, 8)], {}))); }, 'DequantizeLinear MatMul Reshape DequantizeLinear MatMul Reshape'],
    ['two without', (s) => { const x = s.x(2, 3, 5); return [0, 1].map(() => view(s, s.b.node('MatMul', [x, s.w(5, 8)], {}))); }, 'MatMul Slice Reshape Slice Reshape'],
    ['one with a bias and one without stay', (s) => { const x = s.x(2, 3, 5); return [view(s, dense(s, x)), view(s, s.b.node('MatMul', [x, s.w(5, 8)], {}))]; }, 'MatMul Add Reshape MatMul Reshape'],
    ['of two inputs stay', (s) => [view(s, dense(s, s.x(2, 3, 5))), view(s, dense(s, s.x(2, 3, 5)))], 'MatMul Add Reshape MatMul Add Reshape'],
    ['one that an activation follows stays', (s) => { const x = s.x(2, 3, 5); return [view(s, dense(s, x)), s.b.node('Relu', [dense(s, x)], {})]; }, 'MatMul Add Reshape MatMul Add Relu'],
    ['results that are given out stay', (s) => { const x = s.x(2, 3, 5); return [dense(s, x), dense(s, x)]; }, 'MatMul Add MatMul Add'],
    ['parts of no whole vectors stay', (s) => { const x = s.x(2, 3, 5); const six = (): string => s.b.node('Reshape', [s.b.node('MatMul', [x, s.w(5, 6)], {}), s.ints(2, 3, 2, 3)], { allowzero: 0 }); return [six(), six()]; }, 'MatMul Reshape MatMul Reshape'],
  ]);
});

describe('attention', () => {
  const swap = { perm: [0, 1, 3, 2] };
  const weights = (s: Sketch, scores: string): string => s.b.node('Softmax', [scores], { axis: -1 });
  const masked = (s: Sketch): string => weights(s, s.b.node('Add', [s.b.node('MatMul', [s.x(1, 2, 3, 4), s.x(1, 2, 4, 5)], {}), s.x(1, 1, 3, 5)], {}));
  const orElse = (s: Sketch, id: string, value: number, dims: readonly number[]): string => s.b.node('Where', [s.b.node('IsNaN', [id], {}), s.b.constant(fromNumbers('float32', dims, [value])), id], {});
  testRows(fuseAttention, [
    ['scale by division, K transposed', (s) => { const k = s.b.node('Transpose', [s.x(1, 2, 5, 4)], swap); return s.b.node('MatMul', [weights(s, s.b.node('Div', [s.b.node('MatMul', [s.x(1, 2, 3, 4), k], {}), s.n(2)], {})), s.x(1, 2, 5, 6)], {}); }, 'FusedAttention'],
    ['scale split over Q and K, mask on the left', (s) => {
      const q = s.b.node('Mul', [s.x(1, 2, 3, 4), s.n(0.7)], {});
      const k = s.b.node('Mul', [s.b.node('Transpose', [s.x(1, 2, 5, 4)], swap), s.n(0.7)], {});
      return s.b.node('MatMul', [weights(s, s.b.node('Add', [s.x(1, 1, 1, 5), s.b.node('MatMul', [q, k], {})], {})), s.x(1, 2, 5, 6)], {});
    }, 'FusedAttention'],
    ['K given transposed', (s) => s.b.node('MatMul', [weights(s, s.b.node('MatMul', [s.x(1, 2, 3, 4), s.x(1, 2, 4, 5)], {})), s.x(1, 2, 5, 6)], {}), 'FusedAttention'],
    ['batch and heads in one axis, with a mask', (s) => s.b.node('MatMul', [weights(s, s.b.node('Add', [s.b.node('MatMul', [s.x(2, 3, 4), s.x(2, 4, 5)], {}), s.x(3, 5)], {})), s.x(2, 5, 6)], {}), 'Reshape Reshape Reshape FusedAttention Reshape'],
    ["zeros in place of NaN, as PyTorch's exporter of traces writes them", (s) => s.b.node('MatMul', [orElse(s, masked(s), 0, [1]), s.x(1, 2, 5, 6)], {}), 'FusedAttention'],
    ["zeros in place of NaN, as PyTorch's exporter of graphs writes them", (s) => s.b.node('MatMul', [orElse(s, masked(s), 0, []), s.x(1, 2, 5, 6)], {}), 'FusedAttention'],
    ['a zero of more axes stays', (s) => s.b.node('MatMul', [orElse(s, masked(s), 0, [1, 1, 1, 1, 1]), s.x(1, 2, 5, 6)], {}), 'MatMul Add Softmax IsNaN Where MatMul'],
    ['ones in place of NaN stay', (s) => s.b.node('MatMul', [orElse(s, masked(s), 1, []), s.x(1, 2, 5, 6)], {}), 'MatMul Add Softmax IsNaN Where MatMul'],
    ['weights that are read before NaN is replaced stay', (s) => { const p = masked(s); return [p, s.b.node('MatMul', [orElse(s, p, 0, []), s.x(1, 2, 5, 6)], {})]; }, 'MatMul Add Softmax IsNaN Where MatMul'],
    ['a mask before the scale stays', (s) => s.b.node('MatMul', [weights(s, s.b.node('Mul', [s.b.node('Add', [s.b.node('MatMul', [s.x(1, 2, 3, 4), s.x(1, 2, 4, 5)], {}), s.x(5)], {}), s.n(2)], {})), s.x(1, 2, 5, 6)], {}), 'MatMul Add Mul Softmax MatMul'],
    ['softmax over another axis stays', (s) => s.b.node('MatMul', [s.b.node('Softmax', [s.b.node('MatMul', [s.x(1, 2, 3, 4), s.x(1, 2, 4, 5)], {})], { axis: 2 }), s.x(1, 2, 5, 6)], {}), 'MatMul Softmax MatMul'],
    ['heads that are broadcast stay', (s) => s.b.node('MatMul', [weights(s, s.b.node('MatMul', [s.x(1, 2, 3, 4), s.x(1, 1, 4, 5)], {})), s.x(1, 2, 5, 6)], {}), 'MatMul Softmax MatMul'],
    ['weights that are read elsewhere stay', (s) => { const p = weights(s, s.b.node('MatMul', [s.x(1, 2, 3, 4), s.x(1, 2, 4, 5)], {})); return [p, s.b.node('MatMul', [p, s.x(1, 2, 5, 6)], {})]; }, 'MatMul Softmax MatMul'],
  ]);

  it('multiplies the scales', async () => {
    const graph = sketch((s) => {
      const q = s.b.node('Mul', [s.x(1, 2, 3, 4), s.n(3)], {});
      return s.b.node('MatMul', [weights(s, s.b.node('Div', [s.b.node('MatMul', [q, s.x(1, 2, 4, 5)], {}), s.n(12)], {})), s.x(1, 2, 5, 6)], {});
    });
    expect((await applyPass(fuseAttention, graph)).graph.nodes[0]!.attrs).toEqual({ scale: 0.25, softcap: 0, transposedK: 1, zeroEmptyRows: 0 });
  });
});

describe('elementwise trees', () => {
  testRows(fuseElementwise, [
    ['a chain', ({ b, x }) => b.node('Relu', [b.node('Exp', [b.node('Neg', [x(2, 3)], {})], {})], {}), 'FusedElementwise'],
    ['one op stays', ({ b, x }) => b.node('Relu', [x(2, 3)], {}), 'Relu'],
    ['a diamond', ({ b, x }) => { const e = b.node('Exp', [x(2, 3)], {}); return b.node('Mul', [b.node('Neg', [e], {}), b.node('Tanh', [e], {})], {}); }, 'FusedElementwise'],
    ['a tree with broadcasting', ({ b, x, w }) => b.node('Add', [b.node('Mul', [x(2, 3), w(3)], {}), b.node('Tanh', [x(2, 3)], {})], {}), 'FusedElementwise'],
    ['a smaller producer is computed once', ({ b, x }) => b.node('Relu', [b.node('Add', [x(2, 3), b.node('Exp', [x(3)], {})], {})], {}), 'Exp FusedElementwise'],
    ['a value that is read elsewhere is not computed twice', ({ b, x, ints }) => { const e = b.node('Exp', [x(2, 3)], {}); return [b.node('Relu', [b.node('Neg', [e], {})], {}), b.node('ReduceSum', [e, ints(0)], { keepdims: 1, noop_with_empty_axes: 0 })]; }, 'Exp FusedElementwise ReduceSum'],
    ['an output in the middle is kept', ({ b, x }) => { const e = b.node('Exp', [x(2)], {}); return [e, b.node('Relu', [b.node('Neg', [e], {})], {})]; }, 'Exp FusedElementwise'],
    ['no more inputs than bindings', ({ b, x }) => Array.from({ length: 8 }).reduce<string>((y) => b.node('Add', [y, x(2)], {}), x(2)), 'FusedElementwise FusedElementwise'],
    ['a number that gave the shape stays an input', ({ b, x, w }) => b.node('Relu', [b.node('Add', [x(3), w(1, 1)], {})], {}), 'Add Relu'],
    ['narrow integers stay', ({ b }) => { const i = b.input('i', { dtype: 'uint8', dims: [2] }); return b.node('Add', [b.node('Add', [i, i], {}), i], {}); }, 'Add Add'],
    ['integers to a fractional power', ({ b, n }) => b.node('Identity', [b.node('Pow', [b.input('i', { dtype: 'int32', dims: [2] }), n(0.5)], {})], {}), 'FusedElementwise'],
    ['infinities stay inputs', ({ b, x, n }) => b.node('Relu', [b.node('Min', [x(2), n(Number.POSITIVE_INFINITY)], {})], {}), 'FusedElementwise'],
    ['Clip with bounds from outside', ({ b, x }) => b.node('Clip', [b.node('Neg', [x(2)], {}), '', b.input('high', { dtype: 'float32', dims: [] })], {}), 'FusedElementwise'],
  ]);
});

describe('work is not done twice', () => {
  it.each<[string, (s: Sketch) => string[]]>([
    ['for a graph output', ({ b, x }) => { const e = b.node('Exp', [x(2)], {}, { outputs: ['e'] }); return [b.node('Relu', [b.node('Neg', [e], {})], {}), e]; }],
    ['for another reader', ({ b, x, ints }) => { const e = b.node('Exp', [x(2)], {}, { outputs: ['e'] }); return [b.node('Relu', [b.node('Neg', [e], {})], {}), b.node('ReduceSum', [e, ints(0)], { keepdims: 1, noop_with_empty_axes: 0 })]; }],
  ])('%s', async (_, draw) => {
    const fused = (await applyPass(fuseElementwise, sketch(draw))).graph.nodes.find((node) => node.op === 'FusedElementwise')!;
    expect(fused.inputs).toEqual(['e']);
    expect(fused.attrs.exprs.map(formatExpr)).toEqual(['max(neg(x0), 0)']);
  });
});

describe('BatchNormalization on its own', () => {
  testRows(batchNormToAffine, [
    ['becomes a product and a sum', ({ b, x, w, positive }) => b.node('BatchNormalization', [x(2, 3, 4, 4), w(3), w(3), w(3), positive(3)], { epsilon: 1e-5, momentum: 0.9, training_mode: 0 }), 'Mul Add'],
    ['of vectors', ({ b, x, w, positive }) => b.node('BatchNormalization', [x(2, 3), w(3), w(3), w(3), positive(3)], { epsilon: 1e-5, momentum: 0.9, training_mode: 0 }), 'Mul Add'],
    ['stays where a statistic is not constant', ({ b, x, w, positive }) => b.node('BatchNormalization', [x(2, 3), x(3), w(3), w(3), positive(3)], { epsilon: 1e-5, momentum: 0.9, training_mode: 0 }), 'BatchNormalization'],
  ]);
});
