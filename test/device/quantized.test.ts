/**
 * Q/DQ graphs in integers on SwiftShader, against onnxruntime's own answer for the same graph: rounding may tip a value to the next step
 * of its grid, and a step in a network's middle moves its output by little.
 */
import { describe, expect, it } from 'vitest';
import { evaluateConstants } from '../../src/backends/onnxruntime/evaluate.ts';
import { buildPlan } from '../../src/backends/webgpu/build.ts';
import type { Graph } from '../../src/ir/graph.ts';
import { fromNumbers, type Tensor, toNumbers } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { runPasses } from '../../src/passes/pipeline.ts';
import type { Scheme } from '../../src/quantize/params.ts';
import { runGraph as runOrt } from '../helpers/ort.ts';
import { seededRandom } from '../helpers/random.ts';
import { everyOp, gates, net, pictures, POOL, quantizeNet } from '../unit/quantize/networks.ts';
import { PROFILES } from '../helpers/profiles.ts';
import { bertLayer, vitBlock } from '../helpers/transformer.ts';
import { COMPACT_PROFILE, noDevice, runGraph, validatingDevice } from './helpers.ts';

async function forDevice(graph: Graph, fusion: 'on' | 'off' = 'on'): Promise<Graph> {
  const { graph: ready } = await runPasses(graph, { target: 'webgpu', fusion, disabled: [], fold: evaluateConstants, verify: true });
  return ready;
}

/** As a model comes to calibration: with its constants folded. */
async function folded(graph: Graph): Promise<Graph> {
  return (await runPasses(graph, { target: 'onnx', fusion: 'on', disabled: [], fold: evaluateConstants })).graph;
}

function kinds(graph: Graph): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { op } of graph.nodes) counts[op] = (counts[op] ?? 0) + 1;
  return counts;
}

/** Signal over error in decibels. */
function snrDb(expected: Tensor, actual: Tensor): number {
  const [a, b] = [toNumbers(expected), toNumbers(actual)];
  const noise = a.reduce((sum, value, i) => sum + (value - b[i]!) ** 2, 0);
  return 10 * Math.log10(a.reduce((sum, value) => sum + value * value, 0) / noise);
}

function residual(channels: number, groups: number): Graph {
  const { b, weight, conv } = net(7);
  const x = b.input('x', { dtype: 'float32', dims: [2, channels, 9, 9] });
  const stem = b.node('Relu', [conv(x, 32, 3)], {});
  const inner = b.node('Relu', [conv(stem, 32, 3, { group: groups })], {});
  const sum = b.node('Relu', [b.node('Add', [conv(inner, 32, 1), stem], {})], {});
  const pooled = b.node('MaxPool', [sum], { ...POOL, storage_order: 0 });
  const flat = b.node('Flatten', [b.node('GlobalAveragePool', [conv(pooled, 48, 1)], {})], { axis: 1 });
  return b.finish([b.node('Gemm', [flat, weight(10, 48), weight(10)], { alpha: 1, beta: 1, transA: 0, transB: 1 }, { outputs: ['y'] })]);
}

/** The last convolution of a block and the projection of its input, added; `wide` weights on one of them. */
function projection(channels: number, kernel: number, wide = 1): Graph {
  const { b, weight, conv } = net(11);
  const x = b.input('x', { dtype: 'float32', dims: [2, 16, 9, 9] });
  const stem = b.node('Relu', [conv(x, channels, 3)], {});
  const inner = b.node('Relu', [conv(stem, 24, 1)], {});
  const scaled = b.node('Mul', [weight(40, channels, 1, 1), b.constant(fromNumbers('float32', [], [wide]))], {});
  const strided = { auto_pad: 'NOTSET', dilations: [1, 1], group: 1, kernel_shape: [1, 1], pads: [0, 0, 0, 0], strides: [1, 1] } as const;
  const sum = b.node('Relu', [b.node('Add', [conv(inner, 40, kernel), b.node('Conv', [stem, scaled, weight(40)], strided)], {})], {});
  const flat = b.node('Flatten', [b.node('GlobalAveragePool', [conv(sum, 48, 1)], {})], { axis: 1 });
  return b.finish([b.node('Gemm', [flat, weight(10, 48), weight(10)], { alpha: 1, beta: 1, transA: 0, transB: 1 }, { outputs: ['y'] })]);
}

