/**
 * Activations recovered from the primitive ops that exporters write them in.
 *
 * Spellings are those of PyTorch's TorchScript and dynamo exporters and of tf2onnx; formulas of the ONNX schemas.
 */
import { unionOrigins, type GraphEditor } from '../ir/edit.ts';
import type { OpAttrs, OpKind } from '../ir/ops.ts';
import { fromNumbers, type DType } from '../ir/tensor.ts';
import { sameType } from '../ir/verify.ts';
import { rulePass, type Pass, type Rule } from './pass.ts';
import { either, named, number, op, patternRule, product, scalar, value, type Match, type Pattern } from './pattern.ts';
import { FLOATS } from './tensors.ts';

const x = value('x');
const three = number(3);
const sixth = number(1 / 6);

/** x³ */
const cube = either(op('Pow', x, three), op('Mul', op('Mul', x, x), x));
/** x / √2 */
const overRoot2 = either(op('Div', x, number(Math.SQRT2)), op('Mul', x, number(Math.SQRT1_2)));
/** 1 + erf(x / √2) */
const erfTerm = op('Add', op('Erf', overRoot2), number(1));
/** √(2/π)·(x + 0.044715·x³), also factored as x·√(2/π)·(1 + 0.044715·x²) */
const tanhArgument = either(
  op('Mul', op('Add', x, op('Mul', cube, number(0.044715))), number(Math.sqrt(2 / Math.PI))),
  product(
    x,
    number(Math.sqrt(2 / Math.PI)),
    op('Add', op('Mul', either(op('Mul', x, x), op('Pow', x, number(2))), number(0.044715)), number(1)),
  ),
);
const tanhTerm = op('Add', op('Tanh', tanhArgument), number(1));
/** x·½·t in any association; a half may also be written as a division by 2. */
const halfTimes = (term: Pattern): Pattern =>
  either(product(x, number(0.5), term), op('Div', op('Mul', x, term), number(2)), op('Mul', op('Div', x, number(2)), term));

/** clip(x + 3, 0, 6) */
const relu6Shifted = op('Clip', op('Add', x, three), number(0), number(6));
/** clip(x + 3, 0, 6) / 6 */
const hardSigmoid = either(op('Div', relu6Shifted, number(6)), op('Mul', relu6Shifted, sixth));
const softplus = either(op('Log', op('Add', op('Exp', x), number(1))), op('Softplus', x));

/** A rule that puts one op on `x` in place of a pattern that keeps x's type. */
function unary<K extends OpKind>(name: string, roots: readonly OpKind[], pattern: Pattern, to: K, attrs: OpAttrs[K]): Rule {
  return patternRule(name, roots, pattern, (match, edit) => replaceUnary(match, to, attrs, edit));
}

function replaceUnary<K extends OpKind>(match: Match, to: K, attrs: OpAttrs[K], edit: GraphEditor): boolean {
  if (!keepsType(match, edit)) return false;
  edit.replaceNode(match.root, { op: to, inputs: [match.value('x')], attrs, origins: unionOrigins(...match.nodes.toReversed()) });
  return true;
}

function keepsType(match: Match, edit: GraphEditor): boolean {
  const [from, to] = [edit.type(match.value('x')), edit.type(match.root.outputs[0]!)];
  return FLOATS.has(from.dtype) && sameType(from, to);
}

