/** Channels scaled before depthwise convolutions: the same function by onnxruntime, better int8, and no kernel more. */
import { describe, expect, it } from 'vitest';
import { evaluateConstants } from '../../../src/backends/onnxruntime/evaluate.ts';
import type { Graph, ValueId } from '../../../src/ir/graph.ts';
import { fromNumbers, toNumbers } from '../../../src/ir/tensor.ts';
import { runPasses } from '../../../src/passes/pipeline.ts';
import type { Calibration } from '../../../src/quantize/calibration.ts';
import { depthwiseInputs, scaleChannels } from '../../../src/quantize/channel-scales.ts';
import { DEFAULT_POLICY, placeInt8 } from '../../../src/quantize/placement.ts';
import { quantizeGraph } from '../../../src/quantize/quantize-graph.ts';
import { net, quantizeNet, snrDb } from './networks.ts';

type Between = 'nothing' | 'Relu' | 'Clip' | 'x·σ(x)';

/** Convolution, activation, depthwise, convolution. Channel i of the first is 2^(i % 9) times larger than the least, and its filter as much smaller. */
function unequal(between: Between, { alsoRead = false } = {}): Graph {
  const { b, conv, relu6 } = net(3);
  const x = b.input('x', { dtype: 'float32', dims: [2, 3, 10, 10] });
  const stem = conv(x, 16, 3);
  const activations: Record<Between, () => ValueId> = {
    nothing: () => stem,
    Relu: () => b.node('Relu', [stem], {}),
    Clip: () => relu6(stem),
    'x·σ(x)': () => b.node('Mul', [stem, b.node('Sigmoid', [stem], {})], {}),
  };
  const active = activations[between]();
  const filtered = conv(active, 16, 3, { group: 16 });
  const graph = b.finish([conv(alsoRead ? b.node('Add', [filtered, active], {}) : filtered, 16, 1)]);
  const [first, second] = graph.nodes.filter(({ op }) => op === 'Conv');
  const constants = new Map(graph.constants);
  const scaled = (id: string, sign: 1 | -1): void => {
    const { dims } = constants.get(id)!;
    const values = toNumbers(constants.get(id)!);
    constants.set(id, fromNumbers('float32', dims, values.map((value, i) => value * 2 ** (sign * ((Math.floor((i * 16) / values.length) % 9) - 5)))));
  };
  for (const id of first!.inputs.slice(1)) scaled(id, 1);
  scaled(second!.inputs[1]!, -1);
  return { ...graph, constants };
}

function int8(graph: Graph, tensors: Calibration['tensors'], fused: boolean): Graph {
  const calibration: Calibration = {
    kind: 'tsrt-bench calibration', formatVersion: 1, tool: '', model: { name: 'net', sha256: '' }, graph: { fusion: 'on', disabledPasses: [] },
    dataset: { description: 'seeded', samples: 8 }, method: 'minmax', scheme: 'affine', percentile: 99.99,
    quantization: { biasCorrection: true, equalization: false, firstLayer: 'int8', lastLayer: 'int8', keep: [] }, beyondHalf: [], tensors,
  };
  return quantizeGraph(graph, calibration, 'int8', { fused }).graph;
}

const withoutChannels = (tensors: Readonly<Calibration['tensors']>): Calibration['tensors'] => Object.fromEntries(
  Object.entries(tensors).map(([id, { range, seen, bulk, clippedShare, channelMeans }]) => [id, { range, seen, bulk, clippedShare, channelMeans }]),
);

describe('scaleChannels', () => {
  it.each(['nothing', 'Relu', 'Clip', 'x·σ(x)'] as const)('with %s between: the same function, and int8 that is better by far', async (between) => {
    const graph = unequal(between);
    const { tensors, placement } = await quantizeNet(graph, { biasCorrection: true });
    const scaled = scaleChannels(graph, placement, tensors, true);
    expect(Object.values(scaled.tensors).filter(({ channels }) => channels)).not.toHaveLength(0);
    // Where channels are clipped at 6 now, they were never seen to be.
    expect(await snrDb(graph, scaled.graph)).toBeGreaterThan(between === 'Clip' ? 40 : 110);
    const [plain, better] = await Promise.all([withoutChannels(tensors), { ...tensors }].map((each) => snrDb(graph, int8(graph, each, true))));
    expect(better! - plain!).toBeGreaterThan(10);
  });

  it('behind a gate, channels stay as they are for a runtime that passes integers from op to op', async () => {
    const graph = unequal('x·σ(x)');
    const { tensors, placement } = await quantizeNet(graph);
    expect(scaleChannels(graph, placement, tensors, false).graph).toBe(graph);
    const relu = unequal('Relu');
    const known = await quantizeNet(relu);
    expect(scaleChannels(relu, known.placement, known.tensors, false).graph.nodes.map(({ op }) => op)).toEqual(relu.nodes.map(({ op }) => op));
  });

  it('takes no kernel more on webgpu', async () => {
    const graph = unequal('x·σ(x)');
    const { tensors } = await quantizeNet(graph);
    const [plain, scaled] = await Promise.all(
      [withoutChannels(tensors), { ...tensors }].map(async (each) => (await runPasses(int8(graph, each, true), { target: 'webgpu', fusion: 'on', disabled: [], fold: evaluateConstants })).graph.nodes.map(({ op }) => op)),
    );
    expect(scaled).toEqual(plain);
    expect(scaled).toContain('QuantizedConv');
  });

  it('leaves alone what something else reads, what is an output, and depthwise convolutions in float', () => {
    const inputsOf = (graph: Graph, keep: readonly string[] = []) => [...depthwiseInputs(graph, placeInt8(graph, { ...DEFAULT_POLICY, keep: new Set(keep) })).keys()];
    const graph = unequal('Relu');
    const [id] = inputsOf(graph);
    expect(id).toBe(graph.nodes.find(({ op }) => op === 'Relu')!.outputs[0]);
    expect(inputsOf({ ...graph, outputs: [...graph.outputs, id!] })).toEqual([]);
    expect(inputsOf(graph, [graph.nodes.filter(({ op }) => op === 'Conv')[1]!.name])).toEqual([]);
    expect(inputsOf(unequal('Relu', { alsoRead: true }))).toEqual([]);
  });
});
