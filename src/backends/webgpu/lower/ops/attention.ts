/** Attention as three kernels: scores with scale and mask, softmax over their rows, weighted sum. */
import type { Expr } from '../../../../ir/expr.ts';
import type { Lowering, LoweringTable } from '../context.ts';
import { floatReason } from '../support.ts';
import { narrowStorage } from '../tensor.ts';
import { lowerProduct, matrixOperand } from './matmul.ts';
import { softmaxRows } from './rows.ts';

const scores: Expr = { kind: 'input', index: 0, dtype: 'float32' };
const mask: Expr = { kind: 'input', index: 1, dtype: 'float32' };
const masked: Expr = { kind: 'binary', fn: 'add', a: scores, b: mask };

const attention: Lowering<'FusedAttention'> = {
  unsupported: floatReason,
  lower(node, context) {
    const [q, k, v] = node.inputs.slice(0, 3).map((id) => matrixOperand(id, context)) as [never, never, never];
    const maskTensor = node.inputs[3] ? context.sourceIn(node.inputs[3], 'linear') : undefined;
    const { scale, transposedK } = node.attrs;
    const [batch, heads, rows] = context.type(node.inputs[0]!).dims as [number, number, number, number];
    const length = context.type(node.inputs[2]!).dims[2]!;
    const plain = { c: undefined, beta: 1, transA: false, epilogue: undefined };
    const raw = context.scratch('float32', [batch, heads, rows, length]);
    const product = { ...plain, a: q, b: k, extras: maskTensor ? [maskTensor] : [], alpha: scale, transB: transposedK === 0 };
    lowerProduct({ ...product, epilogue: maskTensor && masked, output: raw }, context);
    // Weights lie between 0 and 1, which halves hold well; scores stay f32.
    const storage = context.half ? narrowStorage('float32', raw.dims, 'linear') : undefined;
    const weights = context.scratch('float32', raw.dims, storage);
    softmaxRows('Softmax', raw, weights, 3, context);
    lowerProduct({ ...plain, a: weights, b: v, extras: [], alpha: 1, transB: false, output: context.define(node.outputs[0]!, 'linear', 'narrow') }, context);
  },
};

export const ATTENTION_LOWERINGS: LoweringTable = { FusedAttention: attention };
