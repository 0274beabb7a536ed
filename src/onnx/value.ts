/** Values as files and references hold them. A file of its own, so that the public types name no protobuf message. */
import type { Tensor } from '../ir/tensor.ts';

/** A tensor as a file holds it. Types that the project does not compute with keep their name and shape. */
export type TensorValue =
  | { readonly kind: 'tensor'; readonly tensor: Tensor }
  | { readonly kind: 'strings'; readonly dims: readonly number[]; readonly strings: readonly string[] }
  | { readonly kind: 'unsupported'; readonly dtype: string; readonly dims: readonly number[] };

/** An attribute of a node. `reference` stands in a function's body for an attribute of the call. */
export type OnnxAttribute =
  | { readonly kind: 'float' | 'int'; readonly value: number }
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'floats' | 'ints'; readonly value: readonly number[] }
  | { readonly kind: 'strings'; readonly value: readonly string[] }
  | { readonly kind: 'tensor'; readonly value: TensorValue }
  | { readonly kind: 'reference'; readonly name: string }
  /** Subgraphs, types, sparse tensors and lists of tensors: nothing that the IR holds. */
  | { readonly kind: 'opaque'; readonly what: string };
