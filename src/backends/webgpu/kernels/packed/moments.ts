/**
 * Mean and deviation of the left matrix's rows, so that a normalization in front of a product needs no kernel of its own: from sums that whoever
 * stored the rows left, or from what an invocation stages of them. Sums are f32; halves hold no row whose mean is so large beside its deviation
 * that their difference would be lost in those. Prior art: CUTLASS (gemm_layernorm_gemm_fusion).
 */
import { type DeviceTensor, storedBytes } from '../../lower/tensor.ts';
import type { Block, ModuleBuilder } from '../../wgsl/module.ts';
import { loadsOf, type Stage, type StageShape, whereOwn } from './rows.ts';
import type { RowNormalization } from './spec.ts';

/** The workgroup's array of pairs (mean, 1 / deviation), by row of the tile. */
export const MOMENTS = 'row_moments';

/** The tensors of a normalization in the order in which its moments bind them. */
export function momentTensors({ rowSums, moments }: RowNormalization): DeviceTensor[] {
  return [...(rowSums ? [rowSums.tensor] : []), ...(moments ? [moments] : [])];
}

/** The way to the rows' moments of a workgroup's tile, after the first blocks' loads and before the products, or along with these. */
export interface Moments {
  /** The left matrix's stage, as the products use it. */
  watch(stage: Stage): Stage;
  /** Emits what comes before the products. Some barrier of theirs is behind it. */
  begin(block: Block): void;
  /** Emits what comes after the products. Begins and ends with no access to staged blocks under way. */
  finish(block: Block): void;
}

/** Binds sums of rows and the memory of the moments, where there are such, after whatever the module has bound. `shape` is the left matrix's. */
export function rowMoments(module: ModuleBuilder, normalization: RowNormalization, shape: StageShape): Moments {
  const { rowSums, moments } = normalization;
  module.workgroup(MOMENTS, 'f32', 2, shape.rows);
  if (rowSums) module.storage('given_sums', 'f32', 2, storedBytes(rowSums.tensor) / 8, 'read');
  if (moments) module.storage('moments', 'f32', 2, storedBytes(moments) / 8, 'read_write');
  return rowSums ? new GivenMoments(normalization, shape) : new SeenMoments(module, normalization, shape);
}

/** Emits the moments of the tile's row `own` from its sums, which `total` names. */
function keepMoments(block: Block, { epsilon, sums, moments, count: elements }: RowNormalization, rows: number): void {
  block.line(`total /= ${elements}f`);
  if (sums) block.line('total.y = max(0f, total.y - total.x * total.x)');
  block.let('pair', `vec2<f32>(total.x, inverseSqrt(total.y + ${Math.fround(epsilon)}f))`);
  block.line(`${MOMENTS}[own] = pair`);
  if (moments) block.if(`(tile_column == 0u) & (tile_row + own < ${rows}u)`, (inside) => inside.line(`moments[batch * ${rows}u + tile_row + own] = pair`));
}

/** Sums that an invocation loads together: their latencies overlap. */
const SUMS_AT_ONCE = 48;

class GivenMoments implements Moments {
  readonly #normalization: RowNormalization;
  readonly #shape: StageShape;

  constructor(normalization: RowNormalization, shape: StageShape) {
    this.#normalization = normalization;
    this.#shape = shape;
  }

  watch(stage: Stage): Stage {
    return stage;
  }

  /** Whoever has no row of its own reads the last one: the loads of all an invocation's rows are under way together. */
  begin(block: Block): void {
    const { rows, threads, count } = this.#shape;
    const { count: elements, rowSums } = this.#normalization;
    const groups = elements / rowSums!.columns;
    const turns = Array.from({ length: Math.ceil(rows / threads) }, (_, turn) => turn);
    const most = Math.max(1, Math.floor(SUMS_AT_ONCE / turns.length));
    for (const turn of turns) {
      block.let(`given_row${turn}`, `min(tile_row + lid + ${turn * threads}u, ${count - 1}u)`);
      block.var(`given${turn}`, 'vec2<f32>()');
    }
    const add = (inside: Block, from: string, length: number): void => {
      const parts = turns.map((turn) => Array.from({ length }, (_, i) => inside.let(`given${turn}_${i}`, `given_sums[given_row${turn} + ${from}${i * count}u]`)));
      for (const turn of turns) inside.line(`given${turn} += ${parts[turn]!.join(' + ')}`);
    };
    const whole = groups - (groups % most);
    if (whole > most) block.for('group', '0u', `${whole}u`, `${most}u`, (loop) => add(loop, `group * ${count}u + `, most));
    else if (whole > 0) block.scope((inside) => add(inside, '', most));
    if (whole < groups) block.scope((inside) => add(inside, whole === 0 ? '' : `${whole * count}u + `, groups - whole));
    for (const turn of turns) {
      const keep = (inside: Block): void => {
        inside.let('own', `lid + ${turn * threads}u`);
        inside.var('total', `given${turn}`);
        keepMoments(inside, this.#normalization, count);
      };
      if ((turn + 1) * threads <= rows) block.scope(keep);
      else block.if(`lid + ${turn * threads}u < ${rows}u`, keep);
    }
  }

  finish(): void {
    // The moments are known.
  }
}

class SeenMoments implements Moments {
  readonly #normalization: RowNormalization;
  readonly #shape: StageShape;
  readonly #loads: readonly number[];

  constructor(module: ModuleBuilder, normalization: RowNormalization, shape: StageShape) {
    this.#normalization = normalization;
    this.#shape = shape;
    this.#loads = Array.from({ length: loadsOf(shape.rows * shape.bk, shape.threads) }, (_, i) => i);
    module.helper('half_moments');
  }

  begin(): void {
    // Nothing is seen yet.
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

  /** Emits the way from the invocations' sums to the rows' moments, through the staged blocks' memory. */
  finish(block: Block): void {
    const { rows, bk, threads, count } = this.#shape;
    // Neighbouring invocations have neighbouring depths of a row: an odd distance keeps them out of each other's banks.
    const pitch = rows | 1;
    whereOwn(block, rows * bk, threads, (inside) => {
      for (const i of this.#loads) inside.line(`tile[a_lane * ${pitch}u + a_row + ${(i * threads) / bk}u] = vec4<u32>(bitcast<vec2<u32>>(a_sums${i}), 0u, 0u)`);
    });
    block.line('workgroupBarrier()');
    block.for('own', 'lid', `${rows}u`, `${threads}u`, (loop) => {
      loop.var('total', 'vec2<f32>()');
      loop.for('part', '0u', `${bk}u`, '1u', (parts) => parts.line(`total += bitcast<vec2<f32>>(tile[part * ${pitch}u + own].xy)`));
      keepMoments(loop, this.#normalization, count);
    });
    block.line('workgroupBarrier()');
  }
}
