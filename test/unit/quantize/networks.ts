/** Small networks with seeded weights for the tests of quantization. */
import type { GraphBuilder } from '../../../src/ir/build.ts';
import type { Graph, ValueId } from '../../../src/ir/graph.ts';
import { elementCount, fromNumbers, typedView, type Tensor } from '../../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../../src/ops/builder.ts';
import type { CalibrationMethod } from '../../../src/quantize/calibrators.ts';
import { createCollector, observedValues, productInputs } from '../../../src/quantize/collect.ts';
import { gridsFor } from '../../../src/quantize/grids.ts';
import { offGrid, ON_GRID } from '../../../src/quantize/off-grid.ts';
import { DEFAULT_POLICY, placeInt8, type Placement, type PlacementPolicy } from '../../../src/quantize/placement.ts';
import { writeQdq } from '../../../src/quantize/qdq.ts';
import type { TensorCalibration } from '../../../src/quantize/calibration.ts';
import { runGraph } from '../../helpers/ort.ts';
import { seededRandom } from '../../helpers/random.ts';

export const GEMM = { alpha: 1, beta: 1, transA: 0, transB: 1 } as const;
export const POOL = { auto_pad: 'NOTSET', ceil_mode: 0, dilations: [1, 1], kernel_shape: [2, 2], pads: [0, 0, 0, 0], strides: [2, 2] } as const;

export interface Net {
  readonly b: GraphBuilder;
  /** Normal-ish weights, scaled so that activations keep their size. */
  weight(...dims: number[]): ValueId;
  conv(x: ValueId, out: number, kernel: number, options?: { readonly group?: number; readonly bias?: boolean }): ValueId;
  relu6(x: ValueId): ValueId;
}

export function net(seed = 1): Net {
  const b = newGraphBuilder('net');
  const random = seededRandom(seed);
  const draw = (count: number, size: number) => Array.from({ length: count }, () => size * (random() + random() + random() - 1.5));
  const bounds = [b.constant(fromNumbers('float32', [], [0])), b.constant(fromNumbers('float32', [], [6]))];
  const weight = (...dims: number[]): ValueId => b.constant(fromNumbers('float32', dims, draw(elementCount(dims), 2 / Math.sqrt(elementCount(dims.slice(1)) || 1))));
  return {
    b,
    weight,
    conv(x, out, kernel, { group = 1, bias = true } = {}) {
      const channels = b.type(x).dims[1]!;
      const pad = (kernel - 1) / 2;
      const inputs = [x, weight(out, channels / group, kernel, kernel), ...(bias ? [b.constant(fromNumbers('float32', [out], draw(out, 0.3)))] : [])];
      return b.node('Conv', inputs, { auto_pad: 'NOTSET', dilations: [1, 1], group, kernel_shape: [kernel, kernel], pads: [pad, pad, pad, pad], strides: [1, 1] });
    },
    relu6: (x) => b.node('Clip', [x, ...bounds], {}),
  };
}

/** A matrix product by the habit of dynamic quantization: the scale of the data is found in each run. */
export function dynamicallyQuantized(): Graph {
  const { b } = net();
  const x = b.input('x', { dtype: 'float32', dims: [2, 64] });
  const [bytes, scale, zero] = b.nodeOutputs('DynamicQuantizeLinear', [x], {}, { outputs: 3 }) as [ValueId, ValueId, ValueId];
  const random = seededRandom(5);
  const weights = b.constant(fromNumbers('int8', [64, 16], Array.from({ length: 1024 }, () => Math.round(200 * random() - 100))));
  const sums = b.node('Cast', [b.node('MatMulInteger', [bytes, weights, zero], {})], { to: 'float32', saturate: 1 });
  return b.finish([b.node('Mul', [sums, b.node('Mul', [scale, b.constant(fromNumbers('float32', [], [0.01]))], {})], {})]);
}

