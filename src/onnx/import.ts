/**
 * Import: a model and a choice of sizes to a Graph with static shapes, every node at the reference opset.
 *
 * One walk over the nodes in topological order: upgrade, infer, follow shape arithmetic. What the IR can't hold is
 * collected, so that a user sees all of it at once; what is wrong ends the import.
 */
import type { Graph, ValueId } from '../ir/graph.ts';
import { formatType, type Tensor, type TensorType } from '../ir/tensor.ts';
import { freshName } from '../ir/build.ts';
import { NotStaticError, ShapeError, UnsupportedError, type RawAttribute } from '../ops/def.ts';
import { bindInputs, isBindable, resolveType, type Binding, type BindOptions } from './bind.ts';
import type { RegisteredOp } from '../ir/custom.ts';
import { defineNode, findOp } from '../ops/custom.ts';
import { customAttributes, keptOpset, reasonFor, type CustomOps } from './custom.ts';
import { inlineFunctions } from './functions.ts';
import { inlineBranch, readsOf, type Inlined, type Names } from './branches.ts';
import { invalid, quote, unsupported } from './invalid.ts';
import { unroll, unrollScan } from './loops.ts';
import type { OnnxBranch, OnnxModel, OnnxNode, OnnxValue } from './model.ts';
import { nodePlace } from './order.ts';
import { withOwnOutputNames } from './output-names.ts';
import { checkRebatched, dependentValues, rebatchNode, type Rebatch } from './rebatch.ts';
import { createImportScope, type ScopeState, type SourceNode } from './scope.ts';
import { sequenceRule, type SequenceRule, type Sequences } from './sequences.ts';
import { ruleFor } from './upgrade.ts';
import type { TensorValue } from './value.ts';

export interface ImportOptions extends BindOptions {
  /** Ops that plugins know. */
  readonly customOps?: CustomOps | undefined;
  /** Inputs whose values are fixed at build: they become constants, so that shapes may depend on them. */
  readonly inputValues?: ReadonlyMap<string, Tensor> | undefined;
  /** What nodes give at these sizes, where the caller has computed it: they become constants. */
  readonly computed?: ReadonlyMap<ValueId, Tensor>;
}

/** Something of a model that the IR can't hold. */
export interface UnsupportedNode {
  readonly node: string;
  /** The op, with domain where it is not ONNX's own; `input` and `initializer` for those. */
  readonly op: string;
  readonly reason: string;
}

export type ImportResult =
  | { readonly ok: true; readonly graph: Graph }
  | { readonly ok: false; readonly unsupported: readonly UnsupportedNode[]; readonly held?: Held };

/** What could be held of a model that can't be in full. */
export interface Held {
  /** All that depends on nothing that is missing; its outputs are those of the model that it has. */
  readonly graph: Graph;
  /** Values that the nodes make which are not in the graph. */
  readonly left: ReadonlySet<ValueId>;
}

/** The walk's state. */
interface Importer {
  readonly model: OnnxModel;
  readonly options: ImportOptions;
  readonly binding: Binding;
  readonly rebatch: Rebatch | undefined;
  readonly scope: ScopeState;
  readonly sequences: Sequences;
  /** Names that are taken, and values that are read: both grow where a branch is inlined. */
  readonly names: Names;
  readonly used: Set<ValueId>;
  readonly unsupported: UnsupportedNode[];
  /** Values whose types an unsupported node left unknown. */
  readonly unknown: Set<ValueId>;
  /** Outputs of the file's nodes that are not held, or not in full. */
  readonly left: Set<ValueId>;
}

/**
 * The graph of a model, its open dimensions bound.
 *
 * Throws TsrtError MODEL_INVALID where the model contradicts itself, MODEL_UNSUPPORTED where the sizes asked for don't fit
 * it; gives the list of what the IR can't hold where the model itself is fine.
 */
