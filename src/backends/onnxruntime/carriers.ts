/** Where the numbers of types of few bits lie in onnxruntime's JavaScript tensors, which have none of these. */
import { isFewBits, isFewBitsFloat, type FewBits } from '../../ir/few-bits.ts';
import { fromNumbers, toNumbers, type DType, type Tensor } from '../../ir/tensor.ts';

/** The type whose elements are the numbers of one of few bits; any other type itself. */
export function carrierOf(dtype: DType): Exclude<DType, FewBits> {
  if (!isFewBits(dtype)) return dtype;
  if (isFewBitsFloat(dtype)) return 'float32';
  return dtype === 'int4' || dtype === 'int2' ? 'int8' : 'uint8';
}

/** The same numbers in the carrier. */
export function carried(tensor: Tensor): Tensor {
  const dtype = carrierOf(tensor.dtype);
  return dtype === tensor.dtype ? tensor : fromNumbers(dtype, tensor.dims, toNumbers(tensor));
}
