/**
 * ResNet-50 v1.5: He et al., "Deep residual learning for image recognition" (2015), with the stride on the 3×3 convolution,
 * as torchvision and NVIDIA have it. 25,557,032 parameters at 1,000 classes. Batch normalization is not folded.
 *
 * `input` float32 [N,3,224,224] → `output` float32 [N,classes].
 */
import { add, batchNorm, classifier, conv, relu, type Activation } from './layers.ts';
import { createOnnxWriter, type OnnxPlan, type OnnxWriter } from './onnx-writer.ts';

/** Blocks and inner width of each stage; the outer width is four times the inner. */
const STAGES = [
  { blocks: 3, width: 64 },
  { blocks: 4, width: 128 },
  { blocks: 6, width: 256 },
  { blocks: 3, width: 512 },
] as const;
const EXPANSION = 4;
/** Weight of a block's branch against its shortcut: small, so that sixteen blocks add up to little. */
const BRANCH_GAIN = 0.5;

export function buildResnet50(options: { readonly seed: number; readonly classes: number }): OnnxPlan {
  const writer = createOnnxWriter('resnet50', options.seed);
  const image: Activation = { value: writer.input('input', 'float32', ['N', 3, 224, 224]), channels: 3, meanSquare: 1 };
  const stem = relu(writer, batchNorm(writer, 'bn1', conv(writer, 'conv1', image, 64, { kernel: 7, stride: 2 })));
  const pooled = writer.node('MaxPool', [stem.value], {
    attrs: { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] },
  });
  let x: Activation = { ...stem, value: pooled };
  for (const [stage, { blocks, width }] of STAGES.entries()) {
    for (let block = 0; block < blocks; block++) {
      const stride = stage > 0 && block === 0 ? 2 : 1;
      x = bottleneck(writer, `layer${stage + 1}.${block}`, x, width, stride);
    }
  }
  writer.output(classifier(writer, 'fc', x, options.classes), 'output', ['N', options.classes]);
  return writer.finish();
}

function bottleneck(writer: OnnxWriter, name: string, x: Activation, width: number, stride: number): Activation {
  const a = relu(writer, batchNorm(writer, `${name}.bn1`, conv(writer, `${name}.conv1`, x, width, { kernel: 1 })));
  const b = relu(writer, batchNorm(writer, `${name}.bn2`, conv(writer, `${name}.conv2`, a, width, { kernel: 3, stride })));
  const branch = batchNorm(writer, `${name}.bn3`, conv(writer, `${name}.conv3`, b, width * EXPANSION, { kernel: 1 }), BRANCH_GAIN);
  const project = x.channels !== width * EXPANSION || stride !== 1;
  const shortcut = project
    ? batchNorm(writer, `${name}.downsample.1`, conv(writer, `${name}.downsample.0`, x, width * EXPANSION, { kernel: 1, stride }))
    : x;
  const sum = relu(writer, add(writer, branch, shortcut));
  // An identity shortcut is positive already: the rectifier cuts nothing of it.
  return project ? sum : { ...sum, meanSquare: shortcut.meanSquare + branch.meanSquare / 2 };
}
