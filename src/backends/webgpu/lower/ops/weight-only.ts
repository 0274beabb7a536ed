/** Products whose weights alone are quantized: they stay packed in memory. */
import type { Node } from '../../../../ir/graph.ts';
import { float16ToNumber, HALF_MAX, numberToFloat16, type Tensor } from '../../../../ir/tensor.ts';
import { valuesOf } from '../../../../ops/block-scales.ts';
import { unsignedShift } from '../../../../passes/few-bit-weights.ts';
import { columnGroups, type FewBitColumns, packedVectors, packWords } from '../../kernels/few-bits/weights.ts';
import { canStage } from '../../kernels/packed/few-bits.ts';
import { matrixRows } from '../../kernels/row-loader.ts';
import { FEW_ROWS } from '../../tactics/few-rows.ts';
import { type Candidate, productProblem } from '../../tactics/tactic.ts';
import { FEW_BESIDE_MATRICES, fewRowsCandidates, hasMatrices, packedCandidates, tiledCandidates } from '../candidates.ts';
import { asStored, constantArray, fitHalves } from '../constants.ts';
import type { LeftNormalization, LowerContext, Lowering, LoweringTable } from '../context.ts';
import { fewRowsNormalization, type WeightSums } from '../normalizations.ts';
import { pairedEpilogue } from '../paired.ts';
import { floatReason, mustBeConstant } from '../support.ts';
import type { DeviceTensor, View } from '../tensor.ts';
import { endOf, frameOf, halfRows, matrixOperand, packedMatrix, type Product, type ProductEnd, shapeOf, splitProduct, VECTOR } from './matmul.ts';

type WeightOnly = Node<'WeightOnlyMatMul'>;

/** The operands on the host, by depth (or block of depths) and column; integers and zero points are unsigned. */
interface HostWeights extends Pick<FewBitColumns, 'bits' | 'depth' | 'columns' | 'block'> {
  readonly blocks: number;
  integer(k: number, column: number): number;
  scale(block: number, column: number): number;
  /** Undefined where all are one. */
  readonly zero: ((block: number, column: number) => number) | undefined;
  readonly zeroPoint: number;
}

function hostWeights({ inputs, attrs }: WeightOnly, context: LowerContext): HostWeights {
  const { bits, block_size, transB } = attrs;
  const weights = context.constant(inputs[1]!)!;
  const [depth, columns] = transB ? [weights.dims[1]!, weights.dims[0]!] : (weights.dims as [number, number]);
  const block = block_size === 0 ? depth : block_size;
  const blocks = Math.ceil(depth / block);
  const shift = unsignedShift(weights.dtype, bits);
  const integers = valuesOf(weights);
  const byBlock = (tensor: Tensor): ((at: number, column: number) => number) => {
    const values = valuesOf(tensor);
    if (values.length === 1) return () => values[0]!;
    return transB ? (at, column) => values[column * blocks + at]! : (at, column) => values[at * columns + column]!;
  };
  const zeros = context.constant(inputs[3] ?? '');
  const zero = zeros && byBlock(zeros);
  return {
    bits, depth, columns, block, blocks,
    integer: transB ? (k, column) => integers[column * depth + k]! + shift : (k, column) => integers[k * columns + column]! + shift,
    scale: byBlock(context.constant(inputs[2]!)!),
    zero: zero && ((at, column) => zero(at, column) + shift),
    zeroPoint: attrs.zeroPoint + shift,
  };
}

/** The weights as kernels of few bits read them. */
function fewBitColumns(key: string, host: HostWeights, context: LowerContext): FewBitColumns {
  const { bits, depth, columns, block, blocks, zero, zeroPoint } = host;
  const stored = columnGroups(host) * 4;
  const words = context.pack(`${key}:words`, { dtype: 'uint8', dims: [packedVectors(host), stored, 4], storage: 'u8' }, () => packWords(host, host.integer));
  const table = <T extends Float32Array | Uint8Array>(values: T, value: (at: number, column: number) => number): T => {
    for (let at = 0; at < blocks; at++) for (let column = 0; column < columns; column++) values[at * stored + column] = value(at, column);
    return values;
  };
  const scales = table(new Float32Array(blocks * stored), host.scale);
  const half = fitHalves(scales, context.half);
  return {
    kind: 'few-bits', bits, depth, columns, block, words,
    scales: context.pack(`${key}:scales`, { dtype: 'float32', dims: [blocks, stored], storage: half ? 'f16' : 'f32' }, () => asStored(scales, half)),
    zeros: zero ? context.pack(`${key}:zeros`, { dtype: 'uint8', dims: [blocks, stored], storage: 'u8' }, () => table(new Uint8Array(blocks * stored), zero)) : zeroPoint,
  };
}

