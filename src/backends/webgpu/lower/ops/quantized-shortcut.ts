/**
 * Two convolutions of 8-bit integers of one sum: their left matrices and weights lie one after the other along the depth, and the sums in
 * int32 are one. Zero points go into the bias, as for one convolution (quantized.ts).
 */
import type { Node } from '../../../../ir/graph.ts';
import { elementCount } from '../../../../ir/tensor.ts';
import { packedBytes, packInt8, type WeightShape } from '../../kernels/packed/pack.ts';
import { packedColumns } from '../../kernels/packed/spec.ts';
import { productProblem } from '../../tactics/tactic.ts';
import { packedCandidates } from '../candidates.ts';
import type { LowerContext, Lowering, LoweringTable } from '../context.ts';
import { channelOperand, type ConvNode, type ConvWindow, epilogueOf, outputLayout, vectorImage, windowOf } from '../conv-problem.ts';
import { mustBeConstant } from '../support.ts';
import type { DeviceTensor } from '../tensor.ts';
import { int8Of, scaleAndBias, splat, weightSums } from './quantized.ts';

interface Part {
  readonly conv: ConvNode;
  readonly window: ConvWindow;
  /** Zero point of the bytes as they lie: uint8 lies 128 lower. */
  readonly zero: number;
  readonly weights: WeightShape;
}

const quantizedShortcut: Lowering<'QuantizedShortcut'> = {
  unsupported: (node, graph) => mustBeConstant(node, graph, { 1: 'weights', 2: 'scale', 3: 'bias', 5: 'weights of the shortcut' }),
  lower(node, context) {
    const parts = partsOf(node, context);
    const [{ conv, window }] = parts;
    const output = context.target(node.outputs[0]!, outputLayout(conv, window), 'narrow');
    const { scale, bias } = scaleAndBias(node, window.outputs, shiftOf(parts, context), context);
    const lefts = parts.map((part) => {
      const { a, channels } = vectorImage(part.conv, part.window, context.tensorIn(part.conv.x, 'channels-last', 'narrow'), splat(part.zero))!;
      return { a, depth: part.weights.taps * channels };
    });
    const depth = lefts.reduce((sum, left) => sum + left.depth, 0);
    const columns = window.outputs;
    const end = { ...epilogueOf(conv, window, bias, output, context), columnScale: channelOperand(scale, window) };
    const b = { kind: 'packed', tensor: joinedWeights(parts, context), columns: packedColumns(columns), grouped: false } as const;
    context.choose(
      productProblem('Shortcut', 'i8', { batch: 1, rows: window.images * elementCount(window.outputSpatial), columns, depth: elements(parts) }),
      packedCandidates({ ...end, label: 'QuantizedShortcut', element: 'i8', depth, a: { kind: 'joined', parts: lefts }, b }, context),
    );
  },
};

function elements(parts: readonly Part[]): number {
  return parts.reduce((sum, { weights: { taps, channels } }) => sum + taps * channels, 0);
}

function partsOf(node: Node<'QuantizedShortcut'>, context: LowerContext): readonly [Part, Part] {
  const [x, w, , , x2, w2, ...extras] = node.inputs as [string, string, string, string, string, string, ...string[]];
  const { shortcut, epilogue, ...attrs } = node.attrs;
  const rest = { b: '', output: node.outputs[0]!, transposed: false };
  const part = (conv: ConvNode, zeroPoint: number): Part => {
    const window = windowOf(conv, context);
    const zero = zeroPoint - (context.type(conv.x).dtype === 'uint8' ? 128 : 0);
    return { conv, window, zero, weights: { groups: 1, taps: elementCount(window.kernel), channels: window.inputs, columns: window.outputs } };
  };
  return [part({ ...rest, attrs, x, w, extras, epilogue }, attrs.zeroPoint), part({ ...rest, attrs: shortcut, x: x2, w: w2, extras: [], epilogue: undefined }, shortcut.zeroPoint)];
}

/** Σ over both parts of zero·Σ w, where that is anything. */
function shiftOf(parts: readonly Part[], context: LowerContext): ((column: number) => number) | undefined {
  if (parts.every(({ zero }) => zero === 0)) return undefined;
  const sums = parts.map(({ conv, weights }) => weightSums(conv.w, weights.columns, weights.taps * weights.channels, context));
  return (column) => parts.reduce((sum, { zero }, i) => sum + zero * sums[i]!(column), 0);
}

/** The weights of both, one after the other along the depth. */
function joinedWeights(parts: readonly Part[], context: LowerContext): DeviceTensor {
  const bytes = parts.map(({ weights }) => packedBytes(weights, 'i8'));
  const key = parts.map(({ conv }) => conv.w).join('+');
  return context.pack(`${key}:joined int8`, { dtype: 'int8', dims: [bytes.reduce((sum, size) => sum + size, 0)], storage: 'i8' }, () => {
    const packed = parts.map(({ conv, weights }) => {
      const w = int8Of(conv.w, context);
      return packInt8(weights, (_group, tap, channel, column) => w[(column * weights.channels + channel) * weights.taps + tap]!);
    });
    const joined = new Int8Array(bytes.reduce((sum, size) => sum + size, 0));
    packed.forEach((part, i) => joined.set(part, i === 0 ? 0 : bytes[0]));
    return joined;
  });
}

export const QUANTIZED_SHORTCUT_LOWERINGS: LoweringTable = { QuantizedShortcut: quantizedShortcut };
