/**
 * Integers kept from one kernel to the next: quantization that only moves elements along, and quantization in the middle of what one
 * kernel computes anyway.
 *
 * Exporters quantize the input and output of every op. Where an op only moves or picks elements, and its grids are alike, it does so to
 * the integers as well; results of attention are quantized before they are viewed as rows, as they are written. Between a product and the elementwise op that reads it alone the grid's rounding is left out, as the value never
 * reaches memory, and before an op that computes on reals, as nothing wants the integers. The grid's saturation stays, because it may stand
 * for an activation.
 */
import { unionOrigins, type GraphEditor } from '../ir/edit.ts';
import type { AnyNode, ValueId } from '../ir/graph.ts';
import type { OpKind } from '../ir/ops.ts';
import { fromNumbers, sameDims } from '../ir/tensor.ts';
import { gridOf, gridRange, sameGrid } from './linear-grid.ts';
import { applyRules, type Pass, type Rule } from './pass.ts';
import { isFusable } from './region.ts';

/** Ops that give elements of their first input (of all, for Concat) as they are. MaxPool picks; order is the same on a grid. */
const MOVERS: ReadonlySet<OpKind> = new Set<OpKind>([
  'Concat', 'DepthToSpace', 'Expand', 'Flatten', 'Gather', 'MaxPool', 'Reshape', 'Slice', 'SpaceToDepth', 'Squeeze', 'Tile', 'Transpose', 'Unsqueeze',
]);

// Q(move(DQ(q))) = move(q), for equal grids
function moveIntegers(node: AnyNode, edit: GraphEditor): boolean {
  if (node.op !== 'QuantizeLinear') return false;
  const [grid, mover] = [gridOf(node, edit), edit.producer(node.inputs[0])];
  if (!grid || !mover || !MOVERS.has(mover.op) || mover.outputs.length > 1 || edit.onlyConsumer(mover.outputs[0]!) !== node) return false;
  const moved = mover.op === 'Concat' ? mover.inputs : mover.inputs.slice(0, 1);
  const sources = moved.map((id) => edit.producer(id));
  const alike = sources.every((source) => {
    const own = source?.op === 'DequantizeLinear' ? gridOf(source, edit) : undefined;
    return own !== undefined && sameGrid(own, grid);
  });
  if (!alike) return false;
  edit.replaceNode(node, {
    op: mover.op,
    inputs: [...sources.map((source) => source!.inputs[0]!), ...mover.inputs.slice(moved.length)],
    attrs: mover.attrs,
    origins: unionOrigins(mover, node),
  });
  return true;
}

/** Ops that give the elements of their first input in another shape or order. */
const VIEWS: ReadonlySet<OpKind> = new Set<OpKind>(['Flatten', 'Reshape', 'Squeeze', 'Transpose', 'Unsqueeze']);

/** Whether a value comes from attention, through ops that view it and that nobody else reads. */
function isAttended(node: AnyNode | undefined, edit: GraphEditor): boolean {
  if (node?.op === 'FusedAttention') return true;
  const before = node && VIEWS.has(node.op) ? node.inputs[0]! : undefined;
  return before !== undefined && edit.onlyConsumer(before) === node && isAttended(edit.producer(before), edit);
}

// Q(view(attention)) = view(Q(attention)): its kernel writes the integers then
function quantizeEarly(node: AnyNode, edit: GraphEditor): boolean {
  if (node.op !== 'QuantizeLinear') return false;
  const [grid, view] = [gridOf(node, edit), edit.producer(node.inputs[0])];
  if (!grid || !view || !VIEWS.has(view.op) || edit.onlyConsumer(view.outputs[0]!) !== node || !isAttended(view, edit)) return false;
  const [value, ...rest] = view.inputs as [ValueId, ...ValueId[]];
  const type = { dtype: grid.dtype, dims: edit.type(value).dims };
  const { attrs, origins } = node;
  const integers = edit.add({ op: 'QuantizeLinear', inputs: [value, ...node.inputs.slice(1)], attrs, origins, name: `${value}_QuantizeLinear`, type });
  edit.replaceNode(node, { op: view.op, inputs: [integers, ...rest], attrs: view.attrs, origins: unionOrigins(view, node) });
  return true;
}

