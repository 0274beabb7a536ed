/**
 * Which tiles of the packed matrix kernel to try, ranked by a simple model of a large GPU.
 *
 * The model: workgroups run in waves over the compute units, as many at once on a unit as its workgroup memory, registers and
 * invocations allow. A wave takes as long as a workgroup does alone (latencies of loads and barriers one after another) or
 * as long as its workgroups together keep the unit busy, whichever is longer. It only has to put good tiles first: the constants
 * are those of an NVIDIA H200, and measured tuning replaces the ranking where it is asked for.
 */
import type { DeviceProfile } from '../profile.ts';
import {
  EARLY_BYTES,
  fewestRounds,
  leftLoads,
  momentsBytes,
  matrixSubgroup,
  type MatrixShape,
  packedInvocations,
  type PackedElement,
  type PackedProblem,
  packedReason,
  packedScratchBytes,
  type PackedTactic,
  packedWorkgroupBytes,
  residentByMemory,
  type Slide,
  slideCopies,
  VECTOR_ELEMENTS,
} from './packed.ts';

/** Tile of the workgroup, of a subgroup or invocation, depths of a block in vectors, slices. */
interface Tile {
  readonly block: readonly [number, number];
  readonly sub: readonly [number, number];
  readonly bk: readonly number[];
  readonly slices?: readonly number[];
}

const MATRIX_TILES: readonly Tile[] = [
  { block: [192, 256], sub: [96, 64], bk: [4] },
  { block: [96, 256], sub: [48, 64], bk: [4] },
  { block: [192, 192], sub: [96, 48], bk: [4] },
  { block: [160, 128], sub: [80, 64], bk: [4] },
  { block: [128, 256], sub: [64, 64], bk: [4] },
  { block: [256, 128], sub: [64, 64], bk: [4] },
  { block: [256, 64], sub: [64, 64], bk: [4, 8] },
  { block: [256, 64], sub: [64, 32], bk: [4] },
  { block: [128, 128], sub: [64, 64], bk: [4, 2, 8] },
  { block: [128, 128], sub: [64, 32], bk: [4, 8] },
  { block: [96, 128], sub: [48, 64], bk: [4, 8] },
  { block: [96, 64], sub: [48, 32], bk: [4, 8] },
  { block: [192, 128], sub: [96, 32], bk: [4] },
  { block: [192, 128], sub: [48, 64], bk: [4] },
  { block: [128, 64], sub: [64, 64], bk: [4, 8] },
  { block: [128, 64], sub: [64, 32], bk: [4, 8] },
  { block: [128, 64], sub: [32, 32], bk: [4, 8] },
  { block: [64, 128], sub: [64, 32], bk: [4, 8] },
  { block: [64, 128], sub: [32, 32], bk: [4, 8] },
  { block: [64, 64], sub: [64, 32], bk: [4, 8] },
  { block: [64, 64], sub: [32, 32], bk: [4, 8, 16], slices: [1, 2] },
  { block: [64, 32], sub: [32, 32], bk: [8, 16], slices: [1, 2, 4] },
  { block: [32, 64], sub: [32, 32], bk: [8, 16], slices: [1, 2, 4] },
  { block: [64, 32], sub: [32, 16], bk: [8, 16], slices: [1, 2] },
  { block: [32, 64], sub: [16, 32], bk: [8, 16], slices: [1, 2] },
  { block: [32, 32], sub: [32, 32], bk: [8, 16, 32], slices: [2, 4, 8] },
  { block: [32, 32], sub: [16, 16], bk: [8, 16, 32], slices: [1, 2] },
  { block: [32, 128], sub: [32, 32], bk: [8, 16] },
  { block: [16, 64], sub: [16, 32], bk: [8, 16, 32], slices: [1, 2, 4] },
  { block: [16, 128], sub: [16, 32], bk: [8, 16], slices: [1, 2] },
  { block: [64, 16], sub: [32, 16], bk: [16, 32], slices: [2, 4] },
  { block: [16, 32], sub: [16, 32], bk: [16, 32], slices: [4, 8] },
  { block: [16, 16], sub: [16, 16], bk: [32, 64], slices: [4, 8, 16] },
];

/** Of tiles whose rows stay in registers; their depth is the problem's. */
const STATIONARY_TILES: readonly Omit<Tile, 'bk'>[] = [
  { block: [128, 64], sub: [32, 64] },
  { block: [128, 32], sub: [32, 32] },
  { block: [64, 64], sub: [32, 64] },
  { block: [64, 32], sub: [16, 32] },
];

/** Of fewer columns one tile takes all, and loads its rows no more than once either. */
const FEWEST_STATIONARY_COLUMNS = 256;

