/**
 * Convolutions of one image that differ in their weights alone become one, whose outputs are windows of its result: the image is read once, and
 * one large product fills a device that small ones leave idle.
 *
 * Prior art: TensorRT's horizontal layer fusion (the 1×1 branches of an Inception module).
 */
import { unionOrigins, type GraphEditor } from '../ir/edit.ts';
import type { AnyNode, Node, ValueId } from '../ir/graph.ts';
import type { OpKind } from '../ir/ops.ts';
import { DTYPE_BITS, type Tensor } from '../ir/tensor.ts';
import { rulePass } from './pass.ts';
import { addInts, FLOATS } from './tensors.ts';

/** Parts begin at whole vectors of the narrowest storage, so that they are read where they lie. */
const ALIGNMENT = 16;

/** Ops that read a window as they read an image of its own. Whatever else reads a part would have it copied, or wants it where it is joined to others. */
const READERS: ReadonlySet<OpKind> = new Set(['AveragePool', 'Conv', 'FusedConv', 'FusedShortcut', 'MaxPool']);

/** Whether all that a node does with a value is to read it as its image. */
function readsImage({ op, inputs }: AnyNode, id: ValueId): boolean {
  const place = inputs.indexOf(id);
  return READERS.has(op) && place === inputs.lastIndexOf(id) && (place === 0 || (place === 3 && op === 'FusedShortcut'));
}

type Conv = Node<'Conv'> | Node<'FusedConv'>;

// conv(x, w1) + b1, conv(x, w2) + b2 = parts of conv(x, [w1; w2]) + [b1; b2]
function fuse(node: AnyNode, edit: GraphEditor): boolean {
  if (!isSibling(node, edit)) return false;
  const alike = edit.consumers(node.inputs[0]!).filter((other): other is Conv => isSibling(other, edit) && isAlike(node, other, edit));
  if (alike.length < 2) return false;
  replace(alike, edit);
  return true;
}

function isSibling(node: AnyNode, edit: GraphEditor): node is Conv {
  if ((node.op !== 'Conv' && node.op !== 'FusedConv') || node.attrs.group !== 1 || node.inputs.length > 3) return false;
  const [output] = node.outputs as [ValueId];
  const { dtype, dims } = edit.type(output);
  const constant = node.inputs.slice(1).every((id) => id === '' || edit.constant(id) !== undefined);
  const readers = edit.consumers(output);
  const isRead = !edit.isOutput(output) && readers.length > 0 && readers.every((reader) => readsImage(reader, output));
  return constant && FLOATS.has(dtype) && dims[1]! % ALIGNMENT === 0 && isRead;
}

function isAlike(a: Conv, b: Conv, edit: GraphEditor): boolean {
  const known = (node: Conv): string => JSON.stringify([node.op, node.attrs, edit.type(node.inputs[1]!).dtype, edit.type(node.inputs[1]!).dims.slice(1), Boolean(node.inputs[2])]);
  return a.inputs[0] === b.inputs[0] && known(a) === known(b);
}

function replace(parts: readonly Conv[], edit: GraphEditor): void {
  const [first] = parts as [Conv];
  const { dtype, dims } = edit.type(first.outputs[0]!);
  const widths = parts.map((part) => edit.type(part.outputs[0]!).dims[1]!);
  const type = { dtype, dims: [dims[0]!, widths.reduce((sum, width) => sum + width, 0), ...dims.slice(2)] };
  const stacked = (input: number, hint: string): ValueId => edit.addConstant(above(parts.map((part) => edit.constant(part.inputs[input])!)), `${first.name}_${hint}`);
  const inputs = [first.inputs[0]!, stacked(1, 'weights'), ...(first.inputs[2] ? [stacked(2, 'bias')] : [])];
  const rest = { inputs, origins: unionOrigins(...parts), name: `${first.name}_joined`, type };
  const joined = first.op === 'Conv' ? edit.add({ op: 'Conv', attrs: first.attrs, ...rest }) : edit.add({ op: 'FusedConv', attrs: first.attrs, ...rest });
  const axis = addInts(edit, [1], `${first.name}_axis`);
  let start = 0;
  for (const [i, part] of parts.entries()) {
    const [from, to] = [start, (start += widths[i]!)].map((at) => addInts(edit, [at], `${part.name}_at`)) as [ValueId, ValueId];
    edit.replaceNode(part, { op: 'Slice', inputs: [joined, from, to, axis], attrs: {}, origins: part.origins });
  }
}

/** Tensors joined along their first axis. */
function above(tensors: readonly Tensor[]): Tensor {
  const [{ dtype, dims }] = tensors as [Tensor];
  const size = DTYPE_BITS[dtype] / 8;
  const counts = tensors.map((tensor) => tensor.dims.reduce((all, extent) => all * extent, size));
  const data = new Uint8Array(counts.reduce((sum, bytes) => sum + bytes, 0));
  let at = 0;
  for (const [i, tensor] of tensors.entries()) {
    data.set(tensor.data.subarray(0, counts[i]), at);
    at += counts[i]!;
  }
  return { dtype, dims: [tensors.reduce((sum, tensor) => sum + tensor.dims[0]!, 0), ...dims.slice(1)], data };
}

export const fuseSiblings = rulePass(
  { name: 'fuse-siblings', summary: 'convolutions of one image that differ in their weights alone as one', targets: ['webgpu'] },
  [{ name: 'siblings', ops: ['Conv', 'FusedConv'], rewrite: fuse }],
);
