/**
 * Loop whose iterations are known at build, unrolled: its body once for each, one after the other. Exporters write such loops where a script
 * counts over a size (PyTorch's embedding bags, scripted modules).
 */
import { freshName } from '../ir/build.ts';
import type { ValueId } from '../ir/graph.ts';
import { fromNumbers, type Tensor } from '../ir/tensor.ts';
import { NotStaticError, UnsupportedError } from '../ops/def.ts';
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
    if ((iteration + 1) * Math.max(1, body.nodes.length) > MAX_NODES) throw new UnsupportedError(`unrolled, it would be more than ${MAX_NODES} nodes`);
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
  const results = [...carried.map((value) => [value]), ...gathered];
  const ends = node.outputs.flatMap((output, index) => (output === '' ? [] : resultNodes(node, output, results[index] ?? [], index >= start.length, importer.names)));
  return importer.add({ nodes: ends, initializers: new Map(), outputs: node.outputs });
}

function knownScalar(id: ValueId, importer: LoopImport): number {
  const [value] = importer.known(id) ?? [];
  if (value === undefined) throw new NotStaticError('how often it runs is not known at build');
  return value;
}

/** An output: what the last iteration carries, or what all of them gave, stacked. */
function resultNodes(loop: OnnxNode, output: string, values: readonly ValueId[], isGathered: boolean, names: Names): OnnxNode[] {
  const make = (opType: string, inputs: readonly ValueId[], outputs: readonly ValueId[], attributes: Readonly<Record<string, OnnxAttribute>> = {}): OnnxNode => {
    const name = freshName(names.nodes, `${loop.name}/${opType}`);
    return { name, opType, domain: '', opset: STACKING_OPSET, inputs, outputs, attributes: new Map(Object.entries(attributes)) };
  };
  if (!isGathered) return [make('Identity', values, [output])];
  if (values.length === 0) throw new UnsupportedError('it runs not once, so that what it gathers has no type');
  const rows = values.map((value) => make('Unsqueeze', [value], [freshName(names.values, `${value}/row`)], { axes: { kind: 'ints', value: [0] } }));
  return [...rows, make('Concat', rows.flatMap(({ outputs }) => outputs), [output], { axis: { kind: 'int', value: 0 } })];
}

/** Of the nodes that stack what iterations gave: axes are an attribute in it. */
const STACKING_OPSET = 11;
