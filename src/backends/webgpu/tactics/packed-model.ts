/**
 * A simple model of a large GPU that ranks the tactics of the packed matrix kernel (packed-candidates.ts).
 *
 * Workgroups run in waves over the compute units, as many at once on a unit as its workgroup memory, registers and
 * invocations allow. A wave takes as long as a workgroup does alone (latencies of loads and barriers one after another) or
 * as long as its workgroups together keep the unit busy, whichever is longer. It only has to put good tiles first: the constants
 * are those of an NVIDIA H200, and measured tuning replaces the ranking where it is asked for.
 */
import {
  EARLY_BYTES,
  leftLoads,
  packedInvocations,
  type PackedElement,
  type PackedProblem,
  packedScratchBytes,
  type PackedTactic,
  packedWorkgroupBytes,
  residentByMemory,
  slideCopies,
  VECTOR_ELEMENTS,
} from './packed.ts';

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
  /** Until a workgroup's first loads are there, those of a tile after another one, a block's, and a block's from memory; a barrier; a round of the slab beyond its work. */
  readonly beginning: number;
  readonly restart: number;
  readonly blockLatency: number;
  readonly memoryLatency: number;
  readonly barrier: number;
  readonly round: number;
  /** The work on a result, and how much of it is left where more than four leave at once. */
  readonly result: Readonly<Record<PackedElement, number>>;
  readonly wideResult: number;
  /** How much of a result's work is left where sums are halves. */
  readonly halfResult: number;
  /** A result's operand that differs by row, how much of it is left where the next tile's are loaded while results leave, and what a round waits for where they are not loaded before the products. */
  readonly operand: Readonly<Record<PackedElement, number>>;
  readonly nextOperand: number;
  readonly lateOperands: number;
  /** Halves of a vector from few bits, and halves that are multiplied by their factors. */
  readonly unpack: number;
  readonly scale: number;
  /** Sums over a vector of halves, of its elements and of their squares. */
  readonly sum: number;
  readonly dispatch: number;
  /** Of all units. */
  readonly partialBytes: number;
}

/** An H200 at full clocks, fitted to 1,330 measured kernels of ResNet-50's convolutions (bench/packed-fit.mjs), and corrected by 696 that tuning measured; those of few bits by 100 others (docs/performance.md). */
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
  memoryLatency: 700,
  barrier: 85,
  round: 35,
  result: { f16: 0.075, i8: 0.09 },
  wideResult: 0.55,
  halfResult: 0.6,
  operand: { f16: 0.075, i8: 0.0125 },
  nextOperand: 0.4,
  lateOperands: 300,
  unpack: 0.08,
  scale: 0.3,
  sum: 0.3,
  dispatch: 3500,
  partialBytes: 5000,
};

/**
 * What 1,640 further kernels showed to be off (docs/performance.md): where sums take half the registers, and for bytes, eight subgroups on a large tile
 * cover one another's loads, and so do eight slices where every workgroup has a unit to itself; short blocks and five matrices down a subgroup cost
 * more than their parts.
 */
const CORRECTIONS = { large: 0.9, sliced: 0.92, short: 1.1, five: 1.1, walkingBytes: 0.97 } as const;

/**
 * And 450 of rows that are normalized, or whose sums leave, up to 1,576 of them: blocks of 64 halves and more take less than their parts; loads far
 * ahead bring less, and two subgroups cover less, where the depth is not divided.
 */
const ROW_CORRECTIONS = { rows: 1600, deep: 0.92, ahead: 1.06, two: 1.1 } as const;

function correctedRows({ element, rows, normalizes, rowSums }: PackedProblem, tactic: PackedTactic): number {
  const { bk, ahead, slices, splitK, halfSums } = tactic;
  if (element !== 'f16' || halfSums || rows > ROW_CORRECTIONS.rows || !(normalizes || rowSums)) return 1;
  const isWhole = splitK === 1;
  return (
    (bk >= 8 ? ROW_CORRECTIONS.deep : 1) *
    (ahead > 1 && isWhole ? ROW_CORRECTIONS.ahead : 1) *
    (packedInvocations(tactic) <= 64 && slices === 1 && isWhole ? ROW_CORRECTIONS.two : 1)
  );
}

function corrected(problem: PackedProblem, tactic: PackedTactic, isAlone: boolean): number {
  const { element } = problem;
  const { engine, bm, bn, bk, sm, slices, splitK, walk, stationary, halfSums, matrix } = tactic;
  if (engine !== 'matrix') return 1;
  const isLarge = packedInvocations(tactic) >= 256 && slices === 1 && splitK === 1 && bm * bn >= 128 * 192;
  return (
    correctedRows(problem, tactic) *
    (isLarge && (halfSums || element === 'i8') ? CORRECTIONS.large : 1) *
    (isAlone && slices === 8 ? CORRECTIONS.sliced : 1) *
    (bk === 2 ? CORRECTIONS.short : 1) *
    (sm === 5 * matrix!.m ? CORRECTIONS.five : 1) *
    (element === 'i8' && walk > 1 && !stationary ? CORRECTIONS.walkingBytes : 1)
  );
}

/** What is left of the shorter of products and staging where subgroups overlap them, and how many invocations a unit needs for it to be busy. */
const LEAST_SERIAL = 0.75;
const COVERING_INVOCATIONS = 256;

/** Invocations that unpack as fast as a unit can. */
const UNPACKING_INVOCATIONS = 256;

/** The most registers that an invocation can have. */
export const MOST_REGISTERS = 255;

