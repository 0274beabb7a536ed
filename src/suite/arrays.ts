/** A dataset of arrays as NumPy saves them: one for each of the model's inputs, samples along the first axis. */
import { createHash, type Hash } from 'node:crypto';
import { basename } from 'node:path';
import { TsrtError } from '../errors.ts';
import { DTYPE_BITS, elementCount, formatType, sameDims, tensorBytes, toNumbers, type Tensor } from '../ir/tensor.ts';
import { nearest } from '../nearest.ts';
import { spread } from './images.ts';
import { checkLabel } from './labels.ts';
import { readArrays, readWhole, type ArrayBytes, type NamedArray } from './npy.ts';
import { partOf, syntheticInputs, type Slot } from './slots.ts';
import type { Batch, Dataset, DatasetRequest } from './source.ts';

/** The array that holds each sample's class, where the suite names no other. */
const LABELS = 'labels';

/** Bytes read at once where all are. */
const CHUNK_BYTES = 2 ** 22;

/** An input with the array that it is read from. */
interface Fed {
  readonly slot: Slot;
  readonly array: NamedArray;
}

/** Throws DATASET_INVALID where the arrays are not what the model reads. */
export async function arrayDataset(request: DatasetRequest, path: string, slots: readonly Slot[]): Promise<Dataset> {
  const { feeds, labels: labelArray } = assign(await readArrays(path), path, slots, request);
  const size = sampleCount(feeds, labelArray, path);
  const samples = spread(partOf(Array.from({ length: size }, (_, index) => index), request.part), request.limit);
  const labels = labelArray === undefined ? undefined : await readLabels(labelArray, request);
  const sha256 = await hashArrays([...feeds.map(({ array }) => array), ...(labelArray ? [labelArray] : [])], samples, request.signal);
  return {
    description: `${basename(path)} (${samples.length} samples, ${labels ? `labels from the array ${labelArray!.name}` : 'no labels'}, sha256 ${sha256})`,
    sha256,
    size: samples.length,
    labelled: labels ? samples.length : 0,
    notices: [],
    skipped: [],
    batches: (signal) => arrayBatches(request, slots, feeds, samples, labels, signal),
  };
}

interface Assigned {
  readonly feeds: readonly Fed[];
  readonly labels: NamedArray | undefined;
}

/** Arrays by the inputs' names; an array alone in its file feeds a model's only input. */
function assign(arrays: readonly NamedArray[], path: string, slots: readonly Slot[], { inputs, labelsFile, pictures }: DatasetRequest): Assigned {
  const names = slots.map(({ binding }) => binding.name);
  const labelsName = labelsFile?.replace(/\.npy$/i, '') ?? LABELS;
  const isLabels = ({ name }: NamedArray) => name === labelsName && !names.includes(name);
  const labels = arrays.find(isLabels);
  if (labelsFile !== undefined && labels === undefined) throw invalid(`no array is called '${labelsName}', the suite's name for the labels`, path, `the arrays are ${listed(arrays)}`);
  const data = arrays.filter((array) => !isLabels(array));
  const alone = slots.length === 1 && data.length === 1;
  const other = alone ? undefined : data.find(({ name }) => !names.includes(name));
  if (other) {
    const guess = nearest(other.name, names);
    throw invalid(`the model has no input '${other.name}'; it has ${names.join(', ')}`, other.place, `${guess === undefined ? '' : `did you mean '${guess}'? `}name each array after its input, and the classes of the samples '${labelsName}'`);
  }
  const feeds = slots.flatMap((slot) => {
    const array = alone ? data[0] : data.find(({ name }) => name === slot.binding.name);
    if (array) return [{ slot, array: checkType(slot, array) }];
    // What the suite describes is drawn; what it says nothing of would be made up beside data.
    if (inputs.length === 0 || slot.input.kind === 'image') throw invalid(`there is no array for the input '${slot.binding.name}'`, path, `add an array of that name, ${sampleType(slot)}; the arrays are ${listed(arrays)}`);
    return [];
  });
  if (feeds.length === 0) throw invalid('none of the arrays is for an input of the model', path, `name each array after its input: ${names.join(', ')}`);
  const picture = pictures === true ? feeds.find(({ slot }) => slot.input.kind === 'image') : undefined;
  if (picture) throw invalid(`an engine takes '${picture.slot.binding.name}' as pictures, which an array can't hold`, picture.array.place, 'give a folder of images, or leave out the variants that take pictures as bytes');
  return { feeds, labels };
}

function listed(arrays: readonly NamedArray[]): string {
  return arrays.map((array) => `${array.name} ${formatType(array)}`).join(', ') || 'none';
}

/** `float32[samples,3,224,224]`. */
function sampleType({ binding, sampleDims, batched }: Slot): string {
  return `${binding.dtype}[${[...(batched ? ['samples'] : []), ...sampleDims].join(',')}]`;
}

