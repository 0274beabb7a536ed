/**
 * Operands of a wide epilogue: several neighbouring columns at once, 16 bytes per access where the operand's strides allow it.
 * Registers hold groups of four columns: vec4<f32>, or vec4 of i32 or u32 for integers without a quantization.
 */
import type { View } from '../../lower/tensor.ts';
import { storedBytes, storedElements } from '../../lower/tensor.ts';
import { address, collapse, inUnits, type Space } from '../../lower/space.ts';
import { registerType, storedScalar } from '../../wgsl/access.ts';
import type { Block, ModuleBuilder } from '../../wgsl/module.ts';
import { STORAGE_BYTES } from '../../../../engine/plan.ts';
import { joinBytes, type Range, saturate, type SaturatingTail } from './saturate.ts';
import type { PackedOperand } from './spec.ts';

/** Columns at once: what a 16-byte store holds. */
export type ColumnWidth = 4 | 8 | 16;

export interface Point {
  readonly batch: readonly string[];
  readonly rows: readonly string[];
  /** Name of the first column's number, a multiple of the width. */
  readonly column: string;
}

export interface WideOperand {
  readonly name: string;
  readonly operand: PackedOperand;
  readonly batch: View;
  readonly rows: View;
  /** 0 for operands that are the same in all columns. */
  readonly columnStride: number;
  /** Columns of one access, 1 for elements by themselves. */
  readonly unit: 1 | ColumnWidth;
  /** The last column at which an access may begin, where the tile can reach beyond it. */
  readonly lastColumn: number | undefined;
}

/** Merges the operands' axes and fixes how each is accessed. */
export function placeOperands(
  operands: readonly PackedOperand[],
  extents: { readonly batch: readonly number[]; readonly rows: readonly number[]; readonly columns: number; readonly storedColumns: number },
  width: ColumnWidth,
): { readonly batch: Space; readonly rows: Space; readonly placed: WideOperand[] } {
  const [batches, rows] = [extents.batch.length, extents.rows.length];
  const part = (from: number, to: number, of: readonly number[]) =>
    collapse({ extents: of, views: operands.map(({ view }) => ({ offset: 0, strides: view.strides.slice(from, to) })) });
  const [batchSpace, rowSpace] = [part(0, batches, extents.batch), part(batches, batches + rows, extents.rows)];
  const placed = operands.map((operand, i): WideOperand => {
    const isOutput = i === operands.length - 1;
    const batch = { offset: operand.view.offset, strides: batchSpace.views[i]!.strides };
    const view = rowSpace.views[i]!;
    const columnStride = operand.view.strides.at(-1)!;
    const strides = [...batch.strides, ...view.strides];
    const readable = isOutput ? extents.storedColumns : readableColumns(operand, strides, extents);
    const unit = columnStride === 1 ? unitOf([batch.offset, ...strides], readable, width) : 1;
    const reach = Math.ceil(extents.storedColumns / width) * width;
    const lastColumn = readable >= reach ? undefined : readable - unit;
    return { name: isOutput ? 'out' : `e${i}`, operand, batch, rows: view, columnStride, unit, lastColumn };
  });
  return { batch: batchSpace, rows: rowSpace, placed };
}

/** Columns that may be read: padding lanes of the operand's own, and of vectors the rest of their memory, are there to be read. */
function readableColumns(
  { tensor, view }: PackedOperand,
  strides: readonly number[],
  { columns, storedColumns }: { readonly columns: number; readonly storedColumns: number },
): number {
  if (tensor.window || view.offset !== 0 || view.strides.at(-1) !== 1) return columns;
  const pitches = strides.filter((stride) => stride !== 0);
  if (pitches.length === 0) return Math.max(columns, Math.min(storedElements(tensor), Math.ceil(storedColumns / 16) * 16));
  const pitch = Math.min(...pitches);
  return tensor.layout === 'channels-last' && pitch >= storedColumns ? storedColumns : columns;
}

function unitOf(strides: readonly number[], columns: number, width: ColumnWidth): 1 | ColumnWidth {
  for (const unit of [16, 8, 4] as const) if (unit <= width && columns % unit === 0 && strides.every((stride) => stride % unit === 0)) return unit;
  return 1;
}

/** Words (of four bytes) of one access: 1, 2 or 4; wider operands take several. */
function wordsOf({ operand, unit }: WideOperand): 1 | 2 | 4 {
  return Math.min(4, Math.max(1, (unit * STORAGE_BYTES[operand.tensor.storage]) / 4)) as 1 | 2 | 4;
}

export function bindOperand(module: ModuleBuilder, placed: WideOperand, access: 'read' | 'read_write'): void {
  const { storage } = placed.operand.tensor;
  const words = wordsOf(placed);
  const scalar = storage === 'f32' || storage === 'i32' ? storage : 'u32';
  module.storage(placed.name, scalar, words, storedBytes(placed.operand.tensor) / (4 * words), access);
  if (storage === 'f16' && placed.unit === 1) module.helper('half_at');
}

