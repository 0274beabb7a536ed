/**
 * MobileNetV2 1.0: Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks" (2018). 3,504,872 parameters at
 * 1,000 classes; TensorFlow's checkpoints have 1,001, class 0 being "background". ReLU6 is written as Clip.
 *
 * `input` float32 [N,3,224,224] → `output` float32 [N,classes].
 */
import { add, batchNorm, classifier, conv, type Activation } from './layers.ts';
import { createOnnxWriter, type OnnxPlan, type OnnxWriter } from './onnx-writer.ts';

/** Table 2 of the paper: expansion, output channels, repeats, stride of the first. */
const BLOCKS = [
  [1, 16, 1, 1],
  [6, 24, 2, 2],
  [6, 32, 3, 2],
  [6, 64, 4, 2],
  [6, 96, 3, 1],
  [6, 160, 3, 2],
  [6, 320, 1, 1],
] as const;

export function buildMobilenetv2(options: { readonly seed: number; readonly classes: number }): OnnxPlan {
  const writer = createOnnxWriter('mobilenetv2', options.seed);
  const relu6 = relu6With(writer);
  const image: Activation = { value: writer.input('input', 'float32', ['N', 3, 224, 224]), channels: 3, meanSquare: 1 };
  let x = relu6(batchNorm(writer, 'features.0.1', conv(writer, 'features.0.0', image, 32, { kernel: 3, stride: 2 })));
  let index = 1;
  for (const [expansion, channels, repeats, firstStride] of BLOCKS) {
    for (let repeat = 0; repeat < repeats; repeat++) {
      x = invertedResidual(writer, relu6, `features.${index++}`, x, { expansion, channels, stride: repeat === 0 ? firstStride : 1 });
    }
  }
  const head = relu6(batchNorm(writer, 'features.18.1', conv(writer, 'features.18.0', x, 1280, { kernel: 1 })));
  writer.output(classifier(writer, 'classifier.1', head, options.classes), 'output', ['N', options.classes]);
  return writer.finish();
}

type Relu6 = (x: Activation) => Activation;

function relu6With(writer: OnnxWriter): Relu6 {
  const low = writer.weight('relu6.min', [], () => 0);
  const high = writer.weight('relu6.max', [], () => 6);
  return (x) => ({ ...x, value: writer.node('Clip', [x.value, low, high]), meanSquare: x.meanSquare / 2 });
}

function invertedResidual(
  writer: OnnxWriter,
  relu6: Relu6,
  name: string,
  x: Activation,
  block: { readonly expansion: number; readonly channels: number; readonly stride: number },
): Activation {
  const width = x.channels * block.expansion;
  const expanded =
    block.expansion === 1 ? x : relu6(batchNorm(writer, `${name}.expand.1`, conv(writer, `${name}.expand.0`, x, width, { kernel: 1 })));
  const depthwise = conv(writer, `${name}.depthwise.0`, expanded, width, { kernel: 3, stride: block.stride, groups: width });
  const filtered = relu6(batchNorm(writer, `${name}.depthwise.1`, depthwise));
  const projected = batchNorm(writer, `${name}.project.1`, conv(writer, `${name}.project.0`, filtered, block.channels, { kernel: 1 }));
  return block.stride === 1 && x.channels === block.channels ? add(writer, x, projected) : projected;
}
