/**
 * Weights of few bits, several to a byte and with a scale for each block of a row, as onnxruntime's quantizers write language
 * models. A product or a gather reads them behind a DequantizeLinear, where DequantizeLinear can say what they are; else they are dequantized here, so that
 * everything behind sees a product or a table as any other.
 */
import { isFewBitsInteger } from '../../ir/few-bits.ts';
import { type Dims, elementCount, fromNumbers, type Tensor, toNumbers } from '../../ir/tensor.ts';
import { valuesOf } from '../../ops/block-scales.ts';
import { NotStaticError, ShapeError, UnsupportedError } from '../../ops/def.ts';
import type { Scope, SourceNode } from '../scope.ts';
import { widened } from './few-bit-types.ts';
import { inputOf, numberAttribute, type Rule } from './rule.ts';

/** Rows of `columns` integers of `bits` each, in blocks of `block`. */
interface Layout {
  readonly rows: number;
  readonly columns: number;
  readonly bits: number;
  readonly block: number;
  /** Bytes from one row of integers to the next: rows of whole blocks may be longer than their columns. */
  readonly pitch: number;
  /** The block whose scale each column has, where that is not the one that it lies in. */
  readonly groups?: readonly number[] | undefined;
}

/** Where in a byte an integer lies: the first has the lowest bits. */
function unpacked(bytes: Uint8Array, bits: number): (row: number, column: number, pitch: number) => number {
  const perByte = 8 / bits;
  const mask = 2 ** bits - 1;
  return (row, column, pitch) => (bytes[row * pitch + Math.floor(column / perByte)]! >> (bits * (column % perByte))) & mask;
}

function constantInput(node: SourceNode, scope: Scope, index: number): Tensor {
  const tensor = scope.constant(inputOf(node, index));
  if (!tensor) throw new NotStaticError(`the weights of few bits or their scales (input ${index}) are not known at build`);
  return tensor;
}

function checkCount(what: string, tensor: Tensor, count: number): void {
  if (elementCount(tensor.dims) !== count) throw new ShapeError(`${what} of [${tensor.dims.join(',')}] are not the ${count} that its sizes ask for`);
}

/** Zero points by row and block: packed as the integers are, or of the scales' type; the middle of the range where there are none. */
function zeroPoints(tensor: Tensor | undefined, { rows, bits }: Layout, blocks: number): (row: number, at: number) => number {
  if (!tensor) return () => 2 ** (bits - 1);
  if (tensor.dtype === 'uint8') {
    const pitch = Math.ceil((blocks * bits) / 8);
    checkCount('zero points', tensor, rows * pitch);
    const read = unpacked(tensor.data, bits);
    return (row, at) => read(row, at, pitch);
  }
  checkCount('zero points', tensor, rows * blocks);
  const values = toNumbers(tensor);
  return (row, at) => values[row * blocks + at]!;
}

function checkWeights(integers: Tensor, scales: Tensor, { rows, columns, block, pitch }: Layout): void {
  if (integers.dtype !== 'uint8') throw new UnsupportedError(`weights of few bits in ${integers.dtype} are not supported`);
  checkCount('weights', integers, rows * pitch);
  checkCount('scales', scales, rows * Math.ceil(columns / block));
}

/** (q − zero)·scale by rows, or by columns where the matrix is to be transposed. */
function dequantize(integers: Tensor, scales: Tensor, zeros: Tensor | undefined, layout: Layout, isTransposed: boolean): Tensor {
  const { rows, columns, bits, block, pitch, groups } = layout;
  const blocks = Math.ceil(columns / block);
  checkWeights(integers, scales, layout);
  const [read, zero, steps] = [unpacked(integers.data, bits), zeroPoints(zeros, layout, blocks), toNumbers(scales)];
  const values = new Float32Array(rows * columns);
  const [rowStep, columnStep] = isTransposed ? [1, rows] : [columns, 1];
  for (let row = 0; row < rows; row++) {
    const middles = Array.from({ length: blocks }, (_, at) => zero(row, at));
    for (let column = 0; column < columns; column++) {
      const at = groups ? groups[column]! : Math.floor(column / block);
      values[row * rowStep + column * columnStep] = (read(row, column, pitch) - middles[at]!) * steps[row * blocks + at]!;
    }
  }
  const dims = isTransposed ? [columns, rows] : [rows, columns];
  return scales.dtype === 'float32' ? { dtype: 'float32', dims, data: new Uint8Array(values.buffer) } : fromNumbers(scales.dtype, dims, values);
}

