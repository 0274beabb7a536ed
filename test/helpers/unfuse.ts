/**
 * Fused nodes written out as ONNX ops again, so that onnxruntime can say what a graph for the webgpu target computes.
 *
 * Each expression function becomes the ONNX op whose schema defines it; nothing of the passes' formulas is used.
 */
import { GraphBuilder } from '../../src/ir/build.ts';
import type { BinaryFn, Expr, JoinedExprs, UnaryFn } from '../../src/ir/expr.ts';
import type { AnyNode, Graph, Node, ValueId } from '../../src/ir/graph.ts';
import { typeOf } from '../../src/ir/graph.ts';
import type { OpAttrs, OpKind } from '../../src/ir/ops.ts';
import { elementCount, fromNumbers, type Dims, type DType } from '../../src/ir/tensor.ts';
import { OP_RULES } from '../../src/ops/builder.ts';

type Plain<K extends OpKind = OpKind> = readonly [op: K, attrs: OpAttrs[K]];

const UNARY: { readonly [F in UnaryFn]: Plain } = {
  abs: ['Abs', {}], acos: ['Acos', {}], acosh: ['Acosh', {}], asin: ['Asin', {}], asinh: ['Asinh', {}], atan: ['Atan', {}],
  atanh: ['Atanh', {}], ceil: ['Ceil', {}], cos: ['Cos', {}], cosh: ['Cosh', {}], erf: ['Erf', {}], exp: ['Exp', {}],
  floor: ['Floor', {}], log: ['Log', {}], neg: ['Neg', {}], not: ['Not', {}], bitnot: ['BitwiseNot', {}],
  reciprocal: ['Reciprocal', {}], round: ['Round', {}], sign: ['Sign', {}], sin: ['Sin', {}], sinh: ['Sinh', {}],
  sqrt: ['Sqrt', {}], tan: ['Tan', {}], tanh: ['Tanh', {}], isnan: ['IsNaN', {}],
  isposinf: ['IsInf', { detect_negative: 0, detect_positive: 1 }], isneginf: ['IsInf', { detect_negative: 1, detect_positive: 0 }],
};

const BINARY: { readonly [F in BinaryFn]: Plain } = {
  add: ['Add', {}], sub: ['Sub', {}], mul: ['Mul', {}], div: ['Div', {}], pow: ['Pow', {}], min: ['Min', {}], max: ['Max', {}],
  mod: ['Mod', { fmod: 0 }], fmod: ['Mod', { fmod: 1 }], and: ['And', {}], or: ['Or', {}], xor: ['Xor', {}],
  bitand: ['BitwiseAnd', {}], bitor: ['BitwiseOr', {}], bitxor: ['BitwiseXor', {}],
  shl: ['BitShift', { direction: 'LEFT' }], shr: ['BitShift', { direction: 'RIGHT' }],
  eq: ['Equal', {}], lt: ['Less', {}], le: ['LessOrEqual', {}], gt: ['Greater', {}], ge: ['GreaterOrEqual', {}],
};

/** Builds with what it needs to write a node out under the names that the fused node had. */
interface Writer {
  readonly builder: GraphBuilder;
  readonly output: ValueId;
}

/** The graph with every internal op written out; Swish and RMSNormalization, younger than opset 22, too. */
export function unfuse(graph: Graph): Graph {
  const builder = new GraphBuilder(graph.name, OP_RULES);
  for (const id of graph.inputs) builder.input(id, typeOf(graph, id));
  for (const [id, tensor] of graph.constants) builder.constant(tensor, id);
  for (const node of graph.nodes) writeNode(node, graph, { builder, output: node.outputs[0]! });
  return builder.finish(graph.outputs);
}

