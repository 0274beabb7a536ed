/**
 * Another batch than the one that a model fixes: batched(x)[i] = model(x[i]).
 *
 * The model is imported at its own batch first, which tells for every value which axis is the batch: the one that follows.
 * Exporters spell the batch out in Reshape targets (`view(1, 85, -1)`); where the operand's leading axis is the batch, so is
 * the target's, and it follows too. Whatever else depends on the old batch shows as shapes that don't fit or as an output
 * that did not follow, and is refused: a wrong answer would be worse.
 */
import type { ValueId } from '../ir/graph.ts';
import { formatType, sameDims, type TensorType } from '../ir/tensor.ts';
import { quote, unsupported } from './invalid.ts';
import { int64, type Scope, type SourceNode } from './scope.ts';

export interface Rebatch {
  readonly from: number;
  readonly to: number;
  /** Types of the model's values at its own batch. */
  readonly ownTypes: ReadonlyMap<ValueId, TensorType>;
}

/** The node, a Reshape whose target spells the old batch out with a target for the new one. */
export function rebatchNode(node: SourceNode, scope: Scope, rebatch: Rebatch | undefined): SourceNode {
  const [data, shape] = node.inputs;
  if (!rebatch || node.opType !== 'Reshape' || !data || !shape) return node;
  const target = scope.known(shape);
  const leads = rebatch.ownTypes.get(data)?.dims[0] === rebatch.from && scope.type(data).dims[0] === rebatch.to;
  if (!leads || target?.[0] !== rebatch.from) return node;
  return { ...node, inputs: [data, scope.addConstant(int64([rebatch.to, ...target.slice(1)]))] };
}

/** Throws MODEL_UNSUPPORTED unless every output follows the batch in its leading axis, and nowhere else. */
export function checkRebatched(outputs: readonly ValueId[], scope: Scope, { from, to, ownTypes }: Rebatch): void {
  for (const output of outputs) {
    const own = ownTypes.get(output);
    const type = scope.type(output);
    if (own?.dims[0] === from && sameDims(type.dims, [to, ...own.dims.slice(1)])) continue;
    throw unsupported(
      `the model is fixed at batch ${from}: at ${to}, output ${quote(output)} would be ${formatType(type)}`,
      'outputs',
      `Use batch ${from}, or export the model with a dynamic batch axis`,
    );
  }
}
