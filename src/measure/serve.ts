/** The worker's side of the conversation, without the process around it: answers requests one at a time. */
import type { Backend, Session, TensorMap } from '../backends/backend.ts';
import type { Engine } from '../engine/engine.ts';
import { type TimeSource, createSessionClock, measureQuantum } from './clock.ts';
import { readInputs } from './inputs.ts';
import { readResident } from './memory.ts';
import type { AnsweredReply, LoadedReply, MemoryReply, Reply, Request, WorkerTask } from './messages.ts';
import { timeToRest } from './rest.ts';
import { collectGarbage, measureRound, type OpenRound, openRound, type RoundOptions } from './round.ts';
import { WARMUP_BEFORE_TURNS_MS, WarmUps } from './warmup.ts';

/** What a worker finds outside of itself. */
export interface WorkerServices {
  openBackend(name: string, plugins: readonly string[]): Promise<Backend>;
  readEngine(path: string): Promise<Engine>;
  readonly clock: TimeSource;
}

export type Serve = (request: Request) => Promise<Reply>;

/** A loaded engine and what it is measured with. */
interface Bench {
  readonly task: WorkerTask;
  readonly session: Session;
  readonly inputs: TensorMap;
  readonly clock: TimeSource;
  readonly quantumNs: number;
  readonly warmUps: WarmUps;
}

/** A server of one task: `load` comes first, `bye` last. Rejects with whatever the backend raises. */
export function createServer(services: WorkerServices, onSampling: () => void): Serve {
  let loaded: Bench | undefined;
  let underWay: OpenRound | undefined;
  const bench = (): Bench => {
    if (!loaded) throw new Error('a request came before the engine was loaded');
    return loaded;
  };
  const round = (): OpenRound => {
    if (!underWay) throw new Error('a slice came before its round began');
    return underWay;
  };
  const optionsOf = ({ task, ...rest }: Bench, seed: number) => ({ ...rest, scenario: task.scenario, timing: task.timing, seed, onSampling });
  return async (request) => {
    switch (request.kind) {
      case 'load': {
        const { reply, ...rest } = await load(services, request.task);
        loaded = rest;
        return reply;
      }
      case 'answer':
        return answer(bench(), request.wantOutputs);
      case 'infer':
        return { kind: 'inferred', outputs: await bench().session.run(request.inputs) };
      case 'round':
        return { kind: 'round', ...(await measureRound(optionsOf(bench(), request.seed))) };
      case 'begin':
        underWay = await openRound(beforeTurns(optionsOf(bench(), request.seed)));
        // A clock of its own is a simulated device's or another program's: this process does no work for either.
        return { kind: 'begun', executionNs: underWay.executionNs, restMs: bench().session.clock ? 0 : await timeToRest() };
      case 'slice':
        await round().slice(request.slice);
        return { kind: 'sliced' };
      case 'end':
        return { kind: 'round', ...(await round().close()) };
      case 'memory':
        return observeMemory(bench().session);
      case 'bye':
        await loaded?.session.dispose();
        return { kind: 'bye' };
      default:
        return request satisfies never;
    }
  };
}

function beforeTurns(options: RoundOptions): RoundOptions {
  const { session, timing } = options;
  return { ...options, timing: { ...timing, maxWarmupMs: Math.min(timing.maxWarmupMs, WARMUP_BEFORE_TURNS_MS[session.device.kind]) } };
}

async function load(services: WorkerServices, task: WorkerTask): Promise<Bench & { readonly reply: LoadedReply }> {
  const backend = await services.openBackend(task.backend, task.plugins);
  collectGarbage();
  const residentBaselineBytes = readResident().nowBytes;
  const startNs = services.clock.nowNs();
  const session = await loadSession(services, backend, task);
  const loadMs = (services.clock.nowNs() - startNs) / 1e6;
  collectGarbage();
  const residentAfterLoadBytes = readResident().nowBytes + (session.observeMemory().outside?.nowBytes ?? 0);
  const inputs = await readInputs(task.inputs, session.inputs);
  const clock = session.clock ? createSessionClock(session.clock) : services.clock;
  const quantumNs = measureQuantum(() => clock.nowNs());
  const { device, memory: planned, loadSteps } = session;
  const reply = { kind: 'loaded', loadMs, residentBaselineBytes, residentAfterLoadBytes, device, planned, quantumNs, ...(loadSteps && { loadSteps }) } as const;
  return { task, session, inputs, clock, quantumNs, warmUps: new WarmUps(), reply };
}

/** In a function of its own, so that the engine's bytes are garbage once the session has what it needs of them. */
async function loadSession(services: WorkerServices, backend: Backend, task: WorkerTask): Promise<Session> {
  return backend.load(await services.readEngine(task.enginePath), { device: task.device, signal: undefined });
}

async function answer({ session, inputs, clock }: Bench, wantOutputs: boolean): Promise<AnsweredReply> {
  const startNs = clock.nowNs();
  const outputs = await session.run(inputs);
  return { kind: 'answered', firstRunMs: (clock.nowNs() - startNs) / 1e6, outputs: wantOutputs ? outputs : undefined };
}

function observeMemory(session: Session): MemoryReply {
  const { deviceBytes, outside } = session.observeMemory();
  return { kind: 'memory', residentPeakBytes: readResident().peakBytes + (outside?.peakBytes ?? 0), deviceBytes };
}
