/**
 * Normalizations of rows that get no kernel: every product that reads them normalizes its own left matrix (kernels/packed/moments.ts,
 * kernels/row-scales.ts), and whoever adds them to a packed product's result computes them by element, from the moments that the first product wrote.
 * Where a product of halves stores the rows, it leaves their sums; otherwise every reader sums them up again.
 */
import { type Expr, replaceInputs } from '../../../ir/expr.ts';
import { type AnyNode, type Graph, type Node, typeOf, type ValueId } from '../../../ir/graph.ts';
import type { OpKind } from '../../../ir/ops.ts';
import { type Dims, elementCount, HALF_MAX, type Tensor } from '../../../ir/tensor.ts';
import type { RowSums } from '../kernels/packed/spec.ts';
import type { FewRowsNormalization } from '../kernels/row-scales.ts';
import type { DeviceProfile } from '../profile.ts';
import { FEW_BESIDE_MATRICES } from './candidates.ts';
import { constantArray } from './constants.ts';
import type { HostArray, LeftNormalization, LowerContext } from './context.ts';
import { readersOf } from './readers.ts';
import { channelAlignment, type DeviceTensor, rowMajorStrides, storedBytes, viewOf } from './tensor.ts';

/**
 * What it costs and what it saves, in nanoseconds on an H200 (docs/performance.md). In a packed product's kernel: an element that is summed, by as many
 * workgroups as stand side by side; or a result whose row's sums are known, and an element that is stored with its row's sums. In a kernel of few
 * rows: an element for each four columns (three operations, of 33,000 a nanosecond: arithmetic, not measured). An element that somebody adds to
 * another result; an operation of a product that would be summed in halves were it not for this (245 TFLOP/s beside 305: arithmetic, not measured);
 * a kernel by itself, and a byte that it reads or writes.
 */
const COST = { summed: 1.4e-3, known: 0.5e-3, left: 0.4e-3, few: 0.09e-3, added: 1.8e-3, wideSum: 0.8e-6, kernel: 4000, byte: 0.5e-3 } as const;

/** Columns of a workgroup, as a rule. */
const TILE_COLUMNS = 128;

const NORMALIZATIONS: ReadonlySet<string> = new Set(['LayerNormalization', 'RMSNormalization']);

const PRODUCTS: ReadonlySet<string> = new Set(['FusedMatMul', 'Gemm', 'MatMul']);

/** Inputs of a FusedMatMul before those of its expression. */
const EXTRAS = 3;

/** The normalization as its readers take it, where all of them do. Without windows every node keeps its kernel, as where nothing is fused. */
export function leftNormalization(node: AnyNode, context: LowerContext): LeftNormalization | undefined {
  const source = isReadByProducts(node, context) ? sourceOf(node, context) : undefined;
  const described = source && describe(node, source, context);
  return described && (inPacked(node, described, context) ?? inFewRows(node, described, context));
}

function isReadByProducts(node: AnyNode, { graph, windows }: LowerContext): boolean {
  const output = node.outputs[0]!;
  return windows && !graph.outputs.includes(output) && readersOf(graph, output).some((reader) => multipliesRows(reader, output, graph));
}

function sourceOf({ op, inputs: [x = ''] }: AnyNode, context: LowerContext): DeviceTensor | undefined {
  if (!NORMALIZATIONS.has(op) || context.constant(x) || context.normalization(x) || context.left(x)) return undefined;
  return context.sourceIn(x, 'linear');
}

function inPacked(node: AnyNode, described: Described, context: LowerContext): LeftNormalization | undefined {
  const rowSums = context.rowSums(node.inputs[0]!);
  const readers = packedReaders(node, described, rowSums !== undefined, context);
  if (!readers) return undefined;
  const moments = !readers.added ? undefined : context.intermediate('float32', [...described.source.dims.slice(0, -1), 2], 'linear', 'f32');
  return { ...described, by: 'packed', node, first: readers.first, moments, rowSums };
}

const MANY_ROWS = 1024;

/** Columns whose sums over a row a product leaves. More of them are fewer sums to read, and fewer tiles to choose from: many rows have wide ones. */
function summedColumns(rows: number, { compact }: DeviceProfile): number {
  return compact ? 16 : rows < MANY_ROWS ? 32 : 64;
}

/**
 * The sums of rows that a product of these halves should leave: for a normalization behind it that then has no kernel, and whose readers do not sum up the
 * rows themselves. None for few rows, whose kernels leave none.
 */
