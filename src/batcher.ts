/**
 * Dynamic batching: requests of one item each are collected into the batches that engines were built for.
 *
 * Prior art: Triton Inference Server's dynamic batcher (`max_queue_delay_microseconds`, `max_queue_size`), TensorFlow Serving's BatchingSession, and
 * Clipper (Crankshaw et al., NSDI 2017). Engines here have one batch each, so that a batch which does not fill its engine is padded, and several
 * engines of one model, say of 1, 8 and 32, serve from idle to loaded.
 *
 *     const batcher = createBatcher([b1, b8, b32], { maxQueueDelayMs: 2 });
 *     const { logits } = await batcher.run({ input: fromNumbers('float32', [1, 3, 224, 224], pixels) });
 */
import type { Session, TensorMap } from './backends/backend.ts';
import { checkInputs } from './backends/inputs.ts';
import type { Binding } from './engine/engine.ts';
import { TsrtError } from './errors.ts';
import { DTYPE_BITS, elementCount, formatType, sameDims, type Tensor, tensorBytes } from './ir/tensor.ts';

/** What is asked of a session: one that runs elsewhere, in a worker thread say, need not have more. */
export type BatchSession = Pick<Session, 'header' | 'inputs' | 'outputs' | 'maxInFlight' | 'run'>;

/** A batch that was answered. */
export interface BatchReport {
  /** Of the engine that it ran on. */
  readonly batch: number;
  /** For each request in it, milliseconds from its coming until the batch went. */
  readonly queuedMs: readonly number[];
  /** Milliseconds from then until the session's answer. */
  readonly tookMs: number;
}

/** How long requests wait for each other, how many may, how many batches run at once, and who is told of them. */
export interface BatcherOptions {
  /**
   * Milliseconds that a request waits at most for others to fill its batch while an engine is free; timers may add one. Default 0: what has come goes
   * as soon as an engine is free, which under load fills batches by itself.
   */
  readonly maxQueueDelayMs?: number;
  /** Requests that may wait; further ones are refused (TsrtError OVERLOADED). Default: any number. */
  readonly maxQueueSize?: number;
  /** Batches under way at once. Default, and at most: what each of the sessions bears. */
  readonly maxInFlight?: number;
  /** Called for each batch that was answered, before its requests are: for metrics. It must not throw. */
  readonly onBatch?: (report: BatchReport) => void;
}

/** A queue of requests before one or several sessions of one model. */
export interface Batcher {
  /**
   * One item: each input's first axis is 1, as is each output's. Rejects with TsrtError USAGE where the inputs do not fit, OVERLOADED where too many wait,
   * and with the session's error where its batch failed. The inputs' bytes are read when their batch goes: leave them as they are until the answer is there.
   */
  run(inputs: TensorMap): Promise<TensorMap>;
  /** Requests answered, and batches that it took. */
  readonly counts: { readonly requests: number; readonly batches: number };
  /** Requests that wait now; those in a batch under way do not. */
  readonly waiting: number;
  /** Refuses further requests and resolves when those before are answered. The sessions stay the caller's. */
  close(): Promise<void>;
}

/** A request that waits. */
interface Waiting {
  readonly tensors: readonly Tensor[];
  readonly cameMs: number;
  resolve(outputs: TensorMap): void;
  reject(error: unknown): void;
}

/** Which of the batches to use, and how many of those that wait go in it: the largest that is full, or a larger one that is more than half full. */
export function fillBatch(waiting: number, ascending: readonly number[]): { readonly batch: number; readonly items: number } {
  const larger = ascending.find((batch) => batch >= waiting);
  const full = ascending.findLast((batch) => batch <= waiting);
  if (larger !== undefined && (full === undefined || 2 * waiting > larger)) return { batch: larger, items: waiting };
  return { batch: full!, items: full! };
}

/** Throws TsrtError USAGE where the sessions are not one model's at different batches, or options make no sense. */
export function createBatcher(sessions: BatchSession | readonly BatchSession[], options: BatcherOptions = {}): Batcher {
  const byBatch = sessionsByBatch('run' in sessions ? [sessions] : sessions);
  return new DynamicBatcher(byBatch, checkedOptions(options, [...byBatch.values()]));
}

class DynamicBatcher implements Batcher {
  readonly #sessions: ReadonlyMap<number, BatchSession>;
  readonly #options: Required<BatcherOptions>;
  readonly #batches: readonly number[];
  readonly #inputs: readonly Binding[];
  readonly #queue: Waiting[] = [];
  /** Inputs of batches that have been answered, by their batch: fresh memory of megabytes costs more than what is copied into it. */
  readonly #spare = new Map<number, TensorMap[]>();
  readonly #counts = { requests: 0, batches: 0 };
  #underWay = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #looks = false;
  #closed: { readonly idle: Promise<void>; done(): void } | undefined;

