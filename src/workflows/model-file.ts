/** Model files as workflows meet them: read with a clear error, and named in every error that is about their content. */
import { readFile } from 'node:fs/promises';
import { TsrtError } from '../errors.ts';

/** Reads a model file. Throws MODEL_NOT_FOUND. */
export async function readModelFile(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
    throw new TsrtError('MODEL_NOT_FOUND', whyUnreadable(code), { place: path, fix: 'give an ONNX file', cause });
  }
}

function whyUnreadable(code: unknown): string {
  switch (code) {
    case 'ENOENT':
      return 'there is no such model file';
    case 'EISDIR':
      return 'the model is a folder, not a file';
    case 'ERR_FS_FILE_TOO_LARGE':
      return 'the model file is larger than 2 GiB, the limit of one ONNX file';
    default:
      return "the model file can't be read";
  }
}

/** Runs `work`; what it throws about the model's content gets the file's name. */
export async function inModelFile<T>(path: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof TsrtError) || (error.code !== 'MODEL_INVALID' && error.code !== 'MODEL_UNSUPPORTED')) throw error;
    const { code, message, fix, place, details, plugin, cause } = error;
    throw new TsrtError(code, message, {
      place: place === undefined || place === 'file' ? path : `${path}, ${place}`,
      details,
      cause,
      ...(fix !== undefined && { fix }),
      ...(plugin !== undefined && { plugin }),
    });
  }
}
