/**
 * Products of dequantized operands as products of the integers themselves: Σ (x − zero)·w in int32, times one scale per output channel.
 *
 * What stays behind a DequantizeLinear although it is constant is folded afterwards: no kernel wants those integers.
 */
import { type GraphEditor, unionOrigins } from '../ir/edit.ts';
import type { Expr } from '../ir/expr.ts';
import type { AnyNode, Graph, Node, ValueId } from '../ir/graph.ts';
import { type DType, type Dims, elementCount, fromNumbers, type Tensor, toNumbers } from '../ir/tensor.ts';
import { foldConstants } from './constant-folding.ts';
import { dequantizeConstants } from './dequantize-blocks.ts';
import { type Grid, gridOf } from './linear-grid.ts';
import { applyRules, type Pass } from './pass.ts';

const accumulator: Expr = { kind: 'input', index: 0, dtype: 'float32' };

/** Integers are multiplied 16 at a time. */
export const VECTOR = 16;

/** One group is padded, and depthwise channels go one by one; other groups must be whole vectors. */
export function hasWholeVectors(inputs: number, outputs: number, groups: number): boolean {
  return groups === 1 || (inputs === groups && outputs === groups) || ((inputs / groups) % VECTOR === 0 && (outputs / groups) % VECTOR === 0);
}

/** Whether there is an integer kernel for a product of these shapes. True of what is no product. */
export function hasIntegerKernel(node: AnyNode, { types }: Pick<Graph, 'types'>): boolean {
  const dims = (index: number): Dims => types.get(node.inputs[index]!)!.dims;
  if (node.op === 'Conv') return hasWholeVectors(dims(0)[1]!, dims(1)[0]!, node.attrs.group);
  return (node.op !== 'Gemm' && node.op !== 'MatMul') || dims(0).at(-1)! % VECTOR === 0;
}

// conv(DQ(x), DQ(w)) + b = s ∘ convint(x − zero, w) + b
function integerConv(node: AnyNode, edit: GraphEditor): boolean {
  if (node.op !== 'Conv' && node.op !== 'FusedConv') return false;
  const [x, w, b = '', ...extras] = node.inputs as [string, string, string?, ...string[]];
  if (edit.type(x).dtype !== 'float32' || !hasWholeVectors(edit.type(x).dims[1]!, edit.type(w).dims[0]!, node.attrs.group)) return false;
  const operands = operandsOf(x, w, b, 0, edit);
  if (!operands) return false;
  const { auto_pad, dilations, group, kernel_shape, pads, strides } = node.attrs;
  edit.replaceNode(node, {
    op: 'QuantizedConv',
    inputs: [...addOperands(node, operands, edit), ...extras],
    attrs: { auto_pad, dilations, group, kernel_shape, pads, strides, zeroPoint: operands.grid.zero, epilogue: node.op === 'Conv' ? accumulator : node.attrs.epilogue },
    origins: unionOrigins(...operands.nodes, node),
  });
  return true;
}

// (alpha · DQ(a) · DQ(b)) + c = s ∘ (a − zero)·b + c
function integerMatMul(node: AnyNode, edit: GraphEditor): boolean {
  const plain = plainProduct(node);
  if (!plain) return false;
  const [a, b, c = '', ...extras] = node.inputs as [string, string, string?, ...string[]];
  if (edit.type(b).dims.length !== 2 || edit.type(a).dims.length < 2 || edit.type(a).dims.at(-1)! % VECTOR !== 0) return false;
  const columnAxis = plain.transB ? 0 : 1;
  const columns = edit.type(b).dims[columnAxis]!;
  // Gemm's C may be a scalar or a whole matrix: only a row is a bias.
  if (c && !(edit.type(c).dims.at(-1) === columns && elementCount(edit.type(c).dims) === columns)) return false;
  const operands = operandsOf(a, b, c, columnAxis, edit);
  if (!operands || edit.type(a).dtype !== 'float32') return false;
  edit.replaceNode(node, {
    op: 'QuantizedMatMul',
    inputs: [...addOperands(node, operands, edit), ...extras],
    attrs: { zeroPoint: operands.grid.zero, transB: plain.transB ? 1 : 0, epilogue: plain.epilogue },
    origins: unionOrigins(...operands.nodes, node),
  });
  return true;
}

function plainProduct(node: AnyNode): { readonly transB: boolean; readonly epilogue: Expr } | undefined {
  if (node.op === 'MatMul') return { transB: false, epilogue: accumulator };
  if (node.op !== 'Gemm' && node.op !== 'FusedMatMul') return undefined;
  const { alpha, transA, transB } = node.attrs;
  if (alpha !== 1 || transA === 1 || (node.op === 'Gemm' && node.attrs.beta !== 1 && node.inputs[2])) return undefined;
  return { transB: transB === 1, epilogue: node.op === 'FusedMatMul' ? node.attrs.epilogue : accumulator };
}

interface Operands {
  readonly x: ValueId;
  readonly w: ValueId;
  readonly grid: Grid;
  /** Input scale times weight scale, one per output channel. */
  readonly scales: readonly number[];
  readonly bias: readonly number[] | undefined;
  readonly nodes: readonly AnyNode[];
}