export function wantedRowSums(product: Node<OpKind>, output: DeviceTensor, context: LowerContext): RowSums | undefined {
  const { graph, profile } = context;
  const [id] = product.outputs as [ValueId];
  const count = output.dims.at(-1)!;
  const rows = elementCount(output.dims) / count;
  const columns = summedColumns(rows, profile);
  if (!context.half || !context.windows || output.storage !== 'f16' || count % columns !== 0 || rows <= FEW_BESIDE_MATRICES) return undefined;
  if (!hasRoom(product, context)) return undefined;
  const isWanted = readersOf(graph, id).some((reader) => {
    const described = reader.inputs[0] === id && isReadByProducts(reader, context) ? describe(reader, output, context) : undefined;
    return described !== undefined && packedReaders(reader, described, true, context) !== undefined;
  });
  return isWanted ? { tensor: context.intermediate('float32', [count / columns, rows, 2], 'linear', 'f32'), columns } : undefined;
}

/** Whether a product's kernel can bind another buffer. */
function hasRoom(product: Node<OpKind>, context: LowerContext): boolean {
  return bindingsOf(product, undefined, context) < context.profile.maxStorageBuffers;
}

/** The products that would normalize the rows, the first of them, and whether others add the normalized rows; undefined where a kernel by itself is better. */
function packedReaders(node: AnyNode, described: Described, hasSums: boolean, context: LowerContext): { readonly first: AnyNode; readonly added: boolean } | undefined {
  if (!context.half || described.source.storage !== 'f16') return undefined;
  const { graph } = context;
  const output = node.outputs[0]!;
  const readers = readersOf(graph, output);
  const products = readers.filter((reader) => isHalfProduct(reader, output, described.scale, graph));
  const adders = readers.filter((reader) => !products.includes(reader));
  const first = graph.nodes.find((candidate) => products.includes(candidate));
  if (!first || !adders.every((reader) => adds(reader, output) && graph.nodes.indexOf(reader) > graph.nodes.indexOf(first))) return undefined;
  if (!pays(described, { columns: products.map((reader) => typeOf(graph, reader.outputs[0]!).dims.at(-1)!), adders: adders.length, hasSums }, context)) return undefined;
  const added = adders.length > 0;
  const own = (reader: AnyNode): number => (hasSums && products.includes(reader) ? 1 : 0) + (added && reader === first ? 1 : 0);
  if (!readers.every((reader) => bindingsOf(reader, { output, described }, context) + own(reader) <= context.profile.maxStorageBuffers)) return undefined;
  return { first, added };
}

/** Of few rows, each product finds the moments itself. Products of plain weights take such rows without a mean; it would have to be subtracted by sums of their weights. */
function inFewRows(node: AnyNode, described: Described, context: LowerContext): LeftNormalization | undefined {
  const { graph } = context;
  const output = node.outputs[0]!;
  const readers = readersOf(graph, output);
  const { source, count, centers } = described;
  const rows = elementCount(source.dims) / count;
  const first = graph.nodes.find((candidate) => readers.includes(candidate));
  if (!first || rows > FEW_BESIDE_MATRICES || !readers.every((reader) => multipliesRows(reader, output, graph) && (!centers || isCentrable(reader, graph)))) return undefined;
  const groups = readers.reduce((sum, reader) => sum + Math.ceil(typeOf(graph, reader.outputs[0]!).dims.at(-1)! / 4), 0);
  if (rows * count * groups * COST.few > COST.kernel + 4 * rows * count * COST.byte) return undefined;
  // What the product reads, less the rows' own normalization, of whose bias it may have one; gains, sums and the output.
  const bindings = ({ inputs }: AnyNode): number => inputs.filter(Boolean).length + (described.bias ? 1 : 0) + (centers ? 2 : 1) + 1;
  if (!readers.every((reader) => bindings(reader) <= context.profile.maxStorageBuffers)) return undefined;
  return { ...described, by: 'few-rows', node, first, moments: undefined, rowSums: undefined };
}

/** Whether sums of a product's weights are known at build, and so is its bias, which takes in the normalization's. */
function isCentrable(reader: AnyNode, graph: Graph): boolean {
  const [c = ''] = reader.inputs.slice(4);
  return reader.op === 'WeightOnlyMatMul' && (c === '' || isVector(c, reader, graph));
}

/** Who reads normalized rows: columns of the products, and how many add them; and whether the rows' sums are known. */
interface Readers {
  readonly columns: readonly number[];
  readonly adders: number;
  readonly hasSums: boolean;
}

