/**
 * A backend that is a program: it says hello, and is asked to probe, build, load and run over JSON lines (protocol.ts).
 *
 * Every build and every session has a process of its own, so that memory is the engine's and an end is an end. A plugin gives the
 * command and may build in this process, in which case the program only loads and runs.
 */
import { checkCompatible } from '../../engine/fingerprint.ts';
import type { Engine } from '../../engine/engine.ts';
import { TsrtError } from '../../errors.ts';
import type { Availability, Backend, BuildContext, BuildInput, LoadOptions, Session, Unsupported } from '../backend.ts';
import { readOptions, type OptionSpecs } from '../options.ts';
import { foreignTypes } from './model.ts';
import { engineFrom, type ExternalBuild } from './engine.ts';
import { createExchange, type Exchange } from './exchange.ts';
import type { ReplyBody } from './protocol.ts';
import { type Greeted, startProgram } from './program.ts';
import { DEFAULT_TIMEOUTS_MS, type Timeouts } from './timeouts.ts';

/** A backend that is a program; see docs/external-protocol.md. */
export interface ExternalBackendOptions {
  readonly name: string;
  /** One sentence for `doctor` and help. */
  readonly description: string;
  /** What starts the program; asked anew each time, so that it may depend on the environment. */
  readonly command: () => { readonly command: string; readonly args?: readonly string[]; readonly env?: Readonly<Record<string, string>> };
  /** Build options of the backend; unknown ones and wrong values are refused before anything starts. */
  readonly options?: OptionSpecs;
  /** Why an input can't be built, as far as that is known without the program. Default: a graph that the IR can't hold, and types of few bits. */
  readonly supports?: (input: BuildInput) => readonly Unsupported[];
  /** Builds in this process. Default: the program is asked to `build`, with the model as ONNX and as a graph. */
  readonly build?: (input: BuildInput, context: BuildContext) => Promise<ExternalBuild>;
  /** Longest silence by request, in milliseconds. */
  readonly timeoutsMs?: Partial<Timeouts>;
}

/** A backend from a program that speaks the external protocol. */
export function externalBackend(options: ExternalBackendOptions): Backend {
  const { name, description } = options;
  const timeouts: Timeouts = { ...DEFAULT_TIMEOUTS_MS, ...options.timeoutsMs };
  const supports = (input: BuildInput): readonly Unsupported[] => {
    readOptions(options.options ?? {}, input.options);
    return options.supports ? options.supports(input) : input.graph.ok ? foreignTypes(input.graph.graph) : input.graph.unsupported;
  };
  return {
    name,
    description,
    ...(options.options && { options: options.options }),
    supports,
    probe: () => probe(options, timeouts),
    async build(input, context) {
      readOptions(options.options ?? {}, input.options);
      const built = options.build ? await options.build(input, context) : await buildOutside(options, timeouts, input, context);
      return engineFrom(name, input, built);
    },
    load: (engine, load) => loadOutside(options, timeouts, engine, load),
  };
}

/** A program that was started for one purpose, and its folder. */
interface Started {
  readonly greeted: Greeted;
  readonly exchange: Exchange;
}

async function start({ name, command }: ExternalBackendOptions, timeouts: Timeouts, signal?: AbortSignal): Promise<Started> {
  const exchange = await createExchange();
  try {
    const launch = { name, args: [], ...command(), folder: exchange.folder };
    return { exchange, greeted: await startProgram(launch, { timeoutMs: timeouts.hello, signal }) };
  } catch (error) {
    exchange.dispose();
    throw error;
  }
}

async function probe(options: ExternalBackendOptions, timeouts: Timeouts): Promise<Availability> {
  try {
    const { greeted, exchange } = await start(options, timeouts);
    try {
      return await greeted.program.ask('probe', {}, { timeoutMs: timeouts.probe });
    } finally {
      await greeted.program.close();
      exchange.dispose();
    }
  } catch (error) {
    // `doctor` and `run` go on without a backend that is not there. One that is there and breaks the protocol is a fault of the plugin.
    if (!(error instanceof TsrtError) || error.code === 'PLUGIN_INVALID') throw error;
    return { status: 'unavailable', reason: [error.message, ...error.details.slice(-3)].join('; '), fix: error.fix ?? 'see docs/external-protocol.md' };
  }
}

async function loadOutside(options: ExternalBackendOptions, timeouts: Timeouts, engine: Engine, load: LoadOptions): Promise<Session> {
  const { openExternalSession } = await import('./session.ts');
  load.signal?.throwIfAborted();
  const { greeted, exchange } = await start(options, timeouts, load.signal ?? undefined);
  try {
    const session = await openExternalSession({ name: options.name, greeted, exchange, engine, load, timeouts });
    checkCompatible(engine.header, options.name, session.device);
    return session;
  } catch (error) {
    await greeted.program.kill();
    exchange.dispose();
    throw error;
  }
}

async function buildOutside(options: ExternalBackendOptions, timeouts: Timeouts, input: BuildInput, context: BuildContext): Promise<ExternalBuild> {
  // The compiler is loaded only where something is compiled.
  const { writeModel } = await import('./build.ts');
  const { greeted, exchange } = await start(options, timeouts, context.signal);
  const { program, can } = greeted;
  const limits = { signal: context.signal, onProgress: context.onProgress };
  try {
    if (!can('build')) {
      throw new TsrtError('PLUGIN_INVALID', `${options.name}: neither the plugin nor its program builds engines`, {
        plugin: options.name,
        fix: "give externalBackend a `build`, or make the program say 'build' among its capabilities",
      });
    }
    const model = await writeModel(exchange, input);
    if (can('supports')) {
      const { unsupported } = await program.ask('supports', { model, options: input.options }, { ...limits, timeoutMs: timeouts.supports });
      if (unsupported.length > 0) throw refusal(options.name, input, unsupported);
    }
    const reply = await program.ask('build', { model, options: input.options }, { ...limits, timeoutMs: timeouts.build });
    const built = await received(options.name, reply, exchange);
    return can('execute') ? built : { ...built, notices: [...(built.notices ?? []), NO_EXECUTE] };
  } finally {
    await program.close();
    exchange.dispose();
  }
}

const NO_EXECUTE = 'The program can not keep inputs on its device: times without transfers hold them all the same.';

/** Throws PLUGIN_INVALID for a part that is not where the program says. */
async function received(program: string, { parts, layers, ...rest }: ReplyBody<'build'>, exchange: Exchange): Promise<ExternalBuild> {
  const read = await Promise.all(
    parts.map(async ({ name, file }) => {
      const bytes = await exchange.read(file).catch((cause: NodeJS.ErrnoException) => {
        throw new TsrtError('PLUGIN_INVALID', `${program}: the part '${name}' is in the file ${file}, which can't be read (${cause.code})`, {
          plugin: program,
          fix: "make the program write its parts into the greeting's folder before it replies",
          cause,
        });
      });
      return [name, bytes] as const;
    }),
  );
  return {
    parts: new Map(read),
    notices: rest.notices,
    requires: rest.requires,
    data: rest.data,
    ...(layers && { layers }),
    ...(rest.memory && { memory: rest.memory }),
  };
}

function refusal(name: string, { model }: BuildInput, unsupported: readonly Unsupported[]): TsrtError {
  return new TsrtError('MODEL_UNSUPPORTED', `the backend ${name} can't build ${model.name}: ${[...new Set(unsupported.map(({ op }) => op))].join(', ')}`, {
    details: unsupported.map(({ node, op, reason }) => `${op} '${node}': ${reason}`),
    fix: 'use --backend onnxruntime',
  });
}
