/**
 * Staging of right matrices of few bits: words come as they lie, a quarter of a half's memory for 4 bits, and become halves on their way into workgroup
 * memory.
 *
 * Prior art: Marlin (Frantar et al., "MARLIN: Mixed-Precision Auto-Regressive Parallel Inference on Large Language Models", 2024).
 */
import { storedBytes } from '../../lower/tensor.ts';
import { VECTOR_ELEMENTS } from '../../tactics/packed.ts';
import type { Block } from '../../wgsl/module.ts';
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
  const { bits, words, zeros } = weights;
  if ((bk * DEPTHS) % wordDepth(weights) !== 0) throw new Error(`blocks of ${bk} vectors have no whole words of ${bits} bits`);
  const vectors = bn * bk;
  const loads = loadsOf(vectors, threads);
  const walk = walkOf(bn, loads, shape);
  const stored = columnGroups(weights) * 4;
  const type = bits === 8 ? 'vec2<u32>' : 'u32';
  const scales = new Scales(weights, shape, loads, (load) => walk.load(load).base, walk.columns.length);
  return {
    tensors: fewBitOperands(weights),
    bind(module) {
      module.storage('b', 'u32', 1, storedBytes(words) / 4, 'read');
      module.storage('b_scales', scales.half ? 'u32' : 'f32', 1, storedBytes(weights.scales) / 4, 'read');
      if (typeof zeros !== 'number') module.storage('b_zeros', 'u32', 1, storedBytes(zeros) / 4, 'read');
      module.declare(dequantizer(weights, type, scales.half && arithmetic));
    },
    prepare(block) {
      walk.prepare(block);
      for (const [i, column] of walk.columns.entries()) {
        const at = `${origin} + ${column}`;
        block.let(`b_column_at${i}`, stored % bn === 0 ? at : `min(${at}, ${stored - 1}u)`);
      }
      scales.prepare(block);
    },
    declare(block, set) {
      for (let i = 0; i < loads; i++) block.var(`b${i}${set}`, `${type}()`);
      scales.declare(block, set);
    },
    load(block, k, how, set) {
      for (let i = 0; i < loads; i++) {
        const { base, down, lane } = walk.load(i);
        const vector = `${k} + ${lane} + ${down}u`;
        // Beyond the depth the left matrix is zero.
        const at = block.let(`${how === 'var' ? 'bd' : 'bn'}${i}`, depth % bk === 0 ? vector : `min(${vector}, ${depth - 1}u)`);
        const word = (row: string): string => `b[(${row}) * ${stored}u + b_column_at${base}]`;
        assign(block, `b${i}${set}`, bits === 8 ? `vec2<u32>(${word(`${at} * 2u`)}, ${word(`${at} * 2u + 1u`)})` : word(bits === 4 ? at : `${at} / 2u`), how);
        scales.loadOf(block, i, at, how, set);
      }
      scales.loadColumns(block, k, how, set);
    },
    store(block, base, set) {
      whereOwn(block, vectors, threads, (inside) => {
        for (let i = 0; i < loads; i++) {
          const { column, down, lane } = walk.load(i);
          const row = slot ? slot(`(${column})`) : `(${column})`;
          // Blocks begin with whole words.
          const word = bits === 2 ? `b${i}${set} >> (((${lane} + ${down}u) & 1u) * 8u)` : `b${i}${set}`;
          inside.line(`tile[${base}${row} * ${pitch}u + ${lane} + ${down + begin}u] = weights_to_halves(${[word, ...scales.of(i, set)].join(', ')})`);
        }
      });
    },
  };
}

/** Scales and zero points of the loads, in registers: one for each column where a staged block lies within one block of depths, else one for each load. */
class Scales {
  readonly half: boolean;
  readonly #zeros: boolean;
  readonly #stored: number;
  /** Vectors of depths that share a scale. */
  readonly #blockVectors: number;
  /** All depths of a column do. */
  readonly #whole: boolean;
  readonly #byColumn: boolean;
  readonly #columnOf: (load: number) => number;
  readonly #count: number;

  constructor(weights: FewBitColumns, { bk, depth }: StageShape, loads: number, columnOf: (load: number) => number, columns: number) {
    this.half = weights.scales.storage === 'f16';
    this.#zeros = typeof weights.zeros !== 'number';
    this.#stored = columnGroups(weights) * 4;
    this.#whole = weights.block === weights.depth;
    this.#blockVectors = this.#whole ? depth : weights.block / DEPTHS;
    this.#byColumn = this.#whole || this.#blockVectors % bk === 0;
    this.#columnOf = columnOf;
    this.#count = this.#byColumn ? columns : loads;
  }

