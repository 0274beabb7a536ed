/**
 * Constants with a scale for each block are dequantized at build, but for weights and tables that kernels read packed: no kernel wants the integers then, and what
 * stays would be dequantized in every run.
 */
import type { GraphEditor } from '../ir/edit.ts';
import type { AnyNode, Graph, Node } from '../ir/graph.ts';
import { elementCount } from '../ir/tensor.ts';
import { dequantized } from '../ops/block-scales.ts';
import { areReadPacked } from './few-bit-weights.ts';
import { applyRules, type Pass, type PassResult } from './pass.ts';
import { positiveAxis } from './tensors.ts';

// DQ(q, s, z) = (q − z)·s, for constants
function dequantize(node: AnyNode, edit: GraphEditor): boolean {
  if (node.op !== 'DequantizeLinear' || edit.isOutput(node.outputs[0]!)) return false;
  const [data, scale, zero] = node.inputs.map((id) => edit.constant(id));
  // f32 holds what is narrower, so that the product is rounded once, whoever computes it.
  if (!data || !scale || (node.inputs[2] && !zero) || data.dtype === 'int32' || edit.type(node.outputs[0]!).dtype !== scale.dtype) return false;
  const { axis, block_size: block } = node.attrs;
  const single = elementCount(scale.dims) === 1;
  const grid = { axis: single ? 0 : positiveAxis(axis, data.dims.length), block, dims: data.dims, single };
  edit.replaceValue(node.outputs[0]!, edit.addConstant(dequantized(data, scale, grid, scale.dtype, zero), node.outputs[0]!));
  return true;
}

/** Dequantizes constants, but for those that are wanted as they are. */
export function dequantizeConstants(graph: Graph, isWanted: (node: Node<'DequantizeLinear'>, edit: GraphEditor) => boolean): PassResult {
  return applyRules(graph, [{ name: 'dequantized', ops: ['DequantizeLinear'], rewrite: (node, edit) => node.op === 'DequantizeLinear' && !isWanted(node, edit) && dequantize(node, edit) }]);
}

export const dequantizeBlocks: Pass = {
  name: 'dequantize-blocks',
  summary: 'constants with a scale for each block are dequantized at build, where no product or gather reads them packed',
  basic: true,
  run: (graph, { target, fusion }) =>
    dequantizeConstants(graph, (node, edit) => node.attrs.block_size === 0 || (target === 'webgpu' && fusion === 'on' && areReadPacked(node, edit))),
};
