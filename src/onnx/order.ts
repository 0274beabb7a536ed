/** Single assignment and topological order: checks a list of nodes, and sorts one that is out of order. */
import { invalid, quote } from './invalid.ts';

/** What ordering looks at: names of values, and how messages call the node. */
export interface Ordered {
  readonly name: string;
  readonly opType: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
}

/** `node 'conv1' (Conv)`, or by number where it has no name. */
export function nodePlace(node: Pick<Ordered, 'name' | 'opType'>, index?: number): string {
  const name = node.name === '' && index !== undefined ? `node ${index}` : `node ${quote(node.name)}`;
  return `${name} (${node.opType.slice(0, 80)})`;
}

/**
 * The nodes in topological order: as they came where that is one, else each after the producers of its inputs.
 * `given` names the values that come from elsewhere (inputs, initializers). Throws MODEL_INVALID for a value produced
 * twice or not at all, and for a cycle.
 */
export function orderNodes<N extends Ordered>(nodes: readonly N[], given: ReadonlySet<string>, place: string): readonly N[] {
  const producer = new Map<string, number>();
  for (const [index, node] of nodes.entries()) {
    for (const output of node.outputs) {
      if (output === '') continue;
      if (given.has(output) || producer.has(output)) {
        throw invalid(`the value ${quote(output)} is produced twice`, `${place}, ${nodePlace(node, index)}`);
      }
      producer.set(output, index);
    }
  }
  let ordered = true;
  for (const [index, node] of nodes.entries()) {
    for (const input of node.inputs) {
      if (input === '' || given.has(input)) continue;
      const source = producer.get(input);
      if (source === undefined) {
        throw invalid(`a node reads the value ${quote(input)}, which nothing produces`, `${place}, ${nodePlace(node, index)}`);
      }
      ordered &&= source < index;
    }
  }
  return ordered ? nodes : sortNodes(nodes, producer, place);
}

/** Depth-first from the nodes in their order, without recursion: a chain may be as long as the file. */
function sortNodes<N extends Ordered>(nodes: readonly N[], producer: ReadonlyMap<string, number>, place: string): N[] {
  const state = new Uint8Array(nodes.length);
  const [open, done] = [1, 2];
  const sorted: N[] = [];
  for (let root = 0; root < nodes.length; root++) {
    if (state[root] === done) continue;
    const stack = [{ index: root, next: 0 }];
    state[root] = open;
    for (let top = stack.at(-1); top; top = stack.at(-1)) {
      const node = nodes[top.index]!;
      if (top.next === node.inputs.length) {
        state[top.index] = done;
        sorted.push(node);
        stack.pop();
        continue;
      }
      const source = producer.get(node.inputs[top.next++]!);
      if (source === undefined || state[source] === done) continue;
      if (state[source] === open) throw cycle(stack.map((frame) => frame.index), source, nodes, place);
      state[source] = open;
      stack.push({ index: source, next: 0 });
    }
  }
  return sorted;
}

function cycle(path: readonly number[], back: number, nodes: readonly Ordered[], place: string): Error {
  const loop = path.slice(path.indexOf(back)).toReversed();
  const names = loop.slice(0, 5).map((index) => nodePlace(nodes[index]!, index));
  const more = loop.length > names.length ? ` and ${loop.length - names.length} more` : '';
  return invalid(`the graph has a cycle through ${names.join(' → ')}${more}`, place);
}
