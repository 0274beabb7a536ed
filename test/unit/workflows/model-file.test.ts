import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { TsrtError } from '../../../src/errors.ts';
import { inModelFile, readModelFile } from '../../../src/workflows/model-file.ts';
import { temporaryFolder } from '../../helpers/folder.ts';

describe('readModelFile', () => {
  it('says what stands in the way', async () => {
    const folder = await temporaryFolder();
    await expect(readModelFile(join(folder, 'm.onnx'))).rejects.toMatchObject({ code: 'MODEL_NOT_FOUND', place: join(folder, 'm.onnx'), message: 'there is no such model file' });
    await expect(readModelFile(folder)).rejects.toMatchObject({ code: 'MODEL_NOT_FOUND', message: 'the model is a folder, not a file' });
  });
});

describe('inModelFile', () => {
  const failing = (error: unknown) =>
    inModelFile('m.onnx', () => {
      throw error;
    });

  it('names the file in what is said of its content, and keeps the rest', async () => {
    const error = new TsrtError('MODEL_INVALID', 'cyclic', { place: "node 'a'", fix: 'export again', details: ['a → b → a'] });
    await expect(failing(error)).rejects.toMatchObject({ code: 'MODEL_INVALID', message: 'cyclic', place: "m.onnx, node 'a'", fix: 'export again', details: ['a → b → a'] });
    await expect(failing(new TsrtError('MODEL_INVALID', 'no model', { place: 'file' }))).rejects.toMatchObject({ place: 'm.onnx' });
  });

  it('leaves other errors alone', async () => {
    const bug = new Error('bug');
    await expect(failing(bug)).rejects.toBe(bug);
    const other = new TsrtError('OUT_OF_MEMORY', 'no memory');
    await expect(failing(other)).rejects.toBe(other);
    await expect(inModelFile('m.onnx', () => 7)).resolves.toBe(7);
  });
});
