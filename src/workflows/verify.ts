/**
 * Verifies models on a backend: against the outputs that lie with them, or against the reference backend on seeded inputs.
 */
import type { BuildOptions } from '../engine/engine.ts';
import { TsrtError } from '../errors.ts';
import type { Registry } from '../registry.ts';
import { chooseDevices } from './probe.ts';
import { openRegistry } from './registry.ts';
import { findCases, type VerifyCase } from './verify/cases.ts';
import type { AskedTolerance } from './verify/compare.ts';
import { engineCase } from './verify/engine.ts';
import { checkAll } from './verify/pool.ts';
import type { CaseResult } from './verify/result.ts';

export interface VerifyRequest {
  /** A model, a folder of them at any depth, or an engine file. */
  readonly path: string;
  /** The model that an engine file is compared with. */
  readonly against: string | undefined;
  /** Builds an engine again that does not fit here. */
  readonly rebuild: boolean;
  readonly backend: string;
  readonly plugins: readonly string[];
  readonly tolerance: AskedTolerance;
  readonly options: Pick<BuildOptions, 'batch' | 'dims' | 'inputShapes' | 'fusion' | 'precision' | 'disabledPasses' | 'backendOptions'>;
  readonly device: string | undefined;
  /** Of the inputs of models without test data. */
  readonly seed: number;
  /** Worker processes. */
  readonly jobs: number;
  readonly caseTimeoutMs: number;
  readonly signal: AbortSignal | undefined;
}

export interface Verification {
  readonly total: number;
  readonly notices: readonly string[];
  /** In the order of the cases, each as it ends. */
  readonly results: AsyncGenerator<CaseResult>;
}

/**
 * Finds the cases and starts. Throws TsrtError: MODEL_NOT_FOUND, BACKEND_UNKNOWN, BACKEND_UNAVAILABLE (from `results`); for an
 * engine file also ENGINE_INVALID, ENGINE_INCOMPATIBLE, and USAGE without a model to compare with.
 */
export async function verify(request: VerifyRequest): Promise<Verification> {
  const registry = await openRegistry(request.plugins);
  const { cases, options, notices } = await casesOf(request, registry);
  const backend = registry.backend(options.backend);
  const { tolerance, seed } = request;
  const device = (await chooseDevices(request.device, [backend])).get(backend.name);
  return {
    total: cases.length,
    notices,
    results: checkAll(cases, {
      open: { kind: 'open', backend: backend.name, plugins: request.plugins, settings: { tolerance, options, device, seed } },
      jobs: request.jobs,
      caseTimeoutMs: request.caseTimeoutMs,
      environment: (await backend.workerEnvironment?.(device)) ?? {},
      signal: request.signal,
    }),
  };
}

interface Cases {
  readonly cases: readonly VerifyCase[];
  readonly options: BuildOptions;
  readonly notices: readonly string[];
}

async function casesOf({ path, against, rebuild, device, backend, options }: VerifyRequest, registry: Registry): Promise<Cases> {
  if (path.endsWith('.engine')) {
    const found = await engineCase({ engineFile: path, against, rebuild, device, registry });
    return { cases: [found.testCase], options: found.options, notices: found.notices };
  }
  if (against !== undefined || rebuild) {
    throw new TsrtError('USAGE', '--against and --rebuild are for engine files', { place: path, fix: 'leave them out, or give a file ending in .engine' });
  }
  return { cases: await findCases(path), options: { ...options, backend, workspaceBytes: undefined }, notices: [] };
}
