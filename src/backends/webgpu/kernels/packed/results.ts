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

/** Which points of a round an invocation takes. */
interface Walk {
  readonly perRow: number;
  readonly points: number;
  /** It stays in its columns, and steps over this many rows. */
  readonly rowStep: number | undefined;
  /** Points at once. */
  readonly together: number;
  /** All of them lie in the slab. */
  readonly whole: boolean;
}

function walkOf({ tactic, threads, slab }: Geometry, sink: Sink): Walk {
  const perRow = tactic.bn / sink.width;
  const points = slab.rows * perRow;
  const together = Math.min(COLUMNS_AT_ONCE / sink.width, Math.ceil(points / threads));
  return { perRow, points, together, rowStep: threads % perRow === 0 ? threads / perRow : undefined, whole: points % (threads * together) === 0 };
}

/** Emits the way of a tile's results from the accumulators to the sink; nobody needs the staged blocks any more. */
export function emitResults(block: Block, spec: PackedSpec, geometry: Geometry, engine: Engine, sink: Sink): void {
  const { tactic, slab } = geometry;
  const walk = walkOf(geometry, sink);
  if (walk.rowStep !== undefined) {
    block.let('lane_row', `lid / ${walk.perRow}u`);
    block.let('lane_column', `(lid % ${walk.perRow}u) * ${sink.width}u`);
    block.let('column', 'tile_column + lane_column');
    block.let('safe_column', covers(sink, tactic) ? 'column' : `min(column, ${lastColumn(sink)}u)`);
    sink.hoist(block, 'safe_column');
  }
  const emitRound = (inside: Block, round: string): void => emitPoints(inside, spec, geometry, engine, sink, round, walk);
  if (slab.rounds === 1) {
    engine.spill(block, 0);
    block.line('workgroupBarrier()');
    emitRound(block, '0u');
    return;
  }
  // One copy of the epilogue for all rounds; accumulators can only be named in the text.
  block.for('turn', '0u', `${slab.rounds}u`, '1u', (rounds) => {
    for (let round = 0; round < slab.rounds; round++) rounds.if(`turn == ${round}u`, (one) => engine.spill(one, round));
    rounds.line('workgroupBarrier()');
    emitRound(rounds, 'turn');
    rounds.line('workgroupBarrier()');
  });
}

const covers = (sink: Sink, tactic: PackedTactic): boolean => sink.columns % tactic.bn === 0;

function lastColumn({ columns, width }: Sink): number {
  return (Math.ceil(columns / width) - 1) * width;
}

/** A point: names and expressions of its row, column and first vector in the slab. */
interface Place {
  readonly row: string;
  readonly column: string;
  readonly safeColumn: string;
  readonly vector: string;
  /** Condition under which the point lies in the slab, where it may not. */
  readonly taken: string | undefined;
}

/** Emits one round's way from the slab to the sink. */
function emitPoints(block: Block, spec: PackedSpec, geometry: Geometry, engine: Engine, sink: Sink, round: string, walk: Walk): void {
  const { threads, slab } = geometry;
  const { rowStep, points, together } = walk;
  const once = points <= threads * together;
  if (rowStep !== undefined && once && (engine.run.rows % rowStep === 0 || rowStep % engine.run.rows === 0)) {
    emitTogether(block, spec, geometry, sink, fixedPlaces(block, geometry, engine, round, walk, rowStep));
    return;
  }
  const [from, to, step] = rowStep === undefined ? ['lid', points, threads] : ['lane_row', slab.rows, rowStep];
  block.for('e', from, `${to}u`, `${step * together}u`, (loop) => {
    const places = Array.from({ length: together }, (_, i) => loopPlace(loop, geometry, engine, sink, round, walk, i));
    emitTogether(loop, spec, geometry, sink, places);
  });
}

