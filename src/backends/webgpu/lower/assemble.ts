/**
 * Program → plan: addresses for every tensor, weights laid out in one part, identical shaders shared.
 */
import type { MemoryLedger } from '../../../engine/engine.ts';
import { type Lifetime, planMemory } from '../../../engine/memory.ts';
import {
  BINDING_ALIGNMENT,
  type BufferRange,
  type Plan,
  PLAN_VERSION,
  planBytes,
  type PlanBinding,
  type PlanBuffer,
  type PlanShader,
  type PlanStep,
  stagingBytes,
} from '../../../engine/plan.ts';
import type { DeviceProfile } from '../profile.ts';
import type { Program } from './context.ts';

export interface Assembled {
  readonly plan: Plan;
  /** Parts of the engine, by the names that the plan has for them. */
  readonly weights: ReadonlyMap<string, Uint8Array>;
  readonly memory: MemoryLedger;
}

/** Smaller constants share buffers of at most so many bytes: a part is held, hashed and read in one piece on the host. */
const SHARED_BYTES = 2 ** 29;
/** From this size on a constant has a buffer of its own, so that a large model's weights are not held twice while it is built. */
const ALONE_BYTES = 2 ** 25;

/** Where every tensor of the program lies, by tensor id. */
type Addresses = ReadonlyMap<number, BufferRange>;

/** `streams`: requests under way at once; default: the runtime's own. */
export function assemble(program: Program, profile: DeviceProfile, streams?: number): Assembled {
  const buffers: PlanBuffer[] = [];
  const addresses = new Map<number, BufferRange>();
  const weights = placeWeights(program, profile, buffers, addresses);
  placeBindings(program, buffers, addresses);
  placeArena(program, profile, buffers, addresses);
  const { shaders, steps } = emitSteps(program, addresses);
  const binding = (list: Program['inputs']): PlanBinding[] =>
    list.map(({ name, tensor }) => ({
      name,
      dtype: tensor.dtype,
      dims: tensor.dims,
      storage: tensor.storage,
      buffer: addresses.get(tensor.id)!.buffer,
    }));
  const plan: Plan = {
    version: PLAN_VERSION,
    buffers,
    shaders,
    steps,
    inputs: binding(program.inputs),
    outputs: binding(program.outputs).map((bound, i) => {
      const length = program.outputs[i]!.length;
      return length ? { ...bound, length: { buffer: addresses.get(length.tensor.id)!.buffer, axis: length.axis } } : bound;
    }),
    layerCount: program.layers.length,
    ...(streams !== undefined && { streams }),
  };
  return { plan, weights, memory: ledger(plan, scratchPeak(program)) };
}

function align(bytes: number): number {
  return Math.ceil(bytes / BINDING_ALIGNMENT) * BINDING_ALIGNMENT;
}

/**
 * Constants that a step reads: large ones in buffers of their own, the others packed into few. Each buffer is filled from a part of its own, and where
 * it is one constant, the part is the constant's bytes without a copy.
 */
function placeWeights(program: Program, profile: DeviceProfile, buffers: PlanBuffer[], addresses: Map<number, BufferRange>): ReadonlyMap<string, Uint8Array> {
  const used = new Set(program.steps.flatMap((step) => step.call.operands.map((tensor) => tensor.id)));
  const limit = Math.min(profile.maxBufferBytes, SHARED_BYTES);
  const base = buffers.length;
  const sizes: number[] = [];
  let shared: number | undefined;
  for (const id of program.constants.keys()) {
    if (!used.has(id)) continue;
    const bytes = program.tensorBytes[id]!;
    const alone = bytes >= ALONE_BYTES;
    const fits = shared !== undefined && align(sizes[shared]!) + bytes <= limit;
    const at = !alone && fits ? shared! : sizes.push(0) - 1;
    if (!alone) shared = at;
    const offset = align(sizes[at]!);
    addresses.set(id, { buffer: base + at, offset, bytes });
    sizes[at] = offset + bytes;
  }
  const names = sizes.map((_, i) => (i === 0 ? 'weights' : `weights-${i}`));
  for (const [i, bytes] of sizes.entries()) buffers.push({ kind: 'weights', bytes, part: names[i]! });
  const parts: Uint8Array[] = [];
  for (const [id, make] of program.constants) {
    const place = addresses.get(id);
    if (!place) continue;
    const { buffer, byteOffset, byteLength } = make();
    const bytes = new Uint8Array(buffer, byteOffset, byteLength);
    const at = place.buffer - base;
    if (byteLength === sizes[at]) parts[at] = bytes;
    else (parts[at] ??= new Uint8Array(sizes[at]!)).set(bytes, place.offset);
  }
  return new Map(names.map((name, i) => [name, parts[i]!]));
}