/** Tiles that a compiler still writes out one after another. */
const MOST_STATIONARY_TILES = 8;

const LANE_TILES: readonly Tile[] = [
  { block: [128, 128], sub: [8, 8], bk: [2, 4] },
  { block: [128, 64], sub: [8, 4], bk: [2, 4] },
  { block: [64, 128], sub: [8, 8], bk: [2, 4] },
  { block: [64, 64], sub: [8, 4], bk: [4] },
  { block: [64, 64], sub: [4, 4], bk: [4] },
  { block: [32, 64], sub: [4, 4], bk: [4], slices: [1, 2] },
  { block: [64, 32], sub: [4, 4], bk: [4], slices: [1, 2] },
  { block: [32, 32], sub: [4, 4], bk: [8], slices: [1, 2, 4] },
  { block: [16, 64], sub: [2, 4], bk: [4], slices: [1, 2] },
  { block: [16, 16], sub: [2, 4], bk: [8], slices: [2, 4] },
];

/** Little code. */
const COMPACT_TILES: readonly Tile[] = [{ block: [16, 16], sub: [2, 4], bk: [4] }];

/** Blocks in workgroup memory and in registers, tiles of a workgroup, columns that leave at once. */
const PIPELINES = [[1, 1, 1, 4], [2, 1, 1, 4], [1, 2, 1, 4], [1, 4, 1, 4], [1, 1, 4, 4], [1, 1, 1, 8], [1, 1, 4, 8]] as const;

const SPLITS = [1, 2, 3, 4, 6, 8, 12, 16] as const;

/** What the model knows of a device: times in nanoseconds, rates of one unit per nanosecond. */
export interface PackedModel {
  readonly units: number;
  /** Multiply-adds, counted twice. */
  readonly matrixFlops: Readonly<Record<PackedElement, number>>;
  readonly laneFlops: Readonly<Record<PackedElement, number>>;
  /** Bytes of workgroup memory, of L2 for one unit and for all. */
  readonly tileBytes: number;
  readonly unitL2Bytes: number;
  readonly allL2Bytes: number;
  /** What workgroups on one unit share; see {@link residentByMemory}. */
  readonly unitBytes: number;
  readonly unitInvocations: number;
  readonly unitRegisters: number;
  /** Until a workgroup's first loads are there, those of a tile after another one, and a block's; a barrier; a round of the slab beyond its work. */
  readonly beginning: number;
  readonly restart: number;
  readonly blockLatency: number;
  readonly barrier: number;
  readonly round: number;
  /** The work on a result, and how much of it is left where more than four leave at once. */
  readonly result: Readonly<Record<PackedElement, number>>;
  readonly wideResult: number;
  /** A result's operand that differs by row, how much of it is left where the next tile's are loaded while results leave, and what a round waits for where they are not loaded before the products. */
  readonly operand: Readonly<Record<PackedElement, number>>;
  readonly nextOperand: number;
  readonly lateOperands: number;
  readonly dispatch: number;
  /** Of all units. */
  readonly partialBytes: number;
}

/** An H200 at full clocks, fitted to 1,330 measured kernels of ResNet-50's convolutions (bench/packed-fit.mjs, docs/performance.md). */
export const H200: PackedModel = {
  units: 132,
  matrixFlops: { f16: 5000, i8: 6700 },
  laneFlops: { f16: 300, i8: 500 },
  tileBytes: 160,
  unitL2Bytes: 80,
  allL2Bytes: 4900,
  unitBytes: 49_152,
  unitInvocations: 2048,
  unitRegisters: 65_536,
  beginning: 820,
  restart: 300,
  blockLatency: 350,
  barrier: 85,
  round: 35,
  result: { f16: 0.075, i8: 0.09 },
  wideResult: 0.55,
  operand: { f16: 0.075, i8: 0.0125 },
  nextOperand: 0.4,
  lateOperands: 300,
  dispatch: 3500,
  partialBytes: 2300,
};

/** The most registers that an invocation can have. */
const MOST_REGISTERS = 255;

/** Registers that one invocation wants: accumulators, the blocks under way, matrices, addresses. */
function registersOf(tactic: PackedTactic): number {
  const { engine, bn, bk, sm, sn, subgroup, ahead, stationary } = tactic;
  const accumulators = engine === 'lanes' ? sm * sn : (sm * sn) / subgroup;
  const staged = (((stationary ? 0 : leftLoads(tactic)) + bn * bk) / packedInvocations(tactic)) * 4 * ahead;
  const operands = engine === 'lanes' ? 8 * (sm + 1) : stationary ? (sm * bk * 4) / subgroup + sn / 4 : ((sm + sn) * 8) / 32;
  return accumulators + staged + operands + 32;
}

