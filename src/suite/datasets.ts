/**
 * Datasets as batches of tensors: photographs from a folder, arrays of NumPy, or seeded synthetic samples. Memory holds a few batches
 * at most (of a .npz file, all of it); order is always the same.
 */
import { availableParallelism } from 'node:os';
import { basename } from 'node:path';
import type { TensorMap } from '../backends/backend.ts';
import { TsrtError } from '../errors.ts';
import { fromNumbers, type Tensor } from '../ir/tensor.ts';
import { arrayDataset } from './arrays.ts';
import { hashImages, type ImageFile, type ImageFolder, readImageFolder, requireImageFolder, spread } from './images.ts';
import { checkLabel } from './labels.ts';
import { holdsArrays, isArrayFile, readArrays } from './npy.ts';
import { normalizePixels, pictureBytes, type Pixels, readImage } from './preprocess.ts';
import { type ImageSlot, isImage, matchInputs, partOf, type Slot, syntheticInputs } from './slots.ts';
import type { Batch, Dataset, DatasetRequest } from './source.ts';
import { stack, syntheticPixels } from './synthetic.ts';

/** Throws DATASET_INVALID, and SUITE_INVALID where the suite's inputs are not the model's. */
export async function openDataset(request: DatasetRequest): Promise<Dataset> {
  if (request.source?.open) return request.source.open(request);
  const slots = matchInputs(request);
  const image = slots.find(isImage);
  if (request.folder === undefined) return syntheticDataset(request, slots);
  if (isArrayFile(request.folder) || (image === undefined && (await holdsArrays(request.folder)))) return arrayDataset(request, request.folder, slots);
  if (image === undefined) {
    throw new TsrtError('DATASET_INVALID', 'no input of the suite is an image, and the folder holds no arrays', {
      place: request.folder,
      fix: 'describe the input that takes the images (`kind: image`), give a .npz file or a folder of .npy files with an array for each input, or run without --dataset: the inputs are synthetic',
    });
  }
  return imageDataset(request, request.folder, slots, image);
}

/** What can be said of the path before there is a model. Throws DATASET_INVALID for what can be no dataset. */
export async function requireDataset(path: string): Promise<void> {
  if (isArrayFile(path)) await readArrays(path);
  else await requireImageFolder(path);
}

/** The pictures of a batch, by the name of the input that they are for. */
function stackPictures({ input: { preprocess }, binding }: ImageSlot, pictures: readonly Pixels[]): TensorMap {
  const { width, height } = preprocess.crop;
  const samples = pictures.map((pixels): Tensor => ({ dtype: 'uint8', dims: [height, width, 3], data: pictureBytes(pixels, preprocess) }));
  return { [binding.name]: stack(samples, [pictures.length, height, width, 3]) };
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

async function imageDataset(request: DatasetRequest, folder: string, slots: readonly Slot[], slot: ImageSlot): Promise<Dataset> {
  const { labelsFile, classes, labelOffset, limit } = request;
  const options = { labelsFile, classes: classes === undefined ? undefined : classes - labelOffset };
  const found = await (request.source?.images?.(folder, options) ?? readImageFolder(folder, options));
  const images = spread(partOf(found.images, request.part), limit).map((image) => withLabel(image, request));
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

function describeLabels(source: ImageFolder['labelSource']): string {
  return source === 'none' ? 'no labels' : `labels from ${source === 'labels file' ? 'a file' : source}`;
}

function withLabel(image: ImageFile, { classes, labelOffset }: DatasetRequest): ImageFile {
  const { label, name, path: place } = image;
  return label === undefined ? image : { ...image, label: checkLabel({ label, name, place, classes, labelOffset }) };
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
