/** A null engine loaded: answers from answers.ts, time from latency.ts. */
import type { Engine } from '../../engine/engine.ts';
import { TsrtError } from '../../errors.ts';
import type { Clock, DeviceInfo, Execution, Session, TensorMap } from '../backend.ts';
import { checkInputs } from '../inputs.ts';
import { readOptions } from '../options.ts';
import { answer, fnv1a, PRECISION_ERROR, type AnswerRule } from './answers.ts';
import { maybeFail } from './fault.ts';
import { durations, fakeClock, wallClock } from './latency.ts';
import { NULL_OPTIONS } from './options.ts';

export const NULL_DEVICE: DeviceInfo = {
  slug: 'null',
  kind: 'fake',
  description: 'fake device: fixed answers, fake clock',
  properties: {},
};

/** Opens a session. Throws what the options ask for. */
export async function openNullSession({ header }: Engine): Promise<Session> {
  const options = readOptions(NULL_OPTIONS, header.options);
  await maybeFail(options, 'load', 0);
  const clock: Clock = options.clock === 'fake' ? fakeClock() : wallClock;
  const times = durations(header.options, options);
  const rule: AnswerRule = {
    inputs: header.inputs,
    outputs: header.outputs,
    batch: header.options.batch,
    salt: fnv1a(new TextEncoder().encode(header.model.sha256)),
    error: PRECISION_ERROR[header.options.precision] + options.errorScale,
  };
  // Filled, so that the pages are the process's and not only promised to it.
  let held: Uint8Array | undefined = new Uint8Array(options.memoryBytes).fill(1);
  let executions = 0;

  async function execute(count: number): Promise<number> {
    let totalNs = 0;
    for (let i = 0; i < count; i++) {
      if (!held) throw new TsrtError('USAGE', 'the session was disposed of', { fix: 'load the engine again' });
      await maybeFail(options, 'run', executions++);
      const durationNs = times.next().value;
      totalNs += durationNs;
      await clock.sleep(durationNs);
    }
    return totalNs;
  }

  return {
    header,
    device: NULL_DEVICE,
    inputs: header.inputs,
    outputs: header.outputs,
    maxInFlight: options.maxInFlight,
    memory: header.memory,
    ...(options.clock === 'fake' && { clock }),
    observeMemory: () => ({ deviceBytes: held?.byteLength ?? 0 }),
    async run(inputs) {
      const tensors = checkInputs(header.inputs, inputs);
      await execute(1);
      return answer(rule, tensors);
    },
    async prepare(inputs): Promise<Execution> {
      const outputs: TensorMap = answer(rule, checkInputs(header.inputs, inputs));
      return {
        execute: async (count) => void (await execute(count)),
        download: () => Promise.resolve(outputs),
        dispose: () => Promise.resolve(),
      };
    },
    async profile(inputs) {
      checkInputs(header.inputs, inputs);
      const totalNs = await execute(1);
      return header.layers.map((layer) => ({ layer: layer.name, durationNs: totalNs / header.layers.length }));
    },
    async dispose() {
      held = undefined;
    },
  };
}
