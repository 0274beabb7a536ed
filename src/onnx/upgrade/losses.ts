/** Losses of classifiers, as the functions that ONNX publishes for them (https://onnx.ai/onnx/operators/onnx__SoftmaxCrossEntropyLoss.html). */
import { ShapeError } from '../../ops/def.ts';
import { ONNX_DTYPE } from '../../ops/specs.ts';
import type { Scope, SourceNode } from '../scope.ts';
import { attributesOf, inputOf, int64Input, numberAttribute, scalarInput, type Rule } from './rule.ts';

/** −logProbs at the labels, by weight of the label; `ignore_index` counts nothing, and the mean is by what is counted. */
function lossOf(node: SourceNode, scope: Scope, logProbs: string): void {
  const [labels, weights] = [inputOf(node, 1), node.inputs[2] ?? ''];
  const [{ dtype }, label] = [scope.type(logProbs), scope.type(labels).dtype];
  const reduction = attributesOf(node).reduction ?? 'mean';
  if (reduction !== 'none' && reduction !== 'sum' && reduction !== 'mean') throw new ShapeError(`attribute 'reduction' is ${String(reduction)}`);
  const first = int64Input(scope, [1]);
  const zero = scalarInput(scope, dtype, 0);
  const ignores = node.attributes.has('ignore_index');
  const [ignored] = ignores ? scope.emit(node, 'Equal', [labels, scalarInput(scope, label, numberAttribute(node, 'ignore_index'))], {}) : [];
  const counted = (id: string, otherwise: string): string => (ignored === undefined ? id : scope.emit(node, 'Where', [ignored, otherwise, id], {})[0]!);
  // What is ignored need be no class.
  const classes = counted(labels, scalarInput(scope, label, 0));
  const [column] = scope.emit(node, 'Unsqueeze', [classes, first], {});
  const [picked] = scope.emit(node, 'GatherElements', [logProbs, column!], { axis: 1 });
  const [chosen] = scope.emit(node, 'Squeeze', [picked!, first], {});
  const [plain] = scope.emit(node, 'Neg', [chosen!], {});
  const [weight] = weights === '' ? [] : scope.emit(node, 'Gather', [weights, classes], { axis: 0 });
  const [weighed] = weight === undefined ? [plain] : scope.emit(node, 'Mul', [plain!, weight], {});
  const output = node.outputs.slice(0, 1);
  if (reduction === 'none' && ignored !== undefined) return void scope.emit(node, 'Where', [ignored, zero, weighed!], {}, output);
  if (reduction === 'none') return void scope.emit(node, 'Identity', [weighed!], {}, output);
  const sums = counted(weighed!, zero);
  if (reduction === 'sum') return void scope.emit(node, 'ReduceSum', [sums], { keepdims: 0 }, output);
  if (weight === undefined && ignored === undefined) return void scope.emit(node, 'ReduceMean', [sums], { keepdims: 0 }, output);
  const [kept] = ignored === undefined || weight !== undefined ? [] : scope.emit(node, 'Not', [ignored], {});
  const [share] = kept === undefined ? [counted(weight!, zero)] : scope.emit(node, 'Cast', [kept], { to: ONNX_DTYPE[dtype] });
  const [total] = scope.emit(node, 'ReduceSum', [sums], { keepdims: 0 });
  const [divisor] = scope.emit(node, 'ReduceSum', [share!], { keepdims: 0 });
  scope.emit(node, 'Div', [total!, divisor!], {}, output);
}

const negativeLogLikelihood: Rule = (node, scope) => lossOf(node, scope, inputOf(node, 0));

const softmaxCrossEntropy: Rule = (node, scope) => {
  const given = node.outputs[1] ?? '';
  const [logProbs] = scope.emit(node, 'LogSoftmax', [inputOf(node, 0)], { axis: 1 }, given === '' ? undefined : [given]);
  lossOf(node, scope, logProbs!);
};

export const LOSS_RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  ['NegativeLogLikelihoodLoss', negativeLogLikelihood],
  ['SoftmaxCrossEntropyLoss', softmaxCrossEntropy],
]);
