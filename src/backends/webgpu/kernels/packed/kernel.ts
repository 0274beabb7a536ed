/**
 * The packed matrix kernel: matrix products and convolutions (implicit GEMM) of f16 and i8, on subgroup matrices where the
 * device has them.
 *
 * A workgroup stages blocks of A and B in workgroup memory, 16 bytes per access; the next block's loads are in flight while
 * one is multiplied. Results leave through a slab in the same memory, so that the epilogue sees whole vectors of neighbouring
 * columns whatever the engine's own layout is. Prior art: CUTLASS (threadblock and warp tiles, epilogue through shared memory,
 * split-K and sliced-K).
 */
import type { KernelCall } from '../../lower/context.ts';
import { type DeviceTensor, storedBytes } from '../../lower/tensor.ts';
import type { DeviceProfile } from '../../profile.ts';
import { packedTacticName, packedWorkgroupBytes, type PackedTactic, partialColumns, stagedVectors } from '../../tactics/packed.ts';
import { type Block, ModuleBuilder } from '../../wgsl/module.ts';
import { flatInvocations, flatWorkgroup, foldWorkgroups } from '../grid.ts';
import { transposedStage, weightStage } from './columns.ts';
import { type Engine, type Geometry, geometryOf } from './engine.ts';
import { engineOf } from './engines.ts';
import { type Fetched, WideEpilogue, wideOperands } from './epilogue.ts';
import { imageSource, matrixSource, rowStage, type Stage, type StageShape } from './rows.ts';
import { type PackedSpec, product } from './spec.ts';

/**
 * The kernels of one product, in order: one, or two where the depth is split. `partial` gives the memory between them, words
 * that hold f32 or i32 sums.
 */
export function packedKernels(spec: PackedSpec, tactic: PackedTactic, profile: DeviceProfile, partial: (elements: number) => DeviceTensor): KernelCall[] {
  // No part may be empty: a depth that is cut into whole steps can end with fewer parts than were asked for.
  const splitK = Math.ceil(spec.depth / partDepth(spec.depth, tactic));
  const chosen = { ...tactic, splitK };
  if (splitK === 1) return [tiledKernel(spec, chosen, profile, undefined)];
  const parts = partial(splitK * product(spec.batch) * product(spec.rows) * partialColumns(spec.columns));
  return [tiledKernel(spec, chosen, profile, parts), reduceKernel(spec, chosen, profile, parts)];
}

/** Depth of one part in vectors, in whole steps. */
function partDepth(depth: number, { bk, splitK }: PackedTactic): number {
  return Math.ceil(Math.ceil(depth / splitK) / bk) * bk;
}

function tiledKernel(spec: PackedSpec, tactic: PackedTactic, profile: DeviceProfile, parts: DeviceTensor | undefined): KernelCall {
  const name = packedTacticName(tactic, spec.element);
  const module = new ModuleBuilder(`${spec.label} ${name}`);
  const geometry = geometryOf(tactic, spec.element);
  const engine = engineOf(geometry);
  const [a, b] = stagesOf(spec, geometry, engine);
  for (const stage of [a, b]) stage.bind(module);
  const sink = parts ? new PartialSink(module, spec, parts) : new EpilogueSink(module, spec);
  engine.declare(module);
  module.workgroup('tile', 'u32', 4, packedWorkgroupBytes(tactic) / 16);
  const columnTiles = Math.ceil(Math.max(spec.columns, parts ? 0 : spec.storedColumns) / tactic.bn);
  const grid = foldWorkgroups(Math.ceil(product(spec.rows) / tactic.bm) * columnTiles, profile);
  const emit = (block: Block): void => {
    const flat = block.let('place', flatWorkgroup(grid));
    block.let('tile_row', `(${flat} / ${columnTiles}u) * ${tactic.bm}u`);
    block.let('tile_column', `(${flat} % ${columnTiles}u) * ${tactic.bn}u`);
    block.let('batch', tactic.splitK === 1 ? 'wid.z' : `wid.z / ${tactic.splitK}u`);
    if (tactic.splitK > 1) block.let('part', `wid.z % ${tactic.splitK}u`);
    engine.begin(block);
    for (const stage of [a, b]) stage.prepare(block);
    multiply(block, spec, geometry, engine, [a, b]);
    for (let round = 0; round < geometry.slab.rounds; round++) emitRound(block, spec, geometry, engine, sink, round);
  };
  module.main(geometry.threads, emit, engine.subgroupSize);
  const ends = parts ? [parts] : wideOperands(spec).map((operand) => operand.tensor);
  return {
    source: module.finish(),
    operands: [a.tensor, b.tensor, ...ends],
    workgroups: [grid[0], grid[1], product(spec.batch) * tactic.splitK],
    tactic: name,
  };
}

