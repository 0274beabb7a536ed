/** Staging of right matrices: packed weights, and f16 activations [k, column] that are transposed on their way. */
import { address, collapse, decodeIndex } from '../../lower/space.ts';
import { assign, bindVectors, loadsOf, type Stage, type StageShape, whereOwn } from './rows.ts';
import type { Block } from '../../wgsl/module.ts';
import type { PackedColumns, PackedWeights } from './spec.ts';

/** Neighbouring invocations take neighbouring columns at one depth. */
export function weightStage(weights: PackedWeights, shape: StageShape): Stage {
  const { rows: bn, origin, threads, bk, depth, pitch, begin, slot } = shape;
  const vectors = bn * bk;
  const loads = loadsOf(vectors, threads);
  const walk = walkOf(bn, loads, shape);
  const tail = depth % bk !== 0;
  const clamps = weights.columns % bn !== 0;
  return {
    tensors: [weights.tensor],
    bind: (module) => bindVectors(module, 'b', weights.tensor),
    prepare(block) {
      walk.prepare(block);
      for (const [i, column] of walk.columns.entries()) {
        const at = `${origin} + ${column}`;
        const inside = clamps ? `min(${at}, ${weights.columns - 1}u)` : at;
        block.let(`b_base${i}`, `${inside} + ${weights.grouped ? `(batch * ${depth}u + ${walk.lanes[i]})` : walk.lanes[i]} * ${weights.columns}u`);
      }
    },
    declare(block, set) {
      for (let i = 0; i < loads; i++) block.var(`b${i}${set}`, 'vec4<u32>()');
    },
    load(block, k, how, set) {
      const at = block.let(how === 'var' ? 'bd' : 'bn', `${k} * ${weights.columns}u`);
      for (let i = 0; i < loads; i++) {
        const { base, down, lane } = walk.load(i);
        const index = `b_base${base} + ${at} + ${down * weights.columns}u`;
        if (!tail) {
          assign(block, `b${i}${set}`, `b[${index}]`, how);
          continue;
        }
        const ok = block.let(`${at}_ok${i}`, `${k} + ${lane} + ${down}u < k_end`);
        assign(block, `b${i}${set}`, `select(vec4<u32>(), b[select(0u, ${index}, ${ok})], ${ok})`, how);
      }
    },
    store(block, base, set) {
      whereOwn(block, vectors, threads, (inside) => {
        for (let i = 0; i < loads; i++) {
          const { column, down, lane } = walk.load(i);
          const row = slot ? slot(`(${column})`) : `(${column})`;
          inside.line(`tile[${base}${row} * ${pitch}u + ${lane} + ${down + begin}u] = b${i}${set}`);
        }
      });
    },
  };
}

/** Where an invocation's loads of weights lie. */
interface ColumnWalk {
  prepare(block: Block): void;
  /** Names of the columns from which it starts, and of the depths at which it does. */
  readonly columns: readonly string[];
  readonly lanes: readonly string[];
  /** Of load `i`: the start's number, depths below it, column and depth of the start. */
  load(i: number): { readonly base: number; readonly down: number; readonly column: string; readonly lane: string };
}

export function walkOf(bn: number, loads: number, { threads, bk }: StageShape): ColumnWalk {
  if (threads > bn ? threads % bn !== 0 : bn % threads !== 0) return scatteredWalk(bn, bk, loads, threads);
  // Columns that one invocation takes, and depths between its loads of one column.
  const columns = Math.min(loads, Math.max(1, bn / threads));
  const step = Math.max(1, threads / bn);
  const begins = Array.from({ length: columns }, (_, i) => `b_column + ${i * threads}u`);
  return {
    prepare(block) {
      block.let('b_column', threads > bn ? `lid % ${bn}u` : 'lid');
      block.let('b_lane', threads > bn ? `(lid / ${bn}u)${bn * bk < threads ? ` % ${bk}u` : ''}` : '0u');
    },
    columns: begins,
    lanes: begins.map(() => 'b_lane'),
    load: (i) => ({ base: i % columns, down: Math.floor(i / columns) * step, column: begins[i % columns]!, lane: 'b_lane' }),
  };
}

