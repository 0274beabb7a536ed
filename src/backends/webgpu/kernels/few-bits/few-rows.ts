/**
 * Products of few rows and a matrix of few bits, bound by the bytes of the matrix: every weight is loaded once, dequantized in registers and multiplied
 * by all rows of the workgroup.
 *
 * Invocations lie as [slice of the depth, four columns]. A slice takes every so-many-th run of vectors; slices are added through workgroup memory at the
 * end. Prior art: the matrix–vector kernels of llama.cpp and of onnxruntime's MatMulNBits.
 */
import { elementCount } from '../../../../ir/tensor.ts';
import type { KernelCall } from '../../lower/call.ts';
import type { DeviceProfile } from '../../profile.ts';
import type { FewRowsTactic } from '../../tactics/few-rows.ts';
import { fewRowsInvocations, fewRowsName, rowsAtOnce } from '../../tactics/few-rows.ts';
import { type Block, ModuleBuilder } from '../../wgsl/module.ts';
import { Epilogue, epilogueOperands, type EpilogueSpec } from '../epilogue.ts';
import { foldWorkgroups, repeatedWorkgroup } from '../grid.ts';
import type { RowLoader } from '../row-loader.ts';
import { columnGroups, type FewBitColumns, fewBitOperands, FewBitLoader, packedVectors, wordDepth } from './weights.ts';

export interface FewRowsSpec extends EpilogueSpec {
  readonly label: string;
  readonly a: RowLoader;
  readonly b: FewBitColumns;
}

/** Of one matrix: the batch axes hold one element. */
export function fewRowsKernel(spec: FewRowsSpec, tactic: FewRowsTactic, profile: DeviceProfile): KernelCall {
  const { lanes, slices, rows } = tactic;
  const module = new ModuleBuilder(`${spec.label} ${fewRowsName(tactic)}`);
  const [allRows, groups] = [elementCount(spec.rows), columnGroups(spec.b)];
  const tiles = Math.ceil(groups / lanes);
  const count = tiles * Math.ceil(allRows / rows);
  const grid = foldWorkgroups(count, profile);
  spec.a.bind(module);
  const loader = new FewBitLoader(module, spec.b);
  const epilogue = new Epilogue(module, spec);
  const atOnce = rowsAtOnce(tactic, profile);
  module.workgroup('parts', 'f32', 4, atOnce * slices * lanes);
  module.main(fewRowsInvocations(tactic), (block) => {
    block.let('place', repeatedWorkgroup(grid, count));
    block.let('batch', '0u');
    block.let('k_end', `${spec.b.depth}u`);
    block.let('first_row', `(place / ${tiles}u) * ${rows}u`);
    block.let('first_group', `(place % ${tiles}u) * ${lanes}u`);
    block.let('lane', `lid % ${lanes}u`);
    block.let('slice', `lid / ${lanes}u`);
    block.let('group', `min(first_group + lane, ${groups - 1}u)`);
    sums(block, spec, tactic, loader);
    for (let first = 0; first < rows; first += atOnce) {
      if (first > 0) block.line('workgroupBarrier()');
      const some = Math.min(atOnce, rows - first);
      for (let i = 0; i < some; i++) block.line(`parts[${i * slices * lanes}u + lid] = sum${first + i}`);
      block.line('workgroupBarrier()');
      const left = addSlices(block, tactic, some);
      block.if(`lid < ${some * lanes}u`, (inside) => {
        inside.let('row', `first_row + ${first}u + slice`);
        inside.let('column', '(first_group + lane) * 4u');
        inside.if(`row < ${allRows}u && column < ${spec.columns}u`, (end) => {
          end.let('origin', `slice * ${slices * lanes}u + lane`);
          end.let('total', addends('origin', lanes, left));
          epilogue.emit(end, 'batch', 'row', 'column', 'total');
        });
      });
    }
  });
  return {
    source: module.finish(),
    operands: [spec.a.tensor, ...fewBitOperands(spec.b), ...epilogueOperands(spec).map(({ tensor }) => tensor)],
    workgroups: grid,
    tactic: fewRowsName(tactic),
    // f32 holds the products of halves and integers exactly, as the kernels of halves sum theirs.
    ...(spec.a.tensor.storage === 'f16' && { precision: 'float16' }),
  };
}

/** Slices that one invocation adds by itself. */
const FEW_SLICES = 8;

/** Emits sums of many slices by as many invocations as there are; afterwards the first ones hold what is left to add, how many is returned. */
function addSlices(block: Block, { lanes, slices }: FewRowsTactic, rows: number): number {
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

const addends = (origin: string, step: number, count: number): string => Array.from({ length: count }, (_, i) => `parts[${origin} + ${i * step}u]`).join(' + ');

/** Emits `sum0`, `sum1` …: what this invocation's slice gives of each row. */
function sums(block: Block, { a, b, rows: extents }: FewRowsSpec, { slices, rows, run }: FewRowsTactic, loader: FewBitLoader): void {
  const each = Array.from({ length: rows }, (_, row) => row);
  const last = elementCount(extents) - 1;
  for (const row of each) {
    a.row(block, `ar${row}`, `min(first_row + ${row}u, ${last}u)`);
    block.var(`sum${row}`, 'vec4<f32>()');
  }
  const depth = wordDepth(b);
  const tail = b.depth % (run * depth) !== 0;
  const vectors = Math.min(packedVectors(b), Math.ceil(b.depth / depth / run) * run);
  block.for('vector', `slice * ${run}u`, `${vectors}u`, `${slices * run}u`, (loop) => {
    loader.block(loop, 'w', 'vector', 'group');
    for (let i = 0; i < run; i++) loop.let(`q${i}`, loader.load(`vector + ${i}u`, 'group'));
    for (let i = 0; i < run; i++) {
      for (let lane = 0; lane < depth; lane++) loop.let(`w${i}_${lane}`, loader.weights(`q${i}`, lane, 'w'));
      for (let lane = 0; lane < depth; lane += 4) {
        const at = loop.let(`k${i}_${lane}`, `vector * ${depth}u + ${i * depth + lane}u`);
        a.depth(loop, `d${i}_${lane}`, at, tail);
      }
      for (const row of each) {
        const terms: string[] = [];
        for (let lane = 0; lane < depth; lane += 4) {
          const four = loop.let(`a${row}_${i}_${lane}`, a.load(loop, `ar${row}`, `d${i}_${lane}`));
          for (const [offset, component] of ['x', 'y', 'z', 'w'].entries()) terms.push(`${four}.${component} * w${i}_${lane + offset}`);
        }
        loop.line(`sum${row} += w_s * (${terms.join(' + ')})`);
      }
    }
  });
}
