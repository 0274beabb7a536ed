/**
 * Ops whose meaning changed between opsets, or that inference does without: softmax on coerced matrices, group
 * normalization by group, dropout, training outputs.
 */
import type { OpKind } from '../../ir/ops.ts';
import { elementCount, toNumbers } from '../../ir/tensor.ts';
import { ShapeError, UnsupportedError } from '../../ops/def.ts';
import { ONNX_DTYPE } from '../../ops/specs.ts';
import type { RawRecord, Scope, SourceNode } from '../scope.ts';
import { attributesOf, emitAs, inputOf, int64Input, isTensor, normalizeAxis, numberAttribute, scalar, scalarInput, type Rule } from './rule.ts';

/**
 * Before opset 13, Softmax, LogSoftmax and Hardmax read their input as a matrix, split before `axis`, and work on its rows.
 * That is the modern op where the row is one axis; elsewhere it is Reshape → op → Reshape.
 */
function coercedSoftmax(op: 'Softmax' | 'LogSoftmax' | 'Hardmax'): Rule {
  return (node, scope) => {
    if (node.opset >= 13) return emitAs(op, node, scope);
    const data = inputOf(node, 0);
    const { dims } = scope.type(data);
    const axis = normalizeAxis(numberAttribute(node, 'axis', 1), dims.length);
    const row = dims.slice(axis);
    if (row.length > 0 && row.slice(1).every((dim) => dim === 1)) return emitAs(op, node, scope, { attributes: { axis } });
    const matrix = [elementCount(dims.slice(0, axis)), elementCount(row)];
    const [flat] = scope.emit(node, 'Reshape', [data, int64Input(scope, matrix)], { allowzero: 1 });
    const [result] = scope.emit(node, op, [flat!], { axis: 1 });
    scope.emit(node, 'Reshape', [result!, int64Input(scope, dims)], { allowzero: 1 }, node.outputs);
  };
}

const batchNormalization: Rule = (node, scope) => {
  // Before opset 14, outputs behind the first are what says that the statistics are the batch's own; an exporter in training mode leaves them unread.
  if (node.opset >= 14 && numberAttribute(node, 'training_mode', 0) !== 0) return normalizeByBatch(node, scope);
  if (node.outputs.slice(1).some((id) => (node.opset < 14 ? id !== '' : scope.isUsed(id)))) throw new UnsupportedError('it has the outputs of training, which is not supported');
  if (node.opset < 9 && numberAttribute(node, 'spatial', 1) === 0 && scope.type(inputOf(node, 0)).dims.length > 2) return normalizeElements(node, scope);
  const attributes = attributesOf(node, 'spatial', 'is_test');
  scope.emit(node, 'BatchNormalization', node.inputs, attributes, node.outputs.slice(0, 1));
};

/**
 * With training_mode, the statistics are the batch's own, and those that came in are moved towards them. Exporters write it where weights are
 * standardized (torch's `batch_norm` of a convolution's weights, as in timm's ScaledStdConv2d): constants then.
 */
function normalizeByBatch(node: SourceNode, scope: Scope): void {
  const [data, scale, bias, ...running] = [0, 1, 2, 3, 4].map((index) => inputOf(node, index)) as [string, string, string, string, string];
  const { dtype } = scope.type(running[0]!);
  const one = (op: OpKind, inputs: readonly string[], attributes: RawRecord = {}): string => scope.emit(node, op, inputs, attributes)[0]!;
  const values = dtype === scope.type(data).dtype ? data : one('Cast', [data], { to: ONNX_DTYPE[dtype] });
  const axes = int64Input(scope, [...scope.type(data).dims.keys()].filter((axis) => axis !== 1));
  const centred = one('Sub', [values, one('ReduceMean', [values, axes], { keepdims: 1 })]);
  const statistics = [one('ReduceMean', [values, axes], { keepdims: 0 }), one('ReduceMean', [one('Mul', [centred, centred]), axes], { keepdims: 0 })];
  scope.emit(node, 'BatchNormalization', [data, scale, bias, ...statistics], { epsilon: numberAttribute(node, 'epsilon', 1e-5) }, node.outputs.slice(0, 1));
  const momentum = numberAttribute(node, 'momentum', 0.9);
  for (const [i, statistic] of statistics.entries()) {
    const output = node.outputs[i + 1];
    if (!output || !scope.isUsed(output)) continue;
    const [old, own] = [one('Mul', [running[i]!, scalarInput(scope, dtype, momentum)]), one('Mul', [statistic, scalarInput(scope, dtype, 1 - momentum)])];
    scope.emit(node, 'Add', [old, own], {}, [output]);
  }
}

/** Before opset 9, statistics could be of every element of a sample (spatial = 0): (x − mean) / √(variance + ε) · scale + bias. */
function normalizeElements(node: SourceNode, scope: Scope): void {
  const [data, scale, bias, mean, variance] = [0, 1, 2, 3, 4].map((index) => inputOf(node, index)) as [string, string, string, string, string];
  const [shifted] = scope.emit(node, 'Add', [variance, scalarInput(scope, scope.type(variance).dtype, numberAttribute(node, 'epsilon', 1e-5))], {});
  const [deviation] = scope.emit(node, 'Sqrt', [shifted!], {});
  const [factor] = scope.emit(node, 'Div', [scale, deviation!], {});
  const [centred] = scope.emit(node, 'Sub', [data, mean], {});
  const [scaled] = scope.emit(node, 'Mul', [centred!, factor!], {});
  scope.emit(node, 'Add', [scaled!, bias], {}, node.outputs.slice(0, 1));
}

