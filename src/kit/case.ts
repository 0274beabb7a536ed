/**
 * One input of the conformance kit: an element type, sizes, attributes and a seed, all as data, so that fast-check can shrink it
 * and a worker process can be told of it. What it stands for is made in the worker: an op's own code may hang.
 */
import fc from 'fast-check';
import type { AttributeSpec, AttributeValues, CustomOp, OpInput } from '../ir/custom.ts';
import { elementCount, formatType, fromNumbers, tensorBytes, toNumbers, type Dims, type DType, type Tensor } from '../ir/tensor.ts';
import { readCustomAttributes } from '../ops/custom.ts';

/** What is put among the values of the floating-point inputs. */
export type Special = 'none' | 'nan' | 'infinity';

export interface KitCase {
  readonly dtype: DType;
  /** By name; sizes that follow from others are left out. */
  readonly sizes: Readonly<Record<string, number>>;
  /** The shape of inputs whose dims are `any`. */
  readonly any: Dims;
  /** Only those that differ from their default need be there. */
  readonly attributes: Readonly<Record<string, number | string | readonly number[]>>;
  /** Whether each optional input is given, by name. */
  readonly present: Readonly<Record<string, boolean>>;
  /** 0: halves counted up from 0 within the range; others: random. */
  readonly seed: number;
  readonly special: Special;
}

/** A case as an op sees it. */
export interface Material {
  readonly attrs: AttributeValues;
  readonly inputs: readonly (Tensor | undefined)[];
}

/** What of a case is not drawn: one of few values, by turns (see sweep.ts). */
export interface FixedParts {
  readonly dtype?: DType;
  readonly attributes: Readonly<Record<string, number | string>>;
  readonly present: Readonly<Record<string, boolean>>;
  readonly sizes?: Readonly<Record<string, number>>;
}

export const NOTHING_FIXED: FixedParts = { attributes: {}, present: {} };

function record<T>(entries: readonly (readonly [string, fc.Arbitrary<T>])[]): fc.Arbitrary<Record<string, T>> {
  return fc.record(Object.fromEntries(entries)) as fc.Arbitrary<Record<string, T>>;
}

/** Cases within what the op declares. Shrinks towards the first element type, small sizes, defaults and seed 0. */
export function caseArbitrary(op: CustomOp, specials: readonly Special[], dtypes: readonly DType[] = op.dtypes, fixed: FixedParts = NOTHING_FIXED): fc.Arbitrary<KitCase> {
  return fc.record({
    dtype: fixed.dtype === undefined ? fc.constantFrom(...dtypes) : fc.constant(fixed.dtype),
    sizes: sizesArbitrary(op).map((sizes) => ({ ...sizes, ...fixed.sizes })),
    any: op.inputs.some(({ dims }) => dims === 'any') ? anyShape : fc.constant([]),
    attributes: record(Object.entries(op.attributes).map(([name, spec]) => [name, name in fixed.attributes ? fc.constant(fixed.attributes[name]!) : attributeArbitrary(spec)] as const)),
    present: record(op.inputs.filter(({ optional }) => optional).map(({ name }) => [name, name in fixed.present ? fc.constant(fixed.present[name]!) : fc.boolean()] as const)),
    seed: fc.integer({ min: 0, max: 999 }),
    special: fc.constantFrom(...specials),
  });
}

/** Names of dimensions for which the op gives no range. */
export function freeSizes({ inputs, sizes }: CustomOp): readonly string[] {
  const named = inputs.flatMap(({ dims }) => (dims === 'any' ? [] : dims.filter((dim) => typeof dim === 'string')));
  return [...new Set(named)].filter((name) => sizes?.[name] === undefined);
}

const USUAL_SIZE = { min: 1, max: 8 } as const;
/** The largest size that is drawn of a name without a range, by the number of such names: what the others leave of a tensor of a moderate size. */
const LARGE_SIZES = [700, 700, 300, 100, 40] as const;

/**
 * Sizes that are drawn: those that are named in dims, or that others follow from. A name without a range is small, now and then one of
 * them is beyond a workgroup.
 */
