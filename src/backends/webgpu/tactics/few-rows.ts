/**
 * Shapes of workgroups for products of few rows, the likeliest first.
 *
 * Such a product takes as long as its weights take to come, so that all that counts is loads under way: workgroups for every core of the device, and no
 * slice of the depth without work. A model of an NVIDIA H200 ranks them; measured tuning replaces the ranking where it is asked for.
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
  /** Registers of a vector as it is loaded, and the weights that it holds. */
  readonly vectorRegisters: number;
  readonly vectorWeights: number;
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
  const ranked = tactics.map((tactic) => ({ tactic, ns: predictFewRowsNs(shape, tactic) }));
  return ranked.sort((a, b) => a.ns - b.ns).map(({ tactic }) => tactic);
}

/** Registers for loads under way. */
const LOADED_REGISTERS = 16;

/** Many rows have registers for little else, and software adapters compile unrolled code slowly. No slice is left without work. */
function runOf(rows: number, slices: number, { vectors, blockVectors, vectorRegisters }: FewRowsShape, profile: DeviceProfile): number {
  const wanted = profile.compact || rows > 8 ? [] : rows > 2 ? [2] : [4, 2];
  return wanted.find((run) => blockVectors % run === 0 && run * vectorRegisters <= LOADED_REGISTERS && run * slices <= vectors) ?? 1;
}

const UNITS = 132;
const UNIT_INVOCATIONS = 2048;
const UNIT_REGISTERS = 65_536;
/** Registers beside those of a row. */
const OTHER_REGISTERS = 34;
const ROW_REGISTERS = 8;
/** What an invocation takes longer whose registers do not fit. */
const CRAMPED = 2;
/** Nanoseconds of a kernel that does nothing, of the way of a vector of 4 bits through one row, and of an invocation on its unit. */
const BEGINNING_NS = 3000;
const VECTOR_NS = 325;
const INVOCATION_NS = 0.49;
/** Nanoseconds of a unit for a vector, whichever invocation has it, and for a workgroup. */
const SHARE_NS = 0.4;
const GROUP_NS = 50;
/** Nanoseconds of a byte of the right matrix, neighbours that read a whole stretch of memory at once, and what fewer take longer. */
const BYTE_NS = 1.13e-4;
const LONG_STRETCH = 8;
const SHORT = 1.1;
/** Weights of a vector of 4 bits, and multiply-adds that one of them takes as long as, with one row. */
const VECTOR_WEIGHTS = 32;
const WEIGHT_WORK = 7;

/**
 * What a tactic is expected to take on an NVIDIA H200, in nanoseconds: an invocation's vectors one after another, in as many waves as there are; a unit's
 * share of the vectors; its invocations and workgroups; and the bytes. Fitted to 80 kernels for weights of 4 bits and one row, and a few for more rows
 * (docs/performance.md, "Weights of few bits").
 */
function predictFewRowsNs({ rows: allRows, columns, vectors, vectorWeights, vectorRegisters, unpacking }: FewRowsShape, { lanes, slices, rows, run }: FewRowsTactic): number {
  const readings = Math.ceil(allRows / rows);
  const groups = Math.ceil(columns / 4);
  const invocations = lanes * slices;
  const workgroups = Math.ceil(groups / lanes) * readings;
  const registers = (OTHER_REGISTERS + ROW_REGISTERS * rows) * invocations;
  const resident = Math.max(1, Math.min(Math.floor(UNIT_INVOCATIONS / invocations), Math.floor(UNIT_REGISTERS / registers)));
  const waves = Math.ceil(workgroups / (UNITS * resident));
  const perUnit = Math.ceil(workgroups / UNITS);
  const work = ((unpacking + rows) / WEIGHT_WORK) * (vectorWeights / VECTOR_WEIGHTS);
  const inTurn = waves * Math.ceil(vectors / (slices * run)) * run;
  const bytes = groups * vectors * vectorRegisters * 4 * (lanes < LONG_STRETCH ? SHORT : 1);
  const ns = work * (inTurn * VECTOR_NS + perUnit * lanes * vectors * SHARE_NS) + perUnit * (invocations * INVOCATION_NS * rows + GROUP_NS) + bytes * BYTE_NS;
  return BEGINNING_NS + ns * (registers > UNIT_REGISTERS ? CRAMPED : 1);
}
