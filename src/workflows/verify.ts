/**
 * Verifies models on a backend: against the outputs that lie with them, or against the reference backend on seeded inputs.
 */
import { resolve } from 'node:path';
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
  /** Whether the batch was asked for. */
  readonly rebatch: boolean;
  /** A file or folder of arrays to run in place of test data and seeded inputs. */
  readonly arrays: string | undefined;
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
  const { cases: found, options, notices } = await casesOf(request, registry);
  const cases = withArrays(found, request);
  const backend = registry.backend(options.backend);
  const { tolerance, rebatch, seed } = request;
  const device = (await chooseDevices(request.device, [backend])).get(backend.name);
  return {
    total: cases.length,
    notices,
    results: checkAll(cases, {
      open: { kind: 'open', backend: backend.name, plugins: request.plugins, settings: { tolerance, options, rebatch, device, seed } },
      jobs: request.jobs,
      caseTimeoutMs: request.caseTimeoutMs,
      environment: (await backend.workerEnvironment?.(device)) ?? {},
      signal: request.signal,
    }),
  };
}

function withArrays(cases: readonly VerifyCase[], { arrays, path }: VerifyRequest): readonly VerifyCase[] {
  if (arrays === undefined) return cases;
  if (cases.length > 1) throw new TsrtError('USAGE', `--inputs is for one model, but there are ${cases.length}`, { place: path, fix: 'give one .onnx file' });
  return cases.map((found) => ({ ...found, arrays: resolve(arrays) }));
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
