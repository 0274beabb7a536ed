/** The parts of an onnxruntime engine. */
import type { ExportedModel } from '../../onnx/export.ts';

/** The ONNX file that onnxruntime loads. */
export const MODEL_PART = 'model.onnx';
/** Prefix of external data: what follows is the name that the model has for the file. Models passed through have any, and large ones. */
export const EXTERNAL_PREFIX = 'external/';

export function modelParts({ bytes, files }: ExportedModel): ReadonlyMap<string, Uint8Array> {
  return new Map([[MODEL_PART, bytes], ...[...files].map(([path, data]) => [EXTERNAL_PREFIX + path, data] as const)]);
}

/** Files beside a model as the session option of this name. */
export function externalData(files: ReadonlyMap<string, Uint8Array>): { readonly path: string; readonly data: Uint8Array }[] {
  return [...files].map(([path, data]) => ({ path, data }));
}
