/**
 * Shapes of workgroups for products of few rows, the likeliest first.
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
  /** Registers of a vector as it is loaded. */
  readonly vectorRegisters: number;
  /** Multiply-adds that a weight's way from memory's form to a float takes as long as. */
  readonly unpacking: number;
  /** Whether the rows are normalized on their way. */
  readonly normalizes: boolean;
}

/** The most rows for these kernels: beyond, weights are read for so many workgroups of rows that tiles in workgroup memory pay. */
export const FEW_ROWS = 16;
const ROWS_AT_ONCE = 4;

/** `rows 4 8x32 /2`: rows, lanes × slices, vectors under way. */
export function fewRowsName({ lanes, slices, rows, run }: FewRowsTactic): string {
  return `rows ${rows} ${lanes}x${slices} /${run}`;
}

export function fewRowsInvocations({ lanes, slices }: FewRowsTactic): number {
  return lanes * slices;
}

/** Bytes of the moments of a slice of a row, where rows are normalized. */
const MOMENT_BYTES = 8;

/** Rows whose slices are added at once, as many as workgroup memory takes; 0 where it takes none. */
export function rowsAtOnce({ lanes, slices, rows }: FewRowsTactic, { maxWorkgroupBytes }: Pick<DeviceProfile, 'maxWorkgroupBytes'>, normalizes: boolean): number {
  const left = maxWorkgroupBytes - (normalizes ? rows * slices * MOMENT_BYTES : 0);
  return Math.max(0, Math.min(rows, ROWS_AT_ONCE, slices, Math.floor(left / (lanes * slices * 16))));
}

const LANES = [4, 8, 16, 32, 64] as const;
const INVOCATIONS = 256;
const MORE_INVOCATIONS = [512, 1024] as const;

/** Every tactic that the device can run; none where there are too many rows. */
export function fewRowsTactics(shape: FewRowsShape, profile: DeviceProfile): FewRowsTactic[] {
  if (shape.rows > FEW_ROWS) return [];
  const sizes = [Math.min(INVOCATIONS, profile.maxInvocations), ...MORE_INVOCATIONS.filter((invocations) => invocations <= profile.maxInvocations)];
  const most = profile.compact ? ROWS_AT_ONCE : FEW_ROWS;
  const heights = [...new Set([1, 2].map((parts) => Math.min(most, Math.ceil(shape.rows / parts))))];
  const tactics = heights
    .flatMap((rows) =>
      sizes.flatMap((invocations) =>
        LANES.map((lanes): FewRowsTactic => {
          const slices = Math.floor(invocations / lanes);
          return { lanes, slices, rows, run: runOf(rows, slices, shape, profile) };
        }),
      ),
    )
    .filter((tactic) => rowsAtOnce(tactic, profile, shape.normalizes) > 0);
  const ranked = tactics.map((tactic) => ({ tactic, cost: costOf(shape, tactic, profile) }));
  return ranked.sort((a, b) => a.cost - b.cost).map(({ tactic }) => tactic);
}

/** Registers for loads under way. */
const LOADED_REGISTERS = 16;

/** Many rows have registers for little else, and software adapters compile unrolled code slowly. No slice is left without work. */
function runOf(rows: number, slices: number, { vectors, blockVectors, vectorRegisters }: FewRowsShape, profile: DeviceProfile): number {
  const wanted = profile.compact || rows > 8 ? [] : rows > 2 ? [2] : [4, 2];
  return wanted.find((run) => blockVectors % run === 0 && run * vectorRegisters <= LOADED_REGISTERS && run * slices <= vectors) ?? 1;
}

/** Registers beside those of a row. */
const OTHER_REGISTERS = 36;
const ROW_REGISTERS = 8;
/** What an invocation takes longer whose registers do not fit. */
const CRAMPED = 2;
/** Neighbours that read a whole stretch of memory at once, and what fewer take longer. */
const LONG_STRETCH = 8;
const SHORT = 1.45;
/** Of a busy workgroup. */
const BUSY_INVOCATIONS = 512;
const UNIT_REGISTERS = 65_536;

/**
 * Work by how often weights are read, a device without enough invocations to have all loads under way, slices without work, registers that do not
 * fit. Only its order means anything, which is that of the kernels measured on an H200 (docs/performance.md).
 */
function costOf({ rows: allRows, columns, vectors, unpacking }: FewRowsShape, { lanes, slices, rows, run }: FewRowsTactic, profile: DeviceProfile): number {
  const readings = Math.ceil(allRows / rows);
  const invocations = lanes * slices;
  const workgroups = Math.ceil(columns / 4 / lanes) * readings;
  const idle = Math.sqrt(Math.max(1, (profile.busyWorkgroups * BUSY_INVOCATIONS) / (workgroups * invocations)));
  const idleSlices = Math.max(1, (slices * run) / vectors);
  const isCramped = OTHER_REGISTERS + ROW_REGISTERS * rows > UNIT_REGISTERS / invocations;
  return readings * (unpacking + rows) * idle * idleSlices * (isCramped ? CRAMPED : 1) * (lanes < LONG_STRETCH ? SHORT : 1);
}
