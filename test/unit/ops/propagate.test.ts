/**
 * Values known at build against onnxruntime, op by op on random operands, and along the chains that exporters write.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { OpKind } from '../../../src/ir/ops.ts';
import { elementCount, formatType, fromNumbers, toNumbers } from '../../../src/ir/tensor.ts';
import type { DType, Tensor } from '../../../src/ir/tensor.ts';
import { importAttributes } from '../../../src/ops/attributes.ts';
import type { RawAttribute } from '../../../src/ops/def.ts';
import { inferContext, inferNode, propagateNode } from '../../../src/ops/infer.ts';
import type { InputInfo } from '../../../src/ops/infer.ts';
import { materialize, MAX_KNOWN_VALUES } from '../../../src/ops/values.ts';
import { runNode } from './onnxruntime.ts';
import type { NodeCase } from './onnxruntime.ts';

/** Infers and propagates a node whose inputs are all known. */
function propagate(op: OpKind, inputs: readonly (InputInfo | undefined)[], attributes: Readonly<Record<string, RawAttribute>> = {}, outputs = 1): InputInfo[] {
  const context = inferContext(inputs, outputs);
  const attrs = importAttributes(op, new Map(Object.entries(attributes)), context);
  const types = inferNode(op, attrs, context);
  const known = propagateNode(op, attrs, context);
  return types.map((type, i) => ({ type, known: known[i] }));
}

function constant(dtype: DType, values: readonly number[], dims: readonly number[] = [values.length]): InputInfo {
  const tensor = fromNumbers(dtype, dims, values);
  return { type: tensor, constant: tensor };
}

function tensorOf(info: InputInfo): Tensor {
  return info.constant ?? fromNumbers(info.type.dtype, info.type.dims, info.known!);
}

/** Where the node's propagated values differ from what onnxruntime computes; a value that is not known differs too. */
async function differences(node: NodeCase): Promise<string[]> {
  const inputs = node.inputs.map((tensor) => tensor && { type: tensor, constant: tensor });
  const found = propagate(node.op as OpKind, inputs, node.attributes, node.outputs.length);
  const expected = await runNode(node);
  return expected.flatMap((tensor, i) => {
    const [values, known] = [toNumbers(tensor).join(), found[i]!.known?.map((value) => value + 0).join()];
    const [type, inferred] = [formatType(tensor), formatType(found[i]!.type)];
    return values === known && type === inferred ? [] : [`output ${i} is ${type} ${values}, propagated ${inferred} ${known}`];
  });
}

const RUNS = { numRuns: 6, seed: 3 };
const dims = fc.constantFrom([], [3], [2, 1], [1, 3], [2, 3]);

function operand(dtype: DType, element: fc.Arbitrary<number>): fc.Arbitrary<Tensor> {
  return dims.chain((shape) =>
    fc.array(element, { minLength: elementCount(shape), maxLength: elementCount(shape) }).map((values) => fromNumbers(dtype, shape, values)),
  );
}

const small = fc.integer({ min: -40, max: 40 });
const nonzero = small.filter((n) => n !== 0);
const fraction = small.map((n) => Math.fround(n / 3));
const truth = fc.constantFrom(0, 1);