/** Whether normalizing in the products takes less time than a kernel for it: where there is much to do, what every tile does again costs more than it saves, and so do sums in f32 for those in halves. */
function pays({ source, count }: Described, { columns, adders, hasSums }: Readers, { halfSums }: LowerContext): boolean {
  const elements = elementCount(source.dims);
  const over = (each: (columns: number) => number): number => columns.reduce((sum, own) => sum + each(own), 0);
  const moments = hasSums ? over((own) => own) * (elements / count) * COST.known + elements * COST.left : over((own) => Math.ceil(own / TILE_COLUMNS)) * elements * COST.summed;
  const operations = halfSums ? over((own) => 2 * own) * elements : 0;
  return moments + adders * elements * COST.added + operations * COST.wideSum < COST.kernel + 4 * elements * COST.byte;
}

/** Buffers that a product's kernel binds, where a normalization that is not decided has no kernel; without what it reads and writes of that one's sums and moments. */
function bindingsOf(reader: Node<OpKind>, undecided: { readonly output: ValueId; readonly described: Described } | undefined, context: LowerContext): number {
  const known = (id: ValueId) => (id === undecided?.output ? undecided.described : context.normalization(id));
  const [a, , c, ...extras] = reader.inputs;
  const left = known(a!);
  const before = context.normalization(a!);
  // Both matrices, the output, the bias and the weights' sums, those of the rows and the moments; then the expression's operands.
  const own = 3 + (c || left?.bias ? 1 : 0) + (left?.centers ? 1 : 0) + (before?.rowSums ? 1 : 0) + (before?.moments && before.first === reader ? 1 : 0);
  return extras.reduce((sum, id) => sum + elementOperands(known(id)), own);
}

/** Tensors by which an operand of an expression is computed; see {@link normalizedElements}. */
function elementOperands(normalization: Pick<LeftNormalization, 'centers' | 'bias'> | undefined): number {
  return normalization ? 3 + (normalization.centers ? 1 : 0) + (normalization.bias ? 1 : 0) : 1;
}

type Described = Omit<LeftNormalization, 'node' | 'by' | 'first' | 'moments' | 'rowSums'>;

/** A normalization of rows that lie in `source`. */
function describe(node: AnyNode, source: DeviceTensor, context: LowerContext): Described | undefined {
  if (node.op !== 'LayerNormalization' && node.op !== 'RMSNormalization') return undefined;
  const [x, scaleId, biasId] = node.inputs;
  const { dims } = context.type(x!);
  const count = dims.at(-1) ?? 0;
  const isLast = node.attrs.axis === -1 || node.attrs.axis === dims.length - 1;
  const [scale, bias] = [scaleId, biasId].map((id) => context.constant(id ?? ''));
  const fits = (vector: Tensor | undefined): boolean => vector?.dims.length === 1 && vector.dims[0] === count && vector.dtype === 'float32';
  if (!isLast || node.outputs.length !== 1 || count % channelAlignment('f16') !== 0 || elementCount(dims) === 0 || !fits(scale) || (biasId && !fits(bias))) return undefined;
  if (!isWhole(source)) return undefined;
  return { source, count, epsilon: node.attrs.epsilon, centers: node.op === 'LayerNormalization', scale: scale!, bias };
}

/** Rows begin at whole vectors, and their elements lie one after another. */
function isWhole(tensor: DeviceTensor): boolean {
  const { offset, strides } = viewOf(tensor);
  return strides.at(-1) === 1 && [offset, ...strides.slice(0, -1)].every((stride) => stride % channelAlignment('f16') === 0);
}

/** A product of the normalized rows and a constant matrix of one sort or another. */
function multipliesRows(reader: AnyNode, output: ValueId, graph: Graph): boolean {
  const isKnown = PRODUCTS.has(reader.op) || reader.op === 'WeightOnlyMatMul';
  if (!isKnown || reader.inputs.indexOf(output) !== 0 || reader.inputs.lastIndexOf(output) !== 0 || transposition(reader).transA) return false;
  const matrix = graph.constants.get(reader.inputs[1]!);
  return matrix?.dims.length === 2 && (matrix.dtype === 'float32' || reader.op === 'WeightOnlyMatMul') && elementCount(typeOf(graph, reader.outputs[0]!).dims) > 0;
}

/** Such a product of plain weights that halves hold, with at most a constant vector added. */
function isHalfProduct(reader: AnyNode, output: ValueId, scale: Tensor, graph: Graph): boolean {
  if (!PRODUCTS.has(reader.op) || !multipliesRows(reader, output, graph)) return false;
  const [weights, c = ''] = reader.inputs.slice(1);
  // A factor of a row and a weight must not leave the range of halves.
  return (c === '' || isVector(c, reader, graph)) && largest(graph.constants.get(weights!)!) * largest(scale) <= HALF_MAX;
}

