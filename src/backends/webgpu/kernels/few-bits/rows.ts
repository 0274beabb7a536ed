/**
 * A constant table of integers of few bits whose rows are gathered, with a scale and a zero point for each row and block of its columns: how it lies in
 * memory, and how a kernel reads it.
 *
 * Integers lie row by row without gaps, the first in the lowest bits. Rows are whole vectors of four, so no vector crosses a word, and a vector has one
 * scale. Prior art: onnxruntime's GatherBlockQuantized.
 */
import { type DeviceTensor, storedBytes } from '../../lower/tensor.ts';
import { bindElements, type ElementAccess } from '../../wgsl/access.ts';
import type { Block, ModuleBuilder } from '../../wgsl/module.ts';

export interface FewBitRows {
  readonly kind: 'few-bits';
  readonly bits: 2 | 4 | 8;
  /** [rows, columns]; columns are a multiple of four. */
  readonly dims: readonly [number, number];
  /** Columns that share a scale: a multiple of four; 0 where the whole table has one. */
  readonly block: number;
  /** Bytes; see {@link packRows}. */
  readonly words: DeviceTensor;
  /** [row, block], or one. */
  readonly scales: DeviceTensor;
  /** Bytes as the scales lie; or one for all. Of the integers as they lie in memory, which are unsigned. */
  readonly zeros: DeviceTensor | number;
}

/** Integers that are unsigned when `shift` is added, as bytes of the words in which they lie. */
export function packRows(bits: 2 | 4 | 8, integers: ArrayLike<number>, shift: number): Uint8Array {
  const perByte = 8 / bits;
  const bytes = new Uint8Array(Math.ceil(integers.length / perByte));
  for (let i = 0; i < integers.length; i++) bytes[Math.floor(i / perByte)]! |= (integers[i]! + shift) << (bits * (i % perByte));
  return bytes;
}

export function fewBitRowOperands({ words, scales, zeros }: FewBitRows): DeviceTensor[] {
  return [words, scales, ...(typeof zeros === 'number' ? [] : [zeros])];
}

export class FewBitRowLoader {
  readonly #spec: FewBitRows;
  readonly #scales: ElementAccess;
  readonly #zeros: ElementAccess | undefined;

  /** Binds the operands, in the order of {@link fewBitRowOperands}. */
  constructor(module: ModuleBuilder, spec: FewBitRows) {
    const { words, scales, zeros } = spec;
    this.#spec = spec;
    module.storage('words', 'u32', 1, storedBytes(words) / 4, 'read');
    this.#scales = bindElements(module, 'scales', scales, storedBytes(scales), 1, 'read');
    this.#zeros = typeof zeros === 'number' ? undefined : bindElements(module, 'zeros', zeros, storedBytes(zeros), 1, 'read');
  }

  /** Emits what it needs and gives WGSL for four columns of a row (a vec4<f32>), by the number of their vector. */
  load(block: Block, row: string, vector: string): string {
    const { bits, dims: [, columns], block: length, zeros } = this.#spec;
    const [perRow, perWord] = [columns / 4, 8 / bits];
    block.let('row', row);
    block.let('place', `row * ${perRow}u + ${vector}`);
    block.let('word', perWord === 1 ? 'words[place]' : `words[place / ${perWord}u] >> (place % ${perWord}u * ${4 * bits}u)`);
    block.let('integers', bits === 8 ? 'unpack4xU8(word)' : `(vec4<u32>(word) >> vec4<u32>(0u, ${bits}u, ${2 * bits}u, ${3 * bits}u)) & vec4<u32>(${2 ** bits - 1}u)`);
    const blocks = Math.ceil(columns / length);
    const at = length === 0 ? '0u' : blocks === 1 ? 'row' : block.let('at', `row * ${blocks}u + ${vector} / ${length / 4}u`);
    const zero = this.#zeros ? `f32(${this.#zeros.load(at)})` : `${zeros as number}f`;
    return `(vec4<f32>(integers) - ${zero}) * ${this.#scales.load(at)}`;
  }
}
