/**
 * Operands that newer opsets take as inputs and older ones as attributes: axes, bounds, pads, sizes. Versions are those of
 * https://github.com/onnx/onnx/blob/main/docs/Changelog.md.
 */
import type { OpKind } from '../../ir/ops.ts';
import { ShapeError, UnsupportedError } from '../../ops/def.ts';
import { attributesOf, emitAs, inputOf, int64Input, intsAttribute, numberAttribute, scalarInput, type Rule } from './rule.ts';

/** axes was an attribute before opset `since`, and is input 1 from then on. */
function axesBefore(op: OpKind, since: number): Rule {
  return (node, scope) => {
    const axes = node.opset < since ? intsAttribute(node, 'axes') : undefined;
    if (!axes) return emitAs(op, node, scope);
    emitAs(op, node, scope, { inputs: [inputOf(node, 0), int64Input(scope, axes)], attributes: attributesOf(node, 'axes') });
  };
}

const split: Rule = (node, scope) => {
  const sizes = node.opset < 13 ? intsAttribute(node, 'split') : undefined;
  if (!sizes) return emitAs('Split', node, scope);
  emitAs('Split', node, scope, { inputs: [inputOf(node, 0), int64Input(scope, sizes)], attributes: attributesOf(node, 'split') });
};

const pad: Rule = (node, scope) => {
  if (node.opset >= 11) return emitAs('Pad', node, scope);
  const data = inputOf(node, 0);
  const pads = intsAttribute(node, node.opset < 2 ? 'paddings' : 'pads');
  if (!pads) throw new ShapeError(`attribute 'pads' is required`);
  const value = scalarInput(scope, scope.type(data).dtype, numberAttribute(node, 'value', 0));
  emitAs('Pad', node, scope, { inputs: [data, int64Input(scope, pads), value], attributes: attributesOf(node, 'pads', 'paddings', 'value') });
};

const slice: Rule = (node, scope) => {
  if (node.opset >= 10) return emitAs('Slice', node, scope);
  const starts = intsAttribute(node, 'starts');
  const ends = intsAttribute(node, 'ends');
  if (!starts || !ends) throw new ShapeError(`attributes 'starts' and 'ends' are required`);
  const axes = intsAttribute(node, 'axes') ?? starts.map((_, axis) => axis);
  emitAs('Slice', node, scope, { inputs: [inputOf(node, 0), ...[starts, ends, axes].map((values) => int64Input(scope, values))], attributes: {} });
};

const clip: Rule = (node, scope) => {
  if (node.opset >= 11) return emitAs('Clip', node, scope);
  const data = inputOf(node, 0);
  const bound = (name: string): string =>
    node.attributes.has(name) ? scalarInput(scope, scope.type(data).dtype, numberAttribute(node, name)) : '';
  emitAs('Clip', node, scope, { inputs: [data, bound('min'), bound('max')], attributes: attributesOf(node, 'min', 'max') });
};

const topK: Rule = (node, scope) => {
  if (node.opset >= 10) return emitAs('TopK', node, scope);
  const k = int64Input(scope, [numberAttribute(node, 'k')]);
  emitAs('TopK', node, scope, { inputs: [inputOf(node, 0), k], attributes: attributesOf(node, 'k') });
};

/** The mode and coordinates that Upsample and Resize had before opset 11. */
const OLD_SCALING = { coordinate_transformation_mode: 'asymmetric' } as const;

const upsample: Rule = (node, scope) => {
  const given = node.opset < 7 ? [1, 1, numberAttribute(node, 'height_scale'), numberAttribute(node, 'width_scale')] : node.attributes.get('scales');
  if (node.opset < 9 && !Array.isArray(given)) throw new ShapeError(`attribute 'scales' is required`);
  const scales = node.opset < 9 ? scope.addConstant(floats(given as readonly number[])) : inputOf(node, 1);
  const attributes = { ...OLD_SCALING, mode: resizeMode(node.attributes.get('mode')), nearest_mode: 'floor' };
  emitAs('Resize', node, scope, { inputs: [inputOf(node, 0), '', scales], attributes });
};

const resize: Rule = (node, scope) => {
  if (node.opset >= 11) return modernResize(node, scope);
  const [data, scales] = [inputOf(node, 0), inputOf(node, 1)];
  const mode = resizeMode(node.attributes.get('mode'));
  const attributes = { ...OLD_SCALING, mode, nearest_mode: 'floor' };
  if (mode !== 'nearest') return emitAs('Resize', node, scope, { inputs: [data, '', scales], attributes });
  // Resize-10 rounds its source index down along axes that it enlarges and up along axes that it shrinks: a node for each.
  const known = scope.known(scales);
  if (!known) throw new UnsupportedError('Resize of opset 10 needs scales that are known at build');
  const shrinks = known.some((scale) => scale < 1);
  if (!shrinks) return emitAs('Resize', node, scope, { inputs: [data, '', scales], attributes });
  const shrinking = { ...attributes, nearest_mode: 'ceil' };
  if (known.every((scale) => scale <= 1)) return emitAs('Resize', node, scope, { inputs: [data, '', scales], attributes: shrinking });
  const only = (keep: (scale: number) => boolean): string => scope.addConstant(floats(known.map((scale) => (keep(scale) ? scale : 1))));
  const [smaller] = scope.emit(node, 'Resize', [data, '', only((scale) => scale < 1)], shrinking);
  emitAs('Resize', node, scope, { inputs: [smaller!, '', only((scale) => scale > 1)], attributes });
};

/** Opset 11 had to be given roi, scales and sizes, and said by an empty tensor which of them are absent. */
const modernResize: Rule = (node, scope) => {
  const crops = node.attributes.get('coordinate_transformation_mode') === 'tf_crop_and_resize';
  const inputs = node.inputs.map((id, index) => {
    if (index === 0 || id === '') return id;
    if (index === 1 && !crops) return '';
    return scope.type(id).dims.includes(0) ? '' : id;
  });
  emitAs('Resize', node, scope, { inputs });
};

function resizeMode(raw: unknown): string {
  if (raw === undefined) return 'nearest';
  return raw === 'bilinear' || raw === 'trilinear' ? 'linear' : String(raw);
}

function floats(values: readonly number[]): { readonly dtype: 'float32'; readonly dims: readonly number[]; readonly data: Uint8Array } {
  return { dtype: 'float32', dims: [values.length], data: new Uint8Array(Float32Array.from(values).buffer) };
}

const reductions = ['ReduceL1', 'ReduceL2', 'ReduceLogSum', 'ReduceLogSumExp', 'ReduceMax', 'ReduceMean', 'ReduceMin', 'ReduceProd', 'ReduceSumSquare'] as const;

export const OPERAND_RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  ['Squeeze', axesBefore('Squeeze', 13)],
  ['Unsqueeze', axesBefore('Unsqueeze', 13)],
  ['ReduceSum', axesBefore('ReduceSum', 13)],
  ...reductions.map((op) => [op, axesBefore(op, 18)] as const),
  ['Split', split],
  ['Pad', pad],
  ['Slice', slice],
  ['Clip', clip],
  ['TopK', topK],
  ['Upsample', upsample],
  ['Resize', resize],
]);