const TOKENS = { batch: 2, tokens: 10, heads: 2 };
const BERT = [
  'QuantizeLinear uint8', 'QuantizedMatMul int8', 'FusedAttention float16', 'QuantizedMatMul int8', 'LayerNormalization float16', 'QuantizedMatMul int8', 'QuantizedMatMul int8',
  'LayerNormalization float32',
];
const VIT = [
  'LayerNormalization float32', 'QuantizedMatMul int8', 'FusedAttention float16', 'QuantizedMatMul int8', 'LayerNormalization float16', 'QuantizedMatMul int8', 'QuantizedMatMul int8',
  'Reformat float32', 'LayerNormalization float32',
];

describe('integers kept from kernel to kernel', () => {
  it('adds two convolutions as one sum of integers where their scales are alike', async () => {
    const ready = await forDevice((await quantizeNet(await folded(projection(32, 3)), { fused: true })).graph);
    const { QuantizedConv = 0, QuantizedShortcut = 0, QuantizedMatMul = 0, Conv = 0, FusedConv = 0 } = kinds(ready);
    expect({ QuantizedConv, QuantizedShortcut, QuantizedMatMul, Conv, FusedConv }).toEqual({ QuantizedConv: 3, QuantizedShortcut: 1, QuantizedMatMul: 1, Conv: 0, FusedConv: 0 });
    const layer = buildPlan(ready, COMPACT_PROFILE, { half: true }).layers.find(({ kind }) => kind === 'QuantizedShortcut');
    expect(layer?.precision).toBe('int8');
    // On scales of their own they stay two.
    const apart = await forDevice((await quantizeNet(await folded(projection(32, 3)))).graph);
    expect([kinds(apart)['QuantizedConv'], kinds(apart)['QuantizedShortcut']]).toEqual([5, undefined]);
  });

  it('fuses a residual block into its products: nothing else is left between them', async () => {
    const ready = await forDevice((await quantizeNet(residual(16, 1), { policy: { scheme: 'symmetric' } })).graph);
    const { QuantizedConv = 0, QuantizedMatMul = 0, Conv = 0, FusedConv = 0, QuantizeLinear = 0 } = kinds(ready);
    expect({ QuantizedConv, QuantizedMatMul, Conv, FusedConv }).toEqual({ QuantizedConv: 4, QuantizedMatMul: 1, Conv: 0, FusedConv: 0 });
    // The picture is quantized once; everything after it leaves its kernel as integers.
    expect(QuantizeLinear).toBeLessThanOrEqual(2);
    const built = buildPlan(ready, COMPACT_PROFILE, { half: true });
    const integer = built.layers.filter(({ precision }) => precision === 'int8').map(({ kind }) => kind);
    expect(integer.filter((kind) => kind.startsWith('Quantized'))).toHaveLength(5);
  });

  it.each([['BERT', bertLayer, BERT], ['ViT', vitBlock, VIT]] as const)('leaves products, attention and normalizations of a layer of %s, which write the integers that the next one reads', async (_, layer, expected) => {
    const { graph } = await quantizeNet(await folded(layer({ ...TOKENS, hidden: 128 })));
    const ready = await forDevice(graph);
    const { layers } = buildPlan(ready, PROFILES['NVIDIA']!, { half: true });
    expect(layers.map(({ kind, precision }) => `${kind} ${precision}`)).toEqual(expected);
    // Every quantization that has no kernel is among the nodes of the one that does its work.
    const origins = new Set(layers.flatMap((one) => one.origins));
    expect(ready.nodes.filter(({ op }) => op === 'QuantizeLinear').flatMap((node) => node.origins).filter((origin) => !origins.has(origin))).toEqual([]);
    // Where each node keeps its kernel, quantizations have theirs.
    const plain = buildPlan(ready, PROFILES['NVIDIA']!, { half: true, windows: false }).layers.filter(({ kind }) => kind === 'QuantizeLinear');
    expect(plain.length).toBeGreaterThan(layers.filter(({ kind }) => kind === 'QuantizeLinear').length + 1);
  });

  it('a normalization whose values are wanted too writes both, and one whose quantization is given out keeps its kernel', async () => {
    const { graph } = await quantizeNet(await folded(vitBlock({ ...TOKENS, hidden: 128 })));
    const norm = graph.nodes.find(({ op }) => op === 'LayerNormalization')!;
    const grid = graph.nodes.find(({ op, inputs }) => op === 'QuantizeLinear' && inputs[0] === norm.outputs[0])!;
    const kindsWith = async (output: string): Promise<string[]> =>
      buildPlan(await forDevice({ ...graph, outputs: [...graph.outputs, output] }), PROFILES['NVIDIA']!, { half: true }).layers.slice(0, 3).map(({ kind, precision }) => `${kind} ${precision}`);
    expect(await kindsWith(norm.outputs[0]!)).toEqual(['LayerNormalization float32', 'QuantizedMatMul int8', 'FusedAttention float16']);
    expect(await kindsWith(grid.outputs[0]!)).toEqual(['LayerNormalization float16', 'QuantizeLinear uint8', 'Reformat uint8']);
  });

  it.each(Object.keys(PROFILES))('layers of transformers in bytes are valid WGSL for %s', { timeout: 60_000 }, async (vendor) => {
    const open = await validatingDevice();
    const names = new Set<string>();
    for (const layer of [bertLayer, vitBlock]) {
      const ready = await forDevice((await quantizeNet(await folded(layer({ ...TOKENS, hidden: 128 })))).graph);
      for (const at of [0, 1, 3, 7, -1]) {
        const { plan } = buildPlan(ready, PROFILES[vendor]!, { half: true, choose: (_, candidates) => candidates.at(at) ?? candidates[0]! });
        for (const { label, wgsl } of plan.shaders.filter((shader) => /^(Attention|LayerNorm|MatMul)/.test(shader.label))) {
          const { messages } = await open.device.createShaderModule({ code: wgsl }).getCompilationInfo();
          expect(messages.map(({ message, lineNum }) => `${label} ${lineNum}: ${message}`)).toEqual([]);
          names.add(label);
        }
      }
    }
    expect(names.size).toBeGreaterThan(2);
    open.destroy();
  });

  it.each(['NVIDIA', 'default limits'])('joined sums are valid WGSL for %s', async (vendor) => {
    const open = await validatingDevice();
    const ready = await forDevice((await quantizeNet(await folded(projection(24, 3)), { fused: true })).graph);
    const names = new Set<string>();
    for (let at = 0; at < 12; at += 2) {
      const { plan } = buildPlan(ready, PROFILES[vendor]!, { half: true, choose: (_, candidates) => candidates[at % candidates.length]! });
      for (const { label, wgsl } of plan.shaders.filter((shader) => shader.label.startsWith('QuantizedShortcut'))) {
        const { messages } = await open.device.createShaderModule({ code: wgsl }).getCompilationInfo();
        expect(messages.map(({ message, lineNum }) => `${label} ${lineNum}: ${message}`)).toEqual([]);
        names.add(label);
      }
    }
    expect(names.size).toBeGreaterThan(2);
    open.destroy();
  });

  it('takes a quantized constant row for a bias, whatever its rank', async () => {
    const { b, weight } = net(7);
    const first = b.node('Add', [b.node('MatMul', [b.input('x', { dtype: 'float32', dims: [1, 1, 32] }), weight(32, 32)], {}), weight(1, 1, 32)], {});
    const second = b.node('Relu', [b.node('MatMul', [first, weight(32, 32)], {})], {});
    const { graph } = await quantizeNet(b.finish([b.node('Add', [second, first], {}, { outputs: ['y'] })]), { fused: true });
    const rows = graph.nodes.filter(({ op, inputs }) => op === 'DequantizeLinear' && graph.constants.get(inputs[0]!)?.dims.length === 3);
    expect(rows).toHaveLength(1);
    expect(kinds(await forDevice(graph))['QuantizedMatMul']).toBe(2);
  });

  it('leaves groups without whole vectors to float kernels, with weights dequantized at build', async () => {
    const ready = await forDevice((await quantizeNet(residual(16, 8))).graph);
    expect(kinds(ready)['FusedConv']).toBe(1);
    // Its fused end gives bytes; its products are of halves, and say so.
    const layer = buildPlan(ready, COMPACT_PROFILE, { half: true }).layers.find(({ kind }) => kind === 'FusedConv');
    expect([layer?.precision, ready.types.get(ready.nodes.find(({ op }) => op === 'FusedConv')!.outputs[0]!)!.dtype]).toEqual(['float16', 'uint8']);
    expect(ready.nodes.some(({ op, inputs }) => op === 'DequantizeLinear' && inputs.every((id) => ready.constants.has(id)))).toBe(false);
  });
});

