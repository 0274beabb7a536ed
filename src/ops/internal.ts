/**
 * Ops that no ONNX model contains: what fusion passes make, and the one kind that carries any custom op.
 */
import type { Operands } from '../ir/custom.ts';
import { type Expr, type ExprPart, inputsOf, type JoinedExprs, runsOf } from '../ir/expr.ts';
import type { ConvAttrs } from '../ir/ops.ts';
import { elementCount, sameDims } from '../ir/tensor.ts';
import type { DType, Dims, TensorType } from '../ir/tensor.ts';
import { convDims, convFlops, convInputs } from './conv.ts';
import { inOp } from './custom.ts';
import { bytesMoved } from './cost.ts';
import type { InputTypes } from './cost.ts';
import { NotStaticError, ShapeError } from './def.ts';
import type { InferContext, OpCost, OpTable } from './def.ts';
import { BYTE, FLOAT, INDEX, NUMBER } from './dtypes.ts';
import { matMulDims, matMulFlops } from './matmul.ts';
import { broadcast, broadcastsTo, expectDims, input, optionalInput, rejectInput } from './shapes.ts';
import { internal } from './specs.ts';

type InternalOp = 'Custom' | 'FusedAttention' | 'FusedConcat' | 'FusedConv' | 'FusedElementwise' | 'FusedMatMul' | 'FusedShortcut' | 'QuantizedConv' | 'QuantizedMatMul' | 'QuantizedShortcut' | 'WeightOnlyGather' | 'WeightOnlyMatMul';

const ONE = { min: 1, max: 1 };
const SOME = { min: 1, max: Number.POSITIVE_INFINITY };
const THREE_OR_FOUR = { min: 3, max: 4 };
const THREE_OR_MORE = { min: 3, max: Number.POSITIVE_INFINITY };
const TWO_OR_MORE = { min: 2, max: Number.POSITIVE_INFINITY };

/** What every convolution says of itself. */
const CONV = { auto_pad: internal, dilations: internal, group: internal, kernel_shape: internal, pads: internal, strides: internal } as const;

/** The element type that an expression gives. */
export function exprDtype(expr: Expr): DType {
  switch (expr.kind) {
    case 'input':
    case 'const':
      return expr.dtype;
    case 'unary':
      return expr.fn === 'not' || expr.fn.startsWith('is') ? 'bool' : exprDtype(expr.x);
    case 'binary':
      return COMPARISONS.has(expr.fn) ? 'bool' : exprDtype(expr.a);
    case 'select':
      return exprDtype(expr.a);
    case 'cast':
      return expr.to;
    default:
      return expr satisfies never;
  }
}

const COMPARISONS: ReadonlySet<string> = new Set(['and', 'or', 'xor', 'eq', 'lt', 'le', 'gt', 'ge']);

/** Operations that an expression takes per element. */
export function exprFlops(expr: Expr): number {
  switch (expr.kind) {
    case 'input':
    case 'const':
      return 0;
    case 'unary':
      return 1 + exprFlops(expr.x);
    case 'binary':
      return 1 + exprFlops(expr.a) + exprFlops(expr.b);
    case 'select':
      return 1 + exprFlops(expr.condition) + exprFlops(expr.a) + exprFlops(expr.b);
    case 'cast':
      return exprFlops(expr.x);
    default:
      return expr satisfies never;
  }
}

