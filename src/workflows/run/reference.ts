/**
 * The fp32 reference: the model's own bytes, unoptimized, run by the backend that offers references (onnxruntime, unless the
 * variant's own backend has one, as the null backend does).
 */
import { dirname } from 'node:path';
import type { Backend, ReferenceModel, TensorMap } from '../../backends/backend.ts';
import type { Binding } from '../../engine/engine.ts';
import type { Registry } from '../../registry.ts';
import { runInPortions } from '../portions.ts';

const DEFAULT_REFERENCE = 'onnxruntime';

export interface Reference {
  /** Outputs for inputs whose leading dimension is `batch`. Rejects where it can't run them. */
  run(inputs: TensorMap, batch: number): Promise<TensorMap>;
}

export interface References {
  /** The reference for variants of this backend; opened once. Rejects where the model can't be opened by it. */
  of(backend: Backend): Promise<Reference>;
  dispose(): Promise<void>;
}

/** `ownBatch` is the leading dimension that the model fixes, undefined where it is symbolic. */
export function openReferences(
  model: { readonly bytes: Uint8Array; readonly path: string; readonly ownBatch: number | undefined },
  registry: Registry,
): References {
  const opened = new Map<string, Promise<ReferenceModel>>();
  return {
    async of(backend) {
      const provider = backend.reference ? backend : registry.backend(DEFAULT_REFERENCE);
      if (!provider.reference) throw new Error(`the backend ${provider.name} has no reference`);
      const open = opened.get(provider.name) ?? provider.reference({ bytes: model.bytes, folder: dirname(model.path), allCores: true });
      opened.set(provider.name, open);
      const reference = await open;
      return { run: (inputs, batch) => runInPortions(reference, inputs, batch, model.ownBatch ?? batch) };
    },
    async dispose() {
      // One that could not be opened has nothing to let go of, and its users were told.
      for (const open of opened.values()) await (await open.catch(() => undefined))?.dispose();
    },
  };
}

/** Number of classes: the last dimension of the task's output. */
export function classCount(output: Binding | undefined): number | undefined {
  return output?.dims.at(-1);
}
