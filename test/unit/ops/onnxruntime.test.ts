/**
 * Inference and the resolution of shape-dependent attributes against onnxruntime, on random nodes: what is inferred is what
 * comes out, and a node with its attributes resolved computes what the model's own node computes.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { OpKind } from '../../../src/ir/ops.ts';
import { elementCount, formatType, fromNumbers, toNumbers } from '../../../src/ir/tensor.ts';
import type { Tensor } from '../../../src/ir/tensor.ts';
import { importAttributes, writeAttributes } from '../../../src/ops/attributes.ts';
import { inferContext, inferNode } from '../../../src/ops/infer.ts';
import type { RawAttribute } from '../../../src/ops/def.ts';
import { runNode } from './onnxruntime.ts';
import type { NodeCase } from './onnxruntime.ts';

const RUNS = { numRuns: 25, seed: 22 };

function ramp(...dims: number[]): Tensor {
  return fromNumbers('float32', dims, Array.from({ length: elementCount(dims) }, (_, i) => ((i * 7) % 11) - 5));
}

function vector(...values: number[]): Tensor {
  return fromNumbers('int64', [values.length], values);
}

/**
 * Infers the node, runs it as it is and with its attributes resolved, and says where the three differ.
 */
async function differences(node: NodeCase): Promise<string[]> {
  const op = node.op as OpKind;
  const inputs = node.inputs.map((tensor) => tensor && { type: tensor, constant: tensor });
  const context = inferContext(inputs, node.outputs.length);
  const attrs = importAttributes(op, new Map(Object.entries(node.attributes ?? {})), context);
  const types = inferNode(op, attrs, context);
  const given = await runNode(node);
  const written = writeAttributes(op, attrs);
  const floats = [...written].filter(([, { type }]) => type === 'float').map(([name]) => name);
  const attributes = Object.fromEntries([...written].map(([name, { value }]) => [name, value]));
  const resolved = await runNode({ ...node, attributes, floats });
  return given.flatMap((tensor, i) => {
    const [expected, found] = [formatType(tensor), formatType(types[i]!)];
    if (expected !== found) return [`output ${i} is ${expected}, inferred ${found}`];
    const [values, others] = [toNumbers(tensor).join(','), toNumbers(resolved[i]!).join(',')];
    return values === others ? [] : [`output ${i} is ${values}, with resolved attributes ${others}`];
  });
}

const autoPad = fc.constantFrom('NOTSET', 'SAME_UPPER', 'SAME_LOWER', 'VALID');
const pair = (min: number, max: number): fc.Arbitrary<[number, number]> => fc.tuple(fc.integer({ min, max }), fc.integer({ min, max }));

/** Pads go with NOTSET only; ONNX forbids them beside auto_pad. */
function padding(auto_pad: string, pads: readonly number[]): Readonly<Record<string, RawAttribute>> {
  return auto_pad === 'NOTSET' ? { pads } : { auto_pad };
}

it('convolutions', async () => {
  const window = fc.record({ size: pair(6, 11), kernel: pair(1, 3), strides: pair(1, 3), auto_pad: autoPad, begin: pair(0, 2), end: pair(0, 2) });
  await fc.assert(
    fc.asyncProperty(window, async ({ size, kernel, strides, auto_pad, begin, end }) => {
      const attributes = { strides, group: 2, ...padding(auto_pad, [...begin, ...end]) };
      expect(await differences({ op: 'Conv', attributes, inputs: [ramp(2, 4, ...size), ramp(6, 2, ...kernel), ramp(6)], outputs: ['float32'] })).toEqual([]);
    }),
    RUNS,
  );
});

it('dilated one-dimensional convolutions', async () => {
  const window = fc.record({ size: fc.integer({ min: 9, max: 14 }), dilation: fc.integer({ min: 1, max: 4 }), stride: fc.integer({ min: 1, max: 3 }), auto_pad: fc.constantFrom('NOTSET', 'VALID') });
  await fc.assert(
    fc.asyncProperty(window, async ({ size, dilation, stride, auto_pad }) => {
      const attributes = { dilations: [dilation], strides: [stride], ...padding(auto_pad, [1, 2]) };
      expect(await differences({ op: 'Conv', attributes, inputs: [ramp(1, 2, size), ramp(3, 2, 3)], outputs: ['float32'] })).toEqual([]);
    }),
    RUNS,
  );
});

