/**
 * Custom ops in standard ones: a node whose op has no native route on the target is replaced by what its plugin says it is.
 *
 * The subgraph is built with the op table's inference, checked against the types that the op inferred, and spliced in under the
 * node's name. Prior art: PyTorch's decompositions, ONNX's function bodies.
 */
import { freshName } from '../ir/build.ts';
import { opTitle, type CustomDefinition, type Decomposer } from '../ir/custom.ts';
import type { AnyNode, Graph, Node, ValueId } from '../ir/graph.ts';
import type { OpKind } from '../ir/ops.ts';
import { formatType, fromNumbers, type Tensor, type TensorType } from '../ir/tensor.ts';
import { sameType } from '../ir/verify.ts';
import { nearest } from '../nearest.ts';
import { readAttributes } from '../ops/attributes.ts';
import { newGraphBuilder } from '../ops/builder.ts';
import { inOp } from '../ops/custom.ts';
import { exprToNodes } from '../ops/custom-expr.ts';
import { decomposes, webgpuRoute } from '../ops/custom-routes.ts';
import type { RawAttribute } from '../ops/def.ts';
import { OPS } from '../ops/table.ts';
import type { Pass, PassResult, Target } from './pass.ts';

export const decomposeCustom: Pass = {
  name: 'decompose-custom',
  summary: 'custom ops without a kernel of their own, in standard ones',
  basic: true,
  run: (graph, { target }) => decomposeCustomNodes(graph, target),
};

/** The graph with every custom node decomposed that has no native route on the target. Throws what names the plugin. */
export function decomposeCustomNodes(graph: Graph, target: Target): PassResult {
  const chosen = graph.nodes.filter((node) => node.op === 'Custom' && mustDecompose(node, graph, target));
  if (chosen.length === 0) return { graph, rewrites: {} };
  const types = new Map(graph.types);
  const constants = new Map(graph.constants);
  const names = { nodes: new Set(graph.nodes.map(({ name }) => name)), values: new Set(types.keys()) };
  const rewrites: Record<string, number> = {};
  const nodes = graph.nodes.flatMap((node): AnyNode[] => {
    if (node.op !== 'Custom' || !chosen.includes(node)) return [node];
    const { definition } = node.attrs;
    const part = decompositionOf(definition!, node.inputs.map((id) => operandOf(id, graph)), node.outputs.map((id) => graph.types.get(id)));
    rewrites[opTitle(definition!.op)] = (rewrites[opTitle(definition!.op)] ?? 0) + 1;
    return splice(node, part, { types, constants, names });
  });
  return { graph: { ...graph, nodes, types, constants }, rewrites };
}

function mustDecompose(node: Node<'Custom'>, graph: Graph, target: Target): boolean {
  const { definition } = node.attrs;
  if (!definition || !decomposes(definition.op)) return false;
  return target === 'onnx' || webgpuRoute(definition, node.inputs.map((id) => graph.types.get(id))) === 'decomposed';
}

interface Operand {
  readonly type: TensorType;
  readonly constant: Tensor | undefined;
}

function operandOf(id: ValueId, graph: Graph): Operand | undefined {
  const type = graph.types.get(id);
  return type && { type, constant: graph.constants.get(id) };
}

/** A decomposition as a graph whose inputs are `in0`, `in1` … (constants among them as constants). */
export interface Decomposition {
  readonly graph: Graph;
  /** By input of the op; '' for an absent one. */
  readonly inputs: readonly ValueId[];
}

/** Builds and checks the decomposition of an op on these operands; `outputs` are the types that it inferred. */
export function decompositionOf(definition: CustomDefinition, operands: readonly (Operand | undefined)[], outputs: readonly (TensorType | undefined)[]): Decomposition {
  const { op, attrs } = definition;
  return inOp(definition, op.decompose ? 'decompose' : 'expression', () => {
    const builder = newGraphBuilder(opTitle(op));
    const inputs = operands.map((operand, index) => {
      if (!operand) return '';
      return operand.constant ? builder.constant(operand.constant, `in${index}`) : builder.input(`in${index}`, operand.type);
    });
    const padded = op.inputs.map((_, index) => inputs[index] ?? '');
    const graph = decomposer(builder, padded);
    const made = op.decompose ? op.decompose({ attrs, graph }) : fromExpression(definition, inputs, graph);
    const given: unknown = typeof made === 'string' ? [made] : made;
    if (!isNames(given)) throw new Error('it returns no value: return what graph.op gave for the output, or a list of these');
    if (given.length !== op.outputs.length) throw new Error(`it gives ${given.length} outputs, the op has ${op.outputs.length}`);
    // An output of its own for each: inputs, constants and values that are given twice pass through an Identity.
    const nodes = new Set<ValueId>();
    const results = given.map((id) => {
      const plain = id.startsWith('in') || nodes.has(id);
      const own = plain || builder.finish([id]).constants.has(id) ? graph.op('Identity', [id]) : id;
      nodes.add(own);
      return own;
    });
    for (const [index, id] of results.entries()) {
      const wanted = outputs[index];
      if (wanted && !sameType(builder.type(id), wanted)) {
        throw new Error(`output '${op.outputs[index]}' is ${formatType(builder.type(id))}, and infer says ${formatType(wanted)}`);
      }
    }
    return { graph: builder.finish(results), inputs };
  });
}

