/**
 * Ops as they were before opset 7 (https://github.com/onnx/onnx/blob/main/docs/Changelog.md): operands that broadcast from an axis on, types
 * by name, sizes as attributes.
 */
import type { OpKind } from '../../ir/ops.ts';
import { elementCount } from '../../ir/tensor.ts';
import { ShapeError, UnsupportedError } from '../../ops/def.ts';
import { dtypeOfOnnx, ONNX_DTYPE } from '../../ops/specs.ts';
import type { Scope, SourceNode } from '../scope.ts';
import { castTo } from './few-bit-types.ts';
import { attributesOf, emitAs, inputOf, int64Input, intsAttribute, normalizeAxis, numberAttribute, type Rule } from './rule.ts';

/** `id` as [dims…, 1…], so that its axes meet those of `rank` dimensions from `axis` on. */
function fromAxis(node: SourceNode, scope: Scope, id: string, rank: number, axis: number): string {
  const { dims } = scope.type(id);
  const behind = rank - axis - dims.length;
  if (behind < 0) throw new ShapeError(`[${dims.join(',')}] does not fit into ${rank} dimensions from axis ${axis} on`);
  return behind === 0 ? id : scope.emit(node, 'Reshape', [id, int64Input(scope, [...dims, ...Array.from({ length: behind }, () => 1)])], { allowzero: 1 })[0]!;
}

/** Before opset 7, only the second operand was broadcast, and from `axis` on where that was given. */
function fromAxisBefore7(op: OpKind): Rule {
  return (node, scope) => {
    if (node.opset >= 7) return emitAs(op, node, scope);
    const [left, right] = [inputOf(node, 0), inputOf(node, 1)];
    const attributes = attributesOf(node, 'broadcast', 'axis');
    const isSpread = numberAttribute(node, 'broadcast', 0) !== 0 && node.attributes.has('axis') && elementCount(scope.type(right).dims) !== 1;
    if (!isSpread) return emitAs(op, node, scope, { attributes });
    const rank = scope.type(left).dims.length;
    emitAs(op, node, scope, { inputs: [left, fromAxis(node, scope, right, rank, normalizeAxis(numberAttribute(node, 'axis'), rank))], attributes });
  };
}

/** Before opset 7, a slope had one element for all channels or one for each. */
const prelu: Rule = (node, scope) => {
  const [data, slope] = [inputOf(node, 0), inputOf(node, 1)];
  const [rank, { dims }] = [scope.type(data).dims.length, scope.type(slope)];
  const isByChannel = node.opset < 7 && dims.length === 1 && dims[0] !== 1 && rank > 2;
  emitAs('PRelu', node, scope, isByChannel ? { inputs: [data, fromAxis(node, scope, slope, rank, 1)] } : {});
};

const gemm: Rule = (node, scope) => emitAs('Gemm', node, scope, { attributes: node.opset < 7 ? attributesOf(node, 'broadcast') : attributesOf(node) });

/** Before opset 6, the type was given by its name in TensorProto. */
const cast: Rule = (node, scope) => {
  const given = node.attributes.get('to');
  const number = typeof given === 'string' ? numberOf(given) : numberAttribute(node, 'to');
  const to = dtypeOfOnnx(number);
  if (to === undefined) throw new UnsupportedError(`attribute 'to' names ONNX element type ${number}, which is not supported`);
  castTo(node, scope, to);
};

function numberOf(name: string): number {
  const written: Readonly<Record<string, string>> = { FLOAT: 'float32', DOUBLE: 'float64' };
  const dtype = written[name] ?? name.toLowerCase();
  if (!Object.hasOwn(ONNX_DTYPE, dtype)) throw new UnsupportedError(`a cast to ${name} is not supported`);
  return ONNX_DTYPE[dtype as keyof typeof ONNX_DTYPE];
}

const reshape: Rule = (node, scope) => {
  if (node.opset >= 5) return emitAs('Reshape', node, scope);
  const shape = intsAttribute(node, 'shape');
  if (!shape) throw new ShapeError(`attribute 'shape' is required`);
  emitAs('Reshape', node, scope, { inputs: [inputOf(node, 0), int64Input(scope, shape)], attributes: {} });
};

/** Before opset 6, how often and along which axis. */
const tile: Rule = (node, scope) => {
  if (node.opset >= 6) return emitAs('Tile', node, scope);
  const [data, times, axis] = [inputOf(node, 0), scope.known(inputOf(node, 1)), scope.known(inputOf(node, 2))];
  if (times?.[0] === undefined || axis?.[0] === undefined) throw new UnsupportedError('how often and along which axis must be known at build');
  const repeats = scope.type(data).dims.map((_, at) => (at === axis[0] ? times[0]! : 1));
  emitAs('Tile', node, scope, { inputs: [data, int64Input(scope, repeats)] });
};

/** Before opset 4, the axis was 1 unless given. */
const concat: Rule = (node, scope) => emitAs('Concat', node, scope, { attributes: { ...(node.opset < 4 && { axis: 1 }), ...attributesOf(node) } });

/** Before opset 7, whether the sequence of states is wanted was an attribute; that it has a name or not says the same. */
function recurrent(op: 'GRU' | 'LSTM' | 'RNN'): Rule {
  return (node, scope) => emitAs(op, node, scope, { attributes: node.opset < 7 ? attributesOf(node, 'output_sequence') : attributesOf(node) });
}

const SPREAD = ['Add', 'And', 'Div', 'Equal', 'Greater', 'Less', 'Mul', 'Or', 'Pow', 'Sub', 'Xor'] as const;

export const EARLY_RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  ...SPREAD.map((op) => [op, fromAxisBefore7(op)] as const),
  ['PRelu', prelu],
  ['Gemm', gemm],
  ['Cast', cast],
  ['Reshape', reshape],
  ['Tile', tile],
  ['Concat', concat],
  ['GRU', recurrent('GRU')],
  ['LSTM', recurrent('LSTM')],
  ['RNN', recurrent('RNN')],
]);

/** Before opset 6, many ops said which inputs they may overwrite: of no meaning for what they compute. */
export function withoutConsumed(rule: Rule): Rule {
  return (node, scope) => {
    if (node.opset >= 6 || !node.attributes.has('consumed_inputs')) return rule(node, scope);
    rule({ ...node, attributes: new Map([...node.attributes].filter(([name]) => name !== 'consumed_inputs')) }, scope);
  };
}
