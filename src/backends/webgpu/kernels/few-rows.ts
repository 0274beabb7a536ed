/**
 * Products of few rows, bound by the bytes of the right matrix: every weight is loaded once and multiplied by all rows of the workgroup; weights of few
 * bits are dequantized in registers.
 *
 * Invocations lie as [slice of the depth, four columns]. A slice takes every so-many-th run of vectors; slices are added through workgroup memory at the
 * end. Prior art: the matrix–vector kernels of llama.cpp and of onnxruntime's MatMulNBits.
 */
import { elementCount } from '../../../ir/tensor.ts';
import type { KernelCall } from '../lower/call.ts';
import type { DeviceProfile } from '../profile.ts';
import type { FewRowsTactic } from '../tactics/few-rows.ts';
import { fewRowsInvocations, fewRowsName, rowsAtOnce } from '../tactics/few-rows.ts';
import { type Block, ModuleBuilder } from '../wgsl/module.ts';
import { ColumnLoader } from './column-loader.ts';
import { Epilogue, epilogueOperands } from './epilogue.ts';
import { columnGroups, type FewBitColumns, FewBitLoader, packedVectors, rightTensors, wordDepth } from './few-bits/weights.ts';
import { foldWorkgroups, repeatedWorkgroup } from './grid.ts';
import type { MatmulSpec } from './matmul.ts';
import { type FewRowsNormalization, normalizationTensors, RowScales } from './row-scales.ts';

export interface FewRowsSpec extends MatmulSpec {
  readonly normalization?: FewRowsNormalization | undefined;
  /**
   * Two products of the same rows: groups of four columns of the one and of the other lie in turn in the right matrix, which has twice the columns
   * of the output in whole groups. The end reads the second sum behind its extras.
   */
  readonly paired?: boolean;
}

/** Four columns of the right matrix by vectors of depths. */
interface Columns {
  /** Depths of a vector, a multiple of four, and vectors that may be loaded. */
  readonly depths: number;
  readonly vectors: number;
  /** Emits what does not change along the depth; `group` is the number of the four columns. */
  begin(block: Block, group: string): void;
  /** Emits what the vectors of a run share. */
  share(block: Block, vector: string): void;
  /** Emits the registers of a vector. */
  load(block: Block, name: string, vector: string): void;
  /** The weights of a loaded vector at one depth: a vec4<f32>. */
  weights(name: string, depth: number): string;
  /** A sum of products with these weights. */
  sum(terms: string): string;
}

/** Of one matrix: the batch axes hold one element. */
export function fewRowsKernel(spec: FewRowsSpec, tactic: FewRowsTactic, profile: DeviceProfile): KernelCall {
  const { lanes, slices, rows } = tactic;
  const module = new ModuleBuilder(`${spec.label} ${fewRowsName(tactic)}`);
  const [allRows, groups] = [elementCount(spec.rows), columnGroups(spec) * (spec.paired ? 2 : 1)];
  const tiles = Math.ceil(groups / lanes);
  const count = tiles * Math.ceil(allRows / rows);
  const grid = foldWorkgroups(count, profile);
  spec.a.bind(module);
  const columns = spec.b.kind === 'few-bits' ? fewBits(module, spec.b) : asTheyLie(spec, new ColumnLoader(module, spec, spec.b));
  const scales = spec.normalization && new RowScales(module, spec.normalization, tactic, spec.depth);
  const epilogue = new Epilogue(module, spec);
  const atOnce = rowsAtOnce(tactic, profile, scales !== undefined);
  module.workgroup('parts', 'f32', 4, atOnce * slices * lanes);
  module.main(fewRowsInvocations(tactic), (block) => {
    block.let('place', repeatedWorkgroup(grid, count));
    block.let('batch', '0u');
    block.let('k_end', `${spec.depth}u`);
    block.let('first_row', `(place / ${tiles}u) * ${rows}u`);
    block.let('first_group', `(place % ${tiles}u) * ${lanes}u`);
    block.let('lane', `lid % ${lanes}u`);
    block.let('slice', `lid / ${lanes}u`);
    block.let('group', `min(first_group + lane, ${groups - 1}u)`);
    sums(block, spec, tactic, columns, scales);
    scales?.share(block);
    for (let first = 0; first < rows; first += atOnce) {
      if (first > 0) block.line('workgroupBarrier()');
      const some = Math.min(atOnce, rows - first);
      for (let i = 0; i < some; i++) block.line(`parts[${i * slices * lanes}u + lid] = sum${first + i}`);
      block.line('workgroupBarrier()');
      if (first === 0) scales?.gather(block);
      const left = addSlices(block, tactic, some);
      writeSums(block, spec, tactic, { first, some, left, allRows }, epilogue, scales);
    }
  });
  return {
    source: module.finish(),
    operands: [...spec.a.tensors, ...rightTensors(spec.b), ...(spec.normalization ? normalizationTensors(spec.normalization) : []), ...epilogueOperands(spec).map(({ tensor }) => tensor)],
    workgroups: grid,
    tactic: fewRowsName(tactic),
    // f32 holds the products of halves and integers exactly, as the kernels of halves sum theirs.
    ...(spec.a.tensors[0].storage === 'f16' && { precision: 'float16' }),
  };
}

