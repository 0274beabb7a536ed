/**
 * GraphEditor: a working copy of a graph in which rewrites are made, and from which a new graph comes.
 *
 * Producers and consumers stay exact after every step (a node whose last use goes away goes with it), so that a rule can ask
 * "is this its only use?" at any time. Node order is repaired once, at the end. Graphs themselves never change.
 * Prior art: LLVM's replaceAllUsesWith, MLIR's PatternRewriter.
 */
import { freshName, withoutTrailingAbsent } from './build.ts';
import type { AnyNode, Graph, ValueId } from './graph.ts';
import type { OpAttrs, OpKind } from './ops.ts';
import type { Tensor, TensorType } from './tensor.ts';
import { sameType } from './verify.ts';

/** What a node that replaces another does; it keeps the other's name and outputs. */
export interface Replacement<K extends OpKind> {
  readonly op: K;
  readonly inputs: readonly ValueId[];
  readonly attrs: OpAttrs[K];
  readonly origins: readonly string[];
}

export interface Addition<K extends OpKind> extends Replacement<K> {
  /** Hint for the name. */
  readonly name: string;
  readonly type: TensorType;
}

/** ONNX node names of several nodes, without repetition, in order. */
export function unionOrigins(...nodes: readonly { readonly origins: readonly string[] }[]): readonly string[] {
  return [...new Set(nodes.flatMap((node) => node.origins))];
}

export class GraphEditor {
  readonly #graph: Graph;
  readonly #nodes: Map<string, AnyNode>;
  readonly #types: Map<ValueId, TensorType>;
  readonly #constants: Map<ValueId, Tensor>;
  readonly #producer = new Map<ValueId, string>();
  readonly #consumers = new Map<ValueId, Set<string>>();
  readonly #outputs: ReadonlySet<ValueId>;
  readonly #nodeNames: Set<string>;
  readonly #valueNames: Set<string>;
  #changed = false;

  constructor(graph: Graph) {
    this.#graph = graph;
    this.#nodes = new Map(graph.nodes.map((node) => [node.name, node]));
    this.#types = new Map(graph.types);
    this.#constants = new Map(graph.constants);
    this.#outputs = new Set(graph.outputs);
    this.#nodeNames = new Set(this.#nodes.keys());
    this.#valueNames = new Set(this.#types.keys());
    for (const node of graph.nodes) this.#link(node);
  }

