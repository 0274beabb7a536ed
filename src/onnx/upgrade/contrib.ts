/**
 * Ops of onnxruntime's `com.microsoft` domain that the vocabulary can say: exporters and onnxruntime's own optimizer write
 * them (https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md). All others stay custom.
 */
import type { OpKind } from '../../ir/ops.ts';
import { UnsupportedError } from '../../ops/def.ts';
import type { Scope, SourceNode } from '../scope.ts';
import { attributesOf, emitAs, inputOf, numberAttribute, scalarInput, type Rule } from './rule.ts';

/** gelu(x + bias), bias optional. */
function biasGelu(approximate: 'none' | 'tanh'): Rule {
  return (node, scope) => {
    const bias = node.inputs[1];
    const data = inputOf(node, 0);
    const [sum] = bias ? scope.emit(node, 'Add', [data, bias], {}) : [data];
    scope.emit(node, 'Gelu', [sum!], { approximate }, node.outputs);
  };
}

/** x · sigmoid(alpha · x). */
const quickGelu: Rule = (node, scope) => {
  const data = inputOf(node, 0);
  const alpha = scalarInput(scope, scope.type(data).dtype, numberAttribute(node, 'alpha', 1.702));
  const [scaled] = scope.emit(node, 'Mul', [data, alpha], {});
  const [gate] = scope.emit(node, 'Sigmoid', [scaled!], {});
  scope.emit(node, 'Mul', [data, gate!], {}, node.outputs);
};

/** norm(input + skip + bias): inputs input, skip, gamma, then beta (unless simplified), bias; output 3 is the sum. */
function skipNormalization(op: 'LayerNormalization' | 'RMSNormalization'): Rule {
  return (node, scope) => {
    if (node.outputs.slice(1, 3).some((id) => scope.isUsed(id))) throw new UnsupportedError('mean and variance outputs are used');
    const isLayerNorm = op === 'LayerNormalization';
    const [data, skip, gamma] = [0, 1, 2].map((index) => inputOf(node, index));
    const beta = isLayerNorm ? (node.inputs[3] ?? '') : '';
    const bias = node.inputs[isLayerNorm ? 4 : 3] ?? '';
    const total = node.outputs[3] && scope.isUsed(node.outputs[3]) ? [node.outputs[3]] : undefined;
    const [sum] = scope.emit(node, 'Add', [data!, skip!], {}, bias ? undefined : total);
    const [biased] = bias ? scope.emit(node, 'Add', [sum!, bias], {}, total) : [sum];
    const attributes = { axis: -1, epsilon: numberAttribute(node, 'epsilon', 1e-12) };
    scope.emit(node, op, [biased!, gamma!, beta], attributes, node.outputs.slice(0, 1));
  };
}

/** alpha · op(A) op(B), where trans flags swap the last two axes. */
const fusedMatMul: Rule = (node, scope) => {
  if (numberAttribute(node, 'transBatchA', 0) || numberAttribute(node, 'transBatchB', 0)) throw new UnsupportedError('transBatchA and transBatchB');
  const operand = (index: number, flag: string): string => {
    const id = inputOf(node, index);
    const rank = scope.type(id).dims.length;
    if (numberAttribute(node, flag, 0) === 0 || rank < 2) return id;
    const perm = [...Array.from({ length: rank - 2 }, (_, axis) => axis), rank - 1, rank - 2];
    return scope.emit(node, 'Transpose', [id], { perm })[0]!;
  };
  const operands = [operand(0, 'transA'), operand(1, 'transB')];
  scaled(node, scope, operands, numberAttribute(node, 'alpha', 1));
};

function scaled(node: SourceNode, scope: Scope, operands: readonly string[], alpha: number): void {
  if (alpha === 1) return void scope.emit(node, 'MatMul', operands, {}, node.outputs);
  const [product] = scope.emit(node, 'MatMul', operands, {});
  scope.emit(node, 'Mul', [product!, scalarInput(scope, scope.type(product!).dtype, alpha)], {}, node.outputs);
}

