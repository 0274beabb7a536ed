/**
 * Tactics of the attention kernel (kernels/attention): tiles, what they take, where they are legal, and a rough order of them.
 *
 * A workgroup computes `bq` rows of one head and walks the keys in blocks of `bk`: all of them, or one of `splits` spans, whose results a second
 * kernel combines.
 */
import { type DeviceProfile, matricesOf } from '../profile.ts';
import { H200 } from './packed-model.ts';
import { matrixSubgroup, type MatrixShape } from './packed.ts';

export interface AttentionProblem {
  /** Batch × heads. */
  readonly heads: number;
  readonly rows: number;
  readonly length: number;
  /** Extents of a key and of a value. */
  readonly depth: number;
  readonly depthV: number;
  /** What is multiplied. */
  readonly element: 'f16' | 'f32';
  /** Bytes of a key with its value, where they lie: twice as many as the element's where floats become halves on their way. */
  readonly keyBytes: number;
}

export interface AttentionTactic {
  /** `matrix`: subgroup matrices of f16. `emulated`: their tiling in plain WGSL, for tests. `lanes`: register tiles in f32. */
  readonly engine: 'matrix' | 'emulated' | 'lanes';
  readonly bq: number;
  readonly bk: number;
  /** Subgroups down and across the tile, for `lanes` invocations. */
  readonly down: number;
  readonly across: number;
  readonly matrix: MatrixShape | undefined;
  /** Invocations of a subgroup; 1 for `lanes`. */
  readonly subgroup: number;
  readonly demandsSubgroup: boolean;
  /** Spans of keys, each of another workgroup; 1 where a workgroup takes all of them. */
  readonly splits: number;
}

/** Elements in a vector of 16 bytes. */
export const ATTENTION_LANES = { f16: 8, f32: 4 } as const;

export function attentionTacticName({ engine, bq, bk, down, across, matrix, splits }: AttentionTactic): string {
  return `fused ${engine} ${bq}x${bk} ${down}x${across}${matrix ? ` ${matrix.m}x${matrix.n}x${matrix.k}` : ''}${splits > 1 ? ` /${splits}` : ''}`;
}

/** Keys of a span, in whole blocks; the last span may have fewer. */
export function attentionSpan({ length }: Pick<AttentionProblem, 'length'>, { bk, splits }: AttentionTactic): number {
  return Math.ceil(Math.ceil(length / bk) / splits) * bk;
}

/** Vectors of four floats that a row of a span leaves: its sums, then what they are relative to and the sum of the weights. */
export function partialVectors({ depthV }: Pick<AttentionProblem, 'depthV'>): number {
  return depthV / 4 + 1;
}

/** What lies between the two kernels. */
export function attentionScratchBytes(problem: AttentionProblem, { splits }: AttentionTactic): number {
  return splits === 1 ? 0 : problem.heads * splits * problem.rows * partialVectors(problem) * 16;
}

export function attentionInvocations({ down, across, subgroup }: AttentionTactic): number {
  return down * across * subgroup;
}

/** Where everything lies in workgroup memory, in vectors of 16 bytes. Pitches avoid that neighbouring rows start in one bank. */
export interface AttentionMemory {
  /** Vectors of a staged key and value row, padded to whole matrices, and their pitch. */
  readonly keyVectors: number;
  readonly valueVectors: number;
  readonly keyPitch: number;
  readonly valuePitch: number;
  /** f32 scores, four to a vector; the weights take their place. */
  readonly scorePitch: number;
  /** Vectors from one row of f16 weights to the next (`lanes` keeps f32 ones where the scores were). */
  readonly weightPitch: number;
  /** Rounds in which results go through the scores' place. */
  readonly rounds: number;
  readonly blockBegin: number;
  readonly queryBegin: number;
  readonly vectors: number;
}

