/**
 * BatchNormalization that no convolution could take in, as a multiplication and an addition that an elementwise kernel can.
 */
import type { GraphEditor } from '../ir/edit.ts';
import type { AnyNode } from '../ir/graph.ts';
import { fromNumbers } from '../ir/tensor.ts';
import { batchNormAffine } from './fold-linear.ts';
import { rulePass } from './pass.ts';

// batchnorm(x) = x·s + t per channel
function toAffine(node: AnyNode, edit: GraphEditor): boolean {
  const affine = batchNormAffine(node, edit);
  const type = edit.type(node.inputs[0]!);
  if (!affine) return false;
  const dims = [affine.scale.length, ...type.dims.slice(2).map(() => 1)];
  const scale = edit.addConstant(fromNumbers(type.dtype, dims, affine.scale), `${node.name}_scale`);
  const shift = edit.addConstant(fromNumbers(type.dtype, dims, affine.shift), `${node.name}_shift`);
  const { origins, name } = node;
  const scaled = edit.add({ op: 'Mul', inputs: [node.inputs[0]!, scale], attrs: {}, origins, name: `${name}_mul`, type });
  edit.replaceNode(node, { op: 'Add', inputs: [scaled, shift], attrs: {}, origins });
  return true;
}

export const batchNormToAffine = rulePass(
  { name: 'batch-norm', summary: 'BatchNormalization as Mul and Add, for elementwise fusion', targets: ['webgpu'] },
  [{ name: 'batch-norm', ops: ['BatchNormalization'], rewrite: toAffine }],
);
