/**
 * The register-tiled matrix kernel: out[batch, row, column] = epilogue(Σ_k A[batch, row, k] · B[batch, k, column]).
 *
 * A is read through a loader, so that the same kernel serves matrix products and convolutions (implicit GEMM: the rows are
 * output pixels, the depth is taps × channels). Both tiles are staged through workgroup memory; the next step's loads are in
 * flight while this one is multiplied. Where there are few tiles the depth is split over workgroups and a second kernel adds
 * the parts. Prior art: CUTLASS's threadblock tiling, split-K.
 */
import { elementCount } from '../../../ir/tensor.ts';
import type { KernelCall } from '../lower/call.ts';
import { type DeviceTensor, storedBytes } from '../lower/tensor.ts';
import type { DeviceProfile } from '../profile.ts';
import { type MatmulTactic, tacticInvocations, tacticName } from '../tactics/matmul.ts';
import { type Block, ModuleBuilder } from '../wgsl/module.ts';
import { ColumnLoader, type ColumnOperand } from './column-loader.ts';
import { Epilogue, epilogueOperands, type EpilogueSpec } from './epilogue.ts';
import { columnGroups, type FewBitColumns, FewBitLoader, packedVectors, rightTensors, wordDepth } from './few-bits/weights.ts';
import { flatWorkgroup, foldWorkgroups, independentThreads } from './grid.ts';
import type { RowLoader } from './row-loader.ts';

export interface MatmulSpec extends EpilogueSpec {
  readonly label: string;
  readonly depth: number;
  readonly a: RowLoader;
  readonly b: ColumnOperand | FewBitColumns;
}

/** The kernels of one product, in order: one, or two where the depth is split (`partial` is the memory between them). */
export function matmulKernels(
  spec: MatmulSpec,
  tactic: MatmulTactic,
  profile: DeviceProfile,
  partial: (elements: number) => DeviceTensor,
): KernelCall[] {
  // No part may be empty: a depth that is cut into whole steps can end with fewer parts than were asked for.
  const splitK = Math.ceil(spec.depth / partDepth(spec.depth, tactic));
  const chosen = { ...tactic, splitK };
  if (splitK === 1) return [tiledKernel(spec, chosen, profile, undefined)];
  const columns = Math.ceil(spec.columns / 4) * 4;
  const parts = partial(splitK * elementCount(spec.batch) * elementCount(spec.rows) * columns);
  return [tiledKernel(spec, chosen, profile, parts), reducePartsKernel(spec, chosen, profile, parts)];
}

/** Depth of one part, in whole steps. */
function partDepth(depth: number, tactic: MatmulTactic): number {
  return Math.max(tactic.bk, Math.ceil(Math.ceil(depth / tactic.splitK) / tactic.bk) * tactic.bk);
}

function tiledKernel(spec: MatmulSpec, tactic: MatmulTactic, profile: DeviceProfile, parts: DeviceTensor | undefined): KernelCall {
  const module = new ModuleBuilder(`${spec.label} ${tacticName(tactic)}`);
  const [rows, batches] = [elementCount(spec.rows), elementCount(spec.batch)];
  const columnTiles = Math.ceil(spec.columns / tactic.bn);
  const tiles = Math.ceil(rows / tactic.bm) * columnTiles;
  // More matrices than a dimension of the grid takes are counted with their tiles.
  const isFlat = batches * tactic.splitK > profile.maxWorkgroupsPerDimension;
  const grid = foldWorkgroups(isFlat ? tiles * batches : tiles, profile);
  spec.a.bind(module);
  const b = spec.b.kind === 'few-bits' ? new FewBitLoader(module, spec.b) : new ColumnLoader(module, spec, spec.b);
  const sink = parts ? new PartialSink(module, spec, parts) : new Epilogue(module, spec);
  const tile = new Tile(module, spec, tactic, b);
  module.main(tacticInvocations(tactic), (block) => {
    if (isFlat) {
      block.let('place', flatWorkgroup(grid));
      block.if(`place >= ${tiles * batches}u`, (inside) => inside.line('return'));
    }
    const flat = block.let('tile', isFlat ? `place % ${tiles}u` : flatWorkgroup(grid));
    block.let('tile_row', `(${flat} / ${columnTiles}u) * ${tactic.bm}u`);
    block.let('tile_column', `(${flat} % ${columnTiles}u) * ${tactic.bn}u`);
    block.let('batch', isFlat ? `place / ${tiles}u` : tactic.splitK === 1 ? 'wid.z' : `wid.z / ${tactic.splitK}u`);
    const part = tactic.splitK === 1 ? undefined : block.let('part', `wid.z % ${tactic.splitK}u`);
    block.let('thread_x', `lid % ${tactic.bn / tactic.tn}u`);
    block.let('thread_y', `lid / ${tactic.bn / tactic.tn}u`);
    tile.multiply(block, part);
    // A part's rows hold the columns alone: padding lanes beyond them are the next row.
    const columns = parts ? spec.columns : Math.max(spec.columns, spec.storedColumns);
    tile.each(block, columns, (inside, row, column, accumulator) => {
      if (sink instanceof PartialSink) sink.emit(inside, part!, row, column, accumulator);
      else sink.emit(inside, 'batch', row, column, accumulator);
    });
  });
  const ends = parts ? [parts] : epilogueOperands(spec).map((operand) => operand.tensor);
  return {
    source: module.finish(),
    operands: [...spec.a.tensors, ...rightTensors(spec.b), ...ends],
    workgroups: isFlat ? grid : [grid[0], grid[1], batches * tactic.splitK],
    tactic: tacticName(tactic),
  };
}

