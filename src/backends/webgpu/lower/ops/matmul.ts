/** Matrix products: Gemm, MatMul with broadcasting, and their fusions. */
import type { Expr } from '../../../../ir/expr.ts';
import type { Node, ValueId } from '../../../../ir/graph.ts';
import type { OpKind } from '../../../../ir/ops.ts';
import { type Dims, elementCount, float16ToNumber, numberToFloat16 } from '../../../../ir/tensor.ts';
import type { EpilogueOperand, EpilogueSpec } from '../../kernels/epilogue.ts';
import type { ColumnOperand } from '../../kernels/column-loader.ts';
import { packedBytes, packHalf, packSplit, splitShape, type WeightAt } from '../../kernels/packed/pack.ts';
import { packedColumns, type PackedLeft, type PackedRight, type RowNormalization, type RowSums } from '../../kernels/packed/spec.ts';
import { matrixRows } from '../../kernels/row-loader.ts';
import type { FewRowsNormalization } from '../../kernels/row-scales.ts';
import type { MatmulShape } from '../../tactics/matmul.ts';
import { type Candidate, productProblem } from '../../tactics/tactic.ts';
import { FEW_BESIDE_MATRICES, fewRowsCandidates, hasMatrices, packedCandidates, tiledCandidates } from '../candidates.ts';
import { asStored, constantArray } from '../constants.ts';
import type { LeftNormalization, LowerContext, Lowering, LoweringTable } from '../context.ts';
import { fewRowsNormalization, normalizedElements, type Operand, wantedRowSums, withOperands } from '../normalizations.ts';
import { inUnits } from '../space.ts';
import { floatReason } from '../support.ts';
import { broadcastView, channelAlignment, type DeviceTensor, rowMajorStrides, type View, viewOf } from '../tensor.ts';

/** y = epilogue(alpha · A · B + beta · c, extras…), all linear. */
export interface Product {
  readonly a: DeviceTensor;
  readonly b: DeviceTensor;
  readonly c: DeviceTensor | undefined;
  readonly extras: readonly DeviceTensor[];
  readonly alpha: number;
  readonly beta: number;
  readonly transA: boolean;
  readonly transB: boolean;
  readonly epilogue: Expr | undefined;
  readonly output: DeviceTensor;
  /** To be left by the product's kernels, if they can. */
  readonly rowSums?: RowSums | undefined;
}

/** A product of a node's own inputs. */
function nodeProduct(node: Node<OpKind>, options: Pick<Product, 'alpha' | 'beta' | 'transA' | 'transB' | 'epilogue'>, context: LowerContext): void {
  const [a, b, c = '', ...extras] = node.inputs as [string, string, string?, ...string[]];
  const isPlain = [a, b].every((id) => context.type(id).dims.length > 1);
  const output = isPlain ? context.target(node.outputs[0]!, 'linear', 'narrow') : context.define(node.outputs[0]!, 'linear', 'narrow');
  if (elementCount(output.dims) === 0) return;
  const linear = (id: ValueId): DeviceTensor => context.sourceIn(id, 'linear');
  const ends = endOf(options.epilogue, extras, context);
  const normalization = context.normalization(a);
  if (normalization?.by === 'packed') return normalizedProduct(node, { ...options, ...ends, output }, normalization, context);
  const product = { ...options, ...ends, a: normalization?.source ?? matrixOperand(a, context), c: c === '' ? undefined : linear(c), output };
  const few = normalization && fewRowsNormalization(normalization, b, undefined, context);
  const packed = paddedColumns(b, options.transB, context);
  if (!packed) return lowerProduct({ ...product, b: matrixOperand(b, context) }, context, few);
  const shape = shapeOf(product.a.dims, context.type(b).dims, options.transA, options.transB);
  const columns = { tensor: packed, view: { offset: 0, strides: [...shape.batch.map(() => 0), packed.dims[1]!, 1] } };
  const rowSums = wantedRowSums(node, output, context);
  const leaves = multiply({ ...product, rowSums }, shape, { columns, weights: context.half || context.split ? packedWeights(b, options.transB, context) : undefined, few }, context);
  if (leaves) context.giveRowSums(node.outputs[0]!, rowSums!);
}

