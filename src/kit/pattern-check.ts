/**
 * Whether a subgraph that an op's pattern matches is the op: instances of the pattern, run in standard ops by onnxruntime, against the
 * op's reference with the attributes that the pattern read off them. An instance is the op's own decomposition where that matches, and
 * the pattern itself written out, with constants tried one after the other, those that it should refuse among them.
 */
import { freshName } from '../ir/build.ts';
import type { OpPattern, PatternExpr, RegisteredOp } from '../ir/custom.ts';
import type { Graph, ValueId } from '../ir/graph.ts';
import type { OpKind } from '../ir/ops.ts';
import { fromNumbers, toNumbers, type Tensor } from '../ir/tensor.ts';
import { exportGraph } from '../onnx/export.ts';
import { readAttributes } from '../ops/attributes.ts';
import { newGraphBuilder } from '../ops/builder.ts';
import { defineNode, writeCustomAttributes } from '../ops/custom.ts';
import { referenceValues } from '../ops/custom-reference.ts';
import { decomposes } from '../ops/custom-routes.ts';
import { ShapeError } from '../ops/def.ts';
import { customPatterns } from '../passes/custom-patterns.ts';
import { decompositionOf } from '../ops/decomposition.ts';
import type { Material } from './case.ts';
import { compareWith, describeFailure, larger, NO_ERROR, toleranceOf, type Worst } from './compare.ts';
import type { OpModel } from './model.ts';
import { Nonconforming } from './nonconforming.ts';

interface Instance {
  readonly graph: Graph;
  readonly feeds: Readonly<Record<ValueId, Tensor>>;
}

type Run = (model: Pick<OpModel, 'bytes' | 'feeds'>) => Promise<Readonly<Record<string, Tensor>>>;

/** Matches that are run of one pattern in one case, and instances among which they are looked for. */
const MOST_MATCHES = 6;
const MOST_INSTANCES = 300;

/** Throws ShapeError where no instance of any pattern could be made of the case. */
export async function checkPatterns(entry: RegisteredOp, material: Material, run: Run): Promise<Worst> {
  let worst = NO_ERROR;
  let matches = 0;
  for (const pattern of entry.op.patterns ?? []) {
    let found = 0;
    for (const instance of instancesOf(entry, pattern, material)) {
      const node = await matchIn(entry, pattern, instance);
      if (!node) continue;
      worst = larger(worst, await compare(entry, pattern, instance, node, run));
      matches++;
      if (++found === MOST_MATCHES) break;
    }
  }
  if (matches === 0) throw new ShapeError('the kit finds no subgraph that the pattern matches');
  return worst;
}

function* instancesOf(entry: RegisteredOp, pattern: OpPattern, material: Material): Generator<Instance> {
  const decomposed = decomposes(entry.op) ? decomposition(entry, material) : undefined;
  if (decomposed) yield decomposed;
  let count = 0;
  for (const constants of choices(namesOf(pattern.match), candidates(material))) {
    if (count++ === MOST_INSTANCES) return;
    const written = writeOut(pattern, material, constants);
    if (!written) return;
    yield written;
  }
}

function decomposition(entry: RegisteredOp, { attrs, inputs }: Material): Instance {
  const raw = new Map(writeCustomAttributes(entry.op, attrs).map(({ name, value }) => [name, value]));
  const { definition, types } = defineNode(entry, raw, inputs);
  const { graph } = decompositionOf(definition, inputs.map((tensor) => tensor && { type: { dtype: tensor.dtype, dims: tensor.dims }, constant: undefined }), types);
  return { graph, feeds: Object.fromEntries(inputs.flatMap((tensor, index) => (tensor ? [[`in${index}`, tensor]] : []))) };
}

/** Numbers that a pattern's constants may stand for: the attributes, what is made of them, and a few that are neither. */
function candidates({ attrs }: Material): readonly number[] {
  const own = Object.values(attrs).flatMap((value): readonly number[] => (typeof value === 'number' ? [value] : Array.isArray(value) ? (value as readonly number[]) : []));
  const made = own.flatMap((value) => [value, 1 / value, -value, value * value, Math.sqrt(Math.abs(value)), value / 2]);
  return [...new Set([...made, 1, 2, 0.5, 3, -1].filter(Number.isFinite))];
}

/** Names of constants that the pattern binds. */
function namesOf(expr: PatternExpr): readonly string[] {
  const names = new Set<string>();
  const visit = (part: PatternExpr): void => {
    if (part.kind === 'scalar' || part.kind === 'constant') names.add(part.name);
    else if (part.kind === 'op') part.inputs.forEach(visit);
    else if (part.kind === 'either') part.options.forEach(visit);
  };
  visit(expr);
  return [...names];
}

