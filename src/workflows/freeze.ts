/** `freeze`: a model file with some of its inputs made constants. */
import { dirname, resolve } from 'node:path';
import { TsrtError } from '../errors.ts';
import { elementCount, formatType, fromNumbers, toNumbers, type DType, type Tensor } from '../ir/tensor.ts';
import { freezeInputs } from '../onnx/freeze.ts';
import { type OnnxModel, type OnnxValue, readModel } from '../onnx/model.ts';
import { externalPaths } from '../backends/onnxruntime/external.ts';
import { inModelFile, readModelFile } from './model-file.ts';
import { writeOutput } from './output.ts';

export interface FreezeRequest {
  readonly model: string;
  /** `NAME=V` or `NAME=V,V`, as given. */
  readonly values: readonly string[];
  readonly output: string;
}

export interface FreezeResult {
  readonly output: string;
  readonly bytes: number;
  readonly frozen: readonly { readonly name: string; readonly dtype: DType; readonly dims: readonly number[]; readonly values: readonly number[] }[];
  /** Inputs that the model still has. */
  readonly inputs: readonly string[];
}

/** Writes the model with the inputs' values in it. Throws USAGE for values that do not fit, MODEL_INVALID, RESULTS_UNWRITABLE. */
export async function freezeModel({ model: path, values, output }: FreezeRequest): Promise<FreezeResult> {
  const bytes = await readModelFile(path);
  const model = await inModelFile(path, () => readModel(bytes, { folder: dirname(path) }));
  const tensors = new Map(values.map((word) => parseValue(word, model)));
  if (tensors.size < values.length) throw misuse('--value names an input twice', 'give each input one value');
  const inputs = model.inputs.map(({ name }) => name).filter((name) => !tensors.has(name));
  if (inputs.length === 0) throw misuse('the model would have no input left', `leave one of ${model.inputs.map(({ name }) => name).join(', ')} open`);
  if (resolve(output) === resolve(path)) throw misuse('the output is the model itself', 'name another file, so that the model stays what it is');
  const [external] = externalPaths(bytes);
  if (external !== undefined && dirname(resolve(output)) !== dirname(resolve(path))) {
    throw misuse(`the model's weights lie beside it (${external})`, `write the new file into the same folder, ${dirname(resolve(path))}`);
  }
  const frozen = freezeInputs(bytes, tensors);
  await writeOutput(output, frozen);
  return { output, bytes: frozen.byteLength, frozen: [...tensors].map(([name, tensor]) => ({ name, dtype: tensor.dtype, dims: tensor.dims, values: toNumbers(tensor) })), inputs };
}

function misuse(message: string, fix: string): TsrtError {
  return new TsrtError('USAGE', message, { fix });
}

function parseValue(word: string, { inputs }: OnnxModel): [string, Tensor] {
  const at = word.indexOf('=');
  const name = word.slice(0, at);
  const input = inputs.find((candidate) => candidate.name === name);
  if (at < 1) throw misuse(`--value takes NAME=V or NAME=V,V, found '${word}'`, 'for example: --value sr=16000');
  if (!input) throw misuse(`the model has no input '${name}'`, `its inputs are ${inputs.map((one) => one.name).join(', ')}`);
  return [name, tensorFor(input, word.slice(at + 1).split(',').map((text) => text.trim()))];
}

/** Of the input's own type; its open sizes are as many as there are values. */
function tensorFor({ name, type }: OnnxValue, words: readonly string[]): Tensor {
  if (type.kind !== 'tensor' || type.dtype === undefined) {
    throw misuse(`input '${name}' is ${type.kind === 'tensor' ? `of type ${type.dtypeName}` : `a ${type.what}`}, whose values can't be given here`, 'leave it open');
  }
  const { dtype } = type;
  const declared = type.dims ?? (words.length === 1 ? [] : ['']);
  const open = declared.filter((dim) => typeof dim === 'string').length;
  const known = elementCount(declared.filter((dim) => typeof dim === 'number'));
  const dims = declared.map((dim) => (typeof dim === 'number' ? dim : words.length / known));
  if (open > 1) {
    throw misuse(`input '${name}' is ${dtype}[${declared.map((dim) => (dim === '' ? '?' : dim)).join(',')}], and values can fill one open size only`, 'export the model with the other sizes of this input fixed');
  }
  if (!dims.every(Number.isSafeInteger) || elementCount(dims) !== words.length) {
    throw misuse(`input '${name}' is ${dtype}[${declared.map((dim) => (dim === '' ? '?' : dim)).join(',')}], which ${words.length} value${words.length === 1 ? '' : 's'} can't fill`, 'give all its elements, separated by commas, in row-major order');
  }
  const values = words.map((text) => numberOf(name, dtype, text));
  const tensor = fromNumbers(dtype, dims, values);
  const lost = toNumbers(tensor).findIndex((value, i) => (dtype.includes('float') ? Number.isFinite(values[i]!) && !Number.isFinite(value) : value !== values[i]));
  if (lost >= 0) throw misuse(`${words[lost]} is not a value of input '${name}', which is ${formatType(tensor)}`, `give a value that ${dtype} can hold`);
  return tensor;
}

const WORDS: Readonly<Record<string, number>> = { true: 1, false: 0, inf: Infinity, '-inf': -Infinity, nan: NaN };

function numberOf(name: string, dtype: DType, text: string): number {
  const number = WORDS[text.toLowerCase()] ?? (text === '' ? NaN : Number(text));
  const fits = dtype.includes('float') ? !Number.isNaN(number) || text.toLowerCase() === 'nan' : dtype === 'bool' ? number === 0 || number === 1 : Number.isSafeInteger(number);
  if (!fits) throw misuse(`'${text}' is not ${dtype}, the type of input '${name}'`, dtype === 'bool' ? 'give true or false' : 'give a number');
  return number;
}
