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
import { floatReason, mustBeConstant } from '../support.ts';
import type { DeviceTensor, View } from '../tensor.ts';
import { endOf, frameOf, halfRows, matrixOperand, packedMatrix, type ProductEnd, shapeOf, splitProduct, VECTOR } from './matmul.ts';

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

/** What a product adds with what its rows' normalization does: c + alpha · bias · w. */
function normalizedBias(key: string, c: string, alpha: number, { node, bias }: LeftNormalization, sums: WeightSums, context: LowerContext): DeviceTensor {
  const added = c === '' ? undefined : (constantArray(context.constant(c)!) as Float32Array);
  const values = (): Float32Array => sums.of(constantArray(bias!)).map((sum, column) => alpha * sum + (added?.[column] ?? 0));
  return context.pack(`${node.outputs[0]}:bias ${key} ${c} ${alpha}`, { dtype: 'float32', dims: [sums.stored], storage: 'f32' }, values);
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
    const [aId, weightsId, , , c = '', ...extras] = node.inputs as [string, string, string, string?, string?, ...string[]];
    const { alpha, transB, bits } = node.attrs;
    const output = context.target(node.outputs[0]!, 'linear', 'narrow');
    const normalization = context.normalization(aId);
    const a = normalization?.source ?? matrixOperand(aId, context);
    const host = hostWeights(node, context);
    const key = `${node.inputs.slice(1, 4).join(':')}:${host.block}${transB ? ' transposed' : ''}`;
    const b = fewBitColumns(key, host, context);
    const sums = weightSums(host, b);
    const addend = normalization?.bias ? normalizedBias(key, c, alpha, normalization, sums, context) : c === '' ? undefined : context.sourceIn(c, 'linear');
    const product = { ...endOf(node.attrs.epilogue, extras, context), a, c: addend, alpha, beta: 1, transA: false, transB: transB === 1, output };
    const shape = shapeOf(a.dims, context.type(weightsId).dims, false, product.transB);
    const { end, axes, problem, left } = frameOf(product, shape, true);
    const spec = { ...end, depth: shape.depth, a: matrixRows({ tensor: a, ...axes, depth: shape.depth, view: left }), b };
    const form = `${end.label} w${bits}${host.blocks > 1 ? `/${host.block}` : ''}`;
    if (normalization) {
      const normalized = { ...spec, normalization: fewRowsNormalization(normalization, key, sums, context) };
      context.choose(productProblem(`${form} normalized`, context.half ? 'f16' : 'f32', problem), fewRowsCandidates(normalized, problem, context));
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
