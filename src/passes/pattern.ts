/**
 * A small pattern language for subgraphs, so that a rewrite rule reads as the formula that it recovers.
 *
 * A pattern is matched upwards from a node. Commutative ops match in both orders, a name that occurs twice must be the same
 * value, and matched nodes other than the root must have no reader outside the match, so that no work is done twice.
 */
import type { GraphEditor } from '../ir/edit.ts';
import type { AnyNode, ValueId } from '../ir/graph.ts';
import type { OpKind } from '../ir/ops.ts';
import { elementCount, toNumbers, type Tensor } from '../ir/tensor.ts';
import type { Rule } from './pass.ts';

/** What a node, or an operand of one, must look like. */
export type Pattern =
  | { readonly kind: 'value'; readonly name: string }
  | { readonly kind: 'number'; readonly value: number }
  | { readonly kind: 'scalar' | 'constant'; readonly name: string }
  | { readonly kind: 'either'; readonly options: readonly Pattern[] }
  | {
      readonly kind: 'op';
      readonly op: OpKind;
      readonly inputs: readonly Pattern[];
      /** Binds the node's first output. */
      readonly name?: string;
    };

/** Any value, bound to `name`. */
export const value = (name: string): Pattern => ({ kind: 'value', name });
/** A constant all of whose elements are this number. */
export const number = (value: number): Pattern => ({ kind: 'number', value });
/** A constant whose elements are all the same; `Match.scalar` gives it. */
export const scalar = (name: string): Pattern => ({ kind: 'scalar', name });
/** A constant of any shape; its numbers are the match’s `numbers(name)`. */
export const constant = (name: string): Pattern => ({ kind: 'constant', name });
/** The first option that leads to a match. */
export const either = (...options: readonly Pattern[]): Pattern => ({ kind: 'either', options });
/** A node of this op with exactly these inputs. */
export const op = (op: OpKind, ...inputs: readonly Pattern[]): Pattern => ({ kind: 'op', op, inputs });
/** As `op`, binding the output. */
export const named = (name: string, op: OpKind, ...inputs: readonly Pattern[]): Pattern => ({ kind: 'op', op, inputs, name });

/** The product of three factors in every association. */
export function product(a: Pattern, b: Pattern, c: Pattern): Pattern {
  return either(op('Mul', op('Mul', a, b), c), op('Mul', op('Mul', a, c), b), op('Mul', op('Mul', b, c), a));
}

export interface Match {
  readonly root: AnyNode;
  /** Every matched node, root first. */
  readonly nodes: readonly AnyNode[];
  /** The value bound to a name. Throws on a name that the pattern lacks. */
  value(name: string): ValueId;
  /** The value bound to a name, where the branch taken has it. */
  optional(name: string): ValueId | undefined;
  /** The number bound by `scalar`. */
  scalar(name: string): number;
  /** The node that gives a bound value. */
  node(name: string): AnyNode;
}

const COMMUTATIVE: ReadonlySet<OpKind> = new Set(['Add', 'Mul', 'Max', 'Min', 'Sum', 'And', 'Or', 'Xor', 'Equal']);

interface State {
  readonly bound: ReadonlyMap<string, ValueId>;
  readonly nodes: readonly AnyNode[];
}

/** The first way in which `pattern` matches at `root`. */
export function matchPattern(pattern: Pattern, root: AnyNode, edit: GraphEditor): Match | undefined {
  const output = root.outputs[0];
  if (!output) return undefined;
  for (const state of match(pattern, output, { bound: new Map(), nodes: [] }, edit)) {
    if (isClosed(state.nodes, root, edit)) return toMatch(root, state, edit);
  }
  return undefined;
}

