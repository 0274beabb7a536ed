/**
 * An engine that trtexec runs. trtexec loads, warms up and times in one go and then ends, so that one run of it gives the samples of
 * many requests: they are handed out one by one, each its own measured inference, until the next run is due.
 */
import { createHash } from 'node:crypto';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  checkInputs,
  createProgramClock,
  TsrtError,
  type Binding,
  type DeviceInfo,
  type Engine,
  type Execution,
  type LayerTime,
  type ObservedMemory,
  type ProgramClock,
  type Session,
  type TensorMap,
} from 'tsrt-bench';
import { parseDeviceBytes, parseOutputs, parseProfile, parseTimes } from './formats.ts';
import { LIMITS_MS, plainName, runArguments, shapesArgument, trtexec } from './tool.ts';

/** Everything that one run of trtexec gave. */
interface Reading {
  /** Of the inputs' bytes. */
  readonly inputs: string;
  readonly outputs: TensorMap | undefined;
  readonly timesMs: number[];
}

export interface TrtexecSessionOptions {
  readonly engine: Engine;
  readonly device: DeviceInfo;
  /** Holds the plan; the session removes it. */
  readonly folder: string;
  readonly values: Parameters<typeof runArguments>[0];
  readonly dispose: () => Promise<void>;
}

export class TrtexecSession implements Session {
  readonly header;
  readonly device: DeviceInfo;
  readonly inputs: readonly Binding[];
  readonly outputs: readonly Binding[];
  readonly memory;
  readonly maxInFlight = 1;
  readonly clock: ProgramClock = createProgramClock();
  readonly #options: TrtexecSessionOptions;
  readonly #shapes: readonly string[];
  #readings: { readonly with: Reading | undefined; readonly without: Reading | undefined } = { with: undefined, without: undefined };
  #deviceBytes: number | undefined;
  #disposed = false;

  constructor(options: TrtexecSessionOptions) {
    const { header } = options.engine;
    this.header = header;
    this.device = options.device;
    this.inputs = header.inputs;
    this.outputs = header.outputs;
    this.memory = header.memory;
    this.#options = options;
    const open = (header.backendData as { readonly dynamic: readonly string[] }).dynamic;
    this.#shapes = shapesArgument(new Map(header.inputs.filter(({ name }) => open.includes(name)).map(({ name, dims }) => [name, dims])));
  }

  async run(inputs: TensorMap): Promise<TensorMap> {
    const { outputs } = await this.clock.during(async () => {
      const reading = await this.#reading(inputs, true);
      return { elapsedNs: reading.timesMs.shift()! * 1e6, outputs: reading.outputs! };
    });
    return outputs;
  }

  async prepare(inputs: TensorMap): Promise<Execution> {
    this.#files(inputs);
    return {
      execute: async (count) => {
        await this.clock.during(async () => {
          let elapsedNs = 0;
          for (let i = 0; i < count; i++) elapsedNs += (await this.#reading(inputs, false)).timesMs.shift()! * 1e6;
          return { elapsedNs };
        });
      },
      download: async () => (await this.#reading(inputs, true)).outputs!,
      dispose: () => Promise.resolve(),
    };
  }

  async profile(inputs: TensorMap): Promise<readonly LayerTime[]> {
    const file = join(this.#options.folder, 'profile.json');
    await rm(file, { force: true });
    await this.#start(inputs, ['--dumpProfile', '--separateProfileRun', `--exportProfile=${file}`, ...runArguments(this.#options.values, false)], 'profiling');
    return parseProfile(await readExported(file, 'profile'));
  }

  observeMemory(): ObservedMemory {
    return { deviceBytes: this.#disposed ? 0 : this.#deviceBytes };
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await this.#options.dispose();
  }

  /** Samples of these inputs that nobody has had yet; runs trtexec where there are none left. */
  async #reading(inputs: TensorMap, transfers: boolean): Promise<Reading> {
    const key = transfers ? 'with' : 'without';
    const known = this.#readings[key];
    const hash = hashOf(this.#files(inputs));
    if (known && known.inputs === hash && known.timesMs.length > 0) return known;
    const { folder, values } = this.#options;
    const [times, outputs] = [join(folder, 'times.json'), join(folder, 'outputs.json')];
    // What the last run wrote must not pass for what this one did not.
    await Promise.all([times, outputs].map((file) => rm(file, { force: true })));
    const exported = transfers ? [`--exportOutput=${outputs}`] : [];
    const { output } = await this.#start(inputs, [`--exportTimes=${times}`, ...exported, ...runArguments(values, transfers)], 'timing');
    this.#deviceBytes = parseDeviceBytes(output) ?? this.#deviceBytes;
    const traced = parseTimes(await readExported(times, 'times'));
    const reading: Reading = {
      inputs: hash,
      outputs: transfers ? parseOutputs(await readExported(outputs, 'outputs'), this.outputs) : undefined,
      timesMs: traced.map(({ latencyMs, computeMs }) => (transfers ? latencyMs : computeMs)),
    };
    this.#readings = { ...this.#readings, [key]: reading };
    return reading;
  }

  async #start(inputs: TensorMap, args: readonly string[], what: string) {
    const { folder } = this.#options;
    const files = await Promise.all(
      this.#files(inputs).map(async (data, index) => {
        const file = join(folder, `in-${index}.bin`);
        await writeFile(file, data);
        return `${plainName(this.inputs[index]!.name)}:${file}`;
      }),
    );
    const load = files.length > 0 ? [`--loadInputs=${files.join(',')}`] : [];
    return trtexec([`--loadEngine=${join(folder, 'engine.plan')}`, ...load, ...this.#shapes, ...args], LIMITS_MS.run, what);
  }

  #files(inputs: TensorMap): readonly Uint8Array[] {
    if (this.#disposed) throw new TsrtError('USAGE', 'the session was disposed of', { fix: 'load the engine again' });
    return checkInputs(this.inputs, inputs).map(({ data }) => data);
  }
}

function hashOf(files: readonly Uint8Array[]): string {
  const total = createHash('sha256');
  for (const data of files) total.update(data);
  return total.digest('hex');
}

async function readExported(file: string, what: string): Promise<string> {
  return readFile(file, 'utf8').catch((cause: unknown) => {
    throw new TsrtError('BACKEND_FAILED', `trtexec ended well and wrote no ${what}`, { plugin: 'trtexec', place: file, fix: 'check that this trtexec has the --export options', cause });
  });
}
