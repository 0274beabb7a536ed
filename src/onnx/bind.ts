/**
 * Binding of a model's open dimensions: from declared inputs, with symbols, to static types.
 *
 * Rules, strongest first: a shape given for the input; a size given for the symbol; the batch for the batch symbol and for
 * unnamed leading dimensions; what the sizes of others make of a symbol that names them (`past + 1`). What stays open is an error that lists all of it.
 */
import { TsrtError } from '../errors.ts';
import { tensorBytes, type TensorType } from '../ir/tensor.ts';
import { shellWord } from '../text.ts';
import { namesIn, sizeOf } from './dim-expression.ts';
import { invalid, quote, unsupported } from './invalid.ts';
import type { OnnxDim, OnnxModel, OnnxType, OnnxValue } from './model.ts';
import { MAX_ELEMENTS } from './tensor.ts';

export interface BindOptions {
  /** Size of the batch symbol; default 1. */
  readonly batch?: number | undefined;
  /** Sizes of symbols by name. */
  readonly dims?: Readonly<Record<string, number>> | undefined;
  /** Whole shapes of inputs by name; wins over the others. */
  readonly inputShapes?: Readonly<Record<string, readonly number[]>> | undefined;
  /** Where every input has the same fixed leading dimension: put `batch` in its place. */
  readonly rebatch?: boolean | undefined;
}

export interface Binding {
  /** Types of the inputs, in model order. */
  readonly inputs: ReadonlyMap<string, TensorType>;
  /** Size of every symbol that the inputs bind. */
  readonly symbols: ReadonlyMap<string, number>;
  /** Where a fixed batch was replaced. */
  readonly rebatched: { readonly from: number; readonly to: number } | undefined;
  /** Whether a size that the model fixes was replaced: what it declares of inner values no longer holds. */
  readonly overridden: boolean;
  /** Whether the caller chose more than the batch, and so may have chosen what the model can't do. */
  readonly chosen: boolean;
}

/** A tensor input of an element type that the IR holds; the importer reports all others before it binds. */
export interface BindableInput {
  readonly name: string;
  readonly type: Extract<OnnxType, { kind: 'tensor' }> & { readonly dtype: TensorType['dtype'] };
}

export function isBindable(value: OnnxValue): value is BindableInput {
  return value.type.kind === 'tensor' && value.type.dtype !== undefined;
}

/** Static types for the inputs. Throws MODEL_UNSUPPORTED for sizes that are missing or contradict the model. */
export function bindInputs(inputs: readonly BindableInput[], options: BindOptions): Binding {
  checkSizes(inputs, options);
  const batch = options.batch ?? 1;
  const said = options.rebatch ? batchSaid(inputs, options) : undefined;
  if (said !== undefined && said !== batch) {
    throw unsupported(`the batch is given as ${batch} and, by the size of a dimension, as ${said}`, 'inputs', 'give the batch alone (--batch, in a suite: `batches`), and sizes for the other dimensions');
  }
  const rebatched = options.rebatch ? replacedBatch(inputs, batch) : undefined;
  const symbols = bindSymbols(inputs, options, batch);
  for (const [expression, size] of derivedSizes(inputs, symbols)) symbols.set(expression, size);
  const open: OpenSize[] = [];
  const types = new Map<string, TensorType>();
  for (const { name, type } of inputs) {
    const given = own(options.inputShapes, name);
    const dims = given ?? type.dims;
    if (!dims) {
      open.push({ what: `input ${quote(name)} has no declared rank`, flags: [`--shape ${shellWord(name)}=1x…`] });
      continue;
    }
    const sizes = dims.map((dim, axis): number | undefined => {
      if (typeof dim !== 'number') return dim === '' ? (axis === 0 ? batch : undefined) : symbols.get(dim);
      return rebatched && !given && axis === 0 ? rebatched.to : dim;
    });
    for (const [axis, size] of sizes.entries()) if (size === undefined) open.push(openDimension(name, dims, axis, symbols));
    types.set(name, { dtype: type.dtype, dims: sizes.map((size) => size ?? 0) });
  }
  if (open.length > 0) {
    const flags = [...new Set(open.flatMap(({ flags: each }) => each))].join(' ');
    const fix = `give sizes: ${flags} (in a suite: \`dims\` and \`inputShapes\`)`;
    const [first, ...others] = open.map(({ what }) => what);
    if (others.length === 0) throw unsupported(first!, 'inputs', fix);
    throw unsupported(`${open.length} input dimensions have no size`, 'inputs', fix, [first!, ...others]);
  }
  for (const { name, type } of inputs) checkMagnitude(name, types.get(name)!, type.dims);
  const overridden = inputs.some(({ name, type }) => type.dims?.some((dim, axis) => typeof dim === 'number' && dim !== types.get(name)?.dims[axis]));
  const chosen = overridden || Object.keys({ ...options.dims, ...options.inputShapes }).length > 0;
  return { inputs: types, symbols, rebatched, overridden, chosen };
}

