/**
 * Datasets as batches of tensors: photographs from a folder, or seeded synthetic samples. Memory holds a few batches at
 * most; order is always the same.
 */
import { availableParallelism } from 'node:os';
import { basename } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import type { TensorMap } from '../backends/backend.ts';
import type { Binding } from '../engine/engine.ts';
import { TsrtError } from '../errors.ts';
import { fromNumbers, sameDims, type Tensor } from '../ir/tensor.ts';
import { hashImages, type ImageFile, type ImageFolder, readImageFolder, spread } from './images.ts';
import { imageDims, normalizePixels, pictureBytes, type Pixels, readImage } from './preprocess.ts';
import type { ImageInput, SuiteInput } from './schema.ts';
import type { Batch, Dataset, DatasetPart, DatasetRequest } from './source.ts';
import { stack, syntheticPixels, syntheticSample, valuesByType } from './synthetic.ts';

/** Throws DATASET_INVALID, and SUITE_INVALID where the suite's inputs are not the model's. */
export async function openDataset(request: DatasetRequest): Promise<Dataset> {
  if (request.source?.open) return request.source.open(request);
  const slots = matchInputs(request);
  const image = slots.find(isImage);
  if (request.folder === undefined) return syntheticDataset(request, slots);
  if (image === undefined) {
    throw new TsrtError('DATASET_INVALID', 'the suite takes no image, so a folder of images has no use', {
      place: request.folder,
      fix: 'run without --dataset: the inputs are synthetic',
    });
  }
  return imageDataset(request, request.folder, slots, image);
}

/** An input of the suite with the model's input that it feeds. */
interface Slot {
  readonly input: SuiteInput;
  readonly binding: Binding;
  /** Shape of one sample; the whole shape where the binding has no batch dimension. */
  readonly sampleDims: readonly number[];
  readonly batched: boolean;
}
type ImageSlot = Slot & { readonly input: ImageInput };

function isImage(slot: Slot): slot is ImageSlot {
  return slot.input.kind === 'image';
}

/** The pictures of a batch, by the name of the input that they are for. */
function stackPictures({ input: { preprocess }, binding }: ImageSlot, pictures: readonly Pixels[]): TensorMap {
  const { width, height } = preprocess.crop;
  const samples = pictures.map((pixels): Tensor => ({ dtype: 'uint8', dims: [height, width, 3], data: pictureBytes(pixels, preprocess) }));
  return { [binding.name]: stack(samples, [pictures.length, height, width, 3]) };
}

/** Suite inputs by name, or by position where the suite gives none. */
function matchInputs({ inputs, bindings, batch }: DatasetRequest): Slot[] {
  const listed = bindings.map((binding) => binding.name).join(', ');
  if (inputs.length === 0) return bindings.map((binding) => slotOf({ kind: 'synthetic', values: valuesByType(binding.dtype) }, binding, batch));
  if (inputs.length !== bindings.length) {
    throw new TsrtError('SUITE_INVALID', `the suite describes ${inputs.length} inputs, the model has ${bindings.length} (${listed})`, {
      fix: 'describe every input of the model under `inputs`, or none for seeded numbers by their types',
    });
  }
  return inputs.map((input, index) => {
    const binding = input.name === undefined ? bindings[index] : bindings.find(({ name }) => name === input.name);
    if (binding === undefined) {
      throw new TsrtError('SUITE_INVALID', `the model has no input '${input.name}'; it has ${listed}`, {
        fix: 'name one of them, or leave `name` out to go by position',
      });
    }
    if (input.dtype !== undefined && input.dtype !== binding.dtype) {
      throw new TsrtError('SUITE_INVALID', `input '${binding.name}' is ${binding.dtype} in the model, ${input.dtype} in the suite`, {
        fix: 'leave `dtype` out to take the model’s',
      });
    }
    const slot = slotOf(input, binding, batch);
    if (input.kind === 'image' && !(slot.batched && sameDims(slot.sampleDims, imageDims(input.preprocess)))) {
      const wanted = [batch, ...imageDims(input.preprocess)].join(',');
      throw new TsrtError('SUITE_INVALID', `preprocessing gives [${wanted}], the model's input '${binding.name}' is [${binding.dims.join(',')}]`, {
        fix: 'set `preprocess.crop` and `preprocess.layout` to what the model takes',
      });
    }
    return slot;
  });
}

