import { describe, expect, it } from 'vitest';
import { executedLayers } from '../../../src/backends/onnxruntime/executed.ts';
import { fromNumbers } from '../../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../../src/ops/builder.ts';
import { nodeCost } from '../../../src/ops/infer.ts';

describe('executedLayers', () => {
  const builder = newGraphBuilder('g');
  builder.input('x', { dtype: 'float32', dims: [1, 4, 8, 8] });
  const attrs = { auto_pad: 'NOTSET', dilations: [1, 1], group: 1, kernel_shape: [1, 1], pads: [0, 0, 0, 0], strides: [1, 1] } as const;
  const w = builder.constant(fromNumbers('float32', [4, 4, 1, 1], Array.from({ length: 16 }, () => 1)), 'w');
  const c = builder.node('Conv', ['x', w], attrs, { name: 'conv', outputs: ['c'], origins: ['conv'] });
  const graph = builder.finish([builder.node('Relu', [c], {}, { name: 'relu', outputs: ['r'], origins: ['relu'] })]);
  const layer = (name: string, op: string, output: string) => executedLayers(graph, [{ name, op, domain: '', inputs: ['x'], outputs: [output] }])[0]!;
  const [conv, relu] = graph.nodes.map((node) => nodeCost(graph, node).flops);

  it('knows a node by its name, also with what onnxruntime appends', () => {
    expect(layer('conv', 'Conv', 'c')).toMatchObject({ flops: conv, origins: ['conv'] });
    expect(layer('conv_nchwc', 'Conv', 'c')).toMatchObject({ flops: conv, origins: ['conv'] });
  });

  it('knows one in blocked channels by the value that it gives, with the convolution before an activation', () => {
    expect(layer('c_nchwc', 'Conv', 'c_reordered')).toMatchObject({ flops: conv, origins: ['conv'], precision: 'float32' });
    expect(layer('r_nchwc', 'Conv', 'r_reordered')).toMatchObject({ flops: conv! + relu!, origins: ['conv', 'relu'] });
    expect(layer('r_nchwc', 'Relu', 'r_reordered')).toMatchObject({ flops: relu, origins: ['relu'] });
  });
});