const PRODUCTS: ReadonlySet<OpKind> = new Set<OpKind>(['Conv', 'Gemm', 'MatMul']);

/** Ops that compute on real numbers and are no product: they would need a kernel of its own to make reals of integers. */
const REAL_READERS: ReadonlySet<OpKind> = new Set<OpKind>(['AveragePool', 'GlobalAveragePool', 'LayerNormalization', 'ReduceMean', 'Resize', 'Softmax']);

/** The node whose value goes through a grid to one reader that computes on reals, and nowhere else. */
function requantized(node: AnyNode, edit: GraphEditor): { readonly source: AnyNode; readonly quantize: AnyNode; readonly reader: AnyNode } | undefined {
  const quantize = edit.producer(node.inputs[0]);
  const [own, before] = [gridOf(node, edit), gridOf(quantize, edit)];
  if (quantize?.op !== 'QuantizeLinear' || !own || !before || !sameGrid(own, before)) return undefined;
  const source = edit.producer(quantize.inputs[0]);
  const reader = edit.onlyConsumer(node.outputs[0]!);
  const alone = edit.onlyConsumer(quantize.outputs[0]!) === node && source && edit.onlyConsumer(source.outputs[0]!) === quantize;
  if (!alone || !reader) return undefined;
  const joins = PRODUCTS.has(source.op) && isFusable(reader, edit) && sameDims(edit.type(reader.outputs[0]!).dims, edit.type(node.outputs[0]!).dims);
  return joins || REAL_READERS.has(reader.op) ? { source, quantize, reader } : undefined;
}

// DQ(Q(x)) |> reader = clip(x) |> reader
function leaveOutRounding(node: AnyNode, edit: GraphEditor, position: ReadonlyMap<string, number>): boolean {
  if (node.op !== 'DequantizeLinear') return false;
  const found = requantized(node, edit);
  if (!found) return false;
  // Of two products that meet, the later one takes the sum in; the other is read as the integers that it wrote.
  for (const id of found.reader.inputs) {
    const other = id === node.outputs[0] ? undefined : edit.producer(id);
    const rival = other?.op === 'DequantizeLinear' ? requantized(other, edit)?.source : undefined;
    if (rival && (position.get(rival.name) ?? 0) > (position.get(found.source.name) ?? 0)) return false;
  }
  const [low, high] = gridRange(gridOf(node, edit)!);
  const { dtype } = edit.type(node.outputs[0]!);
  const bound = (value: number, hint: string): ValueId => edit.addConstant(fromNumbers(dtype, [], [value]), `${node.name}_${hint}`);
  edit.replaceNode(node, {
    op: 'Clip',
    inputs: [found.source.outputs[0]!, bound(low, 'low'), bound(high, 'high')],
    attrs: {},
    origins: unionOrigins(found.quantize, node),
  });
  return true;
}

export const integerChains: Pass = {
  name: 'integer-chains',
  summary: 'moves carry 8-bit integers, and a product meets its elementwise reader without a grid between',
  targets: ['webgpu'],
  run(graph) {
    const position = new Map(graph.nodes.map((node, index) => [node.name, index]));
    const rules: readonly Rule[] = [
      { name: 'move-integers', ops: ['QuantizeLinear'], rewrite: moveIntegers },
      { name: 'early-grid', ops: ['QuantizeLinear'], rewrite: quantizeEarly },
      { name: 'no-rounding', ops: ['DequantizeLinear'], rewrite: (node, edit) => leaveOutRounding(node, edit, position) },
    ];
    return applyRules(graph, rules);
  },
};