function bitsOf(node: SourceNode): number {
  const bits = numberAttribute(node, 'bits', 4);
  if (bits !== 2 && bits !== 4 && bits !== 8) throw new UnsupportedError(`weights of ${bits} bits are not supported`);
  return bits;
}

function blockOf(node: SourceNode, fallback?: number): number {
  const block = numberAttribute(node, 'block_size', fallback);
  if (!Number.isSafeInteger(block) || block < 1) throw new ShapeError(`blocks of ${block} weights`);
  return block;
}

function optional(node: SourceNode, scope: Scope, index: number): Tensor | undefined {
  return node.inputs[index] ? constantInput(node, scope, index) : undefined;
}

/** Where the quantizer sorted the columns by importance (g_idx), the block that each belongs to. */
function groupsOf(node: SourceNode, scope: Scope, columns: number, blocks: number): readonly number[] | undefined {
  const given = optional(node, scope, 4);
  const groups = given && toNumbers(given).slice(0, columns);
  if (groups && (groups.length < columns || groups.some((at) => !(at >= 0 && at < blocks)))) throw new ShapeError(`the ${columns} columns are not each in one of ${blocks} blocks (g_idx)`);
  return groups;
}

type Packed = readonly [integers: Tensor, scales: Tensor, zeros: Tensor | undefined];

/** Whether DequantizeLinear can say what they are: it has zero points of the integers' type, and blocks of neighbours. */
function isLinear([, , zeros]: Packed, { groups }: Layout): boolean {
  return !groups && (zeros?.dtype ?? 'uint8') === 'uint8';
}

/**
 * The integers as bytes, [rows, columns], with scales and zero points by [row, block], behind a DequantizeLinear; or [columns, rows] and [block, row] where
 * the matrix is to be transposed.
 */
function behindDequantize(node: SourceNode, scope: Scope, [integers, scales, zeros]: Packed, layout: Layout, isTransposed: boolean): string {
  const { rows, columns, bits, block, pitch } = layout;
  const blocks = Math.ceil(columns / block);
  checkWeights(integers, scales, layout);
  const zeroPitch = Math.ceil((blocks * bits) / 8);
  if (zeros) checkCount('zero points', zeros, rows * zeroPitch);
  const dims = (count: number): Dims => (isTransposed ? [count, rows] : [rows, count]);
  const bytes = (packed: Uint8Array, count: number, from: number): Tensor => ({ dtype: 'uint8', dims: dims(count), data: unpackedBytes(packed, { rows, columns: count, bits, pitch: from }, isTransposed) });
  const middles = (): Tensor => ({ dtype: 'uint8', dims: dims(blocks), data: new Uint8Array(blocks * rows).fill(2 ** (bits - 1)) });
  const steps = valuesOf(scales);
  const byBlock = new Float32Array(isTransposed ? blocks * rows : 0);
  if (isTransposed) for (let row = 0; row < rows; row++) for (let at = 0; at < blocks; at++) byBlock[at * rows + row] = steps[row * blocks + at]!;
  const inputs = [
    scope.addConstant(bytes(integers.data, columns, pitch)),
    scope.addConstant(fromNumbers(scales.dtype, dims(blocks), isTransposed ? byBlock : steps)),
    scope.addConstant(zeros ? bytes(zeros.data, blocks, zeroPitch) : middles()),
  ];
  return scope.emit(node, 'DequantizeLinear', inputs, { axis: isTransposed ? 0 : 1, block_size: block })[0]!;
}

/** Rows whose columns are transposed together: as many as a cache line has bytes. */
const ROW_TILE = 64;

