/**
 * The input by which a transformer is told where its tokens are and where padding is. Exporters agree on its name. A request of real tokens has ones
 * there, and the mask may say how much is computed: onnxruntime's GroupQueryAttention takes the length of the cache from its sum.
 */
import { elementCount, fromNumbers, type Tensor, type TensorType } from './tensor.ts';

export function isAttentionMask({ name, dtype }: Pick<TensorType, 'dtype'> & { readonly name: string }): boolean {
  return !dtype.includes('float') && /(^|[^a-z])attention_mask$/i.test(name);
}

/** As for a request without padding. */
export function fullMask({ dtype, dims }: TensorType): Tensor {
  return fromNumbers(dtype, dims, new Float64Array(elementCount(dims)).fill(1));
}
