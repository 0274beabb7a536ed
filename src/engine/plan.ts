/**
 * The plan: what an engine of the project's own does on a device, as data. Buffers, shaders, and a list of steps that a
 * session walks once to encode its command buffers. It is JSON, so that it travels in the engine's header.
 *
 * A plan read from a file is hostile input: {@link readPlan} checks every index, offset and length before anything is
 * allocated. Prior art: jax-js (a plan is a list of union steps), TensorRT's execution plan.
 */
import { DTYPE_BITS, type DType, elementCount } from '../ir/tensor.ts';

/** Bumped when the meaning of a plan changes; an engine with another version is refused. */
export const PLAN_VERSION = 2;

/** Offsets of storage bindings are multiples of this (WebGPU's default minStorageBufferOffsetAlignment). */
export const BINDING_ALIGNMENT = 256;

/** Requests that a session keeps under way at once, where the plan says nothing else. */
export const REQUESTS_IN_FLIGHT = 3;
const MAX_STREAMS = 64;

/** Inputs from this size on are written into mapped memory of each request's own; for smaller ones the queue's way is the faster. */
const STAGED_BYTES = 2 ** 20;

/** How one element lies in device memory. int64 is held as i32 and bool as u32 (lower/tensor.ts). */
export type Storage = 'f32' | 'f16' | 'i32' | 'u32' | 'i8' | 'u8';

export const STORAGE_BYTES = { f32: 4, f16: 2, i32: 4, u32: 4, i8: 1, u8: 1 } as const satisfies Record<Storage, number>;

export type PlanBuffer =
  /** Filled at load from the part of the engine that has this name and as many bytes. */
  | { readonly kind: 'weights'; readonly bytes: number; readonly part: string }
  /** Activations and scratch, shared by all requests in flight: the queue runs in order. */
  | { readonly kind: 'arena'; readonly bytes: number }
  | { readonly kind: 'input'; readonly bytes: number }
  | { readonly kind: 'output'; readonly bytes: number };

/**
 * How a shader binds a buffer. `read_ordered` is only read, and bound like one that is written, so that a driver's compiler keeps its loads on
 * their side of stores.
 */
export type Access = 'read' | 'read_write' | 'read_ordered';

export interface PlanShader {
  readonly label: string;
  readonly wgsl: string;
  /** One per binding of group 0, in order. */
  readonly access: readonly Access[];
}

export interface BufferRange {
  readonly buffer: number;
  readonly offset: number;
  readonly bytes: number;
}

export type PlanStep =
  | {
      readonly kind: 'dispatch';
      readonly shader: number;
      readonly bindings: readonly BufferRange[];
      readonly workgroups: readonly [number, number, number];
      /** Index into the engine header's layers. */
      readonly layer: number;
    }
  | { readonly kind: 'copy'; readonly from: BufferRange; readonly to: BufferRange; readonly layer: number }
  | { readonly kind: 'clear'; readonly range: BufferRange; readonly layer: number };

/** An input or output: the user's type, and how the device holds it (row-major, one `storage` per element). */
export interface PlanBinding {
  readonly name: string;
  readonly dtype: DType;
  readonly dims: readonly number[];
  readonly storage: Storage;
  readonly buffer: number;
  /** Of an output whose length the data decides: `dims` are upper bounds, and the i32 in this buffer says how much of `axis` is real. */
  readonly length?: { readonly buffer: number; readonly axis: number };
}

export interface Plan {
  readonly version: typeof PLAN_VERSION;
  readonly buffers: readonly PlanBuffer[];
  readonly shaders: readonly PlanShader[];
  readonly steps: readonly PlanStep[];
  readonly inputs: readonly PlanBinding[];
  readonly outputs: readonly PlanBinding[];
  readonly layerCount: number;
  /** Requests under way at once: each has a readback copy of the outputs, and staging memory for large inputs. */
  readonly streams?: number;
}

/** A plan that breaks its own rules; the message says where. */
export class PlanError extends Error {
  override readonly name = 'PlanError';
}

/** Bytes of a binding on the device, padded so that it can be read as whole vec4s. */
export function bindingBytes(binding: { readonly dims: readonly number[]; readonly storage: Storage }): number {
  return paddedBytes(elementCount(binding.dims) * STORAGE_BYTES[binding.storage]);
}

/** Rounded up to 16 bytes, and never empty: WebGPU refuses bindings of zero size. */
export function paddedBytes(bytes: number): number {
  return Math.max(16, Math.ceil(bytes / 16) * 16);
}

/** Bytes by purpose of buffer. */
export function planBytes(plan: Plan, kind: PlanBuffer['kind']): number {
  return plan.buffers.filter((buffer) => buffer.kind === kind).reduce((sum, buffer) => sum + buffer.bytes, 0);
}

