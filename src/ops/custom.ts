/**
 * Custom ops applied: a model's attributes read by the op's schema, operands checked against what it declares, types inferred.
 *
 * What is wrong with the model is a ShapeError, as for the ops of the table; what is wrong with the op's own code names its plugin.
 */
import { inPlugin, TsrtError } from '../errors.ts';
import { opTitle, type AttributeSpec, type AttributeValues, type CustomDefinition, type CustomOp, type OpInput, type Operands, type RegisteredOp } from '../ir/custom.ts';
import type { CustomAttribute } from '../ir/ops.ts';
import { DTYPES, formatType, sameDims, type Dims, type DType, type TensorType } from '../ir/tensor.ts';
import { NotStaticError, ShapeError, UnsupportedError, type RawAttribute } from './def.ts';

/** Errors by which an op's code says that the model is wrong, not the op. */
export function blamesModel(error: unknown): boolean {
  if (error instanceof NotStaticError || error instanceof UnsupportedError || error instanceof TsrtError) return true;
  // By name too: a plugin beside a copy of this package of its own throws that copy's.
  return error instanceof Error && error.name === 'ShapeError';
}

/** Runs code of an op; what it throws names the plugin, the op and the function. */
export function inOp<T>({ op, plugin }: RegisteredOp, what: string, work: () => T): T {
  return inPlugin(plugin.name, `${what} of ${opTitle(op)}`, work, blamesModel);
}

/** The op for a node of a model. */
export function findOp(ops: readonly RegisteredOp[], node: { readonly domain: string; readonly opType: string; readonly opset: number }): RegisteredOp | undefined {
  return ops.find(({ op }) => {
    const [first, last] = op.opset ?? [0, Number.POSITIVE_INFINITY];
    return op.domain === node.domain && op.name === node.opType && node.opset >= first && node.opset <= last;
  });
}

/** The typed attributes of a node, defaults filled in; frozen, for they are every later call's too. Throws ShapeError that names the attribute. */
export function readCustomAttributes(op: CustomOp, raw: ReadonlyMap<string, RawAttribute>): AttributeValues {
  const known = Object.keys(op.attributes);
  for (const name of raw.keys()) {
    if (!known.includes(name)) throw new ShapeError(`attribute '${name}' is not known to ${opTitle(op)}; it has ${known.join(', ') || 'none'}`);
  }
  const values = Object.fromEntries(
    Object.entries(op.attributes).map(([name, spec]) => {
      const value = raw.get(name) ?? spec.default;
      if (value === undefined) throw new ShapeError(`attribute '${name}' is required`);
      const fault = attributeFault(spec, value);
      if (fault !== undefined) throw new ShapeError(`attribute '${name}' must be ${fault}, found ${JSON.stringify(value)}`);
      return [name, Array.isArray(value) ? Object.freeze([...(value as readonly unknown[])]) : value];
    }),
  );
  return Object.freeze(values) as AttributeValues;
}

/** What a value should have been, or undefined where it fits. */
export function attributeFault(spec: AttributeSpec, value: RawAttribute): string | undefined {
  switch (spec.type) {
    case 'int':
    case 'float':
      return numberFault(spec, spec.type === 'int', value);
    case 'string':
      if (typeof value !== 'string') return 'text';
      return spec.choices && !spec.choices.includes(value) ? `one of ${spec.choices.join(', ')}` : undefined;
    case 'ints':
    case 'floats': {
      if (!Array.isArray(value)) return 'a list of numbers';
      if (spec.length !== undefined && value.length !== spec.length) return `a list of ${spec.length}`;
      const faults = value.map((item) => numberFault(spec, spec.type === 'ints', item as RawAttribute));
      const fault = faults.find((found) => found !== undefined);
      return fault && `a list, each ${fault}`;
    }
    default:
      return spec satisfies never;
  }
}

function numberFault({ min, max }: { readonly min?: number; readonly max?: number }, integer: boolean, value: RawAttribute): string | undefined {
  const kind = integer ? 'a whole number' : 'a number';
  const range = min === undefined ? (max === undefined ? '' : ` up to ${max}`) : max === undefined ? ` from ${min}` : ` from ${min} to ${max}`;
  // A model holds floats as float32: a bound is the nearest of them.
  const bound = (of: number): number => (integer ? of : Math.fround(of));
  const inside = (x: number): boolean => !(min !== undefined && x < Math.min(min, bound(min))) && !(max !== undefined && x > Math.max(max, bound(max)));
  const fits = typeof value === 'number' && (!integer || Number.isSafeInteger(value)) && inside(value);
  return fits ? undefined : kind + range;
}

