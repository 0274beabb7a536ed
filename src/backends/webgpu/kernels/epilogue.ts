/**
 * The end of a matrix kernel: bias, fused expression, store.
 *
 * A result is a point (batch, row, column); operands are views over [batch axes…, row axes…, column]. A thread holds four
 * neighbouring columns.
 */
import type { Expr } from '../../../ir/expr.ts';
import { address, collapse, decodeIndex, inUnits } from '../lower/space.ts';
import { type DeviceTensor, paddedChannels, storedBytes, type View } from '../lower/tensor.ts';
import type { DType } from '../../../ir/tensor.ts';
import { ExprEmitter } from '../wgsl/expr.ts';
import { bindElements, type ElementAccess, precisionOf, registerType } from '../wgsl/access.ts';
import { type Block, type ModuleBuilder, typeName } from '../wgsl/module.ts';

export interface EpilogueOperand {
  readonly tensor: DeviceTensor;
  readonly view: View;
}

export interface EpilogueSpec {
  readonly batch: readonly number[];
  readonly rows: readonly number[];
  readonly columns: number;
  /** Columns that are stored; those beyond `columns` are padding lanes and get zero. */
  readonly storedColumns: number;
  /** y = epilogue(scale · accumulator + biasScale · bias, extras…). */
  readonly scale: number;
  readonly biasScale: number;
  readonly bias: EpilogueOperand | undefined;
  readonly extras: readonly EpilogueOperand[];
  readonly epilogue: Expr | undefined;
  readonly output: EpilogueOperand;
}

/** One operand with its axes merged: flat batch and row indices are decoded only as far as it needs. */
interface Placed {
  readonly access: ElementAccess;
  readonly batch: View;
  readonly rows: View;
  readonly columnStride: number;
  readonly vector: boolean;
  readonly dtype: DType;
}

export class Epilogue {
  readonly #spec: EpilogueSpec;
  readonly #module: ModuleBuilder;
  readonly #batchExtents: readonly number[];
  readonly #rowExtents: readonly number[];
  readonly #bias: Placed | undefined;
  readonly #extras: readonly Placed[];
  readonly #output: Placed;
  #count = 0;

  /** Binds bias, extras and output, in this order, after whatever the module has bound. */
  constructor(module: ModuleBuilder, spec: EpilogueSpec) {
    this.#spec = spec;
    this.#module = module;
    const operands = epilogueOperands(spec);
    const [batches, rows] = [spec.batch.length, spec.rows.length];
    const part = (from: number, to: number, extents: readonly number[]) =>
      collapse({ extents, views: operands.map(({ view }) => ({ offset: 0, strides: view.strides.slice(from, to) })) });
    const batchSpace = part(0, batches, spec.batch);
    const rowSpace = part(batches, batches + rows, spec.rows);
    this.#batchExtents = batchSpace.extents;
    this.#rowExtents = rowSpace.extents;
    const placed = operands.map(({ tensor, view }, i): Placed => {
      const isOutput = i === operands.length - 1;
      const columnStride = view.strides.at(-1)!;
      const batch = { offset: view.offset, strides: batchSpace.views[i]!.strides };
      const others = [view.offset, ...batch.strides, ...rowSpace.views[i]!.strides];
      const whole = isOutput ? spec.storedColumns % 4 === 0 : coversColumns(tensor, spec);
      const vector = columnStride === 1 && whole && others.every((stride) => stride % 4 === 0);
      const name = isOutput ? 'out' : `e${i}`;
      const access = bindElements(module, name, tensor, storedBytes(tensor), vector ? 4 : 1, isOutput ? 'read_write' : 'read');
      return { access, batch, rows: rowSpace.views[i]!, columnStride, vector, dtype: tensor.dtype };
    });
    this.#output = placed.at(-1)!;
    this.#bias = spec.bias && placed[0];
    this.#extras = placed.slice(spec.bias ? 1 : 0, -1);
  }

