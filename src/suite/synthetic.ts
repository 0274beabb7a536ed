/**
 * Seeded inputs for when there is no data. Sample i is the same whatever the batch, so that variants of different batch see
 * the same inputs.
 */
import { isAttentionMask } from '../ir/attention-mask.ts';
import { DTYPE_BITS, elementCount, fromNumbers, toNumbers, type DType, type Tensor } from '../ir/tensor.ts';
import { normalizePixels, type Pixels } from './preprocess.ts';
import { randomNormal, randomUint32, randomUniform, streamKey } from './random.ts';
import type { ImageInput, SyntheticInput } from './schema.ts';

/** One sample of an input, without the batch dimension. */
export function syntheticSample(
  input: SyntheticInput | ImageInput,
  name: string,
  type: { readonly dtype: DType; readonly dims: readonly number[] },
  seed: number,
  sample: number,
): Tensor {
  const key = streamKey(seed, name, sample);
  if (input.kind === 'image') return fromNumbers(type.dtype, type.dims, normalizePixels(syntheticPixels(input, name, seed, sample), input.preprocess));
  const values = new Float64Array(elementCount(type.dims));
  const draw = sampler(input);
  for (let i = 0; i < values.length; i++) values[i] = draw(key, i);
  return fromNumbers(type.dtype, type.dims, values);
}

/** What `seededInputs` (measure/inputs.ts) gives a whole request to be timed, as a sample of a suite: the same distributions by type, and full attention masks. */
export function valuesByType({ name, dtype }: { readonly name: string; readonly dtype: DType }): SyntheticInput['values'] {
  if (isAttentionMask({ name, dtype })) return { distribution: 'constant', value: 1 };
  return dtype.includes('float') ? { distribution: 'normal', mean: 0, std: 1 } : { distribution: 'integers', low: 0, high: 2 };
}

function sampler({ values }: SyntheticInput): (key: number, index: number) => number {
  switch (values.distribution) {
    case 'uniform':
      return (key, index) => values.low + (values.high - values.low) * randomUniform(key, index);
    case 'normal':
      return (key, index) => values.mean + values.std * randomNormal(key, index);
    case 'integers':
      return (key, index) => values.low + (randomUint32(key, index) % (values.high - values.low));
    case 'constant':
      return () => values.value;
    default:
      return values satisfies never;
  }
}

/** Cells per side and weight of each layer of noise. */
const OCTAVES = [
  { cells: 2, weight: 1 },
  { cells: 4, weight: 0.7 },
  { cells: 8, weight: 0.5 },
  { cells: 32, weight: 0.25 },
  { cells: 112, weight: 0.15 },
] as const;

/**
 * A smooth random colour picture, the same for one sample as {@link syntheticSample} normalizes. White noise would look the same to every
 * network after its first pooling; amplitudes that fall with frequency are what photographs have (Field, "Relations between
 * the statistics of natural images and the response properties of cortical cells", 1987).
 */
export function syntheticPixels({ preprocess }: ImageInput, name: string, seed: number, sample: number): Pixels {
  const key = streamKey(seed, name, sample);
  const { width, height } = preprocess.crop;
  const levels = new Float32Array(width * height * 3).fill(128);
  for (const [octave, { cells, weight }] of OCTAVES.entries()) addNoise(levels, width, height, cells, 160 * weight, streamKey(key, octave));
  return { width, height, data: new Uint8Array(Uint8ClampedArray.from(levels).buffer) };
}

/** Adds a grid of random levels, bilinear between its points, to each of the three channels. */
function addNoise(levels: Float32Array, width: number, height: number, cells: number, amplitude: number, key: number): void {
  const grid = Float32Array.from({ length: (cells + 1) ** 2 * 3 }, (_, i) => amplitude * (randomUniform(key, i) - 0.5));
  const row = (cells + 1) * 3;
  for (let y = 0; y < height; y++) {
    const gridY = (y * cells) / height;
    const top = Math.floor(gridY);
    const fy = gridY - top;
    for (let x = 0; x < width; x++) {
      const gridX = (x * cells) / width;
      const left = Math.floor(gridX);
      const fx = gridX - left;
      for (let channel = 0; channel < 3; channel++) {
        const at = top * row + left * 3 + channel;
        const upper = grid[at]! * (1 - fx) + grid[at + 3]! * fx;
        const lower = grid[at + row]! * (1 - fx) + grid[at + row + 3]! * fx;
        levels[(y * width + x) * 3 + channel]! += upper * (1 - fy) + lower * fy;
      }
    }
  }
}

/** Tensors of equal type joined along a new first axis. */
export function stack(samples: readonly Tensor[], dims: readonly number[]): Tensor {
  const [first] = samples;
  if (!first) throw new Error('nothing to stack');
  const bytes = (elementCount(first.dims) * DTYPE_BITS[first.dtype]) / 8;
  // Elements of 4 or 2 bits that end within a byte.
  if (!Number.isInteger(bytes)) return fromNumbers(first.dtype, dims, samples.flatMap(toNumbers));
  const data = new Uint8Array(bytes * samples.length);
  for (const [index, sample] of samples.entries()) data.set(sample.data, index * bytes);
  return { dtype: first.dtype, dims, data };
}