/** Columns and invocations have no whole ratio: every load starts at a place of its own. */
function scatteredWalk(bn: number, bk: number, loads: number, threads: number): ColumnWalk {
  const all = Array.from({ length: loads }, (_, i) => i);
  return {
    prepare(block) {
      for (const i of all) {
        block.let(`b_column${i}`, `(lid + ${i * threads}u) % ${bn}u`);
        block.let(`b_lane${i}`, `(lid + ${i * threads}u) / ${bn}u${bn * bk < threads ? ` % ${bk}u` : ''}`);
      }
    },
    columns: all.map((i) => `b_column${i}`),
    lanes: all.map((i) => `b_lane${i}`),
    load: (i) => ({ base: i, down: 0, column: `b_column${i}`, lane: `b_lane${i}` }),
  };
}

/** An invocation loads squares of 8 depths × 8 columns and transposes them in registers. */
export function transposedStage(columns: PackedColumns, batchExtents: readonly number[], shape: StageShape): Stage {
  const { rows: bn, origin, count, threads, bk, pitch, begin, slot } = shape;
  const across = bn / 8;
  const squares = across * bk;
  const loads = Math.ceil(squares / threads);
  const { tensor, view, depth } = columns;
  const batch = collapse({ extents: batchExtents, views: [{ offset: view.offset, strides: view.strides.slice(0, -1) }] });
  const stride = view.strides.at(-1)!;
  const lastVector = Math.ceil(count / 8) - 1;
  const square = (load: number): string => `((lid + ${load * threads}u) % ${squares}u)`;
  return {
    tensors: [tensor],
    bind: (module) => bindVectors(module, 'b', tensor),
    prepare(block) {
      const base = address(batch.views[0]!, decodeIndex('batch', batch.extents).map((code) => `(${code})`));
      for (let i = 0; i < loads; i++) {
        block.let(`b_c${i}`, `${square(i)} % ${across}u`);
        block.let(`b_k${i}`, `${square(i)} / ${across}u`);
        block.let(`b_base${i}`, `${base} + min(${origin} / 8u + b_c${i}, ${lastVector}u)`);
      }
    },
    declare(block, set) {
      for (let i = 0; i < loads; i++) for (let row = 0; row < 8; row++) block.var(`b${i}_${row}${set}`, 'vec4<u32>()');
    },
    load(block, k, how, set) {
      const prefix = how === 'var' ? 'bd' : 'bn';
      const guarded = depth % (bk * 8) !== 0;
      for (let i = 0; i < loads; i++) {
        const first = block.let(`${prefix}${i}`, `(${k} + b_k${i}) * 8u`);
        for (let row = 0; row < 8; row++) {
          const index = (at: string): string => `b[b_base${i} + ${at} * ${stride}u]`;
          const at = `(${first} + ${row}u)`;
          const value = guarded ? `select(vec4<u32>(), ${index(`min${at.slice(0, -1)}, ${depth - 1}u)`)}, ${at} < ${depth}u)` : index(at);
          assign(block, `b${i}_${row}${set}`, value, how);
        }
      }
    },
    store(block, base, set) {
      for (let i = 0; i < loads; i++) {
        const write = (inside: Block): void => {
          for (let column = 0; column < 8; column++) {
            const row = `(b_c${i} * 8u + ${column}u)`;
            inside.line(`tile[${base}${slot ? slot(row) : row} * ${pitch}u + b_k${i} + ${begin}u] = ${transposed(i, column, set)}`);
          }
        };
        // The last load may have fewer squares than invocations.
        if ((i + 1) * threads > squares) block.if(`lid + ${i * threads}u < ${squares}u`, write);
        else write(block);
      }
    },
  };
}

/** Column `column` of the square: its halves of eight vectors, in pairs. */
function transposed(load: number, column: number, set: string): string {
  const word = ['x', 'y', 'z', 'w'][column >> 1]!;
  const of = (rows: readonly number[]): string => `vec4<u32>(${rows.map((row) => `b${load}_${row}${set}.${word}`).join(', ')})`;
  const [even, odd] = [of([0, 2, 4, 6]), of([1, 3, 5, 7])];
  if (column % 2 === 0) return `(${even} & vec4<u32>(0xffffu)) | (${odd} << vec4<u32>(16u))`;
  return `(${even} >> vec4<u32>(16u)) | (${odd} & vec4<u32>(0xffff0000u))`;
}
