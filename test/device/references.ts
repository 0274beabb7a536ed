/** Operators in float64, written from their definitions, for tests of kernels. */
import { type Dims, elementCount } from '../../src/ir/tensor.ts';

export function eachCoordinate(dims: Dims): number[][] {
  return dims.reduce<number[][]>((all, dim) => all.flatMap((c) => Array.from({ length: dim }, (_, i) => [...c, i])), [[]]);
}

/** Row-major index of `coordinates` in a tensor of `dims` that broadcasts to a shape of the same or a higher rank. */
export function broadcastIndex(coordinates: readonly number[], dims: Dims): number {
  return dims.reduce((index, dim, axis) => index * dim + (dim === 1 ? 0 : coordinates[coordinates.length - dims.length + axis]!), 0);
}

export interface ConvCase {
  readonly x: Dims;
  readonly w: Dims;
  readonly strides: readonly number[];
  readonly pads: readonly number[];
  readonly dilations: readonly number[];
  readonly group: number;
}

export function convDims({ x, w, strides, pads, dilations }: ConvCase): number[] {
  const rank = x.length - 2;
  const spatial = strides.map((stride, i) => Math.floor((x[i + 2]! + pads[i]! + pads[i + rank]! - (w[i + 2]! - 1) * dilations[i]! - 1) / stride) + 1);
  return [x[0]!, w[0]!, ...spatial];
}

export function conv(test: ConvCase, x: ArrayLike<number>, w: ArrayLike<number>, bias?: ArrayLike<number>): number[] {
  const { group, strides, pads, dilations } = test;
  const [inputs, outputs] = [test.w[1]!, test.w[0]! / group];
  const extents = test.x.slice(2);
  const taps = eachCoordinate(test.w.slice(2));
  const pixels = elementCount(extents);
  // Where each tap of a window lies in a channel, by the output's place; outside of the image: nowhere.
  const windows = eachCoordinate(convDims(test).slice(2)).map((at) =>
    taps.flatMap((tap, t) => {
      const pixel = at.map((p, i) => p * strides[i]! - pads[i]! + tap[i]! * dilations[i]!);
      return pixel.some((p, i) => p < 0 || p >= extents[i]!) ? [] : [{ t, pixel: pixel.reduce((index, p, i) => index * extents[i]! + p, 0) }];
    }),
  );
  return eachCoordinate([test.x[0]!, test.w[0]!]).flatMap(([n, o]) =>
    windows.map((window) => {
      let sum = bias?.[o!] ?? 0;
      for (let c = 0; c < inputs; c++) {
        const image = (n! * test.x[1]! + Math.floor(o! / outputs) * inputs + c) * pixels;
        const filter = (o! * inputs + c) * taps.length;
        for (const { t, pixel } of window) sum += x[image + pixel]! * w[filter + t]!;
      }
      return sum;
    }),
  );
}

/** Transposed convolution by scattering, as ONNX defines it; weights [input, output of the group, taps…]. */
export function convTranspose(test: ConvCase & { readonly y: Dims }, x: ArrayLike<number>, w: ArrayLike<number>): number[] {
  const y = Array.from({ length: elementCount(test.y) }, () => 0);
  const [inputs, outputs] = [test.x[1]! / test.group, test.w[1]!];
  for (const [n, c, ...at] of eachCoordinate(test.x)) {
    for (const [o, ...tap] of eachCoordinate(test.w.slice(1))) {
      const pixel = at.map((p, i) => p * test.strides[i]! - test.pads[i]! + tap[i]! * test.dilations[i]!);
      if (pixel.some((p, i) => p < 0 || p >= test.y[i + 2]!)) continue;
      const channel = Math.floor(c! / inputs) * outputs + o!;
      y[broadcastIndex([n!, channel, ...pixel], test.y)]! += x[broadcastIndex([n!, c!, ...at], test.x)]! * w[broadcastIndex([c!, o!, ...tap], test.w)]!;
    }
  }
  return y;
}

/** [batch…, rows, depth] · [batch…, depth, columns] with broadcast batches. */
export function matMul(a: Dims, b: Dims, x: ArrayLike<number>, y: ArrayLike<number>): { dims: number[]; values: number[] } {
  const rank = Math.max(a.length, b.length);
  const batch = Array.from({ length: rank - 2 }, (_, i) => Math.max(a[i - (rank - a.length)] ?? 1, b[i - (rank - b.length)] ?? 1));
  const [rows, depth, columns] = [a.at(-2)!, a.at(-1)!, b.at(-1)!];
  const dims = [...batch, rows, columns];
  const values = eachCoordinate(dims).map((c) => {
    const [outer, row, column] = [c.slice(0, -2), c.at(-2)!, c.at(-1)!];
    let sum = 0;
    for (let k = 0; k < depth; k++) sum += x[broadcastIndex([...outer, row, k], a)]! * y[broadcastIndex([...outer, k, column], b)]!;
    return sum;
  });
  return { dims, values };
}
