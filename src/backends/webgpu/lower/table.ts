/**
 * Every op that has WGSL kernels, with its lowering.
 *
 * To add an op:
 *   1. Write `lowerX: Lowering<'X'>` in the file of its family under lower/ops/. It reads inputs with `context.tensor(id)`
 *      (as it lies, with strides from `stridesOf`) or `context.tensorIn(id, layout)` (converted), declares outputs with
 *      `context.define(id, layout)`, and appends kernels with `context.dispatch(...)`. An op that only renames bytes uses
 *      `context.alias`. Kernels that address through `viewOf` take `context.source(id)` and `context.target(id, layout)`, which may
 *      be windows (windows.ts). Constants: `context.constant(id)` on the host, `context.pack(...)` to upload them in another form.
 *   2. Prefer an existing template: mapKernel (any strided element-by-element work), rowKernel (anything that reduces along axes and may
 *      write the rows again), matmulKernels, poolKernel; for reads or writes at computed places, lowerElements and pointKernel.
 *      A new template goes to kernels/, built with wgsl/module.ts; shapes are baked in, every binding is a sized array,
 *      and flat grids go through kernels/grid.ts.
 *   3. Say in `unsupported` what this lowering cannot do; every such node of a model is reported at once.
 *   4. Add the row here, and a test in test/device/ against a float64 reference written in the test.
 *
 * Layout rules: outputs with a channel axis inherit 'channels-last' from their inputs; padding lanes are zero.
 */
import type { Graph, Node } from '../../../ir/graph.ts';
import type { OpKind } from '../../../ir/ops.ts';
import type { Lowering, LoweringTable } from './context.ts';
import { ATTENTION_LOWERINGS } from './ops/attention.ts';
import { BOUNDED_LOWERINGS } from './ops/bounded.ts';
import { CONCAT_LOWERINGS } from './ops/concat.ts';
import { CONV_LOWERINGS } from './ops/conv.ts';
import { CUSTOM_LOWERINGS } from './ops/custom.ts';
import { DIRECT_LOWERINGS } from './ops/direct.ts';
import { EINSUM_LOWERINGS } from './ops/einsum.ts';
import { ELEMENTWISE_LOWERINGS } from './ops/elementwise.ts';
import { GATHER_LOWERINGS } from './ops/gather.ts';
import { GENERAL_LOWERINGS } from './ops/general.ts';
import { GENERATE_LOWERINGS } from './ops/generate.ts';
import { LRN_LOWERINGS } from './ops/lrn.ts';
import { MATMUL_LOWERINGS } from './ops/matmul.ts';
import { MOVE_LOWERINGS } from './ops/move.ts';
import { ORDER_LOWERINGS } from './ops/order.ts';
import { PAD_LOWERINGS } from './ops/pad.ts';
import { POOL_LOWERINGS } from './ops/pool.ts';
import { QUANTIZED_LOWERINGS } from './ops/quantized.ts';
import { QUANTIZED_SHORTCUT_LOWERINGS } from './ops/quantized-shortcut.ts';
import { QUANTIZE_LOWERINGS } from './ops/quantize.ts';
import { RECURRENT_LOWERINGS } from './ops/recurrent.ts';
import { REDUCE_LOWERINGS } from './ops/reduce.ts';
import { RESHAPE_LOWERINGS } from './ops/reshape.ts';
import { RESIZE_LOWERINGS } from './ops/resize.ts';
import { ROW_LOWERINGS } from './ops/rows.ts';
import { SAMPLE_LOWERINGS } from './ops/sample.ts';
import { SCATTER_LOWERINGS } from './ops/scatter.ts';
import { SHORTCUT_LOWERINGS } from './ops/shortcut.ts';
import { WEIGHT_ONLY_LOWERINGS } from './ops/weight-only.ts';
import { WEIGHT_ONLY_GATHER_LOWERINGS } from './ops/weight-only-gather.ts';

/** The fast kernels. */
const FAST: LoweringTable = {
  ...ELEMENTWISE_LOWERINGS,
  ...CONV_LOWERINGS,
  ...SHORTCUT_LOWERINGS,
  ...CUSTOM_LOWERINGS,
  ...MATMUL_LOWERINGS,
  ...ATTENTION_LOWERINGS,
  ...POOL_LOWERINGS,
  ...REDUCE_LOWERINGS,
  ...ROW_LOWERINGS,
  ...RESHAPE_LOWERINGS,
  ...MOVE_LOWERINGS,
  ...CONCAT_LOWERINGS,
  ...GENERATE_LOWERINGS,
  ...BOUNDED_LOWERINGS,
  ...GATHER_LOWERINGS,
  ...SCATTER_LOWERINGS,
  ...PAD_LOWERINGS,
  ...RESIZE_LOWERINGS,
  ...SAMPLE_LOWERINGS,
  ...ORDER_LOWERINGS,
  ...LRN_LOWERINGS,
  ...QUANTIZE_LOWERINGS,
  ...QUANTIZED_LOWERINGS,
  ...QUANTIZED_SHORTCUT_LOWERINGS,
  ...EINSUM_LOWERINGS,
  ...RECURRENT_LOWERINGS,
  ...WEIGHT_ONLY_LOWERINGS,
  ...WEIGHT_ONLY_GATHER_LOWERINGS,
};

/** Kernels that take what the fast ones of the same op refuse. */
const GENERAL: LoweringTable = { ...DIRECT_LOWERINGS, ...GENERAL_LOWERINGS };

function fallback(first: Lowering<OpKind>, second: Lowering<OpKind>): Lowering<OpKind> {
  const pick = (node: Node<OpKind>, graph: Graph): Lowering<OpKind> => (first.unsupported?.(node, graph) === undefined ? first : second);
  return {
    unsupported: (node, graph) => pick(node, graph).unsupported?.(node, graph),
    lower: (node, context) => pick(node, context.graph).lower(node, context),
    compute: (node, context) => pick(node, context.graph).compute?.(node, context),
  };
}

function join(fast: LoweringTable, general: LoweringTable): LoweringTable {
  const joined: Partial<Record<OpKind, Lowering<OpKind>>> = { ...(fast as Partial<Record<OpKind, Lowering<OpKind>>>) };
  for (const [op, second] of Object.entries(general) as [OpKind, Lowering<OpKind>][]) {
    const first = joined[op];
    joined[op] = first ? fallback(first, second) : second;
  }
  return joined as LoweringTable;
}

export const LOWERINGS: LoweringTable = join(FAST, GENERAL);