export function importGraph(model: OnnxModel, options: ImportOptions = {}): ImportResult {
  const outputs = new Set(model.outputs.map(({ name }) => name));
  const nodes = nameNodes(withOwnOutputNames(inlineFunctions(model), outputs));
  const open = openInputs(model, options);
  const inputs = open.filter(isBindable);
  if (inputs.length < open.length) return { ok: false, unsupported: [...foreignInputs(open), ...foreignNodes(nodes, options)] };
  const binding = bindInputs(inputs, options);
  const { rebatched } = binding;
  const own = rebatched && importGraph(model, { ...options, rebatch: false, computed: new Map() });
  if (own && !own.ok) return { ok: false, unsupported: own.unsupported };
  const rebatch = rebatched && own ? { ...rebatched, ownTypes: own.graph.types, ownConstants: own.graph.constants, dependent: dependentValues(binding.inputs.keys(), nodes) } : undefined;
  const importer: Importer = { model, options, binding, rebatch, ...createScope(model, nodes), sequences: new Map(), unsupported: [], unknown: new Set(), left: new Set() };
  for (const [name, type] of binding.inputs) importer.scope.types.set(name, type);
  for (const [name, tensor] of options.inputValues ?? []) importer.scope.addConstant(tensor, name);
  for (const [name, value] of model.initializers) addInitializer(importer, name, value);
  for (const node of nodes) importNode(importer, node);
  if (importer.unsupported.length > 0) return { ok: false, unsupported: importer.unsupported, ...heldBy(importer) };
  if (rebatch) checkRebatched(model.outputs.map((output) => output.name), binding.inputs.keys(), importer.scope, rebatch);
  return { ok: true, graph: finish(importer) };
}

/** Every node with a name of its own; names that the model gives come first. */
function nameNodes(nodes: readonly OnnxNode[]): OnnxNode[] {
  const given = new Set(nodes.map((node) => node.name));
  const taken = new Set(given);
  return nodes.map((node, index) => {
    if (node.name !== '' && given.delete(node.name)) return node;
    return { ...node, name: freshName(taken, node.name || `${node.opType}_${index}`) };
  });
}

function createScope(model: OnnxModel, nodes: readonly OnnxNode[]): Pick<Importer, 'scope' | 'names' | 'used'> {
  const graphOutputs = new Set(model.outputs.map((output) => output.name));
  const used = new Set([...graphOutputs, ...nodes.flatMap(readsOf)]);
  const names = new Set([...used, ...model.initializers.keys(), ...model.inputs.map((input) => input.name)]);
  for (const node of nodes) for (const output of node.outputs) names.add(output);
  const nodeNames = new Set(nodes.map((node) => node.name));
  return { scope: createImportScope({ names, nodeNames, used, graphOutputs }), names: { values: names, nodes: nodeNames }, used };
}

function addInitializer({ scope, unsupported: list, unknown }: Importer, name: string, value: TensorValue): void {
  if (!scope.isUsed(name)) return;
  if (value.kind === 'tensor') {
    scope.addConstant(value.tensor, name);
    return;
  }
  unknown.add(name);
  const what = value.kind === 'strings' ? 'string' : value.dtype;
  list.push({ node: name, op: 'initializer', reason: `elements of type ${what} are not supported` });
}

/** Whether the caller has computed all that the node gives; then its outputs are constants. */
function isComputed({ scope, options }: Importer, { outputs }: OnnxNode): boolean {
  const { computed } = options;
  const real = outputs.filter((output) => output !== '');
  if (!computed || real.length === 0 || !real.every((output) => computed.has(output))) return false;
  for (const output of real) scope.addConstant(computed.get(output)!, output);
  return true;
}

/** The branch that an If takes, where that is known. */
function branchOf({ scope, unknown }: Importer, { branches, inputs: [condition] }: OnnxNode): OnnxBranch | undefined {
  if (!branches || !condition || unknown.has(condition)) return undefined;
  const [holds] = scope.known(condition) ?? [];
  if (holds === undefined) return undefined;
  return holds !== 0 ? branches.yes : branches.no;
}

/** An If of which a branch is not held in full is left as a whole: the file has no part of it. */
function importBranch(importer: Importer, node: OnnxNode, branch: OnnxBranch): void {
  if (importInlined(importer, inlineBranch(node, branch, importer.names))) return;
  for (const output of node.outputs) importer.left.add(output);
}

/** A Loop of which an iteration is not held in full is left as a whole, too. */
function importLoop(importer: Importer, node: OnnxNode, body: OnnxBranch): void {
  const { scope, names, unknown } = importer;
  if (readsOf(node).some((name) => unknown.has(name))) return leave(importer, node);
  const unrolled = node.opType === 'Scan' ? unrollScan : unroll;
  const held = unrolled(node, body, { names, known: scope.known, dims: (id) => scope.type(id).dims, addConstant: scope.addConstant, add: (inlined) => importInlined(importer, inlined) });
  if (!held) leave(importer, node);
}