/** Every way of giving each name a number. */
function* choices(names: readonly string[], numbers: readonly number[]): Generator<ReadonlyMap<string, number>> {
  const [first, ...rest] = names;
  if (first === undefined) {
    yield new Map();
    return;
  }
  for (const others of choices(rest, numbers)) for (const number of numbers) yield new Map([[first, number], ...others]);
}

/** The pattern as a graph; undefined where it needs more than default attributes and shapes of the op's inputs. */
function writeOut(pattern: OpPattern, { inputs }: Material, constants: ReadonlyMap<string, number>): Instance | undefined {
  const first = inputs.find((tensor) => tensor !== undefined);
  if (!first) return undefined;
  const builder = newGraphBuilder(pattern.name);
  const values = new Map<string, ValueId>();
  const feeds: Record<ValueId, Tensor> = {};
  const taken = new Set<string>();
  const bound = (name: string): ValueId => {
    const tensor = inputs[pattern.inputs.indexOf(name)] ?? first;
    const id = builder.input(freshName(taken, `${name}_in`), tensor);
    feeds[id] = tensor;
    return id;
  };
  const once = (name: string, make: () => ValueId): ValueId => {
    const id = values.get(name) ?? make();
    values.set(name, id);
    return id;
  };
  const write = (expr: PatternExpr): ValueId => {
    switch (expr.kind) {
      case 'value':
        return once(expr.name, () => bound(expr.name));
      case 'number':
        return builder.constant(fromNumbers(first.dtype, [], [expr.value]));
      case 'scalar':
      case 'constant':
        return once(expr.name, () => builder.constant(fromNumbers(first.dtype, [], [constants.get(expr.name)!])));
      case 'either':
        return write(expr.options[0]!);
      case 'op': {
        const kind = expr.op as OpKind;
        return builder.node(kind, expr.inputs.map(write), readAttributes(kind, new Map()));
      }
      default:
        return expr satisfies never;
    }
  };
  try {
    return { graph: builder.finish([write(pattern.match)]), feeds };
  } catch (error) {
    if (error instanceof ShapeError) return undefined;
    throw error;
  }
}

type Found = Extract<Graph['nodes'][number], { op: 'Custom' }>;

/** The op's node where the whole instance became one. */
async function matchIn(entry: RegisteredOp, pattern: OpPattern, { graph, feeds }: Instance): Promise<Found | undefined> {
  const only = { ...entry, op: { ...entry.op, patterns: [pattern] } };
  const { graph: rewritten } = await customPatterns.run(graph, { target: 'webgpu', fusion: 'on', fold: undefined, customOps: [only] });
  const node = rewritten.nodes.find((candidate): candidate is Found => candidate.op === 'Custom');
  const whole = node !== undefined && rewritten.outputs.length === 1 && node.outputs[0] === rewritten.outputs[0];
  return whole && node.inputs.every((id) => id === '' || id in feeds || rewritten.constants.has(id)) ? node : undefined;
}

async function compare({ op }: RegisteredOp, pattern: OpPattern, { graph, feeds }: Instance, node: Found, run: Run): Promise<Worst> {
  const definition = node.attrs.definition!;
  const output = graph.outputs[0]!;
  const type = graph.types.get(output)!;
  const outputs = await run({ bytes: exportGraph(graph), feeds });
  const [expected] = referenceValues(definition, node.inputs.map((id) => feeds[id] ?? graph.constants.get(id)), [type]) as [Float64Array];
  // What is asked is whether they are one function, not how the written-out form rounds.
  const { ulps = 0, absolute = 0, relative = 0 } = toleranceOf(op, type.dtype);
  const tolerance = { ulps: Math.max(ulps, 64), absolute: Math.max(absolute, 1e-5), relative: Math.max(relative, 1e-4) };
  const found = compareWith(outputs[output]!, expected, tolerance);
  if (found.failure) {
    const attributes = Object.entries(definition.attrs).map(([name, value]) => `${name} = ${JSON.stringify(value)}`).join(', ');
    const constants = [...graph.constants.values()].filter(({ dims }) => dims.length === 0).map((tensor) => Number(numberOf(tensor).toPrecision(6))).join(', ');
    throw new Nonconforming(describeFailure(`the pattern ${pattern.name} matches what is not the op${attributes && ` with ${attributes}`}${constants && ` (constants ${constants})`}: written out`, found.failure, tolerance));
  }
  return found;
}

function numberOf(tensor: Tensor): number {
  return [...toNumbers(tensor)][0] ?? Number.NaN;
}
