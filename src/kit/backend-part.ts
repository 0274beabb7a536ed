/**
 * Whether a plugin's backend keeps its contract, on the smallest models there are: found, built, written to an engine file and back,
 * loaded, right by answers worked out here in float64, timed without transfers, and gone when it is disposed of.
 */
import type { Availability, Backend, Session, TensorMap } from '../backends/backend.ts';
import { compileModel } from '../backends/compile.ts';
import type { BuildOptions } from '../engine/engine.ts';
import { deserializeEngine, serializeEngine } from '../engine/file.ts';
import { TsrtError } from '../errors.ts';
import { formatType, fromNumbers, toNumbers } from '../ir/tensor.ts';
import { exportGraph } from '../onnx/export.ts';
import { newGraphBuilder } from '../ops/builder.ts';
import { Nonconforming } from './nonconforming.ts';

/** What can't be checked here, with the reason. */
export class Unchecked extends Error {
  override readonly name = 'Unchecked';
}

interface TinyModel {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly expected: readonly number[];
}

const X = { dtype: 'float32', dims: [2, 3] } as const;
const INPUT = [1, -2, 3, -0.5, 0.25, 4] as const;
const WEIGHTS = [0.5, -1, 2, 0.25, 1.5, -0.75] as const;

/** `x` float32 [2,3] → `y`: an op that every backend has, then others for those that have few. */
function tinyModels(): readonly TinyModel[] {
  const model = (name: 'MatMul' | 'Add' | 'Relu', dims: readonly number[], expected: readonly number[]): TinyModel => {
    const graph = newGraphBuilder(name.toLowerCase());
    const x = graph.input('x', X);
    const operands = name === 'Relu' ? [x] : [x, graph.constant(fromNumbers('float32', dims, WEIGHTS))];
    return { name: name.toLowerCase(), bytes: exportGraph(graph.finish([graph.node(name, operands, {}, { outputs: ['y'] })])), expected };
  };
  const product = [0, 1].flatMap((row) => [0, 1].map((column) => [0, 1, 2].reduce((sum, k) => sum + INPUT[row * 3 + k]! * WEIGHTS[k * 2 + column]!, 0)));
  return [model('MatMul', [3, 2], product), model('Add', [2, 3], INPUT.map((value, i) => value + WEIGHTS[i]!)), model('Relu', [], INPUT.map((value) => Math.max(0, value)))];
}

/** Of the output's scale: what fp32 with products in TF32 keeps. */
const TOLERANCE = 2e-3;

/** Throws Nonconforming for what breaks the contract, Unchecked where the backend is not there or takes none of the models. */
export async function checkBackend(backend: Backend): Promise<void> {
  const availability: Availability = await backend.probe();
  if (availability.status === 'unavailable') throw new Unchecked(`${availability.reason}. ${availability.fix}`);
  const [device] = availability.devices;
  if (!device) throw new Nonconforming('probe says that it is available, and lists no device');
  if (!/^[a-z0-9][a-z0-9.-]*$/.test(device.slug)) throw new Nonconforming(`the slug '${device.slug}' of a device is not a folder name: lower-case letters, digits, dots and dashes`);
  const { bytes, model } = await buildTiny(backend, device.slug);
  const session = await backend.load(await deserializeEngine(bytes), { device: device.slug, signal: undefined });
  try {
    await checkSession(session, model);
  } finally {
    await session.dispose();
  }
  await session.dispose();
  const late = await session.run(feeds()).then(() => true, () => false);
  if (late) throw new Nonconforming('run() after dispose() answers: it must reject');
}

async function buildTiny(backend: Backend, device: string): Promise<{ readonly bytes: Uint8Array; readonly model: TinyModel }> {
  const options: BuildOptions = { backend: backend.name, precision: 'fp32', fusion: 'on', batch: 1, dims: {}, inputShapes: {}, disabledPasses: [], workspaceBytes: undefined, backendOptions: {} };
  const context = { device, signal: undefined, onProgress: undefined };
  const refusals: string[] = [];
  for (const model of tinyModels()) {
    try {
      const engine = await compileModel({ modelBytes: model.bytes, modelName: model.name, folder: undefined, options, backend, context, rebatch: false });
      return { bytes: await serializeEngine(engine), model };
    } catch (error) {
      if (!(error instanceof TsrtError) || error.code !== 'MODEL_UNSUPPORTED') throw error;
      refusals.push(`${model.name}: ${[error.message, ...error.details].join('; ')}`);
    }
  }
  throw new Unchecked(`it builds none of the models of one op that the kit has (${refusals.join(' | ')})`);
}

const feeds = (): TensorMap => ({ x: fromNumbers('float32', X.dims, INPUT) });

async function checkSession(session: Session, { name, expected }: TinyModel): Promise<void> {
  const types = (bindings: Session['inputs']): string => bindings.map((binding) => `${binding.name} ${formatType(binding)}`).join(', ');
  if (types(session.inputs) !== 'x float32[2,3]') throw new Nonconforming(`the model ${name} takes x float32[2,3], and the session ${types(session.inputs) || 'nothing'}`);
  compare('run()', name, await session.run(feeds()), expected);
  const execution = await session.prepare(feeds());
  await execution.execute(2);
  compare('execute(2) and download()', name, await execution.download(), expected);
  await execution.dispose();
  const refusal = await session.run({}).then(() => undefined, (error: unknown) => error);
  if (!(refusal instanceof TsrtError) || refusal.code !== 'USAGE') {
    throw new Nonconforming(`run() without the input must reject with a TsrtError USAGE (checkInputs does), and ${refusal === undefined ? 'answers' : `says: ${String(refusal)}`}`);
  }
  compare('run() after an error', name, await session.run(feeds()), expected);
}

function compare(what: string, model: string, outputs: TensorMap | undefined, expected: readonly number[]): void {
  const y = outputs?.['y'];
  if (!y) throw new Nonconforming(`${what} of ${model} gives ${Object.keys(outputs ?? {}).join(', ') || 'nothing'}, not y`);
  if (!((y.data as unknown) instanceof Uint8Array)) throw new Nonconforming(`${what} of ${model} gives a y whose data is not a Uint8Array (fromNumbers makes a tensor)`);
  const type = formatType({ dtype: 'float32', dims: [X.dims[0], expected.length / X.dims[0]] });
  if (formatType(y) !== type) throw new Nonconforming(`${what} of ${model} gives y as ${formatType(y)}, not as ${type}`);
  const found = [...toNumbers(y)];
  const scale = Math.max(...expected.map(Math.abs));
  const wrong = expected.findIndex((value, i) => !(Math.abs(found[i]! - value) <= TOLERANCE * scale));
  if (found.length !== expected.length || wrong >= 0) throw new Nonconforming(`${what} of ${model} gives ${formatType(y)} ${found.join(', ')}; right is ${expected.join(', ')}`);
}