function* match(pattern: Pattern, id: ValueId, state: State, edit: GraphEditor): Generator<State> {
  switch (pattern.kind) {
    case 'value':
      yield* bind(pattern.name, id, state);
      return;
    case 'number':
      if (isNear(uniformValue(edit.constant(id)), pattern.value, edit.constant(id))) yield state;
      return;
    case 'scalar':
      if (uniformValue(edit.constant(id)) !== undefined) yield* bind(pattern.name, id, state);
      return;
    case 'constant':
      if (edit.constant(id)) yield* bind(pattern.name, id, state);
      return;
    case 'either':
      for (const option of pattern.options) yield* match(option, id, state, edit);
      return;
    case 'op':
      yield* matchOp(pattern, id, state, edit);
      return;
    default:
      pattern satisfies never;
  }
}

function* matchOp(pattern: Pattern & { kind: 'op' }, id: ValueId, state: State, edit: GraphEditor): Generator<State> {
  const node = edit.producer(id);
  if (!node || node.op !== pattern.op || node.outputs[0] !== id || node.inputs.length !== pattern.inputs.length) return;
  const orders = COMMUTATIVE.has(node.op) && node.inputs.length === 2 ? [node.inputs, node.inputs.toReversed()] : [node.inputs];
  const nodes = state.nodes.includes(node) ? state.nodes : [...state.nodes, node];
  for (const start of pattern.name === undefined ? [{ ...state, nodes }] : bind(pattern.name, id, { ...state, nodes })) {
    for (const inputs of orders) yield* matchAll(pattern.inputs, inputs, start, edit);
  }
}

function* matchAll(patterns: readonly Pattern[], ids: readonly ValueId[], state: State, edit: GraphEditor): Generator<State> {
  const [first, ...rest] = patterns;
  if (!first) {
    yield state;
    return;
  }
  for (const next of match(first, ids[0]!, state, edit)) yield* matchAll(rest, ids.slice(1), next, edit);
}

function* bind(name: string, id: ValueId, state: State): Generator<State> {
  const existing = state.bound.get(name);
  if (existing === id) yield state;
  else if (existing === undefined && id) yield { ...state, bound: new Map([...state.bound, [name, id]]) };
}

/** No matched value but the root's is read outside the match or given out by the graph. */
function isClosed(nodes: readonly AnyNode[], root: AnyNode, edit: GraphEditor): boolean {
  return nodes.every(
    (node) =>
      node === root ||
      node.outputs.every((id) => !id || (!edit.isOutput(id) && edit.consumers(id).every((reader) => nodes.includes(reader)))),
  );
}

function toMatch(root: AnyNode, state: State, edit: GraphEditor): Match {
  const value = (name: string): ValueId => {
    const id = state.bound.get(name);
    if (id === undefined) throw new Error(`the pattern binds no '${name}'`);
    return id;
  };
  return {
    root,
    nodes: state.nodes,
    value,
    optional: (name) => state.bound.get(name),
    scalar: (name) => uniformValue(edit.constant(value(name)))!,
    node: (name) => edit.producer(value(name))!,
  };
}

/** The number that all elements of a constant are; undefined for other constants and for none. */
export function uniformValue(tensor: Tensor | undefined): number | undefined {
  if (!tensor || elementCount(tensor.dims) === 0 || elementCount(tensor.dims) > 4096) return undefined;
  const values = toNumbers(tensor);
  return values.every((value) => value === values[0]) ? values[0] : undefined;
}

/** Exporters write √2 or 1/6 with the precision of the model's element type. */
function isNear(found: number | undefined, wanted: number, tensor: Tensor | undefined): boolean {
  if (found === undefined) return false;
  const tolerance = tensor?.dtype === 'float16' || tensor?.dtype === 'bfloat16' ? 2e-3 : 1e-5;
  return Math.abs(found - wanted) <= tolerance * Math.abs(wanted);
}

/** A rule that rewrites each match of a pattern whose root is one of `ops`. */
export function patternRule(
  name: string,
  ops: readonly OpKind[],
  pattern: Pattern,
  rewrite: (match: Match, edit: GraphEditor) => boolean,
): Rule {
  return {
    name,
    ops,
    rewrite(node, edit) {
      const found = matchPattern(pattern, node, edit);
      return found !== undefined && rewrite(found, edit);
    },
  };
}
