/**
 * Normalizations of rows that get no kernel: every product that reads them normalizes its own left matrix (kernels/packed/moments.ts,
 * kernels/row-scales.ts), and whoever adds them to a packed product's result computes them by element, from the moments that the first product wrote.
 */
import { type Expr, replaceInputs } from '../../../ir/expr.ts';
import { type AnyNode, type Graph, typeOf, type ValueId } from '../../../ir/graph.ts';
import { type Dims, elementCount, HALF_MAX, type Tensor } from '../../../ir/tensor.ts';
import type { FewRowsNormalization } from '../kernels/row-scales.ts';
import { FEW_BESIDE_MATRICES } from './candidates.ts';
import { constantArray } from './constants.ts';
import type { HostArray, LeftNormalization, LowerContext } from './context.ts';
import { readersOf } from './readers.ts';
import { channelAlignment, type DeviceTensor, rowMajorStrides, storedBytes, viewOf } from './tensor.ts';

/**
 * What it costs and what it saves, in nanoseconds on an H200 (docs/performance.md): an element summed in a packed product's kernel, by as many
 * workgroups as stand side by side; one in a kernel of few rows, for each four columns (three operations, of 33,000 a nanosecond: arithmetic, not
 * measured); a kernel by itself, and a byte that it reads or writes.
 */
const COST = { element: 0.34e-3, few: 0.09e-3, kernel: 4000, byte: 0.5e-3 } as const;

/** Columns of a workgroup, as a rule. */
const TILE_COLUMNS = 128;

const PRODUCTS: ReadonlySet<string> = new Set(['FusedMatMul', 'Gemm', 'MatMul']);

/** Inputs of a FusedMatMul before those of its expression. */
const EXTRAS = 3;

/** The normalization as its readers take it, where all of them do. Without windows every node keeps its kernel, as where nothing is fused. */
export function leftNormalization(node: AnyNode, context: LowerContext): LeftNormalization | undefined {
  const { graph, windows } = context;
  const output = node.outputs[0]!;
  const isRead = windows && !graph.outputs.includes(output) && readersOf(graph, output).some((reader) => multipliesRows(reader, output, graph));
  const described = isRead ? describe(node, context) : undefined;
  return described && (inPacked(node, described, context) ?? inFewRows(node, described, context));
}

function inPacked(node: AnyNode, described: Described, context: LowerContext): LeftNormalization | undefined {
  if (!context.half || described.source.storage !== 'f16') return undefined;
  const { graph } = context;
  const output = node.outputs[0]!;
  const readers = readersOf(graph, output);
  const products = readers.filter((reader) => isHalfProduct(reader, output, described.scale, graph));
  const adders = readers.filter((reader) => !products.includes(reader));
  const first = graph.nodes.find((candidate) => products.includes(candidate));
  if (!first || !adders.every((reader) => adds(reader, output) && graph.nodes.indexOf(reader) > graph.nodes.indexOf(first))) return undefined;
  if (!pays(elementCount(described.source.dims), products.map((reader) => typeOf(graph, reader.outputs[0]!).dims.at(-1)!))) return undefined;
  const wanted = adders.length > 0;
  if (!readers.every((reader) => bindingsOf(reader, output, described, wanted && reader === first, context) <= context.profile.maxStorageBuffers)) return undefined;
  const moments = !wanted ? undefined : context.intermediate('float32', [...described.source.dims.slice(0, -1), 2], 'linear', 'f32');
  return { ...described, by: 'packed', node, first, moments };
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
  return { ...described, by: 'few-rows', node, first, moments: undefined };
}

/** Whether sums of a product's weights are known at build, and so is its bias, which takes in the normalization's. */
function isCentrable(reader: AnyNode, graph: Graph): boolean {
  const [c = ''] = reader.inputs.slice(4);
  return reader.op === 'WeightOnlyMatMul' && (c === '' || isVector(c, reader, graph));
}

/** Whether normalizing in the products takes less time than a kernel for it: where there is much to do, the sums cost more than they save. */
function pays(elements: number, columns: readonly number[]): boolean {
  const summed = columns.reduce((sum, count) => sum + Math.ceil(count / TILE_COLUMNS), 0) * elements;
  return summed * COST.element < COST.kernel + 4 * elements * COST.byte;
}

/** Buffers that a product's kernel binds if this normalization has no kernel, either. `writes`: the moments, for others. */
function bindingsOf(reader: AnyNode, output: ValueId, described: Described, writes: boolean, context: LowerContext): number {
  const known = (id: ValueId) => (id === output ? described : context.normalization(id));
  const [a, , c, ...extras] = reader.inputs;
  const left = known(a!);
  const before = context.normalization(a!);
  // Both matrices, the output, the bias, the weights' sums and the moments; then the expression's operands.
  const own = 3 + (c || left?.bias ? 1 : 0) + (left?.centers ? 1 : 0) + (writes || (before?.moments && before.first === reader) ? 1 : 0);
  return extras.reduce((sum, id) => sum + elementOperands(known(id)), own);
}

/** Tensors by which an operand of an expression is computed; see {@link normalizedElements}. */
function elementOperands(normalization: Pick<LeftNormalization, 'centers' | 'bias'> | undefined): number {
  return normalization ? 3 + (normalization.centers ? 1 : 0) + (normalization.bias ? 1 : 0) : 1;
}

type Described = Omit<LeftNormalization, 'node' | 'by' | 'first' | 'moments'>;

function describe(node: AnyNode, context: LowerContext): Described | undefined {
  if (node.op !== 'LayerNormalization' && node.op !== 'RMSNormalization') return undefined;
  const [x, scaleId, biasId] = node.inputs;
  const { dims } = context.type(x!);
  const count = dims.at(-1) ?? 0;
  const isLast = node.attrs.axis === -1 || node.attrs.axis === dims.length - 1;
  const [scale, bias] = [scaleId, biasId].map((id) => context.constant(id ?? ''));
  const fits = (vector: Tensor | undefined): boolean => vector?.dims.length === 1 && vector.dims[0] === count && vector.dtype === 'float32';
  if (!isLast || node.outputs.length !== 1 || count % channelAlignment('f16') !== 0 || elementCount(dims) === 0 || !fits(scale) || (biasId && !fits(bias))) return undefined;
  const source = context.constant(x!) || context.normalization(x!) || context.left(x!) ? undefined : context.sourceIn(x!, 'linear');
  if (!source || !isWhole(source)) return undefined;
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
