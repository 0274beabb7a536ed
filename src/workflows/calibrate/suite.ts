/** Calibration as a suite describes it: its inputs, its dataset, its settings. `run` and `calibrate` share it. */
import { dirname, resolve } from 'node:path';
import type { BuildInput } from '../../backends/backend.ts';
import type { Binding, BuildOptions } from '../../engine/engine.ts';
import { TsrtError } from '../../errors.ts';
import { readModel } from '../../onnx/model.ts';
import { parseCalibration } from '../../quantize/calibration.ts';
import { type CalibratorOptions, isCalibrationMethod } from '../../quantize/calibrators.ts';
import { INTEGER_OPS } from '../../quantize/detect.ts';
import type { Registry } from '../../registry.ts';
import { readTextFile } from '../../text.ts';
import type { Dataset, DatasetPart } from '../../suite/source.ts';
import type { ResolvedModel } from '../../suite/models.ts';
import type { QuantizationSettings, Suite } from '../../suite/schema.ts';
import { openSuiteDataset } from '../suite-dataset.ts';
import { calibrate, type Calibrated, forBuild } from './calibrate.ts';
import type { GraphOptions } from './observe.ts';

export interface SuiteCalibrationRequest {
  readonly suite: Suite;
  /** Where plugins' datasets and calibrators are. */
  readonly registry: Registry;
  readonly model: Pick<ResolvedModel, 'name' | 'path'>;
  readonly modelBytes: Uint8Array;
  readonly options: GraphOptions;
  readonly settings: QuantizationSettings;
  /** Which samples of the suite's dataset; undefined: as many as the settings say of all. */
  readonly part: DatasetPart | undefined;
  readonly seed: number;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: (done: number, total: number) => void;
}

/** Calibrates on the suite's dataset, or on synthetic samples where it has none. */
export function calibrateSuite(request: SuiteCalibrationRequest): Promise<Calibrated> {
  const { model, modelBytes, options, settings, signal, onProgress } = request;
  const { method, scheme, percentile, biasCorrection, equalization, firstLayer, lastLayer } = settings;
  return calibrate({
    model: { name: model.name, bytes: modelBytes, folder: dirname(model.path) },
    options,
    calibrator: { method, scheme, percentile, ...customCalibrator(method, request.registry) },
    choices: { biasCorrection, equalization, firstLayer, lastLayer },
    customOps: request.registry.ops,
    openDataset: calibrationDataset(request),
    signal,
    onProgress,
  });
}

/** A method that is not the tool's own is a plugin's. Throws USAGE with the nearest name. */
function customCalibrator(method: string, registry: Registry): Pick<CalibratorOptions, 'custom'> {
  if (isCalibrationMethod(method)) return {};
  const calibrator = registry.calibrator(method);
  return { custom: (distribution, options) => calibrator.range(distribution, options) };
}

/** Opens the samples of a calibration once the model's inputs and outputs are known. */
export function calibrationDataset({ suite, registry, settings, part, seed, signal }: Pick<SuiteCalibrationRequest, 'suite' | 'registry' | 'settings' | 'part' | 'seed' | 'signal'>) {
  const { samples } = settings;
  return (inputs: readonly Binding[], outputs: readonly Binding[], batch: number): Promise<Dataset> =>
    openSuiteDataset(suite, registry, { inputs, outputs, batch, part, limit: samples, samples, seed, signal });
}

/**
 * The part of the dataset that a run of this suite calibrates on, or leaves to accuracy; undefined where it quantizes nothing. With
 * a cache too: `calibrate` takes the same part, so that accuracy is of samples that no range has seen.
 */
export function runPart({ variants, include, quantization }: Suite, take: DatasetPart['take']): DatasetPart | undefined {
  const quantizes = [...variants, ...include].some(({ precision }) => precision.includes('int8') || precision.includes('mixed'));
  return quantizes ? { take, calibrationSamples: quantization.samples } : undefined;
}

/**
 * The suite with as many samples set apart as its cache was calibrated on: `calibrate --samples` may have taken more than the suite says, and
 * accuracy would be of pictures that ranges were chosen for. Throws TsrtError CALIBRATION_INVALID for a cache that can't be read where a build wants
 * it: sooner than after the builds that come before.
 */
export async function setApartAsCalibrated(suite: Suite, wanted: boolean): Promise<Suite> {
  const { quantization, folder, file } = suite;
  if (quantization.calibration === undefined) return suite;
  const path = resolve(folder, quantization.calibration);
  const found = await readCalibration(path, `write one with tsrt-bench calibrate '${file}' --out '${path}' (--model and --dataset as for the run)`).catch((error: unknown) => {
    if (wanted) throw error;
  });
  return found ? { ...suite, quantization: { ...quantization, samples: found.cache.dataset.samples } } : suite;
}

const OWN_SCALES: ReadonlySet<string> = new Set(['DequantizeLinear', ...INTEGER_OPS]);

/**
 * What builds of int8 variants take: the suite's cache, or a calibration made now, once for the same graph. Undefined for a
 * model that comes with scales of its own. fp16 takes the cache, where there is one that fits, to find values that no half holds.
 */
export function calibrationSource(
  request: Omit<SuiteCalibrationRequest, 'options' | 'settings' | 'part'> & { readonly onNotice: (text: string) => void },
): (options: GraphOptions & Pick<BuildOptions, 'precision'>) => Promise<BuildInput['calibration']> {
  const { suite, model, modelBytes, onNotice } = request;
  const made = new Map<string, Promise<BuildInput['calibration']>>();
  const make = async (options: GraphOptions): Promise<BuildInput['calibration']> => {
    const { nodes } = readModel(modelBytes, { folder: dirname(model.path) });
    if (nodes.some(({ opType }) => OWN_SCALES.has(opType))) return undefined;
    const { quantization: settings } = suite;
    if (settings.calibration !== undefined) {
      return readCalibration(resolve(suite.folder, settings.calibration));
    }
    const { calibration, text, notices } = await calibrateSuite({ ...request, options, settings, part: runPart(suite, 'calibration') });
    for (const notice of notices) onNotice(notice);
    onNotice(`int8 ranges by ${calibration.method} from ${calibration.dataset.description}; accuracy is assessed on other samples`);
    return forBuild(calibration, text);
  };
  return ({ precision, fusion, disabledPasses, dims, inputShapes }) => {
    const options: GraphOptions = { fusion, disabledPasses, dims, inputShapes };
    if (precision === 'fp16') return suite.quantization.calibration === undefined ? Promise.resolve(undefined) : fitting(resolve(suite.folder, suite.quantization.calibration), options);
    const key = JSON.stringify(options);
    const known = made.get(key) ?? make(options);
    made.set(key, known);
    return known;
  };
}

/** A cache for what can do without one: undefined where it was made with other passes. */
async function fitting(path: string, { fusion, disabledPasses }: GraphOptions): Promise<BuildInput['calibration']> {
  const found = await readCalibration(path);
  const same = found.cache.graph.fusion === fusion && [...found.cache.graph.disabledPasses].sort().join() === [...disabledPasses].sort().join();
  return same ? found : undefined;
}

/** A cache as builds take it. Throws TsrtError CALIBRATION_INVALID for a file that is none, with the way to one. */
export async function readCalibration(path: string, fix = 'write one with tsrt-bench calibrate SUITE --out FILE'): Promise<NonNullable<BuildInput['calibration']>> {
  const text = await readTextFile(path).catch((cause: unknown) => {
    throw new TsrtError('CALIBRATION_INVALID', "the calibration can't be read", { place: path, fix, cause });
  });
  return forBuild(parseCalibration(text, path), text);
}
