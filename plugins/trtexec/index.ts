/**
 * TensorRT through its own `trtexec`: it builds the engine, runs it, and its exported times, profile and outputs are read back.
 *
 * The plan that trtexec saves is the engine's one part, so that `build`, `run --engine` and the rest work as for any backend.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  definePlugin,
  engineFrom,
  readOptions,
  runTool,
  toolModel,
  TsrtError,
  type Availability,
  type Backend,
  type BuildContext,
  type BuildInput,
  type DeviceInfo,
  type Engine,
  type LoadOptions,
  type Session,
  type Unsupported,
} from 'tsrt-bench';
import { parseDevice, parseVersion } from './formats.ts';
import { TrtexecSession } from './session.ts';
import { buildArguments, LIMITS_MS, OPTIONS, precisionProblem, shapesArgument, trtexec } from './tool.ts';

const FIX = 'install TensorRT and put its bin folder, with trtexec, on the PATH';

/** The version of the trtexec that is on the PATH, or why there is none. */
async function findVersion(): Promise<{ readonly version: string } | { readonly reason: string }> {
  try {
    const { output } = await runTool({ name: 'trtexec', command: 'trtexec', args: ['--help'], timeoutMs: LIMITS_MS.help });
    const version = parseVersion(output);
    return version === undefined ? { reason: 'the program trtexec does not say which TensorRT it is of' } : { version };
  } catch (error) {
    if (error instanceof TsrtError) return { reason: error.message };
    throw error;
  }
}

/** By nvidia-smi: trtexec names its device only while it runs. The first, which is the one that trtexec takes. */
async function findDevices(version: string): Promise<readonly DeviceInfo[]> {
  const query = ['--query-gpu=name,driver_version,memory.total', '--format=csv,noheader,nounits'];
  const { code, output } = await runTool({ name: 'trtexec', command: 'nvidia-smi', args: query, timeoutMs: LIMITS_MS.help });
  if (code !== 0) throw new TsrtError('BACKEND_UNAVAILABLE', `nvidia-smi ended with status ${code}`, { plugin: 'trtexec', fix: 'check the NVIDIA driver', details: [output.trim()] });
  return output
    .trim()
    .split('\n')
    .slice(0, 1)
    .map((line) => {
      const [name = '', driver = '', memoryMiB = ''] = line.split(',').map((field) => field.trim());
      return deviceInfo(name, { driver, memoryBytes: String(Number(memoryMiB) * 2 ** 20), tensorrt: version });
    });
}

function deviceInfo(name: string, properties: Readonly<Record<string, string>>): DeviceInfo {
  const slug = name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-').replaceAll(/^-|-$/g, '');
  return { slug, kind: 'gpu', description: `${name}, TensorRT ${properties['tensorrt']}`, properties: { ...properties, device: name } };
}

async function probe(): Promise<Availability> {
  const found = await findVersion();
  if ('reason' in found) return { status: 'unavailable', reason: found.reason, fix: FIX };
  try {
    return { status: 'available', version: found.version, devices: await findDevices(found.version) };
  } catch (error) {
    if (!(error instanceof TsrtError)) throw error;
    return { status: 'unavailable', reason: error.message, fix: 'install the NVIDIA driver' };
  }
}

async function requireVersion(): Promise<string> {
  const found = await findVersion();
  if ('version' in found) return found.version;
  throw new TsrtError('BACKEND_UNAVAILABLE', found.reason, { plugin: 'trtexec', fix: FIX });
}

function supports(input: BuildInput): readonly Unsupported[] {
  readOptions(OPTIONS, input.options);
  const { graph, model } = input;
  const reason = precisionProblem(input);
  const own = reason === undefined ? [] : [{ node: model.name, op: 'precision', reason }];
  return graph.ok || (model.inputs && model.outputs) ? own : [...own, ...graph.unsupported];
}

async function build(input: BuildInput, { signal, onProgress }: BuildContext): Promise<Engine> {
  const values = readOptions(OPTIONS, input.options);
  const version = await requireVersion();
  const folder = await mkdtemp(join(tmpdir(), 'tsrt-bench-trtexec-'));
  try {
    const { bytes, shapes } = toolModel(input);
    const [model, plan] = [join(folder, 'model.onnx'), join(folder, 'engine.plan')];
    await writeFile(model, bytes);
    onProgress?.('trtexec', 0, 1);
    const args = [`--onnx=${model}`, `--saveEngine=${plan}`, ...shapesArgument(shapes), ...buildArguments(input.options, values, version)];
    const { output } = await trtexec(args, LIMITS_MS.build, 'building', signal);
    const built = await readFile(plan).catch((cause: unknown) => {
      throw new TsrtError('BACKEND_FAILED', 'trtexec ended well and saved no engine', { plugin: 'trtexec', fix: 'check that this trtexec has --saveEngine', cause });
    });
    const device = parseDevice(output);
    return engineFrom('trtexec', input, {
      parts: new Map([['engine.plan', built]]),
      memory: { weightBytes: built.byteLength, activationBytes: 0, workspaceBytes: 0, stagingBytes: 0 },
      // A plan runs on the TensorRT and the device that it was built with.
      requires: { tensorrt: version, ...(device !== undefined && { device }) },
      notices: ['Timed by trtexec with CUDA events: what the host adds is in no sample; without transfers it is the kernels alone.'],
      data: { dynamic: [...shapes.keys()], arguments: args.slice(2) },
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function load(engine: Engine, { device: wanted, signal }: LoadOptions): Promise<Session> {
  signal?.throwIfAborted();
  const version = await requireVersion();
  const devices = await findDevices(version);
  const device = devices.find(({ slug }) => wanted === undefined || slug === wanted);
  if (!device) throw new TsrtError('USAGE', `trtexec has no device '${wanted}'`, { plugin: 'trtexec', fix: `There are: ${devices.map(({ slug }) => slug).join(', ')}.` });
  const { requires } = engine.header;
  const differing = Object.keys(requires).filter((key) => requires[key] !== device.properties[key]);
  const plan = engine.parts.get('engine.plan');
  if (differing.length > 0 || !plan || engine.header.backend !== 'trtexec') {
    throw new TsrtError('ENGINE_INCOMPATIBLE', `the engine of ${engine.header.model.name} was not built for this trtexec`, {
      plugin: 'trtexec',
      details: differing.map((key) => `${key}: engine ${requires[key]}, here ${device.properties[key]}`),
      fix: 'build it again on this device, with this TensorRT',
    });
  }
  const folder = await mkdtemp(join(tmpdir(), 'tsrt-bench-trtexec-'));
  await writeFile(join(folder, 'engine.plan'), plan);
  const dispose = (): Promise<void> => rm(folder, { recursive: true, force: true });
  return new TrtexecSession({ engine: { header: engine.header, parts: new Map() }, device, folder, values: readOptions(OPTIONS, engine.header.options), dispose });
}

export const trtexecBackend: Backend = {
  name: 'trtexec',
  description: "NVIDIA TensorRT through its own trtexec.",
  options: OPTIONS,
  probe,
  supports,
  build,
  load,
};

export default definePlugin({ name: 'trtexec', version: '0.1.0', backends: [trtexecBackend] });
