/**
 * What onnxruntime makes of a model: the nodes that it will execute, read from the optimized model that it writes on demand.
 * This is the proof of what runs in which precision; our own intent is none.
 */
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExportedModel } from '../../onnx/export.ts';
import { onnx } from '../../onnx/proto.ts';
import { makeTemporaryFolder } from '../../temporary.ts';
import { loadOrt, openSession, type SessionOptions } from './library.ts';
import { externalData } from './parts.ts';

export interface OptimizedNode {
  readonly name: string;
  readonly op: string;
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
}

/** The nodes in execution order. Rejects with onnxruntime's error where it can't load the model. */
export async function optimizedNodes({ bytes, files }: ExportedModel, options: SessionOptions): Promise<readonly OptimizedNode[]> {
  const ort = await loadOrt();
  const folder = await makeTemporaryFolder('optimized');
  try {
    const path = join(folder, 'model.onnx');
    const session = await openSession(ort, bytes, { ...options, ...(files.size > 0 && weightsOutside(options, files)), optimizedModelFilePath: path });
    await session.release();
    const { graph } = onnx.ModelProto.decode(await readFile(path));
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

/** Nor can the optimized model be one message then. */
function weightsOutside({ extra = {} }: SessionOptions, files: ExportedModel['files']): SessionOptions {
  const { session, ...others } = extra as { readonly session?: object };
  return { externalData: externalData(files), extra: { ...others, session: { ...session, optimized_model_external_initializers_file_name: 'weights' } } };
}