export function attentionMemory(problem: AttentionProblem, tactic: AttentionTactic): AttentionMemory {
  const { element } = problem;
  const { engine, bq, bk, across, matrix } = tactic;
  const lanes = ATTENTION_LANES[element];
  const whole = (extent: number, unit: number): number => Math.ceil(extent / unit) * unit;
  const keyVectors = whole(problem.depth, matrix?.k ?? lanes) / lanes;
  const valueVectors = whole(problem.depthV, matrix ? matrix.n * across : lanes) / lanes;
  const [keyPitch, valuePitch] = [keyVectors | 1, valueVectors | 1];
  const scorePitch = bk / 4 + 2;
  const queries = bq * keyPitch;
  // Where matrices hold the queries, these are staged only once, where scores and blocks will be.
  const held = engine === 'matrix';
  const blockBegin = bq * scorePitch;
  const blockEnd = blockBegin + bk * Math.max(keyPitch, valuePitch);
  const queryBegin = held ? 0 : blockEnd;
  const vectors = held ? Math.max(blockEnd, queries) : blockEnd + queries;
  return { keyVectors, valueVectors, keyPitch, valuePitch, scorePitch, weightPitch: (bk / 8) | 1, rounds: roundsOf(valueVectors * lanes, tactic), blockBegin, queryBegin, vectors };
}

/** The fewest rounds in which whole columns of matrices, the same number of every subgroup, fit into the scores' place. */
function roundsOf(columns: number, { bk, across, matrix }: AttentionTactic): number {
  if (!matrix) return 1;
  const perSubgroup = columns / across / matrix.n;
  for (let rounds = 1; rounds < perSubgroup; rounds++) if (perSubgroup % rounds === 0 && columns / rounds <= bk) return rounds;
  return perSubgroup;
}

/** One word per invocation for partial reductions, one per row, one flag. */
export function attentionWorkgroupBytes(problem: AttentionProblem, tactic: AttentionTactic): number {
  return attentionMemory(problem, tactic).vectors * 16 + (attentionInvocations(tactic) + tactic.bq + 1) * 4;
}

/** Fewer keys take less than the second kernel does. */
const LEAST_SPLIT_KEYS = 256;
/** Keys for each row: with fewer, the spans' results are as many bytes as the keys, and tiles of rows give workgroups enough. */
const KEYS_PER_ROW = 8;
/** A tile of rows or two. */
const FEW_ROWS = 16;

/** Whether keys are read so few times that floats are better narrowed by those who read them than by a kernel of its own. */
export function readsKeysFewTimes({ rows, length }: Pick<AttentionProblem, 'rows' | 'length'>): boolean {
  return rows <= Math.max(FEW_ROWS, length / KEYS_PER_ROW);
}

function splitReason({ rows, length }: AttentionProblem, tactic: AttentionTactic): string | undefined {
  const { splits } = tactic;
  if (splits === 1) return undefined;
  if (length < LEAST_SPLIT_KEYS) return 'the keys are too few to be divided';
  if (rows * KEYS_PER_ROW > length) return 'the rows are too many for keys that are divided';
  return (splits - 1) * attentionSpan({ length }, tactic) >= length ? 'a span has no keys' : undefined;
}

/** Whether a tactic can run on the device; `undefined`, or why it can't. */
export function attentionReason(problem: AttentionProblem, tactic: AttentionTactic, profile: DeviceProfile): string | undefined {
  const { engine, bq, bk, down, across, matrix, subgroup } = tactic;
  const invocations = attentionInvocations(tactic);
  const lanes = ATTENTION_LANES[problem.element];
  const team = invocations / bq;
  if (problem.depth % lanes !== 0 || problem.depthV % lanes !== 0) return 'heads are not whole vectors';
  const undivided = splitReason(problem, tactic);
  if (undivided !== undefined) return undivided;
  if (invocations > profile.maxInvocations) return `${invocations} invocations, the device has ${profile.maxInvocations}`;
  if (attentionWorkgroupBytes(problem, tactic) > profile.maxWorkgroupBytes) return 'too much workgroup memory';
  if (!Number.isInteger(team) || (bk / 4) % team !== 0) return 'the rows of scores do not divide among the invocations';
  if (engine === 'lanes') return bq % down !== 0 || (bk / 4) % across !== 0 ? 'the tile does not divide among the invocations' : undefined;
  if ((bk / 8) % team !== 0) return 'weights are not whole vectors of halves';
  if (problem.element !== 'f16' || !matrix) return 'matrices are of halves';
  if (bq % (down * matrix.m) !== 0 || bk % (across * matrix.n) !== 0 || bk % matrix.k !== 0 || matrix.k % 8 !== 0 || matrix.n % 8 !== 0) return 'the tile is not whole matrices';
  if (attentionMemory(problem, tactic).valueVectors * 8 > problem.depthV + 2 * matrix.n) return 'more padding than columns';
  if (engine === 'emulated') return undefined;
  const given = matrixSubgroup(profile);
  if (!given || given.size !== subgroup || given.demands !== tactic.demandsSubgroup) return 'the subgroup size is another one';
  return !given.demands && invocations % profile.subgroupSize!.max !== 0 ? 'the workgroup is not whole subgroups' : undefined;
}