/** The expression and its operands; what is a normalization without a kernel is computed by the expression. */
export function endOf(epilogue: Expr | undefined, extras: readonly ValueId[], context: LowerContext): Pick<Product, 'epilogue' | 'extras'> {
  const operands = extras.map((id): Operand => {
    const normalization = context.normalization(id);
    if (normalization) return normalizedElements(normalization, context);
    return { tensors: [context.sourceIn(id, 'linear')], value: (index) => ({ kind: 'input', index, dtype: context.type(id).dtype }) };
  });
  const { tensors, expr } = withOperands(epilogue ?? { kind: 'input', index: 0, dtype: 'float32' }, operands);
  return { extras: tensors, epilogue: epilogue && expr };
}

/** (x̂ · scale + bias) · w = x̂ · (scale · w) + bias · w, where the kernel normalizes x. */
function normalizedProduct(node: Node<OpKind>, given: Omit<Product, 'a' | 'b' | 'c'>, normalization: LeftNormalization, context: LowerContext): void {
  const { source, count, epsilon, centers, first, moments, rowSums } = normalization;
  const [weightsId, c = ''] = node.inputs.slice(1) as [string, string?];
  const matrix = context.constant(weightsId)!;
  const shape = shapeOf(source.dims, matrix.dims, false, given.transB);
  const values = constantArray(matrix) as Float32Array;
  const at = (k: number, column: number): number => values[given.transB ? column * count + k : k * shape.columns + column]!;
  const scale = constantArray(normalization.scale) as Float32Array;
  const bias = normalization.bias && (constantArray(normalization.bias) as Float32Array);
  const added = c === '' ? undefined : (constantArray(context.constant(c)!) as Float32Array);
  const key = `${normalization.node.outputs[0]}:${weightsId}${given.transB ? ' transposed' : ''}`;
  const weights = packedMatrix(key, count, shape.columns, (k, column) => scale[k]! * at(k, column), context);
  const byColumn = (name: string, value: (column: number) => number): DeviceTensor =>
    context.pack(`${key}:${name}`, { dtype: 'float32', dims: [shape.columns], storage: 'f32' }, () => Float32Array.from({ length: shape.columns }, (_, column) => value(column)));
  const overDepth = (term: (k: number) => number): number => {
    let sum = 0;
    for (let k = 0; k < count; k++) sum += term(k);
    return sum;
  };
  // Of the weights as they are multiplied: what they lost to rounding must cancel too.
  const sums = centers ? byColumn('sums', (column) => overDepth((k) => float16ToNumber(numberToFloat16(scale[k]! * at(k, column))))) : undefined;
  const { alpha, beta } = given;
  const product = {
    ...given,
    a: source,
    rowSums: wantedRowSums(node, given.output, context),
    beta: 1,
    c: added || bias ? byColumn(`bias ${c} ${alpha} ${beta}`, (column) => (added ? beta * added[column]! : 0) + (bias ? alpha * overDepth((k) => bias[k]! * at(k, column)) : 0)) : undefined,
  };
  const leaves = multiply(product, shape, { weights, normalization: { epsilon, count, sums, rowSums, moments: first === node ? moments : undefined } }, context);
  if (leaves) context.giveRowSums(node.outputs[0]!, product.rowSums!);
}

/** An operand as it lies, where its rows are contiguous; a copy elsewhere: every element is read many times. Inputs of the network become halves where the build has them. */
export function matrixOperand(id: ValueId, context: LowerContext): DeviceTensor {
  const tensor = context.sourceIn(id, 'linear', 'narrow');
  const isMatrix = tensor.dims.length > 1 && viewOf(tensor).strides.at(-1) === 1;
  return isMatrix ? tensor : context.tensorIn(id, 'linear', 'narrow');
}

const matMul: Lowering<'MatMul'> = {
  unsupported: floatReason,
  lower: (node, context) => nodeProduct(node, { alpha: 1, beta: 1, transA: false, transB: false, epilogue: undefined }, context),
};

const gemm: Lowering<'Gemm'> = {
  unsupported: floatReason,
  lower(node, context) {
    const { alpha, beta, transA, transB } = node.attrs;
    nodeProduct(node, { alpha, beta, transA: transA === 1, transB: transB === 1, epilogue: undefined }, context);
  },
};

const fusedMatMul: Lowering<'FusedMatMul'> = {
  unsupported: floatReason,
  lower(node, context) {
    const { alpha, transA, transB, epilogue } = node.attrs;
    nodeProduct(node, { alpha, beta: 1, transA: transA === 1, transB: transB === 1, epilogue }, context);
  },
};

