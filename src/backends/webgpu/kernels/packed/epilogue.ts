/**
 * The wide end of the packed matrix kernel: 4, 8 or 16 neighbouring columns of a result at once, so that f16 and i8 leave in
 * stores of 16 bytes. Otherwise it is the epilogue of ../epilogue.ts: scale, bias, fused expression, store.
 */
import { decodeIndex } from '../../lower/space.ts';
import { ExprEmitter } from '../../wgsl/expr.ts';
import type { Block, ModuleBuilder } from '../../wgsl/module.ts';
import { bindOperand, type ColumnWidth, encode, loadOperand, paddingValue, placeOperands, type Point, storeOperand, type WideOperand } from './operand.ts';
import type { PackedOperand, PackedSpec } from './spec.ts';

/** The operands in the order in which {@link WideEpilogue} binds them. */
export function wideOperands(spec: PackedSpec): PackedOperand[] {
  return [...(spec.bias ? [spec.bias] : []), ...(spec.columnScale ? [spec.columnScale] : []), ...spec.extras, spec.output];
}

/**
 * Columns that leave at once: as many as fill 16 bytes, where the output's strides are whole vectors.
 * Throws where narrow elements would have to be written by themselves: two invocations must not share a word.
 */
export function columnWidth(spec: PackedSpec): ColumnWidth {
  const { view, tensor } = spec.output;
  const extents = [...spec.batch, ...spec.rows];
  const steps = [spec.storedColumns, view.offset, ...view.strides.slice(0, -1).filter((_, axis) => extents[axis] !== 1)];
  const wanted = tensor.storage === 'f16' ? 8 : tensor.storage === 'i8' || tensor.storage === 'u8' ? 16 : 4;
  if (wanted === 4) return 4;
  const width = ([16, 8, 4] as const).find((unit) => unit <= wanted && steps.every((step) => step % unit === 0));
  if (!width || view.strides.at(-1) !== 1) throw new Error(`${spec.label}: rows of ${tensor.storage} are not whole groups of four columns`);
  return width;
}

/** Loaded operands of one point, ready for {@link WideEpilogue.finish}. */
export interface Fetched {
  readonly id: number;
  readonly point: Point;
  readonly bias: readonly string[] | undefined;
  readonly columnScale: readonly string[] | undefined;
  readonly extras: readonly (readonly string[])[];
}

export class WideEpilogue {
  readonly width: ColumnWidth;
  readonly #spec: PackedSpec;
  readonly #module: ModuleBuilder;
  readonly #batchExtents: readonly number[];
  readonly #rowExtents: readonly number[];
  readonly #placed: readonly WideOperand[];
  #count = 0;

  /** Binds bias, column scale, extras and output, in this order, after whatever the module has bound. */
  constructor(module: ModuleBuilder, spec: PackedSpec) {
    this.#spec = spec;
    this.#module = module;
    this.width = columnWidth(spec);
    const { batch, rows, placed } = placeOperands(wideOperands(spec), spec, this.width);
    this.#batchExtents = batch.extents;
    this.#rowExtents = rows.extents;
    this.#placed = placed;
    for (const [i, operand] of placed.entries()) bindOperand(module, operand, i === placed.length - 1 ? 'read_write' : 'read');
  }

  /** Emits the loads of a point's operands. Arguments are names of u32 values; the column is a multiple of the width, all within bounds. */
  fetch(block: Block, batch: string, row: string, column: string): Fetched {
    const id = this.#count++;
    const point: Point = {
      batch: decodeIndex(batch, this.#batchExtents).map((code, axis) => block.let(`pb${id}_${axis}`, code)),
      rows: decodeIndex(row, this.#rowExtents).map((code, axis) => block.let(`pr${id}_${axis}`, code)),
      column,
    };
    const inputs = this.#placed.slice(0, -1).map((placed, i) => loadOperand(block, placed, point, this.width, `x${id}_${i}`));
    const { bias, columnScale } = this.#spec;
    return {
      id,
      point,
      bias: bias ? inputs[0] : undefined,
      columnScale: columnScale ? inputs[bias ? 1 : 0] : undefined,
      extras: inputs.slice((bias ? 1 : 0) + (columnScale ? 1 : 0)),
    };
  }

  /** Emits the work on the accumulators (vec4<f32>, four columns each) and the store. */
  finish(block: Block, { id, point, bias, columnScale, extras }: Fetched, accumulators: readonly string[]): void {
    const { scale, biasScale, epilogue, columns, storedColumns, output } = this.#spec;
    const results = accumulators.map((accumulator, group) => {
      const factors = [...(columnScale ? [columnScale[group]!] : []), ...(scale === 1 ? [] : [`${Math.fround(scale)}f`])];
      const scaled = [accumulator, ...factors].join(' * ');
      const added = bias ? ` + ${biasScale === 1 ? bias[group]! : `${bias[group]!} * ${Math.fround(biasScale)}f`}` : '';
      const sum = block.let(`sum${id}_${group}`, scaled + added);
      const inputs = [sum, ...extras.map((extra) => extra[group]!)];
      const result = epilogue ? new ExprEmitter(this.#module, block, 4, inputs, `t${id}_${group}_`).emit(epilogue) : sum;
      const encoded = encode(result, output);
      if (storedColumns === columns) return block.let(`y${id}_${group}`, encoded);
      const inside = `vec4<u32>(${point.column} + ${group * 4}u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(${columns}u)`;
      return block.let(`y${id}_${group}`, `select(${paddingValue(output)}, ${encoded}, ${inside})`);
    });
    storeOperand(block, this.#placed.at(-1)!, point, results, storedColumns, this.width);
  }
}
