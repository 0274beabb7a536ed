/** The inputs that timing uses: the first batch of the dataset, written once per batch size for the workers to read. */
import { join } from 'node:path';
import type { Backend, TensorMap } from '../../backends/backend.ts';
import { writeTensors } from '../../measure/inputs.ts';
import type { Dataset } from '../../suite/source.ts';
import type { References } from './reference.ts';

export interface TimingInputs {
  /** File of the inputs for a batch size. */
  path(batch: number): Promise<string>;
  /** What the fp32 reference answers to them. Rejects where it can't. */
  answer(batch: number, backend: Backend): Promise<TensorMap>;
}

/** Opens lazily, keeps the reference's answers, and drops the inputs once they are on disk. */
export function timingInputs(
  folder: string,
  openDataset: (batch: number) => Promise<Dataset>,
  references: References,
  signal: AbortSignal,
): TimingInputs {
  const files = new Map<number, Promise<{ readonly path: string; readonly inputs: TensorMap }>>();
  const answers = new Map<string, Promise<TensorMap>>();
  const prepare = async (batch: number) => {
    for await (const { inputs } of (await openDataset(batch)).batches(signal)) {
      const path = join(folder, `inputs-b${batch}.bin`);
      await writeTensors(path, inputs);
      return { path, inputs };
    }
    throw new Error('the dataset gave no batch');
  };
  const file = (batch: number) => {
    const known = files.get(batch) ?? prepare(batch);
    files.set(batch, known);
    return known;
  };
  return {
    path: async (batch) => (await file(batch)).path,
    answer(batch, backend) {
      const key = `${backend.reference ? backend.name : ''}/${batch}`;
      const known = answers.get(key) ?? file(batch).then(async ({ inputs }) => (await references.of(backend)).run(inputs, batch));
      answers.set(key, known);
      return known;
    },
  };
}