/** What is to be said of sizes for symbols that no input or output has: they change nothing, and may be slips. A suite's may be another model's. */
export function unusedDims({ inputs, outputs }: Pick<OnnxModel, 'inputs' | 'outputs'>, { dims = {} }: BindOptions): readonly string[] {
  const declared = [...inputs, ...outputs].flatMap(({ type }) => (type.kind === 'tensor' ? (type.dims ?? []) : []));
  const symbols = [...new Set(declared.flatMap((dim) => (typeof dim === 'string' && dim !== '' ? [dim] : [])))];
  const named = new Set(symbols.flatMap((symbol) => [symbol, ...namesIn(symbol)]));
  const unused = Object.keys(dims).filter((name) => !named.has(name));
  return unused.map((name) => `The model has no open dimension ${quote(name)} (it has ${symbols.map(quote).join(', ') || 'none'}): the size that was given for it changes nothing.`);
}

/** What is to be said of sizes that nobody gave: exporters name them for one use of a model (`past + 1` where one token is new), and another needs others. */
export function derivedDims({ inputs }: Pick<OnnxModel, 'inputs'>, options: BindOptions): readonly string[] {
  const bindable = inputs.filter(isBindable);
  const derived = derivedSizes(bindable, bindSymbols(bindable, options, options.batch ?? 1));
  return [...derived].map(([expression, size]) => `The dimension ${quote(expression)} is ${size}, as its name says; --dim ${shellWord(`${expression}=N`)} makes it another.`);
}

/** Sizes of symbols that are expressions of others, where none is given for them. */
function derivedSizes(inputs: readonly BindableInput[], symbols: ReadonlyMap<string, number>): ReadonlyMap<string, number> {
  const dims = inputs.flatMap(({ type }) => (type.dims ?? []).filter((dim): dim is string => typeof dim === 'string' && !symbols.has(dim)));
  return new Map(dims.flatMap((dim) => {
    const size = sizeOf(dim, (name) => symbols.get(name));
    return size === undefined ? [] : [[dim, size] as const];
  }));
}

/** The static form of a declared type, where every dimension is a size or a bound symbol. */
export function resolveType(type: OnnxType | undefined, symbols: ReadonlyMap<string, number>): TensorType | undefined {
  if (type?.kind !== 'tensor' || !type.dtype || !type.dims) return undefined;
  const dims = type.dims.map((dim) => (typeof dim === 'number' ? dim : symbols.get(dim)));
  return dims.every((dim) => dim !== undefined) ? { dtype: type.dtype, dims } : undefined;
}

function bindSymbols(inputs: readonly BindableInput[], options: BindOptions, batch: number): Map<string, number> {
  const symbols = new Map(Object.entries(options.dims ?? {}));
  for (const { name, type } of inputs) {
    for (const [axis, size] of (own(options.inputShapes, name) ?? []).entries()) {
      const dim = type.dims?.[axis];
      if (typeof dim !== 'string' || dim === '') continue;
      const known = symbols.get(dim);
      if (known !== undefined && known !== size && own(options.dims, dim) === undefined) {
        throw unsupported(`the dimension ${quote(dim)} is given both as ${known} and as ${size}`, `input ${quote(name)}`, 'give shapes that agree on it');
      }
      symbols.set(dim, size);
    }
  }
  const symbol = batchSymbol(inputs);
  if (symbol !== undefined && !symbols.has(symbol)) symbols.set(symbol, batch);
  return symbols;
}

/** Names that exporters give the batch: N, batch, batch_size, bs, None, unk__17, DynamicDimension.0, p2o.DynamicDimension.0, ?. */
const BATCH_NAME = /^(n|b|bs|none|\?|.*batch.*|unk.*|(p2o\.)?dynamicdimension\.0)$/i;

/** The symbol that stands for the batch: one named like it, else the first that leads an input. */
function batchSymbol(inputs: readonly BindableInput[]): string | undefined {
  const leading = inputs.flatMap(({ type }) => (typeof type.dims?.[0] === 'string' && type.dims[0] !== '' ? [type.dims[0]] : []));
  const anywhere = inputs.flatMap(({ type }) => (type.dims ?? []).filter((dim): dim is string => typeof dim === 'string' && /batch/i.test(dim)));
  return leading.find((name) => BATCH_NAME.test(name)) ?? anywhere[0] ?? leading[0];
}

