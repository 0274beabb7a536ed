/**
 * LayerNormalization and RMSNormalization recovered from the primitive ops that exporters write them in.
 *
 * The normalization alone is recovered first, with a scale of ones; a rule each then takes in the scale and the bias, so that
 * every combination of them is covered. Formulas: Ba et al. 2016 (arXiv:1607.06450), Zhang & Sennrich 2019 (arXiv:1910.07467).
 */
import { unionOrigins, type GraphEditor } from '../ir/edit.ts';
import type { AnyNode, ValueId } from '../ir/graph.ts';
import { elementCount, fromNumbers, sameDims, toNumbers, type Dims } from '../ir/tensor.ts';
import { sameType } from '../ir/verify.ts';
import { rulePass, type Rule } from './pass.ts';
import { constant, either, matchPattern, named, number, op, scalar, uniformValue, value, type Match, type Pattern } from './pattern.ts';
import { FLOATS, positiveAxis } from './tensors.ts';

const x = value('x');
const mean = named('mean', 'ReduceMean', x, constant('axes'));
const centered = op('Sub', x, mean);
const square = (of: Pattern): Pattern => either(op('Pow', of, number(2)), op('Mul', of, of));
/** E[d²] + ε */
const moment = (of: Pattern): Pattern => op('Add', named('moment', 'ReduceMean', square(of), constant('axes2')), scalar('epsilon'));
/** a / √m in the spellings of exporters */
const overRoot = (a: Pattern, m: Pattern): Pattern =>
  either(
    op('Div', a, op('Sqrt', m)),
    op('Mul', a, op('Reciprocal', op('Sqrt', m))),
    op('Mul', a, op('Div', number(1), op('Sqrt', m))),
    op('Mul', a, op('Pow', m, number(-0.5))),
    op('Div', a, op('Pow', m, number(0.5))),
  );

/** (x − E[x]) / √(Var[x] + ε) */
const layerNorm = overRoot(centered, moment(centered));
/** x·i + (β − E[x]·i) with i = γ / √(Var[x] + ε), as Keras writes it */
const inverse = op('Mul', op('Reciprocal', op('Sqrt', moment(centered))), value('gamma'));
const kerasLayerNorm = op('Add', op('Mul', x, inverse), op('Sub', value('beta'), op('Mul', mean, inverse)));
/** x / √(E[x²] + ε) */
const rmsNorm = overRoot(x, moment(x));

type Norm = 'LayerNormalization' | 'RMSNormalization';

/** Puts the normalization in place of the match; scale and bias where the pattern binds them. */
function recover(to: Norm, pattern: Pattern): (node: AnyNode, edit: GraphEditor) => boolean {
  return (node, edit) => {
    const match = matchPattern(pattern, node, edit);
    const axis = match && normalizedAxis(match, edit);
    if (!match || axis === undefined) return false;
    const type = edit.type(match.value('x'));
    const dims = type.dims.slice(axis);
    const scale = parameter(match.optional('gamma'), dims, edit);
    const bias = parameter(match.optional('beta'), dims, edit);
    if ((match.optional('gamma') && !scale) || (match.optional('beta') && !bias)) return false;
    const ones = (): ValueId =>
      edit.addConstant(fromNumbers(type.dtype, dims, Array.from({ length: elementCount(dims) }, () => 1)), `${node.name}_scale`);
    edit.replaceNode(node, {
      op: to,
      inputs: [match.value('x'), scale ?? ones(), bias ?? ''],
      attrs: { axis, epsilon: match.scalar('epsilon'), stash_type: 1 },
      origins: unionOrigins(...match.nodes.toReversed()),
    });
    return true;
  };
}