  constructor(sessions: ReadonlyMap<number, BatchSession>, options: Required<BatcherOptions>) {
    this.#sessions = sessions;
    this.#options = options;
    this.#batches = [...sessions.keys()].toSorted((a, b) => a - b);
    this.#inputs = ofOneItem(sessions.get(this.#batches[0]!)!.inputs);
  }

  get counts(): Batcher['counts'] {
    return { ...this.#counts };
  }

  get waiting(): number {
    return this.#queue.length;
  }

  async run(inputs: TensorMap): Promise<TensorMap> {
    if (this.#closed) throw new TsrtError('USAGE', 'the batcher is closed', { fix: 'make another one with createBatcher' });
    const tensors = checkInputs(this.#inputs, inputs);
    if (this.#queue.length >= this.#options.maxQueueSize) {
      throw new TsrtError('OVERLOADED', `${this.#queue.length} requests are already waiting`, { fix: 'try again later, offer less, or raise maxQueueSize' });
    }
    return new Promise((resolve, reject) => {
      this.#queue.push({ tensors, cameMs: performance.now(), resolve, reject });
      this.#lookSoon();
    });
  }

  async close(): Promise<void> {
    if (!this.#closed) {
      let done = (): void => {};
      const idle = new Promise<void>((resolve) => {
        done = resolve;
      });
      this.#closed = { idle, done };
      this.#look();
    }
    await this.#closed.idle;
  }

  /** After the caller's turn: what it asks for in one go is one batch. */
  #lookSoon(): void {
    if (this.#looks) return;
    this.#looks = true;
    queueMicrotask(() => {
      this.#looks = false;
      this.#look();
    });
  }

  #look(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    while (this.#queue.length > 0 && this.#underWay < this.#options.maxInFlight) {
      const restMs = this.#restMs();
      if (restMs > 0) {
        this.#timer = setTimeout(() => this.#look(), Math.ceil(restMs));
        return;
      }
      if (this.#refuseChanged()) continue;
      const { batch, items } = fillBatch(this.#queue.length, this.#batches);
      void this.#serve(this.#sessions.get(batch)!, batch, this.#queue.splice(0, items));
    }
    if (this.#queue.length === 0 && this.#underWay === 0) this.#closed?.done();
  }

  /**
   * Whether bytes were taken away since their request came (a buffer that was transferred has none): such a request is refused alone. Its place in the
   * batch would hold what another request left there.
   */
  #refuseChanged(): boolean {
    const isWhole = ({ tensors }: Waiting): boolean => tensors.every(({ data }, at) => data.byteLength === tensorBytes(this.#inputs[at]!));
    const changed = this.#queue.filter((request) => !isWhole(request));
    if (changed.length === 0) return false;
    this.#queue.splice(0, this.#queue.length, ...this.#queue.filter(isWhole));
    for (const { reject } of changed) reject(new TsrtError('USAGE', "the request's bytes are gone: their buffer was transferred before the answer came", { fix: 'leave inputs as they are until then, or give a copy' }));
    return true;
  }

  /** How long the first of the queue may wait still; 0 where nothing is to be gained. */
  #restMs(): number {
    if (this.#closed || this.#queue.length >= this.#batches.at(-1)!) return 0;
    return Math.max(0, this.#queue[0]!.cameMs + this.#options.maxQueueDelayMs - performance.now());
  }

  async #serve(session: BatchSession, batch: number, requests: readonly Waiting[]): Promise<void> {
    this.#underWay++;
    const wentMs = performance.now();
    const spare = this.#spare.get(batch) ?? [];
    this.#spare.set(batch, spare);
    const inputs = batch === 1 ? alone(session.inputs, requests[0]!) : (spare.pop() ?? blank(session.inputs));
    try {
      if (batch > 1) join(session.inputs, batch, requests, inputs);
      const outputs = await session.run(inputs);
      this.#counts.requests += requests.length;
      this.#counts.batches++;
      this.#options.onBatch({ batch, queuedMs: requests.map(({ cameMs }) => wentMs - cameMs), tookMs: performance.now() - wentMs });
      for (const [i, { resolve }] of requests.entries()) resolve(itemOf(outputs, batch, i));
      // Not that of a batch that failed, which the session may read still.
      if (batch > 1) spare.push(inputs);
    } catch (error) {
      for (const { reject } of requests) reject(error);
    } finally {
      this.#underWay--;
      this.#look();
    }
  }
}

const alone = (inputs: readonly Binding[], { tensors }: Waiting): TensorMap => Object.fromEntries(inputs.map(({ name }, at) => [name, tensors[at]!]));

const blank = (inputs: readonly Binding[]): TensorMap =>
  Object.fromEntries(inputs.map(({ name, dtype, dims }) => [name, { dtype, dims, data: new Uint8Array(tensorBytes({ dtype, dims })) }]));

/** Puts the requests' tensors one behind the other; what is left of the batch repeats the first, as real as the others. */
function join(inputs: readonly Binding[], batch: number, requests: readonly Waiting[], into: TensorMap): void {
  for (const [at, { name }] of inputs.entries()) {
    const { data } = into[name]!;
    const bytes = data.byteLength / batch;
    for (let i = 0; i < batch; i++) data.set((requests[i] ?? requests[0]!).tensors[at]!.data, i * bytes);
  }
}

/** One item of a batch. Copies: an answer that is kept should not keep its batch. */
export function itemOf(outputs: TensorMap, batch: number, index: number): TensorMap {
  if (batch === 1) return outputs;
  return Object.fromEntries(
    Object.entries(outputs).map(([name, { dtype, dims, data }]) => {
      const bytes = data.byteLength / batch;
      return [name, { dtype, dims: [1, ...dims.slice(1)], data: new Uint8Array(data.subarray(index * bytes, (index + 1) * bytes)) }];
    }),
  );
}

const ofOneItem = (bindings: readonly Binding[]): readonly Binding[] => bindings.map((binding) => ({ ...binding, dims: [1, ...binding.dims.slice(1)] }));

function sessionsByBatch(sessions: readonly BatchSession[]): ReadonlyMap<number, BatchSession> {
  const [first] = sessions;
  if (!first) throw new TsrtError('USAGE', 'a batcher needs a session', { fix: 'load an engine for each batch, such as 1, 8 and 32' });
  const byBatch = new Map<number, BatchSession>();
  for (const session of sessions) {
    const { batch } = session.header.options;
    const why = whyApart(session);
    if (why !== undefined) throw new TsrtError('USAGE', `requests can't be joined: ${why}`, { fix: 'run the sessions of such a model by themselves' });
    if (!alike(first.inputs, session.inputs) || !alike(first.outputs, session.outputs)) {
      throw new TsrtError('USAGE', 'the sessions are of different models or sizes: their inputs and outputs must be the same except for the batch', { fix: 'build all of them from one model, with --batch, and give those of other sizes a batcher of their own (`serve` takes NAME=FILE)' });
    }
    if (byBatch.has(batch)) throw new TsrtError('USAGE', `two of the sessions are for batch ${batch}`, { fix: 'give one for each batch; streams of one session run several batches at once' });
    byBatch.set(batch, session);
  }
  return byBatch;
}

/** Why requests to a session can't be joined; undefined where they can. */
export function whyApart({ header, inputs, outputs }: BatchSession): string | undefined {
  const { batch } = header.options;
  for (const [kind, bindings] of [['input', inputs], ['output', outputs]] as const) {
    for (const binding of bindings) {
      const isWhole = Number.isInteger((elementCount(binding.dims.slice(1)) * DTYPE_BITS[binding.dtype]) / 8);
      if (binding.dims[0] === batch && !binding.dynamic && (isWhole || batch === 1)) continue;
      const why = binding.dims[0] === batch && !isWhole ? 'has items that end within a byte' : binding.dynamic ? 'has as many rows as the data give' : `has no first axis of ${batch}, the engine's batch`;
      return `${kind} '${binding.name}' ${formatType(binding)} ${why}`;
    }
  }
  return undefined;
}

function alike(some: readonly Binding[], others: readonly Binding[]): boolean {
  return some.length === others.length && some.every(({ name, dtype, dims }, i) => name === others[i]!.name && dtype === others[i]!.dtype && sameDims(dims.slice(1), others[i]!.dims.slice(1)));
}

function checkedOptions({ maxQueueDelayMs = 0, maxQueueSize = Number.POSITIVE_INFINITY, maxInFlight, onBatch = () => {} }: BatcherOptions, sessions: readonly BatchSession[]): Required<BatcherOptions> {
  const borne = Math.min(...sessions.map((session) => session.maxInFlight));
  const wrong = (name: string, value: number, what: string): never => {
    throw new TsrtError('USAGE', `${name}: expected ${what}, found ${value}`);
  };
  if (!(maxQueueDelayMs >= 0) || maxQueueDelayMs > MAX_DELAY_MS) wrong('maxQueueDelayMs', maxQueueDelayMs, `milliseconds from 0 to ${MAX_DELAY_MS}`);
  if (maxQueueSize !== Number.POSITIVE_INFINITY && !(Number.isInteger(maxQueueSize) && maxQueueSize > 0)) wrong('maxQueueSize', maxQueueSize, 'a positive number of requests');
  if (maxInFlight !== undefined && !(Number.isInteger(maxInFlight) && maxInFlight > 0)) wrong('maxInFlight', maxInFlight, 'a positive number of batches');
  return { maxQueueDelayMs, maxQueueSize, maxInFlight: Math.min(maxInFlight ?? borne, borne), onBatch };
}

/** Whoever waits for a minute has gone; and timers of Node go wrong beyond 2³¹ ms. */
const MAX_DELAY_MS = 60_000;