/** The type of joined expressions over inputs of these types. Throws ShapeError where parts don't fill the axis, or inputs don't broadcast to them. */
export function joinedType({ axis, parts }: JoinedExprs, types: readonly TensorType[]): TensorType {
  const read = parts.map(({ expr }) => [...inputsOf(expr)].map((index) => types[index]!.dims));
  const rank = Math.max(axis + 1, ...read.flat().map((dims) => dims.length));
  const along = (dims: Dims): number => dims.length - rank + axis;
  let total = 0;
  for (const [{ start, step, extent }] of runsOf(parts) as readonly (readonly [ExprPart])[]) {
    if (start !== total) throw new ShapeError(`a part of 'joined' begins at ${start} of axis ${axis}, not at ${total}`);
    total += step * extent;
  }
  for (const [i, { extent }] of parts.entries()) {
    const other = read[i]!.find((dims) => ![1, extent].includes(dims[along(dims)] ?? 1));
    if (other) throw new ShapeError(`[${other.join(',')}] does not broadcast to ${extent} elements along axis ${axis}`);
  }
  const outer = broadcast(Array.from({ length: rank }, () => 1), ...read.flat().map((dims) => dims.map((dim, a) => (a === along(dims) ? 1 : dim))));
  return { dtype: exprDtype(parts[0]!.expr), dims: outer.map((dim, a) => (a === axis ? total : dim)) };
}

/** Checks that the inputs from `first` on broadcast to the output's shape. */
function checkExtras(context: InferContext, first: number, dims: Dims): void {
  for (let i = first; i < context.inputCount; i++) {
    const extra = context.optionalType(i);
    if (extra && !broadcastsTo(extra.dims, dims)) rejectInput(context, i, `extra ${i - first}`, `must broadcast to [${dims.join(',')}]`);
  }
}

function withEpilogue(flops: number, epilogue: Expr, inputs: InputTypes, outputs: readonly TensorType[]): OpCost {
  const output = elementCount(outputs[0]?.dims ?? []);
  return { flops: flops + (inputs[2] ? output : 0) + exprFlops(epilogue) * output, bytes: bytesMoved(inputs, outputs) };
}

/** Of two convolutions that are added, the second's image at input `x2` and its weights after it. */
function sumDims(attrs: ConvAttrs & { readonly shortcut: ConvAttrs }, context: InferContext, x2: number): Dims {
  const [dims, other] = [convDims(attrs, context), convDims(attrs.shortcut, context, x2 + 1, x2)];
  if (!sameDims(dims, other)) rejectInput(context, x2, 'X2', `must give [${dims.join(',')}] as X does, found [${other.join(',')}]`);
  return dims;
}

/** Scores and weighted sum as multiply-adds, five operations per score for the softmax, three for a cap. */
function attentionCost(attrs: { readonly softcap: number }, inputs: InputTypes, outputs: readonly TensorType[]): OpCost {
  const q = inputs[0]?.dims ?? [];
  const v = inputs[2]?.dims ?? [];
  const scores = elementCount(q.slice(0, -1)) * (v.at(-2) ?? 0);
  return { flops: scores * (2 * (q.at(-1) ?? 0) + 2 * (v.at(-1) ?? 0) + 5 + (attrs.softcap === 0 ? 0 : 3)), bytes: bytesMoved(inputs, outputs) };
}

function inferAttention(attrs: { readonly transposedK: 0 | 1 }, context: InferContext): readonly TensorType[] {
  const q = input(context, 0, 'q', { dtypes: FLOAT, rank: 4 });
  const k = input(context, 1, 'k', { dtype: q.dtype, rank: 4 });
  const v = input(context, 2, 'v', { dtype: q.dtype, rank: 4 });
  const [batch, heads, rows, depth] = q.dims as [number, number, number, number];
  const own = k.dims[1]!;
  if (own < 1 || heads % own !== 0) rejectInput(context, 1, 'k', `must have heads for ${heads} heads of queries to share, found ${own}`);
  for (const [index, name, dims] of [[1, 'k', k.dims], [2, 'v', v.dims]] as const) {
    if (!sameDims(dims.slice(0, 2), [batch, own])) rejectInput(context, index, name, `must be of ${batch} × ${own} heads, found [${dims.join(',')}]`);
  }
  // As if each head of keys had one head of queries, with all rows of those that share it.
  const products = matMulDims([batch, own, (heads / own) * rows, depth], k.dims, false, attrs.transposedK === 0);
  const scores = [batch, heads, rows, products[3]!];
  const mask = optionalInput(context, 3, 'mask');
  if (mask && !broadcastsTo(mask.dims, scores)) rejectInput(context, 3, 'mask', `must broadcast to the scores [${scores.join(',')}]`);
  return [{ dtype: q.dtype, dims: [batch, heads, rows, matMulDims(products, v.dims)[3]!] }];
}

