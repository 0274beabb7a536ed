/** Q/DQ by the habits of several quantizers: what the pass writes computes the same, and onnxruntime fuses it. */
import { describe, expect, it } from 'vitest';
import { optimizedNodes } from '../../../src/backends/onnxruntime/optimized.ts';
import { sessionOptions } from '../../../src/backends/onnxruntime/options.ts';
import { evaluateConstants } from '../../../src/backends/onnxruntime/evaluate.ts';
import type { Graph, ValueId } from '../../../src/ir/graph.ts';
import { fromNumbers, toNumbers } from '../../../src/ir/tensor.ts';
import { exportDivided } from '../../../src/onnx/export.ts';
import { newGraphBuilder } from '../../../src/ops/builder.ts';
import { unsignedActivations } from '../../../src/passes/complete-qdq.ts';
import { runPasses } from '../../../src/passes/pipeline.ts';
import { runGraph } from '../../helpers/ort.ts';
import { seededRandom } from '../../helpers/random.ts';
import { pictures } from '../quantize/networks.ts';

interface Habits {
  readonly activations: 'int8' | 'uint8';
  readonly weights: 'int8' | 'uint8' | 'float';
  readonly bias: 'float32' | 'int32';
  readonly scales: 'scalar' | 'vector';
  readonly zeros: 'written' | 'left out';
}

const Q = { axis: 1, block_size: 0, saturate: 1, output_dtype: undefined } as const;
const CONV = { auto_pad: 'NOTSET', dilations: [1, 1], group: 1, kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [1, 1] } as const;

/** y = relu(conv(relu(conv x)) + relu(conv x)), with a grid after every op. */
function block(habits: Habits): Graph {
  const b = newGraphBuilder('block');
  const random = seededRandom(3);
  const dims = habits.scales === 'vector' ? [1] : [];
  const grid = (step: number, zero: number): ValueId[] => {
    const scale = b.constant(fromNumbers('float32', dims, [step]));
    const signed = habits.activations === 'int8';
    return habits.zeros === 'left out' && zero === 0 && !signed ? [scale] : [scale, b.constant(fromNumbers(habits.activations, dims, [signed ? 0 : zero]))];
  };
  const round = (x: ValueId, step: number, zero: number): ValueId => {
    const own = grid(step, zero);
    return b.node('DequantizeLinear', [b.node('QuantizeLinear', [x, ...own], Q), ...own], { axis: 1, block_size: 0 });
  };
  const weights = (channels: number): ValueId => {
    const values = Array.from({ length: 16 * channels * 9 }, () => Math.round(254 * random() - 127));
    const scale = b.constant(fromNumbers('float32', [16], Array.from({ length: 16 }, () => 0.001 + 0.004 * random())));
    const dtype = habits.weights === 'uint8' ? 'uint8' : 'int8';
    const zero = b.constant(fromNumbers(dtype, [16], Array.from({ length: 16 }, () => (dtype === 'uint8' ? 128 : 0))));
    const shape = [16, channels, 3, 3];
    const raw =
      habits.weights === 'float'
        ? b.node('QuantizeLinear', [b.constant(fromNumbers('float32', shape, values.map((value) => value * 0.002))), scale, zero], { ...Q, axis: 0 })
        : b.constant(fromNumbers(dtype, shape, values.map((value) => (dtype === 'uint8' ? value + 128 : value))));
    return b.node('DequantizeLinear', [raw, scale, zero], { axis: 0, block_size: 0 });
  };
  const bias = (): ValueId => {
    if (habits.bias === 'float32') return b.constant(fromNumbers('float32', [16], Array.from({ length: 16 }, () => random() - 0.5)));
    const scale = b.constant(fromNumbers('float32', [16], Array.from({ length: 16 }, () => 2 ** -12)));
    return b.node('DequantizeLinear', [b.constant(fromNumbers('int32', [16], Array.from({ length: 16 }, () => Math.round(2000 * random())))), scale], { axis: 0, block_size: 0 });
  };
  const conv = (x: ValueId): ValueId => b.node('Conv', [x, weights(b.type(x).dims[1]!), bias()], CONV);
  const x = round(b.input('x', { dtype: 'float32', dims: [1, 3, 12, 12] }), 1 / 64, 128);
  const stem = round(b.node('Relu', [conv(x)], {}), 1 / 32, 0);
  const sum = b.node('Relu', [b.node('Add', [round(conv(stem), 1 / 16, 128), stem], {})], {});
  const y = round(b.node('Relu', [conv(round(sum, 1 / 16, 0))], {}), 1 / 8, 0);
  return b.finish([b.node('Neg', [y], {}, { outputs: ['y'] })]);
}

const HABITS: Habits = { activations: 'uint8', weights: 'int8', bias: 'int32', scales: 'scalar', zeros: 'written' };

describe('complete-qdq', () => {
  it.each<readonly [string, Partial<Habits>]>([
    ['as onnxruntime’s quantizer writes it', {}],
    ['scales in vectors of one, which onnxruntime’s own fusion refuses', { scales: 'vector' }],
    ['without zero points', { zeros: 'left out' }],
    ['float biases', { bias: 'float32' }],
    ['symmetric activations, which keep their ReLU', { activations: 'int8' }],
    ['symmetric, quantized weights in float, float biases: TensorRT’s and PyTorch’s', { activations: 'int8', weights: 'float', bias: 'float32' }],
    ['unsigned weights around 128', { weights: 'uint8' }],
  ])('%s', async (_, over) => {
    const graph = block({ ...HABITS, ...over });
    const passed = await runPasses(graph, { target: 'onnx', fusion: 'on', disabled: [], fold: evaluateConstants, verify: true });
    const ready = unsignedActivations(passed.graph);
    const inputs = pictures(graph, 1, 2);
    const [expected, actual] = [await runGraph(graph, inputs), await runGraph(ready, inputs)].map((answers) => toNumbers(answers.get('y')!));
    // A bias that comes to the grid of the sums may tip a value to the next step, 1/8.
    for (const [i, value] of expected!.entries()) expect(Math.abs(value - actual![i]!)).toBeLessThan(0.126);
    const options = { backend: 'onnxruntime', precision: 'int8', fusion: 'on', batch: 1, dims: {}, inputShapes: {}, disabledPasses: [], workspaceBytes: undefined, backendOptions: {} } as const;
    const kinds = (await optimizedNodes(exportDivided(ready), sessionOptions(options))).map(({ op }) => op);
    expect(kinds.filter((kind) => kind === 'QLinearConv')).toHaveLength(3);
    expect(kinds.filter((kind) => kind === 'Conv')).toEqual([]);
  });
});
