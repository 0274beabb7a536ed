/** The inputs that timing uses: the first batch of the dataset, written once per batch size for the workers to read. */
import { join } from 'node:path';
import type { Backend, TensorMap } from '../../backends/backend.ts';
import { writeTensors } from '../../measure/inputs.ts';
import type { EngineHeader } from '../../engine/engine.ts';
import { engineInputs } from '../../suite/pixels.ts';
import type { Batch, Dataset } from '../../suite/source.ts';
import type { References } from './reference.ts';

export interface TimingInputs {
  /** File of the inputs for a batch size, as the engine of this header takes them: numbers, or pictures as bytes. */
  path(batch: number, header: Pick<EngineHeader, 'pixels'>): Promise<string>;
  /** What the fp32 reference answers to them. Rejects where it can't. */
  answer(batch: number, backend: Backend): Promise<TensorMap>;
}

/** Opens lazily, keeps the reference's answers, and writes each form of a batch once. */
export function timingInputs(
  folder: string,
  openDataset: (batch: number) => Promise<Dataset>,
  references: References,
  signal: AbortSignal,
): TimingInputs {
  const batches = new Map<number, Promise<Batch>>();
  const files = new Map<string, Promise<string>>();
  const answers = new Map<string, Promise<TensorMap>>();
  const first = async (batch: number): Promise<Batch> => {
    for await (const given of (await openDataset(batch)).batches(signal)) return given;
    throw new Error('the dataset gave no batch');
  };
  const batchOf = (batch: number): Promise<Batch> => {
    const known = batches.get(batch) ?? first(batch);
    batches.set(batch, known);
    return known;
  };
  const write = async (batch: number, name: string, header: Pick<EngineHeader, 'pixels'>): Promise<string> => {
    const path = join(folder, `inputs-${name}.bin`);
    await writeTensors(path, engineInputs(header, await batchOf(batch)));
    return path;
  };
  return {
    path(batch, header) {
      const name = `b${batch}${header.pixels ? '-bytes' : ''}`;
      const known = files.get(name) ?? write(batch, name, header);
      files.set(name, known);
      return known;
    },
    answer(batch, backend) {
      const key = `${backend.reference ? backend.name : ''}/${batch}`;
      const known = answers.get(key) ?? batchOf(batch).then(async ({ inputs }) => (await references.of(backend)).run(inputs, batch));
      answers.set(key, known);
      return known;
    },
  };
}
