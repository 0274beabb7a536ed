/** What an upgrade rule is, and the small tools that rules share. */
import type { OpKind } from '../../ir/ops.ts';
import { fromNumbers, type DType, type Tensor } from '../../ir/tensor.ts';
import { NotStaticError, ShapeError, type RawAttribute } from '../../ops/def.ts';
import { int64, type RawRecord, type Scope, type SourceNode } from '../scope.ts';

/**
 * Adds to the scope what a node means at the reference opset. Throws ShapeError, NotStaticError or UnsupportedError as the
 * op table does; the importer adds the node's name.
 */
export type Rule = (node: SourceNode, scope: Scope) => void;

/** The node's attributes as a record, without those named. */
export function attributesOf(node: SourceNode, ...without: readonly string[]): RawRecord {
  return Object.fromEntries([...node.attributes].filter(([name]) => !without.includes(name)));
}

/** The node as it is, under another name or with other inputs and attributes. */
export function emitAs(op: OpKind, node: SourceNode, scope: Scope, changes: { readonly inputs?: readonly string[]; readonly attributes?: RawRecord } = {}): void {
  scope.emit(node, op, changes.inputs ?? node.inputs, changes.attributes ?? attributesOf(node), node.outputs);
}

/** The value `id`, required of input `index`. */
export function inputOf(node: SourceNode, index: number): string {
  const id = node.inputs[index];
  if (!id) throw new ShapeError(`input ${index} is required`);
  return id;
}

/** Numbers that the result's shape depends on. Throws NotStaticError where the data decide them. */
export function knownInts(node: SourceNode, scope: Scope, index: number, name: string): readonly number[] {
  const values = scope.known(inputOf(node, index));
  if (!values) throw new NotStaticError(`input ${index} (${name}) is not known at build`);
  return values;
}

export function intsAttribute(node: SourceNode, name: string): readonly number[] | undefined {
  const value = node.attributes.get(name);
  if (value === undefined) return undefined;
  if (!Array.isArray(value) || !value.every(Number.isSafeInteger)) throw new ShapeError(`attribute '${name}' must be a list of integers`);
  return value as readonly number[];
}

export function numberAttribute(node: SourceNode, name: string, fallback?: number): number {
  const value = node.attributes.get(name) ?? fallback;
  if (typeof value !== 'number') throw new ShapeError(`attribute '${name}' is required as a number`);
  return value;
}

/** Constants for values that older opsets had as attributes. */
export function int64Input(scope: Scope, values: readonly number[]): string {
  return scope.addConstant(int64(values));
}

export function scalarInput(scope: Scope, dtype: DType, value: number): string {
  return scope.addConstant(scalar(dtype, value));
}

export function scalar(dtype: DType, value: number): Tensor {
  return fromNumbers(dtype, [], [value]);
}

/** `axis` counted from the front. */
export function normalizeAxis(axis: number, rank: number): number {
  const normalized = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(axis) || normalized < 0 || normalized > rank) throw new ShapeError(`axis ${axis} is out of range for rank ${rank}`);
  return normalized;
}

export function isTensor(value: RawAttribute | undefined): value is Tensor {
  return typeof value === 'object' && 'dtype' in value;
}
