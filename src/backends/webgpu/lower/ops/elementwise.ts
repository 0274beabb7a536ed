/** Elementwise ops and their fusions: one map kernel each, with whatever layouts the inputs lie in. */
import type { Expr } from '../../../../ir/expr.ts';
import type { AnyNode, Graph, Node } from '../../../../ir/graph.ts';
import { typeOf } from '../../../../ir/graph.ts';
import type { OpKind } from '../../../../ir/ops.ts';
import { type Dims, type DType, sameDims } from '../../../../ir/tensor.ts';
import { type ElementwiseOp, ELEMENTWISE_OPS, exprOf } from '../../../../passes/expr-of.ts';
import { mapKernel } from '../../kernels/map.ts';
import { PORTABLE_PROFILE } from '../../profile.ts';
import type { Computed, LowerContext, Lowering, LoweringTable } from '../context.ts';
import { broadcastView, type Layout, storageOf } from '../tensor.ts';

/** The layout that a result of these dims takes: channels-last where an input of the same shape has it. */
function inheritedLayout(inputs: readonly string[], dims: Dims, context: LowerContext): Layout {
  const follows = inputs.some(
    (id) => id !== '' && !context.constant(id) && sameDims(context.type(id).dims, dims) && context.source(id).layout === 'channels-last',
  );
  return follows ? 'channels-last' : 'linear';
}

function broadcastInputs(node: AnyNode, dims: Dims, context: LowerContext): Computed['inputs'] {
  return node.inputs.map((id) => {
    const tensor = context.source(id);
    return { tensor, view: broadcastView(tensor, dims) };
  });
}

/** out_i = exprs[i](inputs), with inputs broadcast. Absent inputs must not occur in the expressions. */
export function lowerExprs(node: AnyNode, exprs: readonly Expr[], context: LowerContext): void {
  const outputs = node.outputs.flatMap((id, i) => (id === '' ? [] : [{ id, expr: exprs[i]! }]));
  const { dims } = context.type(outputs[0]!.id);
  const layout = inheritedLayout(node.inputs, dims, context);
  const inputs = broadcastInputs(node, dims, context);
  // One walk writes all outputs, so that they are padded alike.
  const wish = outputs.length === 1 ? 'narrow' : 'canonical';
  const defined = outputs.map(({ id, expr }) => {
    const tensor = context.target(id, layout, wish);
    return { tensor, view: broadcastView(tensor, dims), expr };
  });
  context.dispatch(mapKernel({ label: node.op, dims, inputs, outputs: defined, padChannels: layout === 'channels-last' }, context.profile));
}

/** The node's expression over those of its inputs that are present, numbered in order. */
function singleExpr(node: AnyNode, graph: Graph): Expr | undefined {
  let index = 0;
  return exprOf(
    node,
    node.inputs.map((id) => (id === '' ? undefined : { kind: 'input', index: index++, dtype: typeOf(graph, id).dtype })),
  );
}

const elementwise: Lowering<OpKind> = {
  unsupported(node, graph) {
    const { maxStorageBuffers } = PORTABLE_PROFILE;
    if (node.inputs.length >= maxStorageBuffers) return `a kernel binds at most ${maxStorageBuffers - 1} inputs, here ${node.inputs.length}`;
    return singleExpr(node as AnyNode, graph) ? undefined : 'no expression for these element types';
  },
  lower(node, context) {
    const expr = singleExpr(node as AnyNode, context.graph)!;
    lowerExprs(present(node as AnyNode), [expr], context);
  },
  compute: (node, context) => computed(present(node as AnyNode), singleExpr(node as AnyNode, context.graph), context),
};

function present(node: AnyNode): AnyNode {
  return { ...node, inputs: node.inputs.filter((id) => id !== '') } as AnyNode;
}

function computed(node: AnyNode, expr: Expr | undefined, context: LowerContext): Computed | undefined {
  return expr && { expr, inputs: broadcastInputs(node, context.type(node.outputs[0]!).dims, context) };
}

const fused: Lowering<'FusedElementwise'> = {
  lower: (node: Node<'FusedElementwise'>, context) => lowerExprs(node as AnyNode, node.attrs.exprs, context),
  compute: (node: Node<'FusedElementwise'>, context) => (node.outputs.length === 1 ? computed(node as AnyNode, node.attrs.exprs[0], context) : undefined),
};

/** Types that have every number of another, and lie in memory as it does: a cast between them has no kernel. */
const SAME_WORDS: Readonly<Partial<Record<DType, readonly DType[]>>> = {
  bfloat16: ['float32', 'float64'],
  float16: ['float32', 'float64'],
  float32: ['float64'],
  float64: ['float32'],
  int32: ['int64'],
  int64: ['int32'],
  uint32: ['uint64'],
  uint64: ['uint32'],
};

const cast: Lowering<OpKind> = {
  ...elementwise,
  lower(node, context) {
    const [input, output] = [node.inputs[0]!, node.outputs[0]!];
    const from = context.type(input).dtype;
    const source = context.source(input);
    const isSame = source.storage === storageOf(from) && (SAME_WORDS[from]?.includes(context.type(output).dtype) ?? false);
    if (isSame) context.alias(output, source, source.layout);
    else elementwise.lower(node, context);
  },
};

const singles = Object.fromEntries(ELEMENTWISE_OPS.map((op) => [op, elementwise])) as { readonly [K in ElementwiseOp]: Lowering<K> };

export const ELEMENTWISE_LOWERINGS: LoweringTable = { ...singles, Cast: cast, FusedElementwise: fused };