  /**
   * Emits the work on `accumulator` (a vec4<f32>) at names of u32 values; `column` is a multiple of 4 and within bounds. `beside`: values of the same
   * elements that the kernel has in registers, which the expression reads behind the extras.
   */
  emit(block: Block, batch: string, row: string, column: string, accumulator: string, beside: readonly string[] = []): void {
    const id = this.#count++;
    const { scale, biasScale, epilogue } = this.#spec;
    const at = {
      batch: decodeIndex(batch, this.#batchExtents).map((code, axis) => block.let(`pb${id}_${axis}`, code)),
      rows: decodeIndex(row, this.#rowExtents).map((code, axis) => block.let(`pr${id}_${axis}`, code)),
      column,
    };
    let value = scale === 1 ? accumulator : `${accumulator} * ${scale}f`;
    if (this.#bias) {
      const bias = this.#load(this.#bias, at);
      value = `${value} + ${biasScale === 1 ? bias : `${bias} * ${biasScale}f`}`;
    }
    const sum = block.let(`sum${id}`, value);
    const inputs = [sum, ...this.#extras.map((extra, i) => block.let(`x${id}_${i}`, this.#load(extra, at))), ...beside];
    const result = epilogue ? new ExprEmitter(this.#module, block, 4, inputs, { prefix: `t${id}_`, precision: precisionOf(this.#spec.output.tensor) }).emit(epilogue) : sum;
    this.#store(block, at, result);
  }

  #address(operand: Placed, at: Point, lane: number, clamp: boolean): string {
    const unit = operand.vector ? 4 : 1;
    const shifted = lane === 0 ? at.column : `(${at.column} + ${lane}u)`;
    const column = clamp ? `min(${shifted}, ${this.#spec.columns - 1}u)` : shifted;
    const columnTerm = operand.vector ? `${at.column} / 4u` : operand.columnStride === 1 ? column : `${column} * ${operand.columnStride}u`;
    const terms = [address(inUnits(operand.batch, unit), at.batch), address(inUnits(operand.rows, unit), at.rows), operand.columnStride === 0 ? '0u' : columnTerm];
    return terms.filter((term) => term !== '0u').join(' + ') || '0u';
  }

  /** A vec4 of the operand's register type. */
  #load(operand: Placed, at: Point): string {
    const value = this.#loadStored(operand, at);
    return registerType(operand.dtype) === 'bool' ? `${value} != vec4<u32>()` : value;
  }

  #loadStored(operand: Placed, at: Point): string {
    const type = typeName(operand.access.scalar, 4);
    const one = operand.access.load(this.#address(operand, at, 0, false));
    if (operand.vector) return one;
    if (operand.columnStride === 0) return `${type}(${one})`;
    const overhangs = this.#spec.storedColumns % 4 !== 0 || this.#spec.storedColumns > this.#spec.columns;
    const lanes = [0, 1, 2, 3].map((lane) => operand.access.load(this.#address(operand, at, lane, overhangs)));
    return `${type}(${lanes.join(', ')})`;
  }

  #store(block: Block, at: Point, value: string): void {
    const { columns, storedColumns } = this.#spec;
    const masked =
      storedColumns > columns
        ? `select(${typeName(this.#output.access.scalar, 4)}(), ${value}, vec4<u32>(${at.column}) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(${columns}u))`
        : value;
    if (this.#output.vector) {
      block.line(this.#output.access.store(this.#address(this.#output, at, 0, false), masked));
      return;
    }
    const result = block.let(`y${this.#count}`, masked);
    for (const [lane, name] of ['x', 'y', 'z', 'w'].entries()) {
      const store = (inside: Block): void => inside.line(this.#output.access.store(this.#address(this.#output, at, lane, false), `${result}.${name}`));
      if (storedColumns % 4 === 0) store(block);
      else block.if(`${at.column} + ${lane}u < ${storedColumns}u`, store);
    }
  }
}

/** Whether every vector of four columns that is stored lies inside the operand's row. */
function coversColumns(tensor: DeviceTensor, { columns, storedColumns }: EpilogueSpec): boolean {
  if (storedColumns === columns) return columns % 4 === 0;
  return tensor.layout === 'channels-last' && paddedChannels(tensor.dims, tensor.storage) >= storedColumns;
}

interface Point {
  readonly batch: readonly string[];
  readonly rows: readonly string[];
  readonly column: string;
}

/** The operands in the order in which {@link Epilogue} binds them. */
export function epilogueOperands(spec: EpilogueSpec): EpilogueOperand[] {
  return [...(spec.bias ? [spec.bias] : []), ...spec.extras, spec.output];
}
