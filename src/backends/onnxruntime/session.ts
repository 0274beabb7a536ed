/**
 * An onnxruntime engine loaded. onnxruntime-node computes on the calling thread (its `run` only waits for the next turn of
 * the event loop), so that requests follow one another and a request that hangs can only be ended from outside the process.
 *
 * onnxruntime copies what it needs of the model; the session lets go of the engine's bytes, so that weights are not held twice.
 */
import type { Engine } from '../../engine/engine.ts';
import { TsrtError } from '../../errors.ts';
import type { DeviceInfo, Execution, Session, TensorMap } from '../backend.ts';
import { checkInputs } from '../inputs.ts';
import { reasonOf, loadOrt, openSession, runError, type Ort, type OrtSession, type OrtTensor } from './library.ts';
import { sessionOptions } from './options.ts';
import { EXTERNAL_PREFIX, MODEL_PART } from './parts.ts';
import { fromOrt, toOrt } from './tensors.ts';

type Feeds = Record<string, OrtTensor>;

/** Throws TsrtError ENGINE_INVALID for an engine that onnxruntime can't load. */
export async function openOrtSession(engine: Engine, device: DeviceInfo): Promise<Session> {
  const ort = await loadOrt();
  const { header } = engine;
  const bytes = new WeakRef(engine);
  let session: OrtSession | undefined = await createSession(ort, engine, {});

  const toFeeds = (inputs: TensorMap): Feeds => {
    const tensors = checkInputs(header.inputs, inputs);
    return Object.fromEntries(header.inputs.map((binding, index) => [binding.name, toOrt(ort, tensors[index]!)]));
  };
  const toOutputs = (results: Readonly<Record<string, OrtTensor>>): TensorMap =>
    Object.fromEntries(header.outputs.map(({ name, dtype }) => [name, fromOrt(results[name]!, dtype)]));
  const open = (): OrtSession => {
    if (session) return session;
    throw new TsrtError('USAGE', 'the session was disposed of', { fix: 'load the engine again' });
  };
  /** Runs at least once. The loop is in here because a further promise for each run would show in runs of microseconds. */
  const runTimes = async (feeds: Feeds, count: number) => {
    try {
      let results = await open().run(feeds);
      for (let i = 1; i < count; i++) results = await open().run(feeds);
      return results;
    } catch (cause) {
      throw cause instanceof TsrtError ? cause : runError(cause);
    }
  };

  return {
    header,
    device,
    inputs: header.inputs,
    outputs: header.outputs,
    maxInFlight: 1,
    memory: header.memory,
    observeMemory: () => ({ deviceBytes: undefined }),
    run: async (inputs) => toOutputs(await runTimes(toFeeds(inputs), 1)),
    async prepare(inputs): Promise<Execution> {
      const feeds = toFeeds(inputs);
      let results: Awaited<ReturnType<typeof runTimes>> | undefined;
      return {
        async execute(count) {
          results = await runTimes(feeds, count);
        },
        download: async () => toOutputs((results ??= await runTimes(feeds, 1))),
        async dispose() {
          results = undefined;
        },
      };
    },
    profile: async (inputs) => {
      open();
      const feeds = toFeeds(inputs);
      const kept = bytes.deref();
      if (!kept) throw new TsrtError('USAGE', 'the engine is gone', { fix: 'Keep a reference to the engine for as long as you profile.' });
      const { namedAsLayers, profileRun } = await import('./profile.ts');
      const times = await profileRun((options) => createSession(ort, kept, options), feeds);
      return namedAsLayers(times, kept);
    },
    async dispose() {
      const closing = session;
      session = undefined;
      await closing?.release();
    },
  };
}

async function createSession(ort: Ort, { header, parts }: Engine, extra: object): Promise<OrtSession> {
  const model = parts.get(MODEL_PART);
  if (!model) throw invalidEngine(`it has no part '${MODEL_PART}'`);
  const externalData = [...parts]
    .filter(([name]) => name.startsWith(EXTERNAL_PREFIX))
    .map(([name, data]) => ({ path: name.slice(EXTERNAL_PREFIX.length), data }));
  try {
    return await openSession(ort, model, { ...sessionOptions(header.options), externalData, ...extra });
  } catch (cause) {
    const provider = header.options.backendOptions['provider'] ?? 'cpu';
    if (provider !== 'cpu') throw providerError(String(provider), cause);
    throw invalidEngine(reasonOf(cause), cause);
  }
}

function invalidEngine(why: string, cause?: unknown): TsrtError {
  return new TsrtError('ENGINE_INVALID', `onnxruntime can't load the engine: ${why}`, {
    fix: 'build the engine again: tsrt-bench build',
    cause,
  });
}

function providerError(provider: string, cause: unknown): TsrtError {
  return new TsrtError('BACKEND_UNAVAILABLE', `onnxruntime's provider ${provider} does not work here: ${reasonOf(cause)}`, {
    fix: `Use the option provider=cpu, or install what ${provider} needs (a GPU, its driver, and for cuda and tensorrt onnxruntime-node's CUDA libraries).`,
    cause,
  });
}