/** The first normalized axis, where all means are over the same last axes and keep them; undefined otherwise. */
function normalizedAxis(match: Match, edit: GraphEditor): number | undefined {
  const type = edit.type(match.value('x'));
  if (!FLOATS.has(type.dtype) || !sameType(type, edit.type(match.root.outputs[0]!))) return undefined;
  const rank = type.dims.length;
  const axesOf = (name: string): string =>
    toNumbers(edit.constant(match.value(name))!).map((axis) => positiveAxis(axis, rank)).toSorted((a, b) => a - b).join();
  const axes = axesOf('axes2');
  if (match.optional('axes') !== undefined && axesOf('axes') !== axes) return undefined;
  const means = ['mean', 'moment'].filter((name) => match.optional(name)).map((name) => match.node(name));
  if (!means.every((node) => node.op === 'ReduceMean' && node.attrs.keepdims === 1)) return undefined;
  const first = Number(axes.split(',')[0]);
  // The primitive ops take rows of no elements, and onnxruntime's normalization refuses them.
  if (elementCount(type.dims.slice(first)) === 0) return undefined;
  const trailing = Array.from({ length: rank - first }, (_, index) => first + index).join();
  return axes !== '' && axes === trailing ? first : undefined;
}

/** A value with exactly the normalized shape; a constant may have more leading ones. */
function parameter(id: ValueId | undefined, dims: Dims, edit: GraphEditor): ValueId | undefined {
  if (!id) return undefined;
  const tensor = edit.constant(id);
  const own = edit.type(id).dims;
  if (sameDims(own, dims)) return id;
  if (!tensor || elementCount(own) !== elementCount(dims)) return undefined;
  const leading = own.length - dims.length;
  const isPadded = leading > 0 && own.slice(0, leading).every((dim) => dim === 1) && sameDims(own.slice(leading), dims);
  return isPadded ? edit.addConstant({ ...tensor, dims }, id) : undefined;
}

/** norm(x; 1)·w = norm(x; w), and norm(x; w) + b = norm(x; w, b). */
function absorb(to: Norm, kind: 'scale' | 'bias'): Rule {
  return {
    name: `${to === 'LayerNormalization' ? 'layer-norm' : 'rms-norm'}-${kind}`,
    ops: [kind === 'scale' ? 'Mul' : 'Add'],
    rewrite: (node, edit) => [0, 1].some((side) => absorbFrom(node, side, to, kind, edit)),
  };
}

function absorbFrom(node: AnyNode, side: number, to: Norm, kind: 'scale' | 'bias', edit: GraphEditor): boolean {
  const norm = edit.producer(node.inputs[side]);
  if (norm?.op !== to || norm.inputs[2] || norm.outputs.length > 1 || edit.onlyConsumer(norm.outputs[0]!) !== node) return false;
  const type = edit.type(norm.inputs[0]!);
  if (!sameType(type, edit.type(node.outputs[0]!))) return false;
  if (kind === 'scale' && uniformValue(edit.constant(norm.inputs[1])) !== 1) return false;
  const dims = type.dims.slice(positiveAxis(norm.attrs.axis, type.dims.length));
  const operand = parameter(node.inputs[1 - side], dims, edit);
  if (!operand) return false;
  const inputs = kind === 'scale' ? [norm.inputs[0]!, operand] : [norm.inputs[0]!, norm.inputs[1]!, operand];
  edit.replaceNode(node, { op: to, inputs, attrs: norm.attrs, origins: unionOrigins(norm, node) });
  return true;
}

export const recoverLayerNorm = rulePass(
  { name: 'recover-layer-norm', summary: 'LayerNormalization from primitive ops' },
  [
    { name: 'layer-norm', ops: ['Div', 'Mul'], rewrite: recover('LayerNormalization', layerNorm) },
    { name: 'layer-norm-keras', ops: ['Add'], rewrite: recover('LayerNormalization', kerasLayerNorm) },
    absorb('LayerNormalization', 'scale'),
    absorb('LayerNormalization', 'bias'),
  ],
);

/** RMSNormalization entered ONNX at opset 23, so that only our own kernels may see it. */
export const recoverRmsNorm = rulePass(
  { name: 'recover-rms-norm', summary: 'RMSNormalization from primitive ops', targets: ['webgpu'] },
  [
    { name: 'rms-norm', ops: ['Div', 'Mul'], rewrite: recover('RMSNormalization', rmsNorm) },
    absorb('RMSNormalization', 'scale'),
  ],
);