/** A model's own Q/DQ: weights around a zero point, and ten columns of bytes, which lie a word each. */
function ownScales(weights: 'int8' | 'uint8', zero: number): Graph {
  const b = newGraphBuilder('own');
  const random = seededRandom(5);
  const grid = (step: number, at: number) => [b.constant(fromNumbers('float32', [], [step])), b.constant(fromNumbers('uint8', [], [at]))];
  const round = (x: string, step: number, at: number, outputs?: readonly string[]): string => {
    const own = grid(step, at);
    const integers = b.node('QuantizeLinear', [x, ...own], { axis: 1, block_size: 0, saturate: 1, output_dtype: undefined });
    return b.node('DequantizeLinear', [integers, ...own], { axis: 1, block_size: 0 }, outputs && { outputs });
  };
  const x = round(b.input('x', { dtype: 'float32', dims: [3, 32] }), 1 / 64, 120);
  const values = Array.from({ length: 320 }, () => zero + Math.round(200 * random() - 100));
  const w = [b.constant(fromNumbers(weights, [10, 32], values)), b.constant(fromNumbers('float32', [10], Array.from({ length: 10 }, () => 0.002 + 0.001 * random()))), b.constant(fromNumbers(weights, [10], Array.from({ length: 10 }, () => zero)))];
  const y = b.node('Gemm', [x, b.node('DequantizeLinear', w, { axis: 0, block_size: 0 })], { alpha: 1, beta: 1, transA: 0, transB: 1 });
  return b.finish([round(y, 1 / 32, 130, ['y'])]);
}

