/** `calibrate`: write a cache, or compare samples with one. */
import { dirname } from 'node:path';
import type { Config } from '../../config.ts';
import { TsrtError } from '../../errors.ts';
import { checkCalibration } from '../../quantize/calibration.ts';
import { compareDrift, type TensorDrift } from '../../quantize/drift.ts';
import type { Scheme } from '../../quantize/params.ts';
import { alignedGrid } from '../../report/grid.ts';
import { plural } from '../../report/units.ts';
import { overrideSuite, type SuiteOverrides } from '../../suite/expand.ts';
import { loadSuite } from '../../suite/load.ts';
import { resolveModel } from '../../suite/models.ts';
import type { QuantizationSettings, Suite } from '../../suite/schema.ts';
import { shellWord } from '../../text.ts';
import type { OnRunEvent } from '../events.ts';
import { readModelFile } from '../model-file.ts';
import { openRegistry } from '../registry.ts';
import { writeText } from '../output.ts';
import { requireInputs } from '../suite-dataset.ts';
import { observeActivations, type GraphOptions } from './observe.ts';
import { calibrateSuite, calibrationDataset, readCalibration } from './suite.ts';

export interface CalibrateCommandRequest {
  readonly suite: string;
  readonly modelFile: string | undefined;
  /** Of the suite. */
  readonly overrides: Pick<SuiteOverrides, 'dataset' | 'dims' | 'inputShapes'>;
  readonly samples: number | undefined;
  readonly method: string | undefined;
  readonly scheme: Scheme | undefined;
  readonly percentile: string | undefined;
  readonly out: string | undefined;
  /** A cache to compare with. */
  readonly check: string | undefined;
  readonly config: Config;
  readonly signal: AbortSignal;
  readonly onEvent: OnRunEvent;
}

export type CalibrateCommandResult =
  | {
      readonly kind: 'calibrated';
      readonly file: string;
      readonly method: string;
      readonly dataset: string;
      readonly samples: number;
      readonly tensors: number;
      /** The largest share of one tensor that its range leaves out. */
      readonly mostClipped: { readonly tensor: string; readonly share: number } | undefined;
      readonly notices: readonly string[];
    }
  | {
      readonly kind: 'checked';
      readonly calibratedOn: string;
      readonly dataset: string;
      readonly samples: number;
      /** Tensors that clip or have moved beyond what another sample of the same pictures gives. */
      readonly suspicious: number;
      /** The worst first. */
      readonly tensors: readonly TensorDrift[];
    };

/** Throws TsrtError for a suite, model, dataset or cache that can't be used. */
export async function calibrateCommand(request: CalibrateCommandRequest): Promise<CalibrateCommandResult> {
  const { config, signal, onEvent } = request;
  const registry = await openRegistry(config.plugins);
  const suite = overrideSuite(await loadSuite(request.suite, { cwd: process.cwd(), plugins: registry.suites }), request.overrides);
  requireInputs(suite);
  onEvent({ kind: 'stage', stage: 'model', text: request.modelFile ?? suite.model.name });
  const model = await resolveModel(suite, { modelFile: request.modelFile, cacheFolder: config.cache, signal });
  const common = {
    suite,
    registry,
    model,
    modelBytes: await readModelFile(model.path),
    seed: config.seed,
    signal,
    onProgress: (done: number, total: number) => onEvent({ kind: 'progress', stage: 'dataset', label: 'observed', done, total, unit: 'samples' }),
  };
  if (request.check !== undefined) return check(request, common, request.check);

  const settings = settingsOf(request, suite);
  // A folder of its own is used whole; of the suite's, the part that runs leave out of accuracy.
  const part = request.overrides.dataset === undefined ? ({ take: 'calibration', calibrationSamples: settings.samples } as const) : undefined;
  const { calibration, text, notices } = await calibrateSuite({ ...common, options: optionsOf(suite), settings, part });
  const file = request.out ?? `${model.name}.calibration.json`;
  await writeText(file, text);
  const clipped = Object.entries(calibration.tensors).sort(([, a], [, b]) => b.clippedShare - a.clippedShare)[0];
  return {
    kind: 'calibrated',
    file,
    method: calibration.method,
    dataset: calibration.dataset.description,
    samples: calibration.dataset.samples,
    tensors: Object.keys(calibration.tensors).length,
    mostClipped: clipped && { tensor: clipped[0], share: clipped[1].clippedShare },
    notices: [...model.notices, ...notices],
  };
}

