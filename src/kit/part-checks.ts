/**
 * The checks of a plugin's parts that are no ops, each against its contract once: what a backend builds, a dataset yields, a calibrator
 * chooses, a reporter writes, a suite says. They run the plugin's code, so they run in the kit's worker process.
 */
import { createHash } from 'node:crypto';
import { reportError, TsrtError } from '../errors.ts';
import type { Calibrator } from '../plugin.ts';
import { createObserver } from '../quantize/observer.ts';
import { SCHEMES } from '../quantize/params.ts';
import type { Registry } from '../registry.ts';
import type { Reporter } from '../report/reporter.ts';
import type { BenchRecord } from '../results/record.ts';
import { openDataset } from '../suite/datasets.ts';
import { loadSuite } from '../suite/load.ts';
import { randomNormal, streamKey } from '../suite/random.ts';
import type { Dataset, DatasetRequest, DatasetSource } from '../suite/source.ts';
import { checkBackend, Unchecked } from './backend-part.ts';
import { Nonconforming } from './nonconforming.ts';

/** A part as the registry finds it. */
export interface PartName {
  readonly kind: 'backend' | 'dataset' | 'calibrator' | 'reporter' | 'suite';
  readonly name: string;
}

/** What the checks work with. Data only. */
export interface PartMaterial {
  /** A folder for the datasets, absolute; undefined: none. */
  readonly datasetFolder: string | undefined;
  readonly seed: number;
  /** Records of every status, for reporters. */
  readonly records: readonly BenchRecord[];
}

export type PartVerdict =
  | { readonly status: 'passed' }
  /** What failed, or why it was not checked. */
  | { readonly status: 'failed' | 'skipped'; readonly message: string };

/** Checks one part. What it throws is a finding. */
export async function judgePart(registry: Registry, part: PartName, material: PartMaterial): Promise<PartVerdict> {
  try {
    await checkPart(registry, part, material);
    return { status: 'passed' };
  } catch (error) {
    if (error instanceof Unchecked) return { status: 'skipped', message: error.message };
    const { message, details = [], place } = reportError(error);
    return { status: 'failed', message: [message, ...details, ...(place === undefined ? [] : [`at ${place}`])].join('; ') };
  }
}

/** Parts come from the registry, which puts the plugin's name on what its code throws. */
async function checkPart(registry: Registry, { kind, name }: PartName, { datasetFolder, seed, records }: PartMaterial): Promise<void> {
  switch (kind) {
    case 'backend':
      return checkBackend(registry.backend(name));
    case 'dataset':
      return checkDataset(registry.dataset(name), datasetFolder, seed);
    case 'calibrator':
      return checkCalibrator(registry.calibrator(name), seed);
    case 'reporter':
      return checkReporter(registry.reporter(name), records);
    case 'suite':
      return void (await loadSuite(registry.suites.get(name)!));
    default:
      return kind satisfies never;
  }
}

const BATCH = 2;
const IMAGE = { name: 'x', dtype: 'float32', dims: [BATCH, 3, 8, 8] } as const;

/** What a suite with one image input of 8 × 8 would ask for. */
function datasetRequest(source: DatasetSource, folder: string | undefined, seed: number): DatasetRequest {
  const preprocess = { crop: { width: 8, height: 8 }, color: 'rgb', range: [0, 1], mean: [0, 0, 0], std: [1, 1, 1], layout: 'NCHW' } as const;
  const inputs = [{ kind: 'image', preprocess }] as unknown as DatasetRequest['inputs'];
  return { inputs, bindings: [IMAGE], batch: BATCH, source, folder, classes: 1000, labelsFile: undefined, labelOffset: 0, limit: 8, skipBroken: false, samples: 5, seed };
}

/** Shapes as declared, counts that add up, and the same twice. */
async function checkDataset(source: DatasetSource, folder: string | undefined, seed: number): Promise<void> {
  if (source.images && folder === undefined) throw new Unchecked('it reads pictures from a folder: name one with --dataset');
  const open = async (): Promise<Dataset> =>
    openDataset(datasetRequest(source, folder, seed)).catch((error: unknown) => {
      if (folder === undefined && error instanceof TsrtError && error.code !== 'PLUGIN_FAILED') throw new Unchecked(`without a folder it says: ${error.message}; name one with --dataset`);
      throw error;
    });
  const [first, second] = [await readAll(await open()), await readAll(await open())];
  if (first !== second) throw new Nonconforming('two readings of it differ: every run must see the same samples in the same order');
}

/** A hash of all that it yields. The registry's dataset refuses what does not fit the request. */
async function readAll(dataset: Dataset): Promise<string> {
  const total = createHash('sha256').update(String(dataset.sha256));
  for await (const { inputs, labels, names } of dataset.batches()) total.update(inputs[IMAGE.name]!.data).update(JSON.stringify([labels, names]));
  return total.digest('hex');
}

/** Values as activations have them: of one sign, of both, with a few far out, all zero. */
function distributions(seed: number): readonly (readonly [string, ReturnType<ReturnType<typeof createObserver>['distribution']>])[] {
  const normal = Array.from({ length: 2000 }, (_, i) => randomNormal(streamKey(seed, 'calibrator'), i));
  const kinds: readonly (readonly [string, readonly number[]])[] = [
    ['normal values', normal],
    ['values from 0 up', normal.map((value) => Math.max(0, value))],
    ['values below 0', normal.map((value) => -1 - Math.abs(value))],
    ['normal values with an outlier of 1000', [...normal, 1000]],
    ['zeros alone', [0, 0, 0]],
  ];
  return kinds.map(([title, values]) => {
    const observer = createObserver();
    observer.add(Float32Array.from(values));
    return [title, observer.distribution()] as const;
  });
}

function checkCalibrator(calibrator: Calibrator, seed: number): void {
  for (const [title, distribution] of distributions(seed)) {
    for (const scheme of SCHEMES) {
      const { low, high } = calibrator.range(distribution, { scheme });
      if (!(Number.isFinite(low) && Number.isFinite(high) && low <= 0 && high >= 0)) throw new Nonconforming(`of ${title} it makes the range ${low} to ${high}: finite numbers, zero among them`);
      const again = calibrator.range(distribution, { scheme });
      if (again.low !== low || again.high !== high) throw new Nonconforming(`of ${title} it makes ${low} to ${high}, then ${again.low} to ${again.high}`);
    }
  }
}

/** Nothing to report, everything at once, and the same text twice. */
async function checkReporter(reporter: Reporter, records: readonly BenchRecord[]): Promise<void> {
  for (const [what, some] of [['no records', []], [`${records.length} records`, records]] as const) {
    const render = () => reporter.render({ suite: 'kit', records: some, baselineVariant: undefined, color: false, width: 80 });
    const text = await render();
    if ((await render()) !== text) throw new Nonconforming(`render gives two texts for ${what}: it must not know the time, nor anything but its input`);
  }
}