/** The address in accesses of `size` elements; `column` is an expression in elements. */
function addressOf({ batch, rows, columnStride }: WideOperand, at: Point, column: string, size: number): string {
  const columnTerm = size > 1 ? `(${column}) / ${size}u` : columnStride === 1 ? column : `(${column}) * ${columnStride}u`;
  const parts = (codes: readonly string[]): string[] => codes.map((code) => `(${code})`);
  const terms = [address(inUnits(batch, size), parts(at.batch)), address(inUnits(rows, size), parts(at.rows)), columnStride === 0 ? '0u' : columnTerm];
  return terms.filter((term) => term !== '0u').join(' + ') || '0u';
}

/** How a register gets its value: once and for all, the first time, or anew. */
export type Assignment = 'let' | 'var' | 'assign';

/** Emits what becomes of loaded columns; gives the names of width/4 registers. */
export type Conversion = (block: Block) => readonly string[];

/** Emits loads of `width` columns, which stay as they lie in memory until they are converted: that takes fewer registers. */
export function loadOperand(block: Block, placed: WideOperand, at: Point, width: ColumnWidth, prefix: string, how: Assignment = 'let'): Conversion {
  const { operand, unit, columnStride } = placed;
  const groups = width / 4;
  const keep = (name: string, value: string): string => {
    if (how === 'assign') block.line(`${name} = ${value}`);
    else if (how === 'var') block.var(name, value);
    else block.let(name, value);
    return name;
  };
  const raw = unit === 1 ? loadElements(placed, at, columnStride === 0 ? 1 : groups).map((code, i) => keep(`${prefix}_e${i}`, code)) : loadVectors(placed, at, width, prefix, keep);
  const codes = raw.length === 1 ? Array.from({ length: groups }, () => raw[0]!) : raw;
  return (then) => codes.map((code, group) => then.let(`${prefix}_${group}`, convert(code, operand)));
}

/** Vectors of the operand's unit, cut into groups of four. */
function loadVectors(placed: WideOperand, at: Point, width: ColumnWidth, prefix: string, keep: (name: string, value: string) => string): string[] {
  const { name, unit, operand, lastColumn } = placed;
  const { storage } = operand.tensor;
  const words = wordsOf(placed);
  const perAccess = (words * 4) / STORAGE_BYTES[storage];
  const bounded = (column: number): string => {
    const code = column === 0 ? at.column : `${at.column} + ${column}u`;
    return lastColumn === undefined ? code : `min(${code}, ${lastColumn + (column % unit)}u)`;
  };
  const groups: string[] = [];
  for (let column = 0; column < width; column += perAccess) {
    const value = keep(`${prefix}_v${column}`, `${name}[${addressOf(placed, at, bounded(column), perAccess)}]`);
    const word = (i: number): string => (words === 1 ? value : `${value}.${'xyzw'[i]}`);
    if (STORAGE_BYTES[storage] === 4) groups.push(value);
    else if (storage === 'f16') for (let i = 0; i < words; i += 2) groups.push(`vec4<f32>(unpack2x16float(${word(i)}), unpack2x16float(${word(i + 1)}))`);
    else for (let i = 0; i < words; i++) groups.push(unpackBytes(word(i), operand));
  }
  return groups;
}

function unpackBytes(word: string, { tensor: { storage, dtype } }: PackedOperand): string {
  if (storage === 'u8') return `unpack4xU8(${word})`;
  // uint8 in 'i8' lies 128 lower (wgsl/access.ts).
  return dtype === 'uint8' ? `unpack4xU8(${word} ^ 0x80808080u)` : `unpack4xI8(${word})`;
}

/** Elements one by one; columns beyond the last one repeat it. */
function loadElements(placed: WideOperand, at: Point, groups: number): string[] {
  const { name, operand, columnStride, lastColumn } = placed;
  const { storage, dtype } = operand.tensor;
  const scalar = storedScalar(storage, dtype);
  const element = (lane: number): string => {
    const code = lane === 0 ? at.column : `${at.column} + ${lane}u`;
    const index = addressOf(placed, at, lastColumn === undefined ? code : `min(${code}, ${lastColumn}u)`, 1);
    if (storage === 'f16') return `half_at(${name}[(${index}) / 2u], ${index})`;
    if (STORAGE_BYTES[storage] === 4) return `${name}[${index}]`;
    const word = `${name}[(${index}) / 4u]`;
    const bits = storage === 'i8' && dtype === 'uint8' ? `(${word} ^ 0x80808080u)` : scalar === 'i32' ? `bitcast<i32>(${word})` : word;
    return `extractBits(${bits}, ((${index}) % 4u) * 8u, 8u)`;
  };
  if (columnStride === 0) return [`vec4<${scalar}>(${element(0)})`];
  return Array.from({ length: groups }, (_, group) => `vec4<${scalar}>(${[0, 1, 2, 3].map((lane) => element(group * 4 + lane)).join(', ')})`);
}

