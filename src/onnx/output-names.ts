/**
 * Identity nodes by which exporters give an output its name, behind nodes whose length the data decide: nothing may read such a value
 * (ops/bounded.ts), so that the node writes the output itself.
 */
import { readsOf } from './branches.ts';
import type { OnnxNode } from './model.ts';

/** Ops of `bounds` in the op table. */
const BOUNDED: ReadonlySet<string> = new Set(['NonMaxSuppression', 'NonZero']);

/** The same nodes, without those Identities. */
export function withOwnOutputNames(nodes: readonly OnnxNode[], outputs: ReadonlySet<string>): readonly OnnxNode[] {
  const bounded = new Set(nodes.filter(({ domain, opType }) => domain === '' && BOUNDED.has(opType)).flatMap((node) => node.outputs));
  const names = new Map(nodes.filter((node) => isNaming(node, bounded, outputs)).map(({ inputs, outputs: own }) => [inputs[0]!, own[0]!]));
  for (const node of nodes) if (names.get(node.inputs[0] ?? '') !== node.outputs[0]) for (const read of readsOf(node)) names.delete(read);
  if (names.size === 0) return nodes;
  return nodes.flatMap((node) => {
    if (isNaming(node, names, outputs)) return [];
    return [node.outputs.some((output) => names.has(output)) ? { ...node, outputs: node.outputs.map((output) => names.get(output) ?? output) } : node];
  });
}

/** Whether the node does nothing but give one of the values, which is no output yet, the name of an output. */
function isNaming({ domain, opType, inputs, outputs: [own = ''] }: OnnxNode, values: { has(name: string): boolean }, outputs: ReadonlySet<string>): boolean {
  return domain === '' && opType === 'Identity' && values.has(inputs[0] ?? '') && !outputs.has(inputs[0]!) && outputs.has(own);
}
