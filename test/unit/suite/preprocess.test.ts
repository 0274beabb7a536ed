import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { imageDims, normalizePixels, readImage } from '../../../src/suite/preprocess.ts';
import type { Preprocess } from '../../../src/suite/schema.ts';
import { temporaryFolder } from './helpers.ts';

const plain: Preprocess = {
  crop: { width: 2, height: 2 },
  color: 'rgb',
  range: [0, 255],
  mean: [0, 0, 0],
  std: [1, 1, 1],
  layout: 'NCHW',
};

/** An image whose pixel (x, y) is `pixel(x, y)`, written without loss. */
async function picture(width: number, height: number, pixel: (x: number, y: number) => readonly number[], format: 'png' | 'tiff' = 'png'): Promise<string> {
  const file = join(await temporaryFolder(), `picture.${format}`);
  const pixels = Array.from({ length: width * height }, (_, i) => pixel(i % width, Math.floor(i / width)));
  const channels = pixels[0]!.length as 1 | 2 | 3 | 4;
  await sharp(Uint8Array.from(pixels.flat()), { raw: { width, height, channels } }).toFormat(format).toFile(file);
  return file;
}

describe('readImage', () => {
  it('cuts the centre exactly', async () => {
    const file = await picture(6, 4, (x, y) => [x, y, 100]);
    const { data } = await readImage(file, plain);
    expect([...data]).toEqual([2, 1, 100, 3, 1, 100, 2, 2, 100, 3, 2, 100]);
  });

  it.each([
    [5, 2],
    [7, 2],
    [9, 4],
  ])('starts the centre of %d pixels at %d, rounding half to even as torchvision does', async (size, start) => {
    const file = await picture(size, size, (x, y) => [x, y, 0]);
    expect(Array.from((await readImage(file, plain)).data.subarray(0, 2))).toEqual([start, start]);
  });

  it('scales the short side, and rounds the long one down', async () => {
    const file = await picture(50, 30, () => [10, 20, 30]);
    const wide = { ...plain, resize: { shortSide: 8, kernel: 'linear' as const }, crop: { width: 13, height: 8 } };
    expect(await readImage(file, wide)).toMatchObject({ width: 13, height: 8 });
    await expect(readImage(file, { ...wide, crop: { width: 14, height: 8 } })).rejects.toThrow('13×8 pixels are less than the crop of 14×8');
  });

  it('averages over the shrunk area: linear is antialiased', async () => {
    const file = await picture(64, 64, (x) => (x % 2 === 0 ? [0, 0, 0] : [255, 255, 255]));
    const { data } = await readImage(file, { ...plain, resize: { shortSide: 8, kernel: 'linear' }, crop: { width: 4, height: 4 } });
    expect(Math.min(...data)).toBeGreaterThan(110);
    expect(Math.max(...data)).toBeLessThan(145);
  });

  it.each([
    ['grey', (): number[] => [90], [90, 90, 90]],
    ['grey with alpha', (): number[] => [90, 10], [90, 90, 90]],
    ['colour with alpha, which is dropped', (): number[] => [10, 20, 30, 128], [10, 20, 30]],
  ])('makes RGB of %s', async (_what, pixel, expected) => {
    const { data } = await readImage(await picture(4, 4, pixel), plain);
    expect(Array.from(data.subarray(0, 3))).toEqual(expected);
    expect(data).toHaveLength(12);
  });

  it('makes RGB of CMYK', async () => {
    const file = join(await temporaryFolder(), 'cmyk.jpg');
    const red = sharp({ create: { width: 16, height: 16, channels: 3, background: { r: 250, g: 10, b: 10 } } });
    await red.toColourspace('cmyk').jpeg({ quality: 100 }).toFile(file);
    expect((await sharp(file).metadata()).space).toBe('cmyk');
    const [r, g, b] = (await readImage(file, plain)).data;
    expect(r).toBeGreaterThan(180);
    expect(Math.max(g!, b!)).toBeLessThan(90);
  });

  it('makes 8 bits of 16', async () => {
    const file = join(await temporaryFolder(), 'deep.png');
    const values = Uint16Array.from({ length: 4 * 4 * 3 }, () => 0x8000);
    await sharp(values, { raw: { width: 4, height: 4, channels: 3 } }).toColourspace('rgb16').png().toFile(file);
    expect((await sharp(file).metadata()).depth).toBe('ushort');
    expect(Array.from((await readImage(file, plain)).data.subarray(0, 3))).toEqual([128, 128, 128]);
  });

  it.each([
    ['text', 'this is no picture', 'unsupported image format'],
    ['nothing', '', 'unsupported image format'],
  ])('rejects a file of %s', async (_what, content, expected) => {
    const file = join(await temporaryFolder(), 'broken.jpg');
    await writeFile(file, content);
    await expect(readImage(file, plain)).rejects.toThrow(expected);
  });

  it('rejects a picture that ends in the middle', async () => {
    const file = join(await temporaryFolder(), 'cut.jpg');
    const noise = Uint8Array.from({ length: 64 * 64 * 3 }, (_, i) => (i * 7919) % 251);
    const whole = await sharp(noise, { raw: { width: 64, height: 64, channels: 3 } }).jpeg().toBuffer();
    await writeFile(file, whole.subarray(0, whole.length / 2));
    await expect(readImage(file, plain)).rejects.toThrow(/premature end|corrupt/i);
  });
});

describe('normalizePixels', () => {
  const pixels = { width: 2, height: 1, data: Uint8Array.of(0, 51, 255, 102, 153, 204) };

  it('separates planes and maps the range', () => {
    const values = normalizePixels(pixels, { ...plain, range: [0, 1] });
    for (const [i, expected] of [0, 0.4, 0.2, 0.6, 1, 0.8].entries()) expect(values[i]).toBeCloseTo(expected, 6);
  });

  it('subtracts the mean and divides by the deviation of each channel', () => {
    const values = normalizePixels(pixels, { ...plain, range: [0, 1], mean: [0, 0.2, 0.5], std: [1, 0.5, 0.25] });
    for (const [i, expected] of [0, 0.4, 0, 0.8, 2, 1.2].entries()) expect(values[i]).toBeCloseTo(expected, 6);
  });

  it('orders BGR, with mean and deviation in the order of the network', () => {
    expect([...normalizePixels(pixels, { ...plain, color: 'bgr', mean: [104, 117, 123] })]).toEqual([151, 100, -66, 36, -123, -21]);
  });

  it('keeps pixels together in NHWC', () => {
    expect([...normalizePixels(pixels, { ...plain, layout: 'NHWC' })]).toEqual([0, 51, 255, 102, 153, 204]);
    expect(imageDims({ ...plain, layout: 'NHWC', crop: { width: 2, height: 1 } })).toEqual([1, 2, 3]);
    expect(imageDims({ ...plain, crop: { width: 2, height: 1 } })).toEqual([3, 1, 2]);
  });

  it('maps 0 and 255 to the ends of [-1, 1]', () => {
    const values = normalizePixels(pixels, { ...plain, range: [-1, 1] });
    expect([values[0], values[4]]).toEqual([-1, 1]);
  });
});
