/**
 * What there is to choose in a graph: its problems, found by lowering it once without dispatching any of them, each with its
 * candidates and with every form in which it occurs (the same product may end in another epilogue, or read another window).
 */
import { createHash } from 'node:crypto';
import { canonicalJson } from '../../../engine/canonical.ts';
import type { Access, Storage } from '../../../engine/plan.ts';
import type { Graph } from '../../../ir/graph.ts';
import type { LowerOptions, TacticChooser } from '../lower/context.ts';
import { lowerGraph } from '../lower/lower.ts';
import { storedBytes } from '../lower/tensor.ts';
import type { DeviceProfile } from '../profile.ts';
import type { Candidate, TacticProblem } from '../tactics/tactic.ts';

/** An operand of a kernel that is timed. Within one candidate, equal numbers are one tensor. */
export interface TimedOperand {
  readonly tensor: number;
  /** Weights and the like: in a network other layers' have pushed them out of the caches by the time they are read again. */
  readonly constant: boolean;
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

/**
 * Names of problems. Equal keys are one problem as long as they have the same candidates; another list under the same key is
 * told apart by its order of appearance, which is that of the graph: `Conv f32 1x49x64x64 ~2`.
 */
export class ProblemIds {
  readonly #lists = new Map<string, string[]>();

  of({ key }: TacticProblem, candidates: readonly Candidate[]): string {
    const lists = this.#lists.get(key) ?? [];
    this.#lists.set(key, lists);
    const list = candidates.map(({ name }) => name).join('\n');
    const known = lists.indexOf(list);
    const index = known >= 0 ? known : lists.push(list) - 1;
    return index === 0 ? key : `${key} ~${index + 1}`;
  }
}

/** Every problem of the graph, in the graph's order. */
export function problemsOf(graph: Graph, profile: DeviceProfile, options: LowerOptions, ids: ProblemIds): Problem[] {
  const found = new Map<string, Problem & { readonly instances: Instance[] }>();
  const record: TacticChooser = (problem, candidates, layer) => {
    const id = ids.of(problem, candidates);
    const known = found.get(id) ?? { id, flops: problem.flops, names: candidates.map(({ name }) => name), instances: [] };
    found.set(id, known);
    known.instances.push({ layer, candidates });
    return { name: '', scratchBytes: 0, kernels: () => [] };
  };
  lowerGraph(graph, profile, { ...options, choose: record });
  return [...found.values()];
}

/** A literal of WGSL's f32, with its suffix. */
const FLOAT_LITERAL = /-?\d+(?:\.\d+)?(?:e[+-]?\d+)?f\b/g;

/** Generates a candidate's kernels in the form in which they are timed. */
export function timedForm(candidate: Candidate): TimedCandidate {
  const numbers = new Map<number, number>();
  const bytes = new Map<number, number>();
  const calls = candidate.kernels();
  for (const { id, size } of calls.flatMap(({ operands }) => operands.map((tensor) => ({ id: tensor.id, size: storedBytes(tensor) })))) {
    if (!numbers.has(id)) numbers.set(id, numbers.size);
    bytes.set(id, Math.max(bytes.get(id) ?? 0, size));
  }
  const kernels = calls.map(({ source, operands, workgroups }): TimedKernel => {
    const { label, wgsl, access } = source;
    const timed = operands.map(({ id, storage, constant = false }): TimedOperand => ({ tensor: numbers.get(id)!, constant, storage, bytes: bytes.get(id)! }));
    return { label, wgsl, access, workgroups, operands: timed };
  });
  // Labels change nothing, and neither do the values of floating-point literals: layers of a quantized network differ in their scales alone.
  const hashed = kernels.map(({ wgsl, access, workgroups, operands }) => ({ wgsl: wgsl.replaceAll(FLOAT_LITERAL, 'F'), access, workgroups, operands }));
  return { hash: createHash('sha256').update(canonicalJson(hashed)).digest('hex').slice(0, 32), kernels };
}
