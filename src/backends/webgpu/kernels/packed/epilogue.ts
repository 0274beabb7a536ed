/**
 * The wide end of the packed matrix kernel: 4, 8 or 16 neighbouring columns of a result at once, so that f16 and i8 leave in
 * stores of 16 bytes. Otherwise it is the epilogue of ../epilogue.ts: scale, bias, fused expression, store.
 */
import { decodeIndex } from '../../lower/space.ts';
import { type DeviceTensor, storedBytes } from '../../lower/tensor.ts';
import { STORAGE_BYTES } from '../../../../engine/plan.ts';
import { precisionOf } from '../../wgsl/access.ts';
import { ExprEmitter } from '../../wgsl/expr.ts';
import type { Block, ModuleBuilder } from '../../wgsl/module.ts';
import { type Assignment, bindOperand, type ColumnWidth, type Conversion, encode, loadOperand, placeOperands, type Point, storeOperand, type WideOperand } from './operand.ts';
import { MOMENTS } from './moments.ts';
import { type Range, rangeOf, saturatingTail, type SaturatingTail } from './saturate.ts';
import type { PackedOperand, WideSpec } from './spec.ts';

function wideOperands(spec: WideSpec): PackedOperand[] {
  return [...(spec.bias ? [spec.bias] : []), ...(spec.columnScale ? [spec.columnScale] : []), ...(spec.normalization?.sums ? [spec.normalization.sums] : []), ...spec.extras, spec.output];
}

/** The tensors in the order in which {@link WideEpilogue} binds them. */
export function wideTensors(spec: WideSpec): DeviceTensor[] {
  return [...wideOperands(spec).map(({ tensor }) => tensor), ...(spec.constants ? [spec.constants] : []), ...(spec.rowSums ? [spec.rowSums.tensor] : [])];
}

/**
 * Columns that leave at once: at most `most`, and as many as fill 16 bytes where the output's strides are whole vectors.
 * Throws where narrow elements would have to be written by themselves: two invocations must not share a word.
 */
export function columnWidth(spec: WideSpec, most: ColumnWidth = 16): ColumnWidth {
  const { view, tensor } = spec.output;
  const extents = [...spec.batch, ...spec.rows];
  const steps = [spec.storedColumns, view.offset, ...view.strides.slice(0, -1).filter((_, axis) => extents[axis] !== 1)];
  const full = tensor.storage === 'f16' ? 8 : tensor.storage === 'i8' || tensor.storage === 'u8' ? 16 : 4;
  if (full === 4) return 4;
  const width = ([16, 8, 4] as const).find((unit) => unit <= Math.min(full, most) && steps.every((step) => step % unit === 0));
  if (!width || view.strides.at(-1) !== 1) throw new Error(`${spec.label}: rows of ${tensor.storage} are not whole groups of four columns`);
  return width;
}

/** What a point needs beside its sums, as it lies in memory. */
export type Fetched = readonly Conversion[];

function isSameInAllRows({ rows }: WideOperand): boolean {
  return rows.strides.every((stride) => stride === 0);
}

export class WideEpilogue {
  readonly width: ColumnWidth;
  readonly #spec: WideSpec;
  readonly #module: ModuleBuilder;
  readonly #batchExtents: readonly number[];
  readonly #rowExtents: readonly number[];
  readonly #placed: readonly WideOperand[];
  readonly #tail: SaturatingTail | undefined;
  readonly #range: Range;
  readonly #hoisted = new Map<WideOperand, readonly string[]>();
  #constants: readonly string[] | undefined;

  /** Binds bias, column scale, extras, output, constants and sums of rows, in this order, after whatever the module has bound. */
  constructor(module: ModuleBuilder, spec: WideSpec, most?: ColumnWidth) {
    this.#spec = spec;
    this.#module = module;
    this.width = columnWidth(spec, most);
    const { batch, rows, placed } = placeOperands(wideOperands(spec), spec, this.width);
    this.#batchExtents = batch.extents;
    this.#rowExtents = rows.extents;
    this.#placed = placed;
    this.#tail = saturatingTail(spec.epilogue, spec.output);
    this.#range = rangeOf(spec.epilogue);
    for (const [i, operand] of placed.entries()) bindOperand(module, operand, i === placed.length - 1 ? 'read_write' : 'read');
    if (spec.constants) module.storage('constants', 'f32', 4, storedBytes(spec.constants) / 16, 'read');
    if (!spec.rowSums) return;
    module.helper('stored_moments');
    module.storage('row_sums', 'f32', 2, storedBytes(spec.rowSums.tensor) / 8, 'read_write');
  }

