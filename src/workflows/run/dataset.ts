/** The dataset of a sweep: what the suite and the flags say, opened for the inputs of its engines. */
import { resolve } from 'node:path';
import { outputName } from '../../suite/accuracy.ts';
import { openDataset } from '../../suite/datasets.ts';
import { modelInputs } from '../../suite/pixels.ts';
import type { Dataset } from '../../suite/source.ts';
import { runPart } from '../calibrate/suite.ts';
import type { BuiltEngine } from './engines.ts';
import { classCount } from './reference.ts';
import type { Sweep } from './sweep.ts';

/** The suite's dataset in batches of `batch`; `limit` is how many samples are wanted, where that is fewer. */
export async function datasetOf({ request, suite, registry }: Sweep, engines: readonly BuiltEngine[], batch: number, limit: number | undefined): Promise<Dataset> {
  const engine = engines.find(({ variant }) => variant.options.batch === batch);
  if (!engine) throw new Error(`no engine of batch ${batch}`);
  const { outputs } = engine.header;
  const scores = suite.task.kind === 'classification' ? outputName(suite.task.output, outputs.map(({ name }) => name)) : undefined;
  const { source, path, labels, labelOffset, skipBroken } = suite.dataset;
  // Pictures that turn out to be broken are replaced by the next: how many will do is not known beforehand.
  const wanted = skipBroken ? request.limit : (limit ?? request.limit);
  return openDataset({
    inputs: suite.inputs,
    bindings: modelInputs(engine.header),
    pictures: engines.some(({ header }) => header.pixels !== undefined),
    batch,
    source: source === undefined ? undefined : registry.dataset(source),
    folder: path === undefined ? undefined : resolve(suite.folder, path),
    classes: classCount(outputs.find(({ name }) => name === scores)),
    labelsFile: labels,
    labelOffset,
    part: runPart(suite, 'rest'),
    limit: wanted ?? suite.dataset.limit,
    skipBroken,
    samples: limit ?? request.limit ?? suite.accuracy.samples,
    seed: request.settings.config.seed,
    signal: request.signal,
  });
}
