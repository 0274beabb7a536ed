/**
 * Loop whose iterations are known at build, unrolled: its body once for each, one after the other. Exporters write such loops where a script
 * counts over a size (PyTorch's embedding bags, scripted modules). So is Scan, which runs over an axis, as recurrences are written.
 */
import { freshName } from '../ir/build.ts';
import type { ValueId } from '../ir/graph.ts';
import { type Dims, fromNumbers, type Tensor } from '../ir/tensor.ts';
import { NotStaticError, ShapeError, UnsupportedError } from '../ops/def.ts';
import { inlineBranch, type Inlined, type Names } from './branches.ts';
import type { OnnxBranch, OnnxNode } from './model.ts';
import { int64 } from './scope.ts';
import type { OnnxAttribute } from './value.ts';

/** Nodes that a loop may become: a file of a few lines can ask for any number. */
const MAX_NODES = 20_000;

/** The importer, as unrolling sees it. */
export interface LoopImport {
  readonly names: Names;
  /** Elements of a value where they are known at build. */
  known(id: ValueId): readonly number[] | undefined;
  /** Throws ShapeError where a value's type is not known. */
  dims(id: ValueId): Dims;
  addConstant(tensor: Tensor, name: ValueId): ValueId;
  /** Imports nodes; whether all of them are held. */
  add(inlined: Inlined): boolean;
}

/** Imports what a Loop computes; whether all of it is held. Throws NotStaticError where how often it runs is up to the data. */
export function unroll(node: OnnxNode, body: OnnxBranch, importer: LoopImport): boolean {
  const [limit = '', condition = '', ...start] = node.inputs;
  const most = limit === '' ? Number.POSITIVE_INFINITY : knownScalar(limit, importer);
  const gathered: ValueId[][] = body.outputs.slice(1 + start.length).map(() => []);
  let carried: readonly ValueId[] = start;
  const constant = (tensor: Tensor, name: string): ValueId => importer.addConstant(tensor, freshName(importer.names.values, name));
  const yes = constant(fromNumbers('bool', [], [1]), `${node.name}/goes_on`);
  let goesOn = condition === '' || knownScalar(condition, importer) !== 0;
  for (let iteration = 0; goesOn && iteration < most; iteration++) {
    // A body without nodes counts as one: it may go on for ever.
    checkCount((iteration + 1) * Math.max(1, body.nodes.length));
    const name = `${node.name}/${iteration}`;
    const given = [constant(int64([iteration], []), `${name}/iteration`), yes, ...carried];
    const values = new Map(body.inputs.map((input, index): [string, ValueId] => [input, given[index] ?? '']));
    const inlined = inlineBranch({ ...node, name, outputs: [] }, body, importer.names, values);
    if (!importer.add(inlined)) return false;
    const [next = '', ...results] = inlined.outputs;
    goesOn = iteration + 1 >= most || knownScalar(next, importer) !== 0;
    carried = results.slice(0, start.length);
    for (const [index, list] of gathered.entries()) list.push(results[start.length + index]!);
  }
  return addResults(node, carried, gathered.map((values) => ({ values, axis: 0 })), importer);
}

/** What an output of all iterations is made of, and the axis along which it lies. */
interface Gathered {
  readonly values: readonly ValueId[];
  readonly axis: number;
}

/**
 * Imports what a Scan computes (of opset 9 or later: before, it had a batch and lengths): its body once for each place along an axis of what it
 * runs over; whether all of it is held.
 */
