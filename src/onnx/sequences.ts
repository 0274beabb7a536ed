/**
 * Sequences whose length is known at build: lists of values, so that their ops become ops on the elements. Exporters write them where
 * a script splits or gathers tensors in lists (PyTorch's `chunk` of an open axis).
 */
import { freshName } from '../ir/build.ts';
import type { ValueId } from '../ir/graph.ts';
import { NotStaticError, ShapeError, UnsupportedError } from '../ops/def.ts';
import { int64, type Scope, type SourceNode } from './scope.ts';
import { inputOf, int64Input, normalizeAxis, numberAttribute } from './upgrade/rule.ts';

/** The elements of every sequence so far. */
export type Sequences = Map<ValueId, readonly ValueId[]>;

export interface SequenceScope {
  readonly scope: Scope;
  readonly sequences: Sequences;
  /** Names of values that are taken. */
  readonly values: Set<string>;
}

export type SequenceRule = (node: SourceNode, state: SequenceScope) => void;

/** What the node means where it makes or reads a sequence; undefined for any other. */
export function sequenceRule({ domain, opType, inputs: [first = ''] }: Pick<SourceNode, 'domain' | 'opType' | 'inputs'>, sequences: Sequences): SequenceRule | undefined {
  if (domain !== '') return undefined;
  return opType === 'Identity' && sequences.has(first) ? passOn : RULES.get(opType);
}

const passOn: SequenceRule = (node, state) => give(node, state, elementsOf(node, state));

function give({ outputs: [output] }: SourceNode, { sequences }: SequenceScope, elements: readonly ValueId[]): void {
  if (output) sequences.set(output, elements);
}

/** A sequence that is not known came from a caller, or from a node that is refused. */
function elementsOf(node: SourceNode, { sequences }: SequenceScope): readonly ValueId[] {
  const elements = sequences.get(inputOf(node, 0));
  if (!elements) throw new UnsupportedError('a sequence of which nothing is known at build');
  return elements;
}

/** The place that input `index` names, counted from the front: the end, where it is left out. */
function placeOf(node: SourceNode, index: number, length: number, end: number, { scope }: SequenceScope): number {
  const id = node.inputs[index];
  if (end < 0) throw new ShapeError('an empty sequence has no element');
  if (!id) return end;
  const [place] = scope.known(id) ?? [];
  if (place === undefined) throw new NotStaticError('its place in the sequence is not known at build');
  const counted = place < 0 ? place + length : place;
  if (counted < 0 || counted > end) throw new ShapeError(`place ${place} in a sequence of ${length}`);
  return counted;
}

/** Sizes along the axis that is split: those given, or parts of one size and what is left. */
function partSizes(node: SourceNode, extent: number, { scope }: SequenceScope): readonly number[] {
  const id = node.inputs[1];
  const given = id ? scope.known(id) : [1];
  if (!given) throw new NotStaticError('the sizes of its parts are not known at build');
  if (id && scope.type(id).dims.length > 0) return given;
  const size = given[0]!;
  if (size < 1) throw new ShapeError(`parts of ${size}`);
  return Array.from({ length: Math.ceil(extent / size) }, (_, part) => Math.min(size, extent - part * size));
}

const splitToSequence: SequenceRule = (node, state) => {
  const { scope, values } = state;
  const data = inputOf(node, 0);
  const { dims } = scope.type(data);
  const axis = normalizeAxis(numberAttribute(node, 'axis', 0), dims.length);
  const sizes = partSizes(node, dims[axis] ?? 0, state);
  const parts = sizes.map((_, part) => freshName(values, `${node.outputs[0]}/${part}`));
  if (parts.length > 0) scope.emit(node, 'Split', [data, int64Input(scope, sizes)], { axis }, parts);
  // Sizes that are given keep the axis, whatever the attribute says.
  const drops = !node.inputs[1] && numberAttribute(node, 'keepdims', 1) === 0;
  give(node, state, drops ? parts.map((part) => scope.emit(node, 'Squeeze', [part, int64Input(scope, [axis])], {})[0]!) : parts);
};

const sequenceInsert: SequenceRule = (node, state) => {
  const elements = elementsOf(node, state);
  const tensor = inputOf(node, 1);
  give(node, state, elements.toSpliced(placeOf(node, 2, elements.length, elements.length, state), 0, tensor));
};

const sequenceErase: SequenceRule = (node, state) => {
  const elements = elementsOf(node, state);
  give(node, state, elements.toSpliced(placeOf(node, 1, elements.length, elements.length - 1, state), 1));
};

const sequenceAt: SequenceRule = (node, state) => {
  const elements = elementsOf(node, state);
  inputOf(node, 1);
  state.scope.emit(node, 'Identity', [elements[placeOf(node, 1, elements.length, elements.length - 1, state)]!], {}, node.outputs);
};

const sequenceLength: SequenceRule = (node, state) => {
  const length = state.scope.addConstant(int64([elementsOf(node, state).length], []));
  state.scope.emit(node, 'Identity', [length], {}, node.outputs);
};

const concatFromSequence: SequenceRule = (node, state) => {
  const { scope } = state;
  const elements = elementsOf(node, state);
  if (elements.length === 0) throw new UnsupportedError('a sequence of no elements has no type to join');
  const isStack = numberAttribute(node, 'new_axis', 0) === 1;
  const rank = scope.type(elements[0]!).dims.length + (isStack ? 1 : 0);
  const axis = normalizeAxis(numberAttribute(node, 'axis'), rank);
  const parts = isStack ? elements.map((id) => scope.emit(node, 'Unsqueeze', [id, int64Input(scope, [axis])], {})[0]!) : elements;
  scope.emit(node, 'Concat', parts, { axis }, node.outputs);
};

const RULES: ReadonlyMap<string, SequenceRule> = new Map<string, SequenceRule>([
  ['SplitToSequence', splitToSequence],
  ['SequenceEmpty', (node, state) => give(node, state, [])],
  ['SequenceConstruct', (node, state) => give(node, state, node.inputs)],
  ['SequenceInsert', sequenceInsert],
  ['SequenceErase', sequenceErase],
  ['SequenceAt', sequenceAt],
  ['SequenceLength', sequenceLength],
  ['ConcatFromSequence', concatFromSequence],
]);
