/**
 * The op table applied: output types, values known at build, and cost of one node.
 */
import { typeOf } from '../ir/graph.ts';
import type { AnyNode, Graph } from '../ir/graph.ts';
import type { OpAttrs, OpKind } from '../ir/ops.ts';
import { elementCount, formatType, tensorBytes, toNumbers } from '../ir/tensor.ts';
import type { Tensor, TensorType } from '../ir/tensor.ts';
import { bytesMoved } from './cost.ts';
import { ShapeError } from './def.ts';
import type { InferContext, OpCost, OpDef } from './def.ts';
import { OPS } from './table.ts';
import { MAX_KNOWN_VALUES } from './values.ts';
import type { Known } from './values.ts';

/** What is known of one input. */
export interface InputInfo {
  readonly type: TensorType;
  readonly constant?: Tensor | undefined;
  /** Values computed by `propagateNode`. */
  readonly known?: Known;
}

/** A context from what is known of each input; `undefined` for an optional input that is left out. */
export function inferContext(inputs: readonly (InputInfo | undefined)[], outputCount: number): InferContext {
  const numbers = (index: number): Known => {
    const info = inputs[index];
    if (!info) return undefined;
    if (info.known) return info.known;
    if (!info.constant || elementCount(info.constant.dims) > MAX_KNOWN_VALUES) return undefined;
    return toNumbers(info.constant);
  };
  return {
    inputCount: inputs.length,
    outputCount,
    type(index) {
      const info = inputs[index];
      if (!info) throw new ShapeError(`input ${index} is required`);
      return info.type;
    },
    optionalType: (index) => inputs[index]?.type,
    constant: (index) => inputs[index]?.constant,
    ints(index) {
      const values = numbers(index);
      return values?.every(Number.isSafeInteger) ? values : undefined;
    },
    numbers,
  };
}

/** The definition of an op. */
export function opDef<K extends OpKind>(op: K): OpDef<K> {
  return OPS[op];
}

/**
 * Output types of a node, one per output that it has.
 *
 * Throws ShapeError for what the op forbids, NotStaticError where a shape depends on data, UnsupportedError for what the
 * definition leaves out.
 */
export function inferNode<K extends OpKind>(op: K, attrs: OpAttrs[K], context: InferContext): readonly TensorType[] {
  const def = opDef(op);
  checkCount(op, 'input', context.inputCount, def.inputs);
  checkCount(op, 'output', context.outputCount, def.outputs);
  const types = def.infer(attrs, context);
  for (const [index, type] of types.entries()) {
    if (!type.dims.every((dim) => Number.isSafeInteger(dim) && dim >= 0) || !Number.isSafeInteger(tensorBytes(type))) {
      throw new ShapeError(`output ${index} would be ${formatType(type)}, which no memory can hold`);
    }
  }
  return types.slice(0, context.outputCount);
}

/**
 * Values of a node's outputs where they are small and known at build; to be called after `inferNode` accepted the node.
 * Integers beyond ±2^53 come inexact: `materialize` (values.ts) refuses them.
 */
export function propagateNode<K extends OpKind>(op: K, attrs: OpAttrs[K], context: InferContext): readonly Known[] {
  const values = opDef(op).propagate?.(attrs, context) ?? [];
  return Array.from({ length: context.outputCount }, (_, index) => {
    const output = values[index];
    return output && output.length <= MAX_KNOWN_VALUES ? output : undefined;
  });
}

/** Cost of a node of a graph. */
export function nodeCost(graph: Graph, node: AnyNode): OpCost {
  const inputs = node.inputs.map((id) => (id === '' ? undefined : typeOf(graph, id)));
  const outputs = node.outputs.filter((id) => id !== '').map((id) => typeOf(graph, id));
  return opCost(node.op, node.attrs as OpAttrs[typeof node.op], inputs, outputs);
}

/** Cost of an op on these types; by default one operation per output element, every tensor crossing memory once. */
export function opCost<K extends OpKind>(
  op: K,
  attrs: OpAttrs[K],
  inputs: readonly (TensorType | undefined)[],
  outputs: readonly TensorType[],
): OpCost {
  const cost = opDef(op).cost;
  if (cost) return cost(attrs, inputs, outputs);
  return { flops: outputs.reduce((sum, type) => sum + elementCount(type.dims), 0), bytes: bytesMoved(inputs, outputs) };
}

function checkCount(op: OpKind, what: string, count: number, allowed: { readonly min: number; readonly max: number }): void {
  if (count >= allowed.min && count <= allowed.max) return;
  const range = allowed.min === allowed.max ? `${allowed.min}` : `${allowed.min} to ${allowed.max}`;
  throw new ShapeError(`${op} takes ${range} ${what}s, found ${count}`);
}