type Common = Pick<Parameters<typeof calibrateSuite>[0], 'suite' | 'registry' | 'model' | 'modelBytes' | 'seed' | 'signal' | 'onProgress'>;

async function check(request: CalibrateCommandRequest, common: Common, file: string): Promise<CalibrateCommandResult> {
  const { cache } = await readCalibration(file);
  const { suite, model, modelBytes } = common;
  const settings = settingsOf(request, suite);
  const { collector, dataset, samples, modelSha256 } = await observeActivations({
    model: { name: model.name, bytes: modelBytes, folder: dirname(model.path) },
    options: { ...optionsOf(suite), fusion: cache.graph.fusion, disabledPasses: cache.graph.disabledPasses },
    customOps: common.registry.ops,
    scheme: cache.scheme,
    equalization: cache.quantization.equalization,
    openDataset: calibrationDataset({ ...common, settings, part: undefined }),
    signal: common.signal,
    onProgress: common.onProgress,
  });
  checkCalibration(cache, { model: { name: model.name, sha256: modelSha256 }, ...cache.graph });
  const tensors = compareDrift(cache, collector.distributions());
  const suspicious = tensors.filter((row) => row.suspicious).length;
  return { kind: 'checked', calibratedOn: cache.dataset.description, dataset: dataset.description, samples, suspicious, tensors };
}

/** Calibration is of the fused graph, without the passes that the suite switches off everywhere. */
function optionsOf({ dims, inputShapes }: Suite): GraphOptions {
  return { fusion: 'on', disabledPasses: [], dims, inputShapes };
}

function settingsOf({ samples, method, scheme, percentile }: CalibrateCommandRequest, { quantization }: Suite): QuantizationSettings {
  const chosen = method ?? quantization.method;
  if (percentile !== undefined && chosen !== 'percentile') throw new TsrtError('USAGE', `--percentile is for the method percentile, but the method is ${chosen}`, { fix: 'add --method percentile, or leave it out' });
  return {
    ...quantization,
    ...(samples !== undefined && { samples }),
    ...(method !== undefined && { method }),
    ...(scheme !== undefined && { scheme }),
    ...(percentile !== undefined && { percentile: percentileOf(percentile) }),
  };
}

function percentileOf(text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && value > 0 && value <= 100) return value;
  throw new TsrtError('USAGE', `--percentile takes a number above 0 and at most 100, found '${text}'`, { fix: 'for example: --percentile 99.99' });
}

const SHOWN = 8;

/** What is printed. */
export function describeCalibration(result: CalibrateCommandResult): string[] {
  if (result.kind === 'calibrated') {
    const { file, method, dataset, samples, tensors, mostClipped, notices } = result;
    return [
      `calibration  ${file}`,
      `ranges       ${plural(tensors, 'tensor')} by ${method}, from ${plural(samples, 'sample')} of ${dataset}`,
      ...(mostClipped && mostClipped.share > 0 ? [`clipped      at most ${percent(mostClipped.share)}, of ${mostClipped.tensor}`] : []),
      ...notices.map((text) => `note         ${text}`),
      `next         tsrt-bench build MODEL --precision int8 --calibration ${shellWord(file)}`,
    ];
  }
  const rows = result.tensors.slice(0, SHOWN).map((row) => [row.suspicious ? '!' : '', row.tensor, percent(row.clippedShare), percent(row.calibratedClippedShare), `${Math.round(100 * row.drift)} %`]);
  const worst = result.tensors[0];
  return [
    `calibrated   on ${result.calibratedOn}`,
    `seen         ${plural(result.samples, 'sample')} of ${result.dataset}`,
    alignedGrid({ heads: ['', 'tensor', 'clips', 'clipped then', 'range moved by'], aligns: ['left', 'left', 'right', 'right', 'right'], rows }),
    result.suspicious === 0
      ? `ok           the ranges fit: no tensor of ${result.tensors.length} clips or has moved beyond what chance gives`
      : `warning      ${result.suspicious} of ${result.tensors.length} tensors do not fit these samples, ${worst?.tensor} the least; calibrate on samples like those that the model will see`,
  ];
}

function percent(share: number): string {
  return `${Number((100 * share).toPrecision(2))} %`;
}
