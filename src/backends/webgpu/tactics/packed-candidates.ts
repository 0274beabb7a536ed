/** Which tactics of the packed matrix kernel to try for a problem: tiles and ways through them, where they are legal, the best first by packed-model.ts. */
import { type DeviceProfile, matricesOf } from '../profile.ts';
import {
  fewestRounds,
  leavesRowSums,
  matrixSubgroup,
  type MatrixShape,
  momentsBytes,
  type PackedElement,
  type PackedProblem,
  packedReason,
  type PackedTactic,
  packedWorkgroupBytes,
  type Slide,
  VECTOR_ELEMENTS,
} from './packed.ts';
import { blocksOf, MOST_REGISTERS, predictPackedNs, registersOf } from './packed-model.ts';

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

/** Sums of halves leave registers for larger ones. */
const HALF_TILES: readonly Tile[] = [...MATRIX_TILES, { block: [256, 256], sub: [128, 64], bk: [4] }, { block: [192, 64], sub: [96, 32], bk: [4] }];

/** Of tiles whose rows stay in registers; their depth is the problem's. */
const STATIONARY_TILES: readonly Omit<Tile, 'bk'>[] = [
  { block: [128, 32], sub: [32, 32] },
  { block: [64, 64], sub: [32, 64] },
  { block: [64, 32], sub: [16, 32] },
];

/** Of fewer columns one tile takes all, and loads its rows no more than once either. */
const FEWEST_STATIONARY_COLUMNS = 256;

/** Columns of the tiles that a compiler writes out one after another: the code of 512 fills the instruction cache of a unit, which in a network is cold. */
const MOST_STATIONARY_COLUMNS = 256;

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

/** Sums of halves lie eight columns to a vector of the slab. */
const HALF_PIPELINES = PIPELINES.filter(([, , , wide]) => wide === 4).map(([buffers, ahead, walk]) => [buffers, ahead, walk, 8] as const);

const SPLITS = [1, 2, 3, 4, 6, 8, 12, 16] as const;

/** What a device can run does not depend on the problem; tactics by device, element and engine. */
const LEGAL = new WeakMap<DeviceProfile, Map<string, readonly PackedTactic[]>>();

type Base = Pick<PackedTactic, 'engine' | 'matrix' | 'subgroup' | 'demandsSubgroup' | 'slide' | 'stationary' | 'halfSums'>;

const matrixTiles = ({ halfSums }: Base): readonly Tile[] => (halfSums ? HALF_TILES : MATRIX_TILES);

function tacticsOf(tiles: readonly Tile[], base: Base, element: PackedElement, profile: DeviceProfile, key = `${element} ${base.engine} ${base.halfSums}`): readonly PackedTactic[] {
  const known = LEGAL.get(profile) ?? new Map<string, readonly PackedTactic[]>();
  LEGAL.set(profile, known);
  const made = known.get(key) ?? allTactics(tiles, base, profile).filter((tactic) => packedReason(tactic, element, profile) === undefined);
  known.set(key, made);
  return made;
}

function allTactics(tiles: readonly Tile[], base: Base, { maxWorkgroupBytes }: DeviceProfile): PackedTactic[] {
  // On plain WGSL nothing but the blocks was seen to matter.
  const pipelines = (base.halfSums ? HALF_PIPELINES : PIPELINES).filter(([, , walk, wide]) => base.engine === 'matrix' || (walk === 1 && wide === 4));
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
  const tiles = matrixTiles(base).map(({ block, sub }): Tile => ({ block, sub, bk }));
  return tacticsOf(tiles, { ...base, slide }, element, profile, `${element} ${base.halfSums} slide ${slide.step} ${slide.run} ${depth}`);
}

