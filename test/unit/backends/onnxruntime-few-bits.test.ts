/** Types of few bits in onnxruntime, which binds none of them: casts, and the reference of a model with such inputs and outputs, against a table of their numbers. */
import { expect, it } from 'vitest';
import { openReference } from '../../../src/backends/onnxruntime/evaluate.ts';
import { openGraph } from '../../../src/backends/onnxruntime/observe.ts';
import { fromNumbers, toNumbers, type DType, type Tensor } from '../../../src/ir/tensor.ts';
import { ONNX_DTYPE } from '../../../src/ops/specs.ts';
import { fewBitsCasts } from '../../helpers/few-bits-casts.ts';
import { castTo, numbersOf } from '../../helpers/few-bits-reference.ts';
import { encode, modelProto, node, value } from '../onnx/models.ts';

it('every number, the middles between neighbours, and what is none', async () => {
  const { graph, inputs, expected } = fewBitsCasts();
  const runner = await openGraph(graph);
  try {
    const outputs = await runner.run(inputs);
    for (const [name, values] of Object.entries(expected)) expect({ name, values: toNumbers(outputs.get(name)!) }).toEqual({ name, values });
  } finally {
    await runner.dispose();
  }
});

it.each([
  ['float8e4m3fn', 'float8e5m2', numbersOf('float8e4m3fn'), numbersOf('float8e4m3fn').map((x) => castTo('float8e5m2', x, 1))],
  ['float8e5m2', 'float8e5m2', numbersOf('float8e5m2'), numbersOf('float8e5m2')],
  ['int4', 'uint4', [-8, -1, 0, 7, 3], [8, 15, 0, 7, 3]],
] as const)('the reference of a model from %s to %s', async (from: DType, to: DType, numbers, expected) => {
  const nodes = from === to ? [node('Identity', ['x'], ['y'])] : [node('Cast', ['x'], ['y'], { to: ONNX_DTYPE[to] })];
  const proto = modelProto({ opset: 21, inputs: [value('x', from, [numbers.length])], outputs: [value('y', to, [numbers.length])], nodes });
  proto.irVersion = 10;
  const reference = await openReference({ bytes: encode(proto), folder: undefined });
  try {
    const found = (await reference.run(new Map([['x', { kind: 'tensor', tensor: fromNumbers(from, [numbers.length], numbers) }]]))).get('y') as { readonly tensor: Tensor };
    expect({ dtype: found.tensor.dtype, numbers: toNumbers(found.tensor) }).toEqual({ dtype: to, numbers: expected });
  } finally {
    await reference.dispose();
  }
});