/** Registers that one invocation wants: accumulators, the blocks under way, matrices, addresses. */
export function registersOf(tactic: PackedTactic): number {
  const { engine, bn, bk, sm, sn, subgroup, ahead, stationary, halfSums } = tactic;
  const accumulators = engine === 'lanes' ? sm * sn : (sm * sn) / subgroup / (halfSums ? 2 : 1);
  const staged = (((stationary ? 0 : leftLoads(tactic)) + bn * bk) / packedInvocations(tactic)) * 4 * ahead;
  const operands = engine === 'lanes' ? 8 * (sm + 1) : stationary ? (sm * bk * 4) / subgroup + sn / 4 : ((sm + sn) * 8) / 32;
  return accumulators + staged + operands + 32;
}

/** Blocks of the depth that a workgroup goes through. */
export function blocksOf({ depth }: PackedProblem, { splitK, bk }: PackedTactic): number {
  return Math.ceil(Math.ceil(depth / splitK) / bk);
}

/** Bytes of a vector of the right matrix in device memory. */
function rightBytes({ element, weightBits }: PackedProblem): number {
  return weightBits === undefined ? 16 : (VECTOR_ELEMENTS[element] * weightBits) / 8;
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
  const { engine, bm, bn, bk, sm, sn, slices, buffers, ahead, walk, rounds, wide, stationary, slide, halfSums } = tactic;
  const blocks = blocksOf(problem, tactic);
  const readers = (bm / sm) * (bn / sn) * (engine === 'lanes' ? 0.25 : 1);
  // A unit has four schedulers: fewer subgroups leave some of them idle.
  const idle = 4 / Math.min(4, packedInvocations(tactic) / 32);
  const products = (2 * bm * bn * bk * VECTOR_ELEMENTS[element]) / (engine === 'lanes' ? model.laneFlops : model.matrixFlops)[element];
  const staged = bn * bk + (stationary ? 0 : leftLoads(tactic));
  const copies = slide ? leftLoads(tactic) * (slideCopies(slide) - 1) : 0;
  const staging = ((readers * (stationary ? sn : sm + sn) * bk + staged + copies) * 16) / model.tileBytes;
  const loads = (leftLoads(tactic) * (stationary ? 1 / walk : 1) * 16 + bn * bk * rightBytes(problem)) / model.unitL2Bytes;
  const unpacking = (problem.weightBits === undefined ? 0 : bn * bk * model.unpack) + (problem.scales ? bm * bk * model.scale : 0) + (problem.normalizes === 'summed' ? bm * bk * model.sum : 0);
  const longest = Math.max(products, staging, loads, unpacking);
  const busyBlock = longest + 0.3 * (products + staging + loads + unpacking - longest);
  const barriers = blocks === 1 ? 1 : 3 - buffers;
  // Words come from memory, and loads of them far ahead were not seen to help.
  const latency = stationary ? 0 : problem.weightBits !== undefined ? model.memoryLatency : blocks === 1 ? model.blockLatency : model.blockLatency / ahead;
  // Subgroups that share a scheduler multiply while others wait for workgroup memory, which few of them don't keep busy.
  const serial = engine === 'lanes' ? 1 : Math.max(LEAST_SERIAL, Math.min(1, 4 / (packedInvocations(tactic) / 32)));
  const [multiply, read] = [products * idle, staging * Math.sqrt(idle)];
  const [longer, shorter] = [Math.max(multiply, read), Math.min(multiply, read)];
  // Few subgroups have little to do between the steps of what one of them unpacks.
  const block = Math.max(latency + loads, longer + serial * shorter) + unpacking * Math.max(1, UNPACKING_INVOCATIONS / packedInvocations(tactic)) + model.barrier * barriers;
  // Lanes that read more than a vector each meet in the banks; narrow elements leave in fewer stores.
  const banks = (halfSums ? 2 * slices : 4 * (slices + wide / 4 - 1)) / model.tileBytes;
  const results = bm * bn * (model.result[element] * (halfSums ? model.halfResult : wide > 4 ? model.wideResult : 1) + banks + (problem.readsRows ? model.operand[element] * (stationary ? model.nextOperand : 1) : 0));
  const late = problem.readsRows && ((bm * bn) / packedInvocations(tactic)) * (16 / VECTOR_ELEMENTS[element]) > EARLY_BYTES;
  const waits = (late ? rounds * model.lateOperands : 0) + (problem.rowSums ? rounds * 2 * model.barrier : 0);
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
  const waves = filled <= 1 ? 1 : filled + (walk > 1 ? 1 : 0.6) * (Math.ceil(filled) - filled);
  // Few subgroups on a unit leave latencies uncovered, wave after wave.
  const uncovered = filled <= 1 || tactic.engine === 'lanes' ? 1 : 1 + Math.max(0, 1 - (resident * packedInvocations(tactic)) / COVERING_INVOCATIONS);
  // Registers for a second block are not free where they bring nothing.
  const pipeline = 1 + 0.02 * (tactic.ahead - 1);
  const traffic = (workgroups * (leftLoads(tactic) * (stationary ? 1 : walk) * 16 + walk * bn * bk * rightBytes(problem)) * blocksOf(problem, tactic)) / model.allL2Bytes;
  const reduce = splitK > 1 ? model.dispatch + model.beginning + (2 * packedScratchBytes(problem, tactic)) / model.partialBytes : 0;
  return model.dispatch + pipeline * corrected(problem, tactic, workgroups <= model.units) * Math.max(waves * Math.max(alone, resident * busy * uncovered), traffic) + reduce;
}
