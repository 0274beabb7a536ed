/**
 * Tiles for the register-tiled matrix kernel, ranked by a simple model of a large GPU.
 *
 * The model: workgroups run in waves over the compute units; a step over one K block takes the latency of its loads and
 * barriers plus its share of the unit's arithmetic. It knows nothing of a particular device and only has to put good tiles
 * first: the constants are those of a current data-centre GPU, and measured tuning replaces the ranking where it is asked for.
 */
import type { DeviceProfile } from '../profile.ts';

export interface MatmulTactic {
  /** Tile of the workgroup: rows, columns, depth of one step. */
  readonly bm: number;
  readonly bn: number;
  readonly bk: number;
  /** Tile of one invocation; `tn` is a multiple of 4. */
  readonly tm: number;
  readonly tn: number;
  /** Parts into which the depth is cut; above 1 a second kernel adds them. */
  readonly splitK: number;
}

export interface MatmulShape {
  readonly batch: number;
  readonly rows: number;
  readonly columns: number;
  readonly depth: number;
}

/** `64x64x16 8x4 /4`: tile, tile per invocation, split. */
export function tacticName(tactic: MatmulTactic): string {
  const split = tactic.splitK > 1 ? ` /${tactic.splitK}` : '';
  return `${tactic.bm}x${tactic.bn}x${tactic.bk} ${tactic.tm}x${tactic.tn}${split}`;
}

export function tacticInvocations(tactic: MatmulTactic): number {
  return (tactic.bm / tactic.tm) * (tactic.bn / tactic.tn);
}

/** Rows of the A tile in workgroup memory are padded by one vec4, so that neighbouring rows start in different banks. */
export function tacticWorkgroupBytes(tactic: MatmulTactic): number {
  return (tactic.bm * (tactic.bk + 4) + tactic.bk * tactic.bn) * 4;
}

/** Bytes between the two kernels of a split product: one partial result per part. */
export function tacticScratchBytes(shape: MatmulShape, { splitK }: MatmulTactic): number {
  return splitK === 1 ? 0 : splitK * shape.batch * shape.rows * Math.ceil(shape.columns / 4) * 16;
}

const TILES: readonly Omit<MatmulTactic, 'splitK'>[] = [
  { bm: 128, bn: 128, bk: 16, tm: 8, tn: 8 },
  { bm: 128, bn: 128, bk: 8, tm: 8, tn: 8 },
  { bm: 128, bn: 64, bk: 16, tm: 8, tn: 4 },
  { bm: 64, bn: 128, bk: 16, tm: 8, tn: 4 },
  { bm: 64, bn: 64, bk: 16, tm: 8, tn: 4 },
  { bm: 64, bn: 64, bk: 32, tm: 4, tn: 4 },
  { bm: 64, bn: 32, bk: 32, tm: 4, tn: 4 },
  { bm: 32, bn: 64, bk: 32, tm: 4, tn: 4 },
  { bm: 32, bn: 32, bk: 32, tm: 4, tn: 4 },
  { bm: 32, bn: 32, bk: 32, tm: 2, tn: 4 },
  { bm: 16, bn: 64, bk: 32, tm: 2, tn: 4 },
  { bm: 8, bn: 128, bk: 32, tm: 2, tn: 4 },
  { bm: 64, bn: 8, bk: 32, tm: 2, tn: 4 },
];

/** Little code: two loads of each operand per invocation and step. */
const COMPACT_TILES: readonly Omit<MatmulTactic, 'splitK'>[] = [{ bm: 16, bn: 16, bk: 16, tm: 2, tn: 4 }];

const SPLITS = [1, 2, 4, 8, 16] as const;

/** Compute units of the modelled device, FLOP/ns of each, resident invocations and workgroup memory of each. */
const MODEL = { units: 132, unitRate: 500, unitInvocations: 1024, unitBytes: 160_000, stepLatencyNs: 350, dispatchNs: 3300, bytesPerNs: 2000 };

/** Predicted time in nanoseconds. Only its order means anything. */
export function predictMatmulNs(shape: MatmulShape, tactic: MatmulTactic): number {
  const invocations = tacticInvocations(tactic);
  const tiles = Math.ceil(shape.rows / tactic.bm) * Math.ceil(shape.columns / tactic.bn) * shape.batch * tactic.splitK;
  const resident = Math.max(1, Math.min(Math.floor(MODEL.unitInvocations / invocations), Math.floor(MODEL.unitBytes / tacticWorkgroupBytes(tactic))));
  const waves = Math.ceil(tiles / (MODEL.units * resident));
  const sharing = Math.min(resident, Math.ceil(tiles / MODEL.units));
  // Loads from workgroup memory per multiply-add: small tiles per invocation starve the arithmetic units.
  const reuse = (tactic.tm * tactic.tn) / (tactic.tm + tactic.tn);
  const efficiency = Math.min(0.75, reuse / 5);
  const steps = Math.ceil(Math.ceil(shape.depth / tactic.splitK) / tactic.bk);
  const arithmeticNs = (2 * tactic.bm * tactic.bn * tactic.bk * sharing) / (MODEL.unitRate * efficiency);
  // Partial results are written once and read once.
  const reduceNs = tactic.splitK > 1 ? MODEL.dispatchNs + (2 * tacticScratchBytes(shape, tactic)) / MODEL.bytesPerNs : 0;
  return waves * steps * Math.max(MODEL.stepLatencyNs, arithmeticNs + MODEL.stepLatencyNs / (2 * sharing)) + reduceNs;
}

/** Every tactic that the device can run, best first by the model. */
export function matmulTactics(shape: MatmulShape, profile: DeviceProfile): MatmulTactic[] {
  const tiles = profile.compact ? COMPACT_TILES : TILES;
  const candidates = tiles.flatMap((tile) => SPLITS.map((splitK): MatmulTactic => ({ ...tile, splitK }))).filter(
    (tactic) =>
      tacticInvocations(tactic) <= profile.maxInvocations &&
      tacticWorkgroupBytes(tactic) <= profile.maxWorkgroupBytes &&
      (tactic.splitK === 1 || (shape.depth >= tactic.splitK * tactic.bk * 2 && shape.batch * tactic.splitK <= profile.maxWorkgroupsPerDimension)),
  );
  const ranked = candidates.map((tactic) => ({ tactic, predicted: predictMatmulNs(shape, tactic) }));
  return ranked.sort((a, b) => a.predicted - b.predicted).map(({ tactic }) => tactic);
}
