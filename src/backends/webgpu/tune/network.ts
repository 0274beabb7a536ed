/**
 * A graph's kernels with its choices open. With choices made, all of them are one candidate: what runs before a kernel decides about the
 * caches that it finds, of data and of code, and about the clock that the power leaves it, which no kernel shows that is repeated by itself.
 */
import type { KernelCall } from '../lower/call.ts';
import type { Candidate } from '../tactics/tactic.ts';
import { bytesOf, hashOf, type TimedCandidate, type TimedKernel, withoutNumbers } from './problems.ts';

/** A step that is still to be chosen. */
export interface OpenStep {
  readonly id: string;
  readonly candidates: readonly Candidate[];
}

const isOpen = (step: KernelCall | OpenStep): step is OpenStep => 'candidates' in step;

export class Network {
  readonly #steps: readonly (KernelCall | OpenStep)[];
  /** Hashes of kernels' code: networks differ in few of them. */
  readonly #codes = new WeakMap<KernelCall, string>();

  constructor(steps: readonly (KernelCall | OpenStep)[]) {
    this.#steps = steps;
  }

  /** The whole network as one candidate; `tacticOf` gives a name for every problem's id. Throws where a tactic's code can't be generated. */
  timed(tacticOf: (id: string) => string): TimedCandidate {
    const calls = this.#steps.flatMap((step) => {
      if (!isOpen(step)) return [step];
      const tactic = tacticOf(step.id);
      return step.candidates.find(({ name }) => name === tactic)!.kernels();
    });
    const slots = slotsOf(calls);
    const bytes = new Map<number, number>();
    for (const [id, size] of bytesOf(calls)) bytes.set(slots.get(id)!, Math.max(bytes.get(slots.get(id)!) ?? 0, size));
    const kernels = calls.map(({ source: { label, wgsl, access }, operands, workgroups }): TimedKernel => ({
      label,
      wgsl,
      access,
      workgroups,
      operands: operands.map(({ id, storage, constant }) => ({ tensor: slots.get(id)!, constant: constant ? 'once' : false, storage, bytes: bytes.get(slots.get(id)!)! })),
    }));
    const hashed = kernels.map(({ access, workgroups, operands }, i) => ({ code: this.#codeOf(calls[i]!), access, workgroups, operands }));
    return { hash: hashOf(hashed), kernels };
  }

  #codeOf(call: KernelCall): string {
    const code = this.#codes.get(call) ?? hashOf(withoutNumbers(call.source.wgsl));
    this.#codes.set(call, code);
    return code;
  }
}

/** Numbers for tensors, by id: what is not needed any more leaves its number to the next tensor of its storage. Constants, and what no kernel writes, keep theirs. */
function slotsOf(calls: readonly KernelCall[]): ReadonlyMap<number, number> {
  const last = new Map<number, number>();
  const written = new Set<number>();
  for (const [at, { operands, source }] of calls.entries()) {
    for (const [slot, { id }] of operands.entries()) {
      last.set(id, at);
      if (source.access[slot] === 'read_write') written.add(id);
    }
  }
  const slots = new Map<number, number>();
  const free = new Map<string, number[]>();
  let count = 0;
  for (const [at, { operands }] of calls.entries()) {
    const tensors = [...new Map(operands.map((tensor) => [tensor.id, tensor])).values()];
    for (const { id, storage } of tensors) if (!slots.has(id)) slots.set(id, (written.has(id) ? free.get(storage)?.pop() : undefined) ?? count++);
    for (const { id, storage } of tensors) {
      if (last.get(id) !== at || !written.has(id)) continue;
      const list = free.get(storage) ?? [];
      free.set(storage, list);
      list.push(slots.get(id)!);
    }
  }
  return slots;
}
