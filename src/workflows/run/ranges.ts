/**
 * Do the calibrated ranges fit what the accuracy run sees? A few samples go through the float graph on onnxruntime, and each tensor's
 * values are compared with the range that int8 engines were built with: a set of day pictures quantizes a model that will see night.
 */
import { dirname } from 'node:path';
import type { BuildInput } from '../../backends/backend.ts';
import type { BuildOptions } from '../../engine/engine.ts';
import { compareDrift } from '../../quantize/drift.ts';
import type { RangeReading } from '../../results/record.ts';
import { calibrationDataset, runPart } from '../calibrate/suite.ts';
import { observeActivations } from '../calibrate/observe.ts';
import { type AccuracyOutcome, numericsKey } from './accuracy.ts';
import type { BuiltEngine } from './engines.ts';
import type { Sweep } from './sweep.ts';

/** Seen of the samples that accuracy is assessed on: enough for the ends of the bulk, few enough to take seconds. */
const SAMPLES = 8;

/** The outcomes with a reading of the ranges, where an engine has any; calibrations are those that the engines were built with. */
export async function withRanges(
  sweep: Sweep,
  engines: readonly BuiltEngine[],
  outcomes: ReadonlyMap<string, AccuracyOutcome>,
  calibration: (options: BuildOptions) => Promise<BuildInput['calibration']>,
): Promise<ReadonlyMap<string, AccuracyOutcome>> {
  const readings = new Map<string, Promise<RangeReading>>();
  const result = new Map(outcomes);
  for (const { variant: { options }, header, prebuilt, sha256 } of engines) {
    const key = numericsKey(options, prebuilt && sha256);
    const outcome = outcomes.get(key);
    const isInt8 = options.precision === 'int8' || options.precision === 'mixed';
    if (!isInt8 || !header.calibration || outcome?.status !== 'assessed' || result.get(key) !== outcome) continue;
    // From the run that is resumed.
    if (outcome.result.reading.ranges) continue;
    const found = await calibration(options);
    // An engine file may have been calibrated on something else.
    if (found?.stamp.sha256 !== header.calibration.sha256) continue;
    const reading = readings.get(found.stamp.sha256) ?? rangesOf(sweep, options, found.cache);
    readings.set(found.stamp.sha256, reading);
    result.set(key, { ...outcome, result: { ...outcome.result, reading: { ...outcome.result.reading, ranges: await reading } } });
  }
  return result;
}

async function rangesOf(sweep: Sweep, options: BuildOptions, cache: NonNullable<BuildInput['calibration']>['cache']): Promise<RangeReading> {
  const { suite, registry, model, modelBytes, request } = sweep;
  const { signal, onEvent } = request;
  const { collector, samples } = await observeActivations({
    model: { name: model.name, bytes: modelBytes, folder: dirname(model.path) },
    options: { ...options, ...cache.graph },
    customOps: registry.ops,
    scheme: cache.scheme,
    equalization: cache.quantization.equalization,
    openDataset: calibrationDataset({
      suite,
      registry,
      settings: { ...suite.quantization, samples: Math.min(SAMPLES, request.limit ?? SAMPLES) },
      part: runPart(suite, 'rest'),
      seed: request.settings.config.seed,
      signal,
    }),
    signal,
    onProgress: (done, total) => onEvent({ kind: 'progress', stage: 'accuracy', label: 'int8 ranges', done, total, unit: 'samples' }),
  });
  const tensors = compareDrift(cache, collector.distributions()).map(({ tensor, clippedShare, drift, suspicious }) => ({ tensor, clippedShare, drift, suspicious }));
  return { samples, tensors };
}