  prepare(block: Block): void {
    if (this.#whole) this.#each((i) => this.#assign(block, i, `b_column_at${i}`, 'var', ''));
  }

  declare(block: Block, set: string): void {
    if (this.#whole) return;
    this.#each((i) => {
      block.var(`b_s${i}${set}`, this.half ? '0u' : '0f');
      if (this.#zeros) block.var(`b_z${i}${set}`, '0u');
    });
  }

  /** Those of a load that has its own, at its vector of depths. */
  loadOf(block: Block, load: number, vector: string, how: 'var' | 'assign', set: string): void {
    if (!this.#byColumn) this.#assign(block, load, this.#at(vector, this.#columnOf(load)), how, set);
  }

  /** Those of whole columns, from the block's first vector of depths on. */
  loadColumns(block: Block, k: string, how: 'var' | 'assign', set: string): void {
    if (this.#byColumn && !this.#whole) this.#each((i) => this.#assign(block, i, this.#at(k, i), how, set));
  }

  #at(vector: string, column: number): string {
    return `(${vector}) / ${this.#blockVectors}u * ${this.#stored}u + b_column_at${column}`;
  }

  /** The arguments of a load's dequantization. */
  of(load: number, set: string): string[] {
    const column = `b_column_at${this.#columnOf(load)}`;
    const register = `${this.#byColumn ? this.#columnOf(load) : load}${this.#whole ? '' : set}`;
    return [
      this.half ? `(b_s${register} >> ((${column} & 1u) * 16u))` : `b_s${register}`,
      ...(this.#zeros ? [`(b_z${register} >> ((${column} & 3u) * 8u)) & 0xffu`] : []),
    ];
  }

  #each(emit: (i: number) => void): void {
    for (let i = 0; i < this.#count; i++) emit(i);
  }

  #assign(block: Block, i: number, at: string, how: 'var' | 'assign', set: string): void {
    assign(block, `b_s${i}${set}`, this.half ? `b_scales[(${at}) / 2u]` : `b_scales[${at}]`, how);
    if (this.#zeros) assign(block, `b_z${i}${set}`, `b_zeros[(${at}) / 4u]`, how);
  }
}

/** 2^10 and 2^23 as bits, from which on a half and a float are whole numbers: an integer in their fraction becomes a number without a conversion. */
const WHOLE_HALVES = '0x64006400u';
const WHOLE_FLOAT = '0x4b000000u';

/** `weights_to_halves`: a vector of neighbouring depths, less the zero point, by the scale. */
function dequantizer(weights: FewBitColumns, type: string, arithmetic: boolean): string {
  const { bits, scales, zeros } = weights;
  const mask = `0x${((2 ** bits - 1) * 0x10001).toString(16)}u`;
  const pairs = [0, 1, 2, 3].map((j) => {
    const word = bits === 8 ? `q.${j < 2 ? 'x' : 'y'}` : 'q';
    const bit = bitOf(weights, (2 * j) % wordDepth(weights));
    return `(${bit === 0 ? word : `(${word} >> ${bit}u)`} & ${mask})`;
  });
  const half = scales.storage === 'f16';
  const isNumber = typeof zeros === 'number';
  const lines = arithmetic
    ? [
        'let s = bitcast<vec2<f16>>((scale & 0xffffu) * 0x10001u)',
        `let z = ${isNumber ? `vec2<f16>(${2 ** 10 + zeros}h)` : `bitcast<vec2<f16>>((zero * 0x10001u) | ${WHOLE_HALVES})`}`,
        `return vec4<u32>(${pairs.map((pair) => `bitcast<u32>((bitcast<vec2<f16>>(${pair} | ${WHOLE_HALVES}) - z) * s)`).join(', ')})`,
      ]
    : [
        `let s = ${half ? 'unpack2x16float(scale).x' : 'scale'}`,
        `let z = ${isNumber ? `${2 ** 23 + zeros}f` : `f32(zero) + ${2 ** 23}f`}`,
        ...pairs.map((pair, j) => `let p${j} = ${pair}`),
        `return vec4<u32>(${pairs.map((_, j) => `pack2x16float((bitcast<vec2<f32>>(vec2<u32>(p${j} & 0xffffu, p${j} >> 16u) | vec2<u32>(${WHOLE_FLOAT})) - vec2<f32>(z)) * s)`).join(', ')})`,
      ];
  return `fn weights_to_halves(q: ${type}, scale: ${half ? 'u32' : 'f32'}${isNumber ? '' : ', zero: u32'}) -> vec4<u32> {\n${lines.map((line) => `  ${line};\n`).join('')}}\n`;
}