/** Blocks of the depth that a workgroup goes through. */
function blocksOf({ depth }: PackedProblem, { splitK, bk }: PackedTactic): number {
  return Math.ceil(Math.ceil(depth / splitK) / bk);
}

/** Workgroups on one unit at once. */
function residentWorkgroups(tactic: PackedTactic, workgroups: number, model: PackedModel): number {
  const invocations = packedInvocations(tactic);
  const fits = Math.min(
    Math.floor(model.unitInvocations / invocations),
    residentByMemory(packedWorkgroupBytes(tactic), model.unitBytes),
    Math.floor(model.unitRegisters / (invocations * Math.min(MOST_REGISTERS, registersOf(tactic)))),
  );
  return Math.max(1, Math.min(fits, Math.ceil(workgroups / model.units)));
}

/** What a workgroup takes by itself, and what of that keeps its unit busy; nanoseconds. */
function workgroupNs(problem: PackedProblem, tactic: PackedTactic, model: PackedModel): { readonly alone: number; readonly busy: number } {
  const { element } = problem;
  const { engine, bm, bn, bk, sm, sn, slices, buffers, ahead, walk, rounds, wide, stationary, slide } = tactic;
  const blocks = blocksOf(problem, tactic);
  const readers = (bm / sm) * (bn / sn) * (engine === 'lanes' ? 0.25 : 1);
  // A unit has four schedulers: fewer subgroups leave some of them idle.
  const idle = 4 / Math.min(4, packedInvocations(tactic) / 32);
  const products = (2 * bm * bn * bk * VECTOR_ELEMENTS[element]) / (engine === 'lanes' ? model.laneFlops : model.matrixFlops)[element];
  const staged = bn * bk + (stationary ? 0 : leftLoads(tactic));
  const copies = slide ? leftLoads(tactic) * (slideCopies(slide) - 1) : 0;
  const staging = ((readers * (stationary ? sn : sm + sn) * bk + staged + copies) * 16) / model.tileBytes;
  const loads = ((staged + (stationary ? leftLoads(tactic) / walk : 0)) * 16) / model.unitL2Bytes;
  const longest = Math.max(products, staging, loads);
  const busyBlock = longest + 0.3 * (products + staging + loads - longest);
  const barriers = blocks === 1 ? 1 : 3 - buffers;
  const latency = stationary ? 0 : blocks === 1 ? model.blockLatency : model.blockLatency / ahead;
  const block = Math.max(latency + loads, products * idle + staging) + model.barrier * barriers;
  // Lanes that read more than a vector each meet in the banks; narrow elements leave in fewer stores.
  const banks = (4 * (slices + wide / 4 - 1)) / model.tileBytes;
  const results = bm * bn * (model.result[element] * (wide > 4 ? model.wideResult : 1) + banks + (problem.readsRows ? model.operand[element] * (stationary ? model.nextOperand : 1) : 0));
  const late = problem.readsRows && ((bm * bn) / packedInvocations(tactic)) * (16 / VECTOR_ELEMENTS[element]) > EARLY_BYTES;
  const waits = late ? rounds * model.lateOperands : 0;
  const tile = blocks * block + rounds * model.round + waits + results * idle;
  return { alone: model.beginning + (walk - 1) * model.restart + walk * tile, busy: walk * (blocks * busyBlock + results + waits) };
}

function workgroupsOf({ rows, columns, batch }: PackedProblem, { bm, bn, splitK, walk, stationary }: PackedTactic): number {
  const [down, across] = [Math.ceil(rows / bm), Math.ceil(columns / bn)];
  const walks = stationary ? down * Math.ceil(across / walk) : Math.ceil(down / walk) * across;
  return walks * batch * splitK;
}

/** Predicted time in nanoseconds. Its order is what it is for. */
export function predictPackedNs(problem: PackedProblem, tactic: PackedTactic, model: PackedModel = H200): number {
  const { bn, bk, splitK, walk, stationary } = tactic;
  const workgroups = workgroupsOf(problem, tactic);
  const resident = residentWorkgroups(tactic, workgroups, model);
  const { alone, busy } = workgroupNs(problem, tactic, model);
  // Workgroups drift apart: the last wave is rarely a whole one.
  const filled = workgroups / model.units / resident;
  const waves = filled <= 1 ? 1 : filled + (walk > 1 ? 1 : 0.3) * (Math.ceil(filled) - filled);
  // Registers for a second block are not free where they bring nothing.
  const pipeline = 1 + 0.02 * (tactic.ahead - 1);
  const traffic = (workgroups * (leftLoads(tactic) * (stationary ? 1 : walk) + walk * bn * bk) * blocksOf(problem, tactic) * 16) / model.allL2Bytes;
  const reduce = splitK > 1 ? model.dispatch + model.beginning + (2 * packedScratchBytes(problem, tactic)) / model.partialBytes : 0;
  return model.dispatch + pipeline * Math.max(waves * Math.max(alone, resident * busy), traffic) + reduce;
}

