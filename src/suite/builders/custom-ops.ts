/**
 * Small networks around ops that ONNX or its runtimes lack, for the plugins that ship with the tool: attention with rotary
 * embeddings, an image network with a deformable convolution, an upsampling audio network with snake activations. As deep as
 * one block of the networks they are taken from, so that a processor, or a software GPU, runs them in milliseconds.
 */
import { add, batchNorm, classifier, conv, relu, type Activation } from './layers.ts';
import { createOnnxWriter, type OnnxPlan, type OnnxWriter } from './onnx-writer.ts';

const LENGTH = 64;
const HEADS = 4;
const WIDTH = 64;
const HIDDEN = HEADS * WIDTH;
/** Of the angles: RoFormer's. */
const BASE = 10_000;

/**
 * One attention block of LLaMA (Touvron et al., 2023): RMS norm left to its neighbours, rotary embedding of queries and keys, residual.
 * `hidden` float32 [N,64,256] → `output` float32 [N,64,256]. Needs the plugin `rotary`.
 */
export function buildRotaryAttention(options: { readonly seed: number }): OnnxPlan {
  const writer = createOnnxWriter('rotary-attention', options.seed);
  const x = writer.input('hidden', 'float32', ['N', LENGTH, HIDDEN]);
  // Row p holds the angles p·BASE^(−2j/width), once for each half.
  const angle = (index: number): number => Math.floor(index / WIDTH) * BASE ** ((-2 * (index % (WIDTH / 2))) / WIDTH);
  const cosines = writer.weight('cosines', [1, 1, LENGTH, WIDTH], (index) => Math.cos(angle(index)));
  const sines = writer.weight('sines', [1, 1, LENGTH, WIDTH], (index) => Math.sin(angle(index)));
  const split = writer.ints('shape_split_heads', [4], [0, 0, HEADS, WIDTH]);
  const project = (name: string, value: string): string => writer.node('MatMul', [value, writer.normal(`${name}.weight`, [HIDDEN, HIDDEN], HIDDEN ** -0.5)], { name });
  const heads = (name: string): string => writer.node('Transpose', [writer.node('Reshape', [project(name, x), split])], { attrs: { perm: [0, 2, 1, 3] } });
  const turned = (name: string): string => writer.node('Rotary', [heads(name), cosines, sines], { name: `${name}.rotary`, domain: 'tsrt' });
  const keys = writer.node('Transpose', [turned('key')], { attrs: { perm: [0, 1, 3, 2] } });
  const scaled = writer.node('Mul', [writer.node('MatMul', [turned('query'), keys]), writer.weight('scale', [], () => WIDTH ** -0.5)]);
  const mixed = writer.node('MatMul', [writer.node('Softmax', [scaled], { attrs: { axis: 3 } }), heads('value')]);
  const joined = writer.node('Reshape', [writer.node('Transpose', [mixed], { attrs: { perm: [0, 2, 1, 3] } }), writer.ints('shape_join_heads', [3], [0, 0, HIDDEN])]);
  writer.output(writer.node('Add', [x, project('output', joined)]), 'output', ['N', LENGTH, HIDDEN]);
  return writer.finish();
}

/** First opset with DeformConv. */
const DEFORM_OPSET = 19;

/**
 * A stem, one modulated deformable convolution whose offsets and weights are convolutions of the same image (Zhu et al., "Deformable
 * ConvNets v2", 2019), and a classifier. `input` float32 [N,3,32,32] → `output` float32 [N,classes]. Needs the plugin `deform-conv`.
 */
export function buildDeformNetwork(options: { readonly seed: number; readonly classes: number }): OnnxPlan {
  const writer = createOnnxWriter('deform-network', options.seed, DEFORM_OPSET);
  const image: Activation = { value: writer.input('input', 'float32', ['N', 3, 32, 32]), channels: 3, meanSquare: 1 };
  const stem = relu(writer, batchNorm(writer, 'bn1', conv(writer, 'conv1', image, 16, { kernel: 3, stride: 2 })));
  const offset = batchNorm(writer, 'bn_offset', conv(writer, 'offset', stem, 2 * 9, { kernel: 3 }), 0.5);
  const mask = writer.node('Sigmoid', [conv(writer, 'mask', stem, 9, { kernel: 3 }).value]);
  const weight = writer.normal('deform.weight', [16, 16, 3, 3], Math.sqrt(2 / (16 * 9)), 'centred');
  const bias = writer.normal('deform.bias', [16], 0.05);
  const value = writer.node('DeformConv', [stem.value, weight, offset.value, bias, mask], {
    name: 'deform',
    attrs: { kernel_shape: [3, 3], strides: [1, 1], pads: [1, 1, 1, 1], dilations: [1, 1], group: 1, offset_group: 1 },
  });
  // Weights around a half, and neighbours averaged.
  const deformed = batchNorm(writer, 'bn2', { value, channels: 16, meanSquare: stem.meanSquare / 4 }, 0.5);
  const x = relu(writer, add(writer, stem, deformed));
  writer.output(classifier(writer, 'fc', x, options.classes), 'output', ['N', options.classes]);
  return writer.finish();
}

const FRAMES = 32;
const BANDS = 40;

/**
 * One upsampling block of BigVGAN (Lee et al., 2023): transposed convolution, then two residual units of snake and convolution.
 * `mel` float32 [N,40,32] → `audio` float32 [N,1,128], within (−1, 1). Needs the plugin `snake`.
 */
export function buildSnakeVocoder(options: { readonly seed: number }): OnnxPlan {
  const writer = createOnnxWriter('snake-vocoder', options.seed);
  const mel = writer.input('mel', 'float32', ['N', BANDS, FRAMES]);
  const stem = convolve(writer, 'stem', mel, BANDS, 64, 7, 1);
  const up = writer.node('ConvTranspose', [snake(writer, 'stem', stem, 1), writer.normal('up.weight', [64, 32, 8], Math.sqrt(4 / (64 * 8)))], {
    name: 'up',
    attrs: { kernel_shape: [8], strides: [4], pads: [2, 2], dilations: [1], group: 1 },
  });
  const unit = (name: string, x: string, dilation: number, alpha: number): string => {
    const wide = convolve(writer, `${name}.conv1`, snake(writer, `${name}.1`, x, alpha), 32, 32, 3, dilation);
    return writer.node('Add', [x, convolve(writer, `${name}.conv2`, snake(writer, `${name}.2`, wide, alpha), 32, 32, 1, 1)]);
  };
  const last = snake(writer, 'last', unit('unit2', unit('unit1', up, 1, 0.5), 3, 2), 1);
  writer.output(writer.node('Tanh', [convolve(writer, 'head', last, 32, 1, 7, 1)]), 'audio', ['N', 1, 4 * FRAMES]);
  return writer.finish();
}

function snake(writer: OnnxWriter, name: string, x: string, alpha: number): string {
  return writer.node('Snake', [x], { name: `${name}.snake`, domain: 'tsrt', attrs: { alpha: { float: alpha } } });
}

/** Convolution along time, as long as its input. */
function convolve(writer: OnnxWriter, name: string, x: string, from: number, to: number, kernel: number, dilation: number): string {
  const weight = writer.normal(`${name}.weight`, [to, from, kernel], Math.sqrt(1 / (from * kernel)));
  const pad = ((kernel - 1) / 2) * dilation;
  return writer.node('Conv', [x, weight, writer.normal(`${name}.bias`, [to], 0.05)], { name, attrs: { kernel_shape: [kernel], strides: [1], pads: [pad, pad], dilations: [dilation], group: 1 } });
}
