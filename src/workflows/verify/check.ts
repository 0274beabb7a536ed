/**
 * Verifies one case: compiles the model, runs its data sets, compares. Never throws: whatever goes wrong is the result.
 */
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Backend, BuildInput, TensorMap, Unsupported } from '../../backends/backend.ts';
import { readBuildInput, refusal } from '../../backends/compile.ts';
import type { BuildOptions, Engine, EngineHeader } from '../../engine/engine.ts';
import type { RegisteredOp } from '../../ir/custom.ts';
import { examineEngineFile, readEngine } from '../../engine/read.ts';
import { judgedPrecision } from '../../engine/precision.ts';
import { reportError, TsrtError } from '../../errors.ts';
import { DTYPES, elementCount, formatType, sameDims, type DType, type Tensor } from '../../ir/tensor.ts';
import { seededInputs } from '../../measure/inputs.ts';
import { fixedBatch } from '../../onnx/bind.ts';
import { computesInHalves } from '../../onnx/halves.ts';
import { readModel, type OnnxModel, type OnnxValue } from '../../onnx/model.ts';
import type { TensorValue } from '../../onnx/value.ts';
import { readTensorFile, type TestValue } from '../../onnx/testdata.ts';
import { runInPortions } from '../portions.ts';
import { checkRequest } from '../request.ts';
import { readGivenArrays } from './arrays.ts';
import type { VerifyCase } from './cases.ts';
import { compareValues, toleranceFor, type AskedTolerance, type OutputComparison, type Tolerance } from './compare.ts';
import type { CaseResult, Yardstick } from './result.ts';

export interface CheckSettings {
  readonly tolerance: AskedTolerance;
  /** Batch, dims and the rest; shapes of inputs come from the test data where there is any. */
  readonly options: BuildOptions;
  /** Whether the batch was asked for: a model that fixes another one is brought to it. */
  readonly rebatch: boolean;
  readonly device: string | undefined;
  /** Of random inputs. */
  readonly seed: number;
}

export interface CheckTools {
  readonly backend: Backend;
  /** Has `reference`: gives the expected outputs where a case has none. */
  readonly referenceBackend: Backend;
  /** Ops of plugins. */
  readonly customOps?: readonly RegisteredOp[];
}

/** A shape has few entries; Resize's roi has two per axis. */
const MAX_SHAPE_ELEMENTS = 32;

type Values = ReadonlyMap<string, TensorValue>;

/** What is kept of a model while it is checked: not its weights, which the engine and the reference have already. */
interface Declared extends Pick<OnnxModel, 'inputs' | 'outputs'> {
  /** Whether the reference rounds to halves, as the model says. */
  readonly inHalves: boolean;
}

function declaredBy(bytes: Uint8Array, folder: string): Declared {
  const model = readModel(bytes, { folder });
  const { inputs, outputs } = model;
  return { inputs, outputs, inHalves: computesInHalves(model) };
}

/** Inputs and expected outputs. `expected` undefined: ask the reference. */
interface Trial {
  readonly inputs: Values;
  readonly expected: Values | undefined;
}

type JudgedHeader = Pick<EngineHeader, 'activations'>;

interface Checked {
  readonly tolerance: Tolerance;
  readonly outputs: readonly OutputComparison[];
  readonly notices: readonly string[];
}

/** Raised inside this file only: the case can't be built or run as asked. */
class Unfit extends Error {
  readonly reasons: readonly Unsupported[];
  readonly fix: string | undefined;
  constructor(reasons: readonly Unsupported[], fix?: string) {
    super('unsupported');
    this.reasons = reasons;
    this.fix = fix;
  }
}

