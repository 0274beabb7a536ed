/**
 * verifyGraph: what every graph must satisfy, and which ops are legal at which stage.
 *
 * Run before and after every pass in tests, and behind a flag elsewhere. Prior art: tinygrad's spec.py, MLIR's verifiers.
 * A broken graph is a bug of ours, so problems are thrown as a plain Error, all of them at once.
 */
import type { AnyNode, Graph } from './graph.ts';
import { createScope, type OpRules, type ValueScope } from './infer.ts';
import type { OpKind } from './ops.ts';
import { formatType, sameDims, tensorBytes, type TensorType } from './tensor.ts';

/** `imported`: as the importer gives it. `onnx`: to be written as ONNX. `webgpu`: to be lowered to kernels. */
export type Stage = 'imported' | 'onnx' | 'webgpu';

/** Ops that only passes make. */
export const INTERNAL_OPS = ['FusedElementwise', 'FusedConcat', 'FusedConv', 'FusedShortcut', 'FusedMatMul', 'FusedAttention', 'QuantizedConv', 'QuantizedMatMul', 'QuantizedShortcut', 'WeightOnlyGather', 'WeightOnlyMatMul'] as const satisfies readonly OpKind[];

/** The legality table: the ops that a stage forbids. */
const FORBIDDEN: { readonly [S in Stage]: ReadonlySet<OpKind> } = {
  imported: new Set(INTERNAL_OPS),
  onnx: new Set(INTERNAL_OPS),
  webgpu: new Set(),
};

export interface VerifyOptions {
  /** Default `webgpu`, where every op is legal. */
  readonly stage?: Stage;
  /** Where given, arity and types are checked against the op table too. */
  readonly rules?: OpRules;
}

/** Throws an Error that lists everything wrong with the graph. */
export function verifyGraph(graph: Graph, options: VerifyOptions = {}): void {
  const problems = graphProblems(graph, options);
  if (problems.length > 0) throw new Error(`graph ${graph.name} is malformed:\n  ${problems.join('\n  ')}`);
}

/** Everything wrong with the graph, one sentence each. */
export function graphProblems(graph: Graph, { stage = 'webgpu', rules }: VerifyOptions = {}): string[] {
  const problems: string[] = [];
  const defined = new Set<string>();
  const define = (id: string, what: string): void => {
    if (defined.has(id)) problems.push(`${what} defines '${id}', which is defined already`);
    if (!graph.types.has(id)) problems.push(`${what} '${id}' has no type`);
    defined.add(id);
  };
  for (const id of graph.inputs) define(id, 'input');
  for (const id of graph.constants.keys()) define(id, 'constant');
  problems.push(...constantProblems(graph));

  const names = new Set<string>();
  const known = new Map<string, readonly number[]>();
  const scope = createScope(graph.types, graph.constants, known);
  for (const node of graph.nodes) {
    const label = `${node.op} '${node.name}'`;
    if (names.has(node.name)) problems.push(`${label} has the name of another node`);
    names.add(node.name);
    if (FORBIDDEN[stage].has(node.op)) problems.push(`${label} is not legal at stage ${stage}`);
    if (node.inputs.length > 0 && node.inputs.at(-1) === '') problems.push(`${label} ends in an absent input`);
    const missing = node.inputs.filter((id) => id && !defined.has(id));
    for (const id of missing) problems.push(`${label} reads '${id}', which nothing before it defines`);
    for (const id of node.outputs) if (id) define(id, label);
    if (rules && missing.length === 0) problems.push(...ruleProblems(graph, node, label, rules, scope, known));
  }
  for (const id of graph.outputs) if (!defined.has(id)) problems.push(`output '${id}' is not defined`);
  return problems;
}

function constantProblems(graph: Graph): string[] {
  const problems: string[] = [];
  for (const [id, tensor] of graph.constants) {
    if (tensor.data.byteLength !== tensorBytes(tensor)) {
      problems.push(`constant '${id}' is ${formatType(tensor)} but holds ${tensor.data.byteLength} bytes`);
    }
    const declared = graph.types.get(id);
    if (declared && !sameType(declared, tensor)) {
      problems.push(`constant '${id}' is ${formatType(tensor)} but declared ${formatType(declared)}`);
    }
  }
  return problems;
}

/** Arity, and types against inference. Records known values on the way, for the nodes that follow. */
function ruleProblems(
  graph: Graph,
  node: AnyNode,
  label: string,
  rules: OpRules,
  scope: ValueScope,
  known: Map<string, readonly number[]>,
): string[] {
  const problems: string[] = [];
  const { inputs, outputs } = rules.signature(node.op);
  if (node.inputs.length < inputs.min || node.inputs.length > inputs.max) {
    problems.push(`${label} has ${node.inputs.length} inputs, not ${inputs.min} to ${inputs.max}`);
  }
  if (node.outputs.length < outputs.min || node.outputs.length > outputs.max) {
    problems.push(`${label} has ${node.outputs.length} outputs, not ${outputs.min} to ${outputs.max}`);
  }
  // A custom op's types come from the model or from a plugin, not from the table.
  if (problems.length > 0 || node.op === 'Custom') return problems;
  let inferred;
  try {
    inferred = rules.infer(node, scope);
  } catch (error) {
    return [`${label}: ${(error as Error).message}`];
  }
  node.outputs.forEach((id, index) => {
    const declared = graph.types.get(id);
    const type = inferred.types[index];
    if (id && declared && type && !sameType(declared, type)) {
      problems.push(`${label} declares '${id}' ${formatType(declared)} but gives ${formatType(type)}`);
    }
    const value = inferred.known[index];
    if (id && value) known.set(id, value);
  });
  return problems;
}

/** Same element type and shape. */
export function sameType(a: TensorType, b: TensorType): boolean {
  return a.dtype === b.dtype && sameDims(a.dims, b.dims);
}
