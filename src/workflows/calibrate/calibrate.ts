/** From observed activations to a calibration cache. */
import { sha256Hex } from '../../engine/sha256.ts';
import type { BuildInput } from '../../backends/backend.ts';
import { type Calibration, formatCalibration, type QuantizationChoices } from '../../quantize/calibration.ts';
import type { CalibratorOptions } from '../../quantize/calibrators.ts';
import { TOOL_VERSION } from '../../version.ts';
import { observeActivations, type ObserveRequest } from './observe.ts';

export interface CalibrateRequest extends Omit<ObserveRequest, 'scheme' | 'equalization'> {
  readonly calibrator: CalibratorOptions;
  readonly choices: Omit<QuantizationChoices, 'keep'>;
}

export interface Calibrated {
  readonly calibration: Calibration;
  /** The cache's text, as it is to be written. */
  readonly text: string;
  readonly notices: readonly string[];
}

/** Throws what {@link observeActivations} throws. */
export async function calibrate(request: CalibrateRequest): Promise<Calibrated> {
  const { calibrator, choices, model, options } = request;
  const { collector, beyondHalf, dataset, samples, modelSha256, notices } = await observeActivations({ ...request, scheme: calibrator.scheme, equalization: choices.equalization });
  const tensors = collector.result(calibrator);
  const calibration: Calibration = {
    kind: 'tsrt-bench calibration',
    formatVersion: 1,
    tool: TOOL_VERSION,
    model: { name: model.name, sha256: modelSha256 },
    graph: { fusion: options.fusion, disabledPasses: [...options.disabledPasses] },
    dataset: { description: dataset.description, ...(dataset.sha256 !== undefined && { sha256: dataset.sha256 }), samples },
    method: calibrator.method,
    scheme: calibrator.scheme,
    percentile: calibrator.percentile,
    quantization: { ...choices, keep: [] },
    beyondHalf: [...beyondHalf],
    tensors,
  };
  const broken = [...collector.distributions()].filter(([, { nonFinite }]) => nonFinite > 0).map(([id]) => id);
  const left = broken.length === 0 ? [] : [`${broken.length} tensors held NaN or infinity during calibration, which was left out; the first is ${broken[0]}`];
  return { calibration, text: formatCalibration(calibration), notices: [...notices, ...left] };
}

/** A cache in the form that a build takes. */
export async function forBuild(cache: Calibration, text: string): Promise<NonNullable<BuildInput['calibration']>> {
  const sha256 = await sha256Hex(new TextEncoder().encode(text));
  return { cache, stamp: { sha256, method: cache.method, dataset: cache.dataset.description } };
}
