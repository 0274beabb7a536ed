/** The engines of a sweep: one call for every command that builds what a suite says. */
import { pixelInputs } from '../../suite/pixels.ts';
import { calibrationSource } from '../calibrate/suite.ts';
import { tuningContext } from '../tuning.ts';
import { buildEngines, type EngineOutcome } from './engines.ts';
import type { Sweep } from './sweep.ts';

/** Where the sweep's int8 ranges come from: asked again, it gives the same. */
export function sweepCalibration({ request, registry, suite, model, modelBytes }: Omit<Sweep, 'context'>): ReturnType<typeof calibrationSource> {
  const { settings, signal, onEvent } = request;
  return calibrationSource({
    suite,
    registry,
    model,
    modelBytes,
    seed: settings.config.seed,
    signal,
    onProgress: (done, total) => onEvent({ kind: 'progress', stage: 'build', label: 'calibrating', done, total, unit: 'samples' }),
    onNotice: (text) => onEvent({ kind: 'notice', text }),
  });
}

interface SweepChoices {
  /** How often each engine is built, so that build times can be compared; default: as the suite says. */
  readonly builds?: number;
  /** Default: the sweep's own. */
  readonly calibration?: ReturnType<typeof calibrationSource>;
}

export async function buildSweep(sweep: Omit<Sweep, 'context'>, { builds, calibration = sweepCalibration(sweep) }: SweepChoices = {}): Promise<ReadonlyMap<string, EngineOutcome>> {
  const { request, cases, prebuilt, kept, registry, probe, suite, model, modelBytes, folder } = sweep;
  const { settings, signal, onEvent } = request;
  return buildEngines({
    cases,
    prebuilt,
    kept,
    model: { name: model.name, bytes: modelBytes, path: model.path },
    registry,
    probe,
    calibration,
    pixels: (inputs) => pixelInputs(suite.inputs, inputs),
    builds: builds ?? suite.measure.builds,
    tuning: await tuningContext(request.tuning ?? {}, settings.config.cache),
    folder,
    signal,
    onEvent,
  });
}
