/**
 * Values that an op declares few of, each tried: random draws may miss the one mode, flag or element type for which an implementation
 * is wrong. A sweep fixes one value of every such part at a time, all parts side by side, so that it takes as many cases as the part
 * with the most values has; sizes and numbers stay random. Prior art: each-choice coverage (Ammann, Offutt, 1994).
 */
import type { AttributeSpec, CustomOp } from '../ir/custom.ts';
import { elementCount, type Dims, type DType } from '../ir/tensor.ts';
import { freeSizes, type FixedParts, type KitCase } from './case.ts';

/** A range of more whole numbers is left to chance. */
const MOST_VALUES = 64;

function fewValues(spec: AttributeSpec): readonly (number | string)[] {
  if (spec.type === 'string') return spec.choices ?? [];
  if (spec.type !== 'int' || spec.min === undefined || spec.max === undefined || spec.max - spec.min >= MOST_VALUES) return [];
  return Array.from({ length: Math.floor(spec.max) - Math.ceil(spec.min) + 1 }, (_, i) => Math.ceil(spec.min!) + i);
}

/** At most `count` of them. The second time round, parts with the same number of values stand in other pairs. */
export function sweep(op: CustomOp, dtypes: readonly DType[], count: number): readonly FixedParts[] {
  const attributes = Object.entries(op.attributes).flatMap(([name, spec]) => (fewValues(spec).length > 1 ? [[name, fewValues(spec)] as const] : []));
  const optional = op.inputs.filter((input) => input.optional).map(({ name }) => name);
  const sizes = [dtypes.length, ...attributes.map(([, values]) => values.length), ...(optional.length > 0 ? [2] : [])];
  const most = Math.max(...sizes);
  if (most < 2) return [];
  // Pairs of parts: twice round, and once more for every further part.
  const rounds = Math.min(count, most * (sizes.filter((size) => size > 1).length + 1));
  return Array.from({ length: rounds }, (_, run) => {
    const turn = (part: number, values: number): number => (run + Math.floor(run / most) * part) % values;
    return {
      dtype: dtypes[turn(0, dtypes.length)]!,
      attributes: Object.fromEntries(attributes.map(([name, values], part) => [name, values[turn(part + 1, values.length)]!])),
      present: Object.fromEntries(optional.map((name, part) => [name, ((run + Math.floor(run / most)) >> part) % 2 === 0])),
    };
  });
}

/** Empty tensors, last: each size for which the op gives no range, zero once. */
export function emptySweep(op: CustomOp): readonly FixedParts[] {
  return freeSizes(op).map((name) => ({ attributes: {}, present: {}, sizes: { [name]: 0 } }));
}

/** The way out for an op that means no empty tensors. */
export function emptyHint(op: CustomOp, { sizes }: KitCase): string {
  const name = freeSizes(op).find((free) => sizes[free] === 0);
  return name === undefined ? '' : ` (an op that takes no empty tensors says so, by sizes: { ${name}: [1, 64] })`;
}

/** Simpler cases than one that fails, to be tried in turn: what was fixed put back, and the shapes that shrinking within one kind of shape does not reach. */
export function simplerCases(op: CustomOp, given: KitCase, dtypes: readonly DType[]): readonly KitCase[] {
  const plain = Object.entries(op.attributes).flatMap(([name, spec]) => {
    const value = spec.default ?? fewValues(spec)[0];
    return value === undefined || given.attributes[name] === value ? [] : [{ ...given, attributes: { ...given.attributes, [name]: value } }];
  });
  const absent = Object.entries(given.present).flatMap(([name, there]) => (there ? [{ ...given, present: { ...given.present, [name]: false } }] : []));
  const shapes = simplerShapes(given.any).map((any) => ({ ...given, any }));
  return [...shapes, ...(given.dtype === dtypes[0] ? [] : [{ ...given, dtype: dtypes[0]! }]), ...plain, ...absent];
}

/** Lines so short are tried each: what fails may be one remainder alone. */
const SHORT = 16;

/** Fewer axes first, then the short lines, then shorter ones in steps that halve. */
function simplerShapes(shape: Dims): readonly Dims[] {
  const count = elementCount(shape);
  if (shape.length > 1) return [[], [count], ...shape.map((_, axis) => shape.toSpliced(axis, 1))];
  if (count <= 1) return shape.length === 0 ? [] : [[]];
  const short = Array.from({ length: Math.min(SHORT, count - 1) }, (_, k) => k + 1);
  const steps = count - 1 <= SHORT ? [] : Array.from({ length: Math.ceil(Math.log2(count)) }, (_, k) => count - Math.ceil(count / 2 ** (k + 1)));
  return [[], ...[...short, ...steps].map((length) => [length])];
}
