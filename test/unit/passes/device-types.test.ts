import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { toDevice } from '../../../src/backends/webgpu/transfer.ts';
import type { Graph } from '../../../src/ir/graph.ts';
import { beyond32Bits, type DType, fromNumbers, numberToBfloat16, retyped, type Tensor, toNumbers, typedView } from '../../../src/ir/tensor.ts';
import { verifyGraph } from '../../../src/ir/verify.ts';
import { newGraphBuilder, OP_RULES } from '../../../src/ops/builder.ts';
import { unsupportedNodes } from '../../../src/backends/webgpu/lower/lower.ts';
import { droppedRounding, halvesAsFloat32, inDeviceTypes, narrowTypes } from '../../../src/passes/device-types.ts';
import { runPasses } from '../../../src/passes/pipeline.ts';
import { fold, runGraph } from '../../helpers/ort.ts';
import { testRows } from '../../helpers/rules.ts';

const cast = (to: DType) => ({ to, saturate: 1 }) as const;

/** What the passes leave, as `op(type, …) → type`, verified. */
function shown(draw: (b: ReturnType<typeof newGraphBuilder>) => readonly string[]): string[] {
  const b = newGraphBuilder('types');
  const graph = inDeviceTypes(b.finish(draw(b)));
  verifyGraph(graph, { stage: 'imported', rules: OP_RULES });
  return lines(graph);
}

const lines = ({ nodes, types }: Graph): string[] =>
  nodes.map(({ op, inputs, outputs }) => `${op}(${inputs.map((id) => types.get(id)!.dtype).join(', ')}) → ${outputs.map((id) => types.get(id)!.dtype).join(', ')}`);

describe('types that the device lacks', () => {
  it('are those of bindings alone, which keep their names', () => {
    const b = newGraphBuilder('types');
    b.input('x', { dtype: 'bfloat16', dims: [2] });
    const y = b.node('Add', ['x', b.constant(fromNumbers('bfloat16', [2], [1, 2]), 'c')], {}, { outputs: ['y'] });
    const graph = inDeviceTypes(b.finish([b.node('Neg', [y], {}, { outputs: ['z'] }), y]));
    expect([graph.inputs, graph.outputs]).toEqual([['x'], ['z', 'y']]);
    expect(['x', 'y', 'z', 'c'].map((id) => graph.types.get(id)!.dtype)).toEqual(['bfloat16', 'bfloat16', 'bfloat16', 'float32']);
    expect(toNumbers(graph.constants.get('c')!)).toEqual([1, 2]);
    expect(lines(graph)).toEqual(['Cast(bfloat16) → float32', 'Add(float32, float32) → float32', 'Cast(float32) → bfloat16', 'Neg(float32) → float32', 'Cast(float32) → bfloat16']);
  });

  it('round where a cast to bfloat16 does', () => {
    const rounded = ['Cast(float32) → bfloat16', 'Cast(bfloat16) → float32', 'Cast(float32) → float32'];
    expect(shown((b) => [b.node('Cast', [b.node('Cast', [b.input('x', { dtype: 'float32', dims: [2] })], cast('bfloat16'))], cast('float32'))])).toEqual(rounded);
    expect(shown((b) => [b.node('CastLike', [b.input('x', { dtype: 'float32', dims: [2] }), b.input('y', { dtype: 'bfloat16', dims: [1] })], { saturate: 1 }, { outputs: ['z'] })])).toContain('Cast(float32) → bfloat16');
  });

  it('go out of attributes too', () => {
    const shape = fromNumbers('int64', [1], [3]);
    expect(shown((b) => [b.node('Cast', [b.node('ConstantOfShape', [b.constant(shape)], { value: { dtype: 'float64', value: 2 } })], cast('float32'))])[0]).toBe('ConstantOfShape(int64) → float32');
    expect(shown((b) => [b.node('Cast', [b.node('CastLike', [b.input('x', { dtype: 'float32', dims: [2] }), b.constant(fromNumbers('float64', [], [1]))], { saturate: 1 })], cast('float32'))])[0]).toBe('Cast(float32) → float32');
    expect(shown((b) => [b.node('Cast', [b.node('EyeLike', [b.input('x', { dtype: 'float32', dims: [2, 2] })], { dtype: 'uint64', k: 0 })], cast('float32'))])[0]).toBe('EyeLike(float32) → uint32');
  });

  it.each<[string, (b: ReturnType<typeof newGraphBuilder>) => string, string]>([
    ['a double that is no float', (b) => b.node('Mul', [b.input('x', { dtype: 'float64', dims: [1] }), b.constant(fromNumbers('float64', [1], [1e300]), 'c')], {}), "Mul: constant c has float64 values beyond 32 bits"],
    ['a double that would be zero', (b) => b.node('Mul', [b.input('x', { dtype: 'float64', dims: [1] }), b.constant(fromNumbers('float64', [1], [1e-60]), 'c')], {}), "Mul: constant c has float64 values beyond 32 bits"],
    ['a large unsigned number', (b) => b.node('Add', [b.input('x', { dtype: 'uint64', dims: [1] }), b.constant(fromNumbers('uint64', [1], [2 ** 32]), 'c')], {}), "Add: constant c has uint64 values beyond 32 bits"],
    ['an output that is a constant', (b) => b.constant(fromNumbers('float64', [1], [1e300]), 'c'), 'binding: it has float64 values beyond 32 bits'],
    ['a fill', (b) => b.node('ConstantOfShape', [b.constant(fromNumbers('int64', [1], [2]))], { value: { dtype: 'float64', value: 1e300 } }), 'ConstantOfShape: no device type holds float64 (value ConstantOfShape_0)'],
    ['bits that would all be ones', (b) => b.node('BitwiseNot', [b.input('x', { dtype: 'uint64', dims: [1] })], {}), 'BitwiseNot: no device type holds uint64 (value x)'],
  ])('are refused by name: %s', (_, draw, reason) => {
    const b = newGraphBuilder('types');
    const graph = inDeviceTypes(b.finish([draw(b)]));
    verifyGraph(graph, { stage: 'imported', rules: OP_RULES });
    expect(unsupportedNodes(graph).map((found) => `${found.op}: ${found.reason}`)).toEqual([reason]);
  });

  testRows(narrowTypes, [
    ['doubles, within what a float tells apart', ({ b, n }) => b.node('Mul', [b.input('x', { dtype: 'float64', dims: [3] }), n(0.1, 'float64')], {}), 'Cast Mul Cast'],
    ['none', ({ b, x }) => b.node('Neg', [x(2)], {}), 'Neg'],
  ]);
});

