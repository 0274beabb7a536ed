/**
 * A composite engine loaded: its segments as sessions of their own, all on one device, run in order with values copied through
 * the host. One request at a time, since onnxruntime computes on the calling thread.
 */
import { type CompositePlan, readComposite, segmentEngine } from '../../../engine/composite.ts';
import type { Binding, Engine } from '../../../engine/engine.ts';
import { HeaderError } from '../../../engine/header.ts';
import { TsrtError } from '../../../errors.ts';
import { formatType, type Tensor } from '../../../ir/tensor.ts';
import type { Execution, LayerTime, LoadSteps, Session, TensorMap } from '../../backend.ts';
import { checkInputs } from '../../inputs.ts';
import { cpuDevice } from '../../cpu.ts';
import { openOrtSession } from '../../onnxruntime/session.ts';
import type { WebgpuDevice } from '../device.ts';
import { createSession } from '../session.ts';

/** The onnxruntime segments of an engine, kept as long as the engine is: a session profiles from their bytes. */
const segmentsOf = new WeakMap<Engine, Engine[]>();

/** Loads a composite engine. `release` is called once, after `dispose`. Throws TsrtError ENGINE_INVALID for a broken plan. */
export async function createCompositeSession(engine: Engine, open: WebgpuDevice, release: () => void = () => undefined): Promise<Session> {
  const plan = checkedPlan(engine);
  const sessions: Session[] = [];
  try {
    for (const [index, { runner }] of plan.segments.entries()) {
      const part = segmentEngine(engine, plan, index);
      if (runner === 'webgpu') sessions.push(await createSession(part, open));
      else {
        segmentsOf.set(engine, [...(segmentsOf.get(engine) ?? []), part]);
        sessions.push(await openOrtSession(part, cpuDevice()));
      }
    }
  } catch (error) {
    await disposeAll(sessions);
    throw error;
  }
  return composed(engine, open, sessions, release);
}

function checkedPlan(engine: Engine): CompositePlan {
  try {
    return readComposite(engine);
  } catch (error) {
    if (!(error instanceof HeaderError)) throw error;
    throw new TsrtError('ENGINE_INVALID', `the engine's plan is broken: ${error.message}`, { fix: 'build the engine again', cause: error });
  }
}

async function disposeAll(sessions: readonly Session[]): Promise<void> {
  for (const session of sessions) await session.dispose();
}

function composed({ header }: Engine, open: WebgpuDevice, sessions: readonly Session[], release: () => void): Session {
  let disposed = false;
  const alive = (): void => {
    if (disposed) throw new TsrtError('USAGE', 'the session was disposed of', { fix: 'load the engine again' });
    open.check();
  };
  /** Runs every segment; `visit` sees each with its inputs, before it runs. */
  const runAll = async (given: readonly Tensor[], visit?: (session: Session, inputs: TensorMap) => Promise<void>): Promise<TensorMap> => {
    const values = new Map(header.inputs.map(({ name }, i) => [name, given[i]!]));
    for (const session of sessions) {
      alive();
      const inputs = pick(session.inputs, values);
      await visit?.(session, inputs);
      const outputs = await session.run(inputs);
      for (const binding of session.outputs) values.set(binding.name, checkedOutput(binding, outputs[binding.name]));
    }
    return pick(header.outputs, values);
  };
  const profile = async (inputs: TensorMap): Promise<readonly LayerTime[]> => {
    alive();
    const times: LayerTime[] = [];
    await runAll(checkInputs(header.inputs, inputs), async (session, part) => {
      times.push(...(await session.profile!(part)));
    });
    return times;
  };
  const timed = sessions.find((session) => session.yardstick);
  return {
    header,
    device: open.info,
    inputs: header.inputs,
    outputs: header.outputs,
    maxInFlight: 1,
    memory: header.memory,
    async run(inputs) {
      alive();
      return runAll(checkInputs(header.inputs, inputs));
    },
    async prepare(inputs) {
      alive();
      return prepared(checkInputs(header.inputs, inputs), runAll);
    },
    loadSteps: sumSteps(sessions),
    observeMemory: () => ({ deviceBytes: sessions.reduce((sum, session) => sum + (session.observeMemory().deviceBytes ?? 0), 0) }),
    ...(sessions.every((session) => session.profile) && { profile }),
    ...(timed && { yardstick: () => timed.yardstick!() }),
    async dispose() {
      if (disposed) return;
      disposed = true;
      await disposeAll(sessions);
      release();
    },
  };
}

function sumSteps(sessions: readonly Session[]): LoadSteps {
  const sum = (key: keyof LoadSteps): number => sessions.reduce((total, { loadSteps }) => total + (loadSteps?.[key] ?? 0), 0);
  return { uploadMs: sum('uploadMs'), pipelinesMs: sum('pipelinesMs') };
}

/** Every execution makes the copies between segments: without them there is none. */
function prepared(given: readonly Tensor[], runAll: (given: readonly Tensor[]) => Promise<TensorMap>): Execution {
  let results: TensorMap | undefined;
  let ended = false;
  const alive = (): void => {
    if (ended) throw new TsrtError('USAGE', 'the execution was disposed of', { fix: 'prepare the inputs again' });
  };
  return {
    async execute(count) {
      alive();
      for (let i = 0; i < count; i++) results = await runAll(given);
    },
    async download() {
      alive();
      return (results ??= await runAll(given));
    },
    async dispose() {
      ended = true;
      results = undefined;
    },
  };
}

function pick(bindings: readonly Binding[], values: ReadonlyMap<string, Tensor>): TensorMap {
  return Object.fromEntries(bindings.map(({ name }) => [name, values.get(name)!]));
}

/** A custom op's declared type may be wrong; what follows was compiled for it. */
function checkedOutput(binding: Binding, tensor: Tensor | undefined): Tensor {
  const found = tensor ? formatType(tensor) : 'nothing';
  if (tensor && (found === formatType(binding) || (binding.dynamic && tensor.dtype === binding.dtype))) return tensor;
  throw new TsrtError('MODEL_UNSUPPORTED', `onnxruntime gives ${found} for '${binding.name}', but the model declares ${formatType(binding)}`, {
    fix: 'export the model with the right types (value_info) for the outputs of its custom ops',
  });
}
