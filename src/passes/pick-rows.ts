/**
 * Rows are picked before they are normalized: a classifier that reads the first token of a transformer needs no other one's normalization.
 *
 * The normalization is then small, or a product that reads it does its work.
 */
import { type GraphEditor, type Replacement, unionOrigins } from '../ir/edit.ts';
import type { AnyNode } from '../ir/graph.ts';
import type { OpKind } from '../ir/ops.ts';
import { elementCount } from '../ir/tensor.ts';
import { rulePass } from './pass.ts';
import { positiveAxis } from './tensors.ts';

/** Ops that treat every row along their axis (and those after it, for normalizations) by itself. */
const BY_ROW: ReadonlySet<OpKind> = new Set(['LayerNormalization', 'LogSoftmax', 'RMSNormalization', 'Softmax']);

// pick(f(x)) = f(pick(x)) where f works along axes behind the one that is picked from
function before(node: AnyNode, edit: GraphEditor): boolean {
  if (node.op !== 'Gather') return false;
  const [value, index] = node.inputs as [string, string];
  const rows = edit.producer(value);
  if (!rows || !BY_ROW.has(rows.op) || rows.outputs.length !== 1 || edit.onlyConsumer(value) !== node) return false;
  const { dims } = edit.type(value);
  const own = positiveAxis((rows.attrs as { readonly axis: number }).axis, dims.length);
  const from = positiveAxis(node.attrs.axis, dims.length);
  // Parameters that differ from row to row would have to be picked too.
  const parameters = rows.inputs.slice(1).filter(Boolean);
  if (from >= own || !parameters.every((id) => edit.type(id).dims.length <= dims.length - own)) return false;
  const type = edit.type(node.outputs[0]!);
  // Rows that are picked several times are better normalized before.
  if (elementCount(type.dims) > elementCount(dims)) return false;
  const { dtype } = edit.type(rows.inputs[0]!);
  const fewer = edit.add({ op: 'Gather', inputs: [rows.inputs[0]!, index], attrs: node.attrs, origins: node.origins, name: node.name, type: { dtype, dims: type.dims } });
  // Counted from behind, the axis stays what it was.
  const attrs = { ...rows.attrs, axis: own - dims.length };
  edit.replaceNode(node, { op: rows.op, inputs: [fewer, ...rows.inputs.slice(1)], attrs, origins: unionOrigins(rows, node) } as Replacement<OpKind>);
  return true;
}

export const pickRows = rulePass({ name: 'pick-rows', summary: 'rows are picked before they are normalized' }, [{ name: 'pick-before', ops: ['Gather'], rewrite: before }]);