function isNames(given: unknown): given is readonly ValueId[] {
  return Array.isArray(given) && given.every((id) => typeof id === 'string');
}

function fromExpression({ op, attrs }: CustomDefinition, inputs: readonly ValueId[], graph: Decomposer): string {
  const present = inputs.filter((id) => id !== '');
  const operands = present.map((id, index) => ({ kind: 'input' as const, index, dtype: graph.type(id).dtype }));
  return exprToNodes(op.expression!({ attrs, inputs: operands }), present, graph);
}

function decomposer(builder: ReturnType<typeof newGraphBuilder>, inputs: readonly ValueId[]): Decomposer {
  const ops: Decomposer['ops'] = (kind, operands, outputs, attributes = {}) => {
    if (!isStandard(kind)) {
      const guess = nearest(kind, Object.keys(OPS));
      throw new Error(`'${kind}' is no standard op${guess === undefined ? '' : `; did you mean '${guess}'?`}`);
    }
    const foreign = operands.find((id) => id !== '' && !builder.has(id));
    if (foreign !== undefined) throw new Error(`${kind} reads '${foreign}', which is no value: take it from graph.inputs, or make it with graph.op or graph.constant`);
    checkArity(kind, operands);
    const raw = new Map<string, RawAttribute>(Object.entries(attributes));
    return builder.nodeOutputs(kind, operands, readAttributes(kind, raw), { outputs, name: kind });
  };
  return {
    inputs,
    type: (id) => builder.type(id),
    op: (kind, operands, attributes) => ops(kind, operands, 1, attributes)[0]!,
    ops,
    constant: (dtype, dims, values) => builder.constant(fromNumbers(dtype, dims, values)),
  };
}

/** An absent optional input that is passed on to an op that needs it is a mistake that most of inference does not see. */
function checkArity(kind: OpKind, operands: readonly ValueId[]): void {
  const { min, max } = OPS[kind].inputs;
  const count = operands.findLastIndex((id) => id !== '') + 1;
  const absent = operands.slice(0, min).indexOf('');
  if (absent >= 0) throw new Error(`${kind} needs its input ${absent}, which is absent here: '' stands for an optional input that the model leaves out`);
  if (count < min || count > max) throw new Error(`${kind} takes ${min === max ? min : `${min} to ${max}`} inputs, found ${count}`);
}

function isStandard(kind: string): kind is OpKind {
  return Object.hasOwn(OPS, kind) && ['', 'com.microsoft'].includes(OPS[kind as OpKind].domain);
}

interface Splicing {
  readonly types: Map<ValueId, TensorType>;
  readonly constants: Map<ValueId, Tensor>;
  readonly names: { readonly nodes: Set<string>; readonly values: Set<string> };
}

/** The part's nodes under names of their own, reading the node's inputs and giving its outputs. */
function splice(node: Node<'Custom'>, { graph, inputs }: Decomposition, { types, constants, names }: Splicing): AnyNode[] {
  const renamed = new Map<ValueId, ValueId>([['', '']]);
  for (const [index, id] of inputs.entries()) if (id !== '') renamed.set(id, node.inputs[index]!);
  for (const [index, id] of graph.outputs.entries()) if (node.outputs[index]) renamed.set(id, node.outputs[index]);
  const rename = (id: ValueId): ValueId => {
    const known = renamed.get(id);
    if (known !== undefined) return known;
    const name = freshName(names.values, `${node.name}/${id}`);
    renamed.set(id, name);
    types.set(name, graph.types.get(id)!);
    const constant = graph.constants.get(id);
    if (constant) constants.set(name, constant);
    return name;
  };
  const last = graph.nodes.at(-1);
  return graph.nodes.map((part) => ({
    ...part,
    name: part === last ? node.name : freshName(names.nodes, `${node.name}/${part.name}`),
    inputs: part.inputs.map(rename),
    outputs: part.outputs.map(rename),
    origins: node.origins,
  })) as AnyNode[];
}
