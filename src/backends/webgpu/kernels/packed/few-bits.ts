/**
 * Staging of right matrices of few bits: words come as they lie, a quarter of a half's memory, and become halves on their way into workgroup memory.
 *
 * Prior art: Marlin (Frantar et al., "MARLIN: Mixed-Precision Auto-Regressive Parallel Inference on Large Language Models", 2024).
 */
import { storedBytes } from '../../lower/tensor.ts';
import { VECTOR_ELEMENTS } from '../../tactics/packed.ts';
import type { Block, ModuleBuilder } from '../../wgsl/module.ts';
import { bitOf, columnGroups, type FewBitColumns, fewBitOperands, wordDepth } from '../few-bits/weights.ts';
import { walkOf } from './columns.ts';
import { assign, loadsOf, type Stage, type StageShape, whereOwn } from './rows.ts';

const DEPTHS = VECTOR_ELEMENTS.f16;

/** Whether whole vectors of depths share a scale, as the stage wants it. */
export function canStage({ block, depth }: Pick<FewBitColumns, 'block' | 'depth'>): boolean {
  return block === depth || block % DEPTHS === 0;
}

/**
 * Where {@link canStage}, for blocks of whole words, and weights that halves hold. `arithmetic`: whether the module computes in halves; else in f32,
 * which rounds the same numbers once.
 */
export function fewBitStage(weights: FewBitColumns, shape: StageShape, arithmetic: boolean): Stage {
  const { rows: bn, origin, threads, bk, depth, pitch, begin, slot } = shape;
  const { bits, words, scales, zeros } = weights;
  if ((bk * DEPTHS) % wordDepth(weights) !== 0) throw new Error(`blocks of ${bk} vectors have no whole words of ${bits} bits`);
  const vectors = bn * bk;
  const loads = loadsOf(vectors, threads);
  const walk = walkOf(bn, loads, shape);
  const tail = depth % bk !== 0;
  const stored = columnGroups(weights) * 4;
  const blockVectors = weights.block === weights.depth ? depth : weights.block / DEPTHS;
  const isShared = blockVectors >= depth;
  // A block of the depth has one scale for each column, which the loads of a column share.
  const isByColumn = isShared || blockVectors % bk === 0;
  const ends = isByColumn ? walk.columns.map((_, base) => base) : Array.from({ length: loads }, (_, i) => i);
  const baseOf = (end: number): number => (isByColumn ? end : walk.load(end).base);
  const endOf = (i: number): number => (isByColumn ? walk.load(i).base : i);
  const half = scales.storage === 'f16';
  const type = bits === 8 ? 'vec2<u32>' : 'u32';
  const loadEnd = (block: Block, end: number, vector: string, set: string, how: 'var' | 'assign'): void => {
    const at = `${isShared ? '' : `(${vector}) / ${blockVectors}u * ${stored}u + `}b_column_at${baseOf(end)}`;
    assign(block, `b_s${end}${set}`, half ? `b_scales[(${at}) / 2u]` : `b_scales[${at}]`, how);
    if (typeof zeros !== 'number') assign(block, `b_z${end}${set}`, `b_zeros[(${at}) / 4u]`, how);
  };
  const declareEnd = (block: Block, end: number, set: string): void => {
    block.var(`b_s${end}${set}`, half ? '0u' : '0f');
    if (typeof zeros !== 'number') block.var(`b_z${end}${set}`, '0u');
  };
  return {
    tensors: fewBitOperands(weights),
    bind(module: ModuleBuilder) {
      module.storage('b', 'u32', 1, storedBytes(words) / 4, 'read');
      module.storage('b_scales', half ? 'u32' : 'f32', 1, storedBytes(scales) / 4, 'read');
      if (typeof zeros !== 'number') module.storage('b_zeros', 'u32', 1, storedBytes(zeros) / 4, 'read');
      module.declare(dequantizer(weights, type, half && arithmetic));
    },
    prepare(block) {
      walk.prepare(block);
      for (const [i, column] of walk.columns.entries()) {
        const at = `${origin} + ${column}`;
        block.let(`b_column_at${i}`, stored % bn === 0 ? at : `min(${at}, ${stored - 1}u)`);
        if (isShared) loadEnd(block, i, '', '', 'var');
      }
    },
    declare(block, set) {
      for (let i = 0; i < loads; i++) block.var(`b${i}${set}`, `${type}()`);
      if (!isShared) for (const end of ends) declareEnd(block, end, set);
    },
    load(block, k, how, set) {
      const prefix = how === 'var' ? 'bd' : 'bn';
      for (let i = 0; i < loads; i++) {
        const { base, down, lane } = walk.load(i);
        const vector = `${k} + ${lane} + ${down}u`;
        const at = block.let(`${prefix}${i}`, tail ? `min(${vector}, ${depth - 1}u)` : vector);
        const word = (row: string): string => `b[(${row}) * ${stored}u + b_column_at${base}]`;
        assign(block, `b${i}${set}`, bits === 8 ? `vec2<u32>(${word(`${at} * 2u`)}, ${word(`${at} * 2u + 1u`)})` : word(bits === 4 ? at : `${at} / 2u`), how);
        if (!isShared && !isByColumn) loadEnd(block, i, at, set, how);
      }
      if (!isShared && isByColumn) for (const end of ends) loadEnd(block, end, k, set, how);
    },
    store(block, base, set) {
      whereOwn(block, vectors, threads, (inside) => {
        for (let i = 0; i < loads; i++) {
          const { column, down, lane, base: from } = walk.load(i);
          const row = slot ? slot(`(${column})`) : `(${column})`;
          const end = endOf(i);
          const ownSet = isShared ? '' : set;
          const scale = half ? `(b_s${end}${ownSet} >> ((b_column_at${from} & 1u) * 16u))` : `b_s${end}${ownSet}`;
          const zero = typeof zeros === 'number' ? '' : `, (b_z${end}${ownSet} >> ((b_column_at${from} & 3u) * 8u)) & 0xffu`;
          // Blocks begin with whole words.
          const given = bits === 2 ? `b${i}${set} >> (((${lane} + ${down}u) & 1u) * 8u)` : `b${i}${set}`;
          inside.line(`tile[${base}${row} * ${pitch}u + ${lane} + ${down + begin}u] = weights_to_halves(${given}, ${scale}${zero})`);
        }
      });
    },
  };
}

