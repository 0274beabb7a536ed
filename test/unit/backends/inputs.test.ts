/** What a request may hold, and what is said of the rest. */
import { describe, expect, it } from 'vitest';
import type { TensorMap } from '../../../src/backends/backend.ts';
import { checkInputs } from '../../../src/backends/inputs.ts';
import type { Binding } from '../../../src/engine/engine.ts';
import { TsrtError } from '../../../src/errors.ts';
import { fromNumbers } from '../../../src/ir/tensor.ts';

const BINDINGS: readonly Binding[] = [{ name: 'x', dtype: 'float32', dims: [1, 2] }];
const data = new Uint8Array(8);

/** As a program in plain JavaScript may give it. */
function refusal(inputs: unknown): readonly string[] {
  try {
    checkInputs(BINDINGS, inputs as TensorMap);
    return [];
  } catch (error) {
    if (!(error instanceof TsrtError) || error.code !== 'USAGE') throw error;
    return error.details;
  }
}

describe('checkInputs', () => {
  it('gives tensors in the order of the bindings, whatever holds their bytes', () => {
    const two: readonly Binding[] = [{ name: 'b', dtype: 'float32', dims: [1] }, { name: 'a', dtype: 'int64', dims: [] }];
    const [a, b] = [fromNumbers('int64', [], [1]), fromNumbers('float32', [1], [2])];
    expect(checkInputs(two, { a, b })).toEqual([b, a]);
    expect(refusal({ x: { dtype: 'float32', dims: [1, 2], data: Buffer.alloc(9).subarray(1) } })).toEqual([]);
    const shared = new Uint8Array(new SharedArrayBuffer(8)).fill(3);
    const [copy] = checkInputs(BINDINGS, { x: { dtype: 'float32', dims: [1, 2], data: shared } });
    expect(copy).toEqual({ dtype: 'float32', dims: [1, 2], data: new Uint8Array(8).fill(3) });
    expect(copy!.data.buffer).toBeInstanceOf(ArrayBuffer);
  });

  it.each<[string, unknown, string]>([
    ['nothing', undefined, 'x: expected float32[1,2], found nothing'],
    ['null', null, 'x: expected float32[1,2], found nothing'],
    ['a map', new Map([['x', fromNumbers('float32', [1, 2], [1, 2])]]), 'x: expected float32[1,2], found nothing'],
    ['null for a tensor', { x: null }, 'x: expected float32[1,2], found nothing'],
    ['a bare array', { x: new Float32Array(2) }, 'x: expected float32[1,2] as { dtype, dims, data }, found Float32Array without dtype'],
    ["another library's tensor", { x: { type: 'float32', dims: [1, 2], data: new Float32Array(2) } }, 'x: expected float32[1,2] as { dtype, dims, data }, found Object without dtype'],
    ['no dims', { x: { dtype: 'float32', data } }, 'x: expected float32[1,2] as { dtype, dims, data }, found Object without dims'],
    ['other dims', { x: { dtype: 'float32', dims: [2, 1], data } }, 'x: expected float32[1,2], found float32[2,1]'],
    ['no data', { x: { dtype: 'float32', dims: [1, 2] } }, "x: expected the elements' bytes in a Uint8Array, found Undefined"],
    ['elements of the type', { x: { dtype: 'float32', dims: [1, 2], data: new Float32Array(2) } }, "x: expected the elements' bytes in a Uint8Array, found Float32Array"],
    ['elements of another type of that width', { x: { dtype: 'float32', dims: [1, 2], data: new Int32Array(2) } }, "x: expected the elements' bytes in a Uint8Array, found Int32Array"],
    ['a buffer', { x: { dtype: 'float32', dims: [1, 2], data: data.buffer } }, "x: expected the elements' bytes in a Uint8Array, found ArrayBuffer"],
    ['too few bytes', { x: { dtype: 'float32', dims: [1, 2], data: data.subarray(1) } }, 'x: float32[1,2] takes 8 bytes, found 7'],
  ])('refuses %s', (_, inputs, detail) => {
    expect(refusal(inputs)).toEqual([detail]);
  });

  it('names inputs that the engine lacks', () => {
    expect(refusal({ x: fromNumbers('float32', [1, 2], [1, 2]), toString: 1 })).toEqual(['toString: no such input']);
  });
});
