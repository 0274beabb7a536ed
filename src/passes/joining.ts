/**
 * Concatenations of expressions on their way to one node: the parts, and the operands that they share.
 */
import type { GraphEditor } from '../ir/edit.ts';
import { type Expr, type ExprPart, type PartPlace, replaceInputs } from '../ir/expr.ts';
import type { AnyNode, ValueId } from '../ir/graph.ts';
import { type Dims, elementCount, sameDims } from '../ir/tensor.ts';
import { joinedType } from '../ops/internal.ts';
import { sliceAxis } from '../ops/slice.ts';
import { exprSize } from './expr-of.ts';
import { isFusable, MAX_EXPR_SIZE, regionOf } from './region.ts';
import { addInts, constantInts, positiveAxis } from './tensors.ts';

/** With the output, the eight storage bindings that every WebGPU device has, should no two inputs lie in one tensor. */
export const MAX_INPUTS = 7;

/** A value, or the elements of it along the concatenation's axis that belong to a part; as if it had other dims, which hold the same elements in the same order. */
export interface Operand {
  readonly id: ValueId;
  readonly place?: PartPlace;
  readonly dims?: Dims;
}

/** A concatenation on its way to one kernel. */
export interface Joining {
  /** Of the concatenation; counted from the front. */
  readonly axis: number;
  readonly dims: Dims;
  readonly parts: readonly ExprPart[];
  /** Input i of the expressions is entry i. */
  readonly operands: readonly Operand[];
  /** The node whose output this is, and all whose work is done. */
  readonly root: AnyNode;
  readonly nodes: readonly AnyNode[];
}

/** Operands that are numbered as they are asked for. */
export class Operands {
  readonly list: Operand[];

  constructor(known: readonly Operand[] = []) {
    this.list = [...known];
  }

  number(operand: Operand): number {
    const known = this.list.findIndex((other) => isSame(other, operand));
    return known >= 0 ? known : this.list.push(operand) - 1;
  }

  /** The expression over these operands, where it was over `inputs`. */
  renumbered(expr: Expr, inputs: readonly ValueId[]): Expr {
    return replaceInputs(expr, (index, dtype) => ({ kind: 'input', index: this.number({ id: inputs[index]! }), dtype }));
  }
}

function isSame(a: Operand, b: Operand): boolean {
  const isPlaced = (['start', 'step', 'extent'] as const).every((key) => a.place?.[key] === b.place?.[key]);
  return a.id === b.id && isPlaced && (a.dims === b.dims || (a.dims !== undefined && b.dims !== undefined && sameDims(a.dims, b.dims)));
}

/** An elementwise node as an expression; undefined for others. */
export function computedBy(node: AnyNode | undefined, edit: GraphEditor): { readonly inputs: readonly ValueId[]; readonly expr: Expr } | undefined {
  if (node?.op === 'FusedElementwise') return node.outputs.length === 1 ? { inputs: node.inputs, expr: node.attrs.exprs[0]! } : undefined;
  const region = node && isFusable(node, edit) ? regionOf([node], edit) : undefined;
  return region && { inputs: region.inputs, expr: region.exprs.get(node!.outputs[0]!)! };
}

/** What a part reads of a value that broadcasts to the whole; `axis` is counted from the end. */
export function operandAt(id: ValueId, { start, step, extent }: PartPlace, axis: number, edit: GraphEditor): Operand {
  const { dims } = edit.type(id);
  if ((dims.at(axis) ?? 1) === 1) return { id };
  const known = edit.consumers(id).find((reader) => reader.op === 'Slice' && isPart(reader, { start, step, extent }, axis + dims.length, edit));
  return known ? { id: known.outputs[0]! } : { id, place: { start, step, extent } };
}

/** Whether a slice takes these elements of one axis, and all of every other. */
function isPart(slice: AnyNode, { start, step, extent }: PartPlace, axis: number, edit: GraphEditor): boolean {
  const { dims } = edit.type(slice.inputs[0]!);
  const [starts, ends, axes, steps] = [1, 2, 3, 4].map((index) => constantInts(slice, index, edit));
  if (starts?.length !== 1 || ends?.length !== 1 || !axes || !steps || positiveAxis(axes[0] ?? 0, dims.length) !== axis) return false;
  const taken = sliceAxis(dims[axis]!, starts[0]!, ends[0]!, steps[0] ?? 1);
  return taken.start === start && taken.step === step && taken.count === extent;
}

/** Whether one kernel can be compiled quickly, and the shape is known from the operands. */
export function isSayable({ axis, dims, parts, operands }: Joining, edit: GraphEditor): boolean {
  const size = parts.reduce((sum, { expr }) => sum + exprSize(expr), 0);
  if (elementCount(dims) === 0 || parts.some(({ extent }) => extent === 0) || operands.length === 0 || size > MAX_EXPR_SIZE) return false;
  const types = operands.map((operand) => {
    const type = { ...edit.type(operand.id), ...(operand.dims && { dims: operand.dims }) };
    const { place } = operand;
    return place ? { ...type, dims: type.dims.map((dim, a) => (a === axis - dims.length + type.dims.length ? place.extent : dim)) } : type;
  });
  return sameDims(joinedType({ axis, parts }, types).dims, dims);
}

/** The operand as a value of its own, with `axis` counted from the end. */
export function operandValue({ id, place, dims }: Operand, axis: number, edit: GraphEditor): ValueId {
  if (dims) return reshaped(id, dims, edit);
  return place ? slice(id, place, axis, edit) : id;
}

function reshaped(id: ValueId, dims: Dims, edit: GraphEditor): ValueId {
  return edit.add({ op: 'Reshape', inputs: [id, addInts(edit, dims, `${id}_shape`)], attrs: { allowzero: 0 }, origins: [], name: `${id}_viewed`, type: { ...edit.type(id), dims } });
}

function slice(id: ValueId, { start, step, extent }: PartPlace, axis: number, edit: GraphEditor): ValueId {
  const type = edit.type(id);
  const at = axis + type.dims.length;
  const bounds = [start, start + (extent - 1) * step + 1, at, step].map((value) => addInts(edit, [value], `${id}_at`));
  return edit.add({ op: 'Slice', inputs: [id, ...bounds], attrs: {}, origins: [], name: `${id}_part`, type: { ...type, dims: type.dims.map((dim, a) => (a === at ? extent : dim)) } });
}