  /** Names of the nodes at this moment; look each up again with `node`, as a rewrite may have replaced or removed it. */
  names(): readonly string[] {
    return [...this.#nodes.keys()];
  }

  node(name: string): AnyNode | undefined {
    return this.#nodes.get(name);
  }

  type(id: ValueId): TensorType {
    const type = this.#types.get(id);
    if (!type) throw new Error(`graph ${this.#graph.name} has no value '${id}'`);
    return type;
  }

  constant(id: ValueId | undefined): Tensor | undefined {
    return id ? this.#constants.get(id) : undefined;
  }

  /** The node that gives `id`; undefined for inputs and constants. */
  producer(id: ValueId | undefined): AnyNode | undefined {
    const name = id ? this.#producer.get(id) : undefined;
    return name === undefined ? undefined : this.#nodes.get(name);
  }

  /** Nodes that read `id`, each once. */
  consumers(id: ValueId): readonly AnyNode[] {
    return [...(this.#consumers.get(id) ?? [])].map((name) => this.#nodes.get(name)!);
  }

  isOutput(id: ValueId): boolean {
    return this.#outputs.has(id);
  }

  /** The one node that reads `id`, where there is exactly one and the graph does not give `id` out. */
  onlyConsumer(id: ValueId): AnyNode | undefined {
    const names = this.#consumers.get(id);
    if (!names || names.size !== 1 || this.#outputs.has(id)) return undefined;
    return this.#nodes.get([...names][0]!);
  }

  addConstant(tensor: Tensor, hint: string): ValueId {
    const id = freshName(this.#valueNames, hint);
    this.#types.set(id, { dtype: tensor.dtype, dims: tensor.dims });
    this.#constants.set(id, tensor);
    return id;
  }

  /** Adds a node with one output and gives that output. */
  add<K extends OpKind>(addition: Addition<K>): ValueId {
    const { op, inputs, attrs, origins, type } = addition;
    const name = freshName(this.#nodeNames, addition.name);
    const output = freshName(this.#valueNames, name);
    this.#types.set(output, { dtype: type.dtype, dims: type.dims });
    this.#put({ op, name, inputs: withoutTrailingAbsent(inputs), outputs: [output], attrs, origins } as unknown as AnyNode);
    return output;
  }

  /** Puts another op in the place of a node; its name, outputs and their types stay. */
  replaceNode<K extends OpKind>(old: AnyNode, replacement: Replacement<K>): AnyNode {
    const { op, inputs, attrs, origins } = replacement;
    const node = { ...old, op, inputs: withoutTrailingAbsent(inputs), attrs, origins } as unknown as AnyNode;
    this.#put(node);
    this.#release(old.inputs.filter((id) => !node.inputs.includes(id)), node.name);
    return node;
  }

  /** Replaces a node's output list, for outputs that nobody uses. */
  setOutputs(node: AnyNode, outputs: readonly ValueId[]): void {
    for (const id of node.outputs) if (id && !outputs.includes(id)) this.#producer.delete(id);
    this.#put({ ...node, outputs } as AnyNode);
  }

  /** Whether `from` can go in favour of `to`: an output keeps its name, so some other node must be able to take it over. */
  canReplaceValue(from: ValueId, to: ValueId): boolean {
    if (!sameType(this.type(from), this.type(to))) return false;
    return !this.isOutput(from) || (this.producer(to) !== undefined && !this.isOutput(to));
  }

  /** Lets every reader of `from` read `to`. Gives the name under which `to` goes on: `from` where that is a graph output. */
  replaceValue(from: ValueId, to: ValueId): ValueId {
    if (!this.canReplaceValue(from, to)) throw new Error(`'${to}' can't take the place of '${from}'`);
    for (const reader of this.consumers(from)) this.#put(renameInput(reader, from, to));
    const readers = this.#consumers.get(from);
    readers?.clear();
    const old = this.producer(from);
    if (!this.isOutput(from)) {
      if (old) this.#removeIfDead(old);
      return to;
    }
    if (old) this.#renameOutput(old, from, freshName(this.#valueNames, from));
    this.#renameOutput(this.producer(to)!, to, from);
    for (const reader of this.consumers(to)) this.#put(renameInput(reader, to, from));
    this.#consumers.delete(to);
    if (old) this.#removeIfDead(this.#nodes.get(old.name)!);
    return from;
  }

  /** The new graph: in topological order, without dead nodes, constants and types; the old one where nothing changed. */
  finish(): Graph {
    if (!this.#changed) return this.#graph;
    return prune({ ...this.#graph, types: this.#types, constants: this.#constants, nodes: [...this.#nodes.values()] });
  }

  #put(node: AnyNode): void {
    this.#changed = true;
    this.#nodes.set(node.name, node);
    this.#link(node);
  }

  #link(node: AnyNode): void {
    for (const id of node.outputs) if (id) this.#producer.set(id, node.name);
    for (const id of node.inputs) {
      if (!id) continue;
      const readers = this.#consumers.get(id);
      if (readers) readers.add(node.name);
      else this.#consumers.set(id, new Set([node.name]));
    }
  }

  /** A node no longer reads these values. */
  #release(ids: readonly ValueId[], reader: string): void {
    for (const id of ids) {
      this.#consumers.get(id)?.delete(reader);
      const source = this.producer(id);
      if (source) this.#removeIfDead(source);
    }
  }

  #removeIfDead(start: AnyNode): void {
    const pending = [start];
    for (let node = pending.pop(); node; node = pending.pop()) {
      const { name, inputs, outputs } = node;
      const live = outputs.some((id) => id && (this.isOutput(id) || (this.#consumers.get(id)?.size ?? 0) > 0));
      if (live || !this.#nodes.has(name)) continue;
      this.#changed = true;
      this.#nodes.delete(name);
      for (const id of outputs) this.#producer.delete(id);
      for (const id of inputs) {
        this.#consumers.get(id)?.delete(name);
        const source = this.producer(id);
        if (source) pending.push(source);
      }
    }
  }

  #renameOutput(node: AnyNode, from: ValueId, to: ValueId): void {
    this.#types.set(to, this.type(from));
    this.#producer.delete(from);
    this.#put({ ...node, outputs: node.outputs.map((id) => (id === from ? to : id)) });
  }
}

function renameInput(node: AnyNode, from: ValueId, to: ValueId): AnyNode {
  return { ...node, inputs: node.inputs.map((id) => (id === from ? to : id)) };
}

/** The nodes that the outputs need, producers first, otherwise in the order given. Throws on a cycle, which is a bug. */
export function topologicalOrder(nodes: readonly AnyNode[], outputs: readonly ValueId[]): AnyNode[] {
  const producer = new Map<ValueId, AnyNode>();
  for (const node of nodes) for (const id of node.outputs) if (id) producer.set(id, node);
  const live = reachable(producer, outputs);
  const state = new Map<AnyNode, 'open' | 'done'>();
  const ordered: AnyNode[] = [];
  for (const root of nodes) {
    if (!live.has(root)) continue;
    const stack = [root];
    for (let node = stack.at(-1); node; node = stack.at(-1)) {
      if (state.get(node) === 'done') {
        stack.pop();
        continue;
      }
      const waiting = sourcesOf(node, producer).filter((source) => state.get(source) !== 'done');
      if (waiting.length === 0) {
        state.set(node, 'done');
        ordered.push(node);
        stack.pop();
      } else {
        if (state.get(node) === 'open') throw new Error(`cycle through ${node.op} '${node.name}'`);
        state.set(node, 'open');
        stack.push(...waiting.toReversed());
      }
    }
  }
  return ordered;
}

function sourcesOf(node: AnyNode, producer: ReadonlyMap<ValueId, AnyNode>): AnyNode[] {
  return node.inputs.map((id) => producer.get(id)).filter((source) => source !== undefined);
}

function reachable(producer: ReadonlyMap<ValueId, AnyNode>, outputs: readonly ValueId[]): Set<AnyNode> {
  const live = new Set<AnyNode>();
  const pending = outputs.map((id) => producer.get(id));
  while (pending.length > 0) {
    const node = pending.pop();
    if (!node || live.has(node)) continue;
    live.add(node);
    pending.push(...sourcesOf(node, producer));
  }
  return live;
}

/** The graph without the nodes, constants and types that its outputs don't need, in topological order. */
export function prune(graph: Graph): Graph {
  const nodes = topologicalOrder(graph.nodes, graph.outputs);
  const used = new Set([...graph.inputs, ...graph.outputs]);
  for (const node of nodes) for (const id of [...node.inputs, ...node.outputs]) if (id) used.add(id);
  const keep = <V>(map: ReadonlyMap<ValueId, V>): Map<ValueId, V> => new Map([...map].filter(([id]) => used.has(id)));
  return { ...graph, types: keep(graph.types), constants: keep(graph.constants), nodes };
}