const RULES: readonly Rule[] = [
  // min(max(x, a), b) = clip(x, a, b)
  patternRule('clip-from-min-max', ['Min'], op('Min', op('Max', x, scalar('low')), scalar('high')), (match, edit) =>
    toClip(match, match.scalar('low'), match.scalar('high'), edit),
  ),
  patternRule('clip-from-max-min', ['Max'], op('Max', op('Min', x, scalar('high')), scalar('low')), (match, edit) =>
    match.scalar('low') <= match.scalar('high') && toClip(match, match.scalar('low'), match.scalar('high'), edit),
  ),
  // min(relu(x), b) = clip(x, 0, b)
  patternRule('clip-from-min-relu', ['Min'], op('Min', op('Relu', x), scalar('high')), (match, edit) =>
    toClip(match, 0, match.scalar('high'), edit),
  ),
  // clip(relu(x), a, b) = clip(x, max(a, 0), b)
  patternRule('relu-into-clip', ['Clip'], op('Clip', op('Relu', x), scalar('low'), scalar('high')), (match, edit) =>
    toClip(match, Math.max(match.scalar('low'), 0), match.scalar('high'), edit),
  ),
  // max(x, 0) = relu(x)
  unary('relu-from-max', ['Max'], op('Max', x, number(0)), 'Relu', {}),
  unary('gelu-erf', ['Mul', 'Div'], halfTimes(erfTerm), 'Gelu', { approximate: 'none' }),
  unary('gelu-tanh', ['Mul', 'Div'], halfTimes(tanhTerm), 'Gelu', { approximate: 'tanh' }),
  unary(
    'hard-swish',
    ['Mul', 'Div'],
    either(
      op('Mul', x, hardSigmoid),
      op('Div', op('Mul', x, relu6Shifted), number(6)),
      op('Mul', op('Mul', x, relu6Shifted), sixth),
    ),
    'HardSwish',
    {},
  ),
  unary('hard-sigmoid', ['Mul', 'Div'], hardSigmoid, 'HardSigmoid', { alpha: 1 / 6, beta: 0.5 }),
  // x·hardsigmoid(x; 1/6, 1/2) = hardswish(x)
  patternRule('hard-swish-gate', ['Mul'], op('Mul', x, named('gate', 'HardSigmoid', x)), (match, edit) => {
    const gate = match.node('gate');
    const isStandard = gate.op === 'HardSigmoid' && Math.abs(gate.attrs.alpha - 1 / 6) < 1e-5 && gate.attrs.beta === 0.5;
    return isStandard && replaceUnary(match, 'HardSwish', {}, edit);
  }),
  unary('mish', ['Mul'], op('Mul', x, op('Tanh', softplus)), 'Mish', {}),
  // log(1 + eˣ) = softplus(x)
  unary('softplus', ['Log'], op('Log', op('Add', op('Exp', x), number(1))), 'Softplus', {}),
];

function toClip(match: Match, low: number, high: number, edit: GraphEditor): boolean {
  if (!keepsType(match, edit)) return false;
  const { dtype } = edit.type(match.value('x'));
  const bound = (value: number, name: string): string => edit.addConstant(scalarTensor(dtype, value), `${match.root.name}_${name}`);
  edit.replaceNode(match.root, {
    op: 'Clip',
    inputs: [match.value('x'), bound(low, 'min'), bound(high, 'max')],
    attrs: {},
    origins: unionOrigins(...match.nodes.toReversed()),
  });
  return true;
}

function scalarTensor(dtype: DType, value: number): ReturnType<typeof fromNumbers> {
  return fromNumbers(dtype, [], [value]);
}

export const recoverActivations: Pass = rulePass(
  { name: 'recover-activations', summary: 'Gelu, HardSwish, Mish, Softplus and Clip from primitive ops' },
  RULES,
);

/** Swish entered ONNX at opset 24, so that only our own kernels may see it. x·σ(x) = swish(x); x·σ(αx) = swish(x; α). */
export const recoverSwish: Pass = rulePass(
  { name: 'recover-swish', summary: 'Swish from x·sigmoid(x)', targets: ['webgpu'] },
  [
    unary('swish', ['Mul'], op('Mul', x, op('Sigmoid', x)), 'Swish', { alpha: 1 }),
    patternRule('swish-alpha', ['Mul'], op('Mul', x, op('Sigmoid', op('Mul', x, scalar('alpha')))), (match, edit) =>
      replaceUnary(match, 'Swish', { alpha: match.scalar('alpha') }, edit),
    ),
  ],
);