function stagesOf(spec: PackedSpec, { tactic, threads, pitch, bBegin }: Geometry, engine: Engine): [Stage, Stage] {
  const shared = { threads, bk: tactic.bk, depth: spec.depth, pitch };
  const left: StageShape = { ...shared, name: 'a', rows: tactic.bm, origin: 'tile_row', count: product(spec.rows), begin: 0, slot: undefined };
  const right: StageShape = { ...shared, name: 'b', rows: tactic.bn, origin: 'tile_column', count: spec.columns, begin: bBegin, slot: engine.columnSlot };
  const { a, b } = spec;
  const aStage = rowStage(left, a.kind === 'matrix' ? matrixSource(a, spec, left) : imageSource(a, left));
  switch (b.kind) {
    case 'packed':
      return [aStage, weightStage(b, right)];
    case 'rows-k-contiguous':
      return [aStage, rowStage(right, matrixSource(b, { batch: spec.batch, rows: [spec.columns] }, right))];
    case 'columns-contiguous':
      return [aStage, transposedStage(b, spec.batch, right)];
    default:
      return b satisfies never;
  }
}

/** The loop over the depth. */
function multiply(block: Block, spec: PackedSpec, { tactic }: Geometry, engine: Engine, stages: readonly Stage[]): void {
  const { bk, splitK, buffers } = tactic;
  const perPart = partDepth(spec.depth, tactic);
  block.let('k_begin', splitK === 1 ? '0u' : `part * ${perPart}u`);
  block.let('k_end', splitK === 1 ? `${spec.depth}u` : `min(k_begin + ${perPart}u, ${spec.depth}u)`);
  for (const stage of stages) stage.load(block, 'k_begin', 'var');
  const loadNext = (loop: Block, then: (inside: Block) => void = () => undefined): void =>
    loop.if(`k + ${bk}u < k_end`, (next) => {
      next.let('k_next', `k + ${bk}u`);
      for (const stage of stages) stage.load(next, 'k_next', 'assign');
      then(next);
    });
  if (buffers === 1) {
    block.for('k', 'k_begin', 'k_end', `${bk}u`, (loop) => {
      loop.line('workgroupBarrier()');
      for (const stage of stages) stage.store(loop, '');
      loop.line('workgroupBarrier()');
      loadNext(loop);
      engine.multiply(loop, '');
    });
    return;
  }
  const other = stagedVectors(tactic) / 2;
  block.var('staged', '0u');
  for (const stage of stages) stage.store(block, '');
  block.for('k', 'k_begin', 'k_end', `${bk}u`, (loop) => {
    loop.line('workgroupBarrier()');
    loadNext(loop);
    engine.multiply(loop, 'staged + ');
    loop.line(`staged = ${other}u - staged`);
    loop.if(`k + ${bk}u < k_end`, (next) => {
      for (const stage of stages) stage.store(next, 'staged + ');
    });
  });
}

/** Where the results of a tile go, several columns at a time. */
interface Sink {
  readonly width: number;
  /** Columns that are written. */
  readonly columns: number;
  fetch(block: Block, row: string, column: string): Fetched | undefined;
  finish(block: Block, fetched: Fetched | undefined, row: string, column: string, accumulators: readonly string[]): void;
}

/** The fused end. */
class EpilogueSink implements Sink {
  readonly width: number;
  readonly columns: number;
  readonly #epilogue: WideEpilogue;

  constructor(module: ModuleBuilder, spec: PackedSpec) {
    this.#epilogue = new WideEpilogue(module, spec);
    this.width = this.#epilogue.width;
    this.columns = Math.max(spec.columns, spec.storedColumns);
  }

  fetch(block: Block, row: string, column: string): Fetched {
    return this.#epilogue.fetch(block, 'batch', row, column);
  }

  finish(block: Block, fetched: Fetched | undefined, _row: string, _column: string, accumulators: readonly string[]): void {
    this.#epilogue.finish(block, fetched!, accumulators);
  }
}

/** Sums as they are, to [part, batch, row, column]. i32 sums go as their bits. */
class PartialSink implements Sink {
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

  fetch(): undefined {
    return undefined;
  }

  finish(block: Block, _fetched: Fetched | undefined, row: string, column: string, accumulators: readonly string[]): void {
    const line = `((part * ${this.#batches}u + batch) * ${this.#rows}u + ${row}) * ${this.columns / 4}u`;
    block.line(`parts[${line} + ${column} / 4u] = bitcast<vec4<u32>>(${accumulators[0]})`);
  }
}

/** Points whose operands are loaded together: their latencies overlap. */
const POINTS_AT_ONCE = 4;