/** Imports nodes that stand for another; whether all of them are held. */
function importInlined(importer: Importer, { nodes, initializers, outputs }: Inlined): boolean {
  for (const name of [...nodes.flatMap(readsOf), ...outputs]) importer.used.add(name);
  for (const name of dependentValues(importer.rebatch?.dependent ?? [], nodes)) importer.rebatch?.dependent.add(name);
  for (const [name, value] of initializers) addInitializer(importer, name, value);
  const before = importer.left.size;
  for (const inner of nodes) importNode(importer, inner);
  return importer.left.size === before;
}

function importNode(importer: Importer, node: OnnxNode): void {
  const { scope, binding, unknown } = importer;
  const rule = ruleFor(node);
  try {
    if (isComputed(importer, node)) return;
    const branch = branchOf(importer, node);
    if (branch) return importBranch(importer, node, branch);
    if (node.body) return importLoop(importer, node, node.body);
    const sequence = sequenceRule(node, importer.sequences);
    if (sequence) return importSequence(importer, node, sequence);
    if (!rule) {
      importCustom(importer, node);
      return;
    }
    if (node.inputs.some((input) => unknown.has(input))) return leave(importer, node);
    rule(rebatchNode(sourceNode(node), scope, importer.rebatch), scope);
    const missing = node.outputs.find((output) => output !== '' && scope.isUsed(output) && !scope.types.has(output));
    if (missing !== undefined) throw new UnsupportedError(`output ${quote(missing)} is not supported`);
  } catch (error) {
    if (error instanceof UnsupportedError && rule && node.domain === '' && keptOpset(node) !== undefined) {
      importCustom(importer, node, error.message);
    } else if (error instanceof NotStaticError || error instanceof UnsupportedError) {
      refuse(importer, node, error.message);
    } else if (error instanceof ShapeError) {
      throw binding.chosen
        ? unsupported(`the model does not fit the sizes asked for: ${error.message}`, nodePlace(node), 'ask for sizes that the model was made for, or export it with dynamic axes')
        : invalid(error.message, nodePlace(node));
    } else {
      throw error;
    }
  }
}

function importSequence(importer: Importer, node: OnnxNode, rule: SequenceRule): void {
  const { scope, sequences, names, model, unknown } = importer;
  if (node.inputs.some((input) => unknown.has(input))) return leave(importer, node);
  rule(sourceNode(node), { scope, sequences, values: names.values });
  const given = model.outputs.find(({ name }) => node.outputs.includes(name) && sequences.has(name));
  if (given) throw new UnsupportedError(`output ${quote(given.name)} is a sequence, not a tensor`);
}

/** A node that stays as it came: the vocabulary lacks its op, or its rule can't take it apart (`reason`). */
function importCustom(importer: Importer, node: OnnxNode, reason = reasonFor(node)): void {
  const { scope, options, model, binding, unknown } = importer;
  const registered = findOp(options.customOps ?? [], node);
  if (registered) return importRegistered(importer, node, registered);
  const opset = keptOpset(node);
  if (opset === undefined) return refuse(importer, node, reason);
  const attributes = customAttributes(node);
  const isKnown = !node.inputs.some((input) => unknown.has(input));
  const declared = (): (TensorType | undefined)[] => node.outputs.map((output) => (binding.overridden ? undefined : resolveType(model.valueInfo.get(output), binding.symbols)));
  const types = declared();
  if (!node.outputs.every((output, index) => output === '' || types[index] !== undefined)) return refuse(importer, node, reason);
  if (!isKnown) return leave(importer, node);
  const source = { ...node, attributes: new Map<string, RawAttribute>() };
  scope.emitTyped(source, 'Custom', { domain: node.domain, opType: node.opType, opset, attributes }, types as readonly TensorType[]);
}

