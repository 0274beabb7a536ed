/** Reading 4, 8 or 16 neighbouring elements in one access of up to 16 bytes, as groups of four in registers. */
import { STORAGE_BYTES } from '../../../engine/plan.ts';
import { type DeviceTensor, storedBytes } from '../lower/tensor.ts';
import type { Block, ModuleBuilder } from '../wgsl/module.ts';
import type { ColumnWidth } from './packed/operand.ts';

export interface GroupAccess {
  /** Emits the load of the `index`-th run of elements; gives vec4<f32>, for bytes vec4<i32>, one per group of four. */
  load(block: Block, name: string, index: string): readonly string[];
}

/** Binds a tensor of f32, f16 or bytes to be read `width` elements at a time; more than 16 bytes take several accesses. */
export function bindGroups(module: ModuleBuilder, name: string, tensor: DeviceTensor, width: ColumnWidth): GroupAccess {
  const { storage, dtype } = tensor;
  const bytes = STORAGE_BYTES[storage];
  const words = Math.min(4, (width * bytes) / 4) as 1 | 2 | 4;
  const accesses = (width * bytes) / 4 / words;
  module.storage(name, storage === 'f32' ? 'f32' : 'u32', words, storedBytes(tensor) / (4 * words), 'read');
  const unpack = (value: string, word: (i: number) => string): string[] => {
    if (storage === 'f32') return [value];
    if (storage === 'f16') return Array.from({ length: words / 2 }, (_, i) => `vec4<f32>(unpack2x16float(${word(2 * i)}), unpack2x16float(${word(2 * i + 1)}))`);
    // uint8 in 'i8' lies 128 lower (wgsl/access.ts).
    const biased = storage === 'i8' && dtype === 'uint8';
    return Array.from({ length: words }, (_, i) => (storage === 'i8' && !biased ? `unpack4xI8(${word(i)})` : `vec4<i32>(unpack4xU8(${word(i)}${biased ? ' ^ 0x80808080u' : ''}))`));
  };
  return {
    load: (block, prefix, index) =>
      Array.from({ length: accesses }, (_, access) => {
        const at = accesses === 1 ? index : `(${index}) * ${accesses}u + ${access}u`;
        const value = block.let(`${prefix}_r${access}`, `${name}[${at}]`);
        const word = (i: number): string => (words === 1 ? value : `${value}.${'xyzw'[i]}`);
        return unpack(value, word).map((code, group) => block.let(`${prefix}_r${access}_${group}`, code));
      }).flat(),
  };
}