export async function checkCase(testCase: VerifyCase, settings: CheckSettings, tools: CheckTools): Promise<CaseResult> {
  const { name, modelFile } = testCase;
  try {
    const bytes = new Uint8Array(await readFile(modelFile));
    const model = declaredBy(bytes, dirname(modelFile));
    const engine = testCase.engineFile === undefined ? undefined : (await examineEngineFile(testCase.engineFile)).header;
    const trials = testCase.arrays === undefined ? fittingTrials(await readTrials(testCase, model), engine) : [await givenTrial(testCase.arrays, model, engine)];
    const comparedWith: Yardstick = trials.some(({ expected }) => expected) ? 'expected outputs' : 'reference';
    const dtypes = trials.flatMap(({ expected }) => [...(expected?.values() ?? [])].flatMap((value) => (value.kind === 'tensor' ? [value.tensor.dtype] : [])));
    const { precision } = (engine ?? settings).options;
    const roundedByModel = precision === 'fp32' && comparedWith === 'reference' && model.inHalves;
    const toleranceOf = (header: JudgedHeader): Tolerance => toleranceFor(comparedWith, settings.tolerance, judgedPrecision(roundedByModel ? 'fp16' : precision, header), dtypes);
    const { outputs, notices, tolerance } = await checkTrials({ testCase, bytes, model, trials, toleranceOf, settings, tools });
    const status = outputs.every((output) => output.passed) ? 'passed' : 'failed';
    return { name, modelFile, status, comparedWith, tolerance, outputs, notices };
  } catch (error) {
    if (error instanceof Unfit) return { name, modelFile, status: 'unsupported', reasons: error.reasons, ...(error.fix !== undefined && { fix: error.fix }) };
    return { name, modelFile, status: 'error', error: reportError(error) };
  }
}

/** What a backend calls unsupported is the case's result; sizes that the user left out, found before, are an error to mend. */
async function orUnfit<T>(work: Promise<T>): Promise<T> {
  return work.catch((error: unknown) => {
    if (!(error instanceof TsrtError) || error.code !== 'MODEL_UNSUPPORTED') throw error;
    const reasons = [error.message, ...error.details];
    throw new Unfit(reasons.map((reason) => ({ node: '', op: 'model', reason })), error.fix);
  });
}

/** Drawn numbers may be no data for a model (a length of 0, an index beyond a table): its own words, and what helps. */
async function orNoData<T>(trial: Trial | undefined, run: Promise<T>): Promise<T> {
  return run.catch((cause: unknown) => {
    if (trial || !(cause instanceof TsrtError) || cause.code !== 'MODEL_UNSUPPORTED') throw cause;
    throw new TsrtError('DATASET_INVALID', 'the model does not take seeded inputs', { details: cause.details, fix: 'give inputs that mean something to it: --inputs FILE.npz; or try another --seed', cause });
  });
}

interface Work {
  readonly testCase: VerifyCase;
  readonly bytes: Uint8Array;
  readonly model: Declared;
  readonly trials: readonly Trial[];
  readonly toleranceOf: (header: JudgedHeader) => Tolerance;
  readonly settings: CheckSettings;
  readonly tools: CheckTools;
}

/** Values that engines don't bind go through the backend's reference, where it has one; everything else through an engine. */
async function checkTrials(work: Work): Promise<Checked> {
  const { trials, tools } = work;
  const values: TensorValue[] = [];
  for (const { inputs, expected } of trials) values.push(...inputs.values(), ...(expected?.values() ?? []));
  const foreign = values.filter((value) => value.kind !== 'tensor');
  if (foreign.length === 0) return checkEngine(work);
  const kinds = new Set(foreign.map((value) => (value.kind === 'unsupported' ? value.dtype : 'string')));
  const stringsOnly = foreign.every((value) => value.kind === 'strings');
  if (!stringsOnly || !tools.backend.reference) {
    throw new Unfit([...kinds].map((kind) => ({ node: '', op: 'binding', reason: `no engine binds ${kind} tensors` })));
  }
  return checkReference(work);
}

async function checkReference({ bytes, trials, toleranceOf, tools, testCase }: Work): Promise<Checked> {
  const tolerance = toleranceOf({});
  const reference = await orUnfit(tools.backend.reference!({ bytes, folder: dirname(testCase.modelFile) }));
  try {
    const outputs: OutputComparison[] = [];
    for (const { inputs, expected } of trials) outputs.push(...compareAll(await reference.run(inputs), expected!, tolerance));
    return { tolerance, outputs, notices: ['The model ran unchanged and without an engine: it has tensors of strings.'] };
  } finally {
    await reference.dispose();
  }
}

async function checkEngine(work: Work): Promise<Checked> {
  const outputs: OutputComparison[] = [];
  const notices = new Set<string>();
  let tolerance = work.toleranceOf({});
  // Without data there is one trial, whose inputs follow from the bindings.
  for (const trial of work.trials.length > 0 ? work.trials : [undefined]) {
    const { header, frozen, inputs, found } = await engineAnswers(work, trial);
    for (const notice of header.notices) notices.add(notice);
    if (frozen.length > 0) notices.add(`Shapes depend on the values of ${frozen.join(', ')}: built in as constants.`);
    const expected = trial?.expected ?? (await runReference(work, trial, inputs, header));
    tolerance = work.toleranceOf(header);
    outputs.push(...compareAll(found, expected, tolerance));
  }
  return { tolerance, outputs, notices: [...notices] };
}

