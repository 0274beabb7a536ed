/**
 * Constants with a scale for each block are dequantized at build, but for weights and tables that kernels read packed: no kernel wants the integers then, and what
 * stays would be dequantized in every run.
 */
import type { GraphEditor } from '../ir/edit.ts';
import type { AnyNode, Graph } from '../ir/graph.ts';
import { dequantized } from '../ops/block-scales.ts';
import { areReadPacked } from './few-bit-weights.ts';
import { applyRules, type Pass, type PassResult } from './pass.ts';
import { positiveAxis } from './tensors.ts';

// DQ(q, s, z) = (q − z)·s, for constants
function dequantize(node: AnyNode, edit: GraphEditor): boolean {
  if (node.op !== 'DequantizeLinear' || node.attrs.block_size === 0 || edit.isOutput(node.outputs[0]!)) return false;
  const [data, scale, zero] = node.inputs.map((id) => edit.constant(id));
  if (!data || !scale || (node.inputs[2] && !zero)) return false;
  const { axis, block_size: block } = node.attrs;
  const grid = { axis: positiveAxis(axis, data.dims.length), block, dims: data.dims, single: false };
  edit.replaceValue(node.outputs[0]!, edit.addConstant(dequantized(data, scale, grid, scale.dtype, zero), node.outputs[0]!));
  return true;
}

/** Dequantizes constants with scales by block, but for those that are wanted as they are. */
export function dequantizeConstants(graph: Graph, isWanted: (node: AnyNode, edit: GraphEditor) => boolean): PassResult {
  return applyRules(graph, [{ name: 'blocks', ops: ['DequantizeLinear'], rewrite: (node, edit) => !isWanted(node, edit) && dequantize(node, edit) }]);
}

export const dequantizeBlocks: Pass = {
  name: 'dequantize-blocks',
  summary: 'constants with a scale for each block are dequantized at build, where no product or gather reads them packed',
  basic: true,
  run: (graph, { target, fusion }) =>
    dequantizeConstants(graph, (node, edit) => target === 'webgpu' && fusion === 'on' && node.op === 'DequantizeLinear' && areReadPacked(node, edit)),
};
