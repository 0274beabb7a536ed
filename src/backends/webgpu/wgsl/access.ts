/**
 * Reading and writing a tensor's elements, whatever they are stored as: the one place that knows how halves and bytes lie in
 * words.
 *
 * Registers hold f32, i32 or u32. Halves are read and written two to a word with WGSL's pack and unpack functions, which
 * every adapter has: the shader-f16 feature is not needed for f16 as a storage format. Narrow elements are written only four at
 * a time: two threads must not share a word.
 */
import type { Access, Storage } from '../../../engine/plan.ts';
import { STORAGE_BYTES } from '../../../engine/plan.ts';
import type { DType } from '../../../ir/tensor.ts';
import { type ModuleBuilder, type Scalar, typeName, type Width } from './module.ts';

/** The register type that holds a value of an element type. */
export function registerType(dtype: DType): Exclude<Scalar, 'f16'> {
  switch (dtype) {
    case 'float32':
    case 'float16':
    case 'bfloat16':
    case 'float64':
    case 'float8e4m3fn':
    case 'float8e4m3fnuz':
    case 'float8e5m2':
    case 'float8e5m2fnuz':
    case 'float8e8m0':
    case 'float4e2m1':
      return 'f32';
    case 'int2':
    case 'int4':
    case 'int8':
    case 'int16':
    case 'int32':
    case 'int64':
      return 'i32';
    case 'uint2':
    case 'uint4':
    case 'uint8':
    case 'uint16':
    case 'uint32':
    case 'uint64':
      return 'u32';
    case 'bool':
      return 'bool';
    default:
      return dtype satisfies never;
  }
}

/** The register type of an element as loaded: bool stays the word that it is stored as. */
export function storedScalar(storage: Storage, dtype: DType): 'f32' | 'i32' | 'u32' {
  switch (storage) {
    case 'f32':
    case 'f16':
      return 'f32';
    case 'i32':
      return 'i32';
    case 'u32':
    case 'u8':
      return 'u32';
    case 'i8':
      return dtype === 'uint8' ? 'u32' : 'i32';
    default:
      return storage satisfies never;
  }
}

/** What functions need to be good for: half a unit of what floats, halves, or a quantization to bytes can tell apart. */
export type Precision = 'single' | 'half' | 'byte';

/** The precision that a tensor can hold. */
export function precisionOf({ storage }: { readonly storage: Storage }): Precision {
  return STORAGE_BYTES[storage] < 4 ? 'half' : 'single';
}

export interface ElementAccess {
  /** Register scalar of a loaded element. */
  readonly scalar: 'f32' | 'i32' | 'u32';
  /** The value at an index counted in elements (width 1) or in vectors of four (width 4). */
  load(index: string): string;
  /** A statement that writes a value of the register type; float values beyond binary16 saturate. */
  store(index: string, value: string): string;
}

/** Binds the tensor's memory (`bytes` of it) and says how its elements are reached, one or four at a time. */
export function bindElements(
  module: ModuleBuilder,
  name: string,
  tensor: { readonly storage: Storage; readonly dtype: DType },
  bytes: number,
  width: Width,
  access: Access,
): ElementAccess {
  const { storage, dtype } = tensor;
  const scalar = storedScalar(storage, dtype);
  const wide = width === 4;
  if (storage === 'f32' || storage === 'i32' || storage === 'u32') {
    module.storage(name, storage, width, bytes / (STORAGE_BYTES[storage] * width), access);
    return { scalar, load: (index) => `${name}[${index}]`, store: (index, value) => `${name}[${index}] = ${value}` };
  }
  if (!wide && access === 'read_write') throw new Error(`${name}: ${storage} elements are written four at a time`);
  if (storage === 'f16') return halves(module, name, bytes, wide, access);
  return bytesOf(module, name, storage, dtype, bytes, wide, access);
}

function halves(module: ModuleBuilder, name: string, bytes: number, wide: boolean, access: Access): ElementAccess {
  if (!wide) {
    module.storage(name, 'u32', 1, bytes / 4, access);
    const at = module.helper('half_at');
    return {
      scalar: 'f32',
      load: (index) => `${at}(${name}[(${index}) / 2u], ${index})`,
      store: () => unreachable(name),
    };
  }
  module.storage(name, 'u32', 2, bytes / 8, access);
  const [read, write] = [module.helper('halves_to_f32'), module.helper('f32_to_halves')];
  return { scalar: 'f32', load: (index) => `${read}(${name}[${index}])`, store: (index, value) => `${name}[${index}] = ${write}(${value})` };
}

/** Bytes, four to a word. uint8 values in 'i8' storage lie 128 lower, so that products of them are of signed bytes. */
function bytesOf(module: ModuleBuilder, name: string, storage: 'i8' | 'u8', dtype: DType, bytes: number, wide: boolean, access: Access): ElementAccess {
  module.storage(name, 'u32', 1, bytes / 4, access);
  const biased = storage === 'i8' && dtype === 'uint8';
  const scalar = storedScalar(storage, dtype);
  const word = (index: string): string => (biased ? `(${name}[${index}] ^ 0x80808080u)` : `${name}[${index}]`);
  const unpack = scalar === 'i32' ? 'unpack4xI8' : 'unpack4xU8';
  const pack = scalar === 'i32' ? 'pack4xI8' : 'pack4xU8';
  if (wide) {
    const mask = biased ? ' ^ 0x80808080u' : '';
    return { scalar, load: (index) => `${unpack}(${word(index)})`, store: (index, value) => `${name}[${index}] = ${pack}(${value})${mask}` };
  }
  return {
    scalar,
    load: (index) => {
      const code = word(`(${index}) / 4u`);
      return `extractBits(${scalar === 'i32' ? `bitcast<i32>(${code})` : code}, ((${index}) % 4u) * 8u, 8u)`;
    },
    store: () => unreachable(name),
  };
}

/** Four elements of the register type as the words in which they lie: one, two or four. */
export function packedWords(module: ModuleBuilder, { storage, dtype }: { readonly storage: 'f32' | 'f16' | 'i8'; readonly dtype: DType }, value: string): string {
  if (storage === 'f32') return `bitcast<vec4<u32>>(${value})`;
  if (storage === 'f16') return `${module.helper('f32_to_halves')}(${value})`;
  return dtype === 'uint8' ? `(pack4xU8(${value}) ^ 0x80808080u)` : `pack4xI8(${value})`;
}

function unreachable(name: string): never {
  throw new Error(`${name} holds narrow elements, which are written four at a time`);
}

/** The WGSL type of `width` loaded elements. */
export function loadedType(tensor: { readonly storage: Storage; readonly dtype: DType }, width: Width): string {
  return typeName(storedScalar(tensor.storage, tensor.dtype), width);
}
