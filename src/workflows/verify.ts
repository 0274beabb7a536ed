/**
 * Verifies models on a backend: against the outputs that lie with them, or against the reference backend on seeded inputs.
 */
import type { BuildOptions } from '../engine/engine.ts';
import { openRegistry } from './registry.ts';
import { findCases } from './verify/cases.ts';
import type { AskedTolerance } from './verify/compare.ts';
import { checkAll } from './verify/pool.ts';
import type { CaseResult } from './verify/result.ts';

export interface VerifyRequest {
  /** A model, or a folder of them at any depth. */
  readonly path: string;
  readonly backend: string;
  readonly plugins: readonly string[];
  readonly tolerance: AskedTolerance;
  readonly options: Pick<BuildOptions, 'batch' | 'dims' | 'fusion' | 'precision' | 'disabledPasses' | 'backendOptions'>;
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
  /** In the order of the cases, each as it ends. */
  readonly results: AsyncGenerator<CaseResult>;
}

/** Finds the cases and starts. Throws TsrtError: MODEL_NOT_FOUND, BACKEND_UNKNOWN, BACKEND_UNAVAILABLE (from `results`). */
export async function verify(request: VerifyRequest): Promise<Verification> {
  const backend = (await openRegistry(request.plugins)).backend(request.backend);
  const cases = await findCases(request.path);
  const options: BuildOptions = { ...request.options, backend: request.backend, inputShapes: {}, workspaceBytes: undefined };
  const { tolerance, device, seed } = request;
  return {
    total: cases.length,
    results: checkAll(cases, {
      open: { kind: 'open', backend: request.backend, plugins: request.plugins, settings: { tolerance, options, device, seed } },
      jobs: request.jobs,
      caseTimeoutMs: request.caseTimeoutMs,
      environment: (await backend.workerEnvironment?.()) ?? {},
      signal: request.signal,
    }),
  };
}