interface EngineAnswers {
  readonly header: EngineHeader;
  readonly frozen: readonly string[];
  readonly inputs: Values;
  readonly found: Values;
}

/** What an engine gives. It is gone before the reference is loaded: a large model need not be in memory for both. */
async function engineAnswers(work: Work, trial: Trial | undefined): Promise<EngineAnswers> {
  const { settings, tools } = work;
  const { engine, frozen } = await engineFor(work, trial?.inputs ?? new Map<string, TensorValue>());
  const { header } = engine;
  if (!trial) checkRequest(header.inputs, header.options.batch);
  const session = await tools.backend.load(engine, { device: settings.device, signal: undefined });
  try {
    const inputs = trial?.inputs ?? fromTensors(seededInputs(session.inputs, settings.seed, 'drawn'));
    const given = new Map([...inputs].filter(([name]) => !frozen.includes(name)));
    return { header, frozen, inputs, found: fromTensors(await orUnfit(orNoData(trial, session.run(toTensors(given))))) };
  } finally {
    await session.dispose();
  }
}

/** The engine that was given, or one built for these inputs. */
async function engineFor(work: Work, inputs: Values): Promise<{ readonly engine: Engine; readonly frozen: readonly string[] }> {
  const { engineFile } = work.testCase;
  if (engineFile !== undefined) return { engine: await readEngine(engineFile), frozen: [] };
  const { input, frozen } = await buildable(work, inputs);
  return { engine: await orUnfit(work.tools.backend.build(input, { device: work.settings.device, signal: undefined, onProgress: undefined })), frozen };
}

/** An engine has one shape per input: test data of others says nothing about it. */
function fittingTrials(trials: readonly Trial[], engine: EngineHeader | undefined): readonly Trial[] {
  if (!engine) return trials;
  return trials.filter(({ inputs }) =>
    engine.inputs.every(({ name, dims }) => {
      const value = inputs.get(name);
      return value?.kind === 'tensor' && sameDims(value.tensor.dims, dims);
    }),
  );
}

/** The user's own inputs: sizes that an engine does not take are a mistake, not data for another one. Throws DATASET_INVALID. */
async function givenTrial(path: string, model: Declared, engine: EngineHeader | undefined): Promise<Trial> {
  const { inputs, outputs } = await readGivenArrays(path, model);
  const trial: Trial = {
    inputs: checkDeclared(fromTensors(Object.fromEntries(inputs)), model.inputs, path),
    expected: outputs.size > 0 ? fromTensors(Object.fromEntries(outputs)) : undefined,
  };
  if (fittingTrials([trial], engine).length > 0) return trial;
  const taken = engine!.inputs.map((binding) => `${binding.name} ${formatType(binding)}`).join(', ');
  const given = [...inputs].map(([name, tensor]) => `${name} ${formatType(tensor)}`).join(', ');
  throw new TsrtError('DATASET_INVALID', `the engine takes ${taken}, but the arrays are ${given}`, { place: path, fix: 'save arrays of the sizes that the engine was built for, or build it for these' });
}

interface Buildable {
  readonly input: BuildInput;
  /** Names of inputs that became constants. */
  readonly frozen: readonly string[];
}

/** What the backend can build: the model as it is, or with its small inputs built in where shapes depend on their values. */
async function buildable({ settings, tools, bytes, testCase }: Work, inputs: Values): Promise<Buildable> {
  const attempts = [new Map<string, Tensor>(), smallInputs(inputs, ['int32', 'int64']), smallInputs(inputs, DTYPES)];
  let refused: Unfit | undefined;
  for (const inputValues of attempts) {
    if (refused && inputValues.size === 0) continue;
    const shapes = [...inputs].filter(([name]) => !inputValues.has(name)).map(([name, value]) => [name, dimsOf(value)] as const);
    const input = await readBuildInput({
      modelBytes: bytes,
      modelName: testCase.name,
      folder: dirname(testCase.modelFile),
      options: { ...settings.options, inputShapes: { ...settings.options.inputShapes, ...Object.fromEntries(shapes) } },
      inputValues,
      rebatch: settings.rebatch && inputs.size === 0,
      customOps: tools.customOps,
    });
    const found = await tools.backend.supports(input);
    if (found.length === 0) return { input, frozen: [...inputValues.keys()] };
    refused ??= new Unfit(found, refusal(input, tools.backend, found).fix);
  }
  throw refused!;
}

