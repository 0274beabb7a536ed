/**
 * A region of elementwise nodes on its way to one kernel: the expression of each value in it, and what it reads.
 */
import type { GraphEditor } from '../ir/edit.ts';
import type { Expr } from '../ir/expr.ts';
import type { AnyNode, ValueId } from '../ir/graph.ts';
import { elementCount, sameDims, toNumbers, type DType, type Dims } from '../ir/tensor.ts';
import { exprOf, exprSize, isElementwiseNode } from './expr-of.ts';
import { CAST_ONLY } from './device-types.ts';
import { dequantizedExpr, gridOf, quantizedExpr } from './linear-grid.ts';

export interface Region {
  /** Values read from memory; input i of the expressions is entry i. */
  readonly inputs: readonly ValueId[];
  readonly exprs: ReadonlyMap<ValueId, Expr>;
  /** In the order in which they were taken in. */
  readonly nodes: readonly AnyNode[];
}

/** Larger trees cost more to compile than the memory traffic that they save. */
export const MAX_EXPR_SIZE = 160;

/** A Sum of more has more inputs than any kernel has bindings. */
const MAX_OPERANDS = 8;

/**
 * Element types whose arithmetic is the same in a register as in memory; narrower integers would have to wrap at each step. Nothing computes with
 * floats of few bits, which a cast makes and another reads.
 */
const REGISTER_DTYPES: ReadonlySet<DType> = new Set([
  'float32', 'float16', 'int32', 'uint32', 'int64', 'bool', 'float8e4m3fn', 'float8e4m3fnuz', 'float8e5m2', 'float8e5m2fnuz', 'float8e8m0', 'float4e2m1',
]);

const NARROW_INTEGERS: ReadonlySet<DType> = new Set(['int8', 'uint8', 'int16', 'uint16']);

/** Whether a node maps elements to elements, all of types that a kernel can hold in registers. */
export function isFusable(node: AnyNode, edit: GraphEditor): boolean {
  // Integers end a region; who reads them dequantizes for itself, so that they are what lies in memory.
  if (gridOf(node, edit)) return node.op === 'QuantizeLinear';
  if (!isElementwiseNode(node) || node.outputs.length !== 1 || node.inputs.length > MAX_OPERANDS) return false;
  const inRegisters = (id: ValueId): boolean => !id || REGISTER_DTYPES.has(edit.type(id).dtype);
  // What a cast reads is not computed with before it is cast: any integer will do. Nor is what it gives, in a type that only casts know.
  if (node.op === 'Cast') {
    const [from, to] = [edit.type(node.inputs[0]!).dtype, edit.type(node.outputs[0]!).dtype];
    return (REGISTER_DTYPES.has(to) || CAST_ONLY.has(to)) && (REGISTER_DTYPES.has(from) || CAST_ONLY.has(from) || NARROW_INTEGERS.has(from));
  }
  return [...node.inputs, ...node.outputs].every(inRegisters);
}

/** The region with one more node, whose operands inside the region must have been taken in before; undefined where it can't be said. */
export function takeIn(region: Region, node: AnyNode, edit: GraphEditor): Region | undefined {
  const wider = { inputs: [...region.inputs], exprs: new Map(region.exprs), nodes: [...region.nodes] };
  return put(wider, node, new Map(), edit) ? wider : undefined;
}

/** The region of these nodes, given in topological order; undefined where it can't be said. */
export function regionOf(nodes: readonly AnyNode[], edit: GraphEditor): Region | undefined {
  const region = { inputs: [], exprs: new Map<ValueId, Expr>(), nodes: [] };
  const sizes = new Map<Expr, number>();
  return nodes.every((node) => put(region, node, sizes, edit)) ? region : undefined;
}

function put(
  region: { inputs: ValueId[]; exprs: Map<ValueId, Expr>; nodes: AnyNode[] },
  node: AnyNode,
  sizes: Map<Expr, number>,
  edit: GraphEditor,
): boolean {
  const operands = node.inputs.map((id) => (id ? (region.exprs.get(id) ?? operandExpr(id, region.inputs, edit)) : undefined));
  const expr = linearExpr(node, operands, edit) ?? exprOf(node, operands);
  if (!expr || exprSize(expr, sizes) > MAX_EXPR_SIZE) return false;
  region.exprs.set(node.outputs[0]!, expr);
  region.nodes.push(node);
  return true;
}

/** Quantization on one grid, as an expression. */
function linearExpr(node: AnyNode, [x]: readonly (Expr | undefined)[], edit: GraphEditor): Expr | undefined {
  const grid = gridOf(node, edit);
  return grid && (node.op === 'QuantizeLinear' ? quantizedExpr(x!, grid) : dequantizedExpr(x!, grid));
}

/** A number where the value is a constant of one element, else an input. Infinities have no literal in shading languages. */
export function operandExpr(id: ValueId, inputs: ValueId[], edit: GraphEditor): Expr {
  const { dtype, dims } = edit.type(id);
  const tensor = edit.constant(id);
  const value = tensor && elementCount(dims) === 1 ? toNumbers(tensor)[0]! : Number.NaN;
  // Whoever reads a dequantized value can read the integers: a quarter of the bytes, and often nobody is left who wants the floats.
  const source = edit.producer(id);
  const grid = source?.op === 'DequantizeLinear' ? gridOf(source, edit) : undefined;
  if (grid) return dequantizedExpr(operandExpr(source!.inputs[0]!, inputs, edit), grid);
  const isExact = dtype === 'int64' ? Number.isSafeInteger(value) : Number.isFinite(value);
  if (isExact) return { kind: 'const', value, dtype };
  const known = inputs.indexOf(id);
  const index = known >= 0 ? known : inputs.push(id) - 1;
  return { kind: 'input', index, dtype };
}

/** Whether the inputs broadcast to `dims` without the constants that became numbers. */
export function spans(inputs: readonly ValueId[], dims: Dims, edit: GraphEditor): boolean {
  const rank = Math.max(0, ...inputs.map((id) => edit.type(id).dims.length));
  const broadcast = Array.from({ length: rank }, (_, axis) => {
    const sizes = inputs.map((id) => edit.type(id).dims.at(axis - rank) ?? 1);
    return sizes.find((size) => size !== 1) ?? 1;
  });
  return sameDims(broadcast, dims);
}
