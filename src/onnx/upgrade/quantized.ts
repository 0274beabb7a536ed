/**
 * Quantized ops of onnxruntime's `com.microsoft` domain, which its quantization writes in the operator format and its
 * optimizer makes of Q/DQ: read as that Q/DQ again, so that they take the way of every other quantized model.
 */
import type { OpKind } from '../../ir/ops.ts';
import { UnsupportedError } from '../../ops/def.ts';
import { ONNX_DTYPE } from '../../ops/specs.ts';
import type { RawRecord, Scope, SourceNode } from '../scope.ts';
import { attributesOf, inputOf, numberAttribute, scalarInput, type Rule } from './rule.ts';

/** Input `index` as floats; its scale and zero point are behind it, along `axis` where they are many. */
function dequantized(node: SourceNode, scope: Scope, index: number, axis = 1): string {
  const inputs = [inputOf(node, index), inputOf(node, index + 1), node.inputs[index + 2] ?? ''];
  return scope.emit(node, 'DequantizeLinear', inputs, { axis })[0]!;
}

/** The node's output: `id` in integers by the scale that is input `index` and the zero point behind it, of the type of the input `like`. */
function quantize(node: SourceNode, scope: Scope, id: string, index: number, like = inputOf(node, 0)): void {
  const zero = node.inputs[index + 1] || scalarInput(scope, scope.type(like).dtype, 0);
  scope.emit(node, 'QuantizeLinear', [id, inputOf(node, index), zero], {}, node.outputs);
}

/** `op` of `count` quantized inputs, each with scale and zero point behind it; then those of the result. */
function between(op: OpKind, count: number, attributesFor: (node: SourceNode) => RawRecord = (node) => attributesOf(node)): Rule {
  return (node, scope) => {
    const inputs = Array.from({ length: count }, (_, index) => dequantized(node, scope, 3 * index));
    const [result] = scope.emit(node, op, inputs, attributesFor(node));
    quantize(node, scope, result!, 3 * count);
  };
}

function channelsFirst(node: SourceNode): RawRecord {
  if (numberAttribute(node, 'channels_last', 0) !== 0) throw new UnsupportedError('channels behind the image (channels_last) are not supported');
  return attributesOf(node, 'channels_last');
}

/** Its attribute `opset` says how the axis is meant. */
const softmax: Rule = (node, scope) => {
  const data = inputOf(node, 0);
  const rank = scope.type(data).dims.length;
  const opset = numberAttribute(node, 'opset', 13);
  const axis = numberAttribute(node, 'axis', opset < 13 ? 1 : -1);
  if (opset < 13 && axis !== -1 && axis !== rank - 1) throw new UnsupportedError('a softmax over several axes (opset before 13) is not supported');
  const [result] = scope.emit(node, 'Softmax', [dequantized(node, scope, 0)], { axis });
  quantize(node, scope, result!, 3);
};

/** Scale and zero point of the result come first, then each part with its own. */
const concat: Rule = (node, scope) => {
  const parts = node.inputs.flatMap((_, index) => (index >= 2 && index % 3 === 2 ? [dequantized(node, scope, index)] : []));
  const [result] = scope.emit(node, 'Concat', parts, attributesOf(node));
  quantize(node, scope, result!, 0, inputOf(node, 2));
};

const where: Rule = (node, scope) => {
  const [result] = scope.emit(node, 'Where', [inputOf(node, 0), dequantized(node, scope, 1), dequantized(node, scope, 4)], {});
  quantize(node, scope, result!, 7, inputOf(node, 1));
};

/** alpha · A·B + C, where C lies on the grid of the sums; floats where no scale of the result is given. */
const gemm: Rule = (node, scope) => {
  const [transA, transB] = [numberAttribute(node, 'transA', 0), numberAttribute(node, 'transB', 0)];
  const alpha = numberAttribute(node, 'alpha', 1);
  const operands = [dequantized(node, scope, 0), dequantized(node, scope, 3, transB === 0 ? 1 : 0)];
  const bias = node.inputs[6] ?? '';
  if (bias !== '') {
    if (alpha !== 1) throw new UnsupportedError('a bias beside alpha is not supported');
    const [grid] = scope.emit(node, 'Mul', [inputOf(node, 1), inputOf(node, 4)], {});
    operands.push(scope.emit(node, 'DequantizeLinear', [bias, grid!], { axis: -1 })[0]!);
  }
  const isFloat = (node.inputs[7] ?? '') === '';
  const [result] = scope.emit(node, 'Gemm', operands, { alpha, transA, transB }, isFloat ? node.outputs : undefined);
  if (!isFloat) quantize(node, scope, result!, 7);
};

/** scale · (A − a)(B − b) + bias in floats. */
function scaledProduct(node: SourceNode, scope: Scope, product: readonly string[], scales: readonly string[], bias: string): void {
  const [sums] = scope.emit(node, 'MatMulInteger', product, {});
  const [floats] = scope.emit(node, 'Cast', [sums!], { to: ONNX_DTYPE[scope.type(scales[0]!).dtype] });
  const [scale] = scope.emit(node, 'Mul', scales, {});
  const [result] = scope.emit(node, 'Mul', [floats!, scale!], {}, bias === '' ? node.outputs : undefined);
  if (bias !== '') scope.emit(node, 'Add', [result!, bias], {}, node.outputs);
}

const matMulIntegerToFloat: Rule = (node, scope) => {
  const [zeroA = '', zeroB = '', bias = ''] = node.inputs.slice(4);
  scaledProduct(node, scope, [inputOf(node, 0), inputOf(node, 1), zeroA, zeroB], [inputOf(node, 2), inputOf(node, 3)], bias);
};

const dynamicQuantizeMatMul: Rule = (node, scope) => {
  const [zero = '', bias = ''] = node.inputs.slice(3);
  const found = ['values', 'scale', 'zero_point'].map((name) => scope.freshValue(`${node.name}/${name}`));
  const [values, scale, zeroA] = scope.emit(node, 'DynamicQuantizeLinear', [inputOf(node, 0)], {}, found);
  scaledProduct(node, scope, [values!, inputOf(node, 1), zeroA!, zero], [scale!, inputOf(node, 2)], bias);
};

export const QUANTIZED_RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  ['QLinearAdd', between('Add', 2)],
  ['QLinearMul', between('Mul', 2)],
  ['QLinearSigmoid', between('Sigmoid', 1)],
  ['QLinearLeakyRelu', between('LeakyRelu', 1)],
  ['QLinearAveragePool', between('AveragePool', 1, channelsFirst)],
  ['QLinearGlobalAveragePool', between('GlobalAveragePool', 1, channelsFirst)],
  ['QLinearSoftmax', softmax],
  ['QLinearConcat', concat],
  ['QLinearWhere', where],
  ['QGemm', gemm],
  ['MatMulIntegerToFloat', matMulIntegerToFloat],
  ['DynamicQuantizeMatMul', dynamicQuantizeMatMul],
]);