/** Inputs that may say how large something is: scalars and short lists. */
function smallInputs(inputs: Values, dtypes: readonly DType[]): Map<string, Tensor> {
  const small = new Map<string, Tensor>();
  for (const [name, value] of inputs) {
    if (value.kind !== 'tensor' || !dtypes.includes(value.tensor.dtype)) continue;
    const { dims } = value.tensor;
    if (dims.length <= 1 && elementCount(dims) <= MAX_SHAPE_ELEMENTS) small.set(name, value.tensor);
  }
  return small;
}

/** What the model gives; one that fixes its batch gives it for the samples of an engine of another in portions. */
async function runReference({ tools, bytes, testCase, model }: Work, trial: Trial | undefined, inputs: Values, header: EngineHeader): Promise<Values> {
  const { referenceBackend } = tools;
  if (!referenceBackend.reference) throw new Error(`the backend ${referenceBackend.name} has no reference`);
  const reference = await orUnfit(referenceBackend.reference({ bytes, folder: dirname(testCase.modelFile) }));
  try {
    const [own, batch] = [fixedBatch(model.inputs), header.inputs[0]?.dims[0]];
    if (own === undefined || batch === undefined || batch === own) return await orUnfit(orNoData(trial, reference.run(inputs)));
    return fromTensors(await orUnfit(orNoData(trial, runInPortions(reference, toTensors(inputs), batch, own))));
  } finally {
    await reference.dispose();
  }
}

function compareAll(found: Values, expected: Values, tolerance: Tolerance): OutputComparison[] {
  return [...expected].map(([name, want]) => {
    const got = found.get(name);
    if (got) return compareValues(name, got, want, tolerance);
    return { output: name, passed: false, maxAbsError: Infinity, maxRelError: Infinity, mismatches: 0, elements: 0, detail: 'is missing' };
  });
}

async function readTrials(testCase: VerifyCase, model: Declared): Promise<Trial[]> {
  return Promise.all(
    testCase.dataSets.map(async (set) => ({
      inputs: checkDeclared(await readValues(set.inputs, model.inputs), model.inputs, set.name),
      expected: await readValues(set.outputs, model.outputs),
    })),
  );
}

/** Files by index, to values by the model's names. */
async function readValues(files: readonly (string | undefined)[], declared: readonly OnnxValue[]): Promise<Values> {
  const values = new Map<string, TensorValue>();
  for (const [index, { name, type }] of declared.entries()) {
    const file = files[index];
    if (file === undefined) continue;
    const kind = type.kind === 'tensor' ? 'tensor' : type.what;
    if (kind !== 'tensor') throw new Unfit([{ node: name, op: 'binding', reason: `no engine binds a ${kind}` }]);
    values.set(name, plain(readTensorFile(new Uint8Array(await readFile(file)), 'tensor', file)));
  }
  return values;
}

/** Values of a model: their sizes may be others than the model's; how many there are, and the type, may not. Throws TsrtError DATASET_INVALID. */
function checkDeclared(values: Values, declared: readonly OnnxValue[], place: string): Values {
  for (const { name, type } of declared) {
    const value = values.get(name);
    if (value?.kind !== 'tensor' || type.kind !== 'tensor') continue;
    const { dtype, dims } = value.tensor;
    if ((type.dtype === undefined || type.dtype === dtype) && (type.dims === undefined || type.dims.length === dims.length)) continue;
    const sizes = type.dims ? `[${type.dims.map((dim) => (dim === '' ? '?' : dim)).join(',')}]` : '';
    throw new TsrtError('DATASET_INVALID', `the test data do not fit the model: input '${name}' is ${formatType(value.tensor)}, and declared as ${type.dtypeName}${sizes}`, {
      place,
      fix: 'write the data again, or the types that the model declares',
    });
  }
  return values;
}

function plain(value: TestValue): TensorValue {
  if (value.kind === 'sequence' || value.kind === 'optional') throw new Error('a tensor file gave no tensor');
  return value;
}

function dimsOf(value: TensorValue): readonly number[] {
  return value.kind === 'tensor' ? value.tensor.dims : value.dims;
}

function toTensors(values: Values): TensorMap {
  return Object.fromEntries([...values].flatMap(([name, value]) => (value.kind === 'tensor' ? [[name, value.tensor]] : [])));
}

function fromTensors(tensors: TensorMap): Values {
  return new Map(Object.entries(tensors).map(([name, tensor]) => [name, { kind: 'tensor', tensor }]));
}
