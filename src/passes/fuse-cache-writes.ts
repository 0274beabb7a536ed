/**
 * Concatenations of expressions are computed where a wider expression reads them, and expressions that read the same join them.
 *
 * A decoder's step rotates one key a layer, and writes it into a cache by a selection over all rows: where(row = now, key, past). So the rotation is
 * computed for every row, from values that lie in the cores' caches, and the values' selection, which reads the same conditions, is one more range
 * of threads: one kernel where there were three that waited for each other. The conditions are compared by whoever reads them, which also leaves
 * more operands to the rotation. Prior art: XLA's producer fusion with duplication, and its horizontal
 * fusion.
 */
import { type GraphEditor, unionOrigins } from '../ir/edit.ts';
import { inputsOf, type JoinedExprs, replaceInputs, runsOf } from '../ir/expr.ts';
import type { AnyNode, Node, ValueId } from '../ir/graph.ts';
import type { OpKind } from '../ir/ops.ts';
import { type Dims, elementCount, sameDims } from '../ir/tensor.ts';
import { dependsOn } from './depends.ts';
import { exprSize } from './expr-of.ts';
import { computedBy, isSayable, type Joining, MAX_INPUTS, operandAt, Operands, operandValue } from './joining.ts';
import { applyRules, type Pass } from './pass.ts';
import { MAX_EXPR_SIZE } from './region.ts';
import { VIEWS } from './reshapes.ts';
import { FLOATS } from './tensors.ts';

/** Elements beyond which computing a part for each of them takes longer than the dispatch that it saves: 4 loads from a core's cache, four elements at a time. */
const MAX_ELEMENTS = 2 ** 22;

type Joined = Node<'FusedConcat'>;

/** Values of one node, each said over the operands of all. */
class Outputs {
  readonly operands = new Operands();
  readonly joined: JoinedExprs[] = [];
  /** Dims of each, by which operands with a place are cut. */
  readonly #cuts: { readonly axis: number; readonly from: number; readonly to: number }[] = [];

  add({ axis, dims, parts, operands }: Pick<Joining, 'axis' | 'dims' | 'parts' | 'operands'>): void {
    const from = this.operands.list.length;
    const numbers = operands.map((operand) => this.operands.number(operand));
    this.joined.push({ axis, parts: parts.map((part) => ({ ...part, expr: replaceInputs(part.expr, (index, dtype) => ({ kind: 'input', index: numbers[index]!, dtype })) })) });
    this.#cuts.push({ axis: axis - dims.length, from, to: this.operands.list.length });
  }

