/**
 * The packed matrix kernel: matrix products and convolutions (implicit GEMM) of f16 and i8, on subgroup matrices where the
 * device has them.
 *
 * A workgroup stages blocks of A and B in workgroup memory, 16 bytes per access; the next block's loads are in flight while
 * one is multiplied. Results leave through a slab in the same memory, so that the epilogue sees whole vectors of neighbouring
 * columns whatever the engine's own layout is. Prior art: CUTLASS (threadblock and warp tiles, epilogue through shared memory,
 * split-K and sliced-K).
 */
import type { KernelCall } from '../../lower/call.ts';
import { type DeviceTensor, storedBytes } from '../../lower/tensor.ts';
import type { DeviceProfile } from '../../profile.ts';
import { packedTacticName, packedWorkgroupBytes, type PackedTactic, partialColumns, stagedVectors } from '../../tactics/packed.ts';
import { type Block, ModuleBuilder } from '../../wgsl/module.ts';
import { foldWorkgroups, independentThreads, repeatedWorkgroup } from '../grid.ts';
import { transposedStage, weightStage } from './columns.ts';
import { type Engine, type Geometry, geometryOf } from './engine.ts';
import { fewBitStage } from './few-bits.ts';
import { engineOf } from './engines.ts';
import { WideEpilogue, wideTensors } from './epilogue.ts';
import { momentTensors, rowMoments } from './moments.ts';
import { EpilogueSink, PartialSink, Results } from './results.ts';
import { imageSource, matrixSource, type RowPart, rowStage, type SourceBlocks, type Stage, type StageShape } from './rows.ts';
import { scaledStage } from './scaled.ts';
import { slideStage } from './slide.ts';
import { stationaryKernel } from './stationary.ts';
import { type PackedSource, type PackedSpec, product } from './spec.ts';

/**
 * The kernels of one product, in order: one, or two where the depth is split. `partial` gives the memory between them, words
 * that hold f32 or i32 sums.
 */
export function packedKernels(spec: PackedSpec, tactic: PackedTactic, profile: DeviceProfile, partial: (elements: number) => DeviceTensor): KernelCall[] {
  if (tactic.stationary) return [stationaryKernel(spec, tactic, profile)];
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
  const moments = spec.normalization && rowMoments(module, spec.normalization, leftShape(spec, geometry));
  const sink = parts ? new PartialSink(module, spec, parts) : new EpilogueSink(module, spec, tactic);
  engine.declare(module);
  module.workgroup('tile', 'u32', 4, packedWorkgroupBytes(tactic) / 16);
  const columnTiles = Math.ceil(Math.max(spec.columns, parts ? 0 : spec.storedColumns) / tactic.bn);
  const rowTiles = Math.ceil(product(spec.rows) / tactic.bm);
  const groups = Math.ceil(rowTiles / tactic.walk) * columnTiles;
  const grid = foldWorkgroups(groups, profile);
  const emit = (block: Block): void => {
    const flat = block.let('place', repeatedWorkgroup(grid, groups));
    block.let('first_tile', `${flat} / ${columnTiles}u${tactic.walk === 1 ? '' : ` * ${tactic.walk}u`}`);
    block.let('tile_row', `first_tile * ${tactic.bm}u`);
    block.let('tile_column', `(${flat} % ${columnTiles}u) * ${tactic.bn}u`);
    block.let('batch', tactic.splitK === 1 ? 'wid.z' : `wid.z / ${tactic.splitK}u`);
    if (tactic.splitK > 1) block.let('part', `wid.z % ${tactic.splitK}u`);
    const line = `${flat} / ${columnTiles}u`;
    const apart = spec.element === 'f16' && !tactic.halfSums && product(spec.rows) >= MANY_ROWS;
    const turn = apart ? `(${line} + ${flat} % ${columnTiles}u)` : line;
    const products = new Product(block, spec, geometry, engine, [moments ? moments.watch(a) : a, b], turn);
    const results = new Results(spec, geometry, engine, sink);
    engine.begin(block);
    products.load(block);
    results.load(block, tactic.walk === 1 ? 'let' : 'var');
    moments?.begin(block);
    if (tactic.walk > 1) emitWalk(block, tactic, rowTiles, engine, products, results);
    else {
      products.multiply(block);
      moments?.finish(block);
      results.hoist(block);
      results.emit(block);
    }
  };
  module.main(geometry.threads, emit, engine.subgroupSize);
  const ends = parts ? [parts] : wideTensors(spec);
  return {
    source: module.finish(),
    operands: [...a.tensors, ...b.tensors, ...(spec.normalization ? momentTensors(spec.normalization) : []), ...ends],
    workgroups: [grid[0], grid[1], product(spec.batch) * tactic.splitK],
    tactic: name,
  };
}

