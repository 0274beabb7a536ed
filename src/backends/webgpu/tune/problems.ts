/**
 * What there is to choose in a graph: its problems, each with its candidates and with every form in which it occurs (the same product may end in
 * another epilogue, or read another window), and candidates as a device times them.
 */
import { createHash } from 'node:crypto';
import { canonicalJson } from '../../../engine/canonical.ts';
import type { Access, Storage } from '../../../engine/plan.ts';
import type { KernelCall } from '../lower/call.ts';
import { storedBytes } from '../lower/tensor.ts';
import type { Candidate } from '../tactics/tactic.ts';

/** An operand of a kernel that is timed. Within one candidate, equal numbers are one tensor. */
export interface TimedOperand {
  readonly tensor: number;
  /**
   * Weights and the like. `repeated`: they lie there so many times over that no cache holds what is read again, as in a network, where other layers'
   * weights have pushed them out; `once`: the candidate is a whole network.
   */
  readonly constant: false | 'repeated' | 'once';
  readonly storage: Storage;
  readonly bytes: number;
}

export interface TimedKernel {
  readonly label: string;
  readonly wgsl: string;
  readonly access: readonly Access[];
  readonly workgroups: readonly [number, number, number];
  readonly operands: readonly TimedOperand[];
}

/** The kernels of one candidate, as a device times them: together, in their order. */
export interface TimedCandidate {
  /** Of everything that changes the time on a given device: code, grid, operand sizes. */
  readonly hash: string;
  readonly kernels: readonly TimedKernel[];
}

/** One form of a problem: where it stands in the graph, and its candidates there. */
export interface Instance {
  readonly layer: string;
  readonly candidates: readonly Candidate[];
}

export interface Problem {
  /** What a list of frozen tactics calls it. */
  readonly id: string;
  readonly flops: number;
  /** Of every instance, best first by the cost model. */
  readonly names: readonly string[];
  readonly instances: readonly Instance[];
}

/** A literal of WGSL's f32, with its suffix. */
const FLOAT_LITERAL = /-?\d+(?:\.\d+)?(?:e[+-]?\d+)?f\b/g;

/** Generates a candidate's kernels in the form in which they are timed. */
export function timedForm(candidate: Candidate): TimedCandidate {
  const numbers = new Map<number, number>();
  const calls = candidate.kernels();
  const bytes = bytesOf(calls);
  for (const id of bytes.keys()) numbers.set(id, numbers.size);
  const kernels = calls.map(({ source, operands, workgroups }): TimedKernel => {
    const { label, wgsl, access } = source;
    const timed = operands.map(({ id, storage, constant = false }): TimedOperand => ({ tensor: numbers.get(id)!, constant: constant && 'repeated', storage, bytes: bytes.get(id)! }));
    return { label, wgsl, access, workgroups, operands: timed };
  });
  const hashed = kernels.map(({ wgsl, access, workgroups: grid, operands }) => ({ wgsl: withoutNumbers(wgsl), access, workgroups: grid, operands }));
  return { hash: hashOf(hashed), kernels };
}

/** Bytes that calls bind of each tensor, by its id, in the order in which they come to them. */
export function bytesOf(calls: readonly KernelCall[]): Map<number, number> {
  const bytes = new Map<number, number>();
  for (const tensor of calls.flatMap(({ operands }) => operands)) bytes.set(tensor.id, Math.max(bytes.get(tensor.id) ?? 0, storedBytes(tensor)));
  return bytes;
}

/** Code by what changes its time. Labels change nothing, and neither do the values of floating-point literals: layers of a quantized network differ in their scales alone. */
export function withoutNumbers(wgsl: string): string {
  return wgsl.replaceAll(FLOAT_LITERAL, 'F');
}

export function hashOf(value: unknown): string {
  return createHash('sha256').update(canonicalJson(value)).digest('hex').slice(0, 32);
}
