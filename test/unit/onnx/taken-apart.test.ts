/** Ops that are taken apart at import: spectra, losses, determinants. onnxruntime has kernels for all of them and is the oracle. */
import { describe, expect, it } from 'vitest';
import { fromNumbers, toNumbers, type DType } from '../../../src/ir/tensor.ts';
import { exportGraph } from '../../../src/onnx/export.ts';
import { importGraph } from '../../../src/onnx/import.ts';
import { readModel } from '../../../src/onnx/model.ts';
import { expectSame, optimize } from '../../helpers/passes.ts';
import { floats, ints, modelBytes, node, value, type AttributeValue } from './models.ts';
import { disagreement, runOnnx } from './run.ts';
import { expectSameAsModel, one, sample, type Case } from './upgraded.ts';

/** x times a window. */
const windowed = (op: string, size: number, attributes: Record<string, AttributeValue> = {}): Case => ({
  opset: 17, x: [size], nodes: [node(op, ['n'], ['w'], attributes), node('Mul', ['x', 'w'], ['y'])], initializers: { n: ints([size], []) }, ops: ['Mul'],
});

/** x [frames, 5] through the weights of four bands. */
const mel = (rate: number, lowest: number, highest: number): Case => ({
  opset: 17, x: [2, 33], ops: ['MatMul'],
  nodes: [node('MelWeightMatrix', ['b', 'n', 'r', 'l', 'h'], ['w']), node('MatMul', ['x', 'w'], ['y'])],
  initializers: { b: ints([6], []), n: ints([64], []), r: ints([rate], []), l: floats([lowest], []), h: floats([highest], []) },
});

const signal = { n: ints([6], []), more: ints([12], []), first: ints([1], []), step: ints([3], []), w: sample([6]) };
// onnxruntime multiplies its twiddle factors up in float32, which is coarser than a product.
const absolute = 2e-5;
const spectrum = (opset: number, x: readonly number[], attributes: Record<string, AttributeValue> = {}, inputs = ['x']): Case => one('DFT', opset, attributes, { x, inputs, initializers: signal, absolute });
const frames = (x: readonly number[], inputs: string[], attributes: Record<string, AttributeValue> = {}): Case => one('STFT', 17, attributes, { x, inputs, initializers: signal, absolute });

const labels = (dtype: DType, dims: readonly number[], odd: number) => fromNumbers(dtype, dims, Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, i) => (i === 3 ? odd : (i * 5) % 4)));
const classes = { w: floats([0.5, 2, 1, 3]) };

/** Every reduction of a loss, with and without weights and an index that is ignored. */
function losses(op: string, x: readonly number[]): Record<string, Case> {
  const target = [x[0]!, ...x.slice(2)];
  return Object.fromEntries(['none', 'sum', 'mean'].flatMap((reduction) => [false, true].flatMap((weighed) => [undefined, 2, -5].map((ignored) => {
    const attributes = { reduction, ...(ignored !== undefined && { ignore_index: ignored }) };
    const initializers = { ...classes, t: labels(weighed ? 'int32' : 'int64', target, ignored ?? 1) };
    const name = `${op} of [${x.join(',')}], ${reduction}${weighed ? ', weighed' : ''}${ignored === undefined ? '' : `, without ${ignored}`}`;
    return [name, one(op, 13, attributes, { x, inputs: ['x', 't', ...(weighed ? ['w'] : [])], initializers })];
  }))));
}

const CASES: Readonly<Record<string, Case>> = {
  ...Object.fromEntries(['HannWindow', 'HammingWindow', 'BlackmanWindow'].flatMap((op) => [[`${op}, periodic`, windowed(op, 10)], [`${op}, symmetric`, windowed(op, 9, { periodic: 0 })]])),
  'MelWeightMatrix': mel(8192, 0, 4096),
  'MelWeightMatrix of bands narrower than a bin': mel(16000, 20, 2000),
  'DFT-17': spectrum(17, [2, 6, 1]),
  'DFT-17, one side': spectrum(17, [2, 6, 1], { onesided: 1 }),
  'DFT-17, one side of an odd length': spectrum(17, [2, 5, 1], { onesided: 1 }),
  'DFT-17 of complex numbers, back': spectrum(17, [2, 6, 2], { inverse: 1 }),
  'DFT-17 along an axis in between': spectrum(17, [2, 3, 4, 5, 1], { axis: 2 }),
  'DFT-17 along the first axis': spectrum(17, [4, 3, 2], { axis: 0 }),
  'DFT-17 of fewer points': spectrum(17, [2, 9, 1], {}, ['x', 'n']),
  'DFT-17 of more points': spectrum(17, [2, 9, 2], {}, ['x', 'more']),
  'DFT-20': spectrum(20, [2, 3, 6, 2]),
  'DFT-20 along an axis': spectrum(20, [2, 6, 3, 1], { onesided: 1 }, ['x', '', 'first']),
  'STFT': frames([2, 16, 1], ['x', 'step', 'w', 'n']),
  'STFT, window alone, both sides': frames([2, 16, 1], ['x', 'step', 'w'], { onesided: 0 }),
  'STFT without a window': frames([1, 14, 1], ['x', 'step', '', 'n']),
  ...Object.fromEntries([1, 2, 3, 4].map((size) => [`Det of ${size} rows`, one('Det', 11, {}, { x: [2, 3, size, size] })])),
  'Det of a single matrix': one('Det', 11, {}, { x: [3, 3] }),
  ...losses('NegativeLogLikelihoodLoss', [3, 4]),
  ...losses('NegativeLogLikelihoodLoss', [2, 4, 3]),
  ...losses('SoftmaxCrossEntropyLoss', [2, 4, 2, 3]),
  'SoftmaxCrossEntropyLoss with its log probabilities': one('SoftmaxCrossEntropyLoss', 13, {}, { x: [3, 4], inputs: ['x', 't'], outs: ['y', 'p'], outputs: { y: 'float32', p: 'float32' }, initializers: { t: labels('int64', [3], 1) } }),
};