it('transposed convolutions, with output_shape and output_padding', async () => {
  const window = fc.record({
    size: pair(2, 5),
    kernel: pair(1, 4),
    strides: pair(1, 3),
    auto_pad: autoPad,
    pads: fc.constantFrom([0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]),
    extra: pair(-1, 1),
    shaped: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(window, async ({ size, kernel, strides, auto_pad, pads, extra, shaped }) => {
      const full = size.map((n, i) => strides[i]! * (n - 1) + kernel[i]!);
      const output_shape = full.map((n, i) => Math.max(1, n + Math.min(extra[i]!, strides[i]! - 1)));
      const fits = full.every((n, i) => n > pads[i]! + pads[i + 2]!);
      const attributes = shaped ? { strides, output_shape, auto_pad } : { strides, ...padding(auto_pad, fits ? pads : [0, 0, 0, 0]) };
      expect(await differences({ op: 'ConvTranspose', attributes, inputs: [ramp(1, 2, ...size), ramp(2, 3, ...kernel)], outputs: ['float32'] })).toEqual([]);
    }),
    RUNS,
  );
});

it.each(['MaxPool', 'AveragePool', 'LpPool'])('%s', async (op) => {
  const window = fc.record({
    size: pair(5, 12),
    kernel_shape: pair(2, 4),
    strides: pair(1, 4),
    dilations: fc.constantFrom([1, 1], [1, 1], [2, 1]),
    auto_pad: autoPad,
    ceil_mode: fc.constantFrom(0, 1),
    begin: pair(0, 1),
    end: pair(0, 1),
  });
  await fc.assert(
    fc.asyncProperty(window, async ({ size, kernel_shape, strides, dilations, auto_pad, ceil_mode, begin, end }) => {
      fc.pre(size.every((n, i) => n >= (kernel_shape[i]! - 1) * dilations[i]! + 1));
      // onnxruntime's SAME padding forgets dilations, and turns negative for strides beyond the kernel.
      const odd = dilations.some((d) => d > 1) || strides.some((stride, i) => stride > kernel_shape[i]!);
      fc.pre(!auto_pad.startsWith('SAME') || !odd);
      const attributes = { kernel_shape, strides, dilations, ceil_mode, ...padding(auto_pad, [...begin, ...end]) };
      expect(await differences({ op, attributes, inputs: [ramp(1, 2, ...size)], outputs: ['float32'] })).toEqual([]);
    }),
    RUNS,
  );
});

it('resizes by scales and by sizes under every aspect ratio policy', async () => {
  const scale = fc.double({ min: 0.3, max: 3.3, noNaN: true });
  const shapes = fc.record({
    size: pair(2, 9),
    scales: fc.tuple(scale, scale),
    sizes: pair(1, 12),
    bySizes: fc.boolean(),
    policy: fc.constantFrom('stretch', 'not_larger', 'not_smaller'),
  });
  await fc.assert(
    fc.asyncProperty(shapes, async ({ size, scales, sizes, bySizes, policy }) => {
      const least = policy === 'not_larger' ? Math.min(sizes[0] / size[0], sizes[1] / size[1]) : 1;
      fc.pre(size.every((n, i) => Math.floor(Math.fround(scales[i]!) * n) > 0 && Math.round(least * n) > 0));
      const chosen = bySizes ? [undefined, vector(...sizes)] : [fromNumbers('float32', [2], scales)];
      expect(await differences({
        op: 'Resize',
        attributes: { axes: [2, 3], mode: 'nearest', coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor', ...(bySizes && { keep_aspect_ratio_policy: policy }) },
        inputs: [ramp(1, 1, ...size), undefined, ...chosen],
        outputs: ['float32'],
      })).toEqual([]);
    }),
    RUNS,
  );
});

it('slices with any start, end and step', async () => {
  const bound = fc.oneof(fc.integer({ min: -9, max: 9 }), fc.constantFrom(Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER));
  const slice = fc.record({ size: fc.integer({ min: 0, max: 6 }), start: bound, end: bound, step: fc.constantFrom(1, 2, 5, -1, -2, -7) });
  await fc.assert(
    fc.asyncProperty(slice, async ({ size, start, end, step }) => {
      expect(await differences({ op: 'Slice', inputs: [ramp(2, size), vector(start), vector(end), vector(-1), vector(step)], outputs: ['float32'] })).toEqual([]);
    }),
    RUNS,
  );
});

it('uneven splits', async () => {
  const split = fc.record({ size: fc.integer({ min: 1, max: 12 }), parts: fc.integer({ min: 1, max: 5 }) });
  await fc.assert(
    fc.asyncProperty(split, async ({ size, parts }) => {
      // An empty last part is ONNX's rule too, but onnxruntime's kernel refuses it.
      fc.pre(size - Math.ceil(size / parts) * (parts - 1) > 0);
      const outputs = Array.from({ length: parts }, () => 'float32' as const);
      expect(await differences({ op: 'Split', attributes: { axis: 1, num_outputs: parts }, inputs: [ramp(2, size)], outputs })).toEqual([]);
    }),
    RUNS,
  );
});

it('recurrent networks in every direction and layout', async () => {
  for (const [op, gates, states] of [['RNN', 1, 1], ['GRU', 3, 1], ['LSTM', 4, 2]] as const) {
    for (const direction of ['forward', 'reverse', 'bidirectional']) {
      const d = direction === 'bidirectional' ? 2 : 1;
      expect(await differences({
        op,
        attributes: { direction, hidden_size: 3 },
        inputs: [ramp(5, 2, 4), ramp(d, gates * 3, 4), ramp(d, gates * 3, 3), ramp(d, 2 * gates * 3)],
        outputs: Array.from({ length: 1 + states }, () => 'float32' as const),
      })).toEqual([]);
    }
  }
});

it('ranges', async () => {
  const number = fc.integer({ min: -20, max: 20 }).map((n) => Math.fround(n / 7));
  const delta = number.filter((n) => Math.abs(n) > 0.2);
  await fc.assert(
    fc.asyncProperty(number, number, delta, async (...bounds) => {
      expect(await differences({ op: 'Range', inputs: bounds.map((value) => fromNumbers('float32', [], [value])), outputs: ['float32'] })).toEqual([]);
    }),
    RUNS,
  );
});

it('zero-sized dimensions', async () => {
  expect(await differences({ op: 'MatMul', inputs: [ramp(0, 3), ramp(3, 2)], outputs: ['float32'] })).toEqual([]);
  expect(await differences({ op: 'Concat', attributes: { axis: 0 }, inputs: [ramp(0, 3), ramp(2, 3)], outputs: ['float32'] })).toEqual([]);
  expect(await differences({ op: 'ReduceSum', attributes: { keepdims: 0 }, inputs: [ramp(0, 3), vector(0)], outputs: ['float32'] })).toEqual([]);
  expect(await differences({ op: 'Reshape', attributes: { allowzero: 1 }, inputs: [ramp(0, 3), vector(3, 0)], outputs: ['float32'] })).toEqual([]);
  expect(await differences({ op: 'Add', inputs: [ramp(0, 3), ramp(1, 1)], outputs: ['float32'] })).toEqual([]);
  expect(await differences({ op: 'Gather', inputs: [ramp(4, 3), vector()], outputs: ['float32'] })).toEqual([]);
});

it('ops that ONNX has no operator tests of here', async () => {
  const bytes = (dtype: 'int8' | 'uint8', ...dims: number[]): Tensor =>
    fromNumbers(dtype, dims, Array.from({ length: elementCount(dims) }, (_, i) => (i * 5) % 100));
  const scale = fromNumbers('float32', [], [0.5]);
  const zero = fromNumbers('uint8', [], [3]);
  const cases: readonly NodeCase[] = [
    {
      op: 'QLinearConv',
      attributes: { auto_pad: 'SAME_UPPER', strides: [2, 2] },
      inputs: [bytes('uint8', 1, 2, 5, 6), scale, zero, bytes('uint8', 4, 2, 3, 3), scale, zero, scale, zero, fromNumbers('int32', [4], [1, 2, 3, 4])],
      outputs: ['uint8'],
    },
    { op: 'GlobalLpPool', opset: 21, inputs: [ramp(2, 3, 4, 5)], outputs: ['float32'] },
    { op: 'ReverseSequence', inputs: [ramp(4, 2, 3), vector(3, 1)], outputs: ['float32'] },
    { op: 'GatherND', inputs: [ramp(2, 3, 4), fromNumbers('int64', [2, 2], [0, 1, 1, 2])], outputs: ['float32'] },
    { op: 'GatherND', attributes: { batch_dims: 1 }, inputs: [ramp(2, 3, 4), fromNumbers('int64', [2, 1], [1, 2])], outputs: ['float32'] },
    { op: 'DynamicQuantizeLinear', inputs: [ramp(2, 3)], outputs: ['uint8', 'float32', 'uint8'] },
    { op: 'QuantizeLinear', attributes: { axis: -1 }, inputs: [ramp(2, 3), fromNumbers('float32', [3], [1, 2, 4]), bytes('int8', 3)], outputs: ['int8'] },
    { op: 'DequantizeLinear', attributes: { axis: 0 }, inputs: [bytes('int8', 2, 3), fromNumbers('float32', [2], [1, 2])], outputs: ['float32'] },
    { op: 'NonZero', inputs: [ramp(3, 4)], outputs: ['int64'] },
    { op: 'Cosh', inputs: [ramp(2)], outputs: ['float32'] },
    { op: 'Mish', inputs: [ramp(2)], outputs: ['float32'] },
  ];
  for (const node of cases) expect([node.op, await differences(node)]).toEqual([node.op, []]);
});
