/**
 * Products whose left rows stay in registers: a subgroup loads its rows once, whole, as matrices from device memory, and its workgroup takes tiles
 * side by side, for which only the right matrix is staged. For short depths with many columns, such as the last convolution of a residual
 * block: the time of such layers is that of memory, and staging every row again for every tile costs as much as what leaves.
 *
 * The next tile's weights and the operands that differ by row are loaded while the results of one leave. Prior art: input-stationary dataflows
 * (Sze et al., "Efficient Processing of Deep Neural Networks", 2017).
 */
import type { KernelCall } from '../../lower/call.ts';
import { collapse } from '../../lower/space.ts';
import type { DeviceTensor } from '../../lower/tensor.ts';
import type { DeviceProfile } from '../../profile.ts';
import { packedTacticName, packedWorkgroupBytes, type PackedTactic } from '../../tactics/packed.ts';
import { type Block, ModuleBuilder } from '../../wgsl/module.ts';
import { foldWorkgroups, repeatedWorkgroup } from '../grid.ts';
import { weightStage } from './columns.ts';
import { geometryOf, type HeldRows } from './engine.ts';
import { engineOf } from './engines.ts';
import { wideTensors } from './epilogue.ts';
import { EpilogueSink, Results } from './results.ts';
import { bindVectors, type Stage } from './rows.ts';
import { type PackedMatrix, type PackedSpec, type PackedWeights, product } from './spec.ts';

/** A part of the left matrix whose rows lie one stride apart; all in vectors. */
interface StridedPart {
  readonly tensor: DeviceTensor;
  readonly offset: number;
  readonly stride: number;
  readonly depth: number;
}

function stridedPart(a: PackedMatrix, depth: number, { batch, rows }: PackedSpec): StridedPart | undefined {
  const { extents, views } = collapse({ extents: rows, views: [{ offset: a.view.offset, strides: a.view.strides.slice(batch.length) }] });
  const [view] = views;
  const stride = view!.strides[0];
  return extents.length === 1 && stride !== undefined && stride >= depth ? { tensor: a.tensor, offset: view!.offset, stride, depth } : undefined;
}

/**
 * The parts of a left matrix whose rows can stay in registers; undefined where rows are no plain strides or change on their way, or where the kernel would bind a
 * tensor twice: ranges that are bound as if they were written must not overlap.
 */
export function stridedParts(spec: PackedSpec): readonly StridedPart[] | undefined {
  const { a, b, depth, normalization, scaleOfA } = spec;
  if (b.kind !== 'packed' || normalization || scaleOfA || product(spec.batch) !== 1) return undefined;
  const parts = a.kind === 'joined' ? a.parts : [{ a, depth }];
  const strided = parts.map((part) => (part.a.kind === 'matrix' && !part.a.split ? stridedPart(part.a, part.depth, spec) : undefined));
  const whole = strided.filter((part) => part !== undefined);
  const bound = [...whole, b].map(({ tensor }) => tensor.id).concat(wideTensors(spec).map(({ id }) => id));
  return whole.length === parts.length && new Set(bound).size === bound.length ? whole : undefined;
}

/** The rows as an engine asks for them, by the names of their bindings. */
function heldRows(parts: readonly StridedPart[], count: number): HeldRows {
  let begin = 0;
  return { count, parts: parts.map(({ offset, stride, depth }, i) => ({ name: `a_${i}_`, offset, stride, begin: (begin += depth) - depth, depth })) };
}

export function stationaryKernel(spec: PackedSpec, tactic: PackedTactic, profile: DeviceProfile): KernelCall {
  const parts = stridedParts(spec);
  if (!parts) throw new Error(`${spec.label}: these rows can't stay in registers`);
  const name = packedTacticName(tactic, spec.element);
  const module = new ModuleBuilder(`${spec.label} ${name}`, 'read_ordered');
  const geometry = geometryOf(tactic, spec.element);
  const engine = engineOf(geometry);
  for (const [i, { tensor }] of parts.entries()) bindVectors(module, `a_${i}_`, tensor);
  const weights = spec.b as PackedWeights;
  const { threads, pitch, bBegin: begin } = geometry;
  const b = weightStage(weights, { threads, bk: tactic.bk, depth: spec.depth, pitch, name: 'b', rows: tactic.bn, origin: 'tile_column', count: spec.columns, begin, slot: engine.columnSlot });
  b.bind(module);
  const results = new Results(spec, geometry, engine, new EpilogueSink(module, spec, tactic));
  engine.declare(module);
  module.workgroup('tile', 'u32', 4, packedWorkgroupBytes(tactic) / 16);
  const rows = product(spec.rows);
  const columnTiles = Math.ceil(Math.max(spec.columns, spec.storedColumns) / tactic.bn);
  const across = Math.ceil(columnTiles / tactic.walk);
  const groups = Math.ceil(rows / tactic.bm) * across;
  const grid = foldWorkgroups(groups, profile);
  const emit = (block: Block): void => {
    const flat = block.let('place', repeatedWorkgroup(grid, groups));
    block.let('tile_row', `${flat} / ${across}u * ${tactic.bm}u`);
    block.let('first_tile', `${flat} % ${across}u * ${tactic.walk}u`);
    block.let('tile_column', `first_tile * ${tactic.bn}u`);
    block.let('batch', 'wid.z');
    engine.begin(block);
    engine.hold(block, heldRows(parts, rows));
    b.prepare(block);
    b.load(block, '0u', 'var', '');
    results.load(block, 'var');
    // A known number of tiles lets the compiler unroll them.
    const tiles = columnTiles % tactic.walk === 0 ? `${tactic.walk}u` : block.let('tiles', `min(${tactic.walk}u, ${columnTiles}u - first_tile)`);
    block.for('step', '0u', tiles, '1u', (loop) => emitTile(loop, tactic, `step + 1u < ${tiles}`, engine, b, results));
  };
  module.main(geometry.threads, emit, engine.subgroupSize);
  return {
    source: module.finish(),
    operands: [...parts.map(({ tensor }) => tensor), ...b.tensors, ...wideTensors(spec)],
    workgroups: [grid[0], grid[1], 1],
    tactic: name,
  };
}

function emitTile(loop: Block, { bn }: PackedTactic, exists: string, engine: ReturnType<typeof engineOf>, b: Stage, results: Results): void {
  loop.let('tile_column', `(first_tile + step) * ${bn}u`);
  loop.let('next_column', `tile_column + ${bn}u`);
  const next = { row: 'tile_row', column: 'next_column', exists };
  results.columns(loop);
  engine.clear(loop);
  b.store(loop, '', '');
  loop.line('workgroupBarrier()');
  loop.if(next.exists, (inside) => {
    inside.let('tile_column', next.column);
    b.prepare(inside);
    b.load(inside, '0u', 'assign', '');
  });
  results.hoist(loop);
  engine.multiply(loop, '');
  loop.line('workgroupBarrier()');
  results.emit(loop, next);
  loop.line('workgroupBarrier()');
}