describe('ops that are taken apart compute what they computed', () => {
  it.each(Object.entries(CASES))('%s', async (_, test) => {
    await expectSameAsModel(test);
    const imported = importGraph(readModel(modelBytes({ opset: test.opset, nodes: test.nodes, inputs: [value('x', 'float32', test.x!)], outputs: Object.keys(test.outputs ?? { y: 0 }).map((name) => ({ name, type: { tensorType: { elemType: 1 } } })), initializers: test.initializers! })));
    expect(imported).toMatchObject({ ok: true, graph: { nodes: expect.not.arrayContaining([expect.objectContaining({ op: 'Custom' })]) } });
  });
});

/** onnxruntime's kernel reads beyond a complex signal: the sum itself is the oracle. */
it('STFT of complex numbers', async () => {
  const [batch, samples, length, step] = [2, 13, 6, 3];
  const inputs = [value('x', 'float32', [batch, samples, 2])];
  const imported = importGraph(readModel(modelBytes({ opset: 17, nodes: [node('STFT', ['x', 'step', 'w'], ['y'], { onesided: 0 })], inputs, outputs: [value('y', 'float32', [batch, 3, length, 2])], initializers: signal })));
  if (!imported.ok) throw new Error(JSON.stringify(imported.unsupported));
  const [x, w] = [sample([batch, samples, 2]), sample([length])].map(toNumbers) as [number[], number[]];
  const sums = [...Array(batch).keys()].flatMap((b) => [0, 1, 2].flatMap((frame) => [...Array(length).keys()].flatMap((k) => {
    const terms = w.map((factor, t) => {
      const [at, angle] = [2 * (b * samples + frame * step + t), (-2 * Math.PI * k * t) / length];
      const [re, im] = [factor * x[at]!, factor * x[at + 1]!];
      return [re * Math.cos(angle) - im * Math.sin(angle), re * Math.sin(angle) + im * Math.cos(angle)] as const;
    });
    return [0, 1].map((part) => terms.reduce((sum, term) => sum + term[part]!, 0));
  })));
  const { y } = await runOnnx(exportGraph(imported.graph), { x: sample([batch, samples, 2]) });
  expect(disagreement(y!, floats(sums, [batch, 3, length, 2]), 1e-5, 1e-5)).toBeLessThanOrEqual(1);
});

it('a log-mel front end is a convolution and a product with constants on webgpu', async () => {
  const nodes = [
    node('HannWindow', ['n'], ['h']), node('STFT', ['x', 'step', 'h'], ['s']), node('Mul', ['s', 's'], ['q']), node('ReduceSum', ['q', 'last'], ['p'], { keepdims: 0 }),
    node('MelWeightMatrix', ['b', 'n', 'r', 'l', 't'], ['m']), node('MatMul', ['p', 'm'], ['e']), node('Log', ['e'], ['y']),
  ];
  const initializers = { n: ints([64], []), step: ints([16], []), last: ints([-1]), b: ints([6], []), r: ints([8192], []), l: floats([0], []), t: floats([4096], []) };
  const imported = importGraph(readModel(modelBytes({ opset: 17, nodes, inputs: [value('x', 'float32', [1, 512, 1])], outputs: [value('y', 'float32', [1, 29, 6])], initializers })));
  if (!imported.ok) throw new Error(JSON.stringify(imported.unsupported));
  const { graph } = await optimize(imported.graph, 'webgpu');
  const products = graph.nodes.filter(({ op }) => /Conv|MatMul/.test(op));
  expect(products.map(({ inputs }) => graph.constants.get(inputs[1]!)?.dims)).toEqual([[66, 1, 64], [33, 6]]);
  await expectSame(imported.graph, graph);
});

describe('what is too large to be taken apart', () => {
  const transform = (opset: number, dims: readonly number[]) => importGraph(readModel(modelBytes({ opset, nodes: [node('DFT', ['x'], ['y'])], inputs: [value('x', 'float32', dims)], outputs: [value('y', 'float32', [...dims.slice(0, -1), 2])] })));

  it('stays as it is where it means the same at the opset of graphs', () => {
    expect(transform(20, [1, 4096, 1])).toMatchObject({ ok: true, graph: { nodes: [{ op: 'Custom' }] } });
  });

  it('is refused with the reason where it does not', () => {
    expect(transform(17, [1, 4096, 1])).toMatchObject({ ok: false, unsupported: [{ op: 'DFT', reason: 'a transform of 4096 points would be a constant of 33554432 elements' }] });
  });
});