type Tile = readonly [bq: number, bk: number, down: number, across: number];

const MATRIX_TILES: readonly Tile[] = [
  [64, 64, 4, 1],
  [64, 32, 4, 1],
  [64, 16, 4, 1],
  [128, 16, 8, 1],
  [128, 16, 4, 1],
  [128, 32, 4, 1],
  [128, 64, 4, 1],
  [128, 64, 8, 1],
  // Two of them take the 197 rows of a vision transformer, where four of 64 compute 59 for nobody.
  [112, 32, 7, 1],
  [32, 64, 2, 2],
  [32, 32, 2, 1],
  [32, 128, 2, 2],
  [16, 64, 1, 4],
  [16, 128, 1, 4],
  // Subgroups of 32 queries, which read keys and values half as often; and workgroups of one subgroup, which wait for nobody at a barrier.
  [64, 16, 2, 1],
  [64, 32, 2, 1],
  [32, 16, 1, 1],
  [32, 32, 1, 1],
  [16, 16, 1, 1],
  [16, 32, 1, 1],
];

const LANE_TILES: readonly Tile[] = [
  [64, 32, 16, 8],
  [32, 32, 8, 8],
  [16, 32, 8, 8],
  [16, 16, 16, 4],
  [8, 32, 8, 8],
  [8, 16, 8, 4],
  [4, 16, 4, 4],
];

/** Little code. */
const COMPACT_TILES: readonly Tile[] = [
  [8, 16, 8, 4],
  [4, 16, 4, 4],
];

const MAX_TACTICS = 14;

const SPLITS = [2, 4, 8, 16, 32, 64] as const;
/** Of one tile, and the keys divided. */
const MAX_DIVISIONS = 2;

/** Rows of the smallest matrices. */
const SMALLEST_TILE = 16;

/**
 * The likeliest numbers of spans for a tile, none of them without keys. There are none where workgroups of whole heads keep the device busy, as they do
 * the few cores of a software adapter, nor for a tile of which half would be rows of nobody.
 */
function divisions(problem: AttentionProblem, tile: AttentionTactic, profile: DeviceProfile): AttentionTactic[] {
  const { heads, rows, length } = problem;
  const isBusy = profile.compact || heads * Math.ceil(rows / tile.bq) >= profile.busyWorkgroups;
  if (isBusy || tile.bq >= Math.max(2 * rows, SMALLEST_TILE + 1)) return [];
  const blocks = Math.ceil(length / tile.bk);
  const counts = new Set(SPLITS.map((splits) => Math.ceil(blocks / Math.ceil(blocks / splits))).filter((splits) => splits > 1));
  return ranked(problem, [...counts].map((splits) => ({ ...tile, splits })), profile).slice(0, MAX_DIVISIONS);
}

/** Those that are legal, the most promising first. */
function ranked(problem: AttentionProblem, tactics: readonly AttentionTactic[], profile: DeviceProfile): AttentionTactic[] {
  return tactics
    .filter((tactic) => attentionReason(problem, tactic, profile) === undefined)
    .map((tactic) => ({ tactic, ns: predictAttentionNs(problem, tactic, profile) }))
    .sort((a, b) => a.ns - b.ns)
    .map(({ tactic }) => tactic);
}

/**
 * The legal tactics, the most promising first: matrices before register tiles, then by a model of an NVIDIA H200 (132 units): a
 * workgroup takes the latency of its blocks and its share of the unit's arithmetic (32 tactics measured on ViT-B/16 and BERT-base, docs/performance.md).
 */