/** One round of results: from accumulators to the slab, and from there to the sink. */
function emitRound(block: Block, spec: PackedSpec, { tactic, threads, slab }: Geometry, engine: Engine, sink: Sink, round: number): void {
  const perRow = tactic.bn / sink.width;
  const points = slab.rows * perRow;
  const together = Math.min(POINTS_AT_ONCE, Math.ceil(points / threads));
  block.line('workgroupBarrier()');
  engine.spill(block, round);
  block.line('workgroupBarrier()');
  block.for('e', 'lid', `${points}u`, `${threads * together}u`, (loop) => {
    const rows = product(spec.rows);
    const tails = [
      ...(points % (threads * together) === 0 ? [] : [`({e} < ${points}u)`]),
      ...(rows % tactic.bm === 0 ? [] : [`({row} < ${rows}u)`]),
      ...(sink.columns % tactic.bn === 0 ? [] : [`({column} < ${sink.columns}u)`]),
    ];
    const fetched = Array.from({ length: together }, (_, i) => {
      const at = loop.let(`e${i}_`, `e + ${i * threads}u`);
      const slabRow = loop.let(`slab_row${i}`, `${at} / ${perRow}u`);
      loop.let(`slab_column${i}`, `(${at} % ${perRow}u) * ${sink.width}u`);
      const row = loop.let(`row${i}`, `tile_row + ${engine.tileRow(round, slabRow)}`);
      const column = loop.let(`column${i}`, `tile_column + slab_column${i}`);
      const inside = tails.map((tail) => tail.replace('{e}', at).replace('{row}', row).replace('{column}', column)).join(' & ');
      // Operands of points outside are read where the last point's lie, and dropped.
      const [safeRow, safeColumn] = inside === '' ? [row, column] : [loop.let(`safe_row${i}`, `min(${row}, ${rows - 1}u)`), loop.let(`safe_column${i}`, `min(${column}, ${lastColumn(sink)}u)`)];
      return { row, column, inside, fetched: sink.fetch(loop, safeRow, safeColumn) };
    });
    for (const [i, point] of fetched.entries()) {
      const finish = (inside: Block): void => {
        const sums = Array.from({ length: sink.width / 4 }, (_, group) => inside.let(`acc_${i}_${group}`, slabSum(spec, tactic, slab, `slab_row${i}`, `slab_column${i} / 4u + ${group}u`)));
        sink.finish(inside, point.fetched, point.row, point.column, sums);
      };
      if (point.inside === '') finish(loop);
      else loop.if(point.inside, finish);
    }
  });
}

function lastColumn({ columns, width }: Sink): number {
  return (Math.ceil(columns / width) - 1) * width;
}

/** A result of the slab as vec4<f32> (sums of i32 are exact until then); the slices are added here. */
function slabSum(spec: PackedSpec, { slices, splitK }: PackedTactic, slab: Geometry['slab'], row: string, vector: string): string {
  const type = spec.element === 'f16' ? 'vec4<f32>' : 'vec4<i32>';
  const terms = Array.from({ length: slices }, (_, slice) => `bitcast<${type}>(tile[(${row} + ${slice * slab.rows}u) * ${slab.pitch}u + ${vector}])`);
  const sum = terms.join(' + ');
  return spec.element === 'i8' && splitK === 1 ? `vec4<f32>(${sum})` : sum;
}

/** Adds the parts of a split depth and ends like the kernel without a split. */
function reduceKernel(spec: PackedSpec, { splitK }: PackedTactic, profile: DeviceProfile, parts: DeviceTensor): KernelCall {
  const module = new ModuleBuilder(`${spec.label} sum of ${splitK}`);
  const type = spec.element === 'f16' ? 'f32' : 'i32';
  module.storage('parts', type, 4, storedBytes(parts) / 16, 'read');
  const epilogue = new WideEpilogue(module, spec);
  const { width } = epilogue;
  const [stored, vectors] = [Math.ceil(spec.storedColumns / width), partialColumns(spec.columns) / 4];
  const [rows, batches] = [product(spec.rows), product(spec.batch)];
  const threads = batches * rows * stored;
  const invocations = flatInvocations(threads, profile);
  const grid = foldWorkgroups(Math.ceil(threads / invocations), profile);
  module.main(invocations, (block) => {
    block.let('i', `${flatWorkgroup(grid)} * ${invocations}u + lid`);
    block.if(`i >= ${threads}u`, (inside) => inside.line('return'));
    block.let('column', `(i % ${stored}u) * ${width}u`);
    block.let('line', `i / ${stored}u`);
    block.let('row', `line % ${rows}u`);
    block.let('batch', `line / ${rows}u`);
    const fetched = epilogue.fetch(block, 'batch', 'row', 'column');
    const sums = Array.from({ length: width / 4 }, (_, group) => {
      // Padding columns beyond the partial results' own repeat the last ones; the epilogue masks them.
      const vector = block.let(`v${group}`, `line * ${vectors}u + min(column / 4u + ${group}u, ${vectors - 1}u)`);
      const terms = Array.from({ length: splitK }, (_unused, part) => `parts[${vector} + ${part * batches * rows * vectors}u]`);
      return block.let(`s${group}`, type === 'i32' ? `vec4<f32>(${terms.join(' + ')})` : terms.join(' + '));
    });
    epilogue.finish(block, fetched, sums);
  });
  return { source: module.finish(), operands: [parts, ...wideOperands(spec).map((operand) => operand.tensor)], workgroups: grid };
}
