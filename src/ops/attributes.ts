/**
 * Attributes between ONNX's raw form and the IR's typed one, by the specs of the op table.
 *
 * The importer's way: `importAttributes` = fill in what depends on shapes (complete.ts), then decode and check.
 * Messages name the attribute; the caller adds the node.
 */
import type { OpAttrs, OpKind } from '../ir/ops.ts';
import { completeAttributes } from './complete.ts';
import { ShapeError, UnsupportedError } from './def.ts';
import type { AttrSpec, InferContext, RawAttribute } from './def.ts';
import { OPS } from './table.ts';

/** An attribute in ONNX's form. */
export interface OnnxAttribute {
  readonly type: Exclude<AttrSpec<unknown>['type'], 'internal'>;
  readonly value: RawAttribute;
}

export type RawAttributes = ReadonlyMap<string, RawAttribute>;

/** Specs of an op by attribute name, without their value types. */
function specsOf(op: OpKind): readonly (readonly [string, AttrSpec<unknown>])[] {
  return Object.entries(OPS[op].attrs as Readonly<Record<string, AttrSpec<unknown>>>);
}

/**
 * The typed attributes of a model's node: what depends on shapes (auto_pad, kernel_shape, perm, hidden_size …) filled in
 * from `context`, the rest decoded, defaults given.
 *
 * Throws ShapeError for values that the op forbids, UnsupportedError for attributes and values beyond the op's definition.
 */
export function importAttributes<K extends OpKind>(op: K, raw: RawAttributes, context: InferContext): OpAttrs[K] {
  return readAttributes(op, completeAttributes(op, raw, context));
}

/** As `importAttributes`, for raw attributes in which nothing is left to shapes. */
export function readAttributes<K extends OpKind>(op: K, raw: RawAttributes): OpAttrs[K] {
  const specs = specsOf(op);
  const known = new Set(specs.map(([name]) => name));
  for (const name of raw.keys()) {
    if (!known.has(name)) throw new UnsupportedError(`attribute '${name}' is not known to ${op}`);
  }
  return Object.fromEntries(specs.map(([name, spec]) => [name, readAttribute(name, spec, raw.get(name))])) as OpAttrs[K];
}

function readAttribute(name: string, spec: AttrSpec<unknown>, raw: RawAttribute | undefined): unknown {
  if (raw === undefined) {
    if ('default' in spec) return spec.default;
    throw new ShapeError(`attribute '${name}' is required`);
  }
  if (!hasType(spec.type, raw)) throw new ShapeError(`attribute '${name}' must be of type ${spec.type}`);
  try {
    return spec.decode ? spec.decode(raw) : raw;
  } catch (error) {
    if (error instanceof ShapeError) throw new ShapeError(`attribute '${name}' ${error.message}`, { cause: error });
    if (error instanceof UnsupportedError) throw new UnsupportedError(`attribute '${name}' ${error.message}`, { cause: error });
    throw error;
  }
}

function hasType(type: AttrSpec<unknown>['type'], raw: RawAttribute): boolean {
  switch (type) {
    case 'int':
      return Number.isSafeInteger(raw);
    case 'float':
      return typeof raw === 'number';
    case 'string':
      return typeof raw === 'string';
    case 'ints':
      return Array.isArray(raw) && raw.every(Number.isSafeInteger);
    case 'floats':
      return Array.isArray(raw) && raw.every((element) => typeof element === 'number');
    case 'strings':
      return Array.isArray(raw) && raw.every((element) => typeof element === 'string');
    case 'tensor':
      return typeof raw === 'object' && 'dtype' in raw;
    case 'internal':
      return false;
    default:
      return type satisfies never;
  }
}

/** The attributes in ONNX's form; those that ONNX leaves out are absent. Throws a plain Error for ops that ONNX lacks. */
export function writeAttributes<K extends OpKind>(op: K, attrs: OpAttrs[K]): Map<string, OnnxAttribute> {
  const values = attrs as Readonly<Record<string, unknown>>;
  const written = new Map<string, OnnxAttribute>();
  for (const [name, spec] of specsOf(op)) {
    if (spec.type === 'internal') throw new Error(`${op}.${name} has no form in ONNX`);
    const value = values[name];
    const raw = spec.encode ? spec.encode(value) : (value as RawAttribute | undefined);
    if (raw !== undefined) written.set(name, { type: spec.type, value: raw });
  }
  return written;
}
