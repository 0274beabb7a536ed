/**
 * How a tile's results leave: from accumulators to a slab in workgroup memory, and from there, several neighbouring columns at a
 * time, to the fused end or to the partial results of a split depth. Sums over rows of what the fused end stores are gathered in the slab, where
 * each point's part takes the place of its own results.
 *
 * Where the tile's width allows it, an invocation stays in its columns: what belongs to a column (bias, scale) is loaded once per
 * tile. Neighbouring invocations have neighbouring columns, so that a subgroup writes whole lines of memory.
 */
import { type DeviceTensor, storedBytes } from '../../lower/tensor.ts';
import { EARLY_BYTES, type PackedTactic, partialColumns, type Slab } from '../../tactics/packed.ts';
import type { Block, ModuleBuilder } from '../../wgsl/module.ts';
import type { Engine, Geometry } from './engine.ts';
import { type Fetched, WideEpilogue } from './epilogue.ts';
import type { Assignment } from './operand.ts';
import { type PackedSpec, product } from './spec.ts';

/** Where the results of a tile go, several columns at a time. */
interface Sink {
  readonly width: number;
  /** Columns that are written. */
  readonly columns: number;
  /** Bytes that one result needs of operands that differ from row to row. */
  readonly rowBytes: number;
  /** Whether points give parts of their rows' sums. */
  readonly sumsRows: boolean;
  /** Emits the loads of what belongs to a column. */
  hoist(block: Block, column: string): void;
  /** Emits the loads of a point's operands; `name` begins what is named for it. */
  fetch(block: Block, name: string, row: string, column: string, how: Assignment): Fetched;
  /** Gives what the point adds to its row's sums, where these are wanted. */
  finish(block: Block, name: string, fetched: Fetched, row: string, column: string, accumulators: readonly string[]): string | undefined;
}

/** The fused end. */
export class EpilogueSink implements Sink {
  readonly width: number;
  readonly columns: number;
  readonly sumsRows: boolean;
  readonly #epilogue: WideEpilogue;

  constructor(module: ModuleBuilder, spec: PackedSpec, { wide }: PackedTactic) {
    this.#epilogue = new WideEpilogue(module, spec, wide);
    this.width = this.#epilogue.width;
    this.columns = Math.max(spec.columns, spec.storedColumns);
    this.sumsRows = spec.rowSums !== undefined;
  }

  hoist(block: Block, column: string): void {
    this.#epilogue.hoist(block, 'batch', column);
  }

  get rowBytes(): number {
    return this.#epilogue.rowBytes;
  }

  fetch(block: Block, name: string, row: string, column: string, how: Assignment): Fetched {
    return this.#epilogue.fetch(block, name, 'batch', row, column, how);
  }

  finish(block: Block, name: string, fetched: Fetched, row: string, column: string, accumulators: readonly string[]): string | undefined {
    return this.#epilogue.finish(block, name, fetched, 'batch', row, column, accumulators);
  }
}

/** Sums as they are, to [part, batch, row, column]. i32 sums go as their bits. */
export class PartialSink implements Sink {
  readonly width = 4;
  readonly rowBytes = 0;
  readonly sumsRows = false;
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

  fetch(): Fetched {
    return [];
  }

  finish(block: Block, _name: string, _fetched: Fetched, row: string, column: string, accumulators: readonly string[]): undefined {
    const line = `((part * ${this.#batches}u + batch) * ${this.#rows}u + ${row}) * ${this.columns / 4}u`;
    block.line(`parts[${line} + ${column} / 4u] = bitcast<vec4<u32>>(${accumulators[0]})`);
  }
}

/** Columns of one invocation whose operands are loaded together: their latencies overlap. */
const COLUMNS_AT_ONCE = 32;

/** Which points of a round an invocation takes. */
interface Share {
  readonly perRow: number;
  readonly points: number;
  /** It stays in its columns, and steps over this many rows. */
  readonly rowStep: number | undefined;
  /** Points at once. */
  readonly together: number;
  /** All of them lie in the slab. */
  readonly whole: boolean;
}

function shareOf({ tactic, threads, slab }: Geometry, sink: Sink): Share {
  const perRow = tactic.bn / sink.width;
  const points = slab.rows * perRow;
  const together = Math.min(COLUMNS_AT_ONCE / sink.width, Math.ceil(points / threads));
  return { perRow, points, together, rowStep: threads % perRow === 0 ? threads / perRow : undefined, whole: points % (threads * together) === 0 };
}

/** Where the next tile of a workgroup begins, by the names of its first row and, where that is another one, column, and the condition under which there is one. */
interface NextTile {
  readonly row: string;
  readonly column?: string;
  readonly exists: string;
}

