/**
 * A convolutional network of half a million operations with the shapes that matter: strided, depthwise and pointwise
 * convolutions, a residual, a classifier. For checks that must end in seconds.
 *
 * `input` float32 [N,3,32,32] → `output` float32 [N,classes].
 */
import { add, batchNorm, classifier, conv, relu, type Activation } from './layers.ts';
import { createOnnxWriter, type OnnxPlan } from './onnx-writer.ts';

export function buildSmoke(options: { readonly seed: number; readonly classes: number }): OnnxPlan {
  const writer = createOnnxWriter('smoke', options.seed);
  const image: Activation = { value: writer.input('input', 'float32', ['N', 3, 32, 32]), channels: 3, meanSquare: 1 };
  const stem = relu(writer, batchNorm(writer, 'bn1', conv(writer, 'conv1', image, 8, { kernel: 3, stride: 2 })));
  const wide = relu(writer, batchNorm(writer, 'bn2', conv(writer, 'conv2', stem, 16, { kernel: 3, stride: 2 })));
  const depthwise = relu(writer, batchNorm(writer, 'bn3', conv(writer, 'conv3', wide, 16, { kernel: 3, groups: 16 })));
  const pointwise = batchNorm(writer, 'bn4', conv(writer, 'conv4', depthwise, 16, { kernel: 1 }), 0.5);
  const x = relu(writer, add(writer, wide, pointwise));
  writer.output(classifier(writer, 'fc', x, options.classes), 'output', ['N', options.classes]);
  return writer.finish();
}
