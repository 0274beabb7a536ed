/**
 * How a tile's results leave: from accumulators to a slab in workgroup memory, and from there, several neighbouring columns at a
 * time, to the fused end or to the partial results of a split depth.
 *
 * Where the tile's width allows it, an invocation stays in its columns: what belongs to a column (bias, scale) is loaded once per
 * tile. Neighbouring invocations have neighbouring columns, so that a subgroup writes whole lines of memory.
 */
import { type DeviceTensor, storedBytes } from '../../lower/tensor.ts';
import { type PackedTactic, partialColumns } from '../../tactics/packed.ts';
import type { Block, ModuleBuilder } from '../../wgsl/module.ts';
import type { Engine, Geometry } from './engine.ts';
import { type Fetched, WideEpilogue } from './epilogue.ts';
import { type PackedSpec, product } from './spec.ts';

/** Where the results of a tile go, several columns at a time. */
export interface Sink {
  readonly width: number;
  /** Columns that are written. */
  readonly columns: number;
  /** Emits the loads of what belongs to a column. */
  hoist(block: Block, column: string): void;
  fetch(block: Block, row: string, column: string): Fetched | undefined;
  finish(block: Block, fetched: Fetched | undefined, row: string, column: string, accumulators: readonly string[]): void;
}

/** The fused end. */
export class EpilogueSink implements Sink {
  readonly width: number;
  readonly columns: number;
  readonly #epilogue: WideEpilogue;

  constructor(module: ModuleBuilder, spec: PackedSpec, { wide }: PackedTactic) {
    this.#epilogue = new WideEpilogue(module, spec, wide);
    this.width = this.#epilogue.width;
    this.columns = Math.max(spec.columns, spec.storedColumns);
  }

  hoist(block: Block, column: string): void {
    this.#epilogue.hoist(block, 'batch', column);
  }

  fetch(block: Block, row: string, column: string): Fetched {
    return this.#epilogue.fetch(block, 'batch', row, column);
  }

  finish(block: Block, fetched: Fetched | undefined, _row: string, _column: string, accumulators: readonly string[]): void {
    this.#epilogue.finish(block, fetched!, accumulators);
  }
}

/** Sums as they are, to [part, batch, row, column]. i32 sums go as their bits. */
export class PartialSink implements Sink {
  readonly width = 4;
  readonly columns: number;
  readonly #rows: number;
  readonly #batches: number;

  constructor(module: ModuleBuilder, spec: PackedSpec, parts: DeviceTensor) {
    this.columns = partialColumns(spec.columns);
    this.#rows = product(spec.rows);
    this.#batches = product(spec.batch);
    module.storage('parts', 'u32', 4, storedBytes(parts) / 16, 'read_write');
  }

  hoist(): void {
    // Partial results have no operands.
  }

  fetch(): undefined {
    return undefined;
  }

  finish(block: Block, _fetched: Fetched | undefined, row: string, column: string, accumulators: readonly string[]): void {
    const line = `((part * ${this.#batches}u + batch) * ${this.#rows}u + ${row}) * ${this.columns / 4}u`;
    block.line(`parts[${line} + ${column} / 4u] = bitcast<vec4<u32>>(${accumulators[0]})`);
  }
}

/** Columns of one invocation whose operands are loaded together: their latencies overlap. */
const COLUMNS_AT_ONCE = 32;

/** Emits the way of a tile's results from the accumulators to the sink. */
export function emitResults(block: Block, spec: PackedSpec, geometry: Geometry, engine: Engine, sink: Sink): void {
  const { tactic, threads, slab } = geometry;
  const perRow = tactic.bn / sink.width;
  const stays = threads % perRow === 0;
  if (stays) {
    block.let('lane_row', `lid / ${perRow}u`);
    block.let('lane_column', `(lid % ${perRow}u) * ${sink.width}u`);
    block.let('column', 'tile_column + lane_column');
    if (covers(sink, tactic)) sink.hoist(block, 'column');
    else sink.hoist(block, block.let('safe_column', `min(column, ${lastColumn(sink)}u)`));
  }
  const emitRound = (inside: Block, round: string): void => emitPoints(inside, spec, geometry, engine, sink, round, stays);
  if (slab.rounds === 1) {
    block.line('workgroupBarrier()');
    engine.spill(block, 0);
    block.line('workgroupBarrier()');
    emitRound(block, '0u');
    return;
  }
  // One copy of the epilogue for all rounds; accumulators can only be named in the text.
  block.for('turn', '0u', `${slab.rounds}u`, '1u', (rounds) => {
    rounds.line('workgroupBarrier()');
    for (let round = 0; round < slab.rounds; round++) rounds.if(`turn == ${round}u`, (one) => engine.spill(one, round));
    rounds.line('workgroupBarrier()');
    emitRound(rounds, 'turn');
  });
}

