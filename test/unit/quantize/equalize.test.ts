/** Cross-layer equalization against onnxruntime: the same function, and better int8 where channels were made unequal. */
import { describe, expect, it } from 'vitest';
import type { Graph } from '../../../src/ir/graph.ts';
import { fromNumbers, toNumbers, type Tensor } from '../../../src/ir/tensor.ts';
import { equalize } from '../../../src/quantize/equalize.ts';
import { runGraph } from '../../helpers/ort.ts';
import { net, pictures, POOL, quantizeNet } from './networks.ts';

/** Stem, depthwise, grouped; in `between`, the op after the stem. Channel i of the stem is 2^(i % spread) times larger, and its readers smaller. */
function unequal(spread: number, between: 'Relu' | 'Clip'): Graph {
  const { b, conv, relu6 } = net(3);
  const x = b.input('x', { dtype: 'float32', dims: [2, 3, 10, 10] });
  const stem = conv(x, 16, 3);
  const pooled = b.node('MaxPool', [between === 'Relu' ? b.node('Relu', [stem], {}) : relu6(stem)], { ...POOL, storage_order: 0 });
  const depthwise = conv(pooled, 16, 3, { group: 16 });
  const grouped = conv(b.node('Relu', [depthwise], {}), 32, 1, { group: 2 });
  const out = conv(b.node('Relu', [grouped], {}), 8, 1);
  const graph = b.finish([b.node('GlobalAveragePool', [out], {}, { outputs: ['y'] })]);
  const convs = graph.nodes.filter(({ op }) => op === 'Conv');
  const constants = new Map(graph.constants);
  const scaled = (id: string, factor: (index: number) => number): void => {
    const tensor = constants.get(id)!;
    const per = toNumbers(tensor).length / tensor.dims[0]!;
    constants.set(id, fromNumbers('float32', tensor.dims, toNumbers(tensor).map((value, i) => value * factor(Math.floor(i / per)))));
  };
  for (const id of convs[0]!.inputs.slice(1)) scaled(id, (channel) => 2 ** (channel % spread));
  scaled(convs[1]!.inputs[1]!, (channel) => 2 ** -(channel % spread));
  return { ...graph, constants };
}

const answer = async (graph: Graph, inputs: ReadonlyMap<string, Tensor>): Promise<readonly number[]> => toNumbers((await runGraph(graph, inputs)).get('y')!);

function snrDb(expected: readonly number[], actual: readonly number[]): number {
  const noise = expected.reduce((sum, value, i) => sum + (value - actual[i]!) ** 2, 0);
  return 10 * Math.log10(expected.reduce((sum, value) => sum + value * value, 0) / noise);
}

describe('equalization', () => {
  it('changes no answer, through ReLU, pools, depthwise and groups', async () => {
    const graph = unequal(8, 'Relu');
    const { graph: equal, pairs } = equalize(graph);
    expect(pairs).toBe(3);
    const inputs = pictures(graph, 1);
    expect(snrDb(await answer(graph, inputs), await answer(equal, inputs))).toBeGreaterThan(110);
    expect([...equal.types.keys()]).toEqual(expect.arrayContaining(graph.nodes.flatMap(({ outputs }) => outputs)));
  });

  it('makes the largest weights of a channel alike on both sides', () => {
    const { graph } = equalize(unequal(8, 'Relu'));
    const [stem, depthwise] = graph.nodes.filter(({ op }) => op === 'Conv').map(({ inputs }) => graph.constants.get(inputs[1]!)!);
    const largest = (tensor: Tensor, channel: number): number => {
      const per = toNumbers(tensor).length / 16;
      return Math.max(...toNumbers(tensor).slice(channel * per, (channel + 1) * per).map(Math.abs));
    };
    for (let channel = 0; channel < 16; channel++) expect(largest(stem!, channel) / largest(depthwise!, channel)).toBeCloseTo(1, 2);
  });

  it('int8 of channels that were made unequal is as good as before', async () => {
    const graph = unequal(10, 'Relu');
    const inputs = pictures(graph, 50);
    const expected = await answer(graph, inputs);
    const [plain, equal] = await Promise.all([graph, equalize(graph).graph].map(async (each) => snrDb(expected, await answer((await quantizeNet(each)).graph, inputs))));
    expect(equal! - plain!).toBeGreaterThan(6);
  });

  it('leaves channels alone across a ReLU6, across branches, and of channels that are zero', async () => {
    expect(equalize(unequal(8, 'Clip')).pairs).toBe(2);
    const { b, conv } = net(4);
    const x = b.input('x', { dtype: 'float32', dims: [1, 4, 6, 6] });
    const stem = conv(x, 8, 1);
    const branches = b.finish([b.node('Add', [conv(stem, 8, 3), stem], {}, { outputs: ['y'] })]);
    expect(equalize(branches).pairs).toBe(0);
    const dead = unequal(1, 'Relu');
    const id = dead.nodes.find(({ op }) => op === 'Conv')!.inputs[1]!;
    const constants = new Map(dead.constants).set(id, fromNumbers('float32', [16, 3, 3, 3], new Float32Array(432)));
    const inputs = pictures(dead, 2);
    expect(await answer(equalize({ ...dead, constants }).graph, inputs)).toEqual((await answer({ ...dead, constants }, inputs)).map((value) => expect.closeTo(value, 4)));
  });
});
