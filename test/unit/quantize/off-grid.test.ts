import { describe, expect, it } from 'vitest';
import { verifyGraph } from '../../../src/ir/verify.ts';
import type { Graph } from '../../../src/ir/graph.ts';
import { OP_RULES } from '../../../src/ops/builder.ts';
import { gates, net, quantizeNet, snrDb } from './networks.ts';

const onGrids = (graph: Graph): readonly string[] => graph.nodes.filter(({ op }) => op === 'QuantizeLinear').map(({ name }) => name.replace('_QuantizeLinear', ''));

describe('values off the grid', () => {
  it('are sums before their activation, its gate, and what only reals are made of', async () => {
    const original = gates();
    const [fused, apart] = [await quantizeNet(original, { fused: true }), await quantizeNet(original)];
    verifyGraph(fused.graph, { stage: 'onnx', rules: OP_RULES });
    expect(onGrids(fused.graph)).toEqual(['x', 'swish', 'hard']);
    expect(onGrids(apart.graph)).toHaveLength(7);
    expect(await snrDb(original, fused.graph)).toBeGreaterThan((await snrDb(original, apart.graph)) + 2);
  });

  it('are not what is an output too', async () => {
    const whole = gates();
    const { graph } = await quantizeNet({ ...whole, outputs: [...whole.outputs, 'sums'] }, { fused: true });
    expect(onGrids(graph)).toHaveLength(5);
    expect(onGrids(graph)).toContain('gate');
  });

  it('a ReLU before reals stays, since no grid saturates for it', async () => {
    const { b, conv } = net();
    const x = b.input('x', { dtype: 'float32', dims: [2, 3, 8, 8] });
    const original = b.finish([b.node('Relu', [conv(x, 8, 3)], {})]);
    const { graph, absorbed } = await quantizeNet(original, { fused: true });
    expect([onGrids(graph), absorbed]).toEqual([['x'], 0]);
    expect(await snrDb(original, graph)).toBeGreaterThan(30);
  });
});
