/**
 * Engines in a program of Node's: opens an engine file of any built-in backend, on the device and with the driver's settings that it was
 * measured with. The compiler is not in its import graph, and of the backends it loads the one that the engine was built for.
 *
 *     const session = await openEngine('resnet50.engine');
 *     const outputs = await session.run({ input: fromNumbers('float32', [1, 3, 224, 224], pixels) });
 *     await session.dispose();
 */
import { fileURLToPath } from 'node:url';
import type { Backend, LoadOptions, Session } from './backends/backend.ts';
import type { Engine, EngineHeader } from './engine/engine.ts';
import { deserializeEngine } from './engine/file.ts';
import { checkCompatible } from './engine/fingerprint.ts';
import { readEngine } from './engine/read.ts';
import { TsrtError, withPlace } from './errors.ts';

export { createBatcher, type Batcher, type BatcherOptions, type BatchReport, type BatchSession } from './batcher.ts';
export { deserializeEngine };
export { startLoop } from './backends/loop.ts';
export type { DeviceInfo, DevicePeaks, DeviceYardstick, Execution, LayerTime, LoadSteps, Loop, ObservedMemory, Session, TensorMap } from './backends/backend.ts';
export type { Binding, BuildOptions, Engine, EngineHeader, EngineLayer, MemoryLedger, Precision, TacticsReport } from './engine/engine.ts';
export type { PassReport } from './passes/pass.ts';
export { elementCount, formatType, fromNumbers, toNumbers, typedView, type Dims, type DType, type Tensor, type TensorType } from './ir/tensor.ts';
export { TsrtError };
export type { ErrorCode, ErrorOptions, ExitStatus } from './errors.ts';

/** The backends of `backends/built-in.ts`, each loaded for its own engines. */
const BACKENDS: ReadonlyMap<string, () => Promise<Backend>> = new Map([
  ['onnxruntime', async () => (await import('./backends/onnxruntime/onnxruntime.ts')).onnxruntimeBackend],
  ['webgpu', async () => (await import('./backends/webgpu/webgpu.ts')).webgpuBackend],
  ['null', async () => (await import('./backends/null/null.ts')).nullBackend],
]);

/** Where an engine is opened, and how that is stopped. */
export type OpenOptions = Partial<LoadOptions>;

/**
 * Opens an engine: a file by its path, the bytes of one, a blob or a stream of them, or what {@link deserializeEngine} made of them. `device` is one of its backend's, by name, part of it or index, as for `--device`. The
 * session holds the device until it is disposed of. `signal` stops it: then it rejects with the signal's reason, and no session is left behind.
 *
 * Throws TsrtError MODEL_NOT_FOUND, ENGINE_INVALID for anything but an intact file, ENGINE_INCOMPATIBLE for engines of another version, device or of
 * a plugin's backend, with what differs in `details`; BACKEND_UNAVAILABLE without a device, USAGE for a name that none has.
 */
export async function openEngine(source: string | URL | Uint8Array | ArrayBuffer | Blob | ReadableStream<Uint8Array> | Engine, { device, signal }: OpenOptions = {}): Promise<Session> {
  signal?.throwIfAborted();
  if (typeof source !== 'string' && !(source instanceof URL)) return load('header' in source ? source : await deserializeEngine(source), device, signal);
  const file = typeof source === 'string' ? source : fileURLToPath(source);
  return load(await readEngine(file, signal), device, signal).catch((error: unknown) => {
    throw error instanceof TsrtError && error.code.startsWith('ENGINE_') ? withPlace(error, file) : error;
  });
}

async function load(engine: Engine, device: string | undefined, signal: AbortSignal | undefined): Promise<Session> {
  const { header } = engine;
  const find = BACKENDS.get(header.backend);
  if (!find) throw foreignBackend(header);
  // Before the backend reads its options, which another version may know others of.
  checkCompatible(header, header.backend);
  const session = await (await find()).load(engine, { device, signal });
  if (!signal?.aborted) return session;
  await session.dispose();
  throw signal.reason;
}

/** A plugin's op is in the engine as kernels; a plugin's backend is code that is not. */
function foreignBackend({ backend, model, plugins = [] }: EngineHeader): TsrtError {
  const names = plugins.map(({ name }) => name);
  const from = names.length === 0 ? '' : `, of the plugin ${names.join(' or ')}`;
  return new TsrtError('ENGINE_INCOMPATIBLE', `the engine of ${model.name} is for the backend ${backend}${from}, but openEngine has only ${[...BACKENDS.keys()].join(', ')}`, {
    fix: `call that backend's own load with what deserializeEngine gives, or measure it with tsrt-bench run --engine${names.map((name) => ` --plugin ${name}`).join('')}`,
  });
}