export function streamsOf({ streams = REQUESTS_IN_FLIGHT }: Pick<Plan, 'streams'>): number {
  return streams;
}

/** Whether requests write an input into mapped memory, from which the device copies it. */
export function isStaged(binding: PlanBinding): boolean {
  return bindingBytes(binding) >= STAGED_BYTES;
}

/** Memory between host and device, of all requests that can be under way. */
export function stagingBytes(plan: Plan): number {
  const staged = plan.inputs.filter(isStaged).reduce((sum, binding) => sum + bindingBytes(binding), 0);
  return streamsOf(plan) * (staged + planBytes(plan, 'output'));
}

/** Checks an untrusted value, with the parts of the engine that it comes from, and returns it as a plan. Throws {@link PlanError}. */
export function readPlan(value: unknown, parts: ReadonlyMap<string, Uint8Array>): Plan {
  const plan = object(value, 'plan');
  if (plan['version'] !== PLAN_VERSION) throw new PlanError(`plan version ${String(plan['version'])}, this runtime reads ${PLAN_VERSION}`);
  const layerCount = integer(plan['layerCount'], 'layerCount');
  const buffers = list(plan['buffers'], 'buffers', (item, at) => readBuffer(item, at, parts));
  const shaders = list(plan['shaders'], 'shaders', readShader);
  const range = (item: unknown, at: string) => readRange(item, at, buffers);
  const steps = list(plan['steps'], 'steps', (item, at) => readStep(item, at, shaders, range, layerCount));
  const binding = (kind: 'input' | 'output') => (item: unknown, at: string) => readBinding(item, at, buffers, kind);
  const inputs = list(plan['inputs'], 'inputs', binding('input'));
  const outputs = list(plan['outputs'], 'outputs', binding('output'));
  const whole = { version: PLAN_VERSION, buffers, shaders, steps, inputs, outputs, layerCount } as const;
  return plan['streams'] === undefined ? whole : { ...whole, streams: readStreams(plan['streams']) };
}

function readStreams(value: unknown): number {
  const streams = integer(value, 'streams');
  if (streams < 1 || streams > MAX_STREAMS) throw new PlanError(`streams is ${streams}, not 1 to ${MAX_STREAMS}`);
  return streams;
}

function readBuffer(value: unknown, at: string, parts: ReadonlyMap<string, Uint8Array>): PlanBuffer {
  const item = object(value, at);
  const kind = oneOf(item['kind'], ['weights', 'arena', 'input', 'output'] as const, `${at}.kind`);
  const bytes = integer(item['bytes'], `${at}.bytes`);
  if (bytes === 0 || bytes % 16 !== 0) throw new PlanError(`${at}.bytes is ${bytes}, not a positive multiple of 16`);
  if (kind !== 'weights') return { kind, bytes };
  const part = text(item['part'], `${at}.part`);
  const found = parts.get(part)?.byteLength;
  if (found !== bytes) throw new PlanError(`${at} takes ${bytes} bytes from the part '${part}', which ${found === undefined ? 'is not there' : `has ${found}`}`);
  return { kind, bytes, part };
}

function readShader(value: unknown, at: string): PlanShader {
  const item = object(value, at);
  return {
    label: text(item['label'], `${at}.label`),
    wgsl: text(item['wgsl'], `${at}.wgsl`),
    access: list(item['access'], `${at}.access`, (access, where) => oneOf(access, ['read', 'read_write', 'read_ordered'] as const, where)),
  };
}

function readRange(value: unknown, at: string, buffers: readonly PlanBuffer[]): BufferRange {
  const item = object(value, at);
  const buffer = index(item['buffer'], buffers.length, `${at}.buffer`);
  const offset = integer(item['offset'], `${at}.offset`);
  const bytes = integer(item['bytes'], `${at}.bytes`);
  if (bytes === 0 || bytes % 4 !== 0 || offset % 4 !== 0) throw new PlanError(`${at} is not a positive number of whole words`);
  if (offset + bytes > buffers[buffer]!.bytes) throw new PlanError(`${at} reaches beyond its buffer of ${buffers[buffer]!.bytes} bytes`);
  return { buffer, offset, bytes };
}

type ReadRange = (value: unknown, at: string) => BufferRange;

