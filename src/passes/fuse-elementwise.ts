/**
 * Chains and trees of elementwise ops as one kernel.
 *
 * From the last node of a tree upwards, a producer is taken in where every reader of it is in the tree already (so that
 * nothing is computed twice) and it has the tree's shape. Prior art: XLA's instruction fusion, nvFuser's pointwise scheduler.
 */
import { unionOrigins, GraphEditor } from '../ir/edit.ts';
import type { AnyNode, Graph, ValueId } from '../ir/graph.ts';
import { sameDims } from '../ir/tensor.ts';
import type { Pass, PassResult } from './pass.ts';
import { isFusable, spans, takeIn, type Region } from './region.ts';

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
  const inOrder = (nodes: readonly AnyNode[]): AnyNode[] =>
    nodes.toSorted((a, b) => position.get(a.name)! - position.get(b.name)!);
  let members: readonly AnyNode[] = [root];
  let region = compose(members, edit);
  for (let next = nextMember(members, [], output, edit), refused: AnyNode[] = []; region && next; ) {
    const wider = inOrder([...members, next]);
    const candidate = compose(wider, edit);
    if (candidate && candidate.inputs.length <= MAX_INPUTS && spans(candidate.inputs, edit.type(output).dims, edit)) {
      members = wider;
      region = candidate;
    } else {
      refused.push(next);
    }
    next = nextMember(members, refused, output, edit);
  }
  if (!region || members.length === 1 || region.inputs.length === 0) return false;
  edit.replaceNode(root, {
    op: 'FusedElementwise',
    inputs: region.inputs,
    attrs: { exprs: [region.exprs.get(output)!] },
    origins: unionOrigins(...members),
  });
  return true;
}

function compose(members: readonly AnyNode[], edit: GraphEditor): Region | undefined {
  let region: Region | undefined = { inputs: [], exprs: new Map(), nodes: [] };
  for (const node of members) region = region && takeIn(region, node, edit);
  return region;
}

/** A producer of some member that only members read, with the tree's shape. */
function nextMember(
  members: readonly AnyNode[],
  refused: readonly AnyNode[],
  output: ValueId,
  edit: GraphEditor,
): AnyNode | undefined {
  const { dims } = edit.type(output);
  for (const id of members.flatMap((node) => node.inputs)) {
    const node = edit.producer(id);
    if (!node || members.includes(node) || refused.includes(node) || !isFusable(node, edit)) continue;
    const isOurs = !edit.isOutput(id) && edit.consumers(id).every((reader) => members.includes(reader));
    if (isOurs && sameDims(edit.type(id).dims, dims)) return node;
  }
  return undefined;
}
