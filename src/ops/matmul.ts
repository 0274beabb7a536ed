/**
 * Matrix products: MatMul, Gemm, Einsum and the integer ones.
 */
import { elementCount } from '../ir/tensor.ts';
import type { Dims, TensorType } from '../ir/tensor.ts';
import { bytesMoved } from './cost.ts';
import type { InputTypes } from './cost.ts';
import { ShapeError } from './def.ts';
import type { InferContext, OpCost, OpTable } from './def.ts';
import { BYTE, FLOAT, NUMBER } from './dtypes.ts';
import { parseEinsum } from './einsum.ts';
import { broadcastsTo, broadcastTwo, expectScalar, input, optionalInput, rejectInput } from './shapes.ts';
import { flag, float, string } from './specs.ts';

type MatMulOp = 'Einsum' | 'Gemm' | 'MatMul' | 'MatMulInteger' | 'QLinearMatMul';

const ONE = { min: 1, max: 1 };

/**
 * Dims of a product by NumPy's rules: a vector stands for a row on the left, a column on the right; leading axes broadcast.
 * `trans` swaps the last two axes of an operand of rank 2 or more first.
 */
export function matMulDims(a: Dims, b: Dims, transA = false, transB = false): number[] {
  const describe = `[${a.join(',')}] and [${b.join(',')}]`;
  if (a.length === 0 || b.length === 0) throw new ShapeError(`matrices ${describe} must not be scalars`);
  const left = a.length === 1 ? [1, a[0]!] : swap(a, transA);
  const right = b.length === 1 ? [b[0]!, 1] : swap(b, transB);
  const [rows, depth] = left.slice(-2) as [number, number];
  const [height, columns] = right.slice(-2) as [number, number];
  if (depth !== height) throw new ShapeError(`matrices ${describe} must agree in their inner dimension, found ${depth} and ${height}`);
  const batch = broadcastTwo(left.slice(0, -2), right.slice(0, -2));
  if (!batch) throw new ShapeError(`matrices ${describe} have batch axes that do not broadcast`);
  return [...batch, ...(a.length === 1 ? [] : [rows]), ...(b.length === 1 ? [] : [columns])];
}

function swap(dims: Dims, trans: boolean): number[] {
  return trans ? [...dims.slice(0, -2), dims.at(-1)!, dims.at(-2)!] : [...dims];
}

/** 2 · outputs · depth. */
export function matMulFlops(a: Dims, output: Dims, transA = false): number {
  const depth = (transA && a.length > 1 ? a.at(-2) : a.at(-1)) ?? 0;
  return 2 * elementCount(output) * depth;
}

function productCost(_attrs: unknown, inputs: InputTypes, outputs: readonly TensorType[]): OpCost {
  return { flops: matMulFlops(inputs[0]?.dims ?? [], outputs[0]?.dims ?? []), bytes: bytesMoved(inputs, outputs) };
}

function einsumShapes(context: InferContext): Dims[] {
  return Array.from({ length: context.inputCount }, (_, index) => context.type(index).dims);
}

export const MATMUL: Pick<OpTable, MatMulOp> = {
  Einsum: {
    since: 12,
    domain: '',
    inputs: { min: 1, max: Number.POSITIVE_INFINITY },
    outputs: ONE,
    attrs: { equation: string() },
    infer(attrs, context) {
      const { dtype } = input(context, 0, 'operand 0', { dtypes: NUMBER });
      for (let i = 1; i < context.inputCount; i++) input(context, i, `operand ${i}`, { dtype });
      const { output, sizes } = parseEinsum(attrs.equation, einsumShapes(context));
      return [{ dtype, dims: output.map((label) => sizes.get(label)!) }];
    },
    cost(attrs, inputs, outputs) {
      const shapes = inputs.flatMap((type) => (type ? [type.dims] : []));
      const points = elementCount([...parseEinsum(attrs.equation, shapes).sizes.values()]);
      return { flops: points * Math.max(1, 2 * (shapes.length - 1)), bytes: bytesMoved(inputs, outputs) };
    },
  },
  Gemm: {
    since: 1,
    domain: '',
    inputs: { min: 2, max: 3 },
    outputs: ONE,
    attrs: { alpha: float(1), beta: float(1), transA: flag(0), transB: flag(0) },
    infer(attrs, context) {
      const a = input(context, 0, 'A', { dtypes: NUMBER, rank: 2 });
      const b = input(context, 1, 'B', { dtype: a.dtype, rank: 2 });
      const dims = matMulDims(a.dims, b.dims, attrs.transA === 1, attrs.transB === 1);
      const c = optionalInput(context, 2, 'C', { dtype: a.dtype });
      if (c && !broadcastsTo(c.dims, dims)) rejectInput(context, 2, 'C', `must broadcast to [${dims.join(',')}]`);
      return [{ dtype: a.dtype, dims }];
    },
    cost(attrs, inputs, outputs) {
      const output = outputs[0]?.dims ?? [];
      const scales = (attrs.alpha === 1 ? 0 : 1) + (inputs[2] ? (attrs.beta === 1 ? 1 : 2) : 0);
      const product = matMulFlops(inputs[0]?.dims ?? [], output, attrs.transA === 1);
      return { flops: product + scales * elementCount(output), bytes: bytesMoved(inputs, outputs) };
    },
  },
  MatMul: {
    since: 1,
    domain: '',
    inputs: { min: 2, max: 2 },
    outputs: ONE,
    attrs: {},
    infer(_attrs, context) {
      const a = input(context, 0, 'A', { dtypes: NUMBER });
      const b = input(context, 1, 'B', { dtype: a.dtype });
      return [{ dtype: a.dtype, dims: matMulDims(a.dims, b.dims) }];
    },
    cost: productCost,
  },
  MatMulInteger: {
    since: 10,
    domain: '',
    inputs: { min: 2, max: 4 },
    outputs: ONE,
    attrs: {},
    infer(_attrs, context) {
      const a = input(context, 0, 'A', { dtypes: BYTE });
      const b = input(context, 1, 'B', { dtypes: BYTE });
      optionalInput(context, 2, 'a_zero_point', { dtype: a.dtype });
      optionalInput(context, 3, 'b_zero_point', { dtype: b.dtype });
      return [{ dtype: 'int32', dims: matMulDims(a.dims, b.dims) }];
    },
    cost: productCost,
  },
  QLinearMatMul: {
    since: 10,
    domain: '',
    inputs: { min: 8, max: 8 },
    outputs: ONE,
    attrs: {},
    infer(_attrs, context) {
      const a = input(context, 0, 'a', { dtypes: BYTE });
      input(context, 1, 'a_scale', { dtypes: FLOAT });
      input(context, 2, 'a_zero_point', { dtype: a.dtype });
      const b = input(context, 3, 'b', { dtypes: BYTE });
      input(context, 4, 'b_scale', { dtypes: FLOAT });
      input(context, 5, 'b_zero_point', { dtype: b.dtype });
      expectScalar(context, 6, 'y_scale', { dtypes: FLOAT });
      const y = input(context, 7, 'y_zero_point', { dtypes: BYTE });
      return [{ dtype: y.dtype, dims: matMulDims(a.dims, b.dims) }];
    },
    cost: productCost,
  },
};