/** What a device can run does not depend on the problem; tactics by device, element and engine. */
const LEGAL = new WeakMap<DeviceProfile, Map<string, readonly PackedTactic[]>>();

type Base = Pick<PackedTactic, 'engine' | 'matrix' | 'subgroup' | 'demandsSubgroup' | 'slide' | 'stationary'>;

function tacticsOf(tiles: readonly Tile[], base: Base, element: PackedElement, profile: DeviceProfile, key = `${element} ${base.engine}`): readonly PackedTactic[] {
  const known = LEGAL.get(profile) ?? new Map<string, readonly PackedTactic[]>();
  LEGAL.set(profile, known);
  const made = known.get(key) ?? allTactics(tiles, base, profile).filter((tactic) => packedReason(tactic, element, profile) === undefined);
  known.set(key, made);
  return made;
}

function allTactics(tiles: readonly Tile[], base: Base, { maxWorkgroupBytes }: DeviceProfile): PackedTactic[] {
  // On plain WGSL nothing but the blocks was seen to matter.
  const pipelines = PIPELINES.filter(([, , walk, wide]) => base.engine === 'matrix' || (walk === 1 && wide === 4));
  return tiles.flatMap(({ block: [bm, bn], sub: [sm, sn], bk: depths, slices: all = [1] }) =>
    depths.flatMap((bk) =>
      all.flatMap((slices) =>
        pipelines.flatMap(([buffers, ahead, walk, wide]) => {
          const tile = { kind: 'packed', ...base, bm, bn, bk, sm, sn, slices, buffers, ahead, walk, wide } as const;
          const rounds = fewestRounds({ ...tile, splitK: 1 }, maxWorkgroupBytes);
          return SPLITS.map((splitK): PackedTactic => ({ ...tile, rounds, splitK }));
        }),
      ),
    ),
  );
}

/** Runs that a sliding block takes, unless it takes the whole depth. */
const RUNS = [1, 2, 4] as const;

/** Tactics for a left matrix whose rows overlap: the tiles are those of others, their blocks are whole runs. */
function slidingTactics({ overlap, depth, element }: PackedProblem, base: Base, profile: DeviceProfile): readonly PackedTactic[] {
  if (!overlap || overlap.line % base.matrix!.m !== 0) return [];
  const slide: Slide = { step: overlap.step, run: overlap.run, window: base.matrix!.k / VECTOR_ELEMENTS[element] };
  const bk = [...new Set([...RUNS.map((runs) => runs * slide.run), depth])].filter((vectors) => depth % vectors === 0);
  const tiles = MATRIX_TILES.map(({ block, sub }): Tile => ({ block, sub, bk }));
  return tacticsOf(tiles, { ...base, slide }, element, profile, `${element} slide ${slide.step} ${slide.run} ${depth}`);
}

/** Tactics that keep the rows of a left matrix in registers, for parts of it that are whole matrices deep. */
function stationaryTactics({ stationary, rows, columns, depth, element }: PackedProblem, base: Base, profile: DeviceProfile): readonly PackedTactic[] {
  const matrix = base.matrix!;
  const whole = rows % matrix.m === 0 && stationary?.every((part) => (part * VECTOR_ELEMENTS[element]) % matrix.k === 0);
  if (!whole || columns < FEWEST_STATIONARY_COLUMNS) return [];
  return STATIONARY_TILES.flatMap(({ block: [bm, bn], sub: [sm, sn] }) => {
    const tiles = Math.ceil(columns / bn);
    const most = Math.ceil(tiles / Math.ceil(tiles / MOST_STATIONARY_TILES));
    return [...new Set([most, Math.ceil(most / 2)])].filter((walk) => walk > 1).map((walk): PackedTactic => {
      const tile = { kind: 'packed', ...base, stationary: true, bm, bn, bk: depth, sm, sn, splitK: 1, slices: 1, buffers: 1, ahead: 1, walk, wide: 4 } as const;
      return { ...tile, rounds: fewestRounds(tile, profile.maxWorkgroupBytes) };
    });
  }).filter((tactic) => packedReason(tactic, element, profile) === undefined);
}

