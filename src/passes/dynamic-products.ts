/**
 * Products of what was quantized as it came, as `quantize_dynamic` writes them, on the kernels of static integer products.
 *
 * Cast(MatMulInteger(q, w, z)) · s = (Σ (q − c)·w − (z − c) · Σ w) · s: the zero point is known with the data only, and moves behind the sum, where it takes
 * the sums of the weights' columns, known at build; c is the middle of q's range, where the kernels begin to count. All are integers; what float32 rounds
 * of them (24 bits) is less than what the quantization did.
 * Prior art: gemmlowp, "The low-precision paradigm in gemmlowp" (doc/low-precision.md).
 */
import { type GraphEditor, unionOrigins } from '../ir/edit.ts';
import { type Expr, replaceInputs } from '../ir/expr.ts';
import type { AnyNode, ValueId } from '../ir/graph.ts';
import { type Dims, elementCount, fromNumbers, sameDims, type Tensor, toNumbers } from '../ir/tensor.ts';
import { growEpilogue, MAX_EXTRAS } from './fuse-epilogue.ts';
import { centredWeights, VECTOR } from './integer-products.ts';
import { rulePass } from './pass.ts';

const input = (index: number): Expr => ({ kind: 'input', index, dtype: 'float32' });
const binary = (fn: 'sub' | 'mul', a: Expr, b: Expr): Expr => ({ kind: 'binary', fn, a, b });

/** What follows the product of integers. */
interface Scaled {
  readonly nodes: readonly AnyNode[];
  readonly value: ValueId;
  readonly scale: ValueId;
}

// cast(matmulinteger(q, w, z)) · s |> elementwise tree = qmatmul(q, w), z, Σw, s |> elementwise tree
function dynamicMatMul(node: AnyNode, edit: GraphEditor): boolean {
  if (node.op !== 'MatMulInteger') return false;
  const [a, b, zero = '', weightZero = ''] = node.inputs as [ValueId, ValueId, ValueId?, ValueId?];
  const { dims } = edit.type(node.outputs[0]!);
  const shape = edit.type(a).dims;
  if (shape.length < 2 || shape.at(-1)! % VECTOR !== 0 || edit.type(b).dims.length !== 2 || (zero !== '' && elementCount(edit.type(zero).dims) !== 1)) return false;
  const weights = weightsOf(b, weightZero, edit);
  const scaled = weights && scaledBy(node.outputs[0]!, dims, edit);
  if (!scaled) return false;
  const columns = dims.at(-1)!;
  const vector = (values: readonly number[], hint: string): ValueId => edit.addConstant(fromNumbers('float32', [columns], values), `${node.name}_${hint}`);
  const zeroPoint = zero === '' ? edit.addConstant(fromNumbers('float32', [], [0]), `${node.name}_zero`) : asFloat(zero, node, edit);
  const own = [zeroPoint, vector(columnSums(weights), 'sums'), scaled.scale];
  const middle = edit.type(a).dtype === 'uint8' ? 128 : 0;
  const shift = binary('sub', input(1), { kind: 'const', value: middle, dtype: 'float32' });
  const value = binary('mul', binary('sub', input(0), binary('mul', shift, input(2))), input(3));
  const grown = growEpilogue(scaled.value, edit);
  const more = grown && grown.extras.length + own.length <= MAX_EXTRAS ? grown : undefined;
  const last = more?.last ?? scaled.nodes.at(-1)!;
  edit.replaceNode(last, {
    op: 'QuantizedMatMul',
    inputs: [a, edit.addConstant(weights, `${b}_signed`), vector(Array.from({ length: columns }, () => 1), 'scale'), '', ...own, ...(more?.extras ?? [])],
    attrs: { zeroPoint: middle, transB: 0, epilogue: more ? replaceInputs(more.expr, (index, dtype) => (index === 0 ? value : { kind: 'input', index: index + own.length, dtype })) : value },
    origins: unionOrigins(node, ...scaled.nodes, ...(more?.nodes ?? [])),
  });
  return true;
}

/** Constant weights as int8 around zero. */
function weightsOf(id: ValueId, zero: ValueId, edit: GraphEditor): Tensor | undefined {
  const [weights, zeros] = [edit.constant(id), edit.constant(zero)];
  if (!weights || (zero !== '' && !zeros)) return undefined;
  return centredWeights(weights, zeros ? toNumbers(zeros) : [0], 1);
}

/** The cast and the multiplication that read a product alone. */
function scaledBy(product: ValueId, dims: Dims, edit: GraphEditor): Scaled | undefined {
  const cast = edit.onlyConsumer(product);
  if (cast?.op !== 'Cast' || cast.attrs.to !== 'float32') return undefined;
  const scaling = edit.onlyConsumer(cast.outputs[0]!);
  if (scaling?.op !== 'Mul' || !sameDims(edit.type(scaling.outputs[0]!).dims, dims)) return undefined;
  const scale = scaling.inputs.find((id) => id !== cast.outputs[0]!);
  return scale === undefined ? undefined : { nodes: [cast, scaling], value: scaling.outputs[0]!, scale };
}

function asFloat(id: ValueId, node: AnyNode, edit: GraphEditor): ValueId {
  const { dims } = edit.type(id);
  return edit.add({ op: 'Cast', inputs: [id], attrs: { to: 'float32', saturate: 1 }, origins: node.origins, name: `${node.name}_zero`, type: { dtype: 'float32', dims } });
}

function columnSums(weights: Tensor): number[] {
  const columns = weights.dims[1]!;
  const sums = Array.from({ length: columns }, () => 0);
  for (const [i, value] of toNumbers(weights).entries()) sums[i % columns]! += value;
  return sums;
}

export const dynamicProducts = rulePass(
  { name: 'dynamic-products', summary: 'products of dynamically quantized values on the kernels of integer products', targets: ['webgpu'] },
  [{ name: 'dynamic-matmul', ops: ['MatMulInteger'], rewrite: dynamicMatMul }],
);
