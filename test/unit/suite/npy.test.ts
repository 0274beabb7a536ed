import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { fromNumbers, type Tensor } from '../../../src/ir/tensor.ts';
import { holdsArrays, isArrayFile, readArrays, readWhole } from '../../../src/suite/npy.ts';
import { npyBytes, npzBytes } from '../../helpers/npy.ts';
import { temporaryFolder } from './helpers.ts';

const x = fromNumbers('float32', [3, 2], [1, 2, 3, 4, 5, 6]);
const ids = fromNumbers('int64', [3], [7, 8, 9]);

async function fileOf(name: string, bytes: Uint8Array | string): Promise<string> {
  const path = join(await temporaryFolder(), name);
  await writeFile(path, bytes);
  return path;
}

async function read(path: string): Promise<Record<string, Tensor>> {
  const arrays = await readArrays(path);
  return Object.fromEntries(await Promise.all(arrays.map(async (array) => [array.name, await readWhole(array)] as const)));
}

describe('arrays of NumPy', () => {
  it.each(['float32', 'float64', 'float16', 'int64', 'int32', 'uint8', 'bool'] as const)('are read with their type: %s', async (dtype) => {
    const tensor = fromNumbers(dtype, [2, 2], [0, 1, 1, 0]);
    expect(await read(await fileOf('x.npy', npyBytes(tensor)))).toEqual({ x: tensor });
  });

  it('are read of both versions of the header, scalars and empty ones too', async () => {
    expect(await read(await fileOf('x.npy', npyBytes(x, { version: 2 })))).toEqual({ x });
    const scalar = fromNumbers('float32', [], [3]);
    expect(await read(await fileOf('s.npy', npyBytes(scalar)))).toEqual({ s: scalar });
    const empty = fromNumbers('float32', [0, 4], []);
    expect(await read(await fileOf('e.npy', npyBytes(empty)))).toEqual({ e: empty });
  });

  it.each([false, true])('are read from an archive by their names, slashes and colons in these too (compressed: %s)', async (compressed) => {
    const arrays = { 'serving/ids:0': ids, x };
    expect(await read(await fileOf('samples.npz', npzBytes(arrays, compressed)))).toEqual(arrays);
  });

  it('are read from a folder by the names of its files', async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, 'x.npy'), npyBytes(x));
    await writeFile(join(folder, 'ids.npy'), npyBytes(ids));
    await writeFile(join(folder, 'readme.txt'), 'not an array');
    expect(await read(folder)).toEqual({ ids, x });
    expect(await holdsArrays(folder)).toBe(true);
    expect(await holdsArrays(await temporaryFolder())).toBe(false);
    expect([folder, 'a.npy', 'a.NPZ', 'npz'].map(isArrayFile)).toEqual([false, true, true, false]);
  });

  it.each([
    ['cut off', npyBytes(x).subarray(0, -4), 'takes 152 bytes by its header, but the file has 148'],
    ['of other bytes', 'hello', 'the file is not a .npy array'],
    ['in Fortran order', npyBytes(x, { fortranOrder: true }), 'Fortran order'],
    ['big-endian', npyBytes(x, { descr: '>f4' }), "its elements are '>f4'"],
    ['of objects', npyBytes(x, { descr: '|O' }), "its elements are '|O'"],
    ['without a header', npyBytes(x).subarray(0, 20), 'the header of the array can\'t be read'],
  ])('are refused by file where they are %s', async (_, bytes, message) => {
    const path = await fileOf('x.npy', bytes);
    await expect(readArrays(path)).rejects.toMatchObject({ code: 'DATASET_INVALID', message: expect.stringContaining(message) as string, place: path });
  });

  it('are refused where the archive is none, or is not there', async () => {
    const path = await fileOf('x.npz', 'hello');
    await expect(readArrays(path)).rejects.toMatchObject({ code: 'DATASET_INVALID', message: expect.stringContaining('the file is not a .npz archive') as string });
    await expect(readArrays(`${path}.npz`)).rejects.toMatchObject({ code: 'DATASET_INVALID', message: 'there is no such file of arrays' });
  });
});