function slotOf(input: SuiteInput, binding: Binding, batch: number): Slot {
  const batched = binding.dims[0] === batch;
  return { input, binding, batched, sampleDims: batched ? binding.dims.slice(1) : binding.dims };
}

/** Synthetic samples from this number on are for calibration. */
const CALIBRATION_START = 2 ** 20;

function syntheticDataset(request: DatasetRequest, slots: readonly Slot[]): Dataset {
  const { samples, seed, batch, part } = request;
  const first = part?.take === 'calibration' ? CALIBRATION_START : 0;
  return {
    description: `synthetic (${samples} samples, seed ${seed}${first > 0 ? `, from number ${first}` : ''})`,
    sha256: undefined,
    size: samples,
    labelled: 0,
    notices: [],
    skipped: [],
    async *batches(signal) {
      for (let start = 0; start < samples; start += batch) {
        signal?.throwIfAborted();
        const count = Math.min(batch, samples - start);
        const indices = Array.from({ length: batch }, (_, i) => first + Math.min(start + i, samples - 1));
        const image = request.pictures ? slots.find(isImage) : undefined;
        yield {
          inputs: await syntheticInputs(slots, seed, indices, signal),
          ...(image && { pictures: stackPictures(image, indices.map((index) => syntheticPixels(image.input, image.binding.name, seed, index))) }),
          count,
          labels: Array.from({ length: count }, () => undefined),
          names: indices.slice(0, count).map((index) => `synthetic ${index}`),
        };
      }
    },
  };
}

/** Samples drawn without a pause; a large batch takes minutes, in which a signal must be heard. */
const DRAWN_AT_ONCE = 16;

async function syntheticInputs(slots: readonly Slot[], seed: number, indices: readonly number[], signal: AbortSignal | undefined): Promise<TensorMap> {
  const inputs: Record<string, Tensor> = {};
  for (const { input, binding, sampleDims, batched } of slots) {
    const drawn = new Map<number, Tensor>();
    const wanted = batched ? indices : indices.slice(0, 1);
    for (const index of wanted) {
      if (drawn.has(index)) continue;
      if (drawn.size % DRAWN_AT_ONCE === 0) await setImmediate();
      signal?.throwIfAborted();
      drawn.set(index, syntheticSample(input, binding.name, { dtype: binding.dtype, dims: sampleDims }, seed, index));
    }
    const samples = wanted.map((index) => drawn.get(index)!);
    inputs[binding.name] = batched ? stack(samples, binding.dims) : samples[0]!;
  }
  return inputs;
}

async function imageDataset(request: DatasetRequest, folder: string, slots: readonly Slot[], slot: ImageSlot): Promise<Dataset> {
  const { labelsFile, classes, labelOffset, limit } = request;
  const options = { labelsFile, classes: classes === undefined ? undefined : classes - labelOffset };
  const found = await (request.source?.images?.(folder, options) ?? readImageFolder(folder, options));
  const images = spread(partOf(found.images, request.part), limit).map((image) => checkLabel(image, classes, labelOffset));
  const sha256 = await hashImages(images, request.signal);
  const skipped: string[] = [];
  return {
    description: `${basename(folder)} (${images.length} images, ${describeLabels(found.labelSource)}, sha256 ${sha256})`,
    sha256,
    size: images.length,
    labelled: images.filter((image) => image.label !== undefined).length,
    notices: found.notices,
    skipped,
    batches: (signal) => imageBatches(request, images, slots, slot, skipped, signal),
  };
}

function partOf(images: readonly ImageFile[], part: DatasetPart | undefined): readonly ImageFile[] {
  if (part === undefined) return images;
  const reserved = new Set(spread(images, Math.min(part.calibrationSamples, Math.floor(images.length / 2))));
  return images.filter((image) => reserved.has(image) === (part.take === 'calibration'));
}