/** Places whose distances from the first one are known. */
function fixedPlaces(block: Block, { slab }: Geometry, { run }: Engine, round: string, { together, whole }: Walk, rowStep: number): Place[] {
  const first = run.rows % rowStep === 0 ? 'lane_row' : `(lane_row / ${run.rows}u) * ${run.step}u + lane_row % ${run.rows}u`;
  block.let('first_row', `tile_row + ${first} + ${round} * ${run.rows}u`);
  block.let('first_vector', `lane_row * ${slab.pitch}u + lane_column / 4u`);
  return Array.from({ length: together }, (_, i) => {
    const down = i * rowStep;
    return {
      row: block.let(`row${i}`, `first_row + ${Math.floor(down / run.rows) * run.step + (down % run.rows)}u`),
      column: 'column',
      safeColumn: 'safe_column',
      vector: `first_vector + ${down * slab.pitch}u`,
      taken: whole ? undefined : `(lane_row + ${down}u < ${slab.rows}u)`,
    };
  });
}

/** The place of point `i` of an iteration, of which `e` is the first. */
function loopPlace(loop: Block, { threads, slab }: Geometry, { run }: Engine, sink: Sink, round: string, { perRow, points, rowStep, whole }: Walk, i: number): Place {
  const at = loop.let(`e${i}_`, `e + ${i * (rowStep ?? threads)}u`);
  const slabRow = rowStep === undefined ? loop.let(`slab_row${i}`, `${at} / ${perRow}u`) : at;
  const slabColumn = rowStep === undefined ? loop.let(`slab_column${i}`, `(${at} % ${perRow}u) * ${sink.width}u`) : 'lane_column';
  const column = rowStep === undefined ? loop.let(`column${i}`, `tile_column + ${slabColumn}`) : 'column';
  return {
    row: loop.let(`row${i}`, `tile_row + (${slabRow} / ${run.rows}u) * ${run.step}u + ${slabRow} % ${run.rows}u + ${round} * ${run.rows}u`),
    column,
    safeColumn: rowStep === undefined ? loop.let(`safe_column${i}`, `min(${column}, ${lastColumn(sink)}u)`) : 'safe_column',
    vector: loop.let(`vector${i}`, `${slabRow} * ${slab.pitch}u + ${slabColumn} / 4u`),
    taken: whole ? undefined : `(${at} < ${rowStep === undefined ? points : slab.rows}u)`,
  };
}

/** Emits the loads of some points, then their ends. */
function emitTogether(block: Block, spec: PackedSpec, { tactic, slab }: Geometry, sink: Sink, places: readonly Place[]): void {
  const rows = product(spec.rows);
  const wholeRows = rows % tactic.bm === 0;
  const sumsOf = (inside: Block, { vector }: Place, i: number): string[] =>
    Array.from({ length: sink.width / 4 }, (_, group) => inside.let(`acc_${i}_${group}`, slabSum(spec, tactic, slab, `${vector} + ${group}u`)));
  // Operands of points outside are read where the last point's lie, and dropped.
  const loaded = places.map((place, i) => {
    const safeRow = wholeRows && place.taken === undefined ? place.row : block.let(`safe_row${i}`, `min(${place.row}, ${rows - 1}u)`);
    const fetched = sink.fetch(block, safeRow, place.safeColumn);
    return { fetched, sums: place.taken === undefined ? sumsOf(block, place, i) : undefined };
  });
  for (const [i, place] of places.entries()) {
    const inside = [
      ...(place.taken === undefined ? [] : [place.taken]),
      ...(wholeRows ? [] : [`(${place.row} < ${rows}u)`]),
      ...(covers(sink, tactic) ? [] : [`(${place.column} < ${sink.columns}u)`]),
    ].join(' & ');
    const finish = (then: Block): void => sink.finish(then, loaded[i]!.fetched, place.row, place.column, loaded[i]!.sums ?? sumsOf(then, place, i));
    if (inside === '') finish(block);
    else block.if(inside, finish);
  }
}

/** A result of the slab as vec4<f32> (sums of i32 are exact until then); the slices are added here. */
function slabSum(spec: PackedSpec, { slices, splitK }: PackedTactic, slab: Geometry['slab'], vector: string): string {
  const type = spec.element === 'f16' ? 'vec4<f32>' : 'vec4<i32>';
  const terms = Array.from({ length: slices }, (_, slice) => `bitcast<${type}>(tile[${vector} + ${slice * slab.rows * slab.pitch}u])`);
  const sum = terms.join(' + ');
  return spec.element === 'i8' && splitK === 1 ? `vec4<f32>(${sum})` : sum;
}
