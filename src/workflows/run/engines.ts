/**
 * Builds the engines of a sweep: one per variant and batch, whatever the number of scenarios that use it. A variant that
 * can't be built is an outcome, not an error.
 */
import { copyFile, mkdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { compileModel, type CompileRequest } from '../../backends/compile.ts';
import type { Availability, Backend, BuildInput, TuningContext } from '../../backends/backend.ts';
import type { BuildOptions, Engine, EngineHeader } from '../../engine/engine.ts';
import { precisionMismatch, precisionShares } from '../../engine/precision.ts';
import { writeEngine } from '../../engine/write.ts';
import { reportError, TsrtError, type ErrorReport } from '../../errors.ts';
import type { Registry } from '../../registry.ts';
import { quantile, sortSamples } from '../../stats/samples.ts';
import type { Case, Variant } from '../../results/record.ts';
import { type EngineFile, readEngineFile } from '../engine-file.ts';
import type { OnRunEvent } from '../events.ts';
import { inModelFile } from '../model-file.ts';
import { deviceOf } from '../probe.ts';
import { checkRequest } from '../request.ts';
import type { KeptEngines } from './kept-engines.ts';

/** An engine file with what a record says of it. */
export interface BuiltEngine {
  readonly status: 'built';
  readonly variant: Variant;
  readonly backend: Backend;
  readonly path: string;
  readonly sha256: string;
  readonly bytes: number;
  readonly buildMs: number;
  /** Each build in this run; absent for a prebuilt engine. */
  readonly buildsMs?: readonly number[];
  /** The file that it is, where it was not built for this run. */
  readonly prebuilt?: string;
  readonly header: EngineHeader;
  /** Device that it is built for and runs on; undefined: the backend's first. */
  readonly device?: string | undefined;
  /** Environment that its workers need. */
  readonly environment: Readonly<Record<string, string>>;
}

export type EngineOutcome =
  | BuiltEngine
  | { readonly status: 'skipped'; readonly variant: Variant; readonly reason: string; readonly fix: string | undefined }
  | { readonly status: 'failed'; readonly variant: Variant; readonly error: ErrorReport };

export interface EngineRequest {
  readonly cases: readonly Case[];
  /** Engines that are there already, by {@link engineKey}. */
  readonly prebuilt?: ReadonlyMap<string, EngineFile>;
  readonly model: { readonly name: string; readonly bytes: Uint8Array; readonly path: string };
  readonly registry: Registry;
  readonly probe: (backend: Backend) => Promise<Availability>;
  /** Ranges for variants in less than fp32; called for those alone. */
  readonly calibration: (options: BuildOptions) => Promise<BuildInput['calibration']>;
  /** The suite's image inputs, for variants that take pictures as bytes. */
  readonly pixels?: CompileRequest['pixels'];
  readonly tuning?: TuningContext | undefined;
  /** Builds of each engine, for its build time; default 1. Fewer where they take longer than {@link REPEAT_BUILDS_MS} together. */
  readonly builds?: number;
  /** Those of the same run before it was cut off; told of every engine. */
  readonly kept?: KeptEngines | undefined;
  /** Where engine files are written. */
  readonly folder: string;
  readonly signal: AbortSignal;
  readonly onEvent: OnRunEvent;
}

/** A build is repeated only while all of them together took less than this. */
const REPEAT_BUILDS_MS = 3000;

/** Key of an engine among the outcomes. */
export function engineKey(variant: Variant): string {
  return `${variant.id}/b${variant.options.batch}`;
}

/** Outcomes by {@link engineKey}. Throws MODEL_INVALID, and what `signal` aborts with. */
export async function buildEngines(request: EngineRequest): Promise<ReadonlyMap<string, EngineOutcome>> {
  const { cases, registry, probe, folder, signal, onEvent } = request;
  await mkdir(folder, { recursive: true });
  const variants = new Map(cases.map((entry) => [engineKey(entry.variant), entry.variant]));
  const outcomes = new Map<string, EngineOutcome>();
  for (const [key, variant] of variants) {
    signal.throwIfAborted();
    onEvent({ kind: 'progress', stage: 'build', label: key, done: outcomes.size + 1, total: variants.size, unit: 'engines' });
    const backend = registry.backend(variant.options.backend);
    const given = request.prebuilt?.get(key);
    const path = join(folder, `${outcomes.size}.engine`);
    const outcome = given ? await takeOver(given, backend, await probe(backend), variant, path) : await buildOne(request, backend, await probe(backend), variant, path);
    if (outcome.status === 'built' && !given) request.kept?.note(outcome);
    outcomes.set(key, outcome);
  }
  return outcomes;
}

/** A copy, so that what is measured stays what was checked, whatever becomes of the file. */
async function takeOver(
  given: EngineFile,
  backend: Backend,
  availability: Availability,
  variant: Variant,
  path: string,
): Promise<EngineOutcome> {
  try {
    const { file, header, bytes, sha256 } = given;
    checkRequest(header.inputs, header.options.batch);
    checkPrecision(header);
    await copyUnchanged(given, path);
    const device = deviceOf(availability);
    const environment = (await backend.workerEnvironment?.(device)) ?? {};
    return { status: 'built', variant, backend, path, sha256, bytes, device, buildMs: 0, prebuilt: basename(file), header, environment };
  } catch (error) {
    return { status: 'failed', variant, error: reportError(error) };
  }
}

/** Throws TsrtError ENGINE_INVALID where the file is no longer what it was when it was looked at. */
async function copyUnchanged({ file, sha256 }: EngineFile, path: string): Promise<void> {
  await copyFile(file, path);
  if ((await readEngineFile(path)).sha256 === sha256) return;
  throw new TsrtError('ENGINE_INVALID', 'the engine file changed while it was being copied', { place: file, fix: 'run again when nothing is writing to it' });
}

async function buildOne(
  { model, registry, calibration, pixels, tuning, kept, signal, onEvent, builds = 1 }: EngineRequest,
  backend: Backend,
  availability: Availability,
  variant: Variant,
  path: string,
): Promise<EngineOutcome> {
  if (availability.status === 'unavailable') {
    return { status: 'skipped', variant, reason: `${backend.name}: ${availability.reason}`, fix: availability.fix };
  }
  try {
    const { precision } = variant.options;
    const device = deviceOf(availability);
    const environment = (await backend.workerEnvironment?.(device)) ?? {};
    const before = await kept?.take(variant, availability);
    if (before) {
      const { read, buildMs, buildsMs } = before;
      const { bytes, sha256, header } = read;
      await copyUnchanged(read, path);
      return { status: 'built', variant, backend, path, sha256, bytes, device, buildMs, buildsMs, header, environment };
    }
    const ranges = precision === 'fp32' ? undefined : await calibration(variant.options);
    const onProgress = (step: string, done: number, total: number): void => {
      if (step === 'tuning') onEvent({ kind: 'progress', stage: 'build', label: `tuning ${engineKey(variant)}`, done, total, unit: 'kernels' });
    };
    const compile = () =>
      compileModel({
        modelBytes: model.bytes,
        modelName: model.name,
        folder: dirname(model.path),
        options: variant.options,
        backend,
        customOps: registry.ops,
        calibration: ranges,
        pixels,
        context: { device, tuning, signal, onProgress },
      });
    const { engine, buildsMs } = await timedBuilds(() => inModelFile(model.path, compile), builds, signal);
    checkRequest(engine.header.inputs, engine.header.options.batch);
    checkPrecision(engine.header);
    const buildMs = quantile(sortSamples(buildsMs), 0.5);
    const { bytes, sha256 } = await writeEngine(path, engine);
    return { status: 'built', variant, backend, path, sha256, bytes, device, buildMs, buildsMs, header: engine.header, environment };
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof TsrtError && error.code === 'MODEL_UNSUPPORTED') {
      return { status: 'skipped', variant, reason: [error.message, ...error.details].join('; '), fix: error.fix };
    }
    // A model that is no model is no variant's fault: the whole run ends with it.
    if (error instanceof TsrtError && error.code === 'MODEL_INVALID') throw error;
    return { status: 'failed', variant, error: reportError(error) };
  }
}