/** Sums of the columns as the kernel multiplies them: what their scales lost to rounding must cancel too. */
function weightSums({ depth, columns, block, integer, scale, zero, zeroPoint }: HostWeights, b: FewBitColumns): WeightSums {
  const rounded = b.scales.storage === 'f16' ? (value: number): number => float16ToNumber(numberToFloat16(value)) : Math.fround;
  const stored = columnGroups({ columns }) * 4;
  return {
    stored,
    of(factors) {
      const sums = new Float64Array(stored);
      for (let k = 0; k < depth; k++) {
        const own = Math.floor(k / block);
        for (let column = 0; column < columns; column++) sums[column]! += factors[k]! * (integer(k, column) - (zero?.(own, column) ?? zeroPoint)) * rounded(scale(own, column));
      }
      return Float32Array.from(sums);
    },
  };
}

/** What a product adds: its c, or with what its rows' normalization adds c + alpha · bias · w. */
function addendOf({ inputs, attrs }: WeightOnly, key: string, host: HostWeights, b: FewBitColumns, normalization: LeftNormalization | undefined, context: LowerContext): DeviceTensor | undefined {
  const c = inputs[4] ?? '';
  const bias = normalization?.bias;
  if (!bias) return c === '' ? undefined : context.sourceIn(c, 'linear');
  const added = c === '' ? undefined : (constantArray(context.constant(c)!) as Float32Array);
  const values = (): Float32Array => weightSums(host, b).of(constantArray(bias)).subarray(0, host.columns).map((sum, column) => attrs.alpha * sum + (added?.[column] ?? 0));
  return context.pack(`${normalization.node.outputs[0]}:bias ${key} ${c} ${attrs.alpha}`, { dtype: 'float32', dims: [host.columns], storage: 'f32' }, values);
}

/** What a product reads beside its rows. */
interface Operands {
  readonly key: string;
  readonly host: HostWeights;
  readonly b: FewBitColumns;
  readonly c: DeviceTensor | undefined;
  readonly end: Pick<Product, 'epilogue' | 'extras'>;
}

const keyOf = ({ inputs, attrs }: WeightOnly, { block }: HostWeights): string => `${inputs.slice(1, 4).join(':')}:${block}${attrs.transB ? ' transposed' : ''}`;

function ownOperands(node: WeightOnly, normalization: LeftNormalization | undefined, context: LowerContext): Operands {
  const host = hostWeights(node, context);
  const key = keyOf(node, host);
  const b = fewBitColumns(key, host, context);
  return { key, host, b, c: addendOf(node, key, host, b, normalization, context), end: endOf(node.attrs.epilogue, node.inputs.slice(5), context) };
}

/** With the product `second`, which is extra `at`. */
function pairedOperands(node: WeightOnly, second: WeightOnly, at: number, normalization: LeftNormalization | undefined, context: LowerContext): Operands {
  const hosts = [node, second].map((product) => hostWeights(product, context)) as [HostWeights, HostWeights];
  const host = inTurn(hosts);
  const keys = [keyOf(node, hosts[0]), keyOf(second, hosts[1])] as const;
  const key = keys.join(' beside ');
  const b = fewBitColumns(key, host, context);
  const [c, other] = [addendOf(node, keys[0], hosts[0], b, normalization, context), addendOf(second, keys[1], hosts[1], b, normalization, context)];
  const { extras } = endOf(undefined, node.inputs.slice(5).filter((_, i) => i !== at), context);
  const epilogue = pairedEpilogue(node.attrs.epilogue, at, extras.length, { epilogue: second.attrs.epilogue, alpha: second.attrs.alpha, isBiased: other !== undefined });
  return { key, host, b, c, end: { epilogue, extras: [...extras, ...(other ? [other] : [])] } };
}

/** Groups of four columns of either in turn. */
function inTurn(hosts: readonly [HostWeights, HostWeights]): HostWeights {
  const [{ columns, zeroPoint }] = hosts;
  const at = <T>(column: number, value: (host: HostWeights, own: number) => T, beyond: T): T => {
    const own = Math.floor(column / 8) * 4 + (column % 4);
    return own < columns ? value(hosts[(column >> 2) % 2]!, own) : beyond;
  };
  const isAlike = hosts.every((host) => !host.zero && host.zeroPoint === zeroPoint);
  return {
    ...hosts[0],
    columns: columnGroups({ columns }) * 8,
    integer: (k, column) => at(column, (host, own) => host.integer(k, own), 0),
    scale: (block, column) => at(column, (host, own) => host.scale(block, own), 0),
    zero: isAlike ? undefined : (block, column) => at(column, (host, own) => host.zero?.(block, own) ?? host.zeroPoint, 0),
  };
}

