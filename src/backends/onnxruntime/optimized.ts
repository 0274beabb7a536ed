/**
 * What onnxruntime makes of a model: the nodes that it will execute, read from the optimized model that it writes on demand.
 * This is the proof of what runs in which precision; our own intent is none.
 */
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import onnxProto from 'onnx-proto';
import { makeTemporaryFolder } from '../../temporary.ts';
import { loadOrt, openSession, type SessionOptions } from './library.ts';

export interface OptimizedNode {
  readonly name: string;
  readonly op: string;
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
}

/** The nodes in execution order. Rejects with onnxruntime's error where it can't load the model. */
export async function optimizedNodes(bytes: Uint8Array, options: SessionOptions): Promise<readonly OptimizedNode[]> {
  const ort = await loadOrt();
  const folder = await makeTemporaryFolder('optimized');
  try {
    const path = join(folder, 'model.onnx');
    const session = await openSession(ort, bytes, { ...options, optimizedModelFilePath: path });
    await session.release();
    const { graph } = onnxProto.onnx.ModelProto.decode(await readFile(path));
    return (graph?.node ?? []).map(({ name, opType, domain, input, output }) => ({
      name: name ?? '',
      op: opType ?? '',
      domain: domain ?? '',
      inputs: input ?? [],
      outputs: output ?? [],
    }));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
