/**
 * Two convolutions of one sum: the last one of a residual block and the projection of the block's input. On matrix units they are one
 * product, whose left matrices and weights lie one after the other along the depth, so that the projection is never written; elsewhere two.
 */
import { type Expr, replaceInputs } from '../../../../ir/expr.ts';
import type { Node } from '../../../../ir/graph.ts';
import { elementCount } from '../../../../ir/tensor.ts';
import type { EpilogueSpec } from '../../kernels/epilogue.ts';
import { packedBytes, packHalf, packSplit, splitShape, type WeightAt, type WeightShape } from '../../kernels/packed/pack.ts';
import { packedColumns, type PackedSource } from '../../kernels/packed/spec.ts';
import { type Candidate, productProblem } from '../../tactics/tactic.ts';
import { hasMatrices, packedCandidates } from '../candidates.ts';
import { constantArray } from '../constants.ts';
import type { LowerContext, Lowering, LoweringTable } from '../context.ts';
import { biasOf, type ConvNode, type ConvWindow, epilogueOf, groupedView, outputLayout, vectorImage, windowOf } from '../conv-problem.ts';
import { type DeviceTensor, viewOf } from '../tensor.ts';
import { gemmCandidates, weightsMustBeKnown } from './conv.ts';

/** A convolution of the pair, with its image in the layout of the kernels. */
interface Part {
  readonly node: ConvNode;
  readonly window: ConvWindow;
  readonly x: DeviceTensor;
}

/** Ways to compute the two by themselves that stand beside the joined ones. */
const APART = 2;
/** Where they stand in the order: a tuner that times few times them too. */
const APART_RANK = 3;

const fusedShortcut: Lowering<'FusedShortcut'> = {
  unsupported: (node, graph) => weightsMustBeKnown(node, graph) ?? (graph.constants.has(node.inputs[4]!) ? undefined : 'the weights of the shortcut are not constant'),
  lower(node, context) {
    const [main, shortcut] = partsOf(node, context);
    const output = context.target(node.outputs[0]!, outputLayout(main.node, main.window), 'narrow');
    const end = epilogueOf(main.node, main.window, biasOf(main.node, context), output, context);
    const joined = joinedCandidates([main, shortcut], end, context);
    const [first, second] = apart(main, shortcut, end, context);
    if (joined.length === 0) {
      context.choose(first.problem, first.candidates);
      context.choose(second.problem, second.candidates);
      return;
    }
    const shape = { batch: 1, rows: main.window.images * elementCount(main.window.outputSpatial), columns: main.window.outputs, depth: depthOf(main) + depthOf(shortcut) };
    const both = second.candidates.slice(0, APART).map(
      (candidate): Candidate => ({
        name: `apart ${candidate.name}`,
        scratchBytes: Math.max(candidate.scratchBytes, first.candidates[0]!.scratchBytes),
        kernels: () => [...first.candidates[0]!.kernels(), ...candidate.kernels()],
      }),
    );
    context.choose(productProblem('Shortcut', context.split ? 'f32' : 'f16', shape), joined.toSpliced(APART_RANK, 0, ...both));
  },
};

function depthOf({ window }: Part): number {
  return window.inputs * elementCount(window.kernel);
}

function partsOf(node: Node<'FusedShortcut'>, context: LowerContext): [Part, Part] {
  const [x, w, b, x2, w2, ...extras] = node.inputs as [string, string, string, string, string, ...string[]];
  const { shortcut, epilogue, ...attrs } = node.attrs;
  const rest = { output: node.outputs[0]!, transposed: false };
  const nodes: [ConvNode, ConvNode] = [
    { ...rest, attrs, x, w, b, extras, epilogue },
    { ...rest, attrs: shortcut, x: x2, w: w2, b: '', extras: [], epilogue: undefined },
  ];
  return nodes.map((part): Part => ({ node: part, window: windowOf(part, context), x: context.sourceIn(part.x, 'channels-last', 'narrow') })) as [Part, Part];
}