describe('agrees with onnxruntime on', () => {
  it.each(['Add', 'Sub', 'Mul', 'Div', 'Mod', 'Min', 'Max', 'Equal', 'Less', 'LessOrEqual', 'Greater', 'GreaterOrEqual'])('%s of int64', async (op) => {
    const gives = /Equal|Less|Greater/.test(op) ? 'bool' : 'int64';
    await fc.assert(
      fc.asyncProperty(operand('int64', small), operand('int64', nonzero), async (a, b) => {
        expect(await differences({ op, inputs: [a, b], outputs: [gives] })).toEqual([]);
      }),
      RUNS,
    );
  });

  it.each(['Add', 'Sub', 'Mul', 'Div', 'Min', 'Max', 'Less', 'GreaterOrEqual'])('%s of float32', async (op) => {
    const gives = /Less|Greater/.test(op) ? 'bool' : 'float32';
    await fc.assert(
      fc.asyncProperty(operand('float32', fraction), operand('float32', fraction.filter((x) => x !== 0)), async (a, b) => {
        expect(await differences({ op, inputs: [a, b], outputs: [gives] })).toEqual([]);
      }),
      RUNS,
    );
  });

  it.each(['Floor', 'Ceil', 'Round', 'Abs', 'Neg', 'Relu', 'Sign'])('%s', async (op) => {
    await fc.assert(
      fc.asyncProperty(operand('float32', fraction), async (x) => {
        expect(await differences({ op, inputs: [x], outputs: ['float32'] })).toEqual([]);
      }),
      RUNS,
    );
  });

  it.each(['And', 'Or', 'Xor'])('%s', async (op) => {
    await fc.assert(
      fc.asyncProperty(operand('bool', truth), operand('bool', truth), async (a, b) => {
        expect(await differences({ op, inputs: [a, b], outputs: ['bool'] })).toEqual([]);
      }),
      RUNS,
    );
  });

  it('Mod with either sign rule', async () => {
    await fc.assert(
      fc.asyncProperty(operand('int32', small), operand('int32', nonzero), truth, async (a, b, fmod) => {
        expect(await differences({ op: 'Mod', attributes: { fmod }, inputs: [a, b], outputs: ['int32'] })).toEqual([]);
      }),
      RUNS,
    );
  });

  it('Cast between integers and floats', async () => {
    expect(await differences({ op: 'Cast', attributes: { to: 7 }, inputs: [fromNumbers('float32', [4], [2.9, -2.9, 0, 7])], outputs: ['int64'] })).toEqual([]);
    expect(await differences({ op: 'Cast', attributes: { to: 1 }, inputs: [fromNumbers('int64', [2], [16777217, -3])], outputs: ['float32'] })).toEqual([]);
    expect(await differences({ op: 'Cast', attributes: { to: 6 }, inputs: [fromNumbers('bool', [2], [1, 0])], outputs: ['int32'] })).toEqual([]);
  });

  it('ops that move and reduce', async () => {
    const m = fromNumbers('int64', [2, 3], [5, -1, 3, 2, 9, 4]);
    const v = (...values: number[]): Tensor => fromNumbers('int64', [values.length], values);
    const cases: readonly NodeCase[] = [
      { op: 'Concat', attributes: { axis: 0 }, inputs: [v(1, 2), v(3)], outputs: ['int64'] },
      { op: 'Slice', inputs: [m, v(-1, 0), v(-9, 3), v(0, 1), v(-1, 2)], outputs: ['int64'] },
      { op: 'Gather', inputs: [v(7, 8, 9), fromNumbers('int64', [], [-1])], outputs: ['int64'] },
      { op: 'Transpose', inputs: [m], outputs: ['int64'] },
      { op: 'Tile', inputs: [m, v(2, 2)], outputs: ['int64'] },
      { op: 'Expand', inputs: [v(1, 2, 3), v(2, 1)], outputs: ['int64'] },
      { op: 'Reshape', inputs: [m, v(3, -1)], outputs: ['int64'] },
      { op: 'Flatten', inputs: [m], outputs: ['int64'] },
      { op: 'Unsqueeze', inputs: [v(4), v(0)], outputs: ['int64'] },
      { op: 'Squeeze', inputs: [v(4)], outputs: ['int64'] },
      { op: 'Split', attributes: { num_outputs: 2 }, inputs: [v(1, 2, 3)], outputs: ['int64', 'int64'] },
      { op: 'Shape', attributes: { start: -1 }, inputs: [m], outputs: ['int64'] },
      { op: 'Size', inputs: [m], outputs: ['int64'] },
      { op: 'Range', inputs: [9, 0, -2].map((n) => fromNumbers('int64', [], [n])), outputs: ['int64'] },
      { op: 'ConstantOfShape', attributes: { value: fromNumbers('int64', [1], [-1]) }, inputs: [v(2, 2)], outputs: ['int64'] },
      { op: 'Where', inputs: [fromNumbers('bool', [3], [1, 0, 1]), v(1, 2, 3), v(9)], outputs: ['int64'] },
      { op: 'Clip', inputs: [m, fromNumbers('int64', [], [0]), fromNumbers('int64', [], [4])], outputs: ['int64'] },
      { op: 'NonZero', inputs: [fromNumbers('int64', [2, 3], [0, 1, 0, 5, 0, 2])], outputs: ['int64'] },
      ...['ReduceProd', 'ReduceSum', 'ReduceMax', 'ReduceMin'].flatMap((op): NodeCase[] => [
        { op, inputs: [m], outputs: ['int64'] },
        { op, attributes: { keepdims: 0 }, inputs: [m, v(1)], outputs: ['int64'] },
      ]),
      // Sizes of the axes behind the last: none, whose product is 1.
      ...['ReduceProd', 'ReduceSum'].map((op): NodeCase => ({ op, attributes: { keepdims: 0 }, inputs: [v(), v(0)], outputs: ['int64'] })),
    ];
    for (const node of cases) expect([node.op, await differences(node)]).toEqual([node.op, []]);
  });
});