export const INTERNAL: Pick<OpTable, InternalOp> = {
  Custom: {
    since: 1,
    domain: 'custom',
    inputs: { min: 0, max: Number.POSITIVE_INFINITY },
    outputs: SOME,
    attrs: { domain: internal, opType: internal, opset: internal, attributes: internal, definition: internal },
    infer(attrs) {
      throw new NotStaticError(`types of ${attrs.domain || 'ai.onnx'}::${attrs.opType} come from the model's value_info or a plugin`);
    },
    cost({ definition }, inputs, outputs) {
      const elements = outputs.reduce((sum, type) => sum + elementCount(type.dims), 0);
      const flops = definition && inOp(definition, 'flops', () => definition.op.flops?.({ attrs: definition.attrs, inputs: inputs as Operands<TensorType>, outputs }));
      return { flops: flops ?? elements, bytes: bytesMoved(inputs, outputs) };
    },
  },
  FusedAttention: {
    since: 1,
    domain: 'internal',
    inputs: { min: 3, max: 4 },
    outputs: ONE,
    attrs: { scale: internal, softcap: internal, transposedK: internal, zeroEmptyRows: internal },
    infer: inferAttention,
    cost: attentionCost,
  },
  FusedConcat: {
    since: 1,
    domain: 'internal',
    inputs: SOME,
    outputs: SOME,
    attrs: { joined: internal },
    infer(attrs, context) {
      if (attrs.joined.length !== context.outputCount) {
        throw new ShapeError(`attribute 'joined' must hold ${context.outputCount} concatenations, found ${attrs.joined.length}`);
      }
      const types = Array.from({ length: context.inputCount }, (_, index) => context.type(index));
      return attrs.joined.map((joined) => joinedType(joined, types));
    },
    cost(attrs, inputs, outputs) {
      const flops = attrs.joined.map(({ axis, parts }, i) => {
        const { dims } = outputs[i]!;
        const perElement = parts.reduce((sum, { extent, expr }) => sum + extent * exprFlops(expr), 0) / Math.max(1, dims[axis]!);
        return perElement * elementCount(dims);
      });
      return { flops: flops.reduce((sum, of) => sum + of, 0), bytes: bytesMoved(inputs, outputs) };
    },
  },
  FusedConv: {
    since: 1,
    domain: 'internal',
    inputs: TWO_OR_MORE,
    outputs: ONE,
    attrs: { ...CONV, epilogue: internal },
    infer(attrs, context) {
      convInputs(context);
      const dims = convDims(attrs, context);
      expectDims(context, 2, 'B', [dims[1]!], 'to match the filters');
      checkExtras(context, 3, dims);
      return [{ dtype: exprDtype(attrs.epilogue), dims }];
    },
    cost: (attrs, inputs, outputs) =>
      withEpilogue(convFlops(inputs[1]?.dims ?? [], outputs[0]?.dims ?? [], false), attrs.epilogue, inputs, outputs),
  },
  FusedElementwise: {
    since: 1,
    domain: 'internal',
    inputs: SOME,
    outputs: SOME,
    attrs: { exprs: internal },
    infer(attrs, context) {
      if (attrs.exprs.length !== context.outputCount) {
        throw new ShapeError(`attribute 'exprs' must hold ${context.outputCount} expressions, found ${attrs.exprs.length}`);
      }
      const shapes = Array.from({ length: context.inputCount }, (_, index) => context.type(index).dims);
      const dims = broadcast(...shapes);
      return attrs.exprs.map((expr) => ({ dtype: exprDtype(expr), dims }));
    },
    cost(attrs, inputs, outputs) {
      const perElement = attrs.exprs.reduce((sum, expr) => sum + exprFlops(expr), 0);
      return { flops: perElement * elementCount(outputs[0]?.dims ?? []), bytes: bytesMoved(inputs, outputs) };
    },
  },
  FusedMatMul: {
    since: 1,
    domain: 'internal',
    inputs: TWO_OR_MORE,
    outputs: ONE,
    attrs: { alpha: internal, transA: internal, transB: internal, epilogue: internal },
    infer(attrs, context) {
      const a = input(context, 0, 'A', { dtypes: NUMBER });
      const b = input(context, 1, 'B', { dtype: a.dtype });
      const dims = matMulDims(a.dims, b.dims, attrs.transA === 1, attrs.transB === 1);
      checkExtras(context, 2, dims);
      return [{ dtype: exprDtype(attrs.epilogue), dims }];
    },
    cost: (attrs, inputs, outputs) =>
      withEpilogue(matMulFlops(inputs[0]?.dims ?? [], outputs[0]?.dims ?? [], attrs.transA === 1), attrs.epilogue, inputs, outputs),
  },
  FusedShortcut: {
    since: 1,
    domain: 'internal',
    inputs: { min: 5, max: Number.POSITIVE_INFINITY },
    outputs: ONE,
    attrs: { ...CONV, shortcut: internal, epilogue: internal },
    infer(attrs, context) {
      const x = convInputs(context);
      input(context, 3, 'X2', { dtype: x.dtype, rank: x.dims.length });
      input(context, 4, 'W2', { dtype: x.dtype });
      const dims = sumDims(attrs, context, 3);
      expectDims(context, 2, 'B', [dims[1]!], 'to match the filters');
      checkExtras(context, 5, dims);
      return [{ dtype: exprDtype(attrs.epilogue), dims }];
    },
    cost(attrs, inputs, outputs) {
      const output = outputs[0]?.dims ?? [];
      const flops = convFlops(inputs[1]?.dims ?? [], output, false) + convFlops(inputs[4]?.dims ?? [], output, false);
      return withEpilogue(flops, attrs.epilogue, inputs, outputs);
    },
  },
  QuantizedConv: {
    since: 1,
    domain: 'internal',
    inputs: THREE_OR_MORE,
    outputs: ONE,
    attrs: { ...CONV, zeroPoint: internal, epilogue: internal },
    infer(attrs, context) {
      input(context, 0, 'X', { dtypes: BYTE });
      input(context, 1, 'W', { dtype: 'int8' });
      const dims = convDims(attrs, context);
      expectDims(context, 2, 'scale', [dims[1]!], 'to match the filters');
      expectDims(context, 3, 'B', [dims[1]!], 'to match the filters');
      checkExtras(context, 4, dims);
      return [{ dtype: exprDtype(attrs.epilogue), dims }];
    },
    cost: (attrs, inputs, outputs) =>
      withEpilogue(convFlops(inputs[1]?.dims ?? [], outputs[0]?.dims ?? [], false), attrs.epilogue, inputs, outputs),
  },
  QuantizedMatMul: {
    since: 1,
    domain: 'internal',
    inputs: THREE_OR_MORE,
    outputs: ONE,
    attrs: { zeroPoint: internal, transB: internal, epilogue: internal },
    infer(attrs, context) {
      const a = input(context, 0, 'A', { dtypes: BYTE });
      const b = input(context, 1, 'B', { dtype: 'int8', rank: 2 });
      const dims = matMulDims(a.dims, b.dims, false, attrs.transB === 1);
      expectDims(context, 2, 'scale', [dims.at(-1)!], 'to match the columns');
      checkExtras(context, 4, dims);
      return [{ dtype: exprDtype(attrs.epilogue), dims }];
    },
    cost: (attrs, inputs, outputs) =>
      withEpilogue(matMulFlops(inputs[0]?.dims ?? [], outputs[0]?.dims ?? [], false), attrs.epilogue, inputs, outputs),
  },
  QuantizedShortcut: {
    since: 1,
    domain: 'internal',
    inputs: { min: 6, max: Number.POSITIVE_INFINITY },
    outputs: ONE,
    attrs: { ...CONV, zeroPoint: internal, shortcut: internal, epilogue: internal },
    infer(attrs, context) {
      const x = input(context, 0, 'X', { dtypes: BYTE });
      input(context, 1, 'W', { dtype: 'int8' });
      input(context, 4, 'X2', { dtypes: BYTE, rank: x.dims.length });
      input(context, 5, 'W2', { dtype: 'int8' });
      const dims = sumDims(attrs, context, 4);
      expectDims(context, 2, 'scale', [dims[1]!], 'to match the filters');
      expectDims(context, 3, 'B', [dims[1]!], 'to match the filters');
      checkExtras(context, 6, dims);
      return [{ dtype: exprDtype(attrs.epilogue), dims }];
    },
    cost(attrs, inputs, outputs) {
      const output = outputs[0]?.dims ?? [];
      const flops = convFlops(inputs[1]?.dims ?? [], output, false) + convFlops(inputs[5]?.dims ?? [], output, false);
      return withEpilogue(flops, attrs.epilogue, inputs, outputs);
    },
  },
  WeightOnlyGather: {
    since: 1,
    domain: 'internal',
    inputs: THREE_OR_FOUR,
    outputs: ONE,
    attrs: { bits: internal, block_size: internal, zeroPoint: internal },
    infer(attrs, context) {
      const table = input(context, 0, 'B', { dtypes: BYTE, rank: 2 });
      const indices = input(context, 1, 'indices', { dtypes: INDEX });
      const scale = input(context, 2, 'scale', { dtypes: FLOAT });
      optionalInput(context, 3, 'zero', { dtype: table.dtype });
      const [rows, columns] = table.dims as [number, number];
      const count = attrs.block_size > 0 ? rows * Math.ceil(columns / attrs.block_size) : 1;
      if (elementCount(scale.dims) !== count) rejectInput(context, 2, 'scale', `must have ${count} elements`);
      expectDims(context, 3, 'zero', scale.dims, 'to match the scales');
      return [{ dtype: scale.dtype, dims: [...indices.dims, columns] }];
    },
    cost({ bits }, [table, indices, scale, zero], outputs) {
      const [gathered, all] = [elementCount(outputs[0]?.dims ?? []), elementCount(table?.dims ?? [])];
      const tableBytes = Math.ceil((all * bits) / 8) + bytesMoved([scale, zero], []);
      return { flops: 2 * gathered, bytes: bytesMoved([indices], outputs) + Math.ceil((tableBytes * gathered) / Math.max(1, all)) };
    },
  },
  WeightOnlyMatMul: {
    since: 1,
    domain: 'internal',
    inputs: THREE_OR_MORE,
    outputs: ONE,
    attrs: { bits: internal, block_size: internal, zeroPoint: internal, alpha: internal, transB: internal, epilogue: internal },
    infer(attrs, context) {
      const a = input(context, 0, 'A', { dtypes: FLOAT });
      const b = input(context, 1, 'B', { dtypes: BYTE, rank: 2 });
      const scale = input(context, 2, 'scale', { dtypes: FLOAT });
      optionalInput(context, 3, 'zero', { dtype: b.dtype });
      const dims = matMulDims(a.dims, b.dims, false, attrs.transB === 1);
      if (attrs.block_size > 0) expectDims(context, 2, 'scale', b.dims.map((dim, axis) => (axis === attrs.transB ? Math.ceil(dim / attrs.block_size) : dim)), 'to have one for each block and column');
      expectDims(context, 3, 'zero', scale.dims, 'to match the scales');
      checkExtras(context, 4, dims);
      return [{ dtype: exprDtype(attrs.epilogue), dims }];
    },
    cost(attrs, inputs, outputs) {
      const [a, b, ...others] = inputs;
      const { flops, bytes } = withEpilogue(matMulFlops(a?.dims ?? [], outputs[0]?.dims ?? []), attrs.epilogue, [a, others[0], others[2]], outputs);
      const more = bytesMoved([others[1], ...others.slice(3)], []);
      return { flops, bytes: bytes + more + Math.ceil((elementCount(b?.dims ?? []) * attrs.bits) / 8) };
    },
  },
};
