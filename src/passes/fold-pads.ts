/**
 * Pad folded into the convolution or pool that reads it, where the op's own padding means the same.
 */
import { unionOrigins, type GraphEditor } from '../ir/edit.ts';
import type { AnyNode, Node } from '../ir/graph.ts';
import type { OpAttrs } from '../ir/ops.ts';
import { toNumbers } from '../ir/tensor.ts';
import { rulePass, type Rule } from './pass.ts';
import { constantInts, positiveAxis } from './tensors.ts';

const RULES: readonly Rule[] = [
  // conv(pad(x, p, 0), q) = conv(x, p + q): a convolution pads with zeros
  { name: 'pad-into-conv', ops: ['Conv'], rewrite: (node, edit) => fold(node as Node<'Conv'>, edit, 0, (pads) => ({ pads })) },
  // maxpool(pad(x, p, −∞), q) = maxpool(x, p + q): a max pool pads with −∞
  {
    name: 'pad-into-max-pool',
    ops: ['MaxPool'],
    rewrite(node, edit) {
      const pool = node as Node<'MaxPool'>;
      if (pool.outputs.length > 1) return false;
      return fold(pool, edit, Number.NEGATIVE_INFINITY, (pads) => (isPoolable(pads, pool.attrs) ? { pads } : undefined));
    },
  },
  // avgpool(pad(x, p, 0)) = avgpool(x, p) with the pad counted, where the pool adds none of its own that it leaves out
  {
    name: 'pad-into-average-pool',
    ops: ['AveragePool'],
    rewrite(node, edit) {
      const pool = node as Node<'AveragePool'>;
      if (!pool.attrs.count_include_pad && pool.attrs.pads.some((pad) => pad !== 0)) return false;
      return fold(pool, edit, 0, (pads) => (isPoolable(pads, pool.attrs) ? { pads, count_include_pad: 1 as const } : undefined));
    },
  },
];

type Padded = 'Conv' | 'MaxPool' | 'AveragePool';

/** Runtimes refuse a pad as wide as the window, and rounding up leaves the last window's extent to the pads. */
function isPoolable(pads: readonly number[], attrs: OpAttrs['MaxPool'] | OpAttrs['AveragePool']): boolean {
  const rank = attrs.kernel_shape.length;
  return attrs.ceil_mode === 0 && pads.every((pad, index) => pad < attrs.kernel_shape[index % rank]!);
}

function fold<K extends Padded>(
  node: Node<K>,
  edit: GraphEditor,
  fill: number,
  change: (pads: readonly number[]) => Partial<OpAttrs[K]> | undefined,
): boolean {
  const pad = edit.producer(node.inputs[0]);
  if (pad?.op !== 'Pad' || pad.attrs.mode !== 'constant' || fillOf(pad, edit) !== fill) return false;
  const spatial = spatialPads(pad, edit);
  if (!spatial) return false;
  const attrs = change(node.attrs.pads.map((own, index) => own + spatial[index]!));
  if (!attrs) return false;
  edit.replaceNode(node as unknown as AnyNode, {
    op: node.op,
    inputs: [pad.inputs[0]!, ...node.inputs.slice(1)],
    attrs: { ...node.attrs, ...attrs },
    origins: unionOrigins(pad, node),
  });
  return true;
}

function fillOf(pad: AnyNode, edit: GraphEditor): number | undefined {
  if (!pad.inputs[2]) return 0;
  const tensor = edit.constant(pad.inputs[2]);
  return tensor && toNumbers(tensor)[0];
}

/** Begins and ends of the spatial axes; undefined where batch or channels are padded, or anything is cropped. */
function spatialPads(pad: AnyNode, edit: GraphEditor): readonly number[] | undefined {
  const rank = edit.type(pad.inputs[0]!).dims.length;
  const given = constantInts(pad, 1, edit);
  const listed = constantInts(pad, 3, edit);
  if (!given || !listed || given.some((amount) => amount < 0)) return undefined;
  const axes = pad.inputs[3] ? listed.map((axis) => positiveAxis(axis, rank)) : Array.from({ length: rank }, (_, axis) => axis);
  const all = Array.from({ length: 2 * rank }, () => 0);
  axes.forEach((axis, index) => {
    all[axis] = given[index]!;
    all[axis + rank] = given[index + axes.length]!;
  });
  if ([0, 1, rank, rank + 1].some((index) => all[index] !== 0)) return undefined;
  return [...all.slice(2, rank), ...all.slice(rank + 2)];
}

export const foldPads = rulePass({ name: 'fold-pads', summary: 'Pad into the convolution or pool that reads it' }, RULES);