function checkType(slot: Slot, array: NamedArray): NamedArray {
  const { binding, sampleDims, batched } = slot;
  const fits = sameDims(batched ? array.dims.slice(1) : array.dims, sampleDims) && (!batched || array.dims.length > 0);
  if (fits && array.dtype === binding.dtype) return array;
  throw invalid(
    `the input '${binding.name}' takes ${sampleType(slot)}, but the array is ${formatType(array)}`,
    array.place,
    fits ? `save array.astype('${binding.dtype}')` : 'save samples of these sizes, or give the sizes of the array: --dim NAME=N, --shape INPUT=…  (in a suite: `dims` and `inputShapes`)',
  );
}

/** Along the first axis of every array that has samples. */
function sampleCount(feeds: readonly Fed[], labels: NamedArray | undefined, path: string): number {
  const batched = feeds.filter(({ slot }) => slot.batched).map(({ array }) => array);
  const counted = labels ? [...batched, labels] : batched;
  // Inputs without a batch are one sample, whole.
  const size = batched[0]?.dims[0] ?? 1;
  const other = counted.find(({ dims }) => dims[0] !== size);
  if (other) throw invalid(`${batched[0]?.name ?? 'the inputs'} holds ${size} samples, but ${other.name} holds ${other.dims[0] ?? 1}`, other.place, 'save as many of each, along the first axis');
  if (size === 0) throw invalid('the arrays hold no samples', path, 'save at least one, along the first axis');
  return size;
}

/** Classes as the model counts. */
async function readLabels(array: NamedArray, { classes, labelOffset }: DatasetRequest): Promise<readonly number[]> {
  if (array.dims.length !== 1 || !/int/.test(array.dtype)) {
    throw invalid(`labels are one class index for each sample, but the array is ${formatType(array)}`, array.place, "save integers along one axis, such as scores.argmax(1)");
  }
  const labels = toNumbers(await readWhole(array));
  return labels.map((label, index) => checkLabel({ label, name: `sample ${index}`, place: array.place, classes, labelOffset }));
}

async function* arrayBatches(
  { batch, seed }: DatasetRequest,
  slots: readonly Slot[],
  feeds: readonly Fed[],
  samples: readonly number[],
  labels: readonly number[] | undefined,
  signal: AbortSignal | undefined,
): AsyncGenerator<Batch> {
  const drawn = slots.filter((slot) => !feeds.some((fed) => fed.slot === slot));
  const opened: ArrayBytes[] = [];
  try {
    for (const { array } of feeds) opened.push(await array.open());
    for (let start = 0; start < samples.length; start += batch) {
      signal?.throwIfAborted();
      const real = samples.slice(start, start + batch);
      const filled = Array.from({ length: batch }, (_, i) => real[Math.min(i, real.length - 1)]!);
      const read = await Promise.all(feeds.map(async (fed, index) => [fed.slot.binding.name, await readSamples(fed, opened[index]!, filled)] as const));
      yield {
        inputs: { ...(await syntheticInputs(drawn, seed, filled, signal)), ...Object.fromEntries(read) },
        count: real.length,
        labels: real.map((index) => labels?.[index]),
        names: real.map((index) => `sample ${index}`),
      };
    }
  } finally {
    await Promise.all(opened.map((bytes) => bytes.close()));
  }
}

async function readSamples({ slot: { binding, sampleDims, batched } }: Fed, bytes: ArrayBytes, indices: readonly number[]): Promise<Tensor> {
  const length = (elementCount(sampleDims) * DTYPE_BITS[binding.dtype]) / 8;
  if (!batched) return { dtype: binding.dtype, dims: binding.dims, data: await bytes.read(0, length) };
  const data = new Uint8Array(length * indices.length);
  for (const [row, index] of indices.entries()) data.set(await bytes.read(index * length, length), row * length);
  return { dtype: binding.dtype, dims: binding.dims, data };
}

/** Over names, types, contents, and which samples are taken. */
async function hashArrays(arrays: readonly NamedArray[], samples: readonly number[], signal: AbortSignal | undefined): Promise<string> {
  const total = createHash('sha256');
  for (const array of arrays) {
    const content = createHash('sha256');
    await hashContent(array, content, signal);
    total.update(`${array.name}\0${formatType(array)}\0${content.digest('hex')}\n`);
  }
  return total.update(samples.join()).digest('hex');
}

async function hashContent(array: NamedArray, hash: Hash, signal: AbortSignal | undefined): Promise<void> {
  const bytes = await array.open();
  try {
    const size = tensorBytes(array);
    for (let at = 0; at < size; at += CHUNK_BYTES) {
      signal?.throwIfAborted();
      hash.update(await bytes.read(at, Math.min(CHUNK_BYTES, size - at)));
    }
  } finally {
    await bytes.close();
  }
}

function invalid(message: string, place: string, fix: string): TsrtError {
  return new TsrtError('DATASET_INVALID', message, { place, fix });
}