  /** Emits the loads of the expression's numbers, and gives a register for each. */
  #loadConstants(block: Block, prefix: string): readonly string[] {
    const { constants } = this.#spec;
    if (!constants) return [];
    const vectors = Array.from({ length: storedBytes(constants) / 16 }, (_, i) => block.let(`${prefix}_${i}`, `constants[${i}u]`));
    return vectors.flatMap((vector) => ['x', 'y', 'z', 'w'].map((lane) => `vec4<f32>(${vector}.${lane})`));
  }

  /** Emits the loads of what is the same in all rows, for invocations that stay in their columns. Arguments as for {@link fetch}. */
  hoist(block: Block, batch: string, column: string): void {
    const point: Point = { batch: this.#decodeBatch(block, batch, 'hb'), rows: this.#rowExtents.map(() => '0u'), column };
    for (const [i, operand] of this.#placed.slice(0, -1).entries()) {
      if (!isSameInAllRows(operand)) continue;
      this.#hoisted.set(operand, loadOperand(block, operand, point, this.width, `h${i}`)(block));
    }
    this.#constants = this.#loadConstants(block, 'hk');
  }

  /**
   * Emits the loads of a point's operands into registers whose names begin with `name`. Arguments are names of u32 values; the column is a
   * multiple of the width, all within bounds. What is the same in all rows is loaded at the end, unless it is hoisted until then.
   */
  fetch(block: Block, name: string, batch: string, row: string, column: string, how: Assignment = 'let'): Fetched {
    const point = this.#pointOf(block, `${name}_f`, batch, row, column);
    return this.#placed.slice(0, -1).map((placed, i): Conversion => {
      const load = (at: Block, as?: Assignment): Conversion => loadOperand(at, placed, point, this.width, `${name}_x${i}`, as);
      return isSameInAllRows(placed) ? (then) => this.#hoisted.get(placed) ?? load(then)(then) : load(block, how);
    });
  }

  /** Bytes that one result needs of operands that differ from row to row. */
  get rowBytes(): number {
    const differing = this.#placed.slice(0, -1).filter((placed) => !isSameInAllRows(placed));
    return differing.reduce((sum, { operand }) => sum + STORAGE_BYTES[operand.tensor.storage], 0);
  }

  #pointOf(block: Block, name: string, batch: string, row: string, column: string): Point {
    return {
      batch: this.#decodeBatch(block, batch, `${name}b`),
      rows: decodeIndex(row, this.#rowExtents).map((code, axis) => block.let(`${name}r${axis}`, code)),
      column,
    };
  }

  #decodeBatch(block: Block, batch: string, prefix: string): string[] {
    return decodeIndex(batch, this.#batchExtents).map((code, axis) => block.let(`${prefix}${axis}`, code));
  }

  /** Emits the work on the accumulators (vec4<f32>, four columns each) and the store. Gives what the point adds to its row's sums, where these are wanted. */
  finish(block: Block, name: string, loaded: Fetched, batch: string, row: string, column: string, accumulators: readonly string[]): string | undefined {
    const { normalization, epilogue, columns, storedColumns, output, rowSums } = this.#spec;
    const point = this.#pointOf(block, `${name}_p`, batch, row, column);
    const inputs = loaded.map((convert) => convert(block));
    const constants = this.#constants ?? this.#loadConstants(block, `${name}_k`);
    const extras = inputs.slice(this.#sumsAt + (normalization?.sums ? 1 : 0));
    const moments = normalization && block.let(`${name}_moments`, `${MOMENTS}[${row} - tile_row]`);
    const expr = this.#tail ? this.#tail.x : epilogue;
    const results = accumulators.map((accumulator, group) => {
      const sum = block.let(`${name}_sum${group}`, this.#scaled(moments ? this.#normalized(accumulator, moments, inputs, group) : accumulator, inputs, group));
      const emitter = new ExprEmitter(this.#module, block, 4, [sum, ...extras.map((extra) => extra[group]!), ...constants], { prefix: `${name}_t${group}_`, precision: this.#tail ? 'byte' : precisionOf(output.tensor) });
      const result = expr ? emitter.emit(expr) : sum;
      const inside =
        storedColumns === columns ? undefined : `vec4<u32>(${point.column} + ${group * 4}u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(${columns}u)`;
      return encode(block, `${name}_y${group}`, result, this.#tail, this.#range, output, inside);
    });
    storeOperand(block, this.#placed.at(-1)!, point, results, storedColumns, this.width);
    return rowSums && results.map((result) => `stored_moments(${result})`).join(' + ');
  }

  /** The place of a normalization's sums among the operands: behind bias and column scale. */
  get #sumsAt(): number {
    return (this.#spec.bias ? 1 : 0) + (this.#spec.columnScale ? 1 : 0);
  }

  #normalized(accumulator: string, moments: string, inputs: readonly (readonly string[])[], group: number): string {
    const sums = this.#spec.normalization!.sums && inputs[this.#sumsAt]![group]!;
    return `${sums ? `(${accumulator} - ${moments}.x * ${sums})` : accumulator} * ${moments}.y`;
  }

  #scaled(accumulator: string, inputs: readonly (readonly string[])[], group: number): string {
    const { scale, biasScale, bias, columnScale } = this.#spec;
    const factors = [...(columnScale ? [inputs[bias ? 1 : 0]![group]!] : []), ...(scale === 1 ? [] : [`${Math.fround(scale)}f`])];
    const added = bias ? ` + ${inputs[0]![group]!}${biasScale === 1 ? '' : ` * ${Math.fround(biasScale)}f`}` : '';
    return [accumulator, ...factors].join(' * ') + added;
  }
}