/** Rows whose slices were added, from `first` on of the workgroup's, and how many parts of each sum are left. */
interface Added {
  readonly first: number;
  readonly some: number;
  readonly left: number;
  readonly allRows: number;
}

/** Emits the end of the sums: an invocation for each row and four columns of the output. */
function writeSums(block: Block, spec: FewRowsSpec, { lanes, slices }: FewRowsTactic, { first, some, left, allRows }: Added, epilogue: Epilogue, scales: RowScales | undefined): void {
  const each = spec.paired ? 2 : 1;
  const own = lanes / each;
  block.if(`lid < ${some * own}u`, (inside) => {
    inside.let('own_row', `lid / ${own}u`);
    inside.let('own_group', `(lid % ${own}u) * ${each}u`);
    inside.let('row', `first_row + ${first}u + own_row`);
    inside.let('column', `((first_group + own_group) / ${each}u) * 4u`);
    inside.if(`row < ${allRows}u && column < ${spec.columns}u`, (end) => {
      end.let('origin', `own_row * ${slices * lanes}u + own_group`);
      scales?.find(end, `${first}u + own_row`);
      const totals = Array.from({ length: each }, (_, i) => {
        const sum = addends(i === 0 ? 'origin' : `origin + ${i}u`, lanes, left);
        return end.let(i === 0 ? 'total' : `total_${i}`, scales ? scales.applied(sum, `first_group + own_group + ${i}u`) : sum);
      });
      epilogue.emit(end, 'batch', 'row', 'column', totals[0]!, totals.slice(1));
    });
  });
}

function fewBits(module: ModuleBuilder, b: FewBitColumns): Columns {
  const loader = new FewBitLoader(module, b);
  return {
    depths: wordDepth(b),
    vectors: packedVectors(b),
    begin: () => undefined,
    share: (block, vector) => loader.block(block, 'w', vector, 'group'),
    load: (block, name, vector) => void block.let(name, loader.load(vector, 'group')),
    weights: (name, depth) => loader.weights(name, depth, 'w'),
    sum: (terms) => `w_s * (${terms})`,
  };
}

/** Depths that one vector of plain columns has: as many as a load of the left matrix. */
const PLAIN_DEPTHS = 4;

