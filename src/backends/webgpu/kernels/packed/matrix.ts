/**
 * Products by subgroup matrices (Dawn's experimental extension, over Vulkan's cooperative matrices and Metal's simdgroup
 * matrices), and the same tiling in plain WGSL for tests.
 *
 * Matrices are written out in the text: WGSL can't index them dynamically. Traps seen with `webgpu` 0.6.2: a matrix variable
 * without an initializer keeps its value over iterations; offsets must come from `subgroup_id` to pass uniformity analysis;
 * drivers have crashed over modules that mix matrices with subgroup arithmetic.
 */
import { slideAt } from '../../tactics/packed.ts';
import type { Block } from '../../wgsl/module.ts';
import type { Engine, Geometry, HeldRows } from './engine.ts';

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

/** Where a subgroup's tile lies, and how matrices cover it. */
interface Cover {
  readonly down: number;
  readonly across: number;
  /** Rows of matrices per round of the slab. */
  readonly perRound: number;
  /** Vectors of depth of one matrix, and matrices along a block's depth. */
  readonly matrixVectors: number;
  readonly steps: number;
}

function coverOf({ tactic, slab, lanes }: Geometry): Cover {
  const { sm, sn, bk } = tactic;
  const matrix = tactic.matrix!;
  const matrixVectors = matrix.k / lanes;
  const down = sm / matrix.m;
  return { down, across: sn / matrix.n, perRound: down / slab.rounds, matrixVectors, steps: bk / matrixVectors };
}

/** Emits the subgroup's place in the workgroup's tile from its number. */
function emitPlace(block: Block, { tactic }: Geometry, subgroup: string): void {
  const { bn, bm, sn, sm, slices } = tactic;
  const [across, down] = [bn / sn, bm / sm];
  block.let('sub_x', `${subgroup} % ${across}u`);
  block.let('sub_y', slices === 1 ? `${subgroup} / ${across}u` : `(${subgroup} / ${across}u) % ${down}u`);
  if (slices > 1) block.let('slice', `${subgroup} / ${across * down}u`);
}

/** The slab's vector where the subgroup's matrix row `i` of a round and matrix column `j` begin. */
function slabAt({ tactic, slab }: Geometry, { perRound }: Cover, i: number, j: number): string {
  const { m, n } = tactic.matrix!;
  const slice = tactic.slices === 1 ? '' : `slice * ${slab.rows * slab.pitch}u + `;
  return `${slice}(sub_y * ${perRound * m}u + ${i * m}u) * ${slab.pitch}u + sub_x * ${tactic.sn / slab.columns}u + ${(j * n) / slab.columns}u`;
}

/** A slab's rows are those of the subgroups, one after another. */
function runOf({ tactic }: Geometry, { perRound }: Cover): Engine['run'] {
  return { rows: perRound * tactic.matrix!.m, step: tactic.sm };
}

/** The distance of a depth, at which a matrix begins, from the beginning of its row of A. */
function leftDepth({ tactic: { slide }, left }: Geometry, depth: number): number {
  return slide ? Math.floor(depth / slide.run) * left.run + slideAt(slide, depth % slide.run) : depth;
}

/** The same of a depth that only the kernel knows. */
function leftDepthOf({ tactic: { slide }, left }: Geometry, depth: string): string {
  if (!slide) return depth;
  const inRun = `(${depth} % ${slide.run}u)`;
  return `(${depth} / ${slide.run}u) * ${left.run}u + ${inRun} / ${slide.step}u * ${left.pitch}u + ${inRun} % ${slide.step}u`;
}

/** The first row of the subgroup's matrix `i`, which lies whole in the rows. */
const heldRow = ({ tactic: { sm, matrix } }: Geometry, i: string, count: number): string => `min(tile_row + sub_y * ${sm}u + ${i}, ${count - matrix!.m}u)`;

