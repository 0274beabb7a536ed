/**
 * Partition: a graph cut into segments of one kind each, as few as its dependencies allow, to be run one after the other.
 *
 * A segment is an interval of a topological order, so that it is convex by construction: no path leaves it and comes back.
 * Taking every node of one kind that is ready before turning to the other gives the fewest segments for two kinds: whatever
 * another order has run after as many segments, this one has run too. The same is true from the end of the graph backwards; of
 * these the cut is kept that moves the fewest bytes. Prior art: TVM's AnnotateTarget and MergeCompilerRegions, ONNX Runtime's
 * graph partitioner; both merge regions pairwise and may end with more of them.
 */
import { type AnyNode, type Graph, producers, type ValueId } from './graph.ts';
import { tensorBytes } from './tensor.ts';

export interface Segment<K extends string> {
  readonly kind: K;
  /** In the graph's order. */
  readonly nodes: readonly AnyNode[];
}

/** Cuts a graph by the kind of each node. Every node is in exactly one segment; neighbours differ in kind. Deterministic. */
export function partition<K extends string>(graph: Graph, kindOf: (node: AnyNode) => K): readonly Segment<K>[] {
  const kinds = graph.nodes.map(kindOf);
  const links = dependencies(graph);
  const starts = [...new Set(kinds)];
  const cuts = starts.flatMap((start) => [drain(kinds, links, start), drain(kinds, reversed(links), start).toReversed()]);
  const fewest = Math.min(...cuts.map((cut) => cut.length));
  const candidates = cuts.filter((cut) => cut.length === fewest).map((cut) => ({ cut, bytes: movedBytes(graph, cut) }));
  candidates.sort((a, b) => a.bytes - b.bytes);
  return (candidates[0]?.cut ?? []).map((indices) => ({ kind: kinds[indices[0]!]!, nodes: indices.map((i) => graph.nodes[i]!) }));
}

/** Edges by node index. */
interface Links {
  readonly sources: readonly (readonly number[])[];
  readonly users: readonly (readonly number[])[];
}

function dependencies(graph: Graph): Links {
  const index = new Map(graph.nodes.map((node, i) => [node, i]));
  const producer = producers(graph);
  const users: number[][] = graph.nodes.map(() => []);
  const sources = graph.nodes.map((node, i) => {
    const from = new Set(node.inputs.flatMap((id) => index.get(producer.get(id)!) ?? []));
    for (const source of from) users[source]!.push(i);
    return [...from];
  });
  return { sources, users };
}

function reversed({ sources, users }: Links): Links {
  return { sources: users, users: sources };
}

/** Segments as sorted lists of node indices: all that is ready of one kind, then all of the other, and so on. */
function drain(kinds: readonly string[], { sources, users }: Links, start: string): number[][] {
  const waiting = sources.map((list) => list.length);
  const ready = new Map<string, number[]>(kinds.map((kind) => [kind, []]));
  for (const [i, count] of waiting.entries()) if (count === 0) ready.get(kinds[i]!)!.push(i);
  const segments: number[][] = [];
  let turn = start;
  for (;;) {
    const queue = ready.get(turn)!;
    const segment: number[] = [];
    for (let i = queue.pop(); i !== undefined; i = queue.pop()) {
      segment.push(i);
      for (const user of users[i]!) if (--waiting[user]! === 0) ready.get(kinds[user]!)!.push(user);
    }
    if (segment.length > 0) segments.push(segment.sort((a, b) => a - b));
    const next = [...ready].find(([, nodes]) => nodes.length > 0);
    if (!next) return segments;
    turn = next[0];
  }
}

/** Bytes of values that leave their segment, once for every other segment that reads them. */
function movedBytes(graph: Graph, cut: readonly (readonly number[])[]): number {
  const segmentOf = new Map<ValueId, number>();
  for (const [at, indices] of cut.entries()) for (const i of indices) for (const id of graph.nodes[i]!.outputs) segmentOf.set(id, at);
  let bytes = 0;
  for (const [at, indices] of cut.entries()) {
    const read = new Set(indices.flatMap((i) => graph.nodes[i]!.inputs));
    for (const id of read) {
      const from = segmentOf.get(id);
      if (from !== undefined && from !== at) bytes += tensorBytes(graph.types.get(id)!);
    }
  }
  return bytes;
}

/**
 * The segments as graphs of their own. A segment's inputs are the values that it reads and does not make; its outputs those
 * that other segments or the whole graph's outputs need. Constants go wherever they are read. An output of the whole graph that
 * no node makes (an input, a constant) is in none of them.
 */
export function segmentGraphs<K extends string>(graph: Graph, segments: readonly Segment<K>[]): readonly Graph[] {
  const readers = new Map<ValueId, Set<number>>();
  for (const [at, { nodes }] of segments.entries()) {
    for (const node of nodes) for (const id of node.inputs) if (id) readers.set(id, (readers.get(id) ?? new Set()).add(at));
  }
  const wanted = new Set(graph.outputs);
  return segments.map(({ nodes }, at) => {
    const made = new Set(nodes.flatMap((node) => node.outputs.filter(Boolean)));
    const read = new Set(nodes.flatMap((node) => node.inputs.filter(Boolean)));
    const inputs = [...read].filter((id) => !made.has(id) && !graph.constants.has(id));
    const outputs = [...made].filter((id) => wanted.has(id) || [...(readers.get(id) ?? [])].some((reader) => reader !== at));
    const held = new Set([...read, ...made]);
    return {
      name: `${graph.name} segment ${at}`,
      inputs,
      outputs,
      nodes,
      types: new Map([...graph.types].filter(([id]) => held.has(id))),
      constants: new Map([...graph.constants].filter(([id]) => read.has(id))),
    };
  });
}
