/**
 * Builds the engines of a sweep: one per variant and batch, whatever the number of scenarios that use it. A variant that
 * can't be built is an outcome, not an error.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { compileModel } from '../../backends/compile.ts';
import type { Availability, Backend } from '../../backends/backend.ts';
import type { EngineHeader } from '../../engine/engine.ts';
import { serializeEngine } from '../../engine/file.ts';
import { sha256Hex } from '../../engine/sha256.ts';
import { reportError, TsrtError, type ErrorReport } from '../../errors.ts';
import type { Registry } from '../../registry.ts';
import type { Case, Variant } from '../../results/record.ts';
import type { OnRunEvent } from '../events.ts';

/** An engine file with what a record says of it. */
export interface BuiltEngine {
  readonly status: 'built';
  readonly variant: Variant;
  readonly backend: Backend;
  readonly path: string;
  readonly sha256: string;
  readonly bytes: number;
  readonly buildMs: number;
  readonly header: EngineHeader;
  /** Environment that its workers need. */
  readonly environment: Readonly<Record<string, string>>;
}

export type EngineOutcome =
  | BuiltEngine
  | { readonly status: 'skipped'; readonly variant: Variant; readonly reason: string; readonly fix: string | undefined }
  | { readonly status: 'failed'; readonly variant: Variant; readonly error: ErrorReport };

export interface EngineRequest {
  readonly cases: readonly Case[];
  readonly model: { readonly name: string; readonly bytes: Uint8Array; readonly folder: string };
  readonly registry: Registry;
  /** Where engine files are written. */
  readonly folder: string;
  readonly signal: AbortSignal;
  readonly onEvent: OnRunEvent;
}

/** Key of an engine among the outcomes. */
export function engineKey(variant: Variant): string {
  return `${variant.id}/b${variant.options.batch}`;
}

/** Outcomes by {@link engineKey}. Probes each backend once. Throws what `signal` aborts with. */
export async function buildEngines(request: EngineRequest): Promise<ReadonlyMap<string, EngineOutcome>> {
  const { cases, registry, folder, signal, onEvent } = request;
  await mkdir(folder, { recursive: true });
  const variants = new Map(cases.map((entry) => [engineKey(entry.variant), entry.variant]));
  const probes = new Map<string, Availability>();
  const outcomes = new Map<string, EngineOutcome>();
  for (const [key, variant] of variants) {
    signal.throwIfAborted();
    onEvent({ kind: 'progress', stage: 'build', label: key, done: outcomes.size + 1, total: variants.size, unit: 'engines' });
    const backend = registry.backend(variant.options.backend);
    const availability = probes.get(backend.name) ?? (await backend.probe());
    probes.set(backend.name, availability);
    outcomes.set(key, await buildOne(request, backend, availability, variant, join(folder, `${outcomes.size}.engine`)));
  }
  return outcomes;
}

async function buildOne(
  { model, signal }: EngineRequest,
  backend: Backend,
  availability: Availability,
  variant: Variant,
  path: string,
): Promise<EngineOutcome> {
  if (availability.status === 'unavailable') {
    return { status: 'skipped', variant, reason: `${backend.name}: ${availability.reason}`, fix: availability.fix };
  }
  try {
    const startMs = performance.now();
    const engine = await compileModel({
      modelBytes: model.bytes,
      modelName: model.name,
      folder: model.folder,
      options: variant.options,
      backend,
      context: { signal, onProgress: undefined },
    });
    const buildMs = performance.now() - startMs;
    const bytes = await serializeEngine(engine);
    await writeFile(path, bytes);
    const environment = (await backend.workerEnvironment?.()) ?? {};
    return { status: 'built', variant, backend, path, sha256: await sha256Hex(bytes), bytes: bytes.length, buildMs, header: engine.header, environment };
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