/** A product as [batch…] × [rows, depth] · [depth, columns]; vectors are matrices of one row or column. */
export interface Shape {
  readonly batch: Dims;
  readonly rows: number;
  readonly columns: number;
  readonly depth: number;
  readonly a: Dims;
  readonly b: Dims;
}

export function shapeOf(aDims: Dims, bDims: Dims, transA: boolean, transB: boolean): Shape {
  const a = aDims.length === 1 ? [1, aDims[0]!] : aDims;
  const b = bDims.length === 1 ? [bDims[0]!, 1] : bDims;
  const rank = Math.max(a.length, b.length) - 2;
  const batch = Array.from({ length: rank }, (_, axis) => {
    const at = (dims: Dims): number => dims[dims.length - 2 - rank + axis] ?? 1;
    return at(a) === 1 ? at(b) : at(a);
  });
  const [rows, depth] = transA ? [a.at(-1)!, a.at(-2)!] : [a.at(-2)!, a.at(-1)!];
  return { batch, rows, columns: transB ? b.at(-2)! : b.at(-1)!, depth, a, b };
}

/** A matrix of these dims over [batch…, first, second], where `transposed` swaps the last two. */
function matrixView(tensor: DeviceTensor, dims: Dims, batch: Dims, transposed: boolean): View {
  const { offset, strides } = tensor.window ?? { offset: 0, strides: rowMajorStrides(dims) };
  const missing = batch.length - (dims.length - 2);
  const outer = batch.map((_, axis) => (axis < missing || dims[axis - missing] === 1 ? 0 : strides[axis - missing]!));
  const last = strides.slice(-2);
  return { offset, strides: [...outer, ...(transposed ? last.toReversed() : last)] };
}

/** What a product asks of a lowering's context. */
export type ProductContext = Pick<LowerContext, 'half' | 'split' | 'halfSums' | 'profile' | 'pack' | 'scratch' | 'choose'>;

export function lowerProduct(product: Product, context: ProductContext, few?: FewRowsNormalization): void {
  const shape = shapeOf(product.a.dims, product.b.dims, product.transA, product.transB);
  multiply(product, shape, { columns: { tensor: product.b, view: matrixView(product.b, shape.b, shape.batch, product.transB) }, few }, context);
}

/** The right matrix: as it lies, and in the form that the packed kernel reads where it is constant. In that form alone where the left one is normalized. */
interface Right {
  readonly columns?: ColumnOperand;
  readonly weights?: PackedRight | undefined;
  readonly normalization?: Omit<RowNormalization, 'sums'> & { readonly sums: DeviceTensor | undefined };
  /** Of a left matrix that kernels of few rows normalize. */
  readonly few?: FewRowsNormalization | undefined;
}

/** What a product's kernels have in common; `lead` is a view over its axes, of one over [batch…, row, column] or [batch…, row, k]. */
export function frameOf(product: Omit<Product, 'b'>, shape: Shape, isShared: boolean) {
  const outer = [...shape.batch, shape.rows, shape.columns];
  // A right matrix that all batches share makes their rows one: one tall product in place of many flat ones.
  const isTall = isShared && !product.transA && elementCount(shape.a) === elementCount(shape.batch) * shape.rows * shape.depth;
  const axes = isTall ? { batch: [1], rows: [...shape.batch, shape.rows] } : { batch: shape.batch, rows: [shape.rows] };
  const lead = (view: View): View => (isTall ? { offset: view.offset, strides: [0, ...view.strides] } : view);
  const operand = (tensor: DeviceTensor): EpilogueOperand => ({ tensor, view: lead(broadcastView(tensor, outer)) });
  const problem = { batch: elementCount(axes.batch), rows: elementCount(axes.rows), columns: shape.columns, depth: shape.depth };
  const left = lead(matrixView(product.a, shape.a, shape.batch, product.transA));
  const end = {
    label: 'MatMul',
    ...axes,
    columns: shape.columns,
    storedColumns: shape.columns,
    scale: product.alpha,
    biasScale: product.beta,
    bias: product.c && product.beta !== 0 ? operand(product.c) : undefined,
    extras: product.extras.map(operand),
    epilogue: product.epilogue,
    output: { tensor: product.output, view: lead(product.output.window ?? { offset: 0, strides: rowMajorStrides(outer) }) },
  };
  return { end, axes, problem, left, operand, isTall };
}

