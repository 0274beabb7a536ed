/** The Open Inference Protocol's paths over HTTP, before models that are open. */
import { finished } from 'node:stream/promises';
import { fastify, type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { TsrtError } from '../errors.ts';
import { elementCount, tensorBytes } from '../ir/tensor.ts';
import { nearest } from '../nearest.ts';
import { TOOL_VERSION } from '../version.ts';
import type { Metrics } from './metrics.ts';
import type { ServedModel } from './model.ts';
import { encodeAnswer, errorText, HEADER_LENGTH, metadataOf, parseHeaderLength, parseRequest, wantedOutputs } from './protocol.ts';

/** What a server is made of. */
export interface ServerOptions {
  readonly models: readonly ServedModel[];
  readonly metrics: Metrics;
  /** Told of what is no user's fault. */
  readonly onFault: (error: Error) => void;
}

/** A server that listens. */
export interface Server {
  readonly address: string;
  /** Answers what is under way, refuses the rest, closes the models, and resolves when the last connection is closed. */
  close(): Promise<void>;
}

/** Whoever still sends a request when all others are answered gets this long. */
const UPLOAD_MS = 2000;
/** Of HTTP's time outs: a request has to be there whole within this time. */
const REQUEST_TIMEOUT_MS = 120_000;
const RETRY_AFTER_SECONDS = '1';
const GOING_DOWN = 'the server is shutting down';

interface State {
  draining: boolean;
  /** Of requests that are there whole: until their answers are written. */
  readonly underWay: Set<Promise<unknown>>;
}

/** What a model's name is a part of. */
interface ModelPath {
  readonly Params: { readonly name: string };
}

/** Listens; port 0 is any that is free. Throws TsrtError USAGE where it can't. */
export async function startServer(options: ServerOptions, { host, port }: { readonly host: string; readonly port: number }): Promise<Server> {
  const state: State = { draining: false, underWay: new Set() };
  const app = fastify({
    bodyLimit: bodyLimit(options.models),
    requestTimeout: REQUEST_TIMEOUT_MS,
    return503OnClosing: false,
    routerOptions: { maxParamLength: 1024 },
  });
  answerErrors(app, options.onFault);
  app.addHook('onRequest', async (_request, reply) => {
    if (state.draining) return refuse(reply, 503, GOING_DOWN);
    return undefined;
  });
  app.addHook('onSend', async (_request, reply) => {
    if (state.draining) reply.header('connection', 'close');
  });
  addRoutes(app, options);
  addInference(app, options, state);
  const address = await app.listen({ host, port }).catch((cause: NodeJS.ErrnoException) => {
    throw new TsrtError('USAGE', `can't listen on ${host}, port ${port}: ${cause.code === 'EADDRINUSE' ? 'another program is using it' : cause.message}`, { fix: 'name another with --port or --host', cause });
  });
  return {
    address,
    async close() {
      state.draining = true;
      const closed = app.close();
      // Batches that wait for more go at once.
      await Promise.all(options.models.map((model) => model.close()));
      while (state.underWay.size > 0) await Promise.all(state.underWay);
      const late = setTimeout(() => app.server.closeAllConnections(), UPLOAD_MS);
      await closed;
      clearTimeout(late);
    },
  };
}

/** The largest request: as numbers in JSON, which take up to 25 characters each, with room for names. */
function bodyLimit(models: readonly ServedModel[]): number {
  const bytesOf = ({ inputs }: ServedModel): number => inputs.reduce((sum, binding) => sum + Math.max(32 * elementCount(binding.dims), tensorBytes(binding)), 2 ** 20);
  return Math.max(...models.map(bytesOf));
}

function refuse(reply: FastifyReply, status: number, error: string): FastifyReply {
  if (status === 503) reply.header('retry-after', RETRY_AFTER_SECONDS);
  return reply.code(status).send({ error });
}

function statusOf(error: FastifyError | TsrtError): number {
  if (!(error instanceof TsrtError)) return error.statusCode ?? 500;
  return error.code === 'USAGE' ? 400 : error.code === 'OVERLOADED' ? 503 : 500;
}

function answerErrors(app: FastifyInstance, onFault: (error: Error) => void): void {
  app.setErrorHandler((error: FastifyError | TsrtError, _request, reply) => {
    const status = statusOf(error);
    if (status === 500) onFault(error);
    return refuse(reply, status, error instanceof TsrtError ? errorText(error) : status === 500 ? 'internal error' : error.message);
  });
  app.setNotFoundHandler((request, reply) => refuse(reply, 404, `there is no ${request.method} ${request.url}`));
}

/** Health, metadata, metrics. */
function addRoutes(app: FastifyInstance, { models, metrics }: ServerOptions): void {
  const isReady = (): boolean => models.every((model) => model.isReady());
  // An engine that is gone does not come back: whoever watches the process should start it again.
  app.get('/v2/health/live', async (_request, reply) => reply.code(isReady() ? 200 : 503).send({ live: isReady() }));
  app.get('/v2/health/ready', async (_request, reply) => reply.code(isReady() ? 200 : 503).send({ ready: isReady() }));
  app.get('/v2', async () => ({ name: 'tsrt-bench', version: TOOL_VERSION, extensions: ['binary_tensor_data'] }));
  app.get<ModelPath>('/v2/models/:name', async ({ params }) => {
    const { name, backend, inputs, outputs, isBatched } = modelOf(models, params.name);
    return { name, platform: `tsrt-bench_${backend}`, inputs: metadataOf(inputs, isBatched), outputs: metadataOf(outputs, isBatched) };
  });
  app.get<ModelPath>('/v2/models/:name/ready', async ({ params }, reply) => {
    const model = modelOf(models, params.name);
    return reply.code(model.isReady() ? 200 : 503).send({ name: model.name, ready: model.isReady() });
  });
  app.get('/metrics', async (_request, reply) => reply.header('content-type', metrics.contentType).send(await metrics.text(models)));
}

/** In a scope of its own: bodies of any type, or of none, are bytes there. */
function addInference(app: FastifyInstance, { models, metrics }: ServerOptions, state: State): void {
  void app.register(async (scope) => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
    scope.addHook<ModelPath>('onResponse', async ({ params }, reply) => {
      metrics.request(models.some(({ name }) => name === params.name) ? params.name : '', reply.statusCode, reply.elapsedTime / 1000);
    });
    scope.post<ModelPath & { Body: Buffer | undefined }>('/v2/models/:name/infer', async (request, reply) => {
      // Its body came too late.
      if (state.draining) return refuse(reply, 503, GOING_DOWN);
      // Also where the client has gone.
      const answered = finished(reply.raw).catch(() => {}).finally(() => state.underWay.delete(answered));
      state.underWay.add(answered);
      return infer(modelOf(models, request.params.name), request, reply);
    });
  });
}

async function infer(model: ServedModel, { headers, body }: FastifyRequest<{ Body: Buffer | undefined }>, reply: FastifyReply): Promise<FastifyReply> {
  const encoding = headers['content-encoding'];
  if (encoding !== undefined && encoding !== 'identity') return refuse(reply, 415, `Content-Encoding ${encoding} is not supported`);
  const length = headers[HEADER_LENGTH];
  const asked = parseRequest(body ?? new Uint8Array(), parseHeaderLength(Array.isArray(length) ? length.join() : length));
  // Before the work, which would be lost.
  const wanted = wantedOutputs(asked, model.outputs);
  const answer = encodeAnswer(model.name, asked, wanted, await model.infer(asked.inputs));
  return reply.headers(answer.headers).send(answer.body);
}

/** Throws an error with status 404. */
function modelOf(models: readonly ServedModel[], name: string): ServedModel {
  const found = models.find((model) => model.name === name);
  if (found) return found;
  const names = models.map((model) => model.name);
  const guess = nearest(name, names);
  throw Object.assign(new Error(`there is no model '${name}'${guess === undefined ? `; there ${names.length === 1 ? 'is' : 'are'} ${names.join(', ')}` : `; did you mean '${guess}'?`}`), { statusCode: 404 });
}