/** The matrix to use: the largest that the device has, of those alike the squarest. */
function matrixFor(element: PackedElement, profile: DeviceProfile): MatrixShape | undefined {
  const legal = profile.matrixConfigs.filter((config) => config.element === element && config.k % VECTOR_ELEMENTS[element] === 0);
  const [best] = legal.toSorted((a, b) => b.m * b.n * b.k - a.m * a.n * a.k || Math.max(a.m, a.n) - Math.max(b.m, b.n));
  return best && { m: best.m, n: best.n, k: best.k };
}

/** How many candidates there may be, of one block (ways to load it), of one tile and of all with one engine. */
export interface CandidateLimits {
  readonly perBlock: number;
  readonly perTile: number;
  readonly matrix: number;
  readonly lanes: number;
}

/** A tuner times them all. */
const LIMITS: CandidateLimits = { perBlock: 1, perTile: 2, matrix: 24, lanes: 2 };

/** The tactics worth trying, best first by the model; at least one is legal on every device. */
export function packedTactics(problem: PackedProblem, profile: DeviceProfile, limits: CandidateLimits = LIMITS): PackedTactic[] {
  const lanes = { engine: 'lanes', stationary: false, slide: undefined, matrix: undefined, subgroup: 1, demandsSubgroup: false } as const;
  const ranked = (all: readonly PackedTactic[], count: number): PackedTactic[] => rank(all, problem, profile, count, limits);
  if (profile.compact) return ranked(tacticsOf(COMPACT_TILES, lanes, problem.element, profile), limits.matrix);
  const matrix = matrixFor(problem.element, profile);
  const subgroup = matrixSubgroup(profile);
  if (!matrix || !subgroup) return ranked(tacticsOf(LANE_TILES, lanes, problem.element, profile), limits.matrix);
  const base = { engine: 'matrix', stationary: false, slide: undefined, matrix, subgroup: subgroup.size, demandsSubgroup: subgroup.demands } as const;
  const matrices = [...slidingTactics(problem, base, profile), ...stationaryTactics(problem, base, profile), ...tacticsOf(MATRIX_TILES, base, problem.element, profile)];
  return [...ranked(matrices, limits.matrix), ...ranked(tacticsOf(LANE_TILES, lanes, problem.element, profile), limits.lanes)];
}

function normalizable(tactic: PackedTactic, profile: DeviceProfile): boolean {
  const { splitK, walk, slide } = tactic;
  return splitK === 1 && walk === 1 && !slide && packedWorkgroupBytes(tactic) + momentsBytes(tactic) <= profile.maxWorkgroupBytes;
}

function rank(all: readonly PackedTactic[], problem: PackedProblem, profile: DeviceProfile, count: number, { perBlock, perTile }: CandidateLimits): PackedTactic[] {
  const legal = all.filter(
    (tactic) =>
      // Wide ends were measured to help bytes without operands by row, and nothing else.
      (tactic.wide === 4 || (problem.element === 'i8' && !problem.readsRows)) &&
      (!problem.normalizes || normalizable(tactic, profile)) &&
      problem.batch * tactic.splitK <= profile.maxWorkgroupsPerDimension &&
      (tactic.splitK === 1 || problem.depth >= tactic.splitK * tactic.bk * 2) &&
      // What is loaded far ahead waits in registers, or not at all.
      ((tactic.ahead <= 2 && !tactic.stationary) || registersOf(tactic) <= MOST_REGISTERS) &&
      // A single block needs no second buffer, and two nothing that is loaded two ahead.
      blocksOf(problem, tactic) >= tactic.buffers + 2 * (tactic.ahead - 1),
  );
  const predicted = legal.map((tactic) => ({ tactic, ns: predictPackedNs(problem, tactic) })).sort((a, b) => a.ns - b.ns);
  const taken = new Map<string, number>();
  const take = (key: string, most: number): boolean => {
    const before = taken.get(key) ?? 0;
    if (before < most) taken.set(key, before + 1);
    return before < most;
  };
  const chosen = predicted.filter(({ tactic: { bm, bn, sm, sn, bk, slices, splitK, walk, stationary, slide } }) => {
    const tile = `${bm}x${bn} ${sm}x${sn} ${stationary ? 'stationary' : walk}${slide ? ' slide' : ''}`;
    return take(`${tile} ${bk} ${slices} ${splitK}${stationary ? ` ${walk}` : ''}`, perBlock) && take(tile, walk > 1 && !stationary ? 1 : perTile);
  });
  return chosen.slice(0, count).map(({ tactic }) => tactic);
}
