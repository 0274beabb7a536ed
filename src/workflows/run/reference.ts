/**
 * The fp32 reference: the model's own bytes, unoptimized, run by the backend that offers references (onnxruntime, unless the
 * variant's own backend has one, as the null backend does).
 *
 * A model with a fixed batch of its own runs the samples in portions of that size.
 */
import { dirname } from 'node:path';
import type { Backend, ReferenceModel, TensorMap } from '../../backends/backend.ts';
import type { Binding } from '../../engine/engine.ts';
import { DTYPE_BITS, elementCount, type Tensor } from '../../ir/tensor.ts';
import type { OnnxValue } from '../../onnx/model.ts';
import type { Registry } from '../../registry.ts';

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
      if (!provider.reference) throw new Error(`the backend ${provider.name} offers no reference`);
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

async function runInPortions(reference: ReferenceModel, inputs: TensorMap, batch: number, portion: number): Promise<TensorMap> {
  if (portion === batch || batch % portion !== 0) return runOnce(reference, inputs);
  const parts: TensorMap[] = [];
  for (let start = 0; start < batch; start += portion) {
    const rows = Object.entries(inputs).map(([name, tensor]) => [name, tensor.dims[0] === batch ? slice(tensor, start, portion) : tensor]);
    parts.push(await runOnce(reference, Object.fromEntries(rows) as TensorMap));
  }
  return Object.fromEntries(reference.outputNames.map((name) => [name, join(parts.map((part) => part[name]!), portion)]));
}

async function runOnce(reference: ReferenceModel, inputs: TensorMap): Promise<TensorMap> {
  const values = Object.entries(inputs).map(([name, tensor]) => [name, { kind: 'tensor', tensor }] as const);
  const outputs = await reference.run(new Map(values));
  return Object.fromEntries(
    [...outputs].map(([name, value]) => {
      if (value.kind !== 'tensor') throw new Error(`output '${name}' holds ${value.kind === 'strings' ? 'strings' : value.dtype}, which can't be compared`);
      return [name, value.tensor] as const;
    }),
  );
}

function slice(tensor: Tensor, start: number, count: number): Tensor {
  const dims = [count, ...tensor.dims.slice(1)];
  const rowBytes = (elementCount(tensor.dims.slice(1)) * DTYPE_BITS[tensor.dtype]) / 8;
  return { dtype: tensor.dtype, dims, data: tensor.data.subarray(start * rowBytes, (start + count) * rowBytes) };
}

/** Joins along the first axis; an output without the portion there is the same for all, so the first stands. */
function join(parts: readonly Tensor[], portion: number): Tensor {
  const [first] = parts;
  if (!first) throw new Error('nothing to join');
  if (first.dims[0] !== portion) return first;
  const data = new Uint8Array(parts.reduce((sum, part) => sum + part.data.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    data.set(part.data, at);
    at += part.data.byteLength;
  }
  return { dtype: first.dtype, dims: [portion * parts.length, ...first.dims.slice(1)], data };
}

/** The leading dimension that every input of a model fixes alike; undefined where it is symbolic or they differ. */
export function fixedBatch(inputs: readonly OnnxValue[]): number | undefined {
  const leading = inputs.map(({ type }) => (type.kind === 'tensor' ? type.dims?.[0] : undefined));
  const [first] = leading;
  return typeof first === 'number' && leading.every((dim) => dim === first) ? first : undefined;
}

/** Number of classes: the last dimension of the task's output. */
export function classCount(output: Binding | undefined): number | undefined {
  return output?.dims.at(-1);
}