/** Activations that onnxruntime fuses into Conv and Gemm, with their parameters in order. */
const ACTIVATIONS: Readonly<Record<string, { readonly op: OpKind; readonly parameters: readonly string[] }>> = {
  Relu: { op: 'Relu', parameters: [] },
  Sigmoid: { op: 'Sigmoid', parameters: [] },
  Tanh: { op: 'Tanh', parameters: [] },
  LeakyRelu: { op: 'LeakyRelu', parameters: ['alpha'] },
  HardSigmoid: { op: 'HardSigmoid', parameters: ['alpha', 'beta'] },
  Clip: { op: 'Clip', parameters: ['min', 'max'] },
  Elu: { op: 'Elu', parameters: ['alpha'] },
  Softplus: { op: 'Softplus', parameters: [] },
  Softsign: { op: 'Softsign', parameters: [] },
  ThresholdedRelu: { op: 'ThresholdedRelu', parameters: ['alpha'] },
};

/** op, then the activation; FusedConv adds input 3 (Z) before it. */
function activated(op: 'Conv' | 'Gemm', parametersOf: (node: SourceNode, names: readonly string[]) => readonly unknown[]): Rule {
  return (node, scope) => {
    const name = String(node.attributes.get('activation') ?? '');
    const activation = Object.hasOwn(ACTIVATIONS, name) ? ACTIVATIONS[name] : undefined;
    if (name !== '' && !activation) throw new UnsupportedError(`activation ${name}`);
    const parameters = activation ? parametersOf(node, activation.parameters) : [];
    const attributes = attributesOf(node, ...[...node.attributes.keys()].filter((key) => key.startsWith('activation')));
    const addend = op === 'Conv' ? (node.inputs[3] ?? '') : '';
    const steps = [addend ? 1 : 0, activation ? 1 : 0].reduce((sum, step) => sum + step, 0);
    let [value] = scope.emit(node, op, node.inputs.slice(0, 3), attributes, steps === 0 ? node.outputs : undefined);
    if (addend) [value] = scope.emit(node, 'Add', [value!, addend], {}, activation ? undefined : node.outputs);
    if (!activation) return;
    if (activation.op === 'Clip') {
      // Since opset 11 its bounds are inputs.
      const bounds = parameters.map((bound) => (typeof bound === 'number' ? scalarInput(scope, scope.type(value!).dtype, bound) : ''));
      scope.emit(node, 'Clip', [value!, ...bounds], {}, node.outputs);
      return;
    }
    const entries = activation.parameters.map((key, index) => [key, parameters[index]]).filter((entry) => typeof entry[1] === 'number');
    scope.emit(node, activation.op, [value!], Object.fromEntries(entries) as Record<string, number>, node.outputs);
  };
}

const listed = (node: SourceNode): readonly unknown[] => {
  const values = node.attributes.get('activation_params');
  return Array.isArray(values) ? values : [];
};

const named = (node: SourceNode, names: readonly string[]): readonly unknown[] => names.map((name) => node.attributes.get(`activation_${name}`));

export const CONTRIB_RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  ['Gelu', (node, scope) => emitAs('Gelu', node, scope)],
  ['BiasGelu', biasGelu('none')],
  ['FastGelu', biasGelu('tanh')],
  ['QuickGelu', quickGelu],
  ['SkipLayerNormalization', skipNormalization('LayerNormalization')],
  ['SkipSimplifiedLayerNormalization', skipNormalization('RMSNormalization')],
  ['FusedMatMul', fusedMatMul],
  ['TransposeMatMul', fusedMatMul],
  ['FusedConv', activated('Conv', listed)],
  ['FusedGemm', activated('Gemm', named)],
  ['QuantizeLinear', (node, scope) => emitAs('QuantizeLinear', node, scope)],
  ['DequantizeLinear', (node, scope) => emitAs('DequantizeLinear', node, scope)],
]);