function leftShape({ depth, rows }: PackedSpec, { tactic, threads, pitch }: Geometry): StageShape {
  return { threads, bk: tactic.bk, depth, pitch, name: 'a', rows: tactic.bm, origin: 'tile_row', count: product(rows), begin: 0, slot: undefined };
}

function stagesOf(spec: PackedSpec, geometry: Geometry, engine: Engine): [Stage, Stage] {
  const { tactic, threads, pitch, bBegin } = geometry;
  const shared = { threads, bk: tactic.bk, depth: spec.depth, pitch };
  const left = leftShape(spec, geometry);
  const right: StageShape = { ...shared, name: 'b', rows: tactic.bn, origin: 'tile_column', count: spec.columns, begin: bBegin, slot: engine.columnSlot };
  const { b } = spec;
  const rows = tactic.slide ? slideStage(left, spec.a, tactic) : rowStage(left, ...leftParts(spec, tactic.bk));
  const aStage = spec.scaleOfA ? scaledStage(rows, left, factorStage(spec, left)) : rows;
  switch (b.kind) {
    case 'packed':
      return [aStage, weightStage(b, right)];
    case 'rows-k-contiguous':
      return [aStage, rowStage(right, { begin: 0, source: matrixSource(b, { batch: spec.batch, rows: [spec.columns] }, { name: 'b', bk: tactic.bk, tail: spec.depth % tactic.bk !== 0, aligned: true }) })];
    case 'columns-contiguous':
      return [aStage, transposedStage(b, spec.batch, right)];
    case 'few-bits':
      return [aStage, fewBitStage(b, right, tactic.engine === 'matrix')];
    default:
      return b satisfies never;
  }
}

/** The factors of the left matrix, loaded like its rows. */
function factorStage({ scaleOfA, batch, rows, depth }: PackedSpec, left: StageShape): Stage {
  const { bk } = left;
  return rowStage({ ...left, name: 'scale' }, { begin: 0, source: matrixSource(scaleOfA!, { batch, rows }, { name: 'scale', bk, tail: depth % bk !== 0, aligned: true }) });
}

function leftParts({ a: left, depth, batch, rows }: PackedSpec, bk: number): readonly [RowPart, ...RowPart[]] {
  const source = (a: PackedSource, blocks: SourceBlocks): RowPart['source'] => (a.kind === 'matrix' ? matrixSource(a, { batch, rows }, blocks) : imageSource(a, blocks));
  if (left.kind !== 'joined') return [{ begin: 0, source: source(left, { name: 'a', bk, tail: depth % bk !== 0, aligned: true }) }];
  let begin = 0;
  const begins = left.parts.map((part) => (begin += part.depth) - part.depth);
  const aligned = begins.every((at) => at % bk === 0);
  const parts = left.parts.map(({ a }, i): RowPart => ({ begin: begins[i]!, source: source(a, { name: `a_${i}_`, bk, tail: false, aligned }) }));
  return parts as [RowPart, ...RowPart[]];
}

/** The tiles of a workgroup, one below the other: the loads for the next are under way while results of one leave. */
function emitWalk(block: Block, { walk, bm }: PackedTactic, rowTiles: number, engine: Engine, product: Product, results: Results): void {
  results.hoist(block);
  block.let('tiles', `min(${walk}u, ${rowTiles}u - min(first_tile, ${rowTiles}u))`);
  block.for('step', '0u', 'tiles', '1u', (loop) => {
    loop.let('tile_row', `(first_tile + step) * ${bm}u`);
    loop.let('next_row', `tile_row + ${bm}u`);
    const next = { row: 'next_row', exists: 'step + 1u < tiles' };
    engine.clear(loop);
    product.prepare(loop);
    product.multiply(loop);
    loop.if(next.exists, (inside) => {
      inside.let('tile_row', next.row);
      product.loadNext(inside);
    });
    results.emit(loop, next);
    loop.line('workgroupBarrier()');
  });
}

/** Fewer blocks are loaded before they could be missed. */
const FEWEST_STAGGERED = 4;

/**
 * From so many rows of halves on, workgroups with the same rows begin at different blocks as well, if sums are in f32. Otherwise they had better
 * read a block of the rows together: by the networks in docs/performance.md, "Where workgroups begin".
 */
const MANY_ROWS = 4096;

/** Of fewer blocks than this for each that is ahead, too much would be loaded again. */
const FEWEST_AGAIN = 8;