/** Convolution, depthwise with ReLU6, residual, pools, concatenation, resize, matrix product. */
export function everyOp(): Graph {
  const { b, weight, conv, relu6 } = net();
  const x = b.input('x', { dtype: 'float32', dims: [2, 3, 16, 16] });
  const stem = b.node('MaxPool', [b.node('Relu', [conv(x, 16, 3)], {})], { ...POOL, storage_order: 0 });
  const depthwise = relu6(conv(relu6(conv(stem, 32, 1)), 32, 3, { group: 32 }));
  const sum = b.node('Relu', [b.node('Add', [conv(depthwise, 16, 1, { bias: false }), stem], {})], {});
  const half = b.node('AveragePool', [sum], { ...POOL, count_include_pad: 0 });
  const scales = b.constant(fromNumbers('float32', [4], [1, 1, 2, 2]));
  const back = b.node('Resize', [conv(half, 16, 1), '', scales], {
    antialias: 0, axes: undefined, coordinate_transformation_mode: 'asymmetric', cubic_coeff_a: -0.75, exclude_outside: 0,
    extrapolation_value: 0, keep_aspect_ratio_policy: 'stretch', mode: 'nearest', nearest_mode: 'floor',
  });
  const joined = conv(b.node('Concat', [sum, back], { axis: 1 }), 24, 3);
  const pooled = b.node('GlobalAveragePool', [b.node('Relu', [joined], {})], {});
  const flat = b.node('Reshape', [pooled, b.constant(fromNumbers('int64', [2], [2, 24]))], { allowzero: 0 });
  return b.finish([b.node('Gemm', [flat, weight(10, 24), weight(10)], GEMM, { outputs: ['y'] })]);
}

/** Convolution, x·σ(x), depthwise, HardSwish, convolution. */
export function gates(): Graph {
  const { b, weight, conv } = net();
  const x = b.input('x', { dtype: 'float32', dims: [2, 3, 8, 8] });
  const sums = b.node('Conv', [x, weight(16, 3, 3, 3)], { auto_pad: 'NOTSET', dilations: [1, 1], group: 1, kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [1, 1] }, { outputs: ['sums'] });
  const swish = b.node('Mul', [sums, b.node('Sigmoid', [sums], {}, { outputs: ['gate'] })], {}, { outputs: ['swish'] });
  const hard = b.node('HardSwish', [conv(swish, 16, 3, { group: 16 })], {}, { outputs: ['hard'] });
  return b.finish([conv(hard, 8, 1)]);
}

/** Seeded pictures. */
export function pictures(graph: Graph, seed: number, size = 1): Map<ValueId, Tensor> {
  const random = seededRandom(seed);
  return new Map(
    graph.inputs.map((id) => {
      const { dims } = graph.types.get(id)!;
      return [id, fromNumbers('float32', dims, Array.from({ length: elementCount(dims) }, () => size * (random() * 2 - 1)))];
    }),
  );
}

export interface Quantized {
  readonly graph: Graph;
  readonly placement: Placement;
  readonly tensors: Readonly<Record<string, TensorCalibration>>;
  readonly absorbed: number;
}

/** The whole way: placement, calibration on seeded pictures, Q/DQ. */
export async function quantizeNet(
  graph: Graph,
  options: { readonly policy?: Partial<PlacementPolicy>; readonly method?: CalibrationMethod; readonly biasCorrection?: boolean; readonly fused?: boolean } = {},
): Promise<Quantized> {
  const policy = { ...DEFAULT_POLICY, ...options.policy };
  const placement = placeInt8(graph, policy);
  const wanted = [...new Set([...observedValues(graph, placement), ...productInputs(graph, placement)])].filter((id) => !graph.inputs.includes(id));
  const collector = createCollector(graph, placement);
  for (let seed = 1; seed <= 4; seed++) {
    const inputs = pictures(graph, seed);
    collector.add(new Map([...inputs, ...(wanted.length > 0 ? await runGraph({ ...graph, outputs: wanted }, inputs) : [])]), { count: 2, batch: 2 });
  }
  const tensors = collector.result({ method: options.method ?? 'minmax', scheme: policy.scheme, percentile: 99.99 });
  const channelMeans = new Map(Object.entries(tensors).flatMap(([id, { channelMeans: means }]) => (options.biasCorrection && means ? [[id, means] as const] : [])));
  const grids = gridsFor(graph, placement, { tensors, scheme: policy.scheme });
  return { ...writeQdq(graph, { scheme: policy.scheme, placement, grids, channelMeans, offGrid: options.fused ? offGrid(graph, placement) : ON_GRID }), placement, tensors };
}

/** Signal-to-noise ratio in decibels over pictures that calibration did not see. */
export async function snrDb(graph: Graph, other: Graph): Promise<number> {
  let [signal, noise] = [0, 0];
  for (let seed = 100; seed < 104; seed++) {
    const inputs = pictures(graph, seed);
    const [a, b] = [await runGraph(graph, inputs), await runGraph(other, inputs)];
    for (const id of graph.outputs) {
      const [x, y] = [typedView(a.get(id)!) as Float32Array, typedView(b.get(id)!) as Float32Array];
      for (let i = 0; i < x.length; i++) {
        signal += x[i]! ** 2;
        noise += (x[i]! - y[i]!) ** 2;
      }
    }
  }
  return 10 * Math.log10(signal / noise);
}