function writeNode(node: AnyNode, graph: Graph, writer: Writer): void {
  const { builder, output } = writer;
  const dims = typeOf(graph, output).dims;
  switch (node.op) {
    case 'FusedElementwise':
      node.attrs.exprs.forEach((expr, index) => finish(expr, node.inputs, { builder, output: node.outputs[index]! }));
      return;
    case 'FusedConcat':
      node.attrs.joined.forEach((joined, index) => writeJoined(joined, node.inputs, typeOf(graph, node.outputs[index]!).dims, { builder, output: node.outputs[index]! }));
      return;
    case 'FusedConv': {
      const { epilogue, ...attrs } = node.attrs;
      const accumulator = emit(builder, 'Conv', node.inputs.slice(0, 3), attrs);
      finish(epilogue, [accumulator, ...node.inputs.slice(3)], writer);
      return;
    }
    case 'FusedShortcut': {
      const { epilogue, shortcut, ...attrs } = node.attrs;
      const [main, other] = [emit(builder, 'Conv', node.inputs.slice(0, 3), attrs), emit(builder, 'Conv', node.inputs.slice(3, 5), shortcut)];
      finish(epilogue, [emit(builder, 'Add', [main, other], {}), ...node.inputs.slice(5)], writer);
      return;
    }
    case 'FusedMatMul':
      writeMatMul(node, graph, writer);
      return;
    case 'QuantizedMatMul': {
      const [a, b, scale, bias, ...extras] = node.inputs as [ValueId, ValueId, ValueId, ValueId, ...ValueId[]];
      const zero = builder.constant(fromNumbers(typeOf(graph, a).dtype, [], [node.attrs.zeroPoint]), builder.fresh(PREFIX));
      const sum = emit(builder, 'Cast', [emit(builder, 'MatMulInteger', [a, swap(b, node.attrs.transB, graph, builder), zero], {})], { to: 'float32', saturate: 1 });
      const scaled = emit(builder, 'Mul', [sum, scale], {});
      finish(node.attrs.epilogue, [bias ? emit(builder, 'Add', [scaled, bias], {}) : scaled, ...extras], writer);
      return;
    }
    case 'WeightOnlyGather': {
      const [table, indices, scale, zero] = node.inputs as [ValueId, ValueId, ValueId, ValueId?];
      const { block_size, zeroPoint } = node.attrs;
      const steps = typeOf(graph, scale);
      const zeros = zero || builder.constant(fromNumbers(typeOf(graph, table).dtype, steps.dims, Array.from({ length: elementCount(steps.dims) }, () => zeroPoint)), builder.fresh(PREFIX));
      const rows = emit(builder, 'DequantizeLinear', [table, scale, zeros], steps.dims.length === 2 ? { axis: 1, block_size } : { axis: 0, block_size: 0 });
      emit(builder, 'Gather', [rows, indices], { axis: 0 }, output);
      return;
    }
    case 'WeightOnlyMatMul': {
      const [a, b, scale, zero, bias, ...extras] = node.inputs as [ValueId, ValueId, ValueId, ValueId?, ValueId?, ...ValueId[]];
      const { alpha, block_size, epilogue, transB, zeroPoint } = node.attrs;
      const { dtype } = typeOf(graph, b);
      const zeros = zero || builder.constant(fromNumbers(dtype, typeOf(graph, scale).dims, Array.from({ length: elementCount(typeOf(graph, scale).dims) }, () => zeroPoint)), builder.fresh(PREFIX));
      const weights = emit(builder, 'DequantizeLinear', [b, scale, zeros], { axis: (block_size === 0) === (transB === 1) ? 0 : 1, block_size });
      const product = emit(builder, 'MatMul', [a, transB ? emit(builder, 'Transpose', [weights], { perm: [1, 0] }) : weights], {});
      const scaled = emit(builder, 'Mul', [product, number(builder, builder.type(product).dtype, alpha)], {});
      finish(epilogue, [bias ? emit(builder, 'Add', [scaled, bias], {}) : scaled, ...extras], writer);
      return;
    }
    case 'FusedAttention':
      writeAttention(node, graph, writer);
      return;
    case 'Swish': {
      const x = node.inputs[0]!;
      const scaled = emit(builder, 'Mul', [x, number(builder, 'float32', node.attrs.alpha)], {});
      emit(builder, 'Mul', [x, emit(builder, 'Sigmoid', [scaled], {})], {}, output);
      return;
    }
    case 'RMSNormalization': {
      const axes = dims.map((_, axis) => axis).slice(node.attrs.axis < 0 ? dims.length + node.attrs.axis : node.attrs.axis);
      const [x, scale] = [node.inputs[0]!, node.inputs[1]!];
      const squares = emit(builder, 'Mul', [x, x], {});
      const mean = emit(builder, 'ReduceMean', [squares, ints(builder, axes)], { keepdims: 1, noop_with_empty_axes: 0 });
      const moment = emit(builder, 'Add', [mean, number(builder, 'float32', node.attrs.epsilon)], {});
      const normal = emit(builder, 'Div', [x, emit(builder, 'Sqrt', [moment], {})], {});
      emit(builder, 'Mul', [normal, scale], {}, output);
      return;
    }
    default:
      builder.nodeOutputs(node.op as OpKind, node.inputs, node.attrs, { name: node.name, outputs: node.outputs });
  }
}

/** The parts one after the other, then every element taken from its place among these. */
function writeJoined({ axis, parts }: JoinedExprs, inputs: readonly ValueId[], dims: Dims, { builder, output }: Writer): void {
  const places = parts.flatMap(({ start, step, extent }) => Array.from({ length: extent }, (_, at) => start + at * step));
  const values = parts.map(({ extent, expr }) => {
    const own = dims.map((dim, a) => (a === axis ? extent : dim));
    return emit(builder, 'Expand', [write(expr, inputs, builder, new Map()), ints(builder, own)], {});
  });
  const order = Array.from({ length: dims[axis]! }, (_, at) => places.indexOf(at));
  emit(builder, 'Gather', [emit(builder, 'Concat', values, { axis }), ints(builder, order)], { axis }, output);
}

