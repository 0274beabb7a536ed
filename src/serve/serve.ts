/** Engine files as a server: which of them are one model, each model's engines in a thread, and HTTP before them. */
import { readEngineHeader } from '../engine/read.ts';
import { TsrtError } from '../errors.ts';
import { createMetrics, type Metrics } from './metrics.ts';
import { type ServedModel, serveModel } from './model.ts';
import { type Server, startServer } from './server.ts';
import { openThread } from './thread.ts';

/** What to serve, and how. */
export interface ServeRequest {
  /** Engine files, or `NAME=FILE`. */
  readonly engines: readonly string[];
  /** Of the model of all files that have no name of their own; default: as the engine names its model. */
  readonly name: string | undefined;
  readonly host: string;
  readonly port: number;
  readonly device: string | undefined;
  readonly maxQueueDelayMs: number;
  /** Items of each model. */
  readonly maxQueueSize: number | undefined;
  /** Ends the server, and whatever comes before it listens. */
  readonly signal: AbortSignal;
  readonly onFault: (error: Error) => void;
}

/** A model of a server, in words. */
export interface ModelSummary {
  readonly name: string;
  readonly backend: string;
  readonly device: string;
  /** Of its engines, ascending. */
  readonly batches: readonly number[];
}

/** A server that answers, and what it serves. */
export interface RunningServer extends Server {
  readonly models: readonly ModelSummary[];
}

/** Engine files of one model. */
interface ModelFiles {
  readonly name: string;
  readonly files: string[];
}

/** Opens the engines and listens. Rejects with what `openEngine` throws, with USAGE for engines that do not go together and for a port that is taken, and with the signal's reason. */
export async function serve(request: ServeRequest): Promise<RunningServer> {
  const groups = await groupFiles(request);
  const metrics = createMetrics();
  const opening = await Promise.allSettled(groups.map((group) => openModel(group, request, metrics)));
  const opened = opening.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  const models = opened.map(({ model }) => model);
  try {
    for (const result of opening) if (result.status === 'rejected') throw result.reason;
    const server = await startServer({ models, metrics, onFault: request.onFault }, request);
    return { ...server, models: opened.map(({ summary }) => summary) };
  } catch (error) {
    await Promise.all(models.map((model) => model.close()));
    throw error;
  }
}

/** A name that HTTP's paths and Prometheus' labels bear, before a path that may have the character too. */
const NAMED = /^([\w.-]+)=(.+)$/s;

/** Files by their model's name, in the order of their coming. Throws TsrtError USAGE for a name that means two models. */
export async function groupFiles({ engines, name }: Pick<ServeRequest, 'engines' | 'name'>): Promise<readonly ModelFiles[]> {
  const groups = new Map<string, ModelFiles & { readonly sha256: string; readonly model: string }>();
  for (const word of engines) {
    const [, own, path] = NAMED.exec(word) ?? [];
    const file = path ?? word;
    const { model } = await readEngineHeader(file);
    const called = own ?? name ?? model.name;
    const group = groups.get(called) ?? { name: called, files: [], sha256: model.sha256, model: model.name };
    if (group.sha256 !== model.sha256) {
      throw new TsrtError('USAGE', `two different models would be called '${called}': ${group.model} from ${group.files[0]}, and ${model.name} from ${file}`, { fix: `give one of them another name: NAME=${file}` });
    }
    group.files.push(file);
    groups.set(called, group);
  }
  return [...groups.values()].map(({ name: called, files }) => ({ name: called, files }));
}

interface OpenedModel {
  readonly model: ServedModel;
  readonly summary: ModelSummary;
}

async function openModel({ name, files }: ModelFiles, { device, maxQueueDelayMs, maxQueueSize, signal }: ServeRequest, metrics: Metrics): Promise<OpenedModel> {
  const thread = await openThread({ files, device }, signal);
  try {
    const model = serveModel(name, thread, { maxQueueDelayMs, ...(maxQueueSize !== undefined && { maxQueueSize }), onBatch: (report) => metrics.batch(name, report) });
    const batches = thread.sessions.map(({ header }) => header.options.batch).sort((a, b) => a - b);
    return { model, summary: { name, backend: model.backend, device: thread.sessions[0]!.device.description, batches } };
  } catch (error) {
    await thread.close();
    throw error;
  }
}