/** Dropout passes its input on; its mask, where somebody reads it, keeps everything. */
const dropout: Rule = (node, scope) => {
  const data = inputOf(node, 0);
  const [, ratio, training] = node.inputs;
  const dropsNothing = ratio !== undefined && ratio !== '' && scope.known(ratio)?.[0] === 0;
  if (training && !dropsNothing) {
    const flag = scope.constant(training);
    if (!flag || toNumbers(flag).some((value) => value !== 0)) throw new UnsupportedError('training mode');
  }
  scope.emit(node, 'Identity', [data], {}, node.outputs.slice(0, 1));
  const mask = node.outputs[1];
  if (!mask || !scope.isUsed(mask)) return;
  if (node.opset < 12) throw new UnsupportedError('before opset 12, the mask of a Dropout in inference is not defined');
  const shape = int64Input(scope, scope.type(data).dims);
  scope.emit(node, 'ConstantOfShape', [shape], { value: { ...scalar('bool', 1), dims: [1] } }, [mask]);
};

/** Opset 18 scaled by group, opset 21 by channel. */
const groupNormalization: Rule = (node, scope) => {
  if (node.opset >= 21) return emitAs('GroupNormalization', node, scope);
  const data = inputOf(node, 0);
  const channels = scope.type(data).dims[1];
  const groups = numberAttribute(node, 'num_groups');
  if (channels === undefined || groups < 1 || channels % groups !== 0) throw new ShapeError(`${channels} channels in ${groups} groups`);
  const perChannel = (index: number): string => {
    const [column] = scope.emit(node, 'Reshape', [inputOf(node, index), int64Input(scope, [groups, 1])], {});
    const [repeated] = scope.emit(node, 'Expand', [column!, int64Input(scope, [groups, channels / groups])], {});
    return scope.emit(node, 'Reshape', [repeated!, int64Input(scope, [channels])], {})[0]!;
  };
  emitAs('GroupNormalization', node, scope, { inputs: [data, perChannel(1), perChannel(2)] });
};

const gridSample: Rule = (node, scope) => {
  const modes: Readonly<Record<string, string>> = { bilinear: 'linear', bicubic: 'cubic' };
  const mode = String(node.attributes.get('mode') ?? 'linear');
  emitAs('GridSample', node, scope, { attributes: { ...attributesOf(node), mode: Object.hasOwn(modes, mode) ? modes[mode] : mode } });
};

/** Before opset 16 there was one coordinate transformation. */
const roiAlign: Rule = (node, scope) => {
  const attributes = node.opset < 16 ? { coordinate_transformation_mode: 'output_half_pixel', ...attributesOf(node) } : attributesOf(node);
  emitAs('RoiAlign', node, scope, { attributes });
};

/** onnxruntime's name, in ONNX's own domain, for what opset 23 calls RMSNormalization. */
const simplifiedLayerNormalization: Rule = (node, scope) => {
  if (node.outputs.slice(1).some((id) => scope.isUsed(id))) throw new UnsupportedError('the variance output is used');
  scope.emit(node, 'RMSNormalization', node.inputs, attributesOf(node), node.outputs.slice(0, 1));
};

const scatter: Rule = (node, scope) => emitAs('ScatterElements', node, scope);

const constant: Rule = (node, scope) => {
  const [output] = node.outputs;
  if (!output) throw new ShapeError('Constant has no output');
  const [entry] = node.attributes;
  if (!entry || node.attributes.size !== 1) throw new ShapeError('Constant must have one attribute');
  const [name, value] = entry;
  const kind = name.replace('value_', '');
  if (name === 'value' || ((kind === 'int' || kind === 'ints') && isTensor(value))) {
    if (!isTensor(value)) throw new ShapeError(`attribute 'value' must be a tensor`);
    scope.addConstant(value, output);
  } else if (kind === 'float' && typeof value === 'number') {
    scope.addConstant(scalar('float32', value), output);
  } else if (kind === 'floats' && Array.isArray(value)) {
    scope.addConstant({ dtype: 'float32', dims: [value.length], data: new Uint8Array(Float32Array.from(value as readonly number[]).buffer) }, output);
  } else {
    throw new UnsupportedError(`a constant given as ${name}`);
  }
};

/** The op as it is, without attributes that say nothing where they have their default. */
function without(op: OpKind, defaults: Readonly<Record<string, number | string>>): Rule {
  return (node: SourceNode, scope: Scope) => {
    const idle = Object.keys(defaults).filter((name) => node.attributes.get(name) === defaults[name]);
    emitAs(op, node, scope, { attributes: attributesOf(node, ...idle) });
  };
}

export const MEANING_RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  ['Softmax', coercedSoftmax('Softmax')],
  ['LogSoftmax', coercedSoftmax('LogSoftmax')],
  ['Hardmax', coercedSoftmax('Hardmax')],
  ['BatchNormalization', batchNormalization],
  ['Dropout', dropout],
  ['GroupNormalization', groupNormalization],
  ['SimplifiedLayerNormalization', simplifiedLayerNormalization],
  ['GridSample', gridSample],
  ['RoiAlign', roiAlign],
  ['Scatter', scatter],
  ['Constant', constant],
  // Attributes of opsets after the reference one, at the value that keeps its meaning.
  ['SpaceToDepth', without('SpaceToDepth', { mode: 'DCR' })],
]);
