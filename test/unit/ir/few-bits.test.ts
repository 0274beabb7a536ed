/** Codes of few bits against a table and a search through it: all of them, the middles between neighbours, and what is no number. */
import { describe, expect, it } from 'vitest';
import { encodeFewBits, type RoundMode } from '../../../src/ir/few-bits.ts';
import { fromNumbers, tensorBytes, toNumbers } from '../../../src/ir/tensor.ts';
import { castTo, castToPower, numbersOf, powerProbes, probes, SCALED } from '../../helpers/few-bits-reference.ts';

const MODES: readonly RoundMode[] = ['up', 'down', 'nearest'];

describe('floats of few bits', () => {
  it.each([...SCALED, 'float8e8m0'] as const)('%s: every code is read as its number, and written as itself', (dtype) => {
    const numbers = numbersOf(dtype);
    const data = dtype === 'float4e2m1' ? Uint8Array.of(0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe) : Uint8Array.from({ length: 256 }, (_, i) => i);
    const read = toNumbers({ dtype, dims: [numbers.length], data });
    expect(read).toEqual(numbers);
    const again = fromNumbers(dtype, [numbers.length], read);
    expect(toNumbers(again)).toEqual(numbers);
    const isCode = (i: number): boolean => !Number.isNaN(numbers[i]);
    expect(again.data.filter((_, i) => dtype === 'float4e2m1' || isCode(i))).toEqual(data.filter((_, i) => dtype === 'float4e2m1' || isCode(i)));
  });

  it.each(SCALED.flatMap((dtype) => [[dtype, 1], [dtype, 0]] as const))('%s, saturate %d: rounds to the nearest, half to even', (dtype, saturate) => {
    const values = probes(dtype);
    const data = encodeFewBits(dtype, values, { saturate, round_mode: 'up' });
    expect(toNumbers({ dtype, dims: [values.length], data })).toEqual(values.map((value) => castTo(dtype, value, saturate)));
  });

  it.each(MODES.flatMap((mode) => [[mode, 1], [mode, 0]] as const))('float8e8m0, %s, saturate %d', (round_mode, saturate) => {
    const values = powerProbes();
    const data = encodeFewBits('float8e8m0', values, { saturate, round_mode });
    expect(toNumbers({ dtype: 'float8e8m0', dims: [values.length], data })).toEqual(values.map((value) => castToPower(value, saturate, round_mode)));
  });

  it('a number of a float64 is rounded once', () => {
    // As a float32 it would be the middle between 1 and 1.125, and go to 1.
    expect(toNumbers(fromNumbers('float8e4m3fn', [], [1.0625 + 2 ** -40]))).toEqual([1.125]);
  });
});

describe('integers of few bits', () => {
  it.each([
    ['int4', [-8, 7, -1, 0, 9], [-8, 7, -1, 0, -7], [0x78, 0x0f, 0x09]],
    ['uint4', [15, 0, 3, -1, 17.9], [15, 0, 3, 15, 1], [0x0f, 0xf3, 0x01]],
    ['int2', [-2, 1, -1, 0, 3], [-2, 1, -1, 0, -1], [0x36, 0x03]],
    ['uint2', [0, 1, 2, 3, 5], [0, 1, 2, 3, 1], [0xe4, 0x01]],
  ] as const)('%s lie with the first in the lowest bits, and wrap', (dtype, values, expected, bytes) => {
    const tensor = fromNumbers(dtype, [values.length], values);
    expect(Array.from(tensor.data)).toEqual(bytes);
    expect(tensorBytes(tensor)).toBe(bytes.length);
    expect(toNumbers(tensor)).toEqual(expected);
  });
});
