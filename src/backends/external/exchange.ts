/**
 * The folder through which tensors travel: raw little-endian files, written by the side that has the values. Both sides name
 * files by plain names, so that nothing outside of the folder is ever meant.
 */
import { rmSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Binding } from '../../engine/engine.ts';
import { TsrtError } from '../../errors.ts';
import { formatType, sameDims, tensorBytes, type Tensor } from '../../ir/tensor.ts';
import { makeTemporaryFolder } from '../../temporary.ts';
import type { TensorMap } from '../backend.ts';
import type { TensorFile } from './protocol.ts';

export interface Exchange {
  readonly folder: string;
  write(file: string, data: Uint8Array | string): Promise<void>;
  read(file: string): Promise<Uint8Array>;
  /** One file each, `in-0.bin` and so on. */
  writeTensors(bindings: readonly Binding[], tensors: readonly Tensor[]): Promise<readonly TensorFile[]>;
  /** Throws TsrtError PLUGIN_INVALID for tensors that are not the bindings'. */
  readTensors(program: string, bindings: readonly Binding[], files: readonly TensorFile[]): Promise<TensorMap>;
  dispose(): void;
}

const open = new Set<string>();

/** A new folder; what is left of it goes with this process. */
export async function createExchange(): Promise<Exchange> {
  await mkdir(tmpdir(), { recursive: true });
  const folder = await makeTemporaryFolder('exchange');
  if (!process.listeners('exit').includes(removeAll)) process.on('exit', removeAll);
  open.add(folder);
  const write: Exchange['write'] = (file, data) => writeFile(join(folder, file), data);
  const read: Exchange['read'] = (file) => readFile(join(folder, file));
  return {
    folder,
    write,
    read,
    writeTensors: (bindings, tensors) =>
      Promise.all(
        tensors.map(async ({ dtype, dims, data }, index) => {
          const file = `in-${index}.bin`;
          await write(file, data);
          return { name: bindings[index]!.name, dtype, dims, file };
        }),
      ),
    async readTensors(program, bindings, files) {
      const tensors = bindings.map(async (binding): Promise<[string, Tensor]> => {
        const found = files.find(({ name }) => name === binding.name);
        const wrong = (what: string) =>
          new TsrtError('PLUGIN_INVALID', `${program}: output '${binding.name}' is ${what}, the engine's is ${formatType(binding)}`, {
            plugin: program,
            fix: 'make the program write what the engine says',
          });
        if (!found) throw wrong('missing');
        if (found.dtype !== binding.dtype || !(binding.dynamic || sameDims(found.dims, binding.dims))) throw wrong(formatType(found));
        const data = await read(found.file).catch((error: NodeJS.ErrnoException) => {
          throw wrong(`in the file ${found.file}, which can't be read (${error.code})`);
        });
        if (data.byteLength !== tensorBytes(found)) throw wrong(`${formatType(found)} in ${data.byteLength} bytes`);
        return [binding.name, { dtype: found.dtype, dims: found.dims, data }];
      });
      return Object.fromEntries(await Promise.all(tensors));
    },
    dispose() {
      open.delete(folder);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function removeAll(): void {
  for (const folder of open) rmSync(folder, { recursive: true, force: true });
}