/** The shortcut's kernel, whose result the main one adds. */
function apart(main: Part, shortcut: Part, end: EpilogueSpec, context: LowerContext) {
  const { tensor } = end.output;
  const sum = context.intermediate(tensor.dtype, tensor.dims, tensor.layout, tensor.storage);
  const first = gemmCandidates(shortcut.node, shortcut.window, shortcut, epilogueOf(shortcut.node, shortcut.window, undefined, sum, context), context);
  const extras = [...end.extras, { tensor: sum, view: groupedView(viewOf(sum), main.window) }];
  const second = gemmCandidates(main.node, main.window, main, { ...end, extras, epilogue: withSum(end.epilogue!, extras.length) }, context);
  return [first, second] as const;
}

/** The expression with another input added to the accumulator. */
function withSum(expr: Expr, index: number): Expr {
  return replaceInputs(expr, (input, dtype) => {
    const x: Expr = { kind: 'input', index: input, dtype };
    return input === 0 ? { kind: 'binary', fn: 'add', a: x, b: { ...x, index } } : x;
  });
}

/** One product of halves (or of f32 split into them), where the device has matrices and both images are whole vectors. */
function joinedCandidates(parts: readonly [Part, Part], end: EpilogueSpec, context: LowerContext): Candidate[] {
  const { split, half, profile } = context;
  const images = parts.map(({ node, window, x }) => vectorImage(node, window, x, 0));
  const storage = split ? 'f32' : 'f16';
  if (!(split || half) || !hasMatrices(profile, 'f16') || parts.some(({ x }, i) => !images[i] || x.storage !== storage)) return [];
  // Data, weights, bias, extras and output of a kernel, and the shortcut's data.
  if (4 + end.extras.length + (end.bias ? 1 : 0) > profile.maxStorageBuffers) return [];
  const weights = joinedWeights(parts, context);
  const lefts = images.map((image, i) => {
    const a: PackedSource = image!.a;
    const depth = elementCount(parts[i]!.window.kernel) * image!.channels;
    if (!split) return { a, depth };
    return { a: a.kind === 'image' ? { ...a, split, channels: a.channels * 2 } : { ...a, split }, depth: depth * 2 };
  });
  const depth = lefts.reduce((sum, left) => sum + left.depth, 0);
  const b = { kind: 'packed', tensor: weights, columns: packedColumns(parts[0].window.outputs), grouped: false } as const;
  return packedCandidates({ ...end, label: 'Shortcut', element: 'f16', depth, a: { kind: 'joined', parts: lefts }, b }, context, split ? 'float32' : 'float16');
}

/** The weights of both, one after the other along the depth. */
function joinedWeights(parts: readonly [Part, Part], context: LowerContext): DeviceTensor {
  const { split } = context;
  const shapes = parts.map(({ window }): WeightShape => ({ groups: 1, taps: elementCount(window.kernel), channels: window.inputs, columns: window.outputs }));
  const bytes = shapes.map((shape) => packedBytes(split ? splitShape(shape) : shape, 'f16'));
  const key = parts.map(({ node }) => node.w).join('+');
  const spec = { dtype: 'float32', dims: [bytes.reduce((sum, size) => sum + size, 0) / 2], storage: 'f16' } as const;
  return context.pack(`${key}:${split ? 'joined split' : 'joined'}`, spec, () => {
    const joined = new Uint16Array(spec.dims[0]!);
    for (const [i, { node, window }] of parts.entries()) {
      const w = constantArray(context.constant(node.w)!) as Float32Array;
      const taps = elementCount(window.kernel);
      const at: WeightAt = (_group, tap, channel, column) => w[(column * window.inputs + channel) * taps + tap]!;
      joined.set((split ? packSplit : packHalf)(shapes[i]!, at), i === 0 ? 0 : bytes[0]! / 2);
    }
    return joined;
  });
}

export const SHORTCUT_LOWERINGS: LoweringTable = { FusedShortcut: fusedShortcut };
