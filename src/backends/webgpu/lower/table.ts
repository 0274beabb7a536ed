/**
 * Every op that has WGSL kernels, with its lowering.
 *
 * To add an op:
 *   1. Write `lowerX: Lowering<'X'>` in the file of its family under lower/ops/. It reads inputs with `context.tensor(id)`
 *      (as it lies, with strides from `stridesOf`) or `context.tensorIn(id, layout)` (converted), declares outputs with
 *      `context.define(id, layout)`, and appends kernels with `context.dispatch(...)`. An op that only renames bytes uses
 *      `context.alias`. Constants: `context.constant(id)` on the host, `context.pack(...)` to upload them in another form.
 *   2. Prefer an existing template: mapKernel (any strided element-by-element work), reduceKernel, matmulKernel, windowKernel.
 *      A new template goes to kernels/, built with wgsl/module.ts; shapes are baked in, every binding is a sized array,
 *      and flat grids go through kernels/grid.ts.
 *   3. Say in `unsupported` what this lowering cannot do; every such node of a model is reported at once.
 *   4. Add the row here, and a test in test/device/ against a float64 reference written in the test.
 *
 * Layout rules: outputs with a channel axis inherit 'channels-last' from their inputs; padding lanes are zero.
 */
import type { LoweringTable } from './context.ts';
import { ELEMENTWISE_LOWERINGS } from './ops/elementwise.ts';
import { RESHAPE_LOWERINGS } from './ops/reshape.ts';

export const LOWERINGS: LoweringTable = {
  ...ELEMENTWISE_LOWERINGS,
  ...RESHAPE_LOWERINGS,
};