export function unrollScan(node: OnnxNode, body: OnnxBranch, importer: LoopImport): boolean {
  if (node.opset < 9) throw new UnsupportedError('a Scan of opset 8, with lengths, is not supported');
  const scanned = numberOf(node, 'num_scan_inputs');
  if (scanned === undefined || scanned < 1 || scanned > node.inputs.length) throw new ShapeError(`attribute 'num_scan_inputs' must be from 1 to ${node.inputs.length}`);
  const states = node.inputs.length - scanned;
  const sources = node.inputs.slice(states).map((id, index) => scanSource(node, id, index, importer));
  const [{ length }] = sources as [ScanSource];
  if (sources.some((source) => source.length !== length)) throw new ShapeError(`it runs over axes of ${sources.map((source) => source.length).join(', ')} elements`);
  checkCount(length * Math.max(1, body.nodes.length + scanned));
  let carried: readonly ValueId[] = node.inputs.slice(0, states);
  const gathered: ValueId[][] = body.outputs.slice(states).map(() => []);
  for (let iteration = 0; iteration < length; iteration++) {
    const name = `${node.name}/${iteration}`;
    const slices = sources.map(({ id, axis, reverse }) => {
      const index = importer.addConstant(int64([reverse ? length - 1 - iteration : iteration], []), freshName(importer.names.values, `${name}/place`));
      return plainNode(node, 'Gather', [id, index], [freshName(importer.names.values, `${name}/slice`)], importer.names, { axis: { kind: 'int', value: axis } });
    });
    const given = [...carried, ...slices.flatMap(({ outputs }) => outputs)];
    const inlined = inlineBranch({ ...node, name, outputs: [] }, body, importer.names, new Map(body.inputs.map((input, index) => [input, given[index] ?? ''])));
    if (!importer.add({ ...inlined, nodes: [...slices, ...inlined.nodes] })) return false;
    carried = inlined.outputs.slice(0, states);
    for (const [index, list] of gathered.entries()) list.push(inlined.outputs[states + index]!);
  }
  const directions = numbersOf(node, 'scan_output_directions');
  const axes = numbersOf(node, 'scan_output_axes');
  return addResults(node, carried, gathered.map((values, index) => ({ values: directions[index] === 1 ? values.toReversed() : values, axis: axes[index] ?? 0 })), importer);
}

interface ScanSource {
  readonly id: ValueId;
  readonly axis: number;
  readonly length: number;
  readonly reverse: boolean;
}

function scanSource(node: OnnxNode, id: ValueId, index: number, importer: LoopImport): ScanSource {
  const dims = importer.dims(id);
  const axis = numbersOf(node, 'scan_input_axes')[index] ?? 0;
  const length = dims.at(axis);
  if (length === undefined || axis >= dims.length) throw new ShapeError(`axis ${axis} is out of range for [${dims.join(',')}]`);
  return { id, axis, length, reverse: numbersOf(node, 'scan_input_directions')[index] === 1 };
}

function numberOf(node: OnnxNode, name: string): number | undefined {
  const attribute = node.attributes.get(name);
  return attribute?.kind === 'int' ? attribute.value : undefined;
}

function numbersOf(node: OnnxNode, name: string): readonly number[] {
  const attribute = node.attributes.get(name);
  return attribute?.kind === 'ints' ? attribute.value : [];
}

function checkCount(nodes: number): void {
  if (nodes > MAX_NODES) throw new UnsupportedError(`unrolled, it would be more than ${MAX_NODES} nodes`);
}

function addResults(node: OnnxNode, carried: readonly ValueId[], gathered: readonly Gathered[], importer: LoopImport): boolean {
  const results: readonly (readonly ValueId[] | Gathered)[] = [...carried.map((value) => [value]), ...gathered];
  const ends = node.outputs.flatMap((output, index) => (output === '' ? [] : resultNodes(node, output, results[index] ?? [], importer.names)));
  return importer.add({ nodes: ends, initializers: new Map(), outputs: node.outputs });
}

function knownScalar(id: ValueId, importer: LoopImport): number {
  const [value] = importer.known(id) ?? [];
  if (value === undefined) throw new NotStaticError('how often it runs is not known at build');
  return value;
}

function plainNode(loop: OnnxNode, opType: string, inputs: readonly ValueId[], outputs: readonly ValueId[], names: Names, attributes: Readonly<Record<string, OnnxAttribute>> = {}): OnnxNode {
  const name = freshName(names.nodes, `${loop.name}/${opType}`);
  return { name, opType, domain: '', opset: STACKING_OPSET, inputs, outputs, attributes: new Map(Object.entries(attributes)) };
}

/** An output: what the last iteration carries, or what all of them gave, stacked. */
function resultNodes(loop: OnnxNode, output: string, result: readonly ValueId[] | Gathered, names: Names): OnnxNode[] {
  if (!('axis' in result)) return [plainNode(loop, 'Identity', result, [output], names)];
  const { values, axis } = result;
  if (values.length === 0) throw new UnsupportedError('it never runs, so what it gathers has no type');
  const rows = values.map((value) => plainNode(loop, 'Unsqueeze', [value], [freshName(names.values, `${value}/row`)], names, { axes: { kind: 'ints', value: [axis] } }));
  return [...rows, plainNode(loop, 'Concat', rows.flatMap(({ outputs }) => outputs), [output], names, { axis: { kind: 'int', value: axis } })];
}

/** Of the nodes that stack what iterations gave: axes are an attribute in it. */
const STACKING_OPSET = 11;
