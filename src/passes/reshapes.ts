/**
 * Chains of views: Reshape, Squeeze, Unsqueeze and Flatten move no element, so that a chain of them is one Reshape.
 */
import type { GraphEditor } from '../ir/edit.ts';
import { unionOrigins } from '../ir/edit.ts';
import type { AnyNode, ValueId } from '../ir/graph.ts';
import type { OpKind } from '../ir/ops.ts';
import { type Dims, sameDims } from '../ir/tensor.ts';
import { rulePass, type Rule } from './pass.ts';
import { addInts, movesNothing } from './tensors.ts';

/** Ops whose output holds the input's elements in the same order. */
export const VIEWS: ReadonlySet<OpKind> = new Set(['Reshape', 'Squeeze', 'Unsqueeze', 'Flatten']);

const RULES: readonly Rule[] = [
  // view(view(x)) = reshape(x, dims(y))
  {
    name: 'view-of-view',
    ops: [...VIEWS],
    rewrite(node, edit) {
      const inner = edit.producer(node.inputs[0]);
      if (!inner || !VIEWS.has(inner.op)) return false;
      return becomeReshape(node, inner.inputs[0]!, unionOrigins(inner, node), edit);
    },
  },
  // transpose(x) = reshape(x, dims(y)) where only axes of length 1 move
  {
    name: 'transpose-of-ones',
    ops: ['Transpose'],
    rewrite(node, edit) {
      if (node.op !== 'Transpose' || !movesNothing(node.attrs.perm, edit.type(node.inputs[0]!).dims)) return false;
      return becomeReshape(node, node.inputs[0]!, node.origins, edit);
    },
  },
];

/** `id` with these dims: itself where it has them, else a Reshape of it. */
export function viewAs(id: ValueId, dims: Dims, origins: readonly string[], edit: GraphEditor): ValueId {
  const { dtype, dims: own } = edit.type(id);
  if (sameDims(own, dims)) return id;
  const inputs = [id, addInts(edit, dims, `${id}_shape`)];
  return edit.add({ op: 'Reshape', inputs, attrs: { allowzero: dims.includes(0) ? 1 : 0 }, origins, name: `${id}_viewed`, type: { dtype, dims } });
}

/** Lets `node` be a Reshape of `source` to the shape that it has. */
export function becomeReshape(node: AnyNode, source: string, origins: readonly string[], edit: GraphEditor): boolean {
  const { dims } = edit.type(node.outputs[0]!);
  const shape = addInts(edit, dims, `${node.name}_shape`);
  edit.replaceNode(node, { op: 'Reshape', inputs: [source, shape], attrs: { allowzero: dims.includes(0) ? 1 : 0 }, origins });
  return true;
}

export const reshapes = rulePass({ name: 'reshapes', summary: 'one Reshape for a chain of views' }, RULES);
