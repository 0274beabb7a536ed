/** `build` of a model: one engine file of one ONNX file. */
import { mkdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { BuildContext, TuningContext } from '../backends/backend.ts';
import { compileModel, type CompileStep } from '../backends/compile.ts';
import type { BuildOptions, EngineHeader } from '../engine/engine.ts';
import { precisionMismatch, precisionShares } from '../engine/precision.ts';
import { writeEngine } from '../engine/write.ts';
import { TsrtError } from '../errors.ts';
import type { Registry } from '../registry.ts';
import { readCalibration } from './calibrate/suite.ts';
import { inModelFile, readModelFile } from './model-file.ts';
import { chooseDevices } from './probe.ts';
import { stepTimes } from './step-times.ts';
import { exportTactics } from './tuning.ts';

export interface BuildRequest {
  /** An ONNX file. */
  readonly model: string;
  readonly options: BuildOptions;
  /** Whether the options' batch takes the place of one that the model fixes; default true. */
  readonly rebatch?: boolean | undefined;
  /** Where the engine goes: a file ending in `.engine`, or a folder. */
  readonly output: string;
  readonly registry: Registry;
  /** Device to build for; undefined: the backend's first. */
  readonly device?: string | undefined;
  /** A calibration cache, for int8 and mixed. */
  readonly calibration?: string | undefined;
  readonly tuning?: TuningContext | undefined;
  /** File that receives the engine's tactics, to be frozen. */
  readonly exportTactics?: string | undefined;
  readonly onProgress?: BuildContext['onProgress'];
  readonly signal: AbortSignal | undefined;
}

export type BuildStep = CompileStep | 'write';

export interface BuildResult {
  readonly file: string;
  readonly sha256: string;
  readonly bytes: number;
  /** Wall time of reading, importing, building and writing. */
  readonly stepsMs: Readonly<Partial<Record<BuildStep, number>>>;
  /** Parts of the step `build`, as the backend names them: passes, kernels. */
  readonly buildStepsMs: Readonly<Record<string, number>>;
  /** Processor time of all threads, so that a build on a busy machine can be judged. */
  readonly cpuMs: number;
  /** Why the engine is not in the precision that was asked for; undefined where it is. */
  readonly unproven: string | undefined;
  readonly header: EngineHeader;
}

/** Builds one engine and writes it; a file appears under its name only when it is whole. */
export async function buildEngineFile(request: BuildRequest): Promise<BuildResult> {
  const { model, options, output, registry, signal } = request;
  const modelName = basename(model).replace(/\.onnx$/, '');
  const stepsMs: Partial<Record<BuildStep, number>> = {};
  const cpuBefore = process.cpuUsage();
  const times = stepTimes(request.onProgress);
  const backend = registry.backend(options.backend);
  const device = (await chooseDevices(request.device, [backend])).get(backend.name);
  const modelBytes = await readModelFile(model);
  const calibration = request.calibration === undefined ? undefined : await readCalibration(request.calibration);
  const engine = await inModelFile(model, () =>
    compileModel({
      modelBytes,
      modelName,
      folder: dirname(model),
      options,
      rebatch: request.rebatch,
      backend,
      customOps: registry.ops,
      calibration,
      context: { device, tuning: request.tuning, signal, onProgress: times.onProgress },
      onStep: (step, durationMs) => {
        stepsMs[step] = durationMs;
      },
    }),
  );
  const buildStepsMs = times.end();
  const startMs = performance.now();
  const file = output.endsWith('.engine') ? output : join(output, `${engineFileName(modelName, engine.header.options)}.engine`);
  const { bytes, sha256 } = await writeWhole(file, (part) => writeEngine(part, engine));
  stepsMs.write = performance.now() - startMs;
  const { user, system } = process.cpuUsage(cpuBefore);
  if (request.exportTactics !== undefined) await exportTactics(request.exportTactics, engine.header.tactics);
  return { file, sha256, bytes, stepsMs, buildStepsMs, cpuMs: (user + system) / 1000, unproven: unproven(engine.header), header: engine.header };
}

function unproven({ options: { precision }, layers }: EngineHeader): string | undefined {
  return precisionMismatch(precision, precisionShares(layers));
}

/** `resnet50-onnxruntime-fp32-fusion-on-b8`. */
export function engineFileName(model: string, options: BuildOptions): string {
  const extras = Object.entries(options.backendOptions).map(([key, value]) => `${key}-${value}`);
  return [model, options.backend, options.precision, `fusion-${options.fusion}`, ...extras, `b${options.batch}`].join('-').replace(/[^A-Za-z0-9._-]+/g, '_');
}

/** An engine's file, which appears under its name only when `write` has made the whole of it under another one. Throws RESULTS_UNWRITABLE. */
export async function writeWhole<T>(file: string, write: (part: string) => Promise<T>): Promise<T> {
  const part = `${file}.${process.pid}.part`;
  try {
    await mkdir(dirname(file), { recursive: true });
    const written = await write(part);
    await rename(part, file);
    return written;
  } catch (cause) {
    await rm(part, { force: true }).catch(() => undefined);
    if (cause instanceof TsrtError) throw cause;
    throw new TsrtError('RESULTS_UNWRITABLE', `the engine can't be written: ${cause instanceof Error ? cause.message : String(cause)}`, {
      place: file,
      fix: 'choose another place with --output, or make room',
      cause,
    });
  }
}
