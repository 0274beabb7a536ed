/**
 * Another batch than the one that a model fixes: batched(x)[i] = model(x[i]).
 *
 * The model is imported at its own batch first, which tells for every value which axis is the batch: the one that follows.
 * Exporters spell the batch out where they could leave it open: in Reshape targets (`view(1, 85, -1)`), which follow where the
 * batch lies in the operand, and in parameters that are joined to every sample (a class token [1, 1, 192]), which are repeated.
 * Whatever else depends on the old batch shows as shapes that don't fit, as a value that holds too little for all samples, as an output that did
 * not follow, or by what a node does along the batch (samples-apart.ts), and is refused: a wrong answer would be worse.
 */
import type { AnyNode, ValueId } from '../ir/graph.ts';
import { elementCount, formatType, sameDims, type Tensor, type TensorType } from '../ir/tensor.ts';
import { readsOf } from './branches.ts';
import { quote, unsupported } from './invalid.ts';
import type { OnnxNode } from './model.ts';
import { mixingNode } from './samples-apart.ts';
import { int64, type Scope, type ScopeState, type SourceNode } from './scope.ts';
import { intsAttribute } from './upgrade/rule.ts';

export interface Rebatch {
  readonly from: number;
  readonly to: number;
  /** Types of the model's values at its own batch, and those that are known at build. */
  readonly ownTypes: ReadonlyMap<ValueId, TensorType>;
  readonly ownConstants: ReadonlyMap<ValueId, Tensor>;
  /** Values computed from the elements of the inputs, not from their shapes alone. */
  readonly dependent: Set<ValueId>;
}

/** Ops that look at a shape and not at the elements. */
const SHAPE_OPS: ReadonlySet<string> = new Set(['Shape', 'Size']);

/** Values that `nodes`, in topological order, compute from the elements of these inputs. */
export function dependentValues(inputs: Iterable<ValueId>, nodes: readonly OnnxNode[]): Set<ValueId> {
  const dependent = new Set(inputs);
  for (const node of nodes) {
    if (SHAPE_OPS.has(node.opType) || !readsOf(node).some((input) => dependent.has(input))) continue;
    for (const output of node.outputs) if (output !== '') dependent.add(output);
  }
  return dependent;
}

const wayOut = (from: number): string => `use batch ${from}, or export the model with a dynamic batch axis`;

/** The node with what it spells out of the old batch put right. */
export function rebatchNode(node: SourceNode, scope: Scope, rebatch: Rebatch | undefined): SourceNode {
  switch (rebatch && node.opType) {
    case 'Reshape':
    case 'Flatten':
      return rebatchReshape(node, scope, rebatch!);
    case 'Concat':
      return rebatchConcat(node, scope, rebatch!);
    case 'Resize':
      return rebatchResize(node, scope, rebatch!);
    case undefined:
      return node;
    default:
      return repeatParameters(node, scope, rebatch!);
  }
}

/**
 * A target that spells the old batch out, alone or as a factor (batch × heads), follows at the place in memory where the operand
 * has the batch. Where the batch would end inside of another factor (heads × batch) it could not be found again: that is refused.
 */
function rebatchReshape(node: SourceNode, scope: Scope, { from, to, ownTypes }: Rebatch): SourceNode {
  const [data, shape] = node.inputs;
  const own = data === undefined ? undefined : ownTypes.get(data)?.dims;
  const result = ownTypes.get(node.outputs[0]!)?.dims;
  // Before opset 5, an attribute.
  const spelled = node.opset < 5 ? intsAttribute(node, 'shape') : undefined;
  const target = spelled ?? (shape === undefined ? undefined : scope.known(shape));
  if (!data || !own || !result) return node;
  const now = scope.type(data).dims;
  const batch = own.findIndex((dim, axis) => dim * to === now[axis]! * from && dim !== now[axis]);
  if (batch < 0) return node;
  const before = elementCount(own.slice(0, batch));
  const fits = (dim: number, axis: number): boolean => dim % from === 0 && elementCount(result.slice(0, axis)) === before;
  const place = node.opType === 'Flatten' ? flattenedPlace(node, batch, own.length) : result.findIndex(fits);
  if (place < 0 || place >= result.length || !fits(result[place]!, place)) {
    throw unsupported(`the model is fixed at batch ${from}: the result of ${node.opType} ${quote(node.name)} does not keep the samples apart`, 'batch', wayOut(from));
  }
  if (target?.length !== result.length || target[place] !== result[place]) return node;
  const followed = target.with(place, (result[place]! / from) * to);
  if (spelled) return { ...node, attributes: new Map([...node.attributes, ['shape', followed]]) };
  return { ...node, inputs: [data, scope.addConstant(int64(followed), ownName(node, scope))] };
}

/** A name that the import at the model's own batch gives to nothing: its other names are those of this one, by which values are compared. */
function ownName({ name }: SourceNode, scope: Scope): ValueId {
  let own = `${name} at another batch`;
  while (scope.has(own)) own += "'";
  return own;
}

/** The axis of a Flatten's result into which an axis of its operand goes. */
function flattenedPlace({ attributes }: SourceNode, axis: number, rank: number): number {
  const given = Number(attributes.get('axis') ?? 1);
  return axis < (given < 0 ? given + rank : given) ? 0 : 1;
}