/** The integers behind a product's operands; undefined unless data are on one grid, weights are symmetric, everything else constant. */
function operandsOf(x: ValueId, w: ValueId, b: ValueId, channelAxis: number, edit: GraphEditor): Operands | undefined {
  const [data, weights] = [edit.producer(x), edit.producer(w)];
  const grid = data?.op === 'DequantizeLinear' ? gridOf(data, edit) : undefined;
  if (!grid || weights?.op !== 'DequantizeLinear') return undefined;
  const scales = weightScales(weights, channelAxis, edit);
  const integers = scales && signedWeights(weights, edit);
  const bias = b === '' ? undefined : constantValues(b, edit);
  if (!scales || !integers || (b !== '' && !bias)) return undefined;
  const id = typeof integers === 'string' ? integers : edit.addConstant(integers, `${weights.inputs[0]}_signed`);
  return { x: data!.inputs[0]!, w: id, grid, scales: scales.map((scale) => grid.scale * scale), bias, nodes: [data!, weights] };
}

/** Scales of constant weights, by output channel. */
function weightScales(node: Node<'DequantizeLinear'>, channelAxis: number, edit: GraphEditor): readonly number[] | undefined {
  const [w, scale] = node.inputs.map((id) => edit.constant(id));
  if (!w || !scale || node.attrs.block_size !== 0) return undefined;
  const channels = w.dims[channelAxis]!;
  const values = toNumbers(scale);
  if (values.length === 1) return Array.from({ length: channels }, () => values[0]!);
  const axis = node.attrs.axis < 0 ? node.attrs.axis + w.dims.length : node.attrs.axis;
  return axis === channelAxis && values.length === channels ? values : undefined;
}

/** Constant weights as int8 with zero point 0: as they are, or with their zero point taken off, where what is left fits (uint8 around 128). */
function signedWeights({ inputs, attrs }: Node<'DequantizeLinear'>, edit: GraphEditor): ValueId | Tensor | undefined {
  const [w, , zero] = inputs.map((id) => edit.constant(id));
  if (!w || (inputs[2] && !zero)) return undefined;
  const zeros = zero ? toNumbers(zero) : [0];
  if (w.dtype === 'int8' && zeros.every((value) => value === 0)) return inputs[0]!;
  return centredWeights(w, zeros, attrs.axis < 0 ? attrs.axis + w.dims.length : attrs.axis);
}

/** Weights of 8 bits without their zero points (one, or one for each entry of an axis); undefined where an int8 can't hold what is left. */
export function centredWeights(w: Tensor, zeros: readonly number[], axis: number): Tensor | undefined {
  if (w.dtype !== 'int8' && w.dtype !== 'uint8') return undefined;
  const inner = elementCount(w.dims.slice(axis + 1));
  const centred = toNumbers(w).map((value, i) => value - zeros[zeros.length === 1 ? 0 : Math.floor(i / inner) % zeros.length]!);
  return centred.every((value) => value >= -128 && value <= 127) ? fromNumbers('int8', w.dims, centred) : undefined;
}

/** A constant's numbers, through a DequantizeLinear where it lies behind one. */
function constantValues(id: ValueId, edit: GraphEditor): readonly number[] | undefined {
  const plain = edit.constant(id);
  if (plain) return toNumbers(plain);
  const node = edit.producer(id);
  if (node?.op !== 'DequantizeLinear' || node.attrs.block_size !== 0) return undefined;
  const [integers, scale, zero] = node.inputs.map((input) => edit.constant(input));
  if (!integers || !scale || (node.inputs[2] && !zero)) return undefined;
  const [q, s, z] = [toNumbers(integers), toNumbers(scale), zero ? toNumbers(zero) : [0]];
  // Scales of channels lie along the list only where there is no other axis.
  if (integers.dims.length > 1 && s.length > 1) return undefined;
  const at = (values: readonly number[], i: number): number => values[values.length === 1 ? 0 : i]!;
  return q.map((value, i) => Math.fround((value - at(z, i)) * at(s, i)));
}

function addOperands(node: AnyNode, { x, w, scales, bias }: Operands, edit: GraphEditor): ValueId[] {
  const vector = (values: readonly number[], hint: string): ValueId => edit.addConstant(floats(values), `${node.name}_${hint}`);
  return [x, w, vector(scales, 'scale'), bias ? vector(bias, 'bias') : ''];
}

function floats(values: readonly number[]): Tensor {
  return fromNumbers('float32' satisfies DType, [values.length], values);
}

export const integerProducts: Pass = {
  name: 'integer-products',
  summary: 'products of dequantized operands multiply the 8-bit integers themselves',
  targets: ['webgpu'],
  basic: true,
  run: (graph) =>
    applyRules(graph, [
      { name: 'integer-conv', ops: ['Conv', 'FusedConv'], rewrite: integerConv },
      { name: 'integer-matmul', ops: ['Gemm', 'MatMul', 'FusedMatMul'], rewrite: integerMatMul },
    ]),
};

/** DequantizeLinear of constants that no product took: they would be dequantized in every run, into as much memory. */
export const foldDequantized: Pass = {
  name: 'fold-dequantized',
  summary: 'weights that no integer kernel reads are dequantized at build',
  targets: ['webgpu'],
  basic: true,
  async run(given, { fold }) {
    const { graph, rewrites } = dequantizeConstants(given, () => false);
    const folded = fold ? await foldConstants(graph, fold, new Set(['Custom'])) : { graph, rewrites: {} };
    return { graph: folded.graph, rewrites: { ...rewrites, ...folded.rewrites } };
  },
};