/** Writes accumulators as they are, to [part, batch, row, column] with whole vec4s per row. */
class PartialSink {
  readonly #rows: number;
  readonly #batches: number;
  readonly #rowVectors: number;

  constructor(module: ModuleBuilder, spec: MatmulSpec, parts: DeviceTensor) {
    this.#rows = elementCount(spec.rows);
    this.#batches = elementCount(spec.batch);
    this.#rowVectors = Math.ceil(spec.columns / 4);
    module.storage('parts', 'f32', 4, storedBytes(parts) / 16, 'read_write');
  }

  emit(block: Block, part: string, row: string, column: string, accumulator: string): void {
    block.line(`parts[((${part} * ${this.#batches}u + batch) * ${this.#rows}u + ${row}) * ${this.#rowVectors}u + ${column} / 4u] = ${accumulator}`);
  }
}

/** Adds the parts of a split depth and ends like the kernel without a split. */
function reducePartsKernel(spec: MatmulSpec, tactic: MatmulTactic, profile: DeviceProfile, parts: DeviceTensor): KernelCall {
  const module = new ModuleBuilder(`${spec.label} sum of ${tactic.splitK}`);
  module.storage('parts', 'f32', 4, storedBytes(parts) / 16, 'read');
  const epilogue = new Epilogue(module, spec);
  // Stored rows may end in more padding lanes than the parts' have; they are written too, since readers take them for zero.
  const [vectors, stored] = [Math.ceil(spec.columns / 4), Math.ceil(Math.max(spec.columns, spec.storedColumns) / 4)];
  const rows = elementCount(spec.rows);
  const lines = elementCount(spec.batch) * rows;
  const threads = lines * stored;
  const workgroups = independentThreads(module, threads, profile, (block) => {
    const at = block.let('at', stored === vectors ? 'i' : `(i / ${stored}u) * ${vectors}u + min(i % ${stored}u, ${vectors - 1}u)`);
    block.var('sum', `parts[${at}]`);
    for (let part = 1; part < tactic.splitK; part++) block.line(`sum += parts[${at} + ${part * lines * vectors}u]`);
    block.let('column', `(i % ${stored}u) * 4u`);
    block.let('row', `(i / ${stored}u) % ${rows}u`);
    block.let('batch', `i / ${stored * rows}u`);
    epilogue.emit(block, 'batch', 'row', 'column', 'sum');
  });
  return { source: module.finish(), operands: [parts, ...epilogueOperands(spec).map((operand) => operand.tensor)], workgroups };
}

/** The tile of one workgroup: staging, multiplication, and the walk over its results. */
class Tile {
  readonly #spec: MatmulSpec;
  readonly #tactic: MatmulTactic;
  readonly #b: ColumnLoader | FewBitLoader;
  readonly #threads: number;
  /** Threads along columns and rows. */
  readonly #tx: number;
  readonly #ty: number;

  constructor(module: ModuleBuilder, spec: MatmulSpec, tactic: MatmulTactic, b: ColumnLoader | FewBitLoader) {
    this.#spec = spec;
    this.#tactic = tactic;
    this.#b = b;
    this.#threads = tacticInvocations(tactic);
    this.#tx = tactic.bn / tactic.tn;
    this.#ty = tactic.bm / tactic.tm;
    module.workgroup('tile_a', 'f32', 4, tactic.bm * this.#rowVectors());
    module.workgroup('tile_b', 'f32', 4, (tactic.bk * tactic.bn) / 4);
  }

  /** vec4s per row of the A tile, one of them padding against bank conflicts. */
  #rowVectors(): number {
    return this.#tactic.bk / 4 + 1;
  }

