/**
 * Which tiles of the packed matrix kernel to try, ranked by a simple model of a large GPU.
 *
 * The model: workgroups run in waves over the compute units. A block of the depth takes the latency of its loads, or the
 * largest share of the unit's matrix cores, workgroup memory and L2 bandwidth, whichever is longer. It only has to put good
 * tiles first: the constants are those of an NVIDIA H200, and measured tuning replaces the ranking where it is asked for.
 */
import type { DeviceProfile } from '../profile.ts';
import {
  fewestRounds,
  matrixSubgroup,
  type MatrixShape,
  packedInvocations,
  type PackedElement,
  type PackedProblem,
  packedReason,
  packedScratchBytes,
  type PackedTactic,
  packedWorkgroupBytes,
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
  { block: [128, 256], sub: [64, 64], bk: [4] },
  { block: [256, 128], sub: [64, 64], bk: [4] },
  { block: [256, 64], sub: [64, 64], bk: [4, 8] },
  { block: [256, 64], sub: [64, 32], bk: [4] },
  { block: [128, 128], sub: [64, 64], bk: [4, 8] },
  { block: [128, 128], sub: [64, 32], bk: [4, 8] },
  { block: [128, 64], sub: [64, 32], bk: [4, 8] },
  { block: [128, 64], sub: [32, 32], bk: [4, 8] },
  { block: [64, 128], sub: [64, 32], bk: [4, 8] },
  { block: [64, 128], sub: [32, 32], bk: [8] },
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
  { block: [16, 16], sub: [16, 16], bk: [32], slices: [4, 8] },
];

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

const SPLITS = [1, 2, 3, 4, 6, 8, 12, 16] as const;

/**
 * A streaming multiprocessor at full clocks, times in nanoseconds: multiply-adds of both kinds that were reached, not those of the
 * datasheet; bytes of workgroup memory and of L2; registers and invocations; what a block's loads, a workgroup's beginning
 * and a dispatch take.
 */
const MODEL = {
  units: 132,
  matrixFlops: { f16: 2600, i8: 5000 },
  laneFlops: { f16: 300, i8: 500 },
  tileBytes: 180,
  memoryBytes: 60,
  unitBytes: 220_000,
  unitInvocations: 2048,
  unitRegisters: 65_536,
  blockLatency: 550,
  beginning: 1000,
  dispatch: 3300,
  partialBytes: 2500,
} as const;

/** Registers of one invocation: accumulators, the block under way, matrices, addresses. */
function registersOf(tactic: PackedTactic): number {
  const { engine, bm, bn, bk, sm, sn, subgroup } = tactic;
  const accumulators = engine === 'lanes' ? sm * sn : (sm * sn) / subgroup;
  const staged = (((bm + bn) * bk) / packedInvocations(tactic)) * 4;
  const operands = engine === 'lanes' ? 8 * (sm + 1) : ((sm + sn) * 8) / 32;
  return Math.min(255, accumulators + staged + operands + 32);
}

/** Predicted time in nanoseconds. Only its order means anything. */
export function predictPackedNs(problem: PackedProblem, tactic: PackedTactic): number {
  const { element } = problem;
  const { engine, bm, bn, bk, sm, sn, slices, splitK, buffers } = tactic;
  const invocations = packedInvocations(tactic);
  const tiles = Math.ceil(problem.rows / bm) * Math.ceil(problem.columns / bn) * problem.batch * splitK;
  const fits = Math.min(
    Math.floor(MODEL.unitInvocations / invocations),
    Math.floor(MODEL.unitBytes / (packedWorkgroupBytes(tactic) + 1024)),
    Math.floor(MODEL.unitRegisters / (invocations * registersOf(tactic))),
  );
  const resident = Math.max(1, Math.min(fits, Math.ceil(tiles / MODEL.units)));
  const waves = Math.ceil(tiles / (MODEL.units * resident));
  const blocks = Math.ceil(Math.ceil(problem.depth / splitK) / bk);
  const flops = 2 * bm * bn * bk * VECTOR_ELEMENTS[element];
  const rate = (engine === 'lanes' ? MODEL.laneFlops : MODEL.matrixFlops)[element];
  // A unit has four schedulers: fewer subgroups leave some of them idle.
  const busy = Math.min(1, (resident * invocations) / 32 / 4);
  const readers = engine === 'lanes' ? (bm / sm) * (bn / sn) * 0.25 : (bm / sm) * (bn / sn);
  const [arithmetic, memory, loads] = [
    flops / (rate * busy),
    ((readers * (sm + sn) + bm + bn) * bk * 16) / MODEL.tileBytes,
    ((bm + bn) * bk * 16) / MODEL.memoryBytes,
  ];
  // Loads of the next block run beside the products of this one; both share the unit with the other workgroups on it.
  const products = Math.max(arithmetic, memory) + 0.3 * Math.min(arithmetic, memory) + (buffers === 1 ? 40 : 20);
  const loop = blocks * Math.max(MODEL.blockLatency + loads * resident, products * resident);
  const epilogue = ((bm * bn * 4 * (1 + slices)) / MODEL.tileBytes + (bm * bn * 4) / MODEL.memoryBytes) * resident;
  const reduce = splitK > 1 ? MODEL.dispatch + (2 * packedScratchBytes(problem, tactic)) / MODEL.partialBytes : 0;
  return waves * (MODEL.beginning + loop + epilogue) + reduce;
}