export function matrixEngine(geometry: Geometry): Engine {
  const { tactic, element, pitch, left, slab, bBegin } = geometry;
  const { m, n, k } = tactic.matrix!;
  const cover = coverOf(geometry);
  const result = element === 'i8' ? 'i32' : tactic.halfSums ? 'f16' : 'f32';
  const zero = `subgroup_matrix_result<${result}, ${n}, ${m}>()`;
  const acc = (i: number, j: number): string => `acc${i}_${j}`;
  const loadLeft = (from: string, at: string, stride: number): string => `subgroupMatrixLoad<subgroup_matrix_left<${element}, ${k}, ${m}>, row_major>(&${from}, ${at}, ${stride}u)`;
  const loadRight = (at: string): string => `subgroupMatrixLoad<subgroup_matrix_right<${element}, ${n}, ${k}>, col_major>(&tile, ${at}, ${pitch}u)`;
  const steps = range(cover.steps / tactic.slices).map((step) => step * tactic.slices);
  return {
    columnSlot: undefined,
    subgroupSize: tactic.demandsSubgroup ? tactic.subgroup : undefined,
    declare(module) {
      module.enable('subgroups');
      module.enable('chromium_experimental_subgroup_matrix');
      if (element === 'f16') module.enable('f16');
      if (tactic.halfSums) module.helper('halves_to_f32');
    },
    begin(block) {
      emitPlace(block, geometry, 'sgid');
      const slice = (bytes: string): string => (tactic.slices === 1 ? bytes : `${bytes} + slice * ${cover.matrixVectors}u`);
      block.let('left', slice(`sub_y * ${cover.down * left.matrix}u${left.begin === 0 ? '' : ` + ${left.begin}u`}`));
      block.let('right', slice(`sub_x * ${tactic.sn * pitch}u + ${bBegin}u`));
      for (const i of range(cover.down)) for (const j of range(cover.across)) block.var(acc(i, j), zero);
    },
    hold(block, { count, parts }) {
      for (const i of range(cover.down)) block.let(`held_row${i}`, heldRow(geometry, `${i * m}u`, count));
      for (const step of steps) {
        const depth = step * cover.matrixVectors;
        const { name, offset, stride, begin } = parts.findLast((part) => part.begin <= depth)!;
        for (const i of range(cover.down)) block.let(`l${step}_${i}`, loadLeft(name, `held_row${i} * ${stride}u + ${offset + depth - begin}u`, stride));
      }
    },
    clear(block) {
      for (const i of range(cover.down)) for (const j of range(cover.across)) block.line(`${acc(i, j)} = ${zero}`);
    },
    multiply(block, base) {
      for (const step of steps) {
        const depth = step * cover.matrixVectors;
        if (!tactic.stationary) for (const i of range(cover.down)) block.let(`l${step}_${i}`, loadLeft('tile', `${base}left + ${i * left.matrix + leftDepth(geometry, depth)}u`, left.pitch));
        for (const j of range(cover.across)) {
          const right = block.let(`r${step}_${j}`, loadRight(`${base}right + ${j * n * pitch + depth}u`));
          for (const i of range(cover.down)) block.line(`${acc(i, j)} = subgroupMatrixMultiplyAccumulate(l${step}_${i}, ${right}, ${acc(i, j)})`);
        }
      }
    },
    spill(block, round) {
      for (const i of range(cover.perRound)) {
        for (const j of range(cover.across)) {
          block.line(`subgroupMatrixStore<row_major>(&tile, ${slabAt(geometry, cover, i, j)}, ${acc(round * cover.perRound + i, j)}, ${slab.pitch}u)`);
        }
      }
    },
    run: runOf(geometry, cover),
  };
}

/**
 * Every invocation holds the cells (four columns, eight where sums are halves) `lane`, `lane + subgroup`, … of every result matrix of its
 * subgroup. Sums of halves are rounded after every matrix.
 */
