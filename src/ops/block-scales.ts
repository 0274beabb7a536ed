/** Constants with scales by block, dequantized on the host: what the importer and a pass of the compiler do alike. */
import { decodeFewBits, isFewBits } from '../ir/few-bits.ts';
import { type Dims, type DType, elementCount, fromNumbers, retyped, type Tensor, toNumbers, typedView } from '../ir/tensor.ts';

/** How scales lie along a tensor. */
export interface ScaleGrid {
  readonly axis: number;
  /** Elements of the axis that share a scale; 0 where each has its own, or all have one. */
  readonly block: number;
  readonly dims: Dims;
  readonly single: boolean;
}

/** For each element, the index of its scale. */
export function scaleIndex({ axis, block, dims, single }: ScaleGrid): (element: number) => number {
  if (single) return () => 0;
  const [length, inner] = [dims[axis]!, elementCount(dims.slice(axis + 1))];
  const along = (element: number): number => Math.floor(element / inner) % length;
  if (block === 0) return along;
  const blocks = Math.ceil(length / block);
  return (element) => (Math.floor(element / (length * inner)) * blocks + Math.floor(along(element) / block)) * inner + (element % inner);
}

/** A constant's numbers. Weights are many: no list of numbers where it can be helped. */
export function valuesOf(tensor: Tensor): ArrayLike<number> {
  if (isFewBits(tensor.dtype)) return decodeFewBits(tensor.dtype, tensor.data, elementCount(tensor.dims));
  const view = typedView(tensor.dtype === 'float16' || tensor.dtype === 'bfloat16' ? retyped(tensor, 'float32') : tensor);
  return view instanceof Float32Array || view instanceof Int8Array || (view instanceof Uint8Array && tensor.dtype === 'uint8') ? view : toNumbers(tensor);
}

/** (data − zero) · scale in float32, rounded once to `to`. */
export function dequantized(data: Tensor, scale: Tensor, grid: ScaleGrid, to: DType, zero?: Tensor): Tensor {
  const [values, steps, zeros] = [valuesOf(data), valuesOf(scale), zero && valuesOf(zero)];
  const at = scaleIndex(grid);
  const products = new Float32Array(values.length);
  for (let i = 0; i < products.length; i++) products[i] = (values[i]! - (zeros?.[at(i)] ?? 0)) * steps[at(i)]!;
  return to === 'float32' ? { dtype: to, dims: grid.dims, data: new Uint8Array(products.buffer) } : fromNumbers(to, grid.dims, products);
}