describe('follows', () => {
  const x: InputInfo = { type: { dtype: 'float32', dims: [2, 3, 14, 10] } };

  it('a flattened batch: Shape, Gather, Unsqueeze, Concat, Reshape', () => {
    const [shape] = propagate('Shape', [x]);
    const [batch] = propagate('Gather', [shape, constant('int64', [0], [])]);
    const [vector] = propagate('Unsqueeze', [batch, constant('int64', [0])]);
    const [target] = propagate('Concat', [vector, constant('int64', [-1])], { axis: 0 });
    expect(target!.known).toEqual([2, -1]);
    expect(propagate('Reshape', [x, target])[0]!.type.dims).toEqual([2, 420]);
  });

  it('a scaled size through floating point: Shape, Slice, Cast, Mul, Floor, Cast, Resize', () => {
    const [shape] = propagate('Shape', [x]);
    const [spatial] = propagate('Slice', [shape, constant('int64', [2]), constant('int64', [4])]);
    const [floats] = propagate('Cast', [spatial], { to: 1 });
    const [scaled] = propagate('Mul', [floats, constant('float32', [1.5], [])]);
    const [floor] = propagate('Floor', [scaled]);
    const [sizes] = propagate('Cast', [floor], { to: 7 });
    const [target] = propagate('Concat', [propagate('Slice', [shape, constant('int64', [0]), constant('int64', [2])])[0], sizes], { axis: 0 });
    expect(propagate('Resize', [x, undefined, undefined, target])[0]!.type.dims).toEqual([2, 3, 21, 15]);
  });

  it('an end of INT64_MAX, through Concat, to a slice', () => {
    const max: Tensor = { dtype: 'int64', dims: [1], data: new Uint8Array([255, 255, 255, 255, 255, 255, 255, 127]) };
    const [ends] = propagate('Concat', [{ type: max, constant: max }, constant('int64', [5])], { axis: 0 });
    const [slice] = propagate('Slice', [x, constant('int64', [1, 2]), ends, constant('int64', [1, 2])]);
    expect(slice!.type.dims).toEqual([2, 2, 3, 10]);
  });
});

describe('does not claim', () => {
  const max: Tensor = { dtype: 'int64', dims: [1], data: new Uint8Array([255, 255, 255, 255, 255, 255, 255, 127]) };

  it('integers beyond 2^53, as operands or as results', () => {
    expect(propagate('Sub', [{ type: max, constant: max }, constant('int64', [1])])[0]!.known).toBeUndefined();
    expect(propagate('Mul', [constant('int64', [2 ** 30]), constant('int64', [2 ** 30])])[0]!.known).toBeUndefined();
    expect(materialize(max, [2 ** 63])).toBeUndefined();
  });

  it('results that wrap in a narrow type, and integer division by zero', () => {
    expect(propagate('Add', [constant('int8', [100]), constant('int8', [100])])[0]!.known).toBeUndefined();
    expect(propagate('Div', [constant('int64', [1]), constant('int64', [0])])[0]!.known).toBeUndefined();
  });

  it('sums of floats, whose order is the runtime’s', () => {
    expect(propagate('ReduceSum', [constant('float32', [0.1, 0.2, 0.3])])[0]!.known).toBeUndefined();
  });

  it('large tensors', () => {
    const large = constant('int64', Array.from({ length: MAX_KNOWN_VALUES + 1 }, () => 1));
    expect(propagate('Identity', [large])[0]!.known).toBeUndefined();
    expect(propagate('Expand', [constant('int64', [1]), constant('int64', [MAX_KNOWN_VALUES + 1])])[0]!.known).toBeUndefined();
    expect(propagate('Identity', [constant('int64', Array.from({ length: MAX_KNOWN_VALUES }, () => 1))])[0]!.known).toHaveLength(MAX_KNOWN_VALUES);
  });
});

it('materializes known values as tensors', () => {
  const [shape] = propagate('Shape', [{ type: { dtype: 'float32', dims: [4, 5] } }]);
  expect(toNumbers(tensorOf(shape!))).toEqual([4, 5]);
  expect(materialize(shape!.type, shape!.known!)).toEqual(fromNumbers('int64', [2], [4, 5]));
});
