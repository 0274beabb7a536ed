/**
 * Per-tensor linear quantization as expressions: what QuantizeLinear and DequantizeLinear with one constant scale compute per
 * element, so that kernels take them in like any other elementwise op.
 */
import type { GraphEditor } from '../ir/edit.ts';
import type { Expr } from '../ir/expr.ts';
import type { AnyNode, Node, ValueId } from '../ir/graph.ts';
import { elementCount, toNumbers } from '../ir/tensor.ts';

type Linear = Node<'QuantizeLinear'> | Node<'DequantizeLinear'>;

/** x ≈ scale · (q − zero). */
export interface Grid {
  readonly dtype: 'int8' | 'uint8';
  readonly scale: number;
  readonly zero: number;
}

const LIMITS = { int8: [-128, 127], uint8: [0, 255] } as const;

/** The grid of a Q or DQ node of 8-bit integers whose one scale and zero point are constants. */
export function gridOf(node: AnyNode | undefined, edit: GraphEditor): Grid | undefined {
  if (node?.op !== 'QuantizeLinear' && node?.op !== 'DequantizeLinear') return undefined;
  const { inputs, attrs } = node as Linear;
  const [x, y] = [edit.type(inputs[0]!).dtype, edit.type(node.outputs[0]!).dtype];
  const [integer, real] = node.op === 'QuantizeLinear' ? [y, x] : [x, y];
  if ((integer !== 'int8' && integer !== 'uint8') || (real !== 'float32' && real !== 'float16') || attrs.block_size !== 0) return undefined;
  const scale = single(inputs[1], edit);
  const zero = inputs[2] ? single(inputs[2], edit) : 0;
  return scale === undefined || zero === undefined ? undefined : { dtype: integer, scale, zero };
}

function single(id: ValueId | undefined, edit: GraphEditor): number | undefined {
  const tensor = edit.constant(id);
  return tensor && elementCount(tensor.dims) === 1 ? toNumbers(tensor)[0] : undefined;
}

export function sameGrid(a: Grid, b: Grid): boolean {
  return a.dtype === b.dtype && a.scale === b.scale && a.zero === b.zero;
}

/** The real numbers that a grid spans. */
export function gridRange({ dtype, scale, zero }: Grid): readonly [number, number] {
  const [low, high] = LIMITS[dtype];
  return [(low - zero) * scale, (high - zero) * scale];
}

const number = (value: number): Expr => ({ kind: 'const', value, dtype: 'float32' });
const cast = (to: 'float32' | 'int8' | 'uint8', x: Expr): Expr => ({ kind: 'cast', to, x });

/**
 * saturate(round(x · (1/scale)) + zero). ONNX divides; a product with the reciprocal differs from it by at most one step, where the quotient
 * lies within a rounding error of the middle between two.
 */
export function quantizedExpr(x: Expr, { dtype, scale, zero }: Grid): Expr {
  const scaled: Expr = { kind: 'binary', fn: 'mul', a: cast('float32', x), b: number(1 / scale) };
  const rounded: Expr = { kind: 'unary', fn: 'round', x: scaled };
  const shifted: Expr = zero === 0 ? rounded : { kind: 'binary', fn: 'add', a: rounded, b: number(zero) };
  const [low, high] = LIMITS[dtype];
  const floored: Expr = { kind: 'binary', fn: 'max', a: shifted, b: number(low) };
  return cast(dtype, { kind: 'binary', fn: 'min', a: floored, b: number(high) });
}

/** (q − zero) · scale. */
export function dequantizedExpr(q: Expr, { scale, zero }: Grid): Expr {
  const real = cast('float32', q);
  const shifted: Expr = zero === 0 ? real : { kind: 'binary', fn: 'sub', a: real, b: number(zero) };
  return { kind: 'binary', fn: 'mul', a: shifted, b: number(scale) };
}