  inputs(edit: GraphEditor): ValueId[] {
    return this.operands.list.map((operand, i) => operandValue(operand, this.#cuts.find(({ from, to }) => from <= i && i < to)!.axis, edit));
  }
}

/** An output of a node as it is: over inputs of the node. */
function plain(node: Joined, at: number, edit: GraphEditor): Joining {
  const { axis, parts } = node.attrs.joined[at]!;
  return { axis, dims: edit.type(node.outputs[at]!).dims, parts, operands: node.inputs.map((id) => ({ id })), root: node, nodes: [node] };
}

/** Without the operands that no part reads. */
function trimmed(joining: Joining): Joining {
  const read = [...new Set(joining.parts.flatMap(({ expr }) => [...inputsOf(expr)]))].toSorted((a, b) => a - b);
  const parts = joining.parts.map((part) => ({ ...part, expr: replaceInputs(part.expr, (index, dtype) => ({ kind: 'input', index: read.indexOf(index), dtype })) }));
  return { ...joining, parts, operands: read.map((index) => joining.operands[index]!) };
}

const longAxes = (dims: Dims): number[] => dims.flatMap((dim, axis) => (dim === 1 ? [] : [axis]));

/** Whether views between these dims move axes of one element alone. */
function isSameButOnes(a: Dims, b: Dims): boolean {
  return sameDims(longAxes(a).map((axis) => a[axis]!), longAxes(b).map((axis) => b[axis]!));
}

/** The concatenation as it is under a view of other dims that is the same but for axes of one element. */
function viewed(joining: Joining, dims: Dims, edit: GraphEditor): Joining | undefined {
  const [from, to] = [longAxes(joining.dims), longAxes(dims)];
  const axis = to[from.indexOf(joining.axis)];
  if (axis === undefined) return undefined;
  const operands = joining.operands.map(({ id }) => {
    const own = edit.type(id).dims;
    const missing = joining.dims.length - own.length;
    const moved = dims.map((_, a) => own[(from[to.indexOf(a)] ?? -1) - missing] ?? 1);
    const isSame = sameDims(moved.slice(Math.max(0, moved.length - own.length)), own) && elementCount(own) === elementCount(moved);
    return isSame ? { id } : { id, dims: moved };
  });
  return { ...joining, axis, dims, operands };
}

/** The elementwise node that alone reads the output, behind views. */
function widerReader(output: ValueId, edit: GraphEditor): { readonly value: ValueId; readonly reader: AnyNode; readonly views: readonly AnyNode[] } | undefined {
  const views: AnyNode[] = [];
  let value = output;
  for (let reader = edit.onlyConsumer(value); reader; reader = edit.onlyConsumer(value)) {
    const [result] = reader.outputs as [ValueId];
    if (!VIEWS.has(reader.op) || !isSameButOnes(edit.type(value).dims, edit.type(result).dims)) return { value, reader, views };
    views.push(reader);
    value = result;
  }
  return undefined;
}

/** Output `at` computed for every element of the wider expression that reads it. */
function widened(node: Joined, at: number, edit: GraphEditor): Joining | undefined {
  const found = widerReader(node.outputs[at]!, edit);
  const read = found && computedBy(found.reader, edit);
  if (!found || !read?.inputs.includes(found.value)) return undefined;
  const { value, reader, views } = found;
  const { dims } = edit.type(reader.outputs[0]!);
  const own = new Set(node.outputs);
  if (elementCount(dims) > MAX_ELEMENTS || read.inputs.some((id) => id !== value && dependsOn(id, own, edit))) return undefined;
  const joining = viewed(trimmed(plain(node, at, edit)), edit.type(value).dims, edit);
  if (!joining) return undefined;
  const axis = joining.axis + dims.length - joining.dims.length;
  if (dims[axis] !== joining.dims[joining.axis]) return undefined;
  const operands = new Operands(joining.operands);
  const parts = joining.parts.map((part) => {
    const expr = replaceInputs(read.expr, (index, dtype) => {
      const id = read.inputs[index]!;
      return id === value ? part.expr : { kind: 'input', index: operands.number(operandAt(id, part, axis - dims.length, edit)), dtype };
    });
    return { ...part, expr };
  });
  return { axis, dims, parts, operands: operands.list, root: reader, nodes: [node, ...views, reader] };
}

/** An elementwise node as one part. */
function alone(node: AnyNode, edit: GraphEditor): Joining | undefined {
  const own = computedBy(node, edit);
  const { dims } = edit.type(node.outputs[0]!);
  if (!own || dims.length === 0) return undefined;
  const axis = dims.length - 1;
  return { axis, dims, parts: [{ start: 0, step: 1, extent: dims[axis]!, expr: own.expr }], operands: own.inputs.map((id) => ({ id })), root: node, nodes: [node] };
}

/** Makers of tensors that lie as ONNX says: whatever a Slice or Split takes of them is a window, and no tensor of its own. */
const LINEAR: ReadonlySet<OpKind> = new Set<OpKind>(['FusedMatMul', 'Gather', 'Gemm', 'MatMul', 'WeightOnlyMatMul']);
const PARTS: ReadonlySet<OpKind> = new Set<OpKind>([...VIEWS, 'Slice', 'Split']);

/** The tensor in which a value lies, by its name. */
function tensorOf(id: ValueId, edit: GraphEditor): ValueId {
  let root = id;
  let maker = edit.producer(root);
  for (; maker && PARTS.has(maker.op); maker = edit.producer(root)) root = maker.inputs[0]!;
  return !maker || LINEAR.has(maker.op) ? root : id;
}

/** Whether every part has a kernel on any device, should it have to stand alone. */
function fits(joining: Joining, edit: GraphEditor): boolean {
  const tensors = joining.operands.map(({ id }) => tensorOf(id, edit));
  const runs = runsOf(joining.parts).map((run) => new Set(run.flatMap(({ expr }) => [...inputsOf(expr)].map((index) => tensors[index]))));
  return runs.every(({ size }) => size <= MAX_INPUTS) && isSayable(joining, edit);
}

/** Puts these in the place of a node's outputs, and of those nodes whose work they do. */
function become(node: Joined, values: readonly Joining[], edit: GraphEditor): void {
  const outputs = new Outputs();
  for (const value of values) outputs.add(value);
  const inputs = outputs.inputs(edit);
  for (const { root } of values) if (root !== node) edit.setOutputs(root, []);
  const whole = edit.replaceNode(node, { op: 'FusedConcat', inputs, attrs: { joined: outputs.joined }, origins: unionOrigins(...values.flatMap(({ nodes }) => nodes)) });
  edit.setOutputs(whole, values.map(({ root }, i) => (root === node ? node.outputs[i]! : root.outputs[0]!)));
}

// where(c, reshape(joined(…)), past) = joined(where(c, …, past))
function widen(node: AnyNode, edit: GraphEditor): boolean {
  if (node.op !== 'FusedConcat') return false;
  const wide = node.outputs.map((_, at) => widened(node, at, edit));
  const at = wide.findIndex((joining) => joining && fits(joining, edit));
  if (at < 0) return false;
  become(node, node.outputs.map((_, other) => (other === at ? wide[at]! : trimmed(plain(node, other, edit)))), edit);
  return true;
}

/** Whether neither is computed from the other. */
function areApart(node: Joined, other: AnyNode, edit: GraphEditor): boolean {
  const depend = (of: AnyNode, on: AnyNode): boolean => {
    const outputs = new Set(on.outputs);
    return of.inputs.some((id) => id !== '' && dependsOn(id, outputs, edit));
  };
  return !depend(node, other) && !depend(other, node);
}

// joined(f(c, x)), g(c, y) = joined(f(c, x), g(c, y))
function join(node: AnyNode, edit: GraphEditor): boolean {
  if (node.op !== 'FusedConcat') return false;
  const shared = node.inputs.filter((id) => edit.constant(id) === undefined);
  const siblings = new Set(shared.flatMap((id) => edit.consumers(id)));
  for (const sibling of siblings) {
    if (sibling.outputs.length !== 1 || sibling.op === 'FusedConcat') continue;
    const { dtype, dims } = edit.type(sibling.outputs[0]!);
    const joining = FLOATS.has(dtype) && elementCount(dims) <= MAX_ELEMENTS ? alone(sibling, edit) : undefined;
    if (!joining || !fits(joining, edit) || !areApart(node, sibling, edit)) continue;
    become(node, [...node.outputs.map((_, at) => trimmed(plain(node, at, edit))), joining], edit);
    return true;
  }
  return false;
}

/** A comparison with numbers, over the tensor that it compares. */
function comparison(id: ValueId, edit: GraphEditor): ReturnType<typeof computedBy> {
  if (edit.type(id).dtype !== 'bool') return undefined;
  const own = computedBy(edit.producer(id), edit);
  return own?.inputs.length === 1 && sameDims(edit.type(own.inputs[0]!).dims, edit.type(id).dims) ? own : undefined;
}

// f(x < n, …) = f′(x, …): flags lie in words, as what they are of
function compare(node: AnyNode, edit: GraphEditor): boolean {
  if (node.op !== 'FusedElementwise' || !node.inputs.some((id) => comparison(id, edit))) return false;
  const operands = new Operands();
  const exprs = node.attrs.exprs.map((expr) => replaceInputs(expr, (index, dtype) => {
    const id = node.inputs[index]!;
    const own = comparison(id, edit);
    return own ? operands.renumbered(own.expr, own.inputs) : { kind: 'input', index: operands.number({ id }), dtype };
  }));
  if (exprs.some((expr) => exprSize(expr) > MAX_EXPR_SIZE)) return false;
  const origins = unionOrigins(...node.inputs.flatMap((id) => (comparison(id, edit) ? [edit.producer(id)!] : [])), node);
  edit.replaceNode(node, { op: 'FusedElementwise', inputs: operands.list.map(({ id }) => id), attrs: { exprs }, origins });
  return true;
}

export const fuseCacheWrites: Pass = {
  name: 'fuse-cache-writes',
  summary: 'joined expressions computed where a wider one reads them, with those that read the same: keys and values on their way into a cache',
  targets: ['webgpu'],
  needs: 'windows',
  run(graph) {
    const compared = applyRules(graph, [{ name: 'comparison', ops: ['FusedElementwise'], rewrite: compare }]);
    const joined = applyRules(compared.graph, [
      { name: 'wider-reader', ops: ['FusedConcat'], rewrite: widen },
      { name: 'sibling', ops: ['FusedConcat'], rewrite: join },
    ]);
    return { graph: joined.graph, rewrites: { ...compared.rewrites, ...joined.rewrites } };
  },
};
