/**
 * A photograph to the numbers a network was trained on, exactly as the suite says.
 *
 * Decoding is libvips' (sharp). The file is decoded at full size before it is scaled: JPEG's scaled decoding is faster, but
 * gives other pixels. `linear` is the triangle filter, widened when shrinking, which PIL and torchvision call bilinear with
 * antialiasing. As in those pipelines, alpha is dropped, grey becomes RGB, CMYK is converted, and the EXIF orientation is
 * not applied. Unlike in them, an embedded colour profile is.
 */
import type { Preprocess } from './schema.ts';

/** Pixels in 8-bit sRGB, height × width × 3, rows first. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/** The part of the picture that the network sees. Throws what sharp throws for a file that it can't decode. */
export async function readImage(file: string, preprocess: Preprocess): Promise<Pixels> {
  // libvips is loaded by runs that read pictures alone.
  const { default: sharp } = await import('sharp');
  const { data, info } = await sharp(file, { failOn: 'error', sequentialRead: true })
    .toColourspace('srgb')
    .removeAlpha()
    .raw({ depth: 'uchar' })
    .toBuffer({ resolveWithObject: true });
  const size = resizedSize(info.width, info.height, preprocess);
  const { crop, resize } = preprocess;
  if (size.width < crop.width || size.height < crop.height) {
    throw new Error(`${size.width}×${size.height} pixels are less than the crop of ${crop.width}×${crop.height}`);
  }
  const raw = sharp(data, { raw: { width: info.width, height: info.height, channels: info.channels as 1 | 3 } });
  const scaled = resize === undefined ? raw : raw.resize({ ...size, fit: 'fill', kernel: resize.kernel });
  const cropped = scaled.extract({
    left: halfOf(size.width - crop.width),
    top: halfOf(size.height - crop.height),
    ...crop,
  });
  const pixels = await cropped.toColourspace('srgb').raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
  return { ...crop, data: pixels.info.channels === 3 ? pixels.data : greyToRgb(pixels.data, pixels.info.channels) };
}

/** The short side becomes `shortSide`; the long one keeps the ratio and is rounded down, as torchvision does. */
function resizedSize(width: number, height: number, { resize }: Preprocess): { readonly width: number; readonly height: number } {
  if (resize === undefined) return { width, height };
  const { shortSide } = resize;
  return width <= height
    ? { width: shortSide, height: Math.floor((shortSide * height) / width) }
    : { width: Math.floor((shortSide * width) / height), height: shortSide };
}

/** Half of a margin, a half going to the even neighbour: Python's `round`, by which torchvision cuts the centre. */
function halfOf(margin: number): number {
  const floor = Math.floor(margin / 2);
  return margin % 2 === 0 || floor % 2 === 0 ? floor : floor + 1;
}

function greyToRgb(grey: Uint8Array, channels: number): Uint8Array {
  const rgb = new Uint8Array((grey.length / channels) * 3);
  for (let i = 0; i < rgb.length; i++) rgb[i] = grey[Math.floor(i / 3) * channels]!;
  return rgb;
}

/** One normalized picture: width × height × 3 numbers in the layout and colour order of the suite. */
export function normalizePixels({ width, height, data }: Pixels, preprocess: Preprocess): Float32Array {
  const area = width * height;
  const result = new Float32Array(area * 3);
  const planar = preprocess.layout === 'NCHW';
  for (let channel = 0; channel < 3; channel++) {
    const source = preprocess.color === 'rgb' ? channel : 2 - channel;
    const table = normalizationTable(preprocess, channel);
    for (let i = 0; i < area; i++) {
      result[planar ? channel * area + i : i * 3 + channel] = table[data[i * 3 + source]!]!;
    }
  }
  return result;
}

/** What each of the 256 pixel values becomes. `mean` and `std` are in the order of the network's channels. */
function normalizationTable({ range: [low, high], mean, std }: Preprocess, channel: number): Float32Array {
  return Float32Array.from({ length: 256 }, (_, value) => (low + ((high - low) * value) / 255 - mean[channel]!) / std[channel]!);
}

/** The same as value = byte · scale + shift, per channel of the network. */
export function pixelAffine({ range: [low, high], mean, std }: Preprocess): { readonly scale: readonly number[]; readonly shift: readonly number[] } {
  return { scale: std.map((deviation) => (high - low) / 255 / deviation), shift: std.map((deviation, channel) => (low - mean[channel]!) / deviation) };
}

/** A picture as bytes: rows first, its channels in the order of the network. */
export function pictureBytes({ data }: Pixels, { color }: Preprocess): Uint8Array {
  if (color === 'rgb') return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return Uint8Array.from(data, (_, i) => data[i + 2 - 2 * (i % 3)]!);
}

/** Shape of one picture without the batch. */
export function imageDims({ crop, layout }: Preprocess): readonly number[] {
  return layout === 'NCHW' ? [3, crop.height, crop.width] : [crop.height, crop.width, 3];
}