/** Sizes of a Resize that spell out the batch which it leaves as it is. */
function rebatchResize(node: SourceNode, scope: Scope, { from, to, ownTypes }: Rebatch): SourceNode {
  const [data = '', sizes = ''] = [node.inputs[0], node.inputs[3]];
  const given = sizes === '' ? undefined : scope.known(sizes);
  const own = ownTypes.get(data)?.dims;
  if (!given || !own || node.attributes.has('axes') || given.length !== own.length || own[0] !== from || given[0] !== from || scope.type(data).dims[0] !== to) return node;
  return { ...node, inputs: node.inputs.with(3, scope.addConstant(int64(given.with(0, to)), ownName(node, scope))) };
}

/** Inputs of ops that do not broadcast which have an entry for each sample, and the axis of the samples in them. */
const PER_SAMPLE: ReadonlyMap<string, readonly (readonly [input: number, axis: number])[]> = new Map([
  ['GRU', [[4, 0], [5, 1]]],
  ['GridSample', [[1, 0]]],
  ['LSTM', [[4, 0], [5, 1], [6, 1]]],
  ['RNN', [[4, 0], [5, 1]]],
  ['ScatterElements', [[1, 0], [2, 0]]],
]);

/** What is the same for every sample (initial states, lengths, a grid) is repeated, once for each. */
function repeatParameters(node: SourceNode, scope: Scope, { from, to, ownTypes, dependent }: Rebatch): SourceNode {
  const places = PER_SAMPLE.get(node.opType);
  const [data = ''] = node.inputs;
  const batchAxis = Number(node.attributes.get('layout') ?? 0) === 1 || places?.[0]?.[0] === 1 ? 0 : 1;
  if (!places || from !== 1 || !dependent.has(data) || ownTypes.get(data)?.dims[batchAxis] !== 1 || scope.type(data).dims[batchAxis] !== to) return node;
  const inputs = node.inputs.map((id, index) => {
    const place = places.find(([input]) => input === index);
    if (!place || id === '' || dependent.has(id)) return id;
    const { dims } = scope.type(id);
    const axis = place[1] === 1 ? batchAxis : place[1];
    if (dims[axis] !== 1) return id;
    return scope.emit({ ...node, outputs: [] }, 'Expand', [id, scope.addConstant(int64(dims.with(axis, to)), ownName(node, scope))], {})[0]!;
  });
  return { ...node, inputs };
}

/** Joined along another axis, what is the same for every sample is repeated, once for each. */
function rebatchConcat(node: SourceNode, scope: Scope, { from, to, ownTypes, dependent }: Rebatch): SourceNode {
  const types = node.inputs.map((id) => scope.type(id));
  const axis = node.attributes.get('axis');
  const follows = node.inputs.some((id, i) => dependent.has(id) && ownTypes.get(id)?.dims[0] === from && types[i]!.dims[0] === to);
  if (from !== 1 || !follows || axis === 0 || axis === -types[0]!.dims.length) return node;
  const inputs = node.inputs.map((id, i) => {
    if (dependent.has(id) || types[i]!.dims[0] !== 1) return id;
    const shape = scope.addConstant(int64(types[i]!.dims.with(0, to)), ownName(node, scope));
    return scope.emit({ ...node, outputs: [] }, 'Expand', [id, shape], {})[0]!;
  });
  return { ...node, inputs };
}

/**
 * Throws MODEL_UNSUPPORTED unless every output follows the batch in its leading axis, and nowhere else, every value computed from the inputs
 * holds as much per sample as before (one that does not mixes samples: a mean over the batch), and no node works along the batch.
 */
export function checkRebatched(outputs: readonly ValueId[], inputs: Iterable<ValueId>, scope: ScopeState, { from, to, ownTypes, ownConstants, dependent }: Rebatch): void {
  const refuse = (what: string, id: ValueId): never => {
    throw unsupported(
      `the model is fixed at batch ${from}: at ${to}, ${what} ${quote(id)} would be ${formatType(scope.type(id))}`,
      'outputs',
      wayOut(from),
    );
  };
  for (const output of outputs) {
    const own = ownTypes.get(output);
    if (own?.dims[0] !== from || !sameDims(scope.type(output).dims, [to, ...own.dims.slice(1)])) refuse('output', output);
  }
  const read = readBy(outputs, scope.nodes);
  for (const id of dependent) {
    const own = ownTypes.get(id);
    if (own && read.has(id) && scope.has(id) && !scope.constant(id) && elementCount(scope.type(id).dims) * from !== elementCount(own.dims) * to) refuse('the value', id);
  }
  const mixing = mixingNode({ inputs, nodes: scope.nodes.filter((node) => node.outputs.some((id) => read.has(id))), own: { types: ownTypes, constants: ownConstants }, now: scope });
  if (mixing) throw unsupported(`the model is fixed at batch ${from}: ${mixing.op} ${quote(mixing.name)} works along the batch, or with its size, and does not keep ${to} samples apart`, 'batch', wayOut(from));
}

/** What the outputs are computed from; nodes that nobody reads mix nothing. */
function readBy(outputs: readonly ValueId[], nodes: readonly AnyNode[]): ReadonlySet<ValueId> {
  const read = new Set(outputs);
  for (const node of nodes.toReversed()) if (node.outputs.some((id) => read.has(id))) for (const id of node.inputs) read.add(id);
  return read;
}
