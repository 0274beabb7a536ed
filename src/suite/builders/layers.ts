/**
 * Layers of convolutional networks as exporters write them, with seeded weights whose activations stay in range: each value
 * carries the mean square that its elements are expected to have, and normalization statistics are set from it.
 *
 * Convolutions start from He's rule (He et al., "Delving deep into rectifiers", 2015: variance 2 / fan-in). Filters over many
 * channels are centred, as in weight standardization (Qiao et al., 2019): rectified channels share a positive mean, and a
 * random network that passes it on gives every input the same answer.
 */
import { randomUniform } from '../random.ts';
import type { OnnxWriter } from './onnx-writer.ts';

/** A value [N, channels, …] with the expected mean of its squared elements. */
export interface Activation {
  readonly value: string;
  readonly channels: number;
  readonly meanSquare: number;
}

export interface ConvOptions {
  readonly kernel: number;
  readonly stride?: number;
  readonly groups?: number;
}

/** Convolution without bias, padded by half the kernel. Parameter `name.weight`. */
export function conv(writer: OnnxWriter, name: string, x: Activation, channels: number, options: ConvOptions): Activation {
  const { kernel, stride = 1, groups = 1 } = options;
  const perGroup = x.channels / groups;
  const fanIn = perGroup * kernel * kernel;
  const weight = writer.normal(`${name}.weight`, [channels, perGroup, kernel, kernel], Math.sqrt(2 / fanIn), perGroup > 3 ? 'centred' : undefined);
  const pad = Math.floor(kernel / 2);
  const value = writer.node('Conv', [x.value, weight], {
    name,
    attrs: { kernel_shape: [kernel, kernel], strides: [stride, stride], pads: [pad, pad, pad, pad], dilations: [1, 1], group: groups },
  });
  return { value, channels, meanSquare: 2 * x.meanSquare };
}

/**
 * Batch normalization, not folded. The running variance is what the input is expected to have, give or take a quarter, so
 * that the output's mean square is about `gain`².
 */
export function batchNorm(writer: OnnxWriter, name: string, x: Activation, gain = 1): Activation {
  const dims = [x.channels];
  const jitter = (low: number, high: number) => (index: number, key: number) => low + (high - low) * randomUniform(key, index);
  const deviation = Math.sqrt(x.meanSquare);
  const value = writer.node(
    'BatchNormalization',
    [
      x.value,
      writer.weight(`${name}.weight`, dims, jitter(0.8 * gain, 1.2 * gain)),
      writer.weight(`${name}.bias`, dims, jitter(-0.1 * gain, 0.1 * gain)),
      writer.weight(`${name}.running_mean`, dims, jitter(-0.1 * deviation, 0.1 * deviation)),
      writer.weight(`${name}.running_var`, dims, jitter(0.75 * x.meanSquare, 1.25 * x.meanSquare)),
    ],
    { name, attrs: { epsilon: { float: 1e-5 }, momentum: { float: 0.9 } } },
  );
  return { value, channels: x.channels, meanSquare: gain * gain };
}

export function relu(writer: OnnxWriter, x: Activation): Activation {
  return { ...x, value: writer.node('Relu', [x.value]), meanSquare: x.meanSquare / 2 };
}

export function add(writer: OnnxWriter, a: Activation, b: Activation): Activation {
  return { value: writer.node('Add', [a.value, b.value]), channels: a.channels, meanSquare: a.meanSquare + b.meanSquare };
}

/** Of the classes' scores; set by what pooling leaves of the features' mean square. */
const SCORE_SPREAD = 12;

/**
 * Global average pooling, flatten, and a fully connected layer [N, classes] whose scores spread over a few units.
 * Parameters `name.weight` [classes, channels] and `name.bias`.
 */
export function classifier(writer: OnnxWriter, name: string, x: Activation, classes: number): string {
  const pooled = writer.node('GlobalAveragePool', [x.value]);
  const flat = writer.node('Flatten', [pooled], { attrs: { axis: 1 } });
  const weight = writer.normal(`${name}.weight`, [classes, x.channels], SCORE_SPREAD / Math.sqrt(x.channels * x.meanSquare), 'centred');
  const bias = writer.normal(`${name}.bias`, [classes], 0.05);
  return writer.node('Gemm', [flat, weight, bias], { name, attrs: { transB: 1, alpha: { float: 1 }, beta: { float: 1 } } });
}