describe('halves for int8', () => {
  /** Bindings in one type, a product in a half, a cast to it on the way. */
  const network = (half: 'float16' | 'bfloat16', binding: DType = half) => {
    const b = newGraphBuilder('half');
    const x = b.node('Cast', [b.input('x', { dtype: binding, dims: [2, 3] })], cast(half), { name: 'in' });
    const product = b.node('MatMul', [x, b.constant(fromNumbers(half, [3, 2], [1, -2, 0.5, 4, 8, 0.25]), 'w')], {}, { outputs: ['product'] });
    const between = b.node('CastLike', [b.node('Cast', [product], cast('float32')), product], { saturate: 1 }, { name: 'back' });
    return b.finish([b.node('Cast', [b.node('Relu', [between], {}, { outputs: ['relu'] })], cast(binding), { outputs: ['y'] }), product]);
  };
  const prepare = (graph: Graph) => runPasses(graph, { target: 'onnx', fusion: 'on', disabled: [], fold, forInt8: true, verify: true });

  it.each([['float16', 'float16'], ['float16', 'float32'], ['bfloat16', 'bfloat16'], ['bfloat16', 'float32']] as const)('%s between bindings in %s', async (half, binding) => {
    const before = network(half, binding);
    const { graph, reports } = await prepare(before);
    expect([graph.inputs, graph.outputs].map((ids) => ids.map((id) => [id, graph.types.get(id)]))).toEqual([before.inputs, before.outputs].map((ids) => ids.map((id) => [id, before.types.get(id)])));
    expect([...graph.constants.values()].map((tensor) => [tensor.dtype, toNumbers(tensor)])).toEqual([['float32', [1, -2, 0.5, 4, 8, 0.25]]]);
    const casts = binding === 'float32' ? [`Cast(float32) → ${half}`] : [`Cast(${half}) → float32`, `Cast(float32) → ${half}`, `Cast(float32) → ${half}`];
    expect(lines(graph).filter((line) => line.startsWith('Cast')).sort()).toEqual(casts.sort());
    expect(lines(graph)).toEqual(expect.arrayContaining(['MatMul(float32, float32) → float32', 'Relu(float32) → float32']));
    // The one that gives what it reads rounds nothing in the model either.
    const rounding = binding === 'float32' ? "'in', 'back'" : "'back'";
    expect(droppedRounding(before, reports)).toEqual([`Casts to ${half} do not round, as int8 is made of the model in float32: ${rounding}.`]);
    expect(droppedRounding(before, [])).toEqual([]);
  });

  it('computes what the model does, bit for bit where no half rounds', async () => {
    const before = network('float16');
    const inputs = new Map([['x', fromNumbers('float16', [2, 3], [1, 2, -3, 0.5, -4, 6])]]);
    expect(await runGraph((await prepare(before)).graph, inputs)).toEqual(await runGraph(before, inputs));
  });

  it('are not what other precisions are made of', async () => {
    const graph = network('float16');
    expect((await runPasses(graph, { target: 'onnx', fusion: 'on', disabled: [], fold })).graph.types.get('product')?.dtype).toBe('float16');
    expect(await halvesAsFloat32.run(inDeviceTypes(network('bfloat16', 'float32')), { target: 'onnx', fusion: 'on', fold })).toMatchObject({ rewrites: {} });
  });

  it.each(['float16', 'bfloat16'] as const)('are float32 exactly, every %s', async (dtype) => {
    const all: Tensor = { dtype, dims: [1 << 16], data: new Uint8Array(Uint16Array.from({ length: 1 << 16 }, (_, bits) => bits).buffer) };
    const b = newGraphBuilder('all');
    const exact = (await fold(b.finish([b.node('Cast', [b.constant(all)], cast('float32'), { outputs: ['y'] })]))).get('y')!;
    expect(typedView(retyped(all, 'float32'))).toEqual(typedView(exact));
  });
});

