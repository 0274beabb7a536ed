/** A convolution's constant filters as right matrices: [group, tap, input channel, output channel]. */
import { elementCount } from '../../../ir/tensor.ts';
import { asStored, constantArray } from './constants.ts';
import type { LowerContext } from './context.ts';
import type { ConvNode, ConvWindow } from './conv-problem.ts';
import type { DeviceTensor } from './tensor.ts';

/** With so many input channels of a group, and output channels in fours. */
export function columnWeights(node: ConvNode, window: ConvWindow, channels: number, context: LowerContext): { readonly tensor: DeviceTensor; readonly depth: number; readonly columns: number } {
  const columns = Math.ceil(window.outputs / 4) * 4;
  const depth = elementCount(window.kernel) * channels;
  const tensor = context.pack(
    `${node.w}:${node.transposed ? 'transposed' : 'conv'}:${channels}`,
    { dtype: 'float32', dims: [window.groups, depth, columns], storage: context.half ? 'f16' : 'f32' },
    () => asStored(packWeights(constantArray(context.constant(node.w)!) as Float32Array, window, channels, columns, node.transposed), context.half),
  );
  return { tensor, depth, columns };
}

/**
 * Channels padded with zeros. ONNX has [output, input of the group, tap] for a convolution and [input, output of the group, tap] for a transposed
 * one.
 */
function packWeights(w: Float32Array, window: ConvWindow, channels: number, columns: number, transposed: boolean): Float32Array {
  const { groups, inputs, outputs } = window;
  const taps = elementCount(window.kernel);
  const packed = new Float32Array(groups * taps * channels * columns);
  for (let group = 0; group < groups; group++) {
    for (let output = 0; output < outputs; output++) {
      for (let input = 0; input < inputs; input++) {
        const from = transposed ? ((group * inputs + input) * outputs + output) * taps : ((group * outputs + output) * inputs + input) * taps;
        for (let tap = 0; tap < taps; tap++) {
          packed[((group * taps + tap) * channels + input) * columns + output] = w[from + tap]!;
        }
      }
    }
  }
  return packed;
}
