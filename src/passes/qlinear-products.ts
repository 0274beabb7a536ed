/**
 * QLinearConv and QLinearMatMul, as onnxruntime's quantizer writes them in its operator format, as the products between Q/DQ that they stand
 * for, where there is an integer kernel for these: then they fuse, and are tuned, as those of every other quantized model. The others keep the
 * plain kernel that multiplies element by element, which takes any zero point of the weights.
 */
import { type GraphEditor } from '../ir/edit.ts';
import type { AnyNode, ValueId } from '../ir/graph.ts';
import { elementCount, fromNumbers, toNumbers, type Tensor } from '../ir/tensor.ts';
import { centredWeights, hasWholeVectors, VECTOR } from './integer-products.ts';
import { rulePass } from './pass.ts';

/** Scale and zero point of a value, as the inputs of Q and DQ. */
type Quantization = readonly [ValueId, ValueId];

/** One scale and zero point, as scalars. */
function tensorGrid(scale: ValueId, zero: ValueId, edit: GraphEditor): Quantization | undefined {
  const given = [scale, zero].map((id) => edit.constant(id));
  if (!given.every((tensor): tensor is Tensor => tensor !== undefined && elementCount(tensor.dims) === 1) || given[0]!.dtype !== 'float32') return undefined;
  return given.map((tensor, index) => edit.addConstant({ ...tensor, dims: [] }, [scale, zero][index]!)) as unknown as Quantization;
}

/** Constant weights as float32 by one scale, or one of each channel; undefined where int8 kernels can't take them. */
function realWeights(node: AnyNode, [w, scale, zero]: readonly [ValueId, ValueId, ValueId], axis: number, edit: GraphEditor): ValueId | undefined {
  const [weights, scales, zeros] = [w, scale, zero].map((id) => edit.constant(id));
  if (!weights || !zeros || scales?.dtype !== 'float32') return undefined;
  const [count, channels] = [elementCount(scales.dims), weights.dims[axis]!];
  const isVector = scales.dims.length === 1 && count === channels && count > 1;
  if ((count !== 1 && !isVector) || (elementCount(zeros.dims) !== 1 && elementCount(zeros.dims) !== count) || !centredWeights(weights, toNumbers(zeros), axis)) return undefined;
  const dims = isVector ? [channels] : [];
  const own = elementCount(zeros.dims) === count ? toNumbers(zeros) : Array.from({ length: count }, () => toNumbers(zeros)[0]!);
  const inputs = [w, edit.addConstant({ ...scales, dims }, scale), edit.addConstant(fromNumbers(zeros.dtype, dims, own), zero)];
  return edit.add({ op: 'DequantizeLinear', inputs, attrs: { axis, block_size: 0 }, origins: node.origins, name: `${node.name}_weights`, type: { dtype: 'float32', dims: weights.dims } });
}

function dequantized(node: AnyNode, x: ValueId, grid: Quantization, edit: GraphEditor): ValueId {
  return edit.add({ op: 'DequantizeLinear', inputs: [x, ...grid], attrs: { axis: 1, block_size: 0 }, origins: node.origins, name: `${node.name}_data`, type: { dtype: 'float32', dims: edit.type(x).dims } });
}

function quantize(node: AnyNode, value: ValueId, grid: Quantization, edit: GraphEditor): void {
  edit.replaceNode(node, { op: 'QuantizeLinear', inputs: [value, ...grid], attrs: { axis: 1, block_size: 0, saturate: 1, output_dtype: undefined }, origins: node.origins });
}

// qlinearconv(x, w, b) = Q(conv(DQ(x), DQ(w)) + b·sx·sw)
function linearConv(node: AnyNode, edit: GraphEditor): boolean {
  if (node.op !== 'QLinearConv') return false;
  const [x, xScale, xZero, w, wScale, wZero, yScale, yZero, b = ''] = node.inputs as [ValueId, ValueId, ValueId, ValueId, ValueId, ValueId, ValueId, ValueId, ValueId?];
  const bias = edit.constant(b);
  if (!hasWholeVectors(edit.type(x).dims[1]!, edit.type(w).dims[0]!, node.attrs.group) || (b !== '' && !bias)) return false;
  const [data, result] = [tensorGrid(xScale, xZero, edit), tensorGrid(yScale, yZero, edit)];
  const weights = data && result && realWeights(node, [w, wScale, wZero], 0, edit);
  if (!weights) return false;
  const inputs = [dequantized(node, x, data, edit), weights];
  if (bias) {
    const [step, steps] = [xScale, wScale].map((id) => toNumbers(edit.constant(id)!)) as [number[], number[]];
    const reals = toNumbers(bias).map((value, i) => value * step[0]! * steps[steps.length === 1 ? 0 : i]!);
    inputs.push(edit.addConstant(fromNumbers('float32', bias.dims, reals), b));
  }
  const type = { dtype: 'float32', dims: edit.type(node.outputs[0]!).dims } as const;
  quantize(node, edit.add({ op: 'Conv', inputs, attrs: node.attrs, origins: node.origins, name: `${node.name}_Conv`, type }), result, edit);
  return true;
}

// qlinearmatmul(a, b) = Q(DQ(a)·DQ(b))
function linearMatMul(node: AnyNode, edit: GraphEditor): boolean {
  if (node.op !== 'QLinearMatMul') return false;
  const [a, aScale, aZero, b, bScale, bZero, yScale, yZero] = node.inputs as [ValueId, ValueId, ValueId, ValueId, ValueId, ValueId, ValueId, ValueId];
  const { dims } = edit.type(a);
  if (dims.length < 2 || dims.at(-1)! % VECTOR !== 0 || edit.type(b).dims.length !== 2) return false;
  const [data, result] = [tensorGrid(aScale, aZero, edit), tensorGrid(yScale, yZero, edit)];
  const weights = data && result && realWeights(node, [b, bScale, bZero], 1, edit);
  if (!weights) return false;
  const type = { dtype: 'float32', dims: edit.type(node.outputs[0]!).dims } as const;
  quantize(node, edit.add({ op: 'MatMul', inputs: [dequantized(node, a, data, edit), weights], attrs: {}, origins: node.origins, name: `${node.name}_MatMul`, type }), result, edit);
  return true;
}

export const qlinearProducts = rulePass(
  { name: 'qlinear-products', summary: 'QLinearConv and QLinearMatMul as products between Q/DQ, where those have an integer kernel', targets: ['webgpu'], basic: true },
  [
    { name: 'qlinear-conv', ops: ['QLinearConv'], rewrite: linearConv },
    { name: 'qlinear-matmul', ops: ['QLinearMatMul'], rewrite: linearMatMul },
  ],
);