export function attentionTactics(problem: AttentionProblem, profile: DeviceProfile): AttentionTactic[] {
  const given = matrixSubgroup(profile);
  const matrices = problem.element === 'f16' && given ? matricesOf(profile, 'f16') : [];
  const best = matrices.toSorted((a, b) => b.m * b.n * b.k - a.m * a.n * a.k)[0];
  const onMatrices = MATRIX_TILES.flatMap(([bq, bk, down, across]): AttentionTactic[] =>
    best && given ? [{ engine: 'matrix', bq, bk, down, across, matrix: { m: best.m, n: best.n, k: best.k }, subgroup: given.size, demandsSubgroup: given.demands, splits: 1 }] : [],
  );
  const onLanes = (profile.compact ? COMPACT_TILES : LANE_TILES).map(
    ([bq, bk, down, across]): AttentionTactic => ({ engine: 'lanes', bq, bk, down, across, matrix: undefined, subgroup: 1, demandsSubgroup: false, splits: 1 }),
  );
  const all = [onMatrices, onLanes].flatMap((tiles) => ranked(problem, tiles.flatMap((tile) => [tile, ...divisions(problem, tile, profile)]), profile));
  const likeliest = all.slice(0, MAX_TACTICS);
  // What no second kernel follows is timed beside those that have one.
  const whole = all.find(({ splits }) => splits === 1);
  return whole && !likeliest.includes(whole) ? [...likeliest.slice(0, -1), whole] : likeliest;
}

const UNITS = 132;
/** Operations per nanosecond of one unit that attention reaches, and nanoseconds of a block's barriers and loads, and of each of its keys. */
const RATE = { matrix: 1200, emulated: 1, lanes: 150 } as const;
const BLOCK_NS = 1100;
const KEY_NS = 18;
/** Nanoseconds of the second kernel for each span that it adds. */
const SPAN_NS = 50;
/** Registers of a unit, and the most of one invocation: what is beyond goes through memory. */
const UNIT_REGISTERS = 65_536;
const MOST_REGISTERS = 255;
const SPILLING = 3;

/** Invocations of a workgroup for which wider keys take as much longer as they are wider. More of them share the loads. */
const WIDE_INVOCATIONS = 32;

/** What a key with its value has in bytes, by what it would have as the element that is multiplied. */
function widening({ depth, depthV, element, keyBytes }: AttentionProblem): number {
  return (keyBytes * ATTENTION_LANES[element]) / (16 * (depth + depthV));
}

/** Registers of an invocation: scores twice (as matrices and by row), results, queries, blocks under way, addresses. */
function registersOf(problem: AttentionProblem, tactic: AttentionTactic): number {
  const { depth, depthV } = problem;
  const { engine, bq, bk, down, across, subgroup } = tactic;
  const threads = attentionInvocations(tactic);
  const [rows, lanes] = [bq / down, across * subgroup];
  const held = engine === 'lanes' ? 0 : (rows * depth) / 2 / subgroup;
  return (rows * bk) / lanes + (bq * bk) / threads + (rows * depthV) / lanes + held + (widening(problem) * bk * (depth + depthV)) / 2 / threads + 40;
}

/** What a tactic is expected to take on an NVIDIA H200, in nanoseconds. */
export function predictAttentionNs(problem: AttentionProblem, tactic: AttentionTactic, profile: DeviceProfile): number {
  const { bq, bk, engine, splits } = tactic;
  const groups = problem.heads * Math.ceil(problem.rows / bq) * splits;
  // Without what the packed model reserves for each workgroup: so the measured order came out.
  const fits = Math.max(1, Math.floor(profile.maxWorkgroupBytes / attentionWorkgroupBytes(problem, tactic)));
  const registers = registersOf(problem, tactic);
  const byRegisters = Math.max(1, Math.floor(UNIT_REGISTERS / (attentionInvocations(tactic) * Math.min(MOST_REGISTERS, registers))));
  const resident = Math.min(fits, byRegisters, Math.max(1, Math.ceil(groups / UNITS)));
  const waves = Math.ceil(groups / (UNITS * resident));
  const busy = Math.min(1, (resident * attentionInvocations(tactic)) / 128);
  const work = ((2 * bq * bk * (problem.depth + problem.depthV)) / (RATE[engine] * busy)) * (registers > MOST_REGISTERS ? SPILLING : 1);
  const wider = 1 + (widening(problem) - 1) * Math.min(1, WIDE_INVOCATIONS / attentionInvocations(tactic));
  const combination = splits === 1 ? 0 : H200.dispatch + H200.beginning + SPAN_NS * splits + (2 * attentionScratchBytes(problem, tactic)) / H200.partialBytes;
  return waves * (attentionSpan(problem, tactic) / bk) * (BLOCK_NS + wider * KEY_NS * bk + resident * work) + combination;
}