/** The leading dimension that all inputs of a model share, where it fixes it. */
export function fixedBatch(inputs: readonly OnnxValue[]): number | undefined {
  // A vector is as likely a list of anchors or lengths as a batch of scalars.
  const leading = new Set(inputs.map(({ type }) => (type.kind === 'tensor' && type.dims && type.dims.length > 1 ? type.dims[0] : undefined)));
  const [batch] = leading;
  return typeof batch === 'number' && leading.size === 1 ? batch : undefined;
}

/** The batch that sizes given for dimensions say; undefined where none is given for one that is known to be the batch. */
export function batchSaid(inputs: readonly OnnxValue[], { dims, inputShapes }: BindOptions): number | undefined {
  const bindable = inputs.filter(isBindable);
  const symbol = batchSymbol(bindable);
  const isNamed = symbol !== undefined && (BATCH_NAME.test(symbol) || /batch/i.test(symbol));
  if (!isNamed && fixedBatch(inputs) === undefined) return undefined;
  const given = bindable.flatMap(({ name, type }) => {
    const axis = isNamed ? (type.dims ?? []).indexOf(symbol) : 0;
    return axis < 0 ? [] : (own(inputShapes, name)?.[axis] ?? []);
  });
  return given[0] ?? (isNamed ? own(dims, symbol) : undefined);
}

function replacedBatch(inputs: readonly BindableInput[], to: number): Binding['rebatched'] {
  const from = fixedBatch(inputs);
  return from === undefined || from === to ? undefined : { from, to };
}

/** A size that nothing gives, and the flags that would. */
interface OpenSize {
  readonly what: string;
  readonly flags: readonly string[];
}

function openDimension(name: string, dims: readonly OnnxDim[], axis: number, symbols: ReadonlyMap<string, number>): OpenSize {
  const dim = dims[axis];
  if (typeof dim === 'string' && dim !== '') {
    const missing = namesIn(dim).filter((each) => !symbols.has(each));
    const flags = (missing.length > 0 ? missing : [dim]).map((each) => `--dim ${shellWord(each)}=N`);
    return { what: `the dimension ${quote(dim)} of input ${quote(name)} has no size`, flags };
  }
  const shape = dims.map((size) => (typeof size === 'number' ? size : 'N')).join('x');
  return { what: `the dimension ${axis} of input ${quote(name)} has no size`, flags: [`--shape ${shellWord(name)}=${shape}`] };
}

function checkSizes(inputs: readonly BindableInput[], { batch, dims, inputShapes }: BindOptions): void {
  const sizes = [batch ?? 1, ...Object.values(dims ?? {}), ...Object.values(inputShapes ?? {}).flat()];
  const wrong = sizes.find((size) => !Number.isSafeInteger(size) || size < 0);
  if (wrong !== undefined) throw unsupported(`${wrong} is not the size of a dimension`, 'shapes', 'give sizes as whole numbers');
  const names = inputs.map((input) => quote(input.name)).join(', ');
  for (const [name, shape] of Object.entries(inputShapes ?? {})) {
    const input = inputs.find((candidate) => candidate.name === name);
    if (!input) throw unsupported(`a shape is given for ${quote(name)}, which is not an input of the model`, 'inputShapes', `Its inputs are ${names}`);
    const rank = input.type.dims?.length;
    if (rank !== undefined && rank !== shape.length) {
      throw unsupported(`input ${quote(name)} has ${rank} dimensions, but the shape given has ${shape.length}`, 'inputShapes', `give ${rank} sizes`);
    }
  }
}

/** A size that the model does not fix was asked for: the file is not at fault then. */
function checkMagnitude(name: string, type: TensorType, declared: readonly OnnxDim[] | undefined): void {
  const { dims } = type;
  const count = dims.reduce((product, dim) => product * Math.max(dim, 1), 1);
  if (count <= MAX_ELEMENTS) return;
  const told = `input ${quote(name)} has dimensions [${dims.join(',')}]`;
  if (declared?.every((dim, axis) => dim === dims[axis])) throw invalid(`${told}, more elements than any memory holds`, 'inputs');
  throw new TsrtError('OUT_OF_MEMORY', `${told}: ${(tensorBytes(type) / 2 ** 30).toFixed(1)} GiB, more than any device takes`, { place: 'inputs', fix: 'ask for a smaller batch (--batch) or smaller sizes (--dim, --shape)' });
}

function own<T>(record: Readonly<Record<string, T>> | undefined, key: string): T | undefined {
  return record && Object.hasOwn(record, key) ? record[key] : undefined;
}