export function emulatedEngine(geometry: Geometry): Engine {
  const { tactic, element, pitch, left, bBegin, slab } = geometry;
  const { m, n } = tactic.matrix!;
  const cover = coverOf(geometry);
  const { columns } = slab;
  const cellsOfMatrix = (m * n) / columns / tactic.subgroup;
  const count = cover.down * cover.across * cellsOfMatrix;
  const parts = range(columns / 4);
  const vector = element === 'f16' ? 'vec4<f32>' : 'vec4<i32>';
  const sum = (part: number): string => `acc[x * ${parts.length}u + ${part}u]`;
  /** Emits the row and the first column of the cell `x` within the matrix. */
  const place = (block: Block): void => {
    block.let('cell', `lane + (x % ${cellsOfMatrix}u) * ${tactic.subgroup}u`);
    block.let('cell_row', `cell / ${n / columns}u`);
    block.let('cell_column', `(cell % ${n / columns}u) * ${columns}u`);
    block.let('matrix_row', `x / ${cellsOfMatrix * cover.across}u`);
    block.let('matrix_column', `(x / ${cellsOfMatrix}u) % ${cover.across}u`);
  };
  const halves = (part: number): string[] => ['xy', 'zw'].map((pair) => `pack2x16float(${sum(part)}.${pair})`);
  let held: HeldRows | undefined;
  /** Emits the products of the depths from `from` to `to`; `left` gives the left vector `v` of a step. */
  const multiplyDepths = (block: Block, from: string, to: number, left: (at: string) => string): void =>
    block.for('step', from, `${to}u`, `${tactic.slices * cover.matrixVectors}u`, (steps) => {
      steps.let('right', 'column + step');
      steps.for('v', '0u', `${cover.matrixVectors}u`, '1u', (depth) => {
        depth.let('l', left('step'));
        for (const i of range(columns)) depth.let(`r${i}`, `tile[right + ${i * pitch}u + v]`);
        for (const part of parts) depth.line(`${sum(part)} += ${vector}(${range(4).map((i) => dot('l', `r${part * 4 + i}`)).join(', ')})`);
      });
      if (tactic.halfSums) for (const part of parts) steps.line(`${sum(part)} = vec4<f32>(${halves(part).map((pair) => `unpack2x16float(${pair})`).join(', ')})`);
    });
  const dot = (at: string, bt: string): string => {
    const words = ['x', 'y', 'z', 'w'];
    if (element === 'i8') return words.map((word) => `dot4I8Packed(${at}.${word}, ${bt}.${word})`).join(' + ');
    return words.map((word) => `dot(unpack2x16float(${at}.${word}), unpack2x16float(${bt}.${word}))`).join(' + ');
  };
  return {
    columnSlot: undefined,
    subgroupSize: undefined,
    declare(module) {
      if (tactic.halfSums) module.helper('halves_to_f32');
    },
    begin(block) {
      block.let('lane', `lid % ${tactic.subgroup}u`);
      emitPlace(block, geometry, block.let('subgroup', `lid / ${tactic.subgroup}u`));
      block.var('acc', `array<${vector}, ${count * parts.length}>()`);
    },
    hold(_block, rows) {
      held = rows;
    },
    clear: (block) => block.line(`acc = array<${vector}, ${count * parts.length}>()`),
    multiply(block, base) {
      const first = tactic.slices === 1 ? '0u' : `slice * ${cover.matrixVectors}u`;
      block.for('x', '0u', `${count}u`, '1u', (cells) => {
        place(cells);
        cells.let('column', `${base}(sub_x * ${tactic.sn}u + matrix_column * ${n}u + cell_column) * ${pitch}u + ${bBegin}u`);
        if (held) {
          cells.let('held_row', `${heldRow(geometry, `matrix_row * ${m}u`, held.count)} + cell_row`);
          for (const { name, offset, stride, begin, depth } of held.parts) {
            multiplyDepths(cells, `${begin}u`, begin + depth, (step) => `${name}[held_row * ${stride}u + ${step} - ${begin}u + ${offset}u + v]`);
          }
          return;
        }
        cells.let('row', `${base}(sub_y * ${cover.down}u + matrix_row) * ${left.matrix}u + cell_row * ${left.pitch}u + ${left.begin}u`);
        multiplyDepths(cells, first, tactic.bk, (step) => `tile[row + ${leftDepthOf(geometry, step)} + v]`);
      });
    },
    spill(block, round) {
      const perRound = count / slab.rounds;
      block.for('x', `${round * perRound}u`, `${(round + 1) * perRound}u`, '1u', (cells) => {
        place(cells);
        const rows = `(sub_y * ${cover.perRound * m}u + (matrix_row - ${round * cover.perRound}u) * ${m}u + cell_row) * ${slab.pitch}u`;
        const across = `sub_x * ${tactic.sn / columns}u + matrix_column * ${n / columns}u + cell_column / ${columns}u`;
        const slice = tactic.slices === 1 ? '' : `slice * ${slab.rows * slab.pitch}u + `;
        const stored = tactic.halfSums ? `vec4<u32>(${parts.flatMap(halves).join(', ')})` : `bitcast<vec4<u32>>(${sum(0)})`;
        cells.line(`tile[${slice}${rows} + ${across}] = ${stored}`);
      });
    },
    run: runOf(geometry, cover),
  };
}