/** The products over the depth of a tile, and the loads of its blocks. */
class Product {
  readonly #tactic: PackedTactic;
  readonly #engine: Engine;
  readonly #stages: readonly [Stage, Stage];
  /** The depth is a single block. */
  readonly #single: boolean;
  /** Vectors of depth that every part has, where workgroups begin at different blocks of it. */
  readonly #span: number | undefined;

  /** Emits the range of the depth. `turn`: workgroups whose turns differ begin at different blocks of it. */
  constructor(block: Block, { depth }: PackedSpec, { tactic }: Geometry, engine: Engine, stages: readonly [Stage, Stage], turn: string) {
    const { splitK, bk } = tactic;
    const perPart = partDepth(depth, tactic);
    block.let('k_begin', splitK === 1 ? '0u' : `part * ${perPart}u`);
    block.let('k_end', splitK === 1 ? `${depth}u` : `min(k_begin + ${perPart}u, ${depth}u)`);
    this.#tactic = tactic;
    this.#engine = engine;
    this.#stages = stages;
    this.#single = perPart <= bk;
    this.#span = depth % perPart === 0 && perPart >= FEWEST_STAGGERED * bk ? perPart : undefined;
    // Weights come from memory at the pace of the first workgroup that reads them: all that begin at once would wait for every block.
    if (this.#span !== undefined) block.let('k_shift', `((${turn}) % ${this.#span / bk}u) * ${bk}u`);
  }

  prepare(block: Block): void {
    for (const stage of this.#stages) stage.prepare(block);
  }

  /** Emits the loads of the first tile's first block. */
  load(block: Block): void {
    this.prepare(block);
    this.#first(block, this.#stages, 'var');
  }

  /** Emits the loads of another tile's first block. The tile has the same columns: a single block of them is still there. */
  loadNext(block: Block): void {
    const stages = this.#single ? this.#stages.slice(0, 1) : this.#stages;
    for (const stage of stages) stage.prepare(block);
    this.#first(block, stages, 'assign');
  }

  #first(block: Block, stages: readonly Stage[], how: 'var' | 'assign'): void {
    const k = this.#span === undefined ? 'k_begin' : block.let('k_first', 'k_begin + k_shift');
    for (const stage of stages) stage.load(block, k, how, '');
  }

  /** Emits the products of a tile whose first block is loaded. Ends with a barrier: what was staged is no longer needed. */
  multiply(block: Block): void {
    const { bk, buffers, ahead } = this.#tactic;
    if (this.#single) {
      for (const stage of this.#stages) stage.store(block, '', '');
      block.line('workgroupBarrier()');
      this.#engine.multiply(block, '');
      block.line('workgroupBarrier()');
    } else if (ahead > 1) this.#multiplyAhead(block);
    else if (buffers === 2) this.#multiplyTwoBuffers(block);
    else block.for('k', 'k_begin', 'k_end', `${bk}u`, (loop) => this.#multiplyBlock(loop, 'k', bk, ''));
  }

  /** A block from the registers of a set, which get the block `ahead` further. */
  #multiplyBlock(block: Block, k: string, ahead: number, set: string): void {
    for (const stage of this.#stages) stage.store(block, '', set);
    block.line('workgroupBarrier()');
    this.#loadAhead(block, k, ahead, set);
    this.#engine.multiply(block, '');
    block.line('workgroupBarrier()');
  }

  /**
   * Where every part has many whole blocks, the last ones load blocks anew that nobody needs: a branch around the loads would keep the
   * compiler from placing them among the products.
   */
  #loadAhead(block: Block, k: string, ahead: number, set: string): void {
    const load = (inside: Block, from: string): void => {
      for (const stage of this.#stages) stage.load(inside, from, 'assign', set);
    };
    const span = this.#span;
    const wrapped = (at: string): string => `select(${at}, ${at} - ${span}u, ${at} >= k_end)`;
    if (span !== undefined && span >= FEWEST_AGAIN * ahead) {
      block.scope((next) => {
        next.let('k_far', `${k} + ${ahead}u + k_shift`);
        next.let('k_near', wrapped('k_far'));
        load(next, next.let('k_next', wrapped('k_near')));
      });
      return;
    }
    block.if(`${k} + ${ahead}u < k_end`, (next) => {
      if (span === undefined) next.let('k_next', `${k} + ${ahead}u`);
      else {
        next.let('k_far', `${k} + ${ahead}u + k_shift`);
        next.let('k_next', wrapped('k_far'));
      }
      load(next, 'k_next');
    });
  }

  /** Sets of registers take turns, so that a block's loads have the time of several products. */
  #multiplyAhead(block: Block): void {
    const { bk, ahead } = this.#tactic;
    const set = (i: number): string => (i === 0 ? '' : `_${i + 1}`);
    for (let i = 1; i < ahead; i++) {
      for (const stage of this.#stages) stage.declare(block, set(i));
      this.#loadAhead(block, 'k_begin', i * bk, set(i));
    }
    const turn = (inside: Block, k: string, i: number): void => {
      this.#multiplyBlock(inside, k, ahead * bk, set(i));
      if (i + 1 === ahead) return;
      inside.if(`k + ${(i + 1) * bk}u < k_end`, (next) => turn(next, next.let(`k_${i + 2}`, `k + ${(i + 1) * bk}u`), i + 1));
    };
    block.for('k', 'k_begin', 'k_end', `${ahead * bk}u`, (loop) => turn(loop, 'k', 0));
  }

  /** Two staged blocks take turns: a barrier less per block, and one is stored while the other is multiplied. */
  #multiplyTwoBuffers(block: Block): void {
    const { bk } = this.#tactic;
    block.var('staged', '0u');
    for (const stage of this.#stages) stage.store(block, '', '');
    this.#loadAhead(block, 'k_begin', bk, '');
    block.for('k', 'k_begin', 'k_end', `${bk}u`, (loop) => {
      loop.line('workgroupBarrier()');
      loop.let('other', `${stagedVectors(this.#tactic) / 2}u - staged`);
      loop.if(`k + ${bk}u < k_end`, (next) => {
        for (const stage of this.#stages) stage.store(next, 'other + ', '');
      });
      this.#loadAhead(loop, 'k', 2 * bk, '');
      this.#engine.multiply(loop, 'staged + ');
      loop.line('staged = other');
    });
    block.line('workgroupBarrier()');
  }
}

/** Adds the parts of a split depth and ends like the kernel without a split. */
function reduceKernel(spec: PackedSpec, { splitK }: PackedTactic, profile: DeviceProfile, parts: DeviceTensor): KernelCall {
  const module = new ModuleBuilder(`${spec.label} sum of ${splitK}`);
  const type = spec.element === 'f16' ? 'f32' : 'i32';
  module.storage('parts', type, 4, storedBytes(parts) / 16, 'read');
  // Four columns per invocation: there are few results where a depth is split.
  const epilogue = new WideEpilogue(module, spec, 4);
  const { width } = epilogue;
  const [stored, vectors] = [Math.ceil(spec.storedColumns / width), partialColumns(spec.columns) / 4];
  const [rows, batches] = [product(spec.rows), product(spec.batch)];
  const threads = batches * rows * stored;
  const place = (block: Block): void => {
    block.let('column', `(i % ${stored}u) * ${width}u`);
    block.let('line', `i / ${stored}u`);
    block.let('row', `line % ${rows}u`);
    block.let('batch', `line / ${rows}u`);
  };
  const { rowSums } = spec;
  const meet = (block: Block, invocations: number): void => {
    const together = rowSums!.columns / width;
    module.workgroup('own_sums', 'f32', 2, invocations);
    block.line('workgroupBarrier()');
    block.if(`(i < ${threads}u) & (lid % ${together}u == 0u)`, (inside) => {
      place(inside);
      inside.line(`row_sums[column / ${rowSums!.columns}u * ${rows}u + row] = ${Array.from({ length: together }, (_, n) => `own_sums[lid + ${n}u]`).join(' + ')}`);
    });
  };
  const add = (block: Block): void => {
    place(block);
    const fetched = epilogue.fetch(block, 'end', 'batch', 'row', 'column');
    const sums = Array.from({ length: width / 4 }, (_, group) => {
      // Padding columns beyond the partial results' own repeat the last ones; the epilogue masks them.
      const vector = block.let(`v${group}`, `line * ${vectors}u + min(column / 4u + ${group}u, ${vectors - 1}u)`);
      const terms = Array.from({ length: splitK }, (_unused, part) => `parts[${vector} + ${part * batches * rows * vectors}u]`);
      return block.let(`s${group}`, type === 'i32' ? `vec4<f32>(${terms.join(' + ')})` : terms.join(' + '));
    });
    const part = epilogue.finish(block, 'end', fetched, 'batch', 'row', 'column', sums);
    if (part !== undefined) block.line(`own_sums[lid] = ${part}`);
  };
  const workgroups = independentThreads(module, threads, profile, add, rowSums && meet);
  return { source: module.finish(), operands: [parts, ...wideTensors(spec)], workgroups };
}