/** Kernels of few rows to try beside others. */
const MOST_FEW = 6;

/** Gives whether the product's kernels leave the sums of its rows that are wanted. */
function multiply(product: Omit<Product, 'b'>, shape: Shape, { columns, weights, normalization, few: normalized }: Right, context: ProductContext): boolean {
  const isShared = !columns || columns.view.strides.slice(0, -2).every((stride) => stride === 0);
  const { end, axes, problem, left, operand, isTall } = frameOf(product, shape, isShared);
  const { depth } = shape;
  if (!columns) {
    const { sums } = normalization!;
    const packed = { ...end, normalization: { ...normalization!, sums: sums && operand(sums) } };
    const label = `${end.label} normalized${normalization!.rowSums ? ' by sums' : ''}`;
    const candidates = (whole: ProductEnd): Candidate[] => halfProduct(whole, product.a, left, weights, depth, context);
    if (chooseSumming(label, packed, problem, candidates, product.rowSums, context)) return true;
    context.choose(productProblem(label, 'f16', problem), candidates(packed));
    return false;
  }
  const b = isTall ? { ...columns, view: { offset: columns.view.offset, strides: [0, ...columns.view.strides.slice(-2)] } } : columns;
  const spec = { ...end, depth, a: matrixRows({ tensor: product.a, ...axes, depth, view: left }), b };
  if (normalized) {
    context.choose(productProblem(`${end.label} normalized by row`, context.half ? 'f16' : 'f32', problem), fewRowsCandidates({ ...spec, normalization: normalized }, problem, context));
    return false;
  }
  const half = (whole: ProductEnd): Candidate[] => halfProduct(whole, product.a, left, weights ?? halfColumns(b, depth), depth, context);
  if (chooseSumming(end.label, end, problem, half, product.rowSums, context)) return true;
  const tiled = tiledCandidates(spec, problem, context);
  const halves = context.split ? splitProduct(end, product.a, left, weights, depth, context) : half(end);
  const few = problem.rows <= FEW_BESIDE_MATRICES ? fewRowsCandidates(spec, problem, context).slice(0, MOST_FEW) : [];
  const candidates = hasMatrices(context.profile, 'f16') ? [...halves.slice(0, 1), ...few, ...halves.slice(1), ...tiled] : [...few, ...tiled, ...halves];
  context.choose(productProblem(end.label, context.half && halves.length > 0 ? 'f16' : 'f32', problem), candidates);
  return false;
}

/** Chooses among the kernels that leave the wanted sums of rows; gives whether there are such. */
function chooseSumming(
  label: string, end: ProductEnd, problem: MatmulShape,
  candidates: (end: ProductEnd) => Candidate[], rowSums: RowSums | undefined, context: ProductContext,
): boolean {
  const summing = rowSums && problem.batch === 1 ? candidates({ ...end, rowSums }) : [];
  if (summing.length > 0) context.choose(productProblem(`${label} summed by row`, 'f16', problem), summing);
  return summing.length > 0;
}

export type ProductEnd = EpilogueSpec & { readonly label: string; readonly normalization?: RowNormalization; readonly rowSums?: RowSums };

/** On halves, where both operands lie in whole vectors. */
function halfProduct(end: ProductEnd, tensor: DeviceTensor, view: View, b: PackedRight | undefined, depth: number, context: ProductContext): Candidate[] {
  const a = halfRows(tensor, view, depth);
  return context.half && a && b ? packedCandidates({ ...end, element: 'f16', depth: depth / VECTOR, a, b }, context) : [];
}

/** On f32 split into halves, for weights that were packed so. */
export function splitProduct(end: ProductEnd, tensor: DeviceTensor, { offset, strides }: View, b: PackedRight | undefined, depth: number, context: ProductContext): Candidate[] {
  const unit = channelAlignment('f32');
  const rows = [offset, ...strides.slice(0, -1)];
  if (!b || tensor.storage !== 'f32' || strides.at(-1) !== 1 || depth % unit !== 0 || rows.some((stride) => stride % unit !== 0)) return [];
  const view = inUnits({ offset, strides: strides.slice(0, -1) }, unit);
  return packedCandidates({ ...end, element: 'f16', depth: (depth / unit) * 2, a: { kind: 'matrix', tensor, view, split: true }, b }, context, 'float32');
}