function asTheyLie({ depth }: MatmulSpec, loader: ColumnLoader): Columns {
  // Beyond the depth A is zero.
  const at = (vector: string, i: number): string => `min((${vector}) * ${PLAIN_DEPTHS}u + ${i}u, ${depth - 1}u)`;
  return {
    depths: PLAIN_DEPTHS,
    vectors: Number.POSITIVE_INFINITY,
    begin: (block, group) => loader.begin(block, `${group} * 4u`),
    share: () => undefined,
    load: (block, name, vector) => {
      for (let i = 0; i < PLAIN_DEPTHS; i++) block.let(`${name}_${i}`, loader.load(at(vector, i)));
    },
    weights: (name, i) => `${name}_${i}`,
    sum: (terms) => `(${terms})`,
  };
}

/** Slices that one invocation adds by itself. */
const FEW_SLICES = 8;

/** Emits sums of many slices by as many invocations as there are; afterwards the first ones hold what is left to add, how many is returned. */
export function addSlices(block: Block, { lanes, slices }: Pick<FewRowsTactic, 'lanes' | 'slices'>, rows: number): number {
  const left = Math.min(FEW_SLICES, Math.floor(slices / rows));
  if (slices <= 2 * FEW_SLICES) return slices;
  block.if(`lid < ${rows * left * lanes}u`, (inside) => {
    inside.let('own', `(slice / ${left}u) * ${slices * lanes}u + (slice % ${left}u) * ${lanes}u + lane`);
    // No other invocation reads them.
    inside.line(`parts[own] = ${addends('own', left * lanes, Math.floor(slices / left))}`);
    if (slices % left !== 0) inside.if(`slice % ${left}u < ${slices % left}u`, (rest) => rest.line(`parts[own] += parts[own + ${slices - (slices % left)}u * ${lanes}u]`));
  });
  block.line('workgroupBarrier()');
  return left;
}

export const addends = (origin: string, step: number, count: number): string => Array.from({ length: count }, (_, i) => `parts[${origin} + ${i * step}u]`).join(' + ');

/** Emits `sum0`, `sum1` …: what this invocation's slice gives of each row. */
function sums(block: Block, { a, depth, rows: extents }: MatmulSpec, { slices, rows, run }: FewRowsTactic, columns: Columns, scales: RowScales | undefined): void {
  const each = Array.from({ length: rows }, (_, row) => row);
  const last = elementCount(extents) - 1;
  for (const row of each) {
    a.row(block, `ar${row}`, `min(first_row + ${row}u, ${last}u)`);
    block.var(`sum${row}`, 'vec4<f32>()');
  }
  scales?.begin(block);
  columns.begin(block, 'group');
  const { depths } = columns;
  const tail = depth % (run * depths) !== 0;
  const vectors = Math.min(columns.vectors, Math.ceil(depth / depths / run) * run);
  block.for('vector', `slice * ${run}u`, `${vectors}u`, `${slices * run}u`, (loop) => {
    columns.share(loop, 'vector');
    for (let i = 0; i < run; i++) columns.load(loop, `q${i}`, `vector + ${i}u`);
    for (let i = 0; i < run; i++) {
      for (let lane = 0; lane < depths; lane++) loop.let(`w${i}_${lane}`, columns.weights(`q${i}`, lane));
      for (let lane = 0; lane < depths; lane += 4) {
        const at = loop.let(`k${i}_${lane}`, `vector * ${depths}u + ${i * depths + lane}u`);
        a.depth(loop, `d${i}_${lane}`, at, tail);
        scales?.load(loop, `g${i}_${lane}`, at, tail);
      }
      for (const row of each) {
        const terms: string[] = [];
        for (let lane = 0; lane < depths; lane += 4) {
          const loaded = loop.let(`a${row}_${i}_${lane}`, a.load(loop, `ar${row}`, `d${i}_${lane}`));
          const four = scales ? scales.watch(loop, row, loaded, `g${i}_${lane}`) : loaded;
          for (const [offset, component] of ['x', 'y', 'z', 'w'].entries()) terms.push(`${four}.${component} * w${i}_${lane + offset}`);
        }
        loop.line(`sum${row} += ${columns.sum(terms.join(' + '))}`);
      }
    }
  });
}