  multiply(block: Block, part: string | undefined): void {
    const { bk } = this.#tactic;
    const { depth } = this.#spec;
    const perPart = partDepth(depth, this.#tactic);
    block.let('k_begin', part ? `${part} * ${perPart}u` : '0u');
    block.let('k_end', part ? `min(k_begin + ${perPart}u, ${depth}u)` : `${depth}u`);
    const a = this.#stageA(block);
    const b = this.#b instanceof FewBitLoader ? this.#stageWords(block, this.#b) : this.#stageB(block, this.#b);
    this.#accumulators((name) => block.var(name, 'vec4<f32>()'));
    for (const stage of [a, b]) stage.load(block, 'k_begin', 'var');
    block.for('k', 'k_begin', 'k_end', `${bk}u`, (loop) => {
      loop.line('workgroupBarrier()');
      for (const stage of [a, b]) stage.store(loop);
      loop.line('workgroupBarrier()');
      loop.if(`k + ${bk}u < k_end`, (next) => {
        next.let('k_next', `k + ${bk}u`);
        for (const stage of [a, b]) stage.load(next, 'k_next', 'assign');
      });
      this.#multiplyStep(loop);
    });
  }

  /** A thread loads vec4s along the depth: neighbouring threads take neighbouring depths of one row. */
  #stageA(block: Block): Stage {
    const { bm, bk } = this.#tactic;
    const perRow = bk / 4;
    const loads = (bm * perRow) / this.#threads;
    const rowStep = this.#threads / perRow;
    block.let('a_k', `(lid % ${perRow}u) * 4u`);
    block.let('a_row', `lid / ${perRow}u`);
    const count = Math.max(1, Math.ceil(loads));
    const last = elementCount(this.#spec.rows) - 1;
    for (let i = 0; i < count; i++) this.#spec.a.row(block, `ar${i}`, `min(tile_row + a_row + ${i * rowStep}u, ${last}u)`);
    const guard = loads < 1 ? `lid < ${bm * perRow}u` : undefined;
    return {
      load: (into, k, how) => {
        const at = into.let(how === 'var' ? 'ak' : 'ak_next', `${k} + a_k`);
        const depthName = how === 'var' ? 'ad' : 'ad_next';
        this.#spec.a.depth(into, depthName, at, this.#tail());
        for (let i = 0; i < count; i++) assign(into, `a${i}`, this.#spec.a.load(into, `ar${i}`, depthName), how);
      },
      store: (into) => {
        const write = (inside: Block): void => {
          for (let i = 0; i < count; i++) inside.line(`tile_a[(a_row + ${i * rowStep}u) * ${this.#rowVectors()}u + a_k / 4u] = a${i}`);
        };
        if (guard) into.if(guard, write);
        else write(into);
      },
    };
  }

  #stageB(block: Block, columns: ColumnLoader): Stage {
    const { bn, bk } = this.#tactic;
    const perRow = bn / 4;
    const loads = (bk * perRow) / this.#threads;
    const rowStep = this.#threads / perRow;
    block.let('b_lane', `lid % ${perRow}u`);
    block.let('b_row', loads < 1 ? `(lid / ${perRow}u) % ${bk}u` : `lid / ${perRow}u`);
    columns.begin(block, 'tile_column + b_lane * 4u');
    const count = Math.max(1, Math.ceil(loads));
    const guard = loads < 1 ? `lid < ${bk * perRow}u` : undefined;
    const { depth } = this.#spec;
    return {
      load: (into, k, how) => {
        for (let i = 0; i < count; i++) {
          const at = into.let(`${how === 'var' ? 'bk' : 'bk_next'}${i}`, `${k} + b_row + ${i * rowStep}u`);
          const value = columns.load(this.#tail() ? `min(${at}, ${depth - 1}u)` : at);
          assign(into, `b${i}`, this.#tail() ? `select(vec4<f32>(), ${value}, ${at} < k_end)` : value, how);
        }
      },
      store: (into) => {
        const write = (inside: Block): void => {
          for (let i = 0; i < count; i++) inside.line(`tile_b[(b_row + ${i * rowStep}u) * ${perRow}u + b_lane] = b${i}`);
        };
        if (guard) into.if(guard, write);
        else write(into);
      },
    };
  }

  /** Vectors of few bits come as they lie, and are dequantized on their way into workgroup memory. Beyond the depth A is zero. */
  #stageWords(block: Block, words: FewBitLoader): Stage {
    const { bn, bk } = this.#tactic;
    const spec = this.#spec.b as FewBitColumns;
    const [perRow, depth] = [bn / 4, wordDepth(spec)];
    const vectors = bk / depth;
    const loads = (vectors * perRow) / this.#threads;
    const rowStep = this.#threads / perRow;
    block.let('b_lane', `lid % ${perRow}u`);
    block.let('b_row', loads < 1 ? `(lid / ${perRow}u) % ${vectors}u` : `lid / ${perRow}u`);
    block.let('b_group', `min(tile_column / 4u + b_lane, ${columnGroups(spec) - 1}u)`);
    const count = Math.max(1, Math.ceil(loads));
    const guard = loads < 1 ? `lid < ${vectors * perRow}u` : undefined;
    return {
      load: (into, k, how) => {
        for (let i = 0; i < count; i++) {
          const vector = `${k} / ${depth}u + b_row + ${i * rowStep}u`;
          const at = into.let(`${how === 'var' ? 'bv' : 'bv_next'}${i}`, this.#tail() ? `min(${vector}, ${packedVectors(spec) - 1}u)` : vector);
          assign(into, `b${i}`, words.load(at, 'b_group'), how);
          words.block(into, `b${i}`, at, 'b_group', how);
        }
      },
      store: (into) => {
        const write = (inside: Block): void => {
          for (let i = 0; i < count; i++) {
            for (let lane = 0; lane < depth; lane++) inside.line(`tile_b[((b_row + ${i * rowStep}u) * ${depth}u + ${lane}u) * ${perRow}u + b_lane] = b${i}_s * ${words.weights(`b${i}`, lane, `b${i}`)}`);
          }
        };
        if (guard) into.if(guard, write);
        else write(into);
      },
    };
  }

  /** Whether a step may reach beyond the depth. */
  #tail(): boolean {
    return this.#spec.depth % this.#tactic.bk !== 0;
  }

  #accumulators(visit: (name: string, i: number, j: number) => void): void {
    for (let i = 0; i < this.#tactic.tm; i++) for (let j = 0; j < this.#tactic.tn / 4; j++) visit(`acc${i}_${j}`, i, j);
  }

  #multiplyStep(loop: Block): void {
    const { bk, bn, tm, tn } = this.#tactic;
    loop.for('q', '0u', `${bk / 4}u`, '1u', (inner) => {
      for (let i = 0; i < tm; i++) inner.let(`m${i}`, `tile_a[(thread_y + ${i * this.#ty}u) * ${this.#rowVectors()}u + q]`);
      for (const [lane, component] of ['x', 'y', 'z', 'w'].entries()) {
        for (let j = 0; j < tn / 4; j++) {
          inner.let(`n${lane}_${j}`, `tile_b[(q * 4u + ${lane}u) * ${bn / 4}u + thread_x + ${j * this.#tx}u]`);
        }
        this.#accumulators((name, i, j) => inner.line(`${name} += m${i}.${component} * n${lane}_${j}`));
      }
    });
  }

  /** Visits every result whose vector begins before `columns`. */
  each(block: Block, columns: number, visit: (block: Block, row: string, column: string, accumulator: string) => void): void {
    const { tm, tn } = this.#tactic;
    const rows = elementCount(this.#spec.rows);
    for (let j = 0; j < tn / 4; j++) block.let(`column${j}`, `tile_column + (thread_x + ${j * this.#tx}u) * 4u`);
    for (let i = 0; i < tm; i++) {
      const row = block.let(`row${i}`, `tile_row + thread_y + ${i * this.#ty}u`);
      for (let j = 0; j < tn / 4; j++) {
        block.if(`${row} < ${rows}u && column${j} < ${columns}u`, (inside) => visit(inside, row, `column${j}`, `acc${i}_${j}`));
      }
    }
  }
}

interface Stage {
  /** Emits loads from device memory into registers: declared the first time, assigned afterwards. */
  load(block: Block, k: string, how: 'var' | 'assign'): void;
  /** Emits stores of the registers to workgroup memory. */
  store(block: Block): void;
}

function assign(block: Block, name: string, value: string, how: 'var' | 'assign'): void {
  if (how === 'var') block.var(name, value);
  else block.line(`${name} = ${value}`);
}
