/**
 * The packed matrix kernel's problem: out[batch, row, column] = epilogue(scale · Σ_k A[batch, row, k] · B[batch, k, column] + bias, …)
 * on f16 (summed in f32) or i8 (summed in i32), where memory is read 16 bytes at a time.
 *
 * Everything along the depth is counted in vectors of 16 bytes; addresses of A and B are counted in vectors too.
 */
import type { DeviceTensor, View } from '../../lower/tensor.ts';
import type { PackedElement } from '../../tactics/packed.ts';
import type { EpilogueOperand, EpilogueSpec } from '../epilogue.ts';
import type { FewBitColumns } from '../few-bits/weights.ts';
import type { WindowWalk } from '../window.ts';

/**
 * A left matrix of f32 whose products are made of halves: every four elements are read as a vector of four high halves and of four low
 * ones, x ≈ high + low (about 21 bits), and that vector twice over, so that the depth and an image's `channels` count two vectors where the
 * memory has one. Weights for it: packSplit. Prior art: Ootomo and Yokota, "Recovering single precision accuracy from Tensor Cores", 2022.
 */
interface Splits {
  readonly split?: boolean | undefined;
}

/** A matrix: its rows' depths lie one after another. The view is over [batch axes…, row axes…], in vectors. */
export interface PackedMatrix extends Splits {
  readonly kind: 'matrix';
  readonly tensor: DeviceTensor;
  readonly view: View;
}

/**
 * An image as the left matrix: rows are [image, output pixel…], depths are (tap, vector of channels). The batch index is the
 * group. Taps outside the image give `pad` in every word.
 */
export interface PackedImage extends Splits, WindowWalk {
  readonly kind: 'image';
  readonly tensor: DeviceTensor;
  /** Strides in vectors; `groupStride` lies between the groups' first channels. */
  readonly offset: number;
  readonly imageStride: number;
  readonly spatialStrides: readonly number[];
  readonly groupStride: number;
  readonly images: number;
  /** Vectors of channels in one group. */
  readonly channels: number;
  /** 0, or an int8 zero point in all four bytes. */
  readonly pad: number;
}

/** Constant weights as packHalf and packInt8 lay them out: [group, k, column] vectors, columns padded to `columns`. */
export interface PackedWeights {
  readonly kind: 'packed';
  readonly tensor: DeviceTensor;
  /** Columns as stored, a multiple of {@link COLUMN_ALIGNMENT}. */
  readonly columns: number;
  /** Whether every batch has weights of its own. */
  readonly grouped: boolean;
}

/** An activation whose columns' depths lie one after another, [column, k]. The view is over [batch axes…, column], in vectors. */
export interface PackedRowsOfColumns {
  readonly kind: 'rows-k-contiguous';
  readonly tensor: DeviceTensor;
  readonly view: View;
}

/** An f16 activation [k, column]: a vector holds eight columns. The view is over [batch axes…, k], in vectors. */
export interface PackedColumns {
  readonly kind: 'columns-contiguous';
  readonly tensor: DeviceTensor;
  readonly view: View;
  /** Depth in elements; the left matrix may be padded beyond it. */
  readonly depth: number;
}

/** A left matrix that lies in one tensor. */
export type PackedSource = PackedMatrix | PackedImage;

/** Left matrices one after the other along the depth. */
export interface PackedJoined {
  readonly kind: 'joined';
  /** Each with its depth in vectors. */
  readonly parts: readonly { readonly a: PackedSource; readonly depth: number }[];
}

export type PackedLeft = PackedSource | PackedJoined;
export type PackedRight = PackedWeights | PackedRowsOfColumns | PackedColumns | FewBitColumns;

/** Stored bytes are `round(real / scale) + zeroPoint`, saturated to −128 … 127. */
export interface Quantization {
  readonly scale: number;
  readonly zeroPoint: number;
}

/** An operand of the epilogue; with a quantization, bytes become the real numbers that they stand for. */
export interface PackedOperand extends EpilogueOperand {
  readonly quantization?: Quantization | undefined;
}

/**
 * Sums over rows of halves, by whole `columns` neighbours: pairs (Σ x, Σ x²) as [columns of the matrix / `columns`, rows], f32. The product that
 * stores the rows leaves them, for products that normalize these rows. Of one matrix, whose columns are whole multiples.
 */
export interface RowSums {
  readonly tensor: DeviceTensor;
  readonly columns: number;
}

/**
 * The rows of a left matrix of halves are normalized: what is multiplied is (row − mean) / √(variance + ε), or row / √(mean of squares + ε)
 * where there are no sums. The kernel multiplies rows as they are and corrects the sums by the rows' moments, which it takes from `rowSums`, or
 * from what it sees of the rows on their way; a factor by depth belongs into B, a summand's product into the bias. Legal without split depth,
 * walks and slides.
 */
export interface RowNormalization {
  readonly epsilon: number;
  /** Elements of a row. */
  readonly count: number;
  /** Σ_k B[k, column], f32. */
  readonly sums: EpilogueOperand | undefined;
  readonly rowSums: RowSums | undefined;
  /** Where pairs (mean, 1 / √(variance + ε)) of all rows are written, f32. */
  readonly moments: DeviceTensor | undefined;
}

/** Factors of a left matrix of halves, element by element: rounded to halves, the products are what is multiplied. Legal where rows are staged, and do not slide. */
export type LeftScale = Omit<PackedMatrix, 'split'>;

export interface PackedSpec extends EpilogueSpec {
  readonly label: string;
  readonly element: PackedElement;
  /** Depth in vectors. */
  readonly depth: number;
  readonly a: PackedLeft;
  readonly scaleOfA?: LeftScale | undefined;
  readonly b: PackedRight;
  /** f32 factors by column, on top of `scale`: y = epilogue(scale · columnScale · accumulator + biasScale · bias, extras…). */
  readonly columnScale?: EpilogueOperand | undefined;
  readonly normalization?: RowNormalization | undefined;
  readonly extras: readonly PackedOperand[];
  /** Numbers (f32) that the expression has as inputs after the extras, so that layers which differ in nothing else share their code. */
  readonly constants?: DeviceTensor | undefined;
  readonly output: PackedOperand;
  /** Of the results as they are stored, which are halves. Legal where {@link leavesRowSums} says so. */
  readonly rowSums?: RowSums | undefined;
}

/** What the end of a kernel needs to know: all but the two matrices. */
export type WideSpec = Omit<PackedSpec, 'element' | 'depth' | 'a' | 'scaleOfA' | 'b'>;

/** Packed weights have a multiple of this many columns. */
const COLUMN_ALIGNMENT = 16;

export function packedColumns(columns: number): number {
  return Math.ceil(columns / COLUMN_ALIGNMENT) * COLUMN_ALIGNMENT;
}

export const product = (extents: readonly number[]): number => extents.reduce((all, extent) => all * extent, 1);