function readStep(value: unknown, at: string, shaders: readonly PlanShader[], range: ReadRange, layerCount: number): PlanStep {
  const item = object(value, at);
  const kind = oneOf(item['kind'], ['dispatch', 'copy', 'clear'] as const, `${at}.kind`);
  const layer = index(item['layer'], layerCount, `${at}.layer`);
  if (kind === 'copy') {
    const [from, to] = [range(item['from'], `${at}.from`), range(item['to'], `${at}.to`)];
    if (from.bytes !== to.bytes || from.buffer === to.buffer) throw new PlanError(`${at} must copy equal lengths between two buffers`);
    return { kind, from, to, layer };
  }
  if (kind === 'clear') return { kind, range: range(item['range'], `${at}.range`), layer };
  const shader = index(item['shader'], shaders.length, `${at}.shader`);
  const bindings = list(item['bindings'], `${at}.bindings`, range);
  const groups = list(item['workgroups'], `${at}.workgroups`, integer);
  if (groups.length !== 3 || groups.some((count) => count < 1)) throw new PlanError(`${at}.workgroups must be three positive numbers`);
  const step: PlanStep = { kind, shader, bindings, workgroups: [groups[0]!, groups[1]!, groups[2]!], layer };
  checkDispatch(step, shaders[shader]!, at);
  return step;
}

/** WebGPU's aliasing rule: within one dispatch a buffer is either read only or written only through disjoint ranges. */
function checkDispatch(step: Extract<PlanStep, { kind: 'dispatch' }>, shader: PlanShader, at: string): void {
  if (step.bindings.length !== shader.access.length) {
    throw new PlanError(`${at} binds ${step.bindings.length} ranges to a shader of ${shader.access.length}`);
  }
  const written = step.bindings.filter((_, i) => shader.access[i] !== 'read');
  for (const [i, bound] of step.bindings.entries()) {
    if (bound.offset % BINDING_ALIGNMENT !== 0) throw new PlanError(`${at}.bindings[${i}] is not aligned to ${BINDING_ALIGNMENT} bytes`);
    if (shader.access[i] === 'read' && written.some((other) => other.buffer === bound.buffer)) {
      throw new PlanError(`${at} reads and writes buffer ${bound.buffer}`);
    }
  }
  for (const [i, a] of written.entries()) {
    for (const b of written.slice(i + 1)) {
      const disjoint = a.buffer !== b.buffer || a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset;
      if (!disjoint) throw new PlanError(`${at} writes overlapping ranges of buffer ${a.buffer}`);
    }
  }
}

function readBinding(value: unknown, at: string, buffers: readonly PlanBuffer[], kind: 'input' | 'output'): PlanBinding {
  const item = object(value, at);
  const binding: PlanBinding = {
    name: text(item['name'], `${at}.name`),
    dtype: oneOf(item['dtype'], Object.keys(DTYPE_BITS) as DType[], `${at}.dtype`),
    dims: list(item['dims'], `${at}.dims`, integer),
    storage: oneOf(item['storage'], Object.keys(STORAGE_BYTES) as Storage[], `${at}.storage`),
    buffer: index(item['buffer'], buffers.length, `${at}.buffer`),
  };
  const buffer = buffers[binding.buffer]!;
  if (buffer.kind !== kind) throw new PlanError(`${at} is bound to a buffer for ${buffer.kind}`);
  if (buffer.bytes < bindingBytes(binding)) throw new PlanError(`${at} is larger than its buffer of ${buffer.bytes} bytes`);
  if (item['length'] === undefined) return binding;
  return { ...binding, length: readLength(item['length'], `${at}.length`, buffers, binding.dims.length) };
}

function readLength(value: unknown, at: string, buffers: readonly PlanBuffer[], rank: number): NonNullable<PlanBinding['length']> {
  const item = object(value, at);
  const buffer = index(item['buffer'], buffers.length, `${at}.buffer`);
  if (buffers[buffer]!.kind !== 'output') throw new PlanError(`${at} is in a buffer for ${buffers[buffer]!.kind}`);
  return { buffer, axis: index(item['axis'], rank, `${at}.axis`) };
}

function object(value: unknown, at: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new PlanError(`${at} is not an object`);
  return value as Record<string, unknown>;
}

function list<T>(value: unknown, at: string, read: (item: unknown, at: string) => T): T[] {
  if (!Array.isArray(value)) throw new PlanError(`${at} is not a list`);
  return value.map((item, i) => read(item, `${at}[${i}]`));
}

function text(value: unknown, at: string): string {
  if (typeof value !== 'string') throw new PlanError(`${at} is not a string`);
  return value;
}

function integer(value: unknown, at: string): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw new PlanError(`${at} is not a whole number`);
  return value;
}

function index(value: unknown, length: number, at: string): number {
  const i = integer(value, at);
  if (i >= length) throw new PlanError(`${at} is ${i}, beyond the last of ${length}`);
  return i;
}

function oneOf<T extends string>(value: unknown, allowed: readonly T[], at: string): T {
  if (!allowed.includes(value as T)) throw new PlanError(`${at} is ${JSON.stringify(value)}, not one of ${allowed.join(', ')}`);
  return value as T;
}