/** Tactics that keep the rows of a left matrix in registers, for parts of it that are whole matrices deep. */
function stationaryTactics({ stationary, rows, columns, depth, element }: PackedProblem, base: Base, profile: DeviceProfile): readonly PackedTactic[] {
  const matrix = base.matrix!;
  const whole = rows % matrix.m === 0 && stationary?.every((part) => (part * VECTOR_ELEMENTS[element]) % matrix.k === 0);
  if (!whole || columns < FEWEST_STATIONARY_COLUMNS) return [];
  return STATIONARY_TILES.flatMap(({ block: [bm, bn], sub: [sm, sn] }) => {
    const tiles = Math.ceil(columns / bn);
    const most = Math.ceil(tiles / Math.ceil(tiles / (MOST_STATIONARY_COLUMNS / bn)));
    return [...new Set([most, Math.ceil(most / 2)])].filter((walk) => walk > 1).map((walk): PackedTactic => {
      const tile = { kind: 'packed', ...base, stationary: true, bm, bn, bk: depth, sm, sn, splitK: 1, slices: 1, buffers: 1, ahead: 1, walk, wide: base.halfSums ? 8 : 4 } as const;
      return { ...tile, rounds: fewestRounds(tile, profile.maxWorkgroupBytes) };
    });
  }).filter((tactic) => packedReason(tactic, element, profile) === undefined);
}

/** The matrix to use: the largest that the device has, of those alike the squarest. */
function matrixFor(element: PackedElement, halfSums: boolean, profile: DeviceProfile): MatrixShape | undefined {
  const legal = matricesOf(profile, element, halfSums).filter((config) => config.k % VECTOR_ELEMENTS[element] === 0);
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
  const lanes = { engine: 'lanes', stationary: false, slide: undefined, halfSums: false, matrix: undefined, subgroup: 1, demandsSubgroup: false } as const;
  const ranked = (all: readonly PackedTactic[], count: number): PackedTactic[] => rank(all, problem, profile, count, limits);
  if (profile.compact) return ranked(tacticsOf(COMPACT_TILES, lanes, problem.element, profile), limits.matrix);
  const halfSums = problem.halfSums === true && matrixFor(problem.element, true, profile) !== undefined;
  const matrix = matrixFor(problem.element, halfSums, profile);
  const subgroup = matrixSubgroup(profile);
  if (!matrix || !subgroup) return ranked(tacticsOf(LANE_TILES, lanes, problem.element, profile), limits.matrix);
  const base = { engine: 'matrix', stationary: false, slide: undefined, halfSums, matrix, subgroup: subgroup.size, demandsSubgroup: subgroup.demands } as const;
  const matrices = [...slidingTactics(problem, base, profile), ...stationaryTactics(problem, base, profile), ...tacticsOf(matrixTiles(base), base, problem.element, profile)];
  return [...ranked(matrices, limits.matrix), ...ranked(tacticsOf(LANE_TILES, lanes, problem.element, profile), limits.lanes)];
}

function normalizable(tactic: PackedTactic, profile: DeviceProfile): boolean {
  const { splitK, walk, slide } = tactic;
  return splitK === 1 && walk === 1 && !slide && packedWorkgroupBytes(tactic) + momentsBytes(tactic) <= profile.maxWorkgroupBytes;
}

function rank(all: readonly PackedTactic[], problem: PackedProblem, profile: DeviceProfile, count: number, { perBlock, perTile }: CandidateLimits): PackedTactic[] {
  const legal = all.filter(
    (tactic) =>
      // Wide ends were measured to help bytes and sums of halves.
      (tactic.wide === 4 || tactic.halfSums || problem.element === 'i8') &&
      (!problem.normalizes || normalizable(tactic, profile)) &&
      (!problem.rowSums || leavesRowSums(tactic, problem.rowSums)) &&
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
  const likeliest = chosen.slice(0, count).map(({ tactic }) => tactic);
  // A build that may take no scratch memory needs one that does without.
  const whole = predicted.find(({ tactic }) => tactic.splitK === 1)?.tactic;
  const isDivided = likeliest.length > 0 && likeliest.every(({ splitK }) => splitK > 1);
  return whole && isDivided ? [...likeliest.slice(0, -1), whole] : likeliest;
}
