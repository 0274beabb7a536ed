/**
 * Finds what there is to verify: models at any depth, with the test data that lies with them.
 *
 * The layout is ONNX's own (onnx/backend/test): `CASE/model.onnx` with `CASE/test_data_set_N/input_K.pb` and `output_K.pb`.
 * The `.pb` files may also lie beside the model, if it is the only one in its folder.
 */
import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { TsrtError } from '../../errors.ts';

/** One set of inputs and expected outputs: files by index; a hole is an input left out. */
export interface DataSet {
  readonly name: string;
  readonly inputs: readonly (string | undefined)[];
  readonly outputs: readonly (string | undefined)[];
}

export interface VerifyCase {
  /** The model's folder (or file, where its name is its own), relative to what was asked for. */
  readonly name: string;
  readonly modelFile: string;
  /** An engine to run in place of one built from the model. */
  readonly engineFile?: string;
  /** A file or folder of arrays to run in place of the data sets. */
  readonly arrays?: string;
  /** Empty: the model is compared with the reference backend on random inputs. */
  readonly dataSets: readonly DataSet[];
}

/** Cases under a file or folder, in the order of their names. Throws TsrtError MODEL_NOT_FOUND where there is nothing. */
export async function findCases(path: string): Promise<readonly VerifyCase[]> {
  const stats = await stat(path).catch(() => undefined);
  if (!stats) {
    throw new TsrtError('MODEL_NOT_FOUND', `there is nothing at ${path}`, { fix: 'give an .onnx file, or a folder that contains some' });
  }
  if (stats.isFile()) return [await caseOfFile(resolve(path))];
  const cases: VerifyCase[] = [];
  await walk(resolve(path), resolve(path), cases);
  if (cases.length === 0) {
    throw new TsrtError('MODEL_NOT_FOUND', `there is no .onnx file under ${path}`, { fix: 'give an .onnx file, or a folder that contains some' });
  }
  return cases;
}

/** The case of one model file. */
export async function caseOfFile(path: string): Promise<VerifyCase> {
  const folder = dirname(path);
  const alone = (await readdir(folder)).filter((name) => name.endsWith('.onnx')).length <= 1;
  return caseOf(path, alone ? folder : undefined, basename(path) === 'model.onnx' ? basename(folder) : basename(path));
}

/** Symbolic links to folders are not followed: they may lead in circles. */
async function walk(folder: string, root: string, cases: VerifyCase[]): Promise<void> {
  const entries = (await readdir(folder, { withFileTypes: true })).sort((a, b) => (a.name < b.name ? -1 : 1));
  const models = entries.filter((entry) => !entry.isDirectory() && entry.name.endsWith('.onnx'));
  for (const { name } of models) {
    const alone = models.length === 1;
    const shown = relative(root, name === 'model.onnx' || alone ? folder : join(folder, name)) || basename(root);
    cases.push(await caseOf(join(folder, name), alone ? folder : undefined, shown));
  }
  for (const entry of entries) if (entry.isDirectory()) await walk(join(folder, entry.name), root, cases);
}

async function caseOf(modelFile: string, dataFolder: string | undefined, name: string): Promise<VerifyCase> {
  return { name, modelFile, dataSets: dataFolder === undefined ? [] : await findDataSets(dataFolder) };
}

async function findDataSets(folder: string): Promise<DataSet[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  const folders = entries.filter((entry) => entry.isDirectory() && entry.name.startsWith('test_data_set_')).map(({ name }) => name);
  const sets = await Promise.all(folders.sort(byNumber).map((name) => readDataSet(join(folder, name), name)));
  const beside = await readDataSet(folder, 'beside the model');
  return [...sets, beside].filter((set) => set.outputs.length > 0);
}

async function readDataSet(folder: string, name: string): Promise<DataSet> {
  const inputs: (string | undefined)[] = [];
  const outputs: (string | undefined)[] = [];
  for (const file of await readdir(folder)) {
    const match = /^(input|output)_(\d{1,4})\.pb$/.exec(file);
    if (match) (match[1] === 'input' ? inputs : outputs)[Number(match[2])] = join(folder, file);
  }
  return { name, inputs: Array.from(inputs), outputs: Array.from(outputs) };
}

function byNumber(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true });
}
