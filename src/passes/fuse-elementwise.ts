/**
 * Chains and trees of elementwise ops as one kernel.
 *
 * From the last node of a tree upwards, a producer is taken in where every reader of it is in the tree already (so that
 * nothing is computed twice) and it has the tree's shape. Prior art: XLA's instruction fusion, nvFuser's pointwise scheduler.
 */
import { unionOrigins, GraphEditor } from '../ir/edit.ts';
import type { AnyNode, Graph } from '../ir/graph.ts';
import { sameDims, type Dims } from '../ir/tensor.ts';
import type { Pass, PassResult } from './pass.ts';
import { isFusable, regionOf, spans } from './region.ts';

/** With the output, within the eight storage bindings that every WebGPU device has. */
const MAX_INPUTS = 6;

export const fuseElementwise: Pass = {
  name: 'fuse-elementwise',
  summary: 'chains and trees of elementwise ops as one kernel',
  targets: ['webgpu'],
  run: fuseTrees,
};

function fuseTrees(graph: Graph): PassResult {
  const edit = new GraphEditor(graph);
  const position = new Map(graph.nodes.map((node, index) => [node.name, index]));
  let fused = 0;
  for (const name of edit.names().toReversed()) {
    const root = edit.node(name);
    if (root && isFusable(root, edit) && fuseAt(root, position, edit)) fused++;
  }
  return { graph: edit.finish(), rewrites: { elementwise: fused } };
}

function fuseAt(root: AnyNode, position: ReadonlyMap<string, number>, edit: GraphEditor): boolean {
  const output = root.outputs[0]!;
  const { dims } = edit.type(output);
  const members = new Set([root]);
  const refused = new Set<AnyNode>();
  let region = regionOf([root], edit);
  for (let next = nextMember(members, refused, dims, edit); region && next; next = nextMember(members, refused, dims, edit)) {
    const wider = [...members, next].toSorted((a, b) => position.get(a.name)! - position.get(b.name)!);
    const candidate = regionOf(wider, edit);
    if (candidate && candidate.inputs.length <= MAX_INPUTS && spans(candidate.inputs, dims, edit)) {
      members.add(next);
      region = candidate;
    } else {
      refused.add(next);
    }
  }
  if (!region || members.size === 1 || region.inputs.length === 0) return false;
  edit.replaceNode(root, {
    op: 'FusedElementwise',
    inputs: region.inputs,
    attrs: { exprs: [region.exprs.get(output)!] },
    origins: unionOrigins(...region.nodes),
  });
  return true;
}

/** A producer of some member that only members read, with the tree's shape. */
function nextMember(
  members: ReadonlySet<AnyNode>,
  refused: ReadonlySet<AnyNode>,
  dims: Dims,
  edit: GraphEditor,
): AnyNode | undefined {
  for (const member of members) {
    for (const id of member.inputs) {
      const node = edit.producer(id);
      if (!node || members.has(node) || refused.has(node) || !isFusable(node, edit)) continue;
      const isOurs = !edit.isOutput(id) && edit.consumers(id).every((reader) => members.has(reader));
      if (isOurs && sameDims(edit.type(id).dims, dims)) return node;
    }
  }
  return undefined;
}
