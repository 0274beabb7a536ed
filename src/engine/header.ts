/**
 * Reads an engine header from untrusted JSON. Every field is checked and every unknown one refused, with its place.
 *
 * Written by hand and without a schema library: the runtime that loads engines in a browser has no dependencies.
 */
import type { PixelInput } from '../ir/pixels.ts';
import { DTYPES, tensorBytes, type DType } from '../ir/tensor.ts';
import type { PassReport } from '../passes/pass.ts';
import {
  FUSIONS,
  PRECISIONS,
  type Binding,
  type BuildOptions,
  type EngineHeader,
  type EngineLayer,
  type MemoryLedger,
  type TacticChoice,
  type TacticsReport,
  type TacticTime,
  type Tuning,
} from './engine.ts';

/** What is wrong with a header, and where: `options.batch: expected a whole number, found "8"`. */
export class HeaderError extends Error {
  override readonly name = 'HeaderError';
}

/** One JSON value and its path from the root. */
interface Field {
  readonly value: unknown;
  readonly path: string;
}

type Reader<T> = (field: Field) => T;

/** Fields that may be absent, as `object` gives them. */
type Optional<K extends keyof EngineHeader> = { [P in K]: EngineHeader[P] | undefined };

/** Checks the JSON form of a header. Throws HeaderError. */
export function readHeader(value: unknown): EngineHeader {
  type Maybe = 'calibration' | 'pixels' | 'activations' | 'tactics' | 'plugins';
  const { calibration, pixels, activations, tactics, plugins, ...header } = object<Omit<EngineHeader, Maybe> & Optional<Maybe>>({
    formatVersion: oneOf([1] as const),
    tool: object({ name: oneOf(['tsrt-bench'] as const), version: text }),
    backend: text,
    model: object({ name: text, sha256: text }),
    options: readBuildOptions,
    inputs: array(readBinding),
    outputs: array(readBinding),
    memory: readLedger,
    passes: array(readPass),
    calibration: optional(object({ sha256: text, method: text, dataset: text })),
    layers: array(readLayer),
    pixels: optional(array(readPixels)),
    activations: optional(oneOf(['int8'] as const)),
    tactics: optional(readTactics),
    requires: record(text),
    notices: array(text),
    plugins: optional(array(object({ name: text, version: text, sha256: text }))),
    backendData: (field) => field.value,
  })({ value, path: '' });
  return { ...header, ...(calibration && { calibration }), ...(pixels && { pixels }), ...(activations && { activations }), ...(tactics && { tactics }), ...(plugins && { plugins }) };
}

const readBuildOptions: Reader<BuildOptions> = (field) =>
  object<BuildOptions>({
    backend: text,
    precision: oneOf(PRECISIONS),
    fusion: oneOf(FUSIONS),
    batch: count,
    dims: record(count),
    inputShapes: record(array(count)),
    disabledPasses: array(text),
    workspaceBytes: optional(count),
    backendOptions: record(scalar),
  })(field);

const readBinding: Reader<Binding> = (field) => {
  const { dynamic, ...binding } = object<Omit<Binding, 'dynamic'> & { dynamic: true | undefined }>({
    name: text,
    dtype: oneOf(DTYPES),
    dims: array(count),
    dynamic: optional((flag) => (flag.value === true ? true : fail(flag, 'true or nothing'))),
  })(field);
  if (!Number.isSafeInteger(tensorBytes(binding))) fail(field, 'a shape of fewer than 2^53 bytes');
  return dynamic === undefined ? binding : { ...binding, dynamic };
};

const readLedger: Reader<MemoryLedger> = (field) =>
  object<MemoryLedger>({ weightBytes: count, activationBytes: count, workspaceBytes: count, stagingBytes: count })(field);

const readPass: Reader<PassReport> = (field) =>
  object<PassReport>({ pass: text, nodesBefore: count, nodesAfter: count, rewrites: record(count) })(field);

const readLayer: Reader<EngineLayer> = (field) => {
  const { tactic, ...layer } = object<Omit<EngineLayer, 'tactic'> & { tactic: string | undefined }>({
    name: text,
    kind: text,
    precision: oneOf<DType>(DTYPES),
    origins: array(text),
    flops: amount,
    bytes: amount,
    tactic: optional(text),
  })(field);
  return tactic === undefined ? layer : { ...layer, tactic };
};

const readPixels: Reader<PixelInput> = (field) =>
  object<PixelInput>({ input: text, layout: oneOf(['NCHW', 'NHWC'] as const), dtype: oneOf<DType>(DTYPES), scale: array(finite), shift: array(finite) })(field);

const readTactics: Reader<TacticsReport> = (field) => {
  const { tuning, choices } = object<{ choices: TacticsReport['choices']; tuning: Tuning | undefined }>({
    tuning: optional(readTuning),
    choices: array(readChoice),
  })(field);
  return { ...(tuning && { tuning }), choices };
};

