/** A model as it is served: engines of one or several batches behind a batcher, and requests of any number of items that they take. */
import type { TensorMap } from '../backends/backend.ts';
import { checkInputs } from '../backends/inputs.ts';
import { type Batcher, type BatcherOptions, type BatchSession, createBatcher, whyApart } from '../batcher.ts';
import type { Binding } from '../engine/engine.ts';
import { TsrtError } from '../errors.ts';
import { type Dims, formatType, type Tensor } from '../ir/tensor.ts';
import { datatypeOf } from './datatypes.ts';

/** One model of a server. */
export interface ServedModel {
  readonly name: string;
  readonly backend: string;
  /** Of the largest engine. */
  readonly inputs: readonly Binding[];
  readonly outputs: readonly Binding[];
  /** Whether a request may have other lengths of the first axis: up to those of the largest engine. */
  readonly isBatched: boolean;
  /** Items that wait for an engine. */
  readonly waiting: () => number;
  /** Whether its engines still answer. */
  readonly isReady: () => boolean;
  /**
   * Inputs as the largest engine has them, or with fewer items along the first axis, where it is batched, the same in each. Rejects with TsrtError USAGE for inputs that do not fit, OVERLOADED where
   * they can't wait all, and with the session's error where a batch failed.
   */
  infer(inputs: TensorMap): Promise<TensorMap>;
  /** Answers what was taken and gives the engines back. */
  close(): Promise<void>;
}

/** The engines of a model and how they are given back. */
export interface ModelEngines {
  readonly sessions: readonly BatchSession[];
  readonly failure: () => Error | undefined;
  close(): Promise<void>;
}

/** Throws TsrtError USAGE for engines that are not one model's, several whose requests can't be joined, types for which the protocol has no name, and a queue that the largest batch has no room in. */
export function serveModel(name: string, engines: ModelEngines, options: BatcherOptions): ServedModel {
  const largest = engines.sessions.toSorted((a, b) => b.header.options.batch - a.header.options.batch)[0]!;
  const { header, inputs, outputs } = largest;
  for (const binding of [...inputs, ...outputs]) {
    if (datatypeOf(binding.dtype) === undefined) throw new TsrtError('USAGE', `${name} can't be served: the protocol has no type for '${binding.name}' ${formatType(binding)}`, { fix: "change the types of the model's inputs and outputs with a Cast" });
  }
  const isBatched = engines.sessions.length > 1 || whyApart(largest) === undefined;
  const maxItems = isBatched ? header.options.batch : 1;
  const { maxQueueSize = Math.max(DEFAULT_QUEUE, maxItems) } = options;
  const batcher = createBatcher(isBatched ? engines.sessions : asOneItem(largest), { ...options, maxQueueSize });
  if (maxQueueSize < maxItems) throw new TsrtError('USAGE', `only ${maxQueueSize} items may wait, but one request to ${name} may have ${maxItems}`, { fix: `--max-queue ${maxItems}, or more` });
  const bounds = { inputs, maxItems, maxQueueSize };
  return {
    name,
    backend: header.backend,
    inputs,
    outputs,
    isBatched,
    waiting: () => batcher.waiting,
    isReady: () => engines.failure() === undefined,
    infer: (request) => (isBatched ? inferItems(batcher, bounds, request) : inferWhole(batcher, bounds, request)),
    async close() {
      await batcher.close();
      await engines.close();
    },
  };
}

/** Items that may wait where nobody says: without an end a server that is too slow would run out of memory, and nobody waits so long. */
const DEFAULT_QUEUE = 1000;

interface Bounds {
  readonly inputs: readonly Binding[];
  readonly maxItems: number;
  readonly maxQueueSize: number;
}

/** All or none: an answer in part is of no use, and its work would be lost. */
function checkRoom({ waiting }: Batcher, { maxQueueSize }: Bounds, items: number): void {
  if (waiting + items > maxQueueSize) throw new TsrtError('OVERLOADED', `${waiting} items are already waiting`, { fix: 'try again later' });
}

async function inferItems(batcher: Batcher, bounds: Bounds, request: TensorMap): Promise<TensorMap> {
  const { inputs, maxItems } = bounds;
  const items = itemsOf(inputs, request);
  if (items > maxItems) throw new TsrtError('USAGE', `the request has ${items} items, but the largest engine takes ${maxItems}`, { fix: 'split the request, or serve an engine with a larger batch as well' });
  const bindings = inputs.map((binding) => ({ ...binding, dims: [items, ...binding.dims.slice(1)] }));
  const tensors = checkInputs(bindings, request);
  checkRoom(batcher, bounds, items);
  if (items === 1) return batcher.run(request);
  return joined(await Promise.all(Array.from({ length: items }, (_, item) => batcher.run(Object.fromEntries(bindings.map(({ name }, at) => [name, itemOf(tensors[at]!, items, item)]))))));
}

async function inferWhole(batcher: Batcher, bounds: Bounds, request: TensorMap): Promise<TensorMap> {
  checkInputs(bounds.inputs, request);
  checkRoom(batcher, bounds, 1);
  return batcher.run(mapTensors(request, (dims) => [1, ...dims]));
}

/** One item is all that the engine takes: where requests can't be joined, they wait in line all the same. */
function asOneItem(session: BatchSession): BatchSession {
  const oneItem = ({ name, dtype, dims }: Binding): Binding => ({ name, dtype, dims: [1, ...dims] });
  return {
    header: { ...session.header, options: { ...session.header.options, batch: 1 } },
    inputs: session.inputs.map(oneItem),
    outputs: session.outputs.map(oneItem),
    maxInFlight: session.maxInFlight,
    run: (inputs) => session.run(mapTensors(inputs, (dims) => dims.slice(1))),
  };
}

const mapTensors = (tensors: TensorMap, newDims: (dims: Dims) => Dims): TensorMap => Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, { ...tensor, dims: newDims(tensor.dims) }]));

/** By the first input; what the others have is held against it. At least one: an input that is not there or has no axis is refused as such. */
function itemsOf([first]: readonly Binding[], request: TensorMap): number {
  return Math.max(1, (first && Object.hasOwn(request, first.name) ? request[first.name]!.dims[0] : undefined) ?? 1);
}

function itemOf({ dtype, dims, data }: Tensor, items: number, item: number): Tensor {
  const bytes = data.byteLength / items;
  return { dtype, dims: [1, ...dims.slice(1)], data: data.subarray(item * bytes, (item + 1) * bytes) };
}

function joined(answers: readonly TensorMap[]): TensorMap {
  return Object.fromEntries(
    Object.entries(answers[0]!).map(([name, { dtype, dims }]) => {
      const parts = answers.map((answer) => answer[name]!.data);
      return [name, { dtype, dims: [answers.length, ...dims.slice(1)], data: new Uint8Array(Buffer.concat(parts)) }];
    }),
  );
}
