/**
 * Small facts about tensors and constants that several rules ask for.
 */
import type { GraphEditor } from '../ir/edit.ts';
import type { AnyNode, ValueId } from '../ir/graph.ts';
import { fromNumbers, toNumbers, type DType, type Dims } from '../ir/tensor.ts';

export const FLOATS: ReadonlySet<DType> = new Set(['float32', 'float16', 'bfloat16', 'float64']);

/** The integers of an input that is a constant; undefined where it is not, `[]` where it is left out. */
export function constantInts(node: AnyNode, index: number, edit: GraphEditor): readonly number[] | undefined {
  const id = node.inputs[index];
  if (!id) return [];
  const tensor = edit.constant(id);
  return tensor && toNumbers(tensor);
}

/** Adds an int64 vector, the form in which ONNX takes shapes and axes. */
export function addInts(edit: GraphEditor, values: readonly number[], hint: string): ValueId {
  return edit.addConstant(fromNumbers('int64', [values.length], values), hint);
}

/** An axis counted from the front. */
export function positiveAxis(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}

/** The permutation that does `second` after `first`. */
export function composePerms(first: readonly number[], second: readonly number[]): number[] {
  return second.map((axis) => first[axis]!);
}

export function isIdentityPerm(perm: readonly number[]): boolean {
  return perm.every((axis, index) => axis === index);
}

/** Whether a permutation leaves the order of the axes that are longer than one, so that no element moves. */
export function movesNothing(perm: readonly number[], dims: Dims): boolean {
  const long = perm.filter((axis) => dims[axis] !== 1);
  return long.every((axis, index) => index === 0 || axis > long[index - 1]!);
}
