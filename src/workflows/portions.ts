/** The reference of a model that fixes its batch, for more samples than that: it runs them in portions of its own size. */
import type { ReferenceModel, TensorMap } from '../backends/backend.ts';
import { DTYPE_BITS, elementCount, type Tensor } from '../ir/tensor.ts';
import type { OnnxValue } from '../onnx/model.ts';

/** The leading dimension that every input of a model fixes alike; undefined where it is symbolic or they differ. */
export function fixedBatch(inputs: readonly OnnxValue[]): number | undefined {
  const leading = inputs.map(({ type }) => (type.kind === 'tensor' ? type.dims?.[0] : undefined));
  const [first] = leading;
  return typeof first === 'number' && leading.every((dim) => dim === first) ? first : undefined;
}

/** Outputs for inputs of `batch` samples, `portion` at a time where that goes up. Rejects where the model can't run them. */
export async function runInPortions(reference: ReferenceModel, inputs: TensorMap, batch: number, portion: number): Promise<TensorMap> {
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
