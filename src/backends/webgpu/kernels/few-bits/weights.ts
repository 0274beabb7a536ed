/**
 * A constant right matrix of integers of few bits, with a scale and a zero point for each block of depths and column: how it lies in memory, and how
 * kernels read it.
 *
 * A word holds neighbouring depths of one column, the first in the lowest bits, and four neighbouring columns are one vector, so that a load gives
 * 4 · 32/bits weights and a thread ends with the four columns that an epilogue takes. Vectors lie [depth, column]: neighbouring threads read
 * neighbouring vectors.
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

export function fewBitOperands({ words, scales, zeros }: FewBitColumns): DeviceTensor[] {
  return [words, scales, ...(typeof zeros === 'number' ? [] : [zeros])];
}

/** 2^23, from which on an f32 is a whole number and its lowest bits are that number's: an integer becomes a float without a conversion. */
const WHOLE = 2 ** 23;
const WHOLE_BITS = '0x4b000000u';

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

  /** Emits what the depths of a vector share: `<name>_s`, the scales, and `<name>_z`, the zero points as {@link weights} wants them. `how`: declared, or assigned. */
  block(block: Block, name: string, vector: string, group: string, how: 'var' | 'assign' = 'var'): void {
    const { zeros, depth, block: length } = this.#spec;
    const blocks = Math.ceil(depth / length);
    const unit = length / wordDepth(this.#spec);
    // Vectors beyond the depth have no block.
    const at = blocks === 1 ? group : `min((${vector}) / ${unit}u, ${blocks - 1}u) * ${this.#groups}u + ${group}`;
    const put = (suffix: string, value: string): void => (how === 'var' ? void block.var(`${name}_${suffix}`, value) : block.line(`${name}_${suffix} = ${value}`));
    put('s', this.#scales.load(at));
    if (typeof zeros !== 'number') put('z', `vec4<f32>(unpack4xU8(zeros[${at}])) + ${WHOLE}f`);
    else if (how === 'var') put('z', `vec4<f32>(${WHOLE + zeros}f)`);
  }

  /** The weights at one depth of a vector, less their zero points, without their scales: a vec4<f32> of four columns. */
  weights(words: string, lane: number, name: string): string {
    const { bits } = this.#spec;
    const shifted = lane === 0 ? words : `(${words} >> vec4<u32>(${lane * bits}u))`;
    return `(bitcast<vec4<f32>>((${shifted} & vec4<u32>(${2 ** bits - 1}u)) | vec4<u32>(${WHOLE_BITS})) - ${name}_z)`;
  }
}