/** The first of several builds, and what each took. */
async function timedBuilds(build: () => Promise<Engine>, builds: number, signal: AbortSignal) {
  const buildsMs: number[] = [];
  const timed = async (): Promise<Engine> => {
    const startMs = performance.now();
    const engine = await build();
    buildsMs.push(performance.now() - startMs);
    return engine;
  };
  const engine = await timed();
  // A build that filled the timing cache has no equal: the next ones take the times from there.
  if ((engine.header.tactics?.tuning?.measured ?? 0) > 0) return { engine, buildsMs };
  while (buildsMs.length < builds && !signal.aborted && buildsMs.reduce((sum, ms) => sum + ms, 0) < REPEAT_BUILDS_MS) await timed();
  return { engine, buildsMs };
}

/** The kinds of layers in f32 that have most of the operations. */
function floatLayers(layers: EngineHeader['layers']): string {
  const flops = new Map<string, number>();
  for (const layer of layers) if (layer.precision === 'float32' && layer.flops > 0) flops.set(layer.kind, (flops.get(layer.kind) ?? 0) + layer.flops);
  const kinds = [...flops].sort((a, b) => b[1] - a[1]).map(([kind]) => kind);
  return `in f32 are ${kinds.slice(0, 3).join(', ')}`;
}

/** An engine that is something else than was asked for is a failure, whatever it measures. */
function checkPrecision({ backend, options: { precision }, layers }: EngineHeader): void {
  const mismatch = precisionMismatch(precision, precisionShares(layers));
  if (mismatch === undefined) return;
  // Inputs and outputs keep their types: of a network of a few ops there may be nothing that could be in another one.
  const fix = precision === 'fp16'
    ? `${floatLayers(layers)}. Recurrent layers run in f32, and so does what lies between the network's own inputs and outputs, which keep their types: where that is most of it, take fp32. Of any other it is a fault of the backend ${backend}: take another, or tell its author`
    : `a fault of the backend ${backend}: take another backend for ${precision}, or tell its author`;
  throw new TsrtError('PRECISION_UNPROVEN', mismatch, { fix });
}
