/**
 * Products whose weights alone are quantized keep them packed, and so do gathers of rows from a quantized table: the kernel dequantizes as it loads. At
 * batch 1 a language model is bound by the bytes of its weights, and its embeddings are a large part of its memory.
 * Prior art: onnxruntime's MatMulNBits and GatherBlockQuantized, llama.cpp's quantized products.
 */
import { type GraphEditor, unionOrigins } from '../ir/edit.ts';
import type { Expr } from '../ir/expr.ts';
import type { AnyNode } from '../ir/graph.ts';
import { areReadPacked, fewBitRows, fewBitWeights, gathersRows, rightMatrix } from './few-bit-weights.ts';
import { rulePass } from './pass.ts';

/** Buffers that every device binds in one kernel, of which the matrices, the scales and the result take four. */
const MAX_BUFFERS = 8;
const OWN_BUFFERS = 4;

// alpha · a · DQ(w) + c |> elementwise tree = weightonly(a, w, scales, zeros, c, extras)
function packWeights(node: AnyNode, edit: GraphEditor): boolean {
  const right = rightMatrix(node, edit);
  const source = right && edit.producer(right.id);
  if (!right || source?.op !== 'DequantizeLinear' || !areReadPacked(source, edit)) return false;
  const { bits, block_size, zeroPoint } = fewBitWeights(source, right.depthAxis, edit)!;
  const [w, scale, zero = ''] = source.inputs as [string, string, string?];
  const [a, , c = '', ...extras] = node.inputs as [string, string, string?, ...string[]];
  if (OWN_BUFFERS + [zeroPoint === undefined, c !== ''].filter(Boolean).length + extras.length > MAX_BUFFERS) return false;
  const accumulator: Expr = { kind: 'input', index: 0, dtype: edit.type(node.outputs[0]!).dtype };
  edit.replaceNode(node, {
    op: 'WeightOnlyMatMul',
    inputs: [a, w, scale, zeroPoint === undefined ? zero : '', c, ...extras],
    attrs: {
      bits, block_size, zeroPoint: zeroPoint ?? 0, transB: right.depthAxis === 0 ? 0 : 1,
      alpha: node.op === 'Gemm' || node.op === 'FusedMatMul' ? node.attrs.alpha : 1,
      epilogue: node.op === 'FusedMatMul' ? node.attrs.epilogue : accumulator,
    },
    origins: unionOrigins(source, node),
  });
  return true;
}

// gather(DQ(w), i) = weightonlygather(w, i, scales, zeros), along axis 0
function packTable(node: AnyNode, edit: GraphEditor): boolean {
  const source = edit.producer(node.inputs[0]);
  if (source?.op !== 'DequantizeLinear' || !gathersRows(node, edit) || !areReadPacked(source, edit)) return false;
  const { bits, block_size, zeroPoint } = fewBitRows(source, edit)!;
  const [w, scale, zero = ''] = source.inputs as [string, string, string?];
  edit.replaceNode(node, {
    op: 'WeightOnlyGather',
    inputs: [w, node.inputs[1]!, scale, zeroPoint === undefined ? zero : ''],
    attrs: { bits, block_size, zeroPoint: zeroPoint ?? 0 },
    origins: unionOrigins(source, node),
  });
  return true;
}

export const weightOnly = rulePass(
  { name: 'weight-only', summary: 'products and gathers of rows read weights of few bits packed', targets: ['webgpu'] },
  [
    { name: 'weight-only-product', ops: ['Gemm', 'MatMul', 'FusedMatMul'], rewrite: packWeights },
    { name: 'weight-only-gather', ops: ['Gather'], rewrite: packTable },
  ],
);