/** The way of a tile's results from the accumulators to the sink. */
export class Results {
  readonly #spec: PackedSpec;
  readonly #geometry: Geometry;
  readonly #engine: Engine;
  readonly #sink: Sink;
  readonly #share: Share;
  /** By round, of operands that were loaded before the products. */
  #loaded: readonly (readonly Fetched[])[] | undefined;

  constructor(spec: PackedSpec, geometry: Geometry, engine: Engine, sink: Sink) {
    this.#spec = spec;
    this.#geometry = geometry;
    this.#engine = engine;
    this.#sink = sink;
    this.#share = shareOf(geometry, sink);
  }

  /** Emits the invocation's columns, and loads of what belongs to them. */
  hoist(block: Block): void {
    if (this.#share.rowStep !== undefined) this.#sink.hoist(block, 'safe_column');
  }

  /** Emits where the invocation's columns are, and the loads of all rounds' operands that differ by row: so their latencies overlap with one another and with the products. */
  load(block: Block, how: 'let' | 'var'): void {
    const { perRow, rowStep } = this.#share;
    if (rowStep !== undefined) {
      block.let('lane_row', `lid / ${perRow}u`);
      block.let('lane_column', `(lid % ${perRow}u) * ${this.#sink.width}u`);
      this.columns(block);
    }
    if (!this.#loadsEarly()) return;
    this.#loaded = Array.from({ length: this.#geometry.slab.rounds }, (_, round) => this.#fetch(block, this.#placesOf(block, 'tile_row', `${round}u`, `r${round}_`), how));
  }

  /** Emits where the invocation's columns are in the tile at `tile_column`. */
  columns(block: Block): void {
    if (this.#share.rowStep === undefined) return;
    block.let('column', 'tile_column + lane_column');
    block.let('safe_column', covers(this.#sink, this.#geometry.tactic) ? 'column' : `min(column, ${lastColumn(this.#sink)}u)`);
  }

  /** Emits what comes after the products, when nobody needs the staged blocks any more. */
  emit(block: Block, next?: NextTile): void {
    const { slab, tactic } = this.#geometry;
    const loaded = this.#loaded;
    const unrolls = tactic.engine !== 'lanes' && this.#isFixed() && tactic.walk > 1;
    if (slab.rounds === 1 || loaded || unrolls) {
      for (let round = 0; round < slab.rounds; round++) {
        if (round > 0) block.line('workgroupBarrier()');
        this.#engine.spill(block, round);
        block.line('workgroupBarrier()');
        if (!loaded) this.#emitRound(block, `${round}u`, `r${round}_`);
        else {
          this.#finish(block, this.#placesOf(block, 'tile_row', `${round}u`, `s${round}_`), loaded[round]!);
          this.#gatherRows(block, `${round}u`);
          if (next) block.if(next.exists, (inside) => this.#fetchNext(inside, next, round));
        }
      }
      return;
    }
    // One copy of the epilogue for all rounds; accumulators can only be named in the text.
    block.for('turn', '0u', `${slab.rounds}u`, '1u', (rounds) => {
      for (let round = 0; round < slab.rounds; round++) rounds.if(`turn == ${round}u`, (one) => this.#engine.spill(one, round));
      rounds.line('workgroupBarrier()');
      this.#emitRound(rounds, 'turn', '');
      rounds.line('workgroupBarrier()');
    });
  }

  #fetchNext(block: Block, { row, column }: NextTile, round: number): void {
    if (column !== undefined) {
      block.let('tile_column', column);
      this.columns(block);
    }
    this.#fetch(block, this.#placesOf(block, row, `${round}u`, `r${round}_`), 'assign');
  }

  /** Emits one round's way from the slab to the sink. */
  #emitRound(block: Block, round: string, prefix: string): void {
    this.#emitPoints(block, round, prefix);
    this.#gatherRows(block, round);
  }

  /** Emits the sums over whole groups of columns of what a round's points left in the slab, and their stores. Ends with the slab still read. */
  #gatherRows(block: Block, round: string): void {
    const { rowSums, columns } = this.#spec;
    if (!rowSums || !this.#sink.sumsRows) return;
    const { tactic: { bn }, slab, threads } = this.#geometry;
    const { run } = this.#engine;
    const rows = product(this.#spec.rows);
    const across = bn / rowSums.columns;
    block.line('workgroupBarrier()');
    block.for('sum', 'lid', `${slab.rows * across}u`, `${threads}u`, (loop) => {
      // Neighbouring invocations have neighbouring rows, as whoever reads the sums has.
      loop.let('sum_row', `sum % ${slab.rows}u`);
      loop.let('sum_group', `sum / ${slab.rows}u`);
      loop.let('row', `tile_row + (sum_row / ${run.rows}u) * ${run.step}u + sum_row % ${run.rows}u + ${round} * ${run.rows}u`);
      loop.let('group', `tile_column / ${rowSums.columns}u + sum_group`);
      loop.let('first', `sum_row * ${slab.pitch}u + sum_group * ${rowSums.columns / slab.columns}u`);
      loop.if(`(row < ${rows}u) & (group < ${columns / rowSums.columns}u)`, (inside) => {
        const parts = Array.from({ length: rowSums.columns / this.#sink.width }, (_, i) => `bitcast<vec2<f32>>(tile[first + ${(i * this.#sink.width) / slab.columns}u].xy)`);
        inside.line(`row_sums[group * ${rows}u + row] = ${parts.join(' + ')}`);
      });
    });
  }

  #emitPoints(block: Block, round: string, prefix: string): void {
    const { threads, slab } = this.#geometry;
    const { rowStep, points, together } = this.#share;
    const both = (inside: Block, places: readonly Place[]): void => this.#finish(inside, places, this.#fetch(inside, places, 'let'));
    if (this.#isFixed()) {
      both(block, this.#placesOf(block, 'tile_row', round, prefix));
      return;
    }
    const [from, to, step] = rowStep === undefined ? ['lid', points, threads] : ['lane_row', slab.rows, rowStep];
    block.for('e', from, `${to}u`, `${step * together}u`, (loop) => {
      both(loop, Array.from({ length: together }, (_, i) => loopPlace(loop, this.#geometry, this.#engine, this.#sink, round, this.#share, i)));
    });
  }

  /** Whether there is something to load before the products, and registers for it. */
  #loadsEarly(): boolean {
    const { tactic: { bm, bn, engine }, threads } = this.#geometry;
    const bytes = ((bm * bn) / threads) * this.#sink.rowBytes;
    return engine !== 'lanes' && bytes > 0 && bytes <= EARLY_BYTES && this.#isFixed();
  }

  /** Whether an invocation's points of a round are at known distances from its first one. */
  #isFixed(): boolean {
    const { rowStep, points, together } = this.#share;
    const { rows } = this.#engine.run;
    return rowStep !== undefined && points <= this.#geometry.threads * together && (rows % rowStep === 0 || rowStep % rows === 0);
  }

  #placesOf(block: Block, tileRow: string, round: string, prefix: string): Place[] {
    return fixedPlaces(block, this.#geometry, this.#engine, tileRow, round, this.#share, prefix);
  }

  /** Emits the loads of some points' operands. Those of points outside are read where the last point's lie, and dropped. */
  #fetch(block: Block, places: readonly Place[], how: Assignment): Fetched[] {
    const rows = product(this.#spec.rows);
    const wholeRows = rows % this.#geometry.tactic.bm === 0;
    return places.map(({ name, row, safeColumn, taken }) => {
      const safeRow = wholeRows && taken === undefined ? row : block.let(`${name}_safe`, `min(${row}, ${rows - 1}u)`);
      return this.#sink.fetch(block, name, safeRow, safeColumn, how);
    });
  }

  /** Emits the ends of some points; what the slab holds for those inside it is read before the first of them. */
  #finish(block: Block, places: readonly Place[], fetched: readonly Fetched[]): void {
    const { tactic, slab } = this.#geometry;
    const rows = product(this.#spec.rows);
    // NVIDIA's compiler moves what follows the loads of halves before them, and is twice as slow for it, unless it lies behind a condition; of bytes the reverse is true.
    const guards = rows % tactic.bm !== 0 || (this.#sink.rowBytes > 0 && this.#spec.element === 'f16' && tactic.walk === 1);
    const sumsOf = (inside: Block, place: Place): string[] =>
      Array.from({ length: this.#sink.width / 4 }, (_, group) => inside.let(`${place.name}_acc${group}`, slabSum(this.#spec, tactic, slab, place, group, this.#sink.width)));
    const sums = places.map((place) => (place.taken === undefined ? sumsOf(block, place) : undefined));
    for (const [i, place] of places.entries()) {
      const { name, row, column, taken } = place;
      const inside = [
        ...(taken === undefined ? [] : [taken]),
        ...(guards ? [`(${row} < ${rows}u)`] : []),
        ...(covers(this.#sink, tactic) ? [] : [`(${column} < ${this.#sink.columns}u)`]),
      ].join(' & ');
      const finish = (then: Block): void => {
        const part = this.#sink.finish(then, name, fetched[i]!, row, column, sums[i] ?? sumsOf(then, place));
        if (part !== undefined) then.line(`tile[${place.vector}] = vec4<u32>(bitcast<vec2<u32>>(${part}), 0u, 0u)`);
      };
      if (inside === '') finish(block);
      else block.if(inside, finish);
    }
  }
}

const covers = (sink: Sink, tactic: PackedTactic): boolean => sink.columns % tactic.bn === 0;

function lastColumn({ columns, width }: Sink): number {
  return (Math.ceil(columns / width) - 1) * width;
}

/** A point: a name for what belongs to it; names and expressions of its row, column and first vector in the slab. */
interface Place {
  readonly name: string;
  readonly row: string;
  readonly column: string;
  readonly safeColumn: string;
  readonly vector: string;
  /** Condition under which the point lies in the slab, where it may not. */
  readonly taken: string | undefined;
}

/** Places whose distances from the first one are known; the prefix tells rounds apart that are written one after another. */
function fixedPlaces(block: Block, { slab }: Geometry, { run }: Engine, tileRow: string, round: string, { together, whole, rowStep: step }: Share, prefix: string): Place[] {
  const rowStep = step!;
  const first = run.rows % rowStep === 0 ? 'lane_row' : `(lane_row / ${run.rows}u) * ${run.step}u + lane_row % ${run.rows}u`;
  block.let(`${prefix}first_row`, `${tileRow} + ${first} + ${round} * ${run.rows}u`);
  block.let(`${prefix}first_vector`, `lane_row * ${slab.pitch}u + lane_column / ${slab.columns}u`);
  return Array.from({ length: together }, (_, i) => {
    const down = i * rowStep;
    const name = `${prefix}row${i}`;
    return {
      name,
      row: block.let(name, `${prefix}first_row + ${Math.floor(down / run.rows) * run.step + (down % run.rows)}u`),
      column: 'column',
      safeColumn: 'safe_column',
      vector: `${prefix}first_vector + ${down * slab.pitch}u`,
      taken: whole ? undefined : `(lane_row + ${down}u < ${slab.rows}u)`,
    };
  });
}

/** The place of point `i` of an iteration, of which `e` is the first. */
function loopPlace(loop: Block, { threads, slab }: Geometry, { run }: Engine, sink: Sink, round: string, { perRow, points, rowStep, whole }: Share, i: number): Place {
  const at = loop.let(`e${i}_`, `e + ${i * (rowStep ?? threads)}u`);
  const slabRow = rowStep === undefined ? loop.let(`slab_row${i}`, `${at} / ${perRow}u`) : at;
  const slabColumn = rowStep === undefined ? loop.let(`slab_column${i}`, `(${at} % ${perRow}u) * ${sink.width}u`) : 'lane_column';
  const column = rowStep === undefined ? loop.let(`column${i}`, `tile_column + ${slabColumn}`) : 'column';
  return {
    name: `row${i}`,
    row: loop.let(`row${i}`, `tile_row + (${slabRow} / ${run.rows}u) * ${run.step}u + ${slabRow} % ${run.rows}u + ${round} * ${run.rows}u`),
    column,
    safeColumn: rowStep === undefined ? loop.let(`safe_column${i}`, `min(${column}, ${lastColumn(sink)}u)`) : 'safe_column',
    vector: loop.let(`vector${i}`, `${slabRow} * ${slab.pitch}u + ${slabColumn} / ${slab.columns}u`),
    taken: whole ? undefined : `(${at} < ${rowStep === undefined ? points : slab.rows}u)`,
  };
}

/** The results of a place's `group`-th four columns as vec4<f32> (sums of i32 are exact until then); the slices are added here. */
function slabSum(spec: PackedSpec, { slices, splitK }: PackedTactic, slab: Slab, { vector, column }: Place, group: number, width: number): string {
  const type = spec.element === 'f16' ? 'vec4<f32>' : 'vec4<i32>';
  const terms = Array.from({ length: slices }, (_, slice) => {
    const at = (offset: number): string => `tile[${vector} + ${slice * slab.rows * slab.pitch + offset}u]`;
    if (slab.columns === 4) return `bitcast<${type}>(${at(group)})`;
    const [low, high] = [`${at(group >> 1)}.xy`, `${at(group >> 1)}.zw`];
    return `halves_to_f32(${width === 4 ? `select(${low}, ${high}, (${column} & 4u) != 0u)` : group % 2 === 0 ? low : high})`;
  });
  const sum = terms.join(' + ');
  return spec.element === 'i8' && splitK === 1 ? `vec4<f32>(${sum})` : sum;
}
