/**
 * A constant right matrix of integers of few bits, with a scale and a zero point for each block of depths and column: how it lies in memory, and how
 * kernels read it.
 *
 * A word holds neighbouring depths of one column, and four neighbouring columns are one vector, so that a load gives 4 · 32/bits weights and a thread
 * ends with the four columns that an epilogue takes. Vectors lie [depth, column]: neighbouring threads read neighbouring vectors. Within a word the
 * even depths lie in the lower half and the odd ones in the upper half, each in order, so that a mask leaves a pair of neighbours where a pair of
 * halves has its lowest bits. Prior art: Marlin (Frantar et al., 2024) and FasterTransformer's interleaved weights.
 */
import { type DeviceTensor, storedBytes } from '../../lower/tensor.ts';
import { bindElements, type ElementAccess } from '../../wgsl/access.ts';
import type { Block, ModuleBuilder } from '../../wgsl/module.ts';

export interface FewBitColumns {
  readonly kind: 'few-bits';
  readonly bits: 2 | 4 | 8;
  readonly depth: number;
  readonly columns: number;
  /** Depths that share a scale: a multiple of 32/bits, or all of them. */
  readonly block: number;
  /** Bytes as [vector of depths, column]; see {@link packedVectors}. What lies beyond depth and columns is 0. */
  readonly words: DeviceTensor;
  /** [block, column], 0 beyond the columns. */
  readonly scales: DeviceTensor;
  /** Bytes as the scales lie; or one for all. Of the integers as they lie in memory, which are unsigned. */
  readonly zeros: DeviceTensor | number;
}

/** Depths in a word. */
export function wordDepth({ bits }: Pick<FewBitColumns, 'bits'>): number {
  return 32 / bits;
}

/** The lowest bit of a depth of a word. */
export function bitOf({ bits }: Pick<FewBitColumns, 'bits'>, depth: number): number {
  return bits * (depth >> 1) + 16 * (depth & 1);
}

/** Vectors of depths that kernels load one after another. */
export const RUN = 4;

/** Vectors along the depth, whole runs of them. */
export function packedVectors(shape: Pick<FewBitColumns, 'bits' | 'depth'>): number {
  return Math.ceil(shape.depth / wordDepth(shape) / RUN) * RUN;
}

/** Columns are stored in fours. */
export function columnGroups({ columns }: Pick<FewBitColumns, 'columns'>): number {
  return Math.ceil(columns / 4);
}

/** Unsigned integers by depth and column, as bytes of the words in which they lie. */
export function packWords(shape: Pick<FewBitColumns, 'bits' | 'depth' | 'columns'>, integer: (depth: number, column: number) => number): Uint8Array {
  const [perWord, stored] = [wordDepth(shape), columnGroups(shape) * 4];
  const words = new Uint32Array(packedVectors(shape) * stored);
  for (let k = 0; k < shape.depth; k++) {
    const [row, bit] = [Math.floor(k / perWord) * stored, bitOf(shape, k % perWord)];
    for (let column = 0; column < shape.columns; column++) words[row + column]! |= integer(k, column) << bit;
  }
  return new Uint8Array(words.buffer);
}

export function fewBitOperands({ words, scales, zeros }: FewBitColumns): DeviceTensor[] {
  return [words, scales, ...(typeof zeros === 'number' ? [] : [zeros])];
}

/** Bindings of a right matrix, whichever kind it is of. */
export function rightTensors(b: FewBitColumns | { readonly kind?: string | undefined; readonly tensor: DeviceTensor }): readonly DeviceTensor[] {
  return 'words' in b ? fewBitOperands(b) : [b.tensor];
}

/** Bits of an f32's fraction. */
const FRACTION = 23;

/**
 * Where an integer's bits lie in the fraction of an f32 whose exponent makes the lowest of them 1, the f32 is that power of two plus the integer: it
 * becomes a float without a conversion, or a shift where it lies low enough. The power of two for bits from `from` on.
 */
const powerAt = (from: number): number => 2 ** (FRACTION - from);
const powerBits = (from: number): string => `0x${((FRACTION - from + 127) * 2 ** FRACTION).toString(16)}u`;

export class FewBitLoader {
  readonly #spec: FewBitColumns;
  readonly #groups: number;
  readonly #scales: ElementAccess;

  /** Binds the operands, in the order of {@link fewBitOperands}. */
  constructor(module: ModuleBuilder, spec: FewBitColumns) {
    const { words, scales, zeros } = spec;
    this.#spec = spec;
    this.#groups = columnGroups(spec);
    module.storage('words', 'u32', 4, storedBytes(words) / 16, 'read');
    this.#scales = bindElements(module, 'scales', scales, storedBytes(scales), 4, 'read');
    if (typeof zeros !== 'number') module.storage('zeros', 'u32', 1, storedBytes(zeros) / 4, 'read');
  }

  /** The words of four columns, by the number of a vector of depths. */
  load(vector: string, group: string): string {
    return `words[(${vector}) * ${this.#groups}u + ${group}]`;
  }

  /** Emits what the depths of a vector share: `<name>_s`, the scales, and `<name>_z`, the zero points. `how`: declared, or assigned. */
  block(block: Block, name: string, vector: string, group: string, how: 'var' | 'assign' = 'var'): void {
    const { zeros, depth, block: length } = this.#spec;
    const blocks = Math.ceil(depth / length);
    const unit = length / wordDepth(this.#spec);
    // Vectors beyond the depth have no block.
    const at = blocks === 1 ? group : `min((${vector}) / ${unit}u, ${blocks - 1}u) * ${this.#groups}u + ${group}`;
    const put = (suffix: string, value: string): void => (how === 'var' ? void block.var(`${name}_${suffix}`, value) : block.line(`${name}_${suffix} = ${value}`));
    put('s', this.#scales.load(at));
    if (typeof zeros !== 'number') put('z', `vec4<f32>(unpack4xU8(zeros[${at}]))`);
  }

  /** The weights at one depth of a vector, less their zero points, without their scales: a vec4<f32> of four columns. */
  weights(words: string, depth: number, name: string): string {
    const { bits, zeros } = this.#spec;
    const bit = bitOf(this.#spec, depth);
    const from = bit + bits <= FRACTION ? bit : bit - 16;
    const whole = from === bit ? words : `(${words} >> vec4<u32>(16u))`;
    const float = `bitcast<vec4<f32>>((${whole} & vec4<u32>(${(2 ** bits - 1) * 2 ** from}u)) | vec4<u32>(${powerBits(from)}))`;
    return `(${float} - ${typeof zeros === 'number' ? `vec4<f32>(${powerAt(from) + zeros}f)` : `(${name}_z + ${powerAt(from)}f)`})`;
  }
}