/** A node whose op a plugin knows: its attributes and inputs are checked as those of the table's ops are. */
function importRegistered(importer: Importer, node: OnnxNode, registered: RegisteredOp): void {
  const { scope, unknown } = importer;
  if (node.inputs.some((input) => unknown.has(input))) return leave(importer, node);
  const attributes = customAttributes(node);
  const raw = new Map(attributes.map(({ name, value }): [string, RawAttribute] => [name, value]));
  const { definition, types } = defineNode(registered, raw, node.inputs.map((input) => (input === '' ? undefined : scope.type(input))));
  const { domain, opType, opset } = node;
  scope.emitTyped({ ...node, attributes: raw }, 'Custom', { domain, opType, opset, attributes, definition }, types);
}

function refuse(importer: Importer, node: OnnxNode, reason: string): void {
  importer.unsupported.push({ node: node.name, op: qualified(node), reason });
  leave(importer, node);
}

function leave({ unknown, left }: Importer, node: OnnxNode): void {
  for (const output of node.outputs) {
    if (output === '') continue;
    unknown.add(output);
    left.add(output);
  }
}

/** Calls of functions have no nodes of their own in the file: what is held of such a model can't be told apart there. */
function heldBy({ model, binding, scope, sequences, left }: Importer): { readonly held?: Held } {
  if (model.functions.length > 0 || scope.nodes.length === 0) return {};
  // Who reads a sequence in the file needs it from there, whatever became of it here.
  for (const node of model.nodes.toReversed()) {
    if (!node.outputs.some((name) => left.has(name))) continue;
    for (const name of readsOf(node)) if (sequences.has(name)) left.add(name);
  }
  const { types, constants, nodes } = scope;
  const outputs = model.outputs.map((output) => output.name).filter((name) => types.has(name) && !left.has(name));
  return { held: { graph: { name: model.name || 'graph', inputs: [...binding.inputs.keys()], outputs, types, constants, nodes: [...nodes] }, left } };
}

function qualified(node: OnnxNode): string {
  return node.domain === '' ? node.opType : `${node.domain}.${node.opType}`;
}

/** Attributes as the op table reads them. */
function sourceNode(node: OnnxNode): SourceNode {
  const attributes = new Map(customAttributes(node).map(({ name, value }): [string, RawAttribute] => [name, value]));
  return { ...node, attributes };
}

/** The inputs that stay inputs. */
function openInputs(model: OnnxModel, { inputValues }: ImportOptions): readonly OnnxValue[] {
  const fix = `The model's inputs are ${model.inputs.map((input) => quote(input.name)).join(', ')}`;
  for (const [name, tensor] of inputValues ?? []) {
    const input = model.inputs.find((candidate) => candidate.name === name);
    if (!input) throw unsupported(`a value is given for ${quote(name)}, which is not an input of the model`, 'inputValues', fix);
    if (input.type.kind !== 'tensor' || input.type.dtype !== tensor.dtype) {
      throw unsupported(`the value given for input ${quote(name)} is ${formatType(tensor)}, which the model does not take`, 'inputValues', fix);
    }
  }
  return inputValues ? model.inputs.filter((input) => !inputValues.has(input.name)) : model.inputs;
}

function foreignInputs(inputs: readonly OnnxValue[]): UnsupportedNode[] {
  return inputs
    .filter((input) => !isBindable(input))
    .map(({ name, type }) => ({ node: name, op: 'input', reason: `inputs of type ${type.kind === 'tensor' ? type.dtypeName : type.what} are not supported` }));
}

function foreignNodes(nodes: readonly OnnxNode[], options: ImportOptions): UnsupportedNode[] {
  return nodes
    .filter((node) => !ruleFor(node) && !findOp(options.customOps ?? [], node) && keptOpset(node) === undefined)
    .map((node) => ({ node: node.name, op: qualified(node), reason: reasonFor(node) }));
}

/** The graph, without constants that folding left unread. */
function finish({ model, binding, scope }: Importer): Graph {
  const outputs = model.outputs.map((output) => output.name);
  const read = new Set([...outputs, ...scope.nodes.flatMap((node) => node.inputs)]);
  const constants = new Map([...scope.constants].filter(([name]) => read.has(name)));
  const types = new Map([...scope.types].filter(([name]) => constants.has(name) || !scope.constants.has(name)));
  return { name: model.name || 'graph', inputs: [...binding.inputs.keys()], outputs, types, constants, nodes: [...scope.nodes] };
}
