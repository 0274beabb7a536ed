/** An engine loaded in an outside program: a session that asks, and keeps the program's own time. */
import type { Engine, EngineHeader } from '../../engine/engine.ts';
import { TsrtError } from '../../errors.ts';
import type { DeviceInfo, Execution, LoadOptions, ObservedMemory, Session, TensorMap } from '../backend.ts';
import { checkInputs } from '../inputs.ts';
import { createProgramClock, type ProgramClock } from './clock.ts';
import type { Exchange } from './exchange.ts';
import type { Greeted } from './program.ts';
import type { ReplyBody, RequestName, TensorFile } from './protocol.ts';
import { readProcessMemory } from './resident.ts';
import type { Timeouts } from './timeouts.ts';

export interface OpenSessionRequest {
  readonly name: string;
  readonly greeted: Greeted;
  readonly exchange: Exchange;
  readonly engine: Engine;
  readonly load: LoadOptions;
  readonly timeouts: Timeouts;
}

/** Loads the engine. From then on the session owns the program and the exchange; where this rejects they are the caller's. */
export async function openExternalSession(request: OpenSessionRequest): Promise<Session> {
  const { greeted, exchange, engine, load, timeouts } = request;
  const { options, inputs, outputs, backendData: data } = engine.header;
  const parts = await Promise.all(
    [...engine.parts].map(async ([name, bytes], index) => {
      const file = `part-${index}.bin`;
      await exchange.write(file, bytes);
      return { name, file };
    }),
  );
  const body = { engine: { options, inputs, outputs, data, parts }, device: load.device ?? null };
  const loaded = await greeted.program.ask('load', body, { timeoutMs: timeouts.load, signal: load.signal });
  return new ExternalSession(request, loaded);
}

class ExternalSession implements Session {
  readonly header: EngineHeader;
  readonly device: DeviceInfo;
  readonly inputs;
  readonly outputs;
  readonly memory;
  readonly maxInFlight = 1;
  readonly clock?: ProgramClock;
  readonly profile?: NonNullable<Session['profile']>;
  readonly #request: OpenSessionRequest;
  #disposed = false;

  constructor(request: OpenSessionRequest, loaded: ReplyBody<'load'>) {
    const { header } = request.engine;
    this.header = header;
    this.device = loaded.device;
    this.inputs = header.inputs;
    this.outputs = header.outputs;
    this.memory = loaded.memory ?? header.memory;
    // The engine's bytes are the program's by now: a second copy of the weights would only take memory.
    this.#request = { ...request, engine: { header, parts: new Map() } };
    const { can } = request.greeted;
    if (can('timing')) this.clock = createProgramClock();
    if (can('profile')) this.profile = async (inputs) => (await this.#ask('profile', { inputs: await this.#send(inputs) })).layers;
  }

  async run(inputs: TensorMap): Promise<TensorMap> {
    this.#check();
    const { outputs } = await this.#timed('run', async () => {
      const reply = await this.#ask('run', { inputs: await this.#send(inputs) });
      return { elapsedNs: reply.elapsedNs, outputs: await this.#receive(reply.outputs) };
    });
    return outputs;
  }

  async prepare(inputs: TensorMap): Promise<Execution> {
    this.#check();
    if (!this.#request.greeted.can('execute')) return this.#repeat(inputs);
    const { execution } = await this.#ask('prepare', { inputs: await this.#send(inputs) });
    return {
      execute: async (count) => {
        await this.#timed('execute', () => this.#ask('execute', { execution, count }));
      },
      download: async () => this.#receive((await this.#ask('download', { execution })).outputs),
      dispose: async () => {
        if (this.#disposed) return;
        await this.#ask('release', { execution });
        if (this.#request.greeted.can('memory')) await this.#ask('memory', {});
      },
    };
  }

  observeMemory(): ObservedMemory {
    const { program } = this.#request.greeted;
    if (this.#disposed) return { deviceBytes: 0 };
    const outside = readProcessMemory(program.pid);
    return { deviceBytes: program.deviceBytes(), ...(outside && { outside }) };
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await this.#request.greeted.program.close();
    this.#request.exchange.dispose();
  }

  /** For programs that can't keep inputs: whole requests, as the notice in the engine says. */
  #repeat(inputs: TensorMap): Execution {
    let outputs: TensorMap | undefined;
    return {
      execute: async (count) => {
        for (let i = 0; i < count; i++) outputs = await this.run(inputs);
      },
      download: async () => (outputs ??= await this.run(inputs)),
      dispose: () => Promise.resolve(),
    };
  }

  #check(): void {
    if (this.#disposed) throw new TsrtError('USAGE', 'the session was disposed of', { fix: 'load the engine again' });
  }

  async #ask<K extends RequestName>(request: K, body: object): Promise<ReplyBody<K>> {
    this.#check();
    const { greeted, timeouts } = this.#request;
    return greeted.program.ask(request, body, { timeoutMs: timeouts[request] });
  }

  /** By the program's clock, where it has one. Throws PLUGIN_INVALID where it then says no time: some samples would hold the conversation. */
  #timed<T extends { readonly elapsedNs?: number | undefined }>(request: RequestName, work: () => Promise<T>): Promise<T> {
    if (!this.clock) return work();
    return this.clock.during(async () => {
      const reply = await work();
      if (reply.elapsedNs !== undefined) return reply;
      const { name } = this.#request;
      throw new TsrtError('PLUGIN_INVALID', `${name}: the program names 'timing' among its capabilities, and its reply to '${request}' has no elapsedNs`, {
        plugin: name,
        fix: "make it say how long the request took by its own clock, or leave 'timing' out",
      });
    });
  }

  #send(inputs: TensorMap): Promise<readonly TensorFile[]> {
    return this.#request.exchange.writeTensors(this.inputs, checkInputs(this.inputs, inputs));
  }

  #receive(files: readonly TensorFile[]): Promise<TensorMap> {
    return this.#request.exchange.readTensors(this.#request.name, this.outputs, files);
  }
}
