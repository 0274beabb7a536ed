/** Inputs of the user's own for `verify`, as NumPy saves them, and the outputs that are expected of them where the file has some. */
import { TsrtError } from '../../errors.ts';
import type { Tensor } from '../../ir/tensor.ts';
import { nearest } from '../../nearest.ts';
import type { OnnxModel } from '../../onnx/model.ts';
import { readArrays, readWhole } from '../../suite/npy.ts';

export interface GivenArrays {
  readonly inputs: ReadonlyMap<string, Tensor>;
  /** Empty: nothing is expected, and the reference is asked. */
  readonly outputs: ReadonlyMap<string, Tensor>;
}

/** Whole requests by the names of the model's inputs and outputs; an array alone in its file is a model's only input. Throws DATASET_INVALID. */
export async function readGivenArrays(path: string, model: Pick<OnnxModel, 'inputs' | 'outputs'>): Promise<GivenArrays> {
  const inputNames = model.inputs.map(({ name }) => name);
  const outputNames = model.outputs.map(({ name }) => name);
  const arrays = await readArrays(path);
  const alone = arrays.length === 1 && inputNames.length === 1;
  const given = { inputs: new Map<string, Tensor>(), outputs: new Map<string, Tensor>() };
  for (const array of arrays) {
    const name = alone ? inputNames[0]! : array.name;
    const side = inputNames.includes(name) ? given.inputs : outputNames.includes(name) ? given.outputs : undefined;
    if (side === undefined) {
      const guess = nearest(name, [...inputNames, ...outputNames]);
      throw new TsrtError('DATASET_INVALID', `the model has no input or output '${name}'${guess === undefined ? '' : `; did you mean '${guess}'?`}`, {
        place: array.place,
        fix: `name each array after its input or output: inputs ${inputNames.join(', ')}; outputs, where they are known, ${outputNames.join(', ')}`,
      });
    }
    side.set(name, await readWhole(array));
  }
  const missing = inputNames.filter((name) => !given.inputs.has(name));
  if (missing.length > 0) throw new TsrtError('DATASET_INVALID', `there is no array for ${missing.map((name) => `'${name}'`).join(', ')}`, { place: path, fix: 'add an array of that name for each of the inputs' });
  return given;
}
