/** The reference of a model that fixes its batch, for more samples than that: it runs them in portions of its own size. */
import type { ReferenceModel, TensorMap } from '../backends/backend.ts';
import { DTYPE_BITS, elementCount, type Tensor } from '../ir/tensor.ts';

/** Outputs for inputs of `batch` samples, `portion` at a time; a last portion is filled up with its last sample. Rejects where the model can't run them. */
export async function runInPortions(reference: ReferenceModel, inputs: TensorMap, batch: number, portion: number): Promise<TensorMap> {
  if (portion === batch) return runOnce(reference, inputs);
  const parts: TensorMap[] = [];
  for (let start = 0; start < batch; start += portion) {
    const rows = Object.entries(inputs).map(([name, tensor]) => [name, tensor.dims[0] === batch ? filled(slice(tensor, start, Math.min(portion, batch - start)), portion) : tensor]);
    parts.push(await runOnce(reference, Object.fromEntries(rows) as TensorMap));
  }
  return Object.fromEntries(reference.outputNames.map((name) => [name, join(parts.map((part) => part[name]!), portion, batch)]));
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

/** The samples, and the last of them again up to `count`. */
function filled(tensor: Tensor, count: number): Tensor {
  const own = tensor.dims[0]!;
  if (own === count) return tensor;
  const last = slice(tensor, own - 1, 1);
  return joined([tensor, ...Array.from({ length: count - own }, () => last)]);
}

/** `count` samples of the portions; an output without the portion in its first axis is the same for all, so the first stands. */
function join(parts: readonly Tensor[], portion: number, count: number): Tensor {
  const [first] = parts;
  if (!first) throw new Error('nothing to join');
  return first.dims[0] === portion ? slice(joined(parts), 0, count) : first;
}

function joined(parts: readonly Tensor[]): Tensor {
  const [first] = parts as readonly [Tensor];
  const data = new Uint8Array(parts.reduce((sum, part) => sum + part.data.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    data.set(part.data, at);
    at += part.data.byteLength;
  }
  return { dtype: first.dtype, dims: [parts.reduce((sum, { dims }) => sum + dims[0]!, 0), ...first.dims.slice(1)], data };
}