describe.skipIf(noDevice)('quantized networks on a device (skipped without SwiftShader)', () => {
  const cases: readonly (readonly [string, () => Graph, Scheme, 'on' | 'off'])[] = [
    ['residual block, symmetric', () => residual(16, 1), 'symmetric', 'on'],
    ['residual block, affine, three channels', () => residual(3, 1), 'affine', 'on'],
    ['residual block, two groups', () => residual(16, 2), 'affine', 'on'],
    ['residual block, odd groups', () => residual(16, 8), 'affine', 'on'],
    ['depthwise, pools, resize, concatenation', everyOp, 'affine', 'on'],
    ['depthwise, pools, resize, concatenation, symmetric', everyOp, 'symmetric', 'on'],
    ['without fusion', () => residual(16, 1), 'affine', 'off'],
    ['a layer of BERT', () => bertLayer({ ...TOKENS, hidden: 32 }), 'affine', 'on'],
    ['a layer of BERT, symmetric', () => bertLayer({ ...TOKENS, hidden: 32 }), 'symmetric', 'on'],
    ['a layer of BERT whose heads are no whole vectors', () => bertLayer({ ...TOKENS, hidden: 48, heads: 2 }), 'affine', 'on'],
    ['a layer of ViT', () => vitBlock({ ...TOKENS, hidden: 32 }), 'affine', 'on'],
    ['a layer of ViT without fusion', () => vitBlock({ ...TOKENS, hidden: 32 }), 'affine', 'off'],
  ];

  it.each([['int8', 0], ['uint8', 128], ['int8', 20]] as const)('ten columns of a model’s own scales, %s weights around %i', async (weights, zero) => {
    const graph = ownScales(weights, zero);
    const ready = await forDevice(graph);
    expect(kinds(ready)['QuantizedMatMul']).toBe(1);
    const inputs = pictures(graph, 4);
    const [expected, actual] = [await runOrt(graph, inputs), await runGraph(ready, Object.fromEntries(inputs), COMPACT_PROFILE, { half: true })];
    expect(snrDb(expected.get('y')!, actual['y']!)).toBeGreaterThan(45);
  });

  it.each([
    ['symmetric', 'symmetric', 32, 1, 1],
    ['affine, a filter', 'affine', 32, 3, 1],
    ['affine, a border within a block', 'affine', 24, 1, 1],
    ['affine, weights 50 times as large on the shortcut', 'affine', 32, 3, 50],
  ] as const)('a projection shortcut as one sum: %s', { timeout: 120_000 }, async (_, scheme, channels, kernel, wide) => {
    const net = await folded(projection(channels, kernel, wide));
    const { graph } = await quantizeNet(net, { policy: { scheme }, fused: true });
    const ready = await forDevice(graph);
    expect(kinds(ready)['QuantizedShortcut']).toBe(1);
    const inputs = pictures(graph, 100);
    const [real, expected, apart] = [await runOrt(net, inputs), await runOrt(graph, inputs), await runOrt((await quantizeNet(net, { policy: { scheme } })).graph, inputs)];
    for (const half of [false, true]) {
      const actual = await runGraph(ready, Object.fromEntries(inputs), COMPACT_PROFILE, { half });
      expect(snrDb(expected.get('y')!, actual['y']!)).toBeGreaterThan(40);
    }
    // The common scale costs no more than the grids that it spares.
    expect(snrDb(real.get('y')!, expected.get('y')!)).toBeGreaterThan(snrDb(real.get('y')!, apart.get('y')!) - 2);
  });

  it('gates are computed by the products before them', async () => {
    const { graph } = await quantizeNet(await folded(gates()), { fused: true });
    const ready = await forDevice(graph);
    expect(kinds(ready)).toEqual({ QuantizeLinear: 1, QuantizedConv: 3 });
    const inputs = pictures(graph, 100);
    const [expected, actual] = [await runOrt(graph, inputs), await runGraph(ready, Object.fromEntries(inputs), COMPACT_PROFILE)];
    for (const id of graph.outputs) expect(snrDb(expected.get(id)!, actual[id]!)).toBeGreaterThan(40);
  });

  it.each(cases)('%s', { timeout: 120_000 }, async (_, make, scheme, fusion) => {
    const { graph } = await quantizeNet(await folded(make()), { policy: { scheme } });
    const ready = await forDevice(graph, fusion);
    for (const half of [false, true]) {
      const inputs = pictures(graph, 100);
      const [expected, actual] = [await runOrt(graph, inputs), await runGraph(ready, Object.fromEntries(inputs), COMPACT_PROFILE, { half })];
      expect(Object.keys(actual)).toEqual(graph.outputs);
      for (const id of graph.outputs) expect(snrDb(expected.get(id)!, actual[id]!)).toBeGreaterThan(30);
    }
  });
});