/** Integers one to a byte: [rows, columns], or [columns, rows] where they are transposed. Weights are many, so that every step counts. */
function unpackedBytes(packed: Uint8Array, { rows, columns, bits, pitch }: Pick<Layout, 'rows' | 'columns' | 'bits' | 'pitch'>, isTransposed: boolean): Uint8Array {
  const bytes = new Uint8Array(columns * rows);
  const [perByte, mask] = [8 / bits, 2 ** bits - 1];
  const [rowStep, columnStep] = isTransposed ? [1, rows] : [columns, 1];
  for (let first = 0; first < rows; first += ROW_TILE) {
    const end = Math.min(first + ROW_TILE, rows);
    for (let column = 0; column < columns; column++) {
      const [from, shift] = [Math.floor(column / perByte), bits * (column % perByte)];
      for (let row = first; row < end; row++) bytes[row * rowStep + column * columnStep] = (packed[row * pitch + from]! >> shift) & mask;
    }
  }
  return bytes;
}

/** A·Bᵀ + bias, where row n of B is column n of the product. */
const matMulNBits: Rule = (node, scope) => {
  const [rows, columns] = [numberAttribute(node, 'N'), numberAttribute(node, 'K')];
  const [bits, block] = [bitsOf(node), blockOf(node)];
  const blocks = Math.ceil(columns / block);
  const layout = { rows, columns, bits, block, pitch: (blocks * block * bits) / 8, groups: groupsOf(node, scope, columns, blocks) };
  const packed = [constantInput(node, scope, 1), constantInput(node, scope, 2), optional(node, scope, 3)] as const;
  const weights = isLinear(packed, layout) ? behindDequantize(node, scope, packed, layout, true) : scope.addConstant(dequantize(...packed, layout, true));
  const bias = node.inputs[5] ?? '';
  const [product] = scope.emit(node, 'MatMul', [inputOf(node, 0), weights], {}, bias === '' ? node.outputs : undefined);
  if (bias !== '') scope.emit(node, 'Add', [product!, bias], {}, node.outputs);
};

/** A table of int4 or uint4 behind a DequantizeLinear: zero points are of its type, and 0 where there are none. */
function typedTable(node: SourceNode, scope: Scope, table: Tensor, block: number): string {
  const wide = (tensor: Tensor): string => {
    const { dtype } = tensor;
    if (!isFewBitsInteger(dtype) || dtype !== table.dtype) throw new ShapeError(`zero points of ${dtype} for a table of ${table.dtype}`);
    return scope.addConstant(widened(dtype, tensor));
  };
  const zeros = optional(node, scope, 3);
  return scope.emit(node, 'DequantizeLinear', [wide(table), inputOf(node, 2), zeros ? wide(zeros) : ''], { axis: 1, block_size: block })[0]!;
}

/** A table of bytes, each of which holds several integers. */
function byteTable(node: SourceNode, scope: Scope, table: Tensor, block: number): string {
  const bits = bitsOf(node);
  const [rows, pitch] = table.dims as readonly [number, number];
  const layout = { rows, columns: (pitch * 8) / bits, bits, block, pitch };
  const packed = [table, constantInput(node, scope, 2), optional(node, scope, 3)] as const;
  return isLinear(packed, layout) ? behindDequantize(node, scope, packed, layout, false) : scope.addConstant(dequantize(...packed, layout, false));
}

/** Rows of a table by their indices. */
const gatherBlockQuantized: Rule = (node, scope) => {
  const table = constantInput(node, scope, 0);
  const [gatherAxis, axis] = [numberAttribute(node, 'gather_axis', 0), numberAttribute(node, 'quantize_axis', 1)];
  if (table.dims.length !== 2 || gatherAxis !== 0 || (axis !== 1 && axis !== -1)) throw new UnsupportedError('only rows of a table that is quantized along them are supported');
  const values = (isFewBitsInteger(table.dtype) ? typedTable : byteTable)(node, scope, table, blockOf(node, 128));
  scope.emit(node, 'Gather', [values, inputOf(node, 1)], { axis: 0 }, node.outputs);
};

export const FEW_BITS_RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  ['MatMulNBits', matMulNBits],
  ['GatherBlockQuantized', gatherBlockQuantized],
]);