function sizesArbitrary(op: CustomOp): fc.Arbitrary<Record<string, number>> {
  const ranges = Object.entries(op.sizes ?? {}).flatMap(([name, spec]) => (typeof spec === 'function' ? [] : [[name, { min: spec[0], max: spec[1] }] as const]));
  const free = freeSizes(op);
  const usual = record([...ranges, ...free.map((name) => [name, USUAL_SIZE] as const)].map(([name, range]) => [name, fc.integer(range)] as const));
  if (free.length === 0) return usual;
  const max = LARGE_SIZES[Math.min(free.length, LARGE_SIZES.length - 1)]!;
  const one = (size: fc.Arbitrary<number>): fc.Arbitrary<Record<string, number>> => fc.tuple(fc.constantFrom(...free), size).map(([name, value]) => ({ [name]: value }));
  const unusual = fc.oneof(
    { withCrossShrink: true },
    { weight: 6, arbitrary: fc.constant({}) },
    { weight: 2, arbitrary: one(fc.integer({ min: USUAL_SIZE.max + 1, max })) },
  );
  return fc.tuple(usual, unusual).map(([sizes, other]) => ({ ...sizes, ...other }));
}

/** Long lines reach beyond a workgroup and end in odd tails; short shapes of many axes find what depends on rank. */
const anyShape: fc.Arbitrary<Dims> = fc.oneof(
  { withCrossShrink: true },
  { weight: 3, arbitrary: fc.array(fc.integer({ min: 0, max: 6 }), { maxLength: 4 }) },
  { weight: 1, arbitrary: fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 5, maxLength: 6 }) },
  { weight: 2, arbitrary: fc.integer({ min: 1, max: 2500 }).map((length) => [length]) },
  { weight: 1, arbitrary: fc.tuple(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 70 })).map(([rows, columns]) => [rows, columns]) },
);

function attributeArbitrary(spec: AttributeSpec): fc.Arbitrary<number | string | readonly number[]> {
  switch (spec.type) {
    case 'int':
    case 'float':
      return withDefault(spec.default, numberArbitrary(spec, spec.default));
    case 'string':
      return withDefault(spec.default, fc.constantFrom(...(spec.choices ?? [spec.default ?? 'a'])));
    case 'ints':
    case 'floats': {
      // Without bounds nothing is known of what the numbers mean: a default is all that can be asked for.
      if (spec.default && spec.min === undefined && spec.max === undefined) return fc.constant(spec.default);
      const length = spec.length ?? spec.default?.length;
      const item = numberArbitrary({ ...spec, type: spec.type === 'ints' ? 'int' : 'float' }, spec.default?.[0]);
      return withDefault(spec.default, fc.array(item, length === undefined ? { maxLength: 3 } : { minLength: length, maxLength: length }));
    }
    default:
      return spec satisfies never;
  }
}

/** Reals in 64 steps of the range, as float32 has them. */
function numberArbitrary({ type, min, max }: { readonly type: string; readonly min?: number; readonly max?: number }, from = 0): fc.Arbitrary<number> {
  const low = min ?? Math.min(from, max ?? from);
  const high = max ?? Math.max(from, low) + 4;
  if (type === 'int') return fc.integer({ min: Math.ceil(low), max: Math.floor(high) });
  return fc.integer({ min: 0, max: 64 }).map((step) => Math.min(high, Math.max(low, Math.fround(low + ((high - low) * step) / 64))));
}