function tacticsOf(tiles: readonly Tile[], base: Pick<PackedTactic, 'engine' | 'matrix' | 'subgroup' | 'demandsSubgroup'>, { maxWorkgroupBytes }: DeviceProfile): PackedTactic[] {
  return tiles.flatMap(({ block: [bm, bn], sub: [sm, sn], bk: depths, slices: all = [1] }) =>
    depths.flatMap((bk) =>
      all.flatMap((slices) =>
        ([1, 2] as const).flatMap((buffers) => {
          const tile = { kind: 'packed', ...base, bm, bn, bk, sm, sn, slices, buffers, ahead: 1, wide: 4 } as const;
          const rounds = fewestRounds({ ...tile, splitK: 1 }, maxWorkgroupBytes);
          return SPLITS.map((splitK): PackedTactic => ({ ...tile, rounds, splitK }));
        }),
      ),
    ),
  );
}

/** The matrix to use: the largest that the device has, of those alike the squarest. */
function matrixFor(element: PackedElement, profile: DeviceProfile): MatrixShape | undefined {
  const legal = profile.matrixConfigs.filter((config) => config.element === element && config.k % VECTOR_ELEMENTS[element] === 0);
  const [best] = legal.toSorted((a, b) => b.m * b.n * b.k - a.m * a.n * a.k || Math.max(a.m, a.n) - Math.max(b.m, b.n));
  return best && { m: best.m, n: best.n, k: best.k };
}

/** How many candidates there may be, of one tile and of all with one engine. */
export interface CandidateLimits {
  readonly perTile: number;
  readonly matrix: number;
  readonly lanes: number;
}

/** A tuner times them all. */
const LIMITS: CandidateLimits = { perTile: 2, matrix: 16, lanes: 2 };

/** The tactics worth trying, best first by the model; at least one is legal on every device. */
export function packedTactics(problem: PackedProblem, profile: DeviceProfile, limits: CandidateLimits = LIMITS): PackedTactic[] {
  const lanes = { engine: 'lanes', matrix: undefined, subgroup: 1, demandsSubgroup: false } as const;
  const ranked = (all: readonly PackedTactic[], count: number): PackedTactic[] => rank(all, problem, profile, count, limits.perTile);
  if (profile.compact) return ranked(tacticsOf(COMPACT_TILES, lanes, profile), limits.matrix);
  const matrix = matrixFor(problem.element, profile);
  const subgroup = matrixSubgroup(profile);
  if (!matrix || !subgroup) return ranked(tacticsOf(LANE_TILES, lanes, profile), limits.matrix);
  const base = { engine: 'matrix', matrix, subgroup: subgroup.size, demandsSubgroup: subgroup.demands } as const;
  return [...ranked(tacticsOf(MATRIX_TILES, base, profile), limits.matrix), ...ranked(tacticsOf(LANE_TILES, lanes, profile), limits.lanes)];
}

function rank(all: readonly PackedTactic[], problem: PackedProblem, profile: DeviceProfile, count: number, most: number): PackedTactic[] {
  const legal = all.filter(
    (tactic) =>
      packedReason(tactic, problem.element, profile) === undefined &&
      problem.batch * tactic.splitK <= profile.maxWorkgroupsPerDimension &&
      (tactic.splitK === 1 || problem.depth >= tactic.splitK * tactic.bk * 2),
  );
  const predicted = legal.map((tactic) => ({ tactic, ns: predictPackedNs(problem, tactic) })).sort((a, b) => a.ns - b.ns);
  const perTile = new Map<string, number>();
  const chosen = predicted.filter(({ tactic }) => {
    const tile = `${tactic.bm}x${tactic.bn} ${tactic.sm}x${tactic.sn}`;
    const taken = perTile.get(tile) ?? 0;
    perTile.set(tile, taken + 1);
    return taken < most;
  });
  return chosen.slice(0, count).map(({ tactic }) => tactic);
}
