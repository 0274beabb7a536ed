/**
 * Normalization of the left matrix's rows in the kernel of few rows: every workgroup reads whole rows, so it finds their moments itself, and a
 * normalization in front of a product needs no kernel of its own.
 *
 * Σ w·(x − mean)·gain/deviation = (Σ w·x·gain − mean · Σ w·gain) / deviation: the sums of products wait for nothing, and are scaled at the end.
 */
import { type DeviceTensor, storedBytes } from '../lower/tensor.ts';
import { bindElements, type ElementAccess } from '../wgsl/access.ts';
import type { Block, ModuleBuilder } from '../wgsl/module.ts';
import type { FewRowsTactic } from '../tactics/few-rows.ts';

/** Of the left matrix's rows: x becomes (x − mean) · gains / deviation, or x · gains / root mean square. What is added behind that is part of the bias. */
export interface FewRowsNormalization {
  readonly epsilon: number;
  /** By depth, in f32. */
  readonly gains: DeviceTensor;
  /** Where rows are centred: by column, in fours, the sum of the column's weights times the gains. */
  readonly sums: DeviceTensor | undefined;
}

/** In the order in which they are bound. */
export function normalizationTensors({ gains, sums }: FewRowsNormalization): DeviceTensor[] {
  return [gains, ...(sums ? [sums] : [])];
}

/** Slices whose moments one invocation adds at the end. */
const FEW_SLICES = 8;

export class RowScales {
  readonly #normalization: FewRowsNormalization;
  readonly #tactic: FewRowsTactic;
  readonly #depth: number;
  readonly #gains: ElementAccess;
  readonly #sums: ElementAccess | undefined;
  readonly #type: 'f32' | 'vec2<f32>';

  /** Binds the tensors of the normalization, after whatever the module has bound. The depth is a multiple of four. */
  constructor(module: ModuleBuilder, normalization: FewRowsNormalization, tactic: FewRowsTactic, depth: number) {
    const { gains, sums } = normalization;
    this.#normalization = normalization;
    this.#tactic = tactic;
    this.#depth = depth;
    this.#gains = bindElements(module, 'gains', gains, storedBytes(gains), 4, 'read');
    this.#sums = sums && bindElements(module, 'sums', sums, storedBytes(sums), 4, 'read');
    this.#type = sums ? 'vec2<f32>' : 'f32';
    module.workgroup('moments', 'f32', sums ? 2 : 1, tactic.rows * tactic.slices);
  }

  #rows(): number[] {
    return Array.from({ length: this.#tactic.rows }, (_, row) => row);
  }

  begin(block: Block): void {
    for (const row of this.#rows()) block.var(`moment${row}`, `${this.#type}()`);
  }

  /** Emits the gains of four depths. Those beyond the last belong to elements that are zero. */
  load(block: Block, name: string, k: string, tail: boolean): void {
    block.let(name, this.#gains.load(`${tail ? `min(${k}, ${this.#depth - 4}u)` : k} / 4u`));
  }

  /** Adds four elements of a row to its moments, and gives them times their gains. */
  watch(block: Block, row: number, four: string, gains: string): string {
    block.line(`moment${row} += ${this.#sums ? `vec2<f32>(dot(${four}, vec4<f32>(1f)), dot(${four}, ${four}))` : `dot(${four}, ${four})`}`);
    return block.let(`${four}_scaled`, `${four} * ${gains}`);
  }

  /** Emits the way of each slice's moments into workgroup memory; a barrier must follow. */
  share(block: Block): void {
    const { slices } = this.#tactic;
    block.if('lane == 0u', (inside) => {
      for (const row of this.#rows()) inside.line(`moments[${row * slices}u + slice] = moment${row}`);
    });
  }

  /** How many are left to add behind {@link gather}. */
  get #left(): number {
    return Math.min(FEW_SLICES, this.#tactic.slices);
  }

  /** Emits the sum of many slices' moments by as many invocations as there are; a barrier must follow. Where slices are few it does nothing. */
  gather(block: Block): void {
    const { rows, slices } = this.#tactic;
    const left = this.#left;
    if (slices === left) return;
    block.for('own', 'lid', `${rows * left}u`, `${this.#tactic.lanes * slices}u`, (loop) => {
      loop.let('at', `(own / ${left}u) * ${slices}u + own % ${left}u`);
      loop.let('end', `(own / ${left}u + 1u) * ${slices}u`);
      loop.var('all', `${this.#type}()`);
      // No other invocation reads them.
      loop.for('part', 'at', 'end', `${left}u`, (inner) => inner.line('all += moments[part]'));
      loop.line('moments[at] = all');
    });
    block.line('workgroupBarrier()');
  }

  /** Emits what a row of the workgroup is scaled by, for {@link applied}. */
  find(block: Block, row: string): void {
    block.let('own_moments', `(${row}) * ${this.#tactic.slices}u`);
    const parts = Array.from({ length: this.#left }, (_, i) => `moments[own_moments + ${i}u]`).join(' + ');
    block.let('moment', `(${parts}) / ${this.#depth}f`);
    const square = this.#sums ? 'max(0f, moment.y - moment.x * moment.x)' : 'moment';
    block.let('row_scale', `inverseSqrt(${square} + ${Math.fround(this.#normalization.epsilon)}f)`);
  }

  /** The sum of products of that row, normalized, for a group of four columns. */
  applied(sum: string, group: string): string {
    return this.#sums ? `(${sum} - moment.x * ${this.#sums.load(group)}) * row_scale` : `(${sum}) * row_scale`;
  }
}
