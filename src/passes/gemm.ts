/**
 * MatMul + Add as Gemm, where the product is a plain matrix product and the addend broadcasts to it.
 */
import { unionOrigins, type GraphEditor } from '../ir/edit.ts';
import type { AnyNode } from '../ir/graph.ts';
import { sameType } from '../ir/verify.ts';
import type { Rule } from './pass.ts';
import { FLOATS } from './tensors.ts';

// a·b + c = gemm(a, b, c) for matrices a, b and c broadcast to the product
export const MATMUL_ADD: Rule = {
  name: 'matmul-add',
  ops: ['Add'],
  rewrite: (node, edit) => [0, 1].some((side) => becomeGemm(node, side, edit)),
};

function becomeGemm(node: AnyNode, side: number, edit: GraphEditor): boolean {
  const product = edit.producer(node.inputs[side]);
  if (product?.op !== 'MatMul' || edit.onlyConsumer(product.outputs[0]!) !== node) return false;
  const result = edit.type(product.outputs[0]!);
  // The sum has the product's shape, so that the addend broadcasts to it, as Gemm's C must.
  const isMatrixProduct = product.inputs.every((id) => edit.type(id).dims.length === 2);
  if (!isMatrixProduct || !FLOATS.has(result.dtype) || !sameType(result, edit.type(node.outputs[0]!))) return false;
  edit.replaceNode(node, {
    op: 'Gemm',
    inputs: [...product.inputs, node.inputs[1 - side]!],
    attrs: { alpha: 1, beta: 1, transA: 0, transB: 0 },
    origins: unionOrigins(product, node),
  });
  return true;
}