function placeBindings(program: Program, buffers: PlanBuffer[], addresses: Map<number, BufferRange>): void {
  const place = (kind: 'input' | 'output', id: number): void => {
    const bytes = program.tensorBytes[id]!;
    addresses.set(id, { buffer: buffers.push({ kind, bytes }) - 1, offset: 0, bytes });
  };
  for (const { tensor } of program.inputs) place('input', tensor.id);
  for (const { tensor, length } of program.outputs) {
    place('output', tensor.id);
    if (length) place('output', length.tensor.id);
  }
}

function placeArena(program: Program, profile: DeviceProfile, buffers: PlanBuffer[], addresses: Map<number, BufferRange>): void {
  const index = new Map<number, number>();
  const lifetimes: (Lifetime & { readonly id: number })[] = [];
  const apart: [number, number][] = [];
  for (const [at, { call }] of program.steps.entries()) {
    const inside: { readonly i: number; readonly bound: 'read' | 'storage' }[] = [];
    for (const [slot, { id }] of call.operands.entries()) {
      if (addresses.has(id)) continue;
      const known = index.get(id);
      const i = known ?? lifetimes.push({ id, bytes: program.tensorBytes[id]!, first: at, last: at }) - 1;
      if (known === undefined) index.set(id, i);
      else lifetimes[i] = { ...lifetimes[i]!, last: at };
      inside.push({ i, bound: call.source.access[slot] === 'read' ? 'read' : 'storage' });
    }
    for (const a of inside) for (const b of inside) if (a.bound !== 'read' && b.bound === 'read') apart.push([a.i, b.i]);
  }
  const maxBufferBytes = profile.maxBufferBytes;
  const placed = planMemory({ tensors: lifetimes, apart, alignment: BINDING_ALIGNMENT, maxBufferBytes });
  const base = buffers.length;
  for (const bytes of placed.buffers) buffers.push({ kind: 'arena', bytes });
  for (const [i, { id, bytes }] of lifetimes.entries()) {
    const { buffer, offset } = placed.placements[i]!;
    addresses.set(id, { buffer: base + buffer, offset, bytes });
  }
}

function emitSteps(program: Program, addresses: Addresses): { shaders: PlanShader[]; steps: PlanStep[] } {
  const shaders: PlanShader[] = [];
  const known = new Map<string, number>();
  const steps = program.steps.map(({ call, layer }): PlanStep => {
    const { label, wgsl, access } = call.source;
    let shader = known.get(wgsl);
    if (shader === undefined) {
      shader = shaders.push({ label, wgsl, access }) - 1;
      known.set(wgsl, shader);
    }
    const bindings = call.operands.map((tensor) => addresses.get(tensor.id)!);
    return { kind: 'dispatch', shader, bindings, workgroups: call.workgroups, layer };
  });
  return { shaders, steps };
}

/** Most scratch memory that one layer takes: it lives inside a layer, so layers share it. */
function scratchPeak(program: Program): number {
  const byLayer = new Map<number, Set<number>>();
  for (const { call, layer } of program.steps) {
    for (const { id } of call.operands) {
      if (program.scratch.has(id)) byLayer.set(layer, (byLayer.get(layer) ?? new Set()).add(id));
    }
  }
  const sums = [...byLayer.values()].map((ids) => [...ids].reduce((sum, id) => sum + program.tensorBytes[id]!, 0));
  return Math.max(0, ...sums);
}

/** The arena holds scratch memory and activations together; the part beyond the scratch of the hungriest layer is activations. */
function ledger(plan: Plan, scratchBytes: number): MemoryLedger {
  const arena = planBytes(plan, 'arena');
  const workspaceBytes = Math.min(arena, scratchBytes);
  return {
    weightBytes: planBytes(plan, 'weights'),
    activationBytes: arena - workspaceBytes + planBytes(plan, 'input') + planBytes(plan, 'output'),
    workspaceBytes,
    stagingBytes: stagingBytes(plan),
  };
}