/** Whether what a product adds is a constant for each column. */
function isVector(c: ValueId, reader: AnyNode, graph: Graph): boolean {
  const vector = graph.constants.get(c);
  const columns = typeOf(graph, reader.outputs[0]!).dims.at(-1);
  return vector?.dtype === 'float32' && vector.dims.at(-1) === columns && elementCount(vector.dims) === columns;
}

function transposition(reader: AnyNode): { readonly transA: boolean; readonly transB: boolean } {
  if (reader.op !== 'Gemm' && reader.op !== 'FusedMatMul') return { transA: false, transB: false };
  return { transA: reader.attrs.transA === 1, transB: reader.attrs.transB === 1 };
}

function largest(tensor: Tensor): number {
  return (constantArray(tensor) as Float32Array).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
}

/** The value is among the operands of the expression at a product's end, and nowhere else. */
function adds(reader: AnyNode, output: ValueId): boolean {
  return reader.op === 'FusedMatMul' && reader.inputs.indexOf(output) >= EXTRAS;
}

/** What kernels of few rows need of the normalization; `sums` gives, by column and in fours, the sum of the weights times a number for each depth. */
export function fewRowsNormalization({ node, epsilon, centers, scale }: LeftNormalization, key: string, sums: WeightSums | undefined, context: Pick<LowerContext, 'pack'>): FewRowsNormalization {
  const vector = (name: string, dims: Dims, make: () => HostArray): DeviceTensor => context.pack(`${node.outputs[0]}:${name}`, { dtype: 'float32', dims, storage: 'f32' }, make);
  return {
    epsilon,
    gains: vector('gains', scale.dims, () => constantArray(scale)),
    sums: centers ? vector(`sums ${key}`, [sums!.stored], () => sums!.of(constantArray(scale))) : undefined,
  };
}

/** Sums of a constant matrix' columns. */
export interface WeightSums {
  /** Columns, in whole fours. */
  readonly stored: number;
  /** Times a number for each depth; 0 beyond the columns. */
  of(factors: ArrayLike<number>): Float32Array;
}

/** An operand of an expression with what it needs in its place: tensors, and the value by these as inputs from `first` on. */
export interface Operand {
  readonly tensors: readonly DeviceTensor[];
  value(first: number): Expr;
}

/** The normalized rows by element: (x − mean) · 1/deviation · scale + bias. */
export function normalizedElements({ node, source, moments, centers, scale, bias }: LeftNormalization, context: Pick<LowerContext, 'pack'>): Operand {
  const rows = { ...moments!, dims: [...source.dims.slice(0, -1), 1] };
  const strides = rowMajorStrides(moments!.dims);
  const column = (offset: 0 | 1): DeviceTensor => ({ ...rows, window: { offset, strides, boundBytes: storedBytes(moments!) } });
  const vector = (tensor: Tensor, name: string): DeviceTensor =>
    context.pack(`${node.outputs[0]}:normalization ${name}`, { dtype: 'float32', dims: tensor.dims, storage: 'f32' }, () => constantArray(tensor));
  const tensors = [source, column(1), vector(scale, 'scale'), ...(centers ? [column(0)] : []), ...(bias ? [vector(bias, 'bias')] : [])];
  return {
    tensors,
    value(first) {
      const input = (i: number): Expr => ({ kind: 'input', index: first + i, dtype: 'float32' });
      const binary = (fn: 'add' | 'mul' | 'sub', a: Expr, b: Expr): Expr => ({ kind: 'binary', fn, a, b });
      const centered = centers ? binary('sub', input(0), input(3)) : input(0);
      const scaled = binary('mul', binary('mul', centered, input(1)), input(2));
      return bias ? binary('add', scaled, input(centers ? 4 : 3)) : scaled;
    },
  };
}

/** An expression whose inputs from 1 on are operands, over these operands' tensors one after another. */
export function withOperands(expr: Expr, operands: readonly Operand[]): { readonly tensors: readonly DeviceTensor[]; readonly expr: Expr } {
  const values: Expr[] = [];
  let first = 1;
  for (const { tensors, value } of operands) {
    values.push(value(first));
    first += tensors.length;
  }
  return { tensors: operands.flatMap(({ tensors }) => tensors), expr: replaceInputs(expr, (index, dtype) => (index === 0 ? { kind: 'input', index, dtype } : values[index - 1]!)) };
}
