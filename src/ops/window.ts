/**
 * Sliding windows along spatial axes: output sizes of convolutions and pools, and ONNX's auto_pad.
 *
 * Rules: https://onnx.ai/onnx/operators/onnx__Conv.html, …__MaxPool.html, …__ConvTranspose.html. `pads` lists the begin of
 * every spatial axis, then the end of every spatial axis.
 */
import type { Dims } from '../ir/tensor.ts';
import { ShapeError, UnsupportedError } from './def.ts';

export interface Window {
  readonly kernel_shape: readonly number[];
  readonly dilations: readonly number[];
  readonly pads: readonly number[];
  readonly strides: readonly number[];
}

/** Extent of a dilated kernel: (k − 1)·d + 1. */
export function effectiveKernel(kernel: number, dilation: number): number {
  return (kernel - 1) * dilation + 1;
}

/** Checks that every list fits the number of spatial axes and holds values that make sense. */
export function checkWindow(window: Window, rank: number): void {
  checkList('kernel_shape', window.kernel_shape, rank, 1);
  checkList('dilations', window.dilations, rank, 1);
  checkList('strides', window.strides, rank, 1);
  checkList('pads', window.pads, 2 * rank, 0);
}

function checkList(name: string, values: readonly number[], length: number, min: number): void {
  if (values.length !== length || !values.every((value) => value >= min)) {
    throw new ShapeError(`attribute '${name}' must hold ${length} integers of ${min} or more, found [${values.join(',')}]`);
  }
}

/**
 * Number of windows along each spatial axis. With `ceilMode` a last, partial window counts, unless it would start in the
 * end padding.
 */
export function windowCounts(spatial: Dims, window: Window, ceilMode: boolean): number[] {
  const rank = spatial.length;
  return spatial.map((size, axis) => {
    const begin = window.pads[axis]!;
    const padded = size + begin + window.pads[rank + axis]!;
    const kernel = effectiveKernel(window.kernel_shape[axis]!, window.dilations[axis]!);
    const stride = window.strides[axis]!;
    if (size === 0 && padded < kernel) return 0;
    if (padded < kernel) {
      throw new ShapeError(`a window of ${kernel} is larger than the padded input of ${padded} along spatial axis ${axis}`);
    }
    if (!ceilMode) return Math.floor((padded - kernel) / stride) + 1;
    const count = Math.ceil((padded - kernel) / stride) + 1;
    return (count - 1) * stride >= size + begin ? count - 1 : count;
  });
}

/** Output size of a transposed convolution along each spatial axis: s·(i − 1) + output_padding + window − pads. */
export function transposedSizes(spatial: Dims, window: Window, outputPadding: readonly number[]): number[] {
  const rank = spatial.length;
  return spatial.map((size, axis) => {
    const kernel = effectiveKernel(window.kernel_shape[axis]!, window.dilations[axis]!);
    const full = window.strides[axis]! * (size - 1) + outputPadding[axis]! + kernel;
    const out = full - window.pads[axis]! - window.pads[rank + axis]!;
    if (size === 0) return Math.max(0, out);
    if (out < 0) throw new ShapeError(`pads remove more than the ${full} outputs along spatial axis ${axis}`);
    return out;
  });
}

export type AutoPad = 'NOTSET' | 'SAME_UPPER' | 'SAME_LOWER' | 'VALID';

const AUTO_PADS: readonly AutoPad[] = ['NOTSET', 'SAME_UPPER', 'SAME_LOWER', 'VALID'];

/** An auto_pad attribute's value; absent and empty mean NOTSET. */
export function parseAutoPad(raw: unknown): AutoPad {
  if (raw === undefined || raw === '') return 'NOTSET';
  const mode = AUTO_PADS.find((candidate) => candidate === raw);
  if (!mode) throw new UnsupportedError(`attribute 'auto_pad' must be one of ${AUTO_PADS.join(', ')}, found '${String(raw)}'`);
  return mode;
}

/** Splits a total padding per axis in two; the odd one goes to the end for SAME_UPPER, to the begin otherwise. */
function distribute(totals: readonly number[], mode: AutoPad): number[] {
  const small = totals.map((total) => Math.floor(total / 2));
  const large = totals.map((total) => Math.ceil(total / 2));
  return mode === 'SAME_UPPER' ? [...small, ...large] : [...large, ...small];
}

/**
 * Explicit pads of a convolution or pool whose auto_pad is `mode`: SAME makes ⌈size / stride⌉ windows, VALID pads nothing.
 * `pads` is what the model gives, used for NOTSET only.
 */
export function resolveAutoPad(mode: AutoPad, spatial: Dims, window: Omit<Window, 'pads'>, pads: readonly number[]): readonly number[] {
  if (mode === 'NOTSET') return pads;
  if (mode === 'VALID') return Array.from({ length: 2 * spatial.length }, () => 0);
  const totals = spatial.map((size, axis) => {
    const stride = window.strides[axis]!;
    const kernel = effectiveKernel(window.kernel_shape[axis]!, window.dilations[axis]!);
    return Math.max(0, (Math.ceil(size / stride) - 1) * stride + kernel - size);
  });
  return distribute(totals, mode);
}

/**
 * Pads and output padding of a transposed convolution that reach `outputShape` (ONNX's attribute of that name), or cut
 * down to size · stride for SAME. As in onnxruntime, an output shape larger than the unpadded one is reached by output
 * padding; SAME never adds any.
 */
export function resolveTransposedPads(
  mode: AutoPad,
  spatial: Dims,
  window: Window,
  outputPadding: readonly number[],
  outputShape: readonly number[] | undefined,
): { readonly pads: readonly number[]; readonly output_padding: readonly number[] } {
  const unpadded = { ...window, pads: window.pads.map(() => 0) };
  if (!outputShape && mode === 'NOTSET') return { pads: window.pads, output_padding: outputPadding };
  if (!outputShape && mode === 'VALID') return { pads: unpadded.pads, output_padding: outputPadding };
  const target = outputShape ?? spatial.map((size, axis) => size * window.strides[axis]!);
  const surplus = transposedSizes(spatial, unpadded, outputPadding).map((size, axis) => size - target[axis]!);
  return {
    pads: distribute(surplus.map((total) => Math.max(0, total)), mode),
    output_padding: outputPadding.map((padding, axis) => padding + (outputShape ? Math.max(0, -surplus[axis]!) : 0)),
  };
}
