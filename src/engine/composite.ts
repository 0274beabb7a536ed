/**
 * The plan of a composite engine: segments that run one after the other, some as WebGPU plans, some in onnxruntime, with values
 * copied through the host between them.
 *
 * It stands in the header where a plain engine has its plan, and like that it is hostile input when read from a file:
 * {@link readComposite} checks that every value is made before it is read, and with one type. The parts of segment i are those
 * whose names start with `segment-i/`.
 */
import { formatType } from '../ir/tensor.ts';
import type { Binding, Engine, EngineHeader, EngineLayer, MemoryLedger } from './engine.ts';
import { HeaderError, readBindings, readMemory } from './header.ts';

/** Bumped when the meaning of a composite plan changes. */
export const COMPOSITE_VERSION = 1;

export const RUNNERS = ['webgpu', 'onnxruntime'] as const;
export type Runner = (typeof RUNNERS)[number];

export interface CompositeSegment {
  readonly runner: Runner;
  /** Values read, each one of the engine's inputs or an earlier segment's output. */
  readonly inputs: readonly Binding[];
  readonly outputs: readonly Binding[];
  readonly memory: MemoryLedger;
  /** Its layers among the header's: from the first, as many. */
  readonly firstLayer: number;
  readonly layerCount: number;
  /** What the runner reads: a WebGPU plan; null for onnxruntime. */
  readonly data: unknown;
}

export interface CompositePlan {
  readonly composite: typeof COMPOSITE_VERSION;
  readonly segments: readonly CompositeSegment[];
}

/** Whether an engine's backend data means to be a composite plan. */
export function isComposite(backendData: unknown): boolean {
  return typeof backendData === 'object' && backendData !== null && 'composite' in backendData;
}

export function segmentPrefix(index: number): string {
  return `segment-${index}/`;
}

/** A segment as an engine of its runner. Parts are views of the composite's. */
export function segmentEngine(engine: Engine, plan: CompositePlan, index: number): Engine {
  const { runner, inputs, outputs, memory, firstLayer, layerCount, data } = plan.segments[index]!;
  const prefix = segmentPrefix(index);
  const parts = [...engine.parts].filter(([name]) => name.startsWith(prefix)).map(([name, part]) => [name.slice(prefix.length), part] as const);
  const options = { ...engine.header.options, backend: runner, ...(runner === 'onnxruntime' && { backendOptions: {} }) };
  const layers: readonly EngineLayer[] = engine.header.layers.slice(firstLayer, firstLayer + layerCount);
  return { header: { ...engine.header, backend: runner, options, inputs, outputs, memory, layers, backendData: data }, parts: new Map(parts) };
}

/** Checks an engine's backend data and returns it as a composite plan. Throws {@link HeaderError}. */
export function readComposite({ header, parts }: Engine): CompositePlan {
  const data = object(header.backendData, 'composite plan');
  if (data['composite'] !== COMPOSITE_VERSION) {
    throw new HeaderError(`composite plan: version ${String(data['composite'])}, this runtime reads ${COMPOSITE_VERSION}`);
  }
  if (!Array.isArray(data['segments']) || Object.keys(data).length !== 2) throw new HeaderError('composite plan: expected segments, and nothing else');
  const segments = data['segments'].map((item: unknown, index) => readSegment(item, `segments[${index}]`, header));
  checkValues(header, segments);
  for (const name of parts.keys()) {
    const match = /^segment-(\d+)\//.exec(name);
    if (!match || Number(match[1]) >= segments.length) throw new HeaderError(`part '${name}' belongs to no segment`);
  }
  return { composite: COMPOSITE_VERSION, segments };
}

const SEGMENT_KEYS: ReadonlySet<string> = new Set<keyof CompositeSegment>(['runner', 'inputs', 'outputs', 'memory', 'firstLayer', 'layerCount', 'data']);

function readSegment(value: unknown, at: string, header: EngineHeader): CompositeSegment {
  const item = object(value, at);
  const foreign = Object.keys(item).find((key) => !SEGMENT_KEYS.has(key));
  if (foreign !== undefined) throw new HeaderError(`${at}.${foreign}: expected no such field`);
  const runner = RUNNERS.find((name) => name === item['runner']);
  if (!runner) throw new HeaderError(`${at}.runner: expected one of ${RUNNERS.join(', ')}`);
  const firstLayer = count(item['firstLayer'], `${at}.firstLayer`);
  const layerCount = count(item['layerCount'], `${at}.layerCount`);
  if (firstLayer + layerCount > header.layers.length) throw new HeaderError(`${at}: its layers reach beyond the last of ${header.layers.length}`);
  return {
    runner,
    inputs: readBindings(item['inputs'], `${at}.inputs`),
    outputs: readBindings(item['outputs'], `${at}.outputs`),
    memory: readMemory(item['memory'], `${at}.memory`),
    firstLayer,
    layerCount,
    data: item['data'],
  };
}

/** Every value is made once, before it is read, and has one type. */
function checkValues(header: EngineHeader, segments: readonly CompositeSegment[]): void {
  const made = new Map(header.inputs.map((binding) => [binding.name, formatType(binding)]));
  const need = (binding: Binding, reader: string): void => {
    const type = made.get(binding.name);
    if (type === undefined) throw new HeaderError(`${reader} reads '${binding.name}', which nothing before it makes`);
    if (type !== formatType(binding)) throw new HeaderError(`${reader} reads '${binding.name}' as ${formatType(binding)}, and it is ${type}`);
  };
  for (const [index, { inputs, outputs }] of segments.entries()) {
    for (const binding of inputs) need(binding, `segments[${index}]`);
    for (const binding of outputs) {
      if (made.has(binding.name)) throw new HeaderError(`segments[${index}] makes '${binding.name}' a second time`);
      made.set(binding.name, formatType(binding));
    }
  }
  for (const binding of header.outputs) need(binding, 'the engine');
}

function object(value: unknown, at: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new HeaderError(`${at}: expected an object`);
  return value as Record<string, unknown>;
}

function count(value: unknown, at: string): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw new HeaderError(`${at}: expected a whole number`);
  return value;
}