const readTuning: Reader<Tuning> = (field) => {
  const { clocks, networks, ...tuning } = object<Omit<Tuning, 'clocks' | 'networks'> & { clocks: Tuning['clocks']; networks: Tuning['networks'] }>({
    level: oneOf(['fast', 'full'] as const),
    measured: count,
    reused: count,
    refused: count,
    unmeasured: count,
    networks: optional(count),
    clocks: optional(oneOf(['proven', 'unproven', 'software'] as const)),
  })(field);
  return { ...tuning, ...(networks !== undefined && { networks }), ...(clocks && { clocks }) };
};

const readChoice: Reader<TacticChoice> = (field) => {
  const { times, inNetwork, ...choice } = object<Omit<TacticChoice, 'times' | 'inNetwork'> & { times: TacticChoice['times']; inNetwork: TacticChoice['inNetwork'] }>({
    problem: text,
    tactic: text,
    by: oneOf(['model', 'measured', 'frozen'] as const),
    candidates: count,
    layers: array(text),
    times: optional(array(readTacticTime)),
    inNetwork: optional(array(readTacticTime)),
  })(field);
  return { ...choice, ...(times && { times }), ...(inNetwork && { inNetwork }) };
};

const readTacticTime: Reader<TacticTime> = (field) =>
  Object.hasOwn(members(field), 'refused')
    ? object<Extract<TacticTime, { refused: string }>>({ tactic: text, refused: text })(field)
    : object<Extract<TacticTime, { ns: number }>>({ tactic: text, ns: amount, spreadNs: amount })(field);

/** Bindings inside backend data, checked as the header's own are. Throws HeaderError. */
export function readBindings(value: unknown, path: string): readonly Binding[] {
  return array(readBinding)({ value, path });
}

/** A ledger inside backend data. Throws HeaderError. */
export function readMemory(value: unknown, path: string): MemoryLedger {
  return readLedger({ value, path });
}

function fail(field: Field, expected: string): never {
  const shown = field.value === undefined ? 'nothing' : (JSON.stringify(field.value) ?? typeof field.value);
  const short = shown.length > 40 ? `${shown.slice(0, 40)}…` : shown;
  throw new HeaderError(`${field.path || 'header'}: expected ${expected}, found ${short}`);
}

const text: Reader<string> = (field) => (typeof field.value === 'string' ? field.value : fail(field, 'text'));

const count: Reader<number> = (field) =>
  Number.isSafeInteger(field.value) && (field.value as number) >= 0 ? (field.value as number) : fail(field, 'a whole number');

/** FLOPs and bytes are estimates and may exceed 2^53. */
const amount: Reader<number> = (field) =>
  typeof field.value === 'number' && field.value >= 0 ? field.value : fail(field, 'a number of 0 or more');

const finite: Reader<number> = (field) => (typeof field.value === 'number' && Number.isFinite(field.value) ? field.value : fail(field, 'a number'));

const scalar: Reader<string | number | boolean> = (field) => {
  const { value } = field;
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return value;
  return fail(field, 'text, a number, true or false');
};

function oneOf<T extends string | number>(choices: readonly T[]): Reader<T> {
  return (field) => choices.find((choice) => choice === field.value) ?? fail(field, `one of ${choices.join(', ')}`);
}

function optional<T>(read: Reader<T>): Reader<T | undefined> {
  return (field) => (field.value === undefined ? undefined : read(field));
}

function array<T>(read: Reader<T>): Reader<readonly T[]> {
  return (field) => {
    if (!Array.isArray(field.value)) return fail(field, 'a list');
    return field.value.map((value: unknown, index) => read({ value, path: `${field.path}[${index}]` }));
  };
}

/** Keys are data here; the result has no prototype, so that a key such as `__proto__` is only a key. */
function record<T>(read: Reader<T>): Reader<Readonly<Record<string, T>>> {
  return (field) => {
    const result = Object.create(null) as Record<string, T>;
    for (const [key, value] of Object.entries(members(field))) result[key] = read({ value, path: join(field.path, key) });
    return result;
  };
}

function object<T extends object>(readers: { readonly [K in keyof T]-?: Reader<T[K]> }): Reader<T> {
  return (field) => {
    const source = members(field);
    for (const key of Object.keys(source)) {
      if (!Object.hasOwn(readers, key)) fail({ value: source[key], path: join(field.path, key) }, 'no such field');
    }
    const entries = Object.keys(readers).map((key) => {
      const read = readers[key as keyof T] as Reader<unknown>;
      return [key, read({ value: Object.hasOwn(source, key) ? source[key] : undefined, path: join(field.path, key) })] as const;
    });
    return Object.fromEntries(entries) as T;
  };
}

function members(field: Field): Record<string, unknown> {
  const { value } = field;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return fail(field, 'an object');
  return value as Record<string, unknown>;
}

function join(path: string, key: string): string {
  return path ? `${path}.${key}` : key;
}
