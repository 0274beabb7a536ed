/**
 * Mean and deviation of the left matrix's rows, from what an invocation stages of them: so that a normalization in front of a product needs no
 * kernel of its own. Sums are f32; halves hold no row whose mean is so large beside its deviation that their difference would be lost in those.
 */
import type { Block, ModuleBuilder } from '../../wgsl/module.ts';
import { loadsOf, type Stage, type StageShape, whereOwn } from './rows.ts';
import type { RowNormalization } from './spec.ts';

/** The workgroup's array of pairs (mean, 1 / deviation), by row of the tile. */
export const MOMENTS = 'row_moments';

export class RowMoments {
  readonly #normalization: RowNormalization;
  readonly #shape: StageShape;
  readonly #loads: readonly number[];

  /** Binds the memory of the moments, if they are written, after whatever the module has bound. `shape` is the left matrix's. */
  constructor(module: ModuleBuilder, normalization: RowNormalization, shape: StageShape, rows: number) {
    this.#normalization = normalization;
    this.#shape = shape;
    this.#loads = Array.from({ length: loadsOf(shape.rows * shape.bk, shape.threads) }, (_, i) => i);
    module.helper('half_moments');
    module.workgroup(MOMENTS, 'f32', 2, shape.rows);
    if (normalization.moments) module.storage('moments', 'f32', 2, rows, 'read_write');
  }

  /** The stage, which sums what it stores. */
  watch(stage: Stage): Stage {
    const loads = this.#loads;
    return {
      ...stage,
      prepare(block) {
        stage.prepare(block);
        for (const i of loads) block.var(`a_sums${i}`, 'vec2<f32>()');
      },
      store(block, base, set) {
        stage.store(block, base, set);
        for (const i of loads) block.line(`a_sums${i} += half_moments(a${i}${set})`);
      },
    };
  }

  /** Emits the way from the invocations' sums to the rows' moments, through the staged blocks' memory. Begins and ends with no access under way. */
  finish(block: Block): void {
    const { rows, bk, threads, count } = this.#shape;
    const { epsilon, sums, moments, count: elements } = this.#normalization;
    // Neighbouring invocations have neighbouring depths of a row: an odd distance keeps them out of each other's banks.
    const pitch = rows | 1;
    whereOwn(block, rows * bk, threads, (inside) => {
      for (const i of this.#loads) inside.line(`tile[a_lane * ${pitch}u + a_row + ${(i * threads) / bk}u] = vec4<u32>(bitcast<vec2<u32>>(a_sums${i}), 0u, 0u)`);
    });
    block.line('workgroupBarrier()');
    block.for('own', 'lid', `${rows}u`, `${threads}u`, (loop) => {
      loop.var('total', 'vec2<f32>()');
      loop.for('part', '0u', `${bk}u`, '1u', (parts) => parts.line(`total += bitcast<vec2<f32>>(tile[part * ${pitch}u + own].xy)`));
      loop.line(`total /= ${elements}f`);
      if (sums) loop.line('total.y = max(0f, total.y - total.x * total.x)');
      loop.let('pair', `vec2<f32>(total.x, inverseSqrt(total.y + ${Math.fround(epsilon)}f))`);
      loop.line(`${MOMENTS}[own] = pair`);
      if (moments) loop.if(`(tile_column == 0u) & (tile_row + own < ${count}u)`, (inside) => inside.line(`moments[batch * ${count}u + tile_row + own] = pair`));
    });
    block.line('workgroupBarrier()');
  }
}