function convert(code: string, { tensor, quantization }: PackedOperand): string {
  if (quantization) return `(vec4<f32>(${signed(code, tensor)}) - ${real(quantization.zeroPoint)}) * ${real(quantization.scale)}`;
  return registerType(tensor.dtype) === 'bool' ? `${code} != vec4<u32>()` : code;
}

/** Quantizations count in stored bytes: uint8 in 'i8' gets its 128 back. */
function signed(code: string, { storage, dtype }: PackedOperand['tensor']): string {
  return storage === 'i8' && dtype === 'uint8' ? `(vec4<i32>(${code}) - vec4<i32>(128i))` : code;
}

/** An f32 literal. */
function real(value: number): string {
  const text = String(Math.fround(value));
  return `${text}f`;
}

/** Emits the store of width/4 registers: f32 or the output type's integers, or of bytes packed into words. */
export function storeOperand(block: Block, placed: WideOperand, at: Point, values: readonly string[], storedColumns: number, width: ColumnWidth): void {
  const { operand, unit, name } = placed;
  const { storage } = operand.tensor;
  if (unit === 1) {
    if (STORAGE_BYTES[storage] !== 4) throw new Error(`${storage} columns are written four at a time`);
    for (const [group, value] of values.entries()) {
      for (const [lane, component] of ['x', 'y', 'z', 'w'].entries()) {
        const column = `${at.column} + ${group * 4 + lane}u`;
        const store = (inside: Block): void => inside.line(`${name}[${addressOf(placed, at, column, 1)}] = ${value}.${component}`);
        if (storedColumns % width === 0) store(block);
        else block.if(`${column} < ${storedColumns}u`, store);
      }
    }
    return;
  }
  const words = wordsOf(placed);
  const perAccess = (words * 4) / STORAGE_BYTES[storage];
  for (let column = 0; column < width; column += perAccess) {
    const groups = values.slice(column / 4, (column + perAccess) / 4);
    const code = column === 0 ? at.column : `${at.column} + ${column}u`;
    block.line(`${name}[${addressOf(placed, at, code, perAccess)}] = ${pack(groups, operand, words)}`);
  }
}

function pack(groups: readonly string[], { tensor }: PackedOperand, words: 1 | 2 | 4): string {
  const { storage } = tensor;
  if (STORAGE_BYTES[storage] === 4) return groups[0]!;
  const packed = groups.flatMap((group) => (storage === 'f16' ? [`pack2x16float(${group}.xy)`, `pack2x16float(${group}.zw)`] : [group]));
  return words === 1 ? packed[0]! : `vec${words}<u32>(${packed.join(', ')})`;
}

/** What becomes of a register on its way out; `inside` is a condition per lane where some are padding. */
export function encode(block: Block, name: string, value: string, tail: SaturatingTail | undefined, range: Range, operand: PackedOperand, inside: string | undefined): string {
  const { tensor } = operand;
  const { storage, dtype } = tensor;
  if (tail) {
    const bytes = saturate(block, name, value, tail, operand);
    const chosen = inside ? block.let(`${name}_c`, `select(${paddingBytes(operand)}, ${bytes}, ${inside})`) : bytes;
    return block.let(name, joinBytes(chosen));
  }
  if (STORAGE_BYTES[storage] === 1) {
    const chosen = inside ? block.let(`${name}_c`, `select(${paddingValue(operand)}, ${value}, ${inside})`) : value;
    if (storage === 'u8') return block.let(name, `pack4xU8(${chosen})`);
    return block.let(name, dtype === 'uint8' ? `pack4xU8(${chosen}) ^ 0x80808080u` : `pack4xI8(${chosen})`);
  }
  const encoded = storage === 'f16' ? boundHalf(value, range) : value;
  return block.let(name, inside ? `select(${paddingValue(operand)}, ${encoded}, ${inside})` : encoded);
}

/** Between the largest halves; what the expression bounds by itself is not bounded again. */
function boundHalf(value: string, [low, high]: Range): string {
  const floored = low >= -65504 ? value : `max(${value}, vec4<f32>(-65504.0f))`;
  return high <= 65504 ? floored : `min(${floored}, vec4<f32>(65504.0f))`;
}

/** What padding columns hold: zero, or the zero point. */
function paddingValue({ tensor }: PackedOperand): string {
  const scalar = storedScalar(tensor.storage, tensor.dtype);
  return `vec4<${scalar}>(${scalar}(0))`;
}

/** The padding's bytes as they lie: real numbers' zero where there is a quantization, else the integer 0 (which lies 128 lower for uint8 in 'i8'). */
function paddingBytes({ tensor: { storage, dtype }, quantization }: PackedOperand): string {
  const byte = quantization ? quantization.zeroPoint : storage === 'i8' && dtype === 'uint8' ? -128 : 0;
  return `vec4<u32>(${byte & 0xff}u)`;
}