/** Back to ONNX's form, for export. */
export function writeCustomAttributes(op: CustomOp, attrs: AttributeValues): CustomAttribute[] {
  return Object.entries(op.attributes).map(([name, spec]) => ({ name, kind: spec.type, value: attrs[name] }) as CustomAttribute);
}

/** `T` and the named sizes of an op on these inputs. Throws ShapeError, naming the input, where they don't fit what it declares. */
export function bindOperands(op: CustomOp, inputs: readonly (TensorType | undefined)[]): { readonly dtype: DType | undefined; readonly sizes: Readonly<Record<string, number>> } {
  if (inputs.length > op.inputs.length) throw new ShapeError(`${opTitle(op)} takes ${op.inputs.length} inputs, found ${inputs.length}`);
  let dtype: DType | undefined;
  let any: Dims | undefined;
  const sizes: Record<string, number> = {};
  for (const [index, input] of op.inputs.entries()) {
    const type = inputs[index];
    const place = `input ${index} (${input.name})`;
    if (!type) {
      if (input.optional) continue;
      throw new ShapeError(`${place} is required`);
    }
    const wanted = input.dtype ?? 'T';
    if (wanted === 'T') {
      if (!op.dtypes.includes(type.dtype)) throw new ShapeError(`${place} must be ${op.dtypes.join(' or ')}, found ${formatType(type)}`);
      dtype ??= type.dtype;
    }
    const expected = wanted === 'T' ? dtype : wanted;
    if (type.dtype !== expected) throw new ShapeError(`${place} must be ${expected}, found ${formatType(type)}`);
    if (input.dims === 'any') {
      any ??= type.dims;
      if (!sameDims(any, type.dims)) throw new ShapeError(`${place} must have shape [${any.join(',')}] like the others, found ${formatType(type)}`);
    } else bindDims(place, input.dims, type, sizes);
  }
  return { dtype, sizes };
}

function bindDims(place: string, dims: Exclude<OpInput['dims'], 'any'>, type: TensorType, sizes: Record<string, number>): void {
  if (type.dims.length !== dims.length) throw new ShapeError(`${place} must be [${dims.join(', ')}], found ${formatType(type)}`);
  for (const [axis, dim] of dims.entries()) {
    const size = type.dims[axis]!;
    const wanted = typeof dim === 'number' ? dim : (sizes[dim] ??= size);
    if (size !== wanted) throw new ShapeError(`${place} must be [${dims.join(', ')}]${typeof dim === 'number' ? '' : ` with ${dim} = ${wanted}`}, found ${formatType(type)}`);
  }
}

/** The op on these operands, ready to be a node's definition, and the types that it gives. */
export function defineNode(
  registered: RegisteredOp,
  raw: ReadonlyMap<string, RawAttribute>,
  inputs: readonly (TensorType | undefined)[],
): { readonly definition: CustomDefinition; readonly types: readonly TensorType[] } {
  const { op } = registered;
  const attrs = readCustomAttributes(op, raw);
  bindOperands(op, inputs);
  const definition = { ...registered, attrs };
  return { definition, types: inferCustom(definition, inputs) };
}

export function inferCustom(definition: CustomDefinition, inputs: readonly (TensorType | undefined)[]): readonly TensorType[] {
  const { op, attrs } = definition;
  return inOp(definition, 'infer', () => {
    const types = op.infer({ attrs, inputs: inputs as Operands<TensorType> });
    if (!Array.isArray(types) || types.length !== op.outputs.length) throw new Error(`it gives ${Array.isArray(types) ? types.length : 'no list of'} types for ${op.outputs.length} outputs`);
    for (const [index, type] of types.entries()) {
      if (!isType(type)) throw new Error(`output '${op.outputs[index]}' would be ${JSON.stringify(type)}: a type is { dtype, dims }, with one of ${DTYPES.join(', ')}`);
      if (!type.dims.every((dim: number) => Number.isSafeInteger(dim) && dim >= 0)) throw new Error(`output '${op.outputs[index]}' would be ${formatType(type)}`);
    }
    return types as readonly TensorType[];
  });
}

function isType(type: unknown): type is TensorType {
  const { dtype, dims } = (type ?? {}) as Partial<TensorType>;
  return DTYPES.some((known) => known === dtype) && Array.isArray(dims);
}

/** The element type that kernels are chosen by: `T`, or the first input's where no input says `T`. */
export function kernelDtype(op: CustomOp, inputs: readonly (TensorType | undefined)[]): DType | undefined {
  const index = op.inputs.findIndex((input, at) => (input.dtype ?? 'T') === 'T' && inputs[at] !== undefined);
  return inputs[index]?.dtype ?? inputs.find((type) => type !== undefined)?.dtype;
}
