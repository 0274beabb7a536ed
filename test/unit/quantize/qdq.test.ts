import { describe, expect, it } from 'vitest';
import { optimizedNodes } from '../../../src/backends/onnxruntime/optimized.ts';
import type { Graph } from '../../../src/ir/graph.ts';
import { fromNumbers, toNumbers } from '../../../src/ir/tensor.ts';
import { verifyGraph } from '../../../src/ir/verify.ts';
import { exportDivided } from '../../../src/onnx/export.ts';
import { OP_RULES } from '../../../src/ops/builder.ts';
import { CALIBRATION_METHODS } from '../../../src/quantize/calibrators.ts';
import { runGraph } from '../../helpers/ort.ts';
import { everyOp, GEMM, net, pictures, quantizeNet, snrDb } from './networks.ts';

/** How many nodes of each op onnxruntime executes, without its own quantization of float nodes between int8 ones. */
async function executed(graph: Graph): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const { op } of await optimizedNodes(exportDivided(graph), { executionProviders: ['cpu'], graphOptimizationLevel: 'all', logSeverityLevel: 4, extra: { optimization: { disable_specified_optimizers: 'WeightBiasQuantization' } } })) {
    counts[op] = (counts[op] ?? 0) + 1;
  }
  return counts;
}

describe('Q/DQ writer', () => {
  it('writes a graph of which onnxruntime leaves nothing but the border in float', async () => {
    const { graph, absorbed } = await quantizeNet(everyOp());
    verifyGraph(graph, { stage: 'onnx', rules: OP_RULES });
    expect(absorbed).toBe(5);
    const { Transpose: _layout, ...rest } = await executed(graph);
    expect(rest).toEqual({
      QuantizeLinear: 1,
      QLinearConv: 6,
      NhwcMaxPool: 1,
      QLinearAdd: 1,
      QLinearAveragePool: 1,
      Resize: 1,
      QLinearConcat: 1,
      QLinearGlobalAveragePool: 1,
      Reshape: 1,
      QGemm: 1,
    });
  });

  it.each(CALIBRATION_METHODS)('stays close to float with %s', async (method) => {
    const original = everyOp();
    const { graph } = await quantizeNet(original, { method });
    expect(graph.inputs).toEqual(original.inputs);
    expect(graph.outputs).toEqual(original.outputs);
    expect(await snrDb(original, graph)).toBeGreaterThan(method === 'entropy' ? 15 : 25);
  });

  it('weights take a quarter of their bytes, and a little for scales', async () => {
    const bytes = (graph: Graph) => [...graph.constants.values()].reduce((sum, tensor) => sum + tensor.data.byteLength, 0);
    const { b, conv } = net();
    const x = b.input('x', { dtype: 'float32', dims: [2, 64, 4, 4] });
    const original = b.finish([conv(conv(x, 64, 3), 64, 3)]);
    expect(bytes((await quantizeNet(original)).graph)).toBeLessThan(0.27 * bytes(original));
  });

  it('symmetric grids keep activations that they do not saturate', async () => {
    const original = everyOp();
    const { graph, absorbed } = await quantizeNet(original, { policy: { scheme: 'symmetric' } });
    verifyGraph(graph, { stage: 'onnx', rules: OP_RULES });
    expect(absorbed).toBe(0);
    expect(await snrDb(original, graph)).toBeGreaterThan(20);
    const quantizers = graph.nodes.filter((node) => node.op === 'QuantizeLinear');
    expect(new Set(quantizers.map((node) => graph.types.get(node.outputs[0]!)!.dtype))).toEqual(new Set(['int8']));
  });

  it('keeps what it is told to keep, by name or by ONNX origin', async () => {
    const original = everyOp();
    const convs = original.nodes.filter((node) => node.op === 'Conv');
    const { graph, placement } = await quantizeNet(original, { policy: { keep: new Set([convs[1]!.name]) } });
    expect(placement.roles.has(convs[1]!.name)).toBe(false);
    expect((await executed(graph))['QLinearConv']).toBe(5);
    expect(await snrDb(original, graph)).toBeGreaterThan(25);
  });

  it('keeps the first and the last product where the policy says so', async () => {
    const original = everyOp();
    const { placement } = await quantizeNet(original, { policy: { firstLayer: 'keep', lastLayer: 'keep' } });
    const products = original.nodes.filter((node) => node.op === 'Conv' || node.op === 'Gemm');
    expect(products.filter((node) => !placement.roles.has(node.name))).toEqual([products[0], products.at(-1)]);
  });

  it('a movement passes its grid through, a concatenation gives its parts its own', async () => {
    const { graph, placement } = await quantizeNet(everyOp());
    const shared = [...placement.sharedWith.keys()];
    expect(shared).toHaveLength(3);
    const scaleOf = (id: string): number => {
      const quantizer = graph.nodes.find((node) => node.outputs[0] === `${id}_quantized`)!;
      return toNumbers(graph.constants.get(quantizer.inputs[1]!)!)[0]!;
    };
    for (const [id, root] of placement.sharedWith) expect(scaleOf(id)).toBe(scaleOf(root));
  });

  it('an output that int8 nodes read as well is dequantized under its own name', async () => {
    const { b, conv } = net();
    const x = b.input('x', { dtype: 'float32', dims: [2, 4, 5, 5] });
    const middle = conv(x, 8, 3);
    const original = b.finish([conv(middle, 8, 3), middle]);
    const { graph } = await quantizeNet(original);
    verifyGraph(graph, { stage: 'onnx', rules: OP_RULES });
    expect(await snrDb(original, graph)).toBeGreaterThan(25);
  });

  it('bias correction removes the shift of the mean that rounding weights makes', async () => {
    const { b } = net();
    const x = b.input('x', { dtype: 'float32', dims: [2, 64] });
    // Weights all a bit above a half of a step round up together; the last one sets the scale.
    const row = [...Array.from({ length: 63 }, () => 0.0051), 1.27];
    const w = b.constant(fromNumbers('float32', [4, 64], [row, row, row, row].flat()));
    const one = b.node('Abs', [x], {});
    const original = b.finish([b.node('Gemm', [one, w, b.constant(fromNumbers('float32', [4], [0, 0, 0, 0]))], GEMM)]);
    const [plain, corrected] = await Promise.all([quantizeNet(original), quantizeNet(original, { biasCorrection: true })]);
    expect(await snrDb(original, corrected.graph)).toBeGreaterThan((await snrDb(original, plain.graph)) + 6);
  });

  it('leaves a graph without products alone', async () => {
    const { b } = net();
    const x = b.input('x', { dtype: 'float32', dims: [2, 3, 4, 4] });
    const original = b.finish([b.node('Relu', [x], {})]);
    const { graph, placement } = await quantizeNet(original);
    expect(placement.roles.size).toBe(0);
    const inputs = pictures(original, 1);
    expect(await runGraph(graph, inputs)).toEqual(await runGraph(original, inputs));
  });

  it('weights that hold NaN stay float', async () => {
    const { b } = net();
    const x = b.input('x', { dtype: 'float32', dims: [2, 2] });
    const w = b.constant(fromNumbers('float32', [2, 2], [1, Number.NaN, 2, 3]));
    expect((await quantizeNet(b.finish([b.node('MatMul', [x, w], {})]))).placement.roles.size).toBe(0);
  });
});