/** Halves in 16 bytes. */
export const VECTOR = channelAlignment('f16');

const isWhole = ({ offset, strides }: View): boolean => [offset, ...strides].every((stride) => stride % VECTOR === 0);

/** A left matrix of halves whose rows are whole vectors along the depth; the view is over [batch…, rows…, k]. */
export function halfRows(tensor: DeviceTensor, { offset, strides }: View, depth: number): PackedLeft | undefined {
  const rows = { offset, strides: strides.slice(0, -1) };
  const whole = tensor.storage === 'f16' && strides.at(-1) === 1 && depth % VECTOR === 0 && isWhole(rows);
  return whole ? { kind: 'matrix', tensor, view: inUnits(rows, VECTOR) } : undefined;
}

/** A right matrix of halves, in vectors along the depth or along the columns; the view is over [batch…, k, column]. */
function halfColumns({ tensor, view }: ColumnOperand, depth: number): PackedRight | undefined {
  const { offset, strides } = view;
  if (tensor.storage !== 'f16') return undefined;
  const outer = strides.slice(0, -2);
  const [alongDepth, alongColumns] = strides.slice(-2) as [number, number];
  const byColumn = { offset, strides: [...outer, alongColumns] };
  if (alongDepth === 1 && depth % VECTOR === 0 && isWhole(byColumn)) return { kind: 'rows-k-contiguous', tensor, view: inUnits(byColumn, VECTOR) };
  const byDepth = { offset, strides: [...outer, alongDepth] };
  return alongColumns === 1 && isWhole(byDepth) ? { kind: 'columns-contiguous', tensor, view: inUnits(byDepth, VECTOR), depth } : undefined;
}

/** A constant matrix as the packed kernel reads it. */
function packedWeights(id: ValueId, transB: boolean, context: LowerContext): PackedRight | undefined {
  const constant = context.constant(id);
  if (constant?.dims.length !== 2) return undefined;
  const [first, second] = constant.dims as [number, number];
  const [depth, columns] = transB ? [second, first] : [first, second];
  const values = constantArray(constant) as Float32Array;
  return packedMatrix(`${id}:packed${transB ? ' transposed' : ''}`, depth, columns, (k, column) => values[transB ? column * depth + k : k * columns + column]!, context);
}

export function packedMatrix(key: string, depth: number, columns: number, at: (k: number, column: number) => number, context: Pick<LowerContext, 'pack' | 'split'>): PackedRight {
  const shape = { groups: 1, taps: 1, channels: depth, columns };
  const { split } = context;
  const bytes = packedBytes(split ? splitShape(shape) : shape, 'f16');
  const weightAt: WeightAt = (_group, _tap, k, column) => at(k, column);
  const tensor = context.pack(key, { dtype: 'float32', dims: [bytes / 2], storage: 'f16' }, () => (split ? packSplit(shape, weightAt) : packHalf(shape, weightAt)));
  return { kind: 'packed', tensor, columns: packedColumns(columns), grouped: false };
}

/** A constant matrix that can't be read in whole vectors as it is, packed as [depth, columns padded to 4]. */
function paddedColumns(id: ValueId, transB: boolean, context: LowerContext): DeviceTensor | undefined {
  const constant = context.constant(id);
  if (constant?.dims.length !== 2) return undefined;
  const [first, second] = constant.dims as [number, number];
  const [depth, columns] = transB ? [second, first] : [first, second];
  if (!transB && columns % 4 === 0 && !context.half) return undefined;
  const stored = Math.ceil(columns / 4) * 4;
  return context.pack(`${id}:columns${transB ? ':transposed' : ''}`, { dtype: 'float32', dims: [depth, stored], storage: context.half ? 'f16' : 'f32' }, () => {
    const values = constantArray(constant) as Float32Array;
    const packed = new Float32Array(depth * stored);
    for (let column = 0; column < columns; column++) {
      for (let k = 0; k < depth; k++) packed[k * stored + column] = values[transB ? column * depth + k : k * columns + column]!;
    }
    return asStored(packed, context.half);
  });
}

export const MATMUL_LOWERINGS: LoweringTable = { MatMul: matMul, Gemm: gemm, FusedMatMul: fusedMatMul };
