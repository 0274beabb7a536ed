/**
 * Model-local functions, inlined: each call becomes the nodes of its body, with names of their own
 * (https://github.com/onnx/onnx/blob/main/docs/IR.md, "Functions").
 */
import { changeInside, readsOf, renameNode } from './branches.ts';
import type { OnnxAttribute } from './value.ts';
import { invalid } from './invalid.ts';
import { functionKey, type OnnxFunction, type OnnxModel, type OnnxNode } from './model.ts';
import { nodePlace } from './order.ts';

/** A body may call further functions twice over, and so on: a small file can describe any number of nodes. */
const MAX_NODES = 100_000;

interface Inliner {
  readonly functions: ReadonlyMap<string, OnnxFunction>;
  readonly taken: Set<string>;
  /** How many nodes there are by now. */
  count: number;
}

/** The model's nodes with every call replaced, in graphs inside of nodes too. Throws MODEL_INVALID for functions that call themselves. */
export function inlineFunctions(model: OnnxModel): readonly OnnxNode[] {
  if (model.functions.length === 0) return model.nodes;
  const functions = new Map(model.functions.map((fn) => [functionKey(fn.domain, fn.name), fn]));
  const values = model.nodes.flatMap((node) => [...node.outputs, ...readsOf(node)]);
  const taken = new Set([...values, ...model.initializers.keys(), ...model.inputs.map((input) => input.name)]);
  const inliner: Inliner = { functions, taken, count: 0 };
  return model.nodes.flatMap((node) => expand(inliner, node, []));
}

function expand(inliner: Inliner, node: OnnxNode, callers: readonly string[]): readonly OnnxNode[] {
  const key = functionKey(node.domain, node.opType);
  const fn = inliner.functions.get(key);
  if (!fn) {
    if (++inliner.count > MAX_NODES) throw invalid(`the functions expand to more than ${MAX_NODES} nodes`, nodePlace(node));
    return [changeInside(node, (nodes) => nodes.flatMap((inner) => expand(inliner, inner, callers)))];
  }
  if (callers.includes(key)) throw invalid(`the function '${fn.name}' calls itself`, nodePlace(node));
  const prefix = node.name || fn.name;
  const names = new Map<string, string>([['', '']]);
  for (const [index, input] of fn.inputs.entries()) names.set(input, node.inputs[index] ?? '');
  const aliases: [string, string][] = [];
  for (const [index, output] of fn.outputs.entries()) {
    const target = node.outputs[index] ?? '';
    if (target === '') continue;
    if (names.has(output)) aliases.push([names.get(output)!, target]);
    else names.set(output, target);
  }
  const rename = (value: string): string => {
    const known = names.get(value);
    if (known !== undefined) return known;
    const fresh = freshValue(inliner.taken, `${prefix}/${value}`);
    names.set(value, fresh);
    return fresh;
  };
  const bind = (inner: OnnxNode): OnnxNode =>
    changeInside({ ...inner, attributes: bindAttributes(inner.attributes, node.attributes, fn.defaults) }, (nodes) => nodes.map(bind));
  const body = fn.nodes.map((inner) => ({ ...renameNode(bind(inner), rename), name: `${prefix}/${inner.name || inner.opType}` }));
  const passed = aliases.map(
    ([source, target]): OnnxNode => ({ name: `${prefix}/${target}`, opType: 'Identity', domain: '', opset: 22, inputs: [source], outputs: [target], attributes: new Map() }),
  );
  return [...body, ...passed].flatMap((inner) => expand(inliner, inner, [...callers, key]));
}

/** References replaced by the call's attribute, else the function's default; with neither the attribute is left out. */
function bindAttributes(
  attributes: ReadonlyMap<string, OnnxAttribute>,
  call: ReadonlyMap<string, OnnxAttribute>,
  defaults: ReadonlyMap<string, OnnxAttribute>,
): Map<string, OnnxAttribute> {
  const bound = new Map<string, OnnxAttribute>();
  for (const [name, attribute] of attributes) {
    const value = attribute.kind === 'reference' ? (call.get(attribute.name) ?? defaults.get(attribute.name)) : attribute;
    if (value) bound.set(name, value);
  }
  return bound;
}

function freshValue(taken: Set<string>, hint: string): string {
  let name = hint;
  for (let suffix = 1; taken.has(name); suffix++) name = `${hint}_${suffix}`;
  taken.add(name);
  return name;
}
