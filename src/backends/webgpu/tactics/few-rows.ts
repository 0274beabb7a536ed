/**
 * Shapes of workgroups for products of few rows and a matrix of few bits, the likeliest first.
 *
 * Such a product takes as long as its weights take to come, so that all that counts is loads under way: workgroups for every core of the device, and no
 * slice of the depth without work. Measured tuning replaces the ranking where it is asked for.
 */
import type { DeviceProfile } from '../profile.ts';

export interface FewRowsTactic {
  /** Invocations side by side, four columns each. */
  readonly lanes: number;
  /** Parts of the depth. */
  readonly slices: number;
  /** Rows of a workgroup; with fewer than there are, others read the weights again. */
  readonly rows: number;
  /** Vectors of depths that an invocation has under way; they share a scale. */
  readonly run: number;
}

export interface FewRowsShape {
  readonly rows: number;
  readonly columns: number;
  /** Vectors of depths, and how many of them share a scale. */
  readonly vectors: number;
  readonly blockVectors: number;
}

/** The most rows for which these kernels come first: beyond, weights are read for so many workgroups of rows that tiles in workgroup memory pay. */
export const FEW_ROWS = 16;
/** Rows whose slices are added at once, which bounds workgroup memory. */
export const ROWS_AT_ONCE = 4;

/** `rows 4 8x32 /2`: rows, lanes × slices, vectors under way. */
export function fewRowsName({ lanes, slices, rows, run }: FewRowsTactic): string {
  return `rows ${rows} ${lanes}x${slices} /${run}`;
}

export function fewRowsInvocations({ lanes, slices }: FewRowsTactic): number {
  return lanes * slices;
}

const LANES = [8, 16, 32, 64] as const;
const INVOCATIONS = 256;

/** Every tactic that the device can run; none where there are too many rows. */
export function fewRowsTactics(shape: FewRowsShape, profile: DeviceProfile): FewRowsTactic[] {
  if (shape.rows > FEW_ROWS) return [];
  const invocations = Math.min(INVOCATIONS, profile.maxInvocations);
  const most = profile.compact ? ROWS_AT_ONCE : FEW_ROWS;
  const heights = [...new Set([1, 2].map((parts) => Math.min(most, Math.ceil(shape.rows / parts))))];
  const fits = ({ lanes, slices, rows }: FewRowsTactic): boolean => slices >= 1 && Math.min(rows, ROWS_AT_ONCE, slices) * lanes * slices * 16 <= profile.maxWorkgroupBytes;
  const tactics = heights.flatMap((rows) => LANES.map((lanes): FewRowsTactic => ({ lanes, slices: Math.floor(invocations / lanes), rows, run: runOf(rows, shape, profile) }))).filter(fits);
  const ranked = tactics.map((tactic) => ({ tactic, cost: costOf(shape, tactic, profile) }));
  return ranked.sort((a, b) => a.cost - b.cost).map(({ tactic }) => tactic);
}

/** Many rows have registers for little else, and software adapters compile unrolled code slowly. */
function runOf(rows: number, { blockVectors }: FewRowsShape, profile: DeviceProfile): number {
  const wanted = profile.compact || rows > 8 ? [1] : rows > 2 ? [2, 1] : [4, 2, 1];
  return wanted.find((run) => blockVectors % run === 0)!;
}

/** Idle slices and idle cores by how much longer the others take, and the weights by how often they are read. Only its order means anything. */
function costOf({ rows: allRows, columns, vectors }: FewRowsShape, { lanes, slices, rows, run }: FewRowsTactic, profile: DeviceProfile): number {
  const readings = Math.ceil(allRows / rows);
  const workgroups = Math.ceil(columns / 4 / lanes) * readings;
  const idleCores = Math.max(1, profile.busyWorkgroups / workgroups);
  const idleSlices = Math.max(1, (slices * run) / vectors);
  // Of two shapes that fill the device, the one whose neighbours read longer stretches of memory.
  return idleCores * idleSlices * readings * (1 + 1 / lanes);
}
