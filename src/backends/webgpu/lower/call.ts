/** A kernel as it is dispatched: what kernels make, tactics stand for and a program lists. */
import type { DType } from '../../../ir/tensor.ts';
import type { KernelSource } from '../wgsl/module.ts';
import type { DeviceTensor } from './tensor.ts';

/** A kernel with its grid and the tensors of its bindings, in order. */
export interface KernelCall {
  readonly source: KernelSource;
  readonly operands: readonly DeviceTensor[];
  /** Any number of workgroups; folded into y where x alone cannot hold them. */
  readonly workgroups: readonly [number, number, number];
  readonly tactic?: string;
  /** What the kernel multiplies in, where that is not the type of the layer's output. */
  readonly precision?: DType;
}
