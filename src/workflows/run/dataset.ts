/** The dataset of a sweep: what the suite and the flags say, opened for the inputs of its engines. */
import { modelInputs } from '../../suite/pixels.ts';
import type { Dataset } from '../../suite/source.ts';
import { runPart } from '../calibrate/suite.ts';
import { openSuiteDataset } from '../suite-dataset.ts';
import type { BuiltEngine } from './engines.ts';
import type { Sweep } from './sweep.ts';

/** The suite's dataset in batches of `batch`; `limit` is how many samples are wanted, where that is fewer. */
export async function datasetOf({ request, suite, registry }: Sweep, engines: readonly BuiltEngine[], batch: number, limit: number | undefined): Promise<Dataset> {
  const engine = engines.find(({ variant }) => variant.options.batch === batch);
  if (!engine) throw new Error(`no engine of batch ${batch}`);
  const { outputs } = engine.header;
  // Pictures that turn out to be broken are replaced by the next: how many will do is not known beforehand.
  const wanted = suite.dataset.skipBroken ? request.limit : (limit ?? request.limit);
  return openSuiteDataset(suite, registry, {
    inputs: modelInputs(engine.header),
    outputs,
    pictures: engines.some(({ header }) => header.pixels !== undefined),
    batch,
    part: runPart(suite, 'rest'),
    limit: wanted ?? suite.dataset.limit,
    samples: limit ?? request.limit ?? suite.accuracy.samples,
    seed: request.settings.config.seed,
    signal: request.signal,
  });
}