const covers = (sink: Sink, tactic: PackedTactic): boolean => sink.columns % tactic.bn === 0;

function lastColumn({ columns, width }: Sink): number {
  return (Math.ceil(columns / width) - 1) * width;
}

/** Emits one round's way from the slab to the sink. */
function emitPoints(block: Block, spec: PackedSpec, { tactic, threads, slab }: Geometry, engine: Engine, sink: Sink, round: string, stays: boolean): void {
  const perRow = tactic.bn / sink.width;
  const points = slab.rows * perRow;
  const together = Math.min(COLUMNS_AT_ONCE / sink.width, Math.ceil(points / threads));
  const rows = product(spec.rows);
  const whole = rows % tactic.bm === 0 && covers(sink, tactic);
  block.for('e', stays ? 'lane_row' : 'lid', `${stays ? slab.rows : points}u`, `${(stays ? threads / perRow : threads) * together}u`, (loop) => {
    const taken = Array.from({ length: together }, (_, i) => {
      const at = loop.let(`e${i}_`, `e + ${i * (stays ? threads / perRow : threads)}u`);
      const slabRow = stays ? at : loop.let(`slab_row${i}`, `${at} / ${perRow}u`);
      const slabColumn = stays ? 'lane_column' : loop.let(`slab_column${i}`, `(${at} % ${perRow}u) * ${sink.width}u`);
      const row = loop.let(`row${i}`, `tile_row + ${engine.tileRow(round, slabRow)}`);
      const column = stays ? 'column' : loop.let(`column${i}`, `tile_column + ${slabColumn}`);
      const inside = [
        ...(points % (threads * together) === 0 ? [] : [stays ? `(${at} < ${slab.rows}u)` : `(${at} < ${points}u)`]),
        ...(rows % tactic.bm === 0 ? [] : [`(${row} < ${rows}u)`]),
        ...(covers(sink, tactic) ? [] : [`(${column} < ${sink.columns}u)`]),
      ].join(' & ');
      // Operands of points outside are read where the last point's lie, and dropped.
      const safeRow = whole && inside === '' ? row : loop.let(`safe_row${i}`, `min(${row}, ${rows - 1}u)`);
      const safeColumn = covers(sink, tactic) ? column : stays ? 'safe_column' : loop.let(`safe_column${i}`, `min(${column}, ${lastColumn(sink)}u)`);
      return { row, column, slabRow, slabColumn, inside, fetched: sink.fetch(loop, safeRow, safeColumn) };
    });
    for (const [i, point] of taken.entries()) {
      const finish = (inside: Block): void => {
        const vector = (group: number): string => `${point.slabColumn} / 4u + ${group}u`;
        const sums = Array.from({ length: sink.width / 4 }, (_, group) => inside.let(`acc_${i}_${group}`, slabSum(spec, tactic, slab, point.slabRow, vector(group))));
        sink.finish(inside, point.fetched, point.row, point.column, sums);
      };
      if (point.inside === '') finish(loop);
      else loop.if(point.inside, finish);
    }
  });
}

/** A result of the slab as vec4<f32> (sums of i32 are exact until then); the slices are added here. */
function slabSum(spec: PackedSpec, { slices, splitK }: PackedTactic, slab: Geometry['slab'], row: string, vector: string): string {
  const type = spec.element === 'f16' ? 'vec4<f32>' : 'vec4<i32>';
  const terms = Array.from({ length: slices }, (_, slice) => `bitcast<${type}>(tile[(${row} + ${slice * slab.rows}u) * ${slab.pitch}u + ${vector}])`);
  const sum = terms.join(' + ');
  return spec.element === 'i8' && splitK === 1 ? `vec4<f32>(${sum})` : sum;
}
