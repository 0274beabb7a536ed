/**
 * Arithmetic and memory traffic of ops.
 *
 * A multiply-add counts two operations, every other function one, transcendental ones included. Bytes count each tensor
 * once: the compulsory traffic of a roofline model (Williams, Waterman, Patterson, 2009), which a perfect cache would give.
 */
import { elementCount, tensorBytes } from '../ir/tensor.ts';
import type { TensorType } from '../ir/tensor.ts';
import type { OpCost } from './def.ts';

/** Types of a node's inputs; undefined for one that is left out. */
export type InputTypes = readonly (TensorType | undefined)[];

/** Bytes of every tensor given. */
export function bytesMoved(inputs: InputTypes, outputs: readonly TensorType[]): number {
  let bytes = 0;
  for (const type of [...inputs, ...outputs]) if (type) bytes += tensorBytes(type);
  return bytes;
}

/** So many operations per element of the first output. */
export function perOutput(flopsPerElement: number) {
  return (_attrs: unknown, inputs: InputTypes, outputs: readonly TensorType[]): OpCost => ({
    flops: flopsPerElement * (outputs[0] ? elementCount(outputs[0].dims) : 0),
    bytes: bytesMoved(inputs, outputs),
  });
}

/** So many operations per element of the first input: reductions and normalizations. */
export function perInput(flopsPerElement: number) {
  return (_attrs: unknown, inputs: InputTypes, outputs: readonly TensorType[]): OpCost => ({
    flops: flopsPerElement * (inputs[0] ? elementCount(inputs[0].dims) : 0),
    bytes: bytesMoved(inputs, outputs),
  });
}

/** Data movement: no arithmetic, every tensor crossing memory once. */
export const movement = perOutput(0);

/** Reads only as much as it writes, and the inputs after the first: gathers and slices of a large tensor. */
export function picking(_attrs: unknown, inputs: InputTypes, outputs: readonly TensorType[]): OpCost {
  return { flops: 0, bytes: 2 * bytesMoved([], outputs) + bytesMoved(inputs.slice(1), []) };
}

/** A view of its input: nothing moves. */
export function view(): OpCost {
  return { flops: 0, bytes: 0 };
}