function describeLabels(source: ImageFolder['labelSource']): string {
  return source === 'none' ? 'no labels' : `labels from ${source === 'labels file' ? 'a file' : source}`;
}

function checkLabel(image: ImageFile, classes: number | undefined, offset: number): ImageFile {
  if (image.label === undefined) return image;
  const label = image.label + offset;
  if (label < 0 || (classes !== undefined && label >= classes)) {
    const moved = offset === 0 ? '' : ` (${label} with the suite's labelOffset)`;
    const bound = label < 0 ? 'below 0' : `beyond the model's ${classes} classes`;
    throw new TsrtError('DATASET_INVALID', `class ${image.label} of ${image.name}${moved} is ${bound}`, {
      place: image.path,
      fix: 'check the labels, and `dataset.labelOffset` of the suite',
    });
  }
  return { ...image, label };
}

async function* imageBatches(
  request: DatasetRequest,
  images: readonly ImageFile[],
  slots: readonly Slot[],
  slot: ImageSlot,
  skipped: string[],
  signal: AbortSignal | undefined,
): AsyncGenerator<Batch> {
  const { batch, seed } = request;
  skipped.length = 0;
  let index = 0;
  let ready: Decoded[] = [];
  const others = slots.filter((other) => other !== slot);
  const emit = async (): Promise<Batch> => {
    const filled = Array.from({ length: batch }, (_, i) => ready[Math.min(i, ready.length - 1)]!);
    const indices = filled.map((_, i) => index + i);
    const pictures = stack(filled.map(({ tensor }) => tensor), slot.binding.dims);
    const result = {
      inputs: { ...(await syntheticInputs(others, seed, indices, signal)), [slot.binding.name]: pictures },
      ...(request.pictures && { pictures: stackPictures(slot, filled.map(({ pixels }) => pixels)) }),
      count: ready.length,
      labels: ready.map(({ image }) => image.label),
      names: ready.map(({ image }) => image.name),
    };
    index += ready.length;
    ready = [];
    return result;
  };
  for await (const item of decodeAhead(images, slot)) {
    signal?.throwIfAborted();
    if ('error' in item) {
      if (!request.skipBroken) throw brokenImage(item);
      skipped.push(item.image.name);
    } else if (ready.push(item) === batch) yield await emit();
  }
  if (ready.length > 0) yield await emit();
  if (index === 0) {
    throw new TsrtError('DATASET_INVALID', `none of the ${images.length} images can be decoded`, {
      place: request.folder ?? '',
      fix: 'check that the folder holds pictures',
    });
  }
}

interface Decoded {
  readonly image: ImageFile;
  readonly pixels: Pixels;
  readonly tensor: Tensor;
}
interface Broken {
  readonly image: ImageFile;
  readonly error: Error;
}

function brokenImage({ image, error }: Broken): TsrtError {
  const reason = error.message.split('\n')[0]?.replace(/^.*?: /, '') ?? 'unknown';
  return new TsrtError('DATASET_INVALID', `the image ${image.name} can't be used: ${reason}`, {
    place: image.path,
    fix: 'mend or remove the file, or set `dataset.skipBroken: true` in the suite to leave such files out and count them',
    cause: error,
  });
}

/** Decodes in order, a few pictures ahead of the reader: one per thread that libuv gives to sharp. */
async function* decodeAhead(images: readonly ImageFile[], slot: ImageSlot): AsyncGenerator<Decoded | Broken> {
  const window = 2 * Math.min(4, availableParallelism());
  const decode = async (image: ImageFile): Promise<Decoded | Broken> => {
    try {
      const { preprocess } = slot.input;
      const pixels = await readImage(image.path, preprocess);
      return { image, pixels, tensor: fromNumbers(slot.binding.dtype, slot.sampleDims, normalizePixels(pixels, preprocess)) };
    } catch (error) {
      return { image, error: error instanceof Error ? error : new Error(String(error)) };
    }
  };
  const pending = images.slice(0, window).map(decode);
  for (let i = 0; i < images.length; i++) {
    const item = await pending.shift()!;
    const next = images[i + window];
    if (next) pending.push(decode(next));
    yield item;
  }
}