/** 2^10 and 2^23 as bits, from which on a half and a float are whole numbers: an integer in their fraction becomes a number without a conversion. */
const WHOLE_HALVES = '0x64006400u';
const WHOLE_FLOAT = '0x4b000000u';

/** `weights_to_halves`: a vector of neighbouring depths, less the zero point, by the scale. */
function dequantizer(weights: FewBitColumns, type: string, arithmetic: boolean): string {
  const { bits, scales, zeros } = weights;
  const mask = `0x${((2 ** bits - 1) * 0x10001).toString(16)}u`;
  const pair = (j: number): string => {
    const word = bits === 8 ? `q.${j < 2 ? 'x' : 'y'}` : 'q';
    const bit = bitOf(weights, (2 * j) % wordDepth(weights));
    return `(${bit === 0 ? word : `(${word} >> ${bit}u)`} & ${mask})`;
  };
  const half = scales.storage === 'f16';
  const isNumber = typeof zeros === 'number';
  const lines = arithmetic
    ? [
        'let s = bitcast<vec2<f16>>((scale & 0xffffu) * 0x10001u)',
        `let z = ${isNumber ? `vec2<f16>(${1024 + zeros}h)` : `bitcast<vec2<f16>>((zero * 0x10001u) | ${WHOLE_HALVES})`}`,
        `return vec4<u32>(${[0, 1, 2, 3].map((j) => `bitcast<u32>((bitcast<vec2<f16>>(${pair(j)} | ${WHOLE_HALVES}) - z) * s)`).join(', ')})`,
      ]
    : [
        `let s = ${half ? 'unpack2x16float(scale).x' : 'scale'}`,
        `let z = ${isNumber ? `${2 ** 23 + zeros}f` : 'f32(zero) + 8388608f'}`,
        ...[0, 1, 2, 3].map((j) => `let p${j} = ${pair(j)}`),
        `return vec4<u32>(${[0, 1, 2, 3].map((j) => `pack2x16float((bitcast<vec2<f32>>(vec2<u32>(p${j} & 0xffffu, p${j} >> 16u) | vec2<u32>(${WHOLE_FLOAT})) - vec2<f32>(z)) * s)`).join(', ')})`,
      ];
  return `fn weights_to_halves(q: ${type}, scale: ${half ? 'u32' : 'f32'}${isNumber ? '' : ', zero: u32'}) -> vec4<u32> {\n${lines.map((line) => `  ${line};\n`).join('')}}\n`;
}