describe('numbers in 32 bits', () => {
  it('fit where the narrower type has them', () => {
    const fits = (dtype: DType, value: number) => beyond32Bits(fromNumbers(dtype, [1], [value])) === undefined;
    expect([2 ** 31 - 1, -(2 ** 31), 2 ** 31].map((value) => fits('int64', value))).toEqual([true, true, false]);
    expect([2 ** 32 - 1, 2 ** 32].map((value) => fits('uint64', value))).toEqual([true, false]);
    expect([3.4e38, 3.5e38, 1e-45, 1e-46, 0, -0, Infinity, Number.NaN, 0.1].map((value) => fits('float64', value))).toEqual([true, false, true, false, true, true, true, true, true]);
  });

  it('are those of every bfloat16', () => {
    fc.assert(
      fc.property(fc.array(fc.float(), { maxLength: 9 }), (values) => {
        const tensor = { dtype: 'bfloat16' as const, dims: [values.length], data: new Uint8Array(Uint16Array.from(values, numberToBfloat16).buffer) };
        expect(toNumbers(retyped(tensor, 'float32'))).toEqual(toNumbers(tensor));
        expect(typedView(fromNumbers('bfloat16', [values.length], toNumbers(tensor)))).toEqual(typedView(tensor));
      }),
      { seed: 3 },
    );
  });

  it('are asked for at upload', () => {
    const upload = (dtype: DType, value: number, storage: 'f32' | 'u32') => toDevice({ name: 'x', dtype, dims: [1], storage, buffer: 0, bytes: 16 } as never, fromNumbers(dtype, [1], [value]));
    expect(() => upload('float64', 1e300, 'f32')).toThrow('input x holds 1e+300, but the webgpu backend keeps float64 in 32 bits');
    expect(() => upload('uint64', 2 ** 33, 'u32')).toThrow('keeps uint64 in 32 bits');
    expect(new Float32Array(upload('float64', 0.1, 'f32').buffer)).toEqual(Float32Array.of(0.1));
  });
});

