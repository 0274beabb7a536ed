/** Gathers of rows from a quantized table: it stays packed in memory. */
import type { Node } from '../../../../ir/graph.ts';
import { valuesOf } from '../../../../ops/block-scales.ts';
import { unsignedShift } from '../../../../passes/few-bit-weights.ts';
import { type FewBitRows, packRows } from '../../kernels/few-bits/rows.ts';
import { gatherRowsKernel } from '../../kernels/gather-rows.ts';
import { asStored, constantArray, fitHalves } from '../constants.ts';
import type { LowerContext, Lowering, LoweringTable } from '../context.ts';
import { mustBeConstant } from '../support.ts';

/** The table as the kernel reads it. */
function tableOf({ inputs, attrs }: Node<'WeightOnlyGather'>, context: LowerContext): FewBitRows {
  const [tableId, , scaleId, zeroId = ''] = inputs as [string, string, string, string?];
  const [table, scale, zero] = [context.constant(tableId)!, context.constant(scaleId)!, context.constant(zeroId)];
  const { bits, block_size: block, zeroPoint } = attrs;
  const [rows, columns] = table.dims as [number, number];
  const shift = unsignedShift(table.dtype, bits);
  const steps = constantArray(scale) as Float32Array;
  const half = fitHalves(steps, context.half);
  const zeros = zero && valuesOf(zero);
  return {
    kind: 'few-bits', bits, dims: [rows, columns], block,
    words: context.pack(`${tableId}:rows of ${bits} bits`, { dtype: 'uint8', dims: [(rows * columns * bits) / 8], storage: 'u8' }, () => packRows(bits, valuesOf(table), shift)),
    scales: context.pack(`${scaleId}:by rows`, { dtype: 'float32', dims: [steps.length], storage: half ? 'f16' : 'f32' }, () => asStored(steps, half)),
    zeros: zeros
      ? context.pack(`${zeroId}:by rows of ${bits} bits`, { dtype: 'uint8', dims: [zeros.length], storage: 'u8' }, () => Uint8Array.from(zeros, (value) => value + shift))
      : zeroPoint + shift,
  };
}

const weightOnlyGather: Lowering<'WeightOnlyGather'> = {
  hostInputs: [0, 2, 3],
  unsupported: (node, graph) => mustBeConstant(node, graph, { 0: 'B', 2: 'scale', 3: 'zero' }),
  lower(node, context) {
    const output = context.target(node.outputs[0]!, 'linear', 'narrow');
    const indices = context.tensorIn(node.inputs[1]!, 'linear');
    context.dispatch(gatherRowsKernel({ data: tableOf(node, context), indices, output, axis: 0 }, context.profile));
  },
};

export const WEIGHT_ONLY_GATHER_LOWERINGS: LoweringTable = { WeightOnlyGather: weightOnlyGather };
