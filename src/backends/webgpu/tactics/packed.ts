/**
 * Tactics of the packed matrix kernel (kernels/packed): what they are made of, what they take, where they are legal. Which to try is in
 * packed-candidates.ts, their ranking in packed-model.ts.
 *
 * Lengths along the depth are counted in vectors of 16 bytes: 8 halves or 16 bytes of int8.
 */
import type { DeviceProfile } from '../profile.ts';
import type { MatmulShape } from './matmul.ts';

/**
 * How a staged block is multiplied. `matrix`: subgroup matrices. `lanes`: plain WGSL, a tile of results per invocation.
 * `emulated`: the tiling of `matrix` in plain WGSL, slow, for tests on devices without matrices.
 */
export type PackedEngine = 'matrix' | 'lanes' | 'emulated';

/** Rows, columns and depth (in elements) of one subgroup matrix. */
export interface MatrixShape {
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

export interface PackedTactic {
  readonly kind: 'packed';
  readonly engine: PackedEngine;
  /** Tile of the workgroup; `bk` is the depth of a staged block in vectors. */
  readonly bm: number;
  readonly bn: number;
  readonly bk: number;
  /** Tile of a subgroup, of an invocation for `lanes`. */
  readonly sm: number;
  readonly sn: number;
  /** Parts of the depth that workgroups of their own compute; above 1 a second kernel adds them. */
  readonly splitK: number;
  /** Parts of every block's depth that subgroups (invocations) of one workgroup share out, added in workgroup memory. */
  readonly slices: number;
  /** Blocks in workgroup memory: 2 saves a barrier per block. */
  readonly buffers: 1 | 2;
  /** Blocks whose loads are under way while another is multiplied; more than 1 take registers for each, and one staged block. */
  readonly ahead: number;
  /** Tiles, one below the other (side by side where it is `stationary`), that a workgroup takes in turn. */
  readonly walk: number;
  /** Parts in which the results leave, see {@link fewestRounds}. */
  readonly rounds: number;
  /** The most columns that an invocation finishes at once: 4 read the slab without bank conflicts, 16 bytes of them make the widest stores. */
  readonly wide: 4 | 8 | 16;
  /**
   * A subgroup's rows stay in registers, whole, while its workgroup takes `walk` tiles side by side: a row is loaded once for all of these columns,
   * and not staged. A block is the whole depth.
   */
  readonly stationary: boolean;
  /** Rows of the left matrix are staged without what they share. */
  readonly slide: Slide | undefined;
  /** Matrices of halves are summed in halves, not in f32: half the registers, and results leave through half the memory. */
  readonly halfSums: boolean;
  /** The matrix of `matrix` and `emulated`. */
  readonly matrix: MatrixShape | undefined;
  /** Invocations of a subgroup; 1 for `lanes`. */
  readonly subgroup: number;
  /** The kernel demands this subgroup size (the device has several). */
  readonly demandsSubgroup: boolean;
}

/** Rows of a left matrix whose runs of depth overlap in memory, as those of a convolution over runs of pixels do. */
export interface Overlap {
  /** Vectors between the runs of neighbouring rows. */
  readonly step: number;
  /** Vectors of a run. */
  readonly run: number;
}

/**
 * The rows of a matrix are loaded as one piece of (m − 1) · step + run vectors for every run, not as m · run; a block takes whole runs.
 * WGSL wants rows that do not overlap where a matrix is loaded, which is `window` vectors deep: where rows are one vector apart, every
 * vector is staged in all the windows that it belongs to, and a depth of a row is the window of a later row.
 */
export interface Slide extends Overlap {
  readonly window: number;
}

/** The element type of the operands. */
export type PackedElement = 'f16' | 'i8';

/** Elements in a vector of 16 bytes. */
export const VECTOR_ELEMENTS = { f16: 8, i8: 16 } as const satisfies Record<PackedElement, number>;

/** A problem with its depth in vectors. */
export interface PackedProblem extends MatmulShape {
  readonly element: PackedElement;
  /** Results need an operand that differs from row to row, such as a residual. */
  readonly readsRows?: boolean;
  /** Sums may be halves, see {@link PackedTactic.halfSums}. */
  readonly halfSums?: boolean;
  /** Rows of the left matrix are normalized: a workgroup keeps a pair of f32 for each, which it knows before, or sums up from what it loads. */
  readonly normalizes?: 'known' | 'summed';
  /** Columns of which the sums over rows leave with the results, see {@link leavesRowSums}. */
  readonly rowSums?: number;
  /** Rows of the left matrix are multiplied by factors before they are staged. */
  readonly scales?: boolean;
  /** Bits of a weight, where those of the right matrix become halves as they are staged. */
  readonly weightBits?: number;
  /** Depths in vectors of the left matrix's parts, where its rows can stay in registers (kernels/packed/stationary.ts). */
  readonly stationary?: readonly number[];
  /** Rows of the left matrix overlap, a `line` of neighbours at a time. */
  readonly overlap?: Overlap & { readonly line: number };
}

/** `matrix 128x128x64 64x64 16x16x16 2 slices 2 buffers 4 rounds /2`: tile (depth in elements), tile of a subgroup, matrix, …, split. */
export function packedTacticName(tactic: PackedTactic, element: PackedElement): string {
  const { engine, bm, bn, bk, sm, sn, splitK, slices, buffers, ahead, walk, rounds, wide, stationary, slide, halfSums, matrix } = tactic;
  return [
    `${engine} ${bm}x${bn}x${bk * VECTOR_ELEMENTS[element]} ${sm}x${sn}`,
    ...(matrix ? [`${matrix.m}x${matrix.n}x${matrix.k}`] : []),
    ...(halfSums ? ['f16 sums'] : []),
    ...(slide ? ['slide'] : []),
    ...(stationary ? ['stationary'] : []),
    ...(slices > 1 ? [`${slices} slices`] : []),
    ...(buffers > 1 ? [`${buffers} buffers`] : []),
    ...(ahead > 1 ? [`${ahead} ahead`] : []),
    ...(walk > 1 ? [`${walk} tiles`] : []),
    ...(rounds > 1 ? [`${rounds} rounds`] : []),
    ...(wide > 4 ? [`${wide} wide`] : []),
    ...(splitK > 1 ? [`/${splitK}`] : []),
  ].join(' ');
}

export function packedInvocations({ bm, bn, sm, sn, slices, subgroup }: PackedTactic): number {
  return (bm / sm) * (bn / sn) * slices * subgroup;
}

/** Vectors from one row of a staged tile to the next: an odd number, so that neighbouring rows start in different banks. */
export function rowPitch(tactic: Pick<PackedTactic, 'bk'>): number {
  return tactic.bk | 1;
}

/** The slab through which results leave: rows of the tile in f32, i32 or f16, some of them per round. */
export interface Slab {
  readonly rounds: number;
  /** Rows of one round, and vectors from one to the next. */
  readonly rows: number;
  readonly pitch: number;
  /** Columns in a vector. */
  readonly columns: 4 | 8;
}

/** Rows that an engine gives out in one round are whole steps of this: a row of matrices, or one result row per invocation. */
function slabStep({ engine, bm, sm, matrix }: Pick<PackedTactic, 'engine' | 'bm' | 'sm' | 'matrix'>): number {
  return engine === 'lanes' ? bm / sm : (bm / sm) * matrix!.m;
}

/** Where the rows of a left block are staged, in vectors. */
export interface LeftTile {
  readonly begin: number;
  /** From a row to the next one of the same matrix, and from a matrix's first row to the next matrix's. */
  readonly pitch: number;
  readonly matrix: number;
  /** From one run of a block to the next. */
  readonly run: number;
  readonly vectors: number;
}

type LeftShape = Pick<PackedTactic, 'bm' | 'bk' | 'matrix' | 'slide' | 'stationary'>;

export function leftTileOf(tactic: LeftShape): LeftTile {
  const { bm, bk, matrix, slide, stationary } = tactic;
  const pitch = rowPitch(tactic);
  if (!slide) return { begin: 0, pitch, matrix: (matrix?.m ?? 1) * pitch, run: bk, vectors: stationary ? 0 : bm * pitch };
  const [runs, piece] = [bk / slide.run, pieceVectors(tactic)];
  const run = slide.step === 1 ? piece * slidePitch(slide) : slideAt(slide, piece - 1) + 1;
  const begin = (slideCopies(slide) - 1) * slidePitch(slide);
  return { begin, pitch: slidePitch(slide), matrix: runs * run, run, vectors: begin + (bm / matrix!.m) * runs * run };
}

/** Vectors of memory that the rows of one matrix cover in one run. */
export function pieceVectors({ matrix, slide }: Pick<PackedTactic, 'matrix' | 'slide'>): number {
  return (matrix!.m - 1) * slide!.step + slide!.run;
}

/** Vectors from a row to the next: an odd number, as of rows that do not overlap. */
function slidePitch({ step, window }: Slide): number {
  return Math.max(step, window) | 1;
}

/** Where a piece's vector is staged, as the first of its window. */
export function slideAt(slide: Slide, vector: number): number {
  return Math.floor(vector / slide.step) * slidePitch(slide) + (vector % slide.step);
}

/** Windows that a vector belongs to. */
export function slideCopies({ step, window }: Slide): number {
  return step === 1 ? window : 1;
}

/** Vectors of a left block that are loaded; once for all tiles where it is stationary. */
export function leftLoads(tactic: LeftShape): number {
  const { bm, bk, matrix, slide } = tactic;
  return slide ? (bm / matrix!.m) * (bk / slide.run) * pieceVectors(tactic) : bm * bk;
}

/** Staged blocks in vectors. */
export function stagedVectors(tactic: LeftShape & Pick<PackedTactic, 'bn' | 'buffers'>): number {
  return (leftTileOf(tactic).vectors + tactic.bn * rowPitch(tactic)) * tactic.buffers;
}

export function slabOf({ bm, bn, rounds, halfSums }: Pick<PackedTactic, 'bm' | 'bn' | 'rounds' | 'halfSums'>): Slab {
  return { rounds, rows: bm / rounds, ...(halfSums ? { pitch: bn / 8 + 1, columns: 8 } : { pitch: bn / 4 + 2, columns: 4 }) };
}

function slabBytes(tactic: Omit<PackedTactic, 'rounds'>, rounds: number): number {
  const { rows, pitch } = slabOf({ ...tactic, rounds });
  return rows * pitch * tactic.slices * 16;
}

/** What a workgroup takes of its unit's memory on top of its own (CUDA's figure for compute capability 9.0). */
const RESERVED_BYTES = 1024;

/**
 * How many workgroups of a tile can be on a unit at once, by workgroup memory. Drivers may keep the unit's memory for caches: the
 * H200 has 228 KB, but under Vulkan workgroups behaved as if they shared the 48 KB that one of them may have.
 */
export function residentByMemory(bytes: number, maxWorkgroupBytes: number): number {
  return Math.max(1, Math.floor(maxWorkgroupBytes / (bytes + RESERVED_BYTES)));
}

/**
 * The fewest rounds whose slab leaves room for as many workgroups as the staged blocks alone do: every round costs two barriers,
 * but a workgroup less on the unit costs more.
 */
export function fewestRounds(tactic: Omit<PackedTactic, 'rounds'>, maxWorkgroupBytes: number): number {
  const steps = tactic.bm / slabStep(tactic);
  const staged = stagedVectors(tactic) * 16;
  const limit = Math.max(staged, Math.floor(maxWorkgroupBytes / residentByMemory(staged, maxWorkgroupBytes)) - RESERVED_BYTES);
  for (let rounds = 1; rounds < steps; rounds++) if (steps % rounds === 0 && slabBytes(tactic, rounds) <= limit) return rounds;
  return steps;
}

export function packedWorkgroupBytes(tactic: PackedTactic): number {
  return Math.max(stagedVectors(tactic) * 16, slabBytes(tactic, tactic.rounds));
}

/** Workgroup memory of a tile whose rows are normalized, beside {@link packedWorkgroupBytes}: a pair of f32 for each. */
export function momentsBytes({ bm }: Pick<PackedTactic, 'bm'>): number {
  return bm * 8;
}

/** Whether a tile's results can leave with sums of so many columns of a row: each point has a place in the slab, and no tile has a part of them. */
export function leavesRowSums({ bn, wide, stationary, halfSums }: PackedTactic, columns: number): boolean {
  return bn % columns === 0 && !stationary && (!halfSums || wide === 8);
}

/** Columns of partial results as stored between the two kernels of a split product. */
export function partialColumns(columns: number): number {
  return Math.ceil(columns / 4) * 4;
}

/** What an invocation holds of operands by row while it multiplies; more is loaded when the results leave. */
export const EARLY_BYTES = 256;

/** Bytes between the two kernels of a split product. */
export function packedScratchBytes(shape: MatmulShape, { splitK }: PackedTactic): number {
  return splitK === 1 ? 0 : splitK * shape.batch * shape.rows * partialColumns(shape.columns) * 4;
}

/** The subgroup size that a matrix kernel gets, and whether it must ask for it; undefined where none can be had. */
export function matrixSubgroup(profile: DeviceProfile): { readonly size: number; readonly demands: boolean } | undefined {
  const { subgroupSize, features } = profile;
  if (!subgroupSize || !features.has('subgroups') || !features.has('chromium-experimental-subgroup-matrix')) return undefined;
  const { min, max } = subgroupSize;
  if (min === max) return { size: min, demands: false };
  if (!features.has('subgroup-size-control')) return undefined;
  return { size: Math.min(max, Math.max(min, 32)), demands: true };
}

/** Whether every matrix lies in one run, at one distance from row to row. */
function slidesWhole({ engine, bk, slices, slide, matrix }: PackedTactic, element: PackedElement): boolean {
  const { step, run, window } = slide!;
  if (engine === 'lanes' || slices > 1 || window * VECTOR_ELEMENTS[element] !== matrix?.k) return false;
  return bk % run === 0 && run % window === 0 && (step === 1 || step % window === 0 || (step > window && step % 2 === 1));
}

/** Why rows can't stay in registers. */
function stationaryReason({ engine, splitK, slices, buffers, ahead, slide }: PackedTactic): string | undefined {
  if (engine === 'lanes') return 'rows stay in registers as matrices only';
  return splitK > 1 || slices > 1 || buffers > 1 || ahead > 1 || slide ? 'rows that stay in registers are multiplied whole, with one staged block' : undefined;
}

/** Whether a tactic can run on the device; `undefined`, or why it can't. */
export function packedReason(tactic: PackedTactic, element: PackedElement, profile: DeviceProfile): string | undefined {
  const { engine, bm, bn, bk, sm, sn, slices, wide, stationary, slide, halfSums, matrix, subgroup } = tactic;
  const invocations = packedInvocations(tactic);
  if (bm % sm !== 0 || bn % sn !== 0 || bn % wide !== 0) return 'the tile is not whole subgroup tiles';
  if (halfSums && (engine === 'lanes' || element !== 'f16' || bn % 8 !== 0)) return 'sums of halves are matrices of halves';
  if (tactic.ahead > 1 && tactic.buffers > 1) return 'blocks wait either in registers or in workgroup memory';
  if (bm % (tactic.rounds * slabStep(tactic)) !== 0) return 'the rounds are not whole rows of results';
  if (invocations > profile.maxInvocations) return `${invocations} invocations, the device has ${profile.maxInvocations}`;
  if (packedWorkgroupBytes(tactic) > profile.maxWorkgroupBytes) return `${packedWorkgroupBytes(tactic)} bytes of workgroup memory, the device has ${profile.maxWorkgroupBytes}`;
  if (tactic.walk > 1 && (tactic.splitK > 1 || tactic.ahead > 1)) return 'a workgroup that walks has the whole depth and one set of registers';
  const unfit = stationary ? stationaryReason(tactic) : undefined;
  if (unfit) return unfit;
  if (!slide && !stationary && invocations % bk !== 0) return 'a row is not loaded by whole sets of invocations';
  if ((slide || stationary ? [bn] : [bm, bn]).some((rows) => rows * bk > invocations && (rows * bk) % invocations !== 0)) return 'loads do not divide among the invocations';
  if (slide && !slidesWhole(tactic, element)) return 'runs that overlap are not whole matrices deep, or are sliced';
  if (engine === 'lanes') return sn % 4 !== 0 || bk % slices !== 0 ? 'the tile of an invocation is not whole vectors' : undefined;
  if (!matrix || sm % matrix.m !== 0 || sn % matrix.n !== 0) return 'the subgroup tile is not whole matrices';
  if ((bk * VECTOR_ELEMENTS[element]) % (matrix.k * slices) !== 0 || matrix.k % VECTOR_ELEMENTS[element] !== 0) return 'a block is not whole matrices deep';
  if (engine === 'emulated') return undefined;
  const given = matrixSubgroup(profile);
  if (!given || given.size !== subgroup || given.demands !== tactic.demandsSubgroup) return 'the subgroup size is another one';
  // Dawn demands whole subgroups of the largest size along x.
  if (!given.demands && invocations % profile.subgroupSize!.max !== 0) return 'the workgroup is not whole subgroups';
  return undefined;
}
