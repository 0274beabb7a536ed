/**
 * Weights as the packed matrix kernel reads them: [group, k vector, column, 16 bytes], so that neighbouring invocations read
 * neighbouring columns, whatever the tile. Prior art: cuDNN's and CUTLASS's interleaved layouts (NC/32HW32).
 */
import { float16ToNumber, HALF_MAX, numberToFloat16 } from '../../../../ir/tensor.ts';
import { VECTOR_ELEMENTS, type PackedElement } from '../../tactics/packed.ts';
import { packedColumns } from './spec.ts';

export interface WeightShape {
  readonly groups: number;
  /** Filter taps, 1 for a matrix. */
  readonly taps: number;
  /** Input channels of one group; every tap is padded to whole vectors of them. */
  readonly channels: number;
  readonly columns: number;
}

/** Vectors along the depth of packed weights. */
export function packedDepth({ taps, channels }: WeightShape, element: PackedElement): number {
  return taps * Math.ceil(channels / VECTOR_ELEMENTS[element]);
}

/** Bytes of packed weights. */
export function packedBytes(shape: WeightShape, element: PackedElement): number {
  return shape.groups * packedDepth(shape, element) * packedColumns(shape.columns) * 16;
}

/** A weight by group, tap, input channel and column of the group. */
export type WeightAt = (group: number, tap: number, channel: number, column: number) => number;

/** f32 weights as binary16 bits, rounded to nearest even; those beyond the range become ±65504. */
export function packHalf(shape: WeightShape, at: WeightAt): Uint16Array {
  const packed = new Uint16Array(packedBytes(shape, 'f16') / 2);
  fill(packed, shape, 'f16', (group, tap, channel, column) => {
    const value = at(group, tap, channel, column);
    return numberToFloat16(Math.min(HALF_MAX, Math.max(-HALF_MAX, value)));
  });
  return packed;
}

/**
 * f32 weights for a left matrix that is split: for every four channels a vector that meets both of its halves with the high halves of the
 * weights, and one that meets its high half with their low halves. The product of the low halves is left out.
 */
export function packSplit(shape: WeightShape, at: WeightAt): Uint16Array {
  return packHalf(splitShape(shape), (group, tap, position, column) => {
    const [four, place] = [position >> 4, position & 15];
    const channel = four * 4 + (place & 3);
    if (channel >= shape.channels || place >= 12) return 0;
    const value = at(group, tap, channel, column);
    const high = float16ToNumber(numberToFloat16(Math.min(HALF_MAX, Math.max(-HALF_MAX, value))));
    return place < 8 ? high : value - high;
  });
}

/** The shape of weights as {@link packSplit} packs them. */
export function splitShape(shape: WeightShape): WeightShape {
  return { ...shape, channels: Math.ceil(shape.channels / 4) * 16 };
}

/** Whole numbers in −128 … 127. */
export function packInt8(shape: WeightShape, at: WeightAt): Int8Array {
  const packed = new Int8Array(packedBytes(shape, 'i8'));
  fill(packed, shape, 'i8', at);
  return packed;
}

function fill(packed: Uint16Array | Int8Array, shape: WeightShape, element: PackedElement, at: WeightAt): void {
  const lanes = VECTOR_ELEMENTS[element];
  const [columns, depth, vectors] = [packedColumns(shape.columns), packedDepth(shape, element), Math.ceil(shape.channels / lanes)];
  for (let group = 0; group < shape.groups; group++) {
    for (let tap = 0; tap < shape.taps; tap++) {
      for (let channel = 0; channel < shape.channels; channel++) {
        const k = group * depth + tap * vectors + Math.floor(channel / lanes);
        let to = k * columns * lanes + (channel % lanes);
        for (let column = 0; column < shape.columns; column++, to += lanes) packed[to] = at(group, tap, channel, column);
      }
    }
  }
}