function writeMatMul(node: Node<'FusedMatMul'>, graph: Graph, writer: Writer): void {
  const { builder } = writer;
  const [a, b, c] = [node.inputs[0]!, node.inputs[1]!, node.inputs[2]];
  const product = emit(builder, 'MatMul', [swap(a, node.attrs.transA, graph, builder), swap(b, node.attrs.transB, graph, builder)], {});
  const scaled = emit(builder, 'Mul', [product, number(builder, builder.type(product).dtype, node.attrs.alpha)], {});
  const sum = c ? emit(builder, 'Add', [scaled, c], {}) : scaled;
  finish(node.attrs.epilogue, [sum, ...node.inputs.slice(3)], writer);
}

function writeAttention(node: Node<'FusedAttention'>, graph: Graph, { builder, output }: Writer): void {
  const [q, mask] = [node.inputs[0]!, node.inputs[3]];
  const heads = typeOf(graph, q).dims[1]!;
  const [k, v] = node.inputs.slice(1, 3).map((id) => repeatHeads(id, heads, graph, builder)) as [ValueId, ValueId];
  const keys = node.attrs.transposedK ? k : emit(builder, 'Transpose', [k], { perm: [0, 1, 3, 2] });
  const product = emit(builder, 'MatMul', [q, keys], {});
  const { dtype } = builder.type(product);
  const plain = emit(builder, 'Mul', [product, number(builder, dtype, node.attrs.scale)], {});
  const cap = number(builder, dtype, node.attrs.softcap);
  const scaled = node.attrs.softcap === 0 ? plain : emit(builder, 'Mul', [emit(builder, 'Tanh', [emit(builder, 'Div', [plain, cap], {})], {}), cap], {});
  const masked = mask ? emit(builder, 'Add', [scaled, mask], {}) : scaled;
  const softmax = emit(builder, 'Softmax', [masked], { axis: -1 });
  const isNaN = (): ValueId => emit(builder, 'IsNaN', [softmax], {});
  const weights = node.attrs.zeroEmptyRows ? emit(builder, 'Where', [isNaN(), number(builder, builder.type(softmax).dtype, 0), softmax], {}) : softmax;
  emit(builder, 'MatMul', [weights, v], {}, output);
}

/** Each head as often as heads of queries share it. */
function repeatHeads(id: ValueId, heads: number, graph: Graph, builder: GraphBuilder): ValueId {
  const own = typeOf(graph, id).dims[1]!;
  const order = Array.from({ length: heads }, (_, head) => Math.floor((head * own) / heads));
  return own === heads ? id : emit(builder, 'Gather', [id, ints(builder, order)], { axis: 1 });
}

/** The last two axes exchanged where `flag` says so. */
function swap(id: ValueId, flag: 0 | 1, graph: Graph, builder: GraphBuilder): ValueId {
  if (!flag) return id;
  const rank = typeOf(graph, id).dims.length;
  const perm = Array.from({ length: rank }, (_, axis) => (axis === rank - 1 ? rank - 2 : axis === rank - 2 ? rank - 1 : axis));
  return emit(builder, 'Transpose', [id], { perm });
}

/** Writes the expression so that it ends in the writer's output. */
function finish(expr: Expr, inputs: readonly ValueId[], { builder, output }: Writer): void {
  const written = new Map<Expr, ValueId>();
  emit(builder, 'Identity', [write(expr, inputs, builder, written)], {}, output);
}

function write(expr: Expr, inputs: readonly ValueId[], builder: GraphBuilder, written: Map<Expr, ValueId>): ValueId {
  const known = written.get(expr);
  if (known !== undefined) return known;
  const child = (inner: Expr): ValueId => write(inner, inputs, builder, written);
  const id = ((): ValueId => {
    switch (expr.kind) {
      case 'input':
        return inputs[expr.index]!;
      case 'const':
        return number(builder, expr.dtype, expr.value);
      case 'unary':
        return emit(builder, UNARY[expr.fn][0], [child(expr.x)], UNARY[expr.fn][1]);
      case 'binary':
        return emit(builder, BINARY[expr.fn][0], [child(expr.a), child(expr.b)], BINARY[expr.fn][1]);
      case 'select':
        return emit(builder, 'Where', [child(expr.condition), child(expr.a), child(expr.b)], {});
      case 'cast':
        return emit(builder, 'Cast', [child(expr.x)], { to: expr.to, saturate: 1 });
      default:
        return expr satisfies never;
    }
  })();
  written.set(expr, id);
  return id;
}

/** New values must not take names that nodes still to be written have. */
const PREFIX = 'unfused';

function emit<K extends OpKind>(builder: GraphBuilder, op: K, inputs: readonly ValueId[], attrs: OpAttrs[K], output?: ValueId): ValueId {
  return builder.node(op, inputs, attrs, { name: PREFIX, outputs: [output ?? builder.fresh(PREFIX)] });
}

function number(builder: GraphBuilder, dtype: DType, value: number): ValueId {
  return builder.constant(fromNumbers(dtype, [], [value]), builder.fresh(PREFIX));
}

function ints(builder: GraphBuilder, values: readonly number[]): ValueId {
  return builder.constant(fromNumbers('int64', [values.length], values), builder.fresh(PREFIX));
}