/** The kernels of halves, which dequantize as they stage: where operands lie in whole vectors, and halves hold the weights. */
function stagedCandidates(end: ProductEnd, a: DeviceTensor, left: View, b: FewBitColumns, host: HostWeights, context: LowerContext): Candidate[] {
  const rows = halfRows(a, left, b.depth);
  if (!context.half || !rows || !canStage(b) || largestWeight(host) > HALF_MAX) return [];
  return packedCandidates({ ...end, element: 'f16', depth: b.depth / VECTOR, a: rows, b }, context);
}

/** A bound of the weights' size: bytes less their zero point are no more than 255 steps. */
function largestWeight({ blocks, columns, scale }: HostWeights): number {
  let largest = 0;
  for (let at = 0; at < blocks; at++) for (let column = 0; column < columns; column++) largest = Math.max(largest, Math.abs(scale(at, column)));
  return largest * 255;
}

/** Whoever has f32 products made of halves wants their speed: those weights are dequantized at build. */
function splitCandidates(key: string, end: ProductEnd, a: DeviceTensor, left: View, host: HostWeights, context: LowerContext): Candidate[] {
  if (!context.split) return [];
  const { block, zeroPoint, zero = () => zeroPoint } = host;
  const at = (k: number, column: number): number => {
    const own = Math.floor(k / block);
    return Math.fround((host.integer(k, column) - zero(own, column)) * host.scale(own, column));
  };
  return splitProduct(end, a, left, packedMatrix(`${key}:packed`, host.depth, host.columns, at, context), host.depth, context);
}

const weightOnlyMatMul: Lowering<'WeightOnlyMatMul'> = {
  hostInputs: [1, 2, 3],
  unsupported: (node, graph) => floatReason(node, graph) ?? mustBeConstant(node, graph, { 1: 'B', 2: 'scale', 3: 'zero' }),
  lower(node, context) {
    const [aId, weightsId, , , , ...extras] = node.inputs as [string, string, ...string[]];
    const { alpha, transB, bits } = node.attrs;
    const output = context.target(node.outputs[0]!, 'linear', 'narrow');
    const normalization = context.normalization(aId);
    const a = normalization?.source ?? matrixOperand(aId, context);
    const at = extras.findIndex((id) => context.left(id));
    const second = at < 0 ? undefined : (context.left(extras[at]!)!.node as WeightOnly);
    const { key, host, b, c, end: ends } = second ? pairedOperands(node, second, at, normalization, context) : ownOperands(node, normalization, context);
    const product = { ...ends, a, c, alpha, beta: 1, transA: false, transB: transB === 1, output };
    const shape = shapeOf(a.dims, context.type(weightsId).dims, false, product.transB);
    const { end, axes, problem, left } = frameOf(product, shape, true);
    const spec = { ...end, depth: shape.depth, a: matrixRows({ tensor: a, ...axes, depth: shape.depth, view: left }), b };
    const form = `${end.label} w${bits}${host.blocks > 1 ? `/${host.block}` : ''}`;
    if (normalization || second) {
      const own = { ...problem, columns: b.columns };
      const few = { ...spec, paired: second !== undefined, normalization: normalization && fewRowsNormalization(normalization, key, weightSums(host, b), context) };
      const label = `${form}${second ? ' paired' : ''}${normalization ? ' normalized' : ''}`;
      context.choose(productProblem(label, context.half ? 'f16' : 'f32', own), fewRowsCandidates(few, own, context));
      return;
    }
    const tiled = tiledCandidates(spec, problem, context);
    const few = fewRowsCandidates(spec, problem, context);
    const staged = stagedCandidates(end, a, left, b, host, context);
    const split = problem.rows > FEW_ROWS ? splitCandidates(key, end, a, left, host, context) : [];
    const ranked = hasMatrices(context.profile, 'f16')
      ? [...(problem.rows <= FEW_BESIDE_MATRICES ? [...few, ...staged] : [...staged, ...few]), ...split, ...tiled]
      : [...few, ...tiled, ...staged];
    context.choose(productProblem(form, context.half ? 'f16' : 'f32', problem), ranked);
  },
};

export const WEIGHT_ONLY_LOWERINGS: LoweringTable = { WeightOnlyMatMul: weightOnlyMatMul };
