/** Engine files to disk, piece by piece: the bytes of an engine are never held a second time. */
import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import type { Engine } from './engine.ts';
import { engineBytes } from './file.ts';

/** Node writes less than 2 GiB at a time. */
const WRITE_BYTES = 2 ** 28;

/** Gives the size and the SHA-256 of the file that it wrote. Throws what {@link engineBytes} and the file system throw. */
export async function writeEngine(file: string, engine: Engine): Promise<{ readonly bytes: number; readonly sha256: string }> {
  const hash = createHash('sha256');
  const handle = await open(file, 'w');
  let at = 0;
  try {
    for await (const piece of engineBytes(engine)) {
      hash.update(piece);
      for (let done = 0; done < piece.length; ) {
        const { bytesWritten } = await handle.write(piece, done, Math.min(WRITE_BYTES, piece.length - done), at);
        done += bytesWritten;
        at += bytesWritten;
      }
    }
  } finally {
    await handle.close();
  }
  return { bytes: at, sha256: hash.digest('hex') };
}
