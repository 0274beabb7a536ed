/**
 * GraphBuilder: makes a graph node by node, with unique names and inferred types.
 *
 * The importer, the suite's model builders and the tests all build through it, so that no graph exists whose types were
 * written by hand. `newGraphBuilder` (src/ops/builder.ts) binds it to the op table.
 */
import type { AnyNode, Graph, Node, ValueId } from './graph.ts';
import { createScope, type OpRules, type ValueScope } from './infer.ts';
import type { OpAttrs, OpKind } from './ops.ts';
import { formatType, type Tensor, type TensorType } from './tensor.ts';

export interface NodeOptions {
  /** Default: the op's name and a number. A name that is taken gets a suffix. */
  readonly name?: string;
  /** Names of the outputs, or how many there are; default one. `''` leaves an optional output out. */
  readonly outputs?: readonly ValueId[] | number;
  /** ONNX node names; default: the node's own name. */
  readonly origins?: readonly string[];
  /** Types of the outputs where the op table can't tell them (custom ops). */
  readonly types?: readonly TensorType[];
}

/** Gives names that the set lacks, and adds them to it. */
export function freshName(taken: Set<string>, hint: string): string {
  let name = hint || 'value';
  for (let suffix = 1; taken.has(name); suffix++) name = `${hint}_${suffix}`;
  taken.add(name);
  return name;
}

export class GraphBuilder {
  readonly #name: string;
  readonly #rules: OpRules;
  readonly #inputs: ValueId[] = [];
  readonly #types = new Map<ValueId, TensorType>();
  readonly #constants = new Map<ValueId, Tensor>();
  readonly #known = new Map<ValueId, readonly number[]>();
  readonly #nodes: AnyNode[] = [];
  readonly #values = new Set<string>();
  readonly #nodeNames = new Set<string>();
  /** What is known so far; the importer asks it for types while it upgrades nodes. */
  readonly scope: ValueScope;

  constructor(name: string, rules: OpRules) {
    this.#name = name;
    this.#rules = rules;
    this.scope = createScope(this.#types, this.#constants, this.#known);
  }

  /** Declares a graph input. Throws where the name is taken: inputs are bindings, which may not be renamed. */
  input(name: ValueId, type: TensorType): ValueId {
    this.#declare(name);
    this.#types.set(name, { dtype: type.dtype, dims: type.dims });
    this.#inputs.push(name);
    return name;
  }

  /** Adds a constant under `name`, or under a fresh name where none is given. */
  constant(tensor: Tensor, name?: ValueId): ValueId {
    if (name !== undefined) this.#declare(name);
    const id = name ?? freshName(this.#values, 'constant');
    this.#types.set(id, { dtype: tensor.dtype, dims: tensor.dims });
    this.#constants.set(id, tensor);
    return id;
  }

  /** Adds a node and gives its first output. Throws what the op table throws for inputs that the op forbids. */
  node<K extends OpKind>(op: K, inputs: readonly ValueId[], attrs: OpAttrs[K], options: NodeOptions = {}): ValueId {
    return this.nodeOutputs(op, inputs, attrs, options)[0]!;
  }

  /** Adds a node and gives all its outputs. */
  nodeOutputs<K extends OpKind>(
    op: K,
    inputs: readonly ValueId[],
    attrs: OpAttrs[K],
    options: NodeOptions = {},
  ): readonly ValueId[] {
    const name = freshName(this.#nodeNames, options.name || `${op}_${this.#nodes.length}`);
    const { outputs: wanted = 1 } = options;
    const named = typeof wanted === 'number' ? undefined : wanted;
    const count = typeof wanted === 'number' ? wanted : wanted.length;
    const placeholders = named ?? Array.from({ length: count }, (_, index) => `${name}:${index}`);
    const shape = { op, name, inputs: withoutTrailingAbsent(inputs), outputs: placeholders, attrs, origins: options.origins ?? [name] };
    const inferred = options.types
      ? { types: options.types, known: [] }
      : this.#rules.infer(shape satisfies Node<K> as unknown as AnyNode, this.scope);
    const outputs = placeholders.map((output) => {
      if (!output) return output;
      if (!named) return freshName(this.#values, count === 1 ? name : output);
      this.#declare(output);
      return output;
    });
    outputs.forEach((output, index) => {
      if (!output) return;
      const type = inferred.types[index];
      if (!type) throw new Error(`${op} '${name}' has no type for output ${index}`);
      this.#types.set(output, { dtype: type.dtype, dims: type.dims });
      const known = inferred.known[index];
      if (known) this.#known.set(output, known);
    });
    this.#nodes.push({ ...shape, outputs } satisfies Node<K> as unknown as AnyNode);
    return outputs;
  }

  /** A value name that nothing in the graph has; it is reserved. */
  fresh(hint: string): ValueId {
    return freshName(this.#values, hint);
  }

  /** Whether a value was added so far. */
  has(id: ValueId): boolean {
    return this.#types.has(id);
  }

  /** The type of a value added so far. */
  type(id: ValueId): TensorType {
    const type = this.#types.get(id);
    if (!type) throw new Error(`graph ${this.#name} has no value '${id}'`);
    return type;
  }

  /** The graph, with these values as its outputs. The builder can go on afterwards. */
  finish(outputs: readonly ValueId[]): Graph {
    for (const output of outputs) this.type(output);
    return {
      name: this.#name,
      inputs: [...this.#inputs],
      outputs: [...outputs],
      types: new Map(this.#types),
      constants: new Map(this.#constants),
      nodes: [...this.#nodes],
    };
  }

  #declare(name: ValueId): void {
    if (!name) throw new Error('a value needs a name');
    if (this.#types.has(name)) throw new Error(`value '${name}' (${formatType(this.type(name))}) is defined twice`);
    this.#values.add(name);
  }
}

/** Trailing absent inputs are left out, as the IR demands. */
export function withoutTrailingAbsent(ids: readonly ValueId[]): readonly ValueId[] {
  let length = ids.length;
  while (length > 0 && !ids[length - 1]) length--;
  return length === ids.length ? ids : ids.slice(0, length);
}
