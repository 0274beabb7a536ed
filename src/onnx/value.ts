/** Values as files and references hold them. A file of its own, so that the public types name no protobuf message. */
import type { Tensor } from '../ir/tensor.ts';

/** A tensor as a file holds it. Types that the project does not compute with keep their name and shape. */
export type TensorValue =
  | { readonly kind: 'tensor'; readonly tensor: Tensor }
  | { readonly kind: 'strings'; readonly dims: readonly number[]; readonly strings: readonly string[] }
  | { readonly kind: 'unsupported'; readonly dtype: string; readonly dims: readonly number[] };
