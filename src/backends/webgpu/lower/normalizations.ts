/**
 * Normalizations of rows that get no kernel: every product that reads them normalizes its own left matrix (kernels/packed/moments.ts), and
 * whoever adds them to a product's result computes them by element, from the moments that the first product wrote.
 */
import { type Expr, replaceInputs } from '../../../ir/expr.ts';
import { type AnyNode, type Graph, typeOf, type ValueId } from '../../../ir/graph.ts';
import { elementCount, HALF_MAX, type Tensor } from '../../../ir/tensor.ts';
import { constantArray } from './constants.ts';
import type { LeftNormalization, LowerContext } from './context.ts';
import { readersOf } from './readers.ts';
import { channelAlignment, type DeviceTensor, rowMajorStrides, storedBytes, viewOf } from './tensor.ts';

/**
 * What it costs and what it saves, in nanoseconds on an H200 (docs/performance.md): an element summed in a product's kernel, by as many workgroups
 * as stand side by side; a kernel by itself, and a byte that it reads or writes.
 */
const COST = { element: 0.34e-3, kernel: 4000, byte: 0.5e-3 } as const;

/** Columns of a workgroup, as a rule. */
const TILE_COLUMNS = 128;

const PRODUCTS: ReadonlySet<string> = new Set(['FusedMatMul', 'Gemm', 'MatMul']);

/** Inputs of a FusedMatMul before those of its expression. */
const EXTRAS = 3;

/** The normalization as its readers take it, where all of them do. Without windows every node keeps its kernel, as where nothing is fused. */
export function leftNormalization(node: AnyNode, context: LowerContext): LeftNormalization | undefined {
  const described = context.half && context.windows ? describe(node, context) : undefined;
  if (!described) return undefined;
  const { graph } = context;
  const output = node.outputs[0]!;
  const readers = readersOf(graph, output);
  const products = readers.filter((reader) => isProduct(reader, output, described.scale, graph));
  const adders = readers.filter((reader) => !products.includes(reader));
  const first = graph.nodes.find((candidate) => products.includes(candidate));
  if (!first || graph.outputs.includes(output) || !adders.every((reader) => adds(reader, output) && graph.nodes.indexOf(reader) > graph.nodes.indexOf(first))) return undefined;
  if (!pays(elementCount(described.source.dims), products.map((reader) => typeOf(graph, reader.outputs[0]!).dims.at(-1)!))) return undefined;
  const wanted = adders.length > 0;
  if (!readers.every((reader) => bindingsOf(reader, output, described, wanted && reader === first, context) <= context.profile.maxStorageBuffers)) return undefined;
  const moments = !wanted ? undefined : context.intermediate('float32', [...described.source.dims.slice(0, -1), 2], 'linear', 'f32');
  return { ...described, node, first, moments };
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

type Described = Omit<LeftNormalization, 'node' | 'first' | 'moments'>;

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
  if (source?.storage !== 'f16' || !isWhole(source)) return undefined;
  return { source, count, epsilon: node.attrs.epsilon, centers: node.op === 'LayerNormalization', scale: scale!, bias };
}

/** Rows begin at whole vectors, and their elements lie one after another. */
function isWhole(tensor: DeviceTensor): boolean {
  const { offset, strides } = viewOf(tensor);
  return strides.at(-1) === 1 && [offset, ...strides.slice(0, -1)].every((stride) => stride % channelAlignment('f16') === 0);
}

/** A product of the normalized rows and a constant matrix, with at most a constant vector added. */
function isProduct(reader: AnyNode, output: ValueId, scale: Tensor, graph: Graph): boolean {
  if (!PRODUCTS.has(reader.op) || reader.inputs.indexOf(output) !== 0 || reader.inputs.lastIndexOf(output) !== 0) return false;
  const { transA, transB } = transposition(reader);
  const [weights, c = ''] = reader.inputs.slice(1);
  const matrix = graph.constants.get(weights!);
  if (transA || matrix?.dims.length !== 2 || matrix.dtype !== 'float32') return false;
  const columns = matrix.dims[transB ? 0 : 1]!;
  const vector = c === '' ? undefined : graph.constants.get(c);
  if (c !== '' && !(vector?.dtype === 'float32' && vector.dims.at(-1) === columns && elementCount(vector.dims) === columns)) return false;
  // A factor of a row and a weight must not leave the range of halves.
  return elementCount(typeOf(graph, reader.outputs[0]!).dims) > 0 && largest(matrix) * largest(scale) <= HALF_MAX;
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
