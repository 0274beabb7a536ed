/** The dataset that a suite names, opened for a model's inputs. Runs and calibrations share it. */
import { resolve } from 'node:path';
import { TsrtError } from '../errors.ts';
import type { Registry } from '../registry.ts';
import { outputName } from '../suite/accuracy.ts';
import { openDataset, requireDataset } from '../suite/datasets.ts';
import type { Suite } from '../suite/schema.ts';
import type { Dataset, DatasetRequest } from '../suite/source.ts';
import type { Binding } from '../engine/engine.ts';
import { classCount } from './run/reference.ts';

/** What the suite does not say: the model's own side, and how many samples of which part. */
export interface SuiteDatasetRequest extends Pick<DatasetRequest, 'batch' | 'part' | 'limit' | 'samples' | 'pictures' | 'seed' | 'signal'> {
  readonly inputs: readonly Binding[];
  readonly outputs: readonly Binding[];
}

/** Whether the suite says what its model reads: without a word of it, inputs are numbers made up by their types. */
export function saysInputs({ inputs, dataset }: Suite): boolean {
  return inputs.length > 0 || dataset.source !== undefined || dataset.path !== undefined;
}

/** Throws SUITE_INVALID for a suite that says nothing of its inputs: ranges of made-up numbers would be taken for those of data. */
export function requireInputs(suite: Suite): void {
  if (saysInputs(suite)) return;
  throw new TsrtError('SUITE_INVALID', "nothing describes the model's inputs, and ranges from made-up numbers would mean nothing", {
    place: suite.file,
    fix: 'give samples: --dataset FILE.npz with an array for each input; or take a suite that describes the inputs, with --model FILE and --dataset DIR',
  });
}

/** What can be said of the dataset before there is a model: nobody waits for a build to read of a folder's typo. Throws as {@link openSuiteDataset}. */
export async function checkSuiteDataset({ dataset: { source, path }, folder }: Suite, registry: Registry): Promise<void> {
  if (source !== undefined) registry.dataset(source);
  else if (path !== undefined) await requireDataset(resolve(folder, path));
}

/** Throws DATASET_INVALID, SUITE_INVALID, and USAGE for a source that no plugin gives. */
export function openSuiteDataset(suite: Suite, registry: Registry, { inputs, outputs, ...wanted }: SuiteDatasetRequest): Promise<Dataset> {
  const { source, path, labels, labelOffset, skipBroken } = suite.dataset;
  const named = suite.task.kind === 'raw' ? undefined : outputName(suite.task.output, outputs.map(({ name }) => name));
  const scores = suite.task.kind === 'classification' ? named : undefined;
  return openDataset({
    ...wanted,
    inputs: suite.inputs,
    bindings: inputs,
    source: source === undefined ? undefined : registry.dataset(source),
    folder: path === undefined ? undefined : resolve(suite.folder, path),
    classes: classCount(outputs.find(({ name }) => name === scores)),
    labelsFile: labels,
    labelOffset,
    skipBroken,
  });
}
