/**
 * `profile`: where the time of an engine goes, layer by layer, beside what the device could do.
 *
 * Layers are timed by the backend's own means (timestamp queries on a GPU) several times over, and medians are taken; the same engine
 * is timed whole by the wall clock, so that the sum can be held against something. In this process: nothing here is compared
 * with another engine's time.
 */
import { basename } from 'node:path';
import type { Backend, DevicePeaks, LayerTime, Session, TensorMap } from '../backends/backend.ts';
import type { Engine, EngineHeader } from '../engine/engine.ts';
import { readEngine } from '../engine/read.ts';
import { TsrtError } from '../errors.ts';
import { createSessionClock, createSystemClock, type TimeSource } from '../measure/clock.ts';
import { seededInputs } from '../measure/inputs.ts';
import type { Registry } from '../registry.ts';
import { type ProfiledLayer, roofline, type Roofline } from '../report/roofline.ts';
import { quantile, sortSamples } from '../stats/samples.ts';
import { readEngineFile, refusedEngines, requireLoaded, whyNotHere } from './engine-file.ts';
import { chooseDevices, deviceOf, probeBackend } from './probe.ts';
import { checkRequest } from './request.ts';
import type { RunRequest } from './run/request.ts';
import { withSuiteEngines } from './run/suite-engines.ts';

export interface ProfileSettings {
  /** Times that every layer is timed. */
  readonly runs: number;
  readonly seed: number;
  readonly signal: AbortSignal;
}

/** One engine's profile. */
export interface EngineProfile {
  /** The engine's file, or its variant. */
  readonly title: string;
  readonly device: { readonly slug: string; readonly description: string };
  readonly runs: number;
  /** Where the backend can measure them. */
  readonly peaks: DevicePeaks | undefined;
  readonly roofline: Roofline;
}

/** Profiles an engine file. Throws TsrtError for a file that is no engine, or one of another device or version. */
export async function profileFile(file: string, request: ProfileSettings & { readonly registry: Registry; readonly device: string | undefined }): Promise<EngineProfile> {
  const read = await readEngineFile(file);
  requireLoaded([read], request.registry.stamps);
  const backend = request.registry.backend(read.header.backend);
  const device = (await chooseDevices(request.device, [backend])).get(backend.name);
  const reasons = whyNotHere(read, await probeBackend(backend, device), request.registry.stamps);
  if (reasons.length > 0) throw refusedEngines([{ file, reasons }], 'build it again for this device, with tsrt-bench build');
  return profileEngine(basename(file), await readEngine(file), backend, device, request);
}

/** Profiles every variant of a suite that can be built. Throws TsrtError where none can. */
export async function profileSuite(run: RunRequest, settings: ProfileSettings): Promise<readonly EngineProfile[]> {
  return withSuiteEngines(run, async ({ probe }, outcomes) => {
    const profiles: EngineProfile[] = [];
    const missing: string[] = [];
    for (const [title, outcome] of outcomes) {
      if (outcome.status === 'built') profiles.push(await profileEngine(title, await readEngine(outcome.path), outcome.backend, deviceOf(await probe(outcome.backend)), settings));
      else missing.push(`${title}: ${outcome.status === 'skipped' ? outcome.reason : outcome.error.message}`);
    }
    for (const text of missing) run.onEvent({ kind: 'notice', text });
    if (profiles.length > 0) return profiles;
    throw new TsrtError('MODEL_UNSUPPORTED', 'no variant of the suite can be profiled', { details: missing, fix: 'choose another with --backend and --precision' });
  });
}

async function profileEngine(title: string, engine: Engine, backend: Backend, device: string | undefined, settings: ProfileSettings): Promise<EngineProfile> {
  const { runs, seed, signal } = settings;
  const session = await backend.load(engine, { device, signal });
  try {
    if (!session.profile) {
      throw new TsrtError('USAGE', `${backend.name} can't time layers on ${session.device.description}`, { fix: 'profile it on a device with timestamp queries, or with another backend' });
    }
    checkRequest(session.inputs, session.header.options.batch);
    const inputs = seededInputs(session.inputs, seed, 'full');
    const clock = session.clock ? createSessionClock(session.clock) : createSystemClock();
    await warmUp(session, inputs, clock);
    const peaks = await session.peaks?.();
    const wallNs = await wallTime(session, inputs, clock, signal);
    const times: (readonly LayerTime[])[] = [];
    for (let i = 0; i < runs; i++) {
      signal.throwIfAborted();
      times.push(await session.profile(inputs));
    }
    const { slug, description } = session.device;
    return { title, device: { slug, description }, runs, peaks, roofline: roofline(layersOf(engine.header, times), wallNs, peaks) };
  } finally {
    await session.dispose();
  }
}

/** Work before anything is timed: an idle device has a resting clock. By the session's clock, so that a fake one need not wait. */
const WARM_NS = { gpu: 1e9, cpu: 1e8, fake: 0 } as const;

async function warmUp(session: Session, inputs: TensorMap, clock: TimeSource): Promise<void> {
  const fromNs = clock.nowNs();
  do await session.run(inputs);
  while (clock.nowNs() - fromNs < WARM_NS[session.device.kind]);
}

/** A reading lasts at least so long, and there are so many. */
const READING_NS = 5e7;
const READINGS = 5;
const MOST_EXECUTIONS = 4096;

/** Time of one execution among others, without transfers. */
async function wallTime(session: Session, inputs: TensorMap, clock: TimeSource, signal: AbortSignal): Promise<number> {
  const execution = await session.prepare(inputs);
  const timed = async (count: number): Promise<number> => {
    signal.throwIfAborted();
    const fromNs = clock.nowNs();
    await execution.execute(count);
    return clock.nowNs() - fromNs;
  };
  try {
    let count = 1;
    while (count < MOST_EXECUTIONS && (await timed(count)) < READING_NS) count *= 2;
    const readings: number[] = [];
    for (let i = 0; i < READINGS; i++) readings.push((await timed(count)) / count);
    return quantile(sortSamples(readings), 0.5);
  } finally {
    await execution.dispose();
  }
}

/** Medians by layer, with what the engine says of each; a layer that it does not list is the backend's own. */
function layersOf({ layers }: Pick<EngineHeader, 'layers'>, times: readonly (readonly LayerTime[])[]): ProfiledLayer[] {
  const byName = new Map(layers.map((layer) => [layer.name, layer]));
  return times[0]!.map(({ layer: name, bytes, alsoDid = [] }, i): ProfiledLayer => {
    const known = layers[i]?.name === name ? layers[i] : byName.get(name);
    const others = alsoDid.flatMap((other) => byName.get(other) ?? []);
    const durationNs = quantile(sortSamples(times.map((run) => run[i]?.durationNs ?? 0)), 0.5);
    const { kind = 'other', precision = 'float32', tactic } = known ?? {};
    const done = [...others.toReversed(), ...(known ? [known] : [])];
    return {
      name,
      kind: [...others.toReversed().map((other) => other.kind), kind].join('+'),
      precision,
      tactic,
      origins: [...new Set(done.flatMap(({ origins = [] }) => origins))],
      flops: done.reduce((sum, { flops }) => sum + flops, 0),
      // What passes between them need not reach memory.
      bytes: bytes ?? Math.max(0, ...done.map((layer) => layer.bytes)),
      durationNs,
    };
  });
}