function withDefault<T>(value: T | undefined, arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T> {
  return value === undefined ? arbitrary : fc.oneof({ withCrossShrink: true }, fc.constant(value), arbitrary);
}

/** Attributes and tensors of a case. Runs the op's code for sizes that follow from others. */
export function materialize(op: CustomOp, given: KitCase): Material {
  const attrs = readCustomAttributes(op, new Map(Object.entries(given.attributes)));
  const sizes: Record<string, number> = { ...given.sizes };
  for (const [name, spec] of Object.entries(op.sizes ?? {})) if (typeof spec === 'function') sizes[name] = spec(sizes, attrs);
  const inputs = op.inputs.map((input, index) => {
    if (input.optional && given.present[input.name] === false) return undefined;
    const dims = input.dims === 'any' ? given.any : input.dims.map((dim) => (typeof dim === 'number' ? dim : sizes[dim]!));
    const dtype = (input.dtype ?? 'T') === 'T' ? given.dtype : (input.dtype as DType);
    // Frozen: code that changes what it is given is told so where it does.
    return drawTensor(input, dtype, Object.freeze([...dims]), given, index);
  });
  return { attrs, inputs };
}

/** Where values come from that an input does not say. */
export const DEFAULT_VALUES: readonly [number, number] = [-2, 2];

function drawTensor({ values: [low, high] = DEFAULT_VALUES }: OpInput, dtype: DType, dims: Dims, { seed, special }: KitCase, index: number): Tensor {
  const count = elementCount(dims);
  const random = generator(seed * 31 + index);
  const whole = !isFloating(dtype);
  const span = high - low;
  const draw = (i: number): number => (seed === 0 ? low + (span === 0 ? 0 : ((i + index) * 0.5) % (span + (whole ? 1 : 0))) : low + random() * (span + (whole ? 1 : 0)));
  const numbers = Array.from({ length: count }, (_, i) => (whole ? Math.min(high, Math.floor(draw(i))) : draw(i)));
  if (dtype === 'bool') for (let i = 0; i < count; i++) numbers[i] = numbers[i]! > 0 ? 1 : 0;
  if (special !== 'none' && isFloating(dtype) && count > 0) {
    const at = Math.floor(random() * count);
    const sign = random() < 0.5 ? 1 : -1;
    numbers[at] = special === 'nan' ? Number.NaN : sign * Number.POSITIVE_INFINITY;
    if (special === 'infinity' && count > 1) numbers[(at + 1) % count] = -sign * Number.POSITIVE_INFINITY;
  }
  return fromNumbers(dtype, dims, numbers);
}

export function isFloating(dtype: DType): boolean {
  return dtype === 'float32' || dtype === 'float16' || dtype === 'bfloat16' || dtype === 'float64';
}

/** mulberry32 (Tommy Ettinger, 2017): 32 bits of state are enough for test data. */
function generator(seed: number): () => number {
  let state = Math.imul(seed + 1, 0x9e3779b9) >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const SHOWN_VALUES = 6;

/** `x float32[1,3] = 0, 0.5, 1; alpha = 1`: what a user needs to see the failure. */
export function describeMaterial(op: CustomOp, { attrs, inputs }: Material): string {
  const operands = op.inputs.map(({ name }, index) => {
    const tensor = inputs[index];
    if (!tensor) return `${name} absent`;
    const count = Math.min(SHOWN_VALUES, elementCount(tensor.dims));
    const shown = toNumbers({ ...tensor, dims: [count], data: tensor.data.subarray(0, tensorBytes({ dtype: tensor.dtype, dims: [count] })) }).map((value) => Number(value.toPrecision(4)));
    const values = shown.length === 0 ? 'empty' : `${shown.join(', ')}${elementCount(tensor.dims) > SHOWN_VALUES ? ', …' : ''}`;
    return `${name} ${formatType(tensor)} = ${values}`;
  });
  const attributes = Object.entries(attrs).map(([name, value]) => `${name} = ${JSON.stringify(value)}`);
  return [...operands, ...attributes].join('; ');
}

/** A case in words, without running any of the op's code. */
export function describeCase({ dtype, sizes, any, attributes, seed, special }: KitCase): string {
  const parts = [`T = ${dtype}`];
  if (any.length > 0) parts.push(`shape [${any.join(',')}]`);
  for (const [name, size] of Object.entries(sizes)) parts.push(`${name} = ${size}`);
  for (const [name, value] of Object.entries(attributes)) parts.push(`${name} = ${JSON.stringify(value)}`);
  if (special !== 'none') parts.push(`with ${special}`);
  parts.push(`seed ${seed}`);
  return parts.join(', ');
}
