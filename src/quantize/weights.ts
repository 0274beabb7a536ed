/**
 * Weights and biases on integer grids: symmetric int8 per output channel, biases in int32 at the scale of the sums.
 */
import { elementCount, fromNumbers, typedView, type Tensor } from '../ir/tensor.ts';
import { roundHalfEven } from './params.ts';

export interface QuantizedWeights {
  /** int8, of the weights' shape. */
  readonly values: Tensor;
  /** One per output channel, each a float32. */
  readonly scales: Float32Array;
  readonly axis: number;
}

/** Weights that are all zero quantize with any scale; this one keeps biases far from int32's ends. */
const SCALE_OF_ZEROS = 2 ** -20;
/** Room that the bias leaves in int32 for the sums that are added to it. */
const MAX_BIAS = 2 ** 29;

/**
 * Quantizes along `axis`. Where a bias would not fit in int32 at scale `inputScale · weightScale`, as for channels of
 * near-zero weights, the channel's scale is raised until it does.
 */
export function quantizeWeights(weights: Tensor, axis: number, inputScale: number, bias: Float32Array | undefined): QuantizedWeights {
  return quantizeWith(weights, axis, weightScales(weights, axis, inputScale, bias));
}

/** The scale that each channel asks for. */
export function weightScales(weights: Tensor, axis: number, inputScale: number, bias: Float32Array | undefined): Float32Array {
  const data = typedView(weights) as Float32Array;
  const channels = weights.dims[axis]!;
  const inner = elementCount(weights.dims.slice(axis + 1));
  const largest = new Float64Array(channels);
  for (let i = 0; i < data.length; ) {
    for (let channel = 0; channel < channels; channel++) {
      for (const end = i + inner; i < end; i++) largest[channel] = Math.max(largest[channel]!, Math.abs(data[i]!));
    }
  }
  return Float32Array.from(largest, (value, channel) => {
    const own = value === 0 ? SCALE_OF_ZEROS : value / 127;
    return Math.max(own, Math.abs(bias?.[channel] ?? 0) / (MAX_BIAS * inputScale), 2 ** -100);
  });
}

/** Rounds to given scales, one per channel of `axis`; what is beyond 127 steps saturates. */
export function quantizeWith(weights: Tensor, axis: number, scales: Float32Array): QuantizedWeights {
  const data = typedView(weights) as Float32Array;
  const channels = scales.length;
  const inner = elementCount(weights.dims.slice(axis + 1));
  const values = new Int8Array(data.length);
  for (let i = 0; i < data.length; ) {
    for (let channel = 0; channel < channels; channel++) {
      const scale = scales[channel]!;
      for (const end = i + inner; i < end; i++) values[i] = Math.max(-127, Math.min(127, roundHalfEven(data[i]! / scale)));
    }
  }
  return { values: { dtype: 'int8', dims: weights.dims, data: new Uint8Array(values.buffer) }, scales, axis };
}

/** int32 biases at scale `inputScale · scales[channel]`, which is the second result. */
export function quantizeBias(bias: Float32Array, inputScale: number, scales: Float32Array): { readonly values: Tensor; readonly scales: Float32Array } {
  const combined = scales.map((scale) => inputScale * scale);
  const values = Array.from(bias, (value, channel) => roundHalfEven(value / combined[channel]!));
  return { values: fromNumbers('int32', [bias.length], values), scales: combined };
}

/**
 * What quantizing the weights adds to the mean of each output channel, given the mean of each input channel: Σ (Ŵ − W)·E[x].
 * Subtracting it from the bias is bias correction (Nagel et al., "Data-Free Quantization through Weight Equalization and Bias
 * Correction", 2019, section 4.2). Padding is neglected. For products of data [.., K] with weights along `axis`; groups as in Conv.
 */
export function biasShift(weights: Tensor, quantized: QuantizedWeights, inputMeans: ArrayLike<number>, groups: number): Float32Array {
  const data = typedView(weights) as Float32Array;
  const rounded = typedView(quantized.values) as Int8Array;
  const { scales, axis } = quantized;
  const channels = scales.length;
  const inner = elementCount(weights.dims.slice(axis + 1));
  const shift = new Float64Array(channels);
  // [out, in/groups, kernel…] has its input channel after the first axis; [in, out] before the last.
  const perInput = axis === 0 ? elementCount(weights.dims.slice(2)) : inner * channels;
  const inputsPerGroup = axis === 0 ? weights.dims[1]! : weights.dims[0]!;
  for (let i = 0; i < data.length; i++) {
    const channel = Math.floor(i / inner) % channels;
    const group = Math.floor((channel * groups) / channels);
    const input = group * inputsPerGroup + (Math.floor(i / perInput) % inputsPerGroup);
    shift[channel]! += (rounded[i]! * scales[channel]! - data[i]!) * inputMeans[input]!;
  }
  return Float32Array.from(shift);
}
