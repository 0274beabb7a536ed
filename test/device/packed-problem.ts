/** Problems for the packed matrix kernel: memory, specification and the float64 answer, from one description. */
import { columnWidth, wideTensors } from '../../src/backends/webgpu/kernels/packed/epilogue.ts';
import { packedKernels } from '../../src/backends/webgpu/kernels/packed/kernel.ts';
import { packedVectors, packWords } from '../../src/backends/webgpu/kernels/few-bits/weights.ts';
import { packedDepth, packHalf, packInt8 } from '../../src/backends/webgpu/kernels/packed/pack.ts';
import { packedColumns, type PackedImage, type PackedOperand, type PackedRight, type PackedSpec, product } from '../../src/backends/webgpu/kernels/packed/spec.ts';
import type { KernelCall } from '../../src/backends/webgpu/lower/call.ts';
import { type DeviceTensor, storedBytes, storedElements, stridesOf, type View } from '../../src/backends/webgpu/lower/tensor.ts';
import type { DeviceProfile } from '../../src/backends/webgpu/profile.ts';
import { type PackedElement, type PackedTactic, VECTOR_ELEMENTS } from '../../src/backends/webgpu/tactics/packed.ts';
import type { Expr } from '../../src/ir/expr.ts';
import { type Grid, quantizedExpr } from '../../src/passes/linear-grid.ts';
import { type Dims, elementCount, float16ToNumber, numberToFloat16 } from '../../src/ir/tensor.ts';
import { eachCoordinate, type ConvCase, conv, convDims } from './references.ts';
import { evaluateExpr } from '../helpers/expr.ts';
import { noise } from './helpers.ts';

type Storage = 'f32' | 'f16' | 'i8';

/** A tensor with the bytes that it begins with. */
export interface Held {
  readonly tensor: DeviceTensor;
  readonly bytes: Uint8Array;
}

let ids = 0;

export function hold(
  dims: Dims,
  storage: Storage,
  layout: DeviceTensor['layout'],
  values?: ArrayLike<number>,
  padding = 0,
  dtype: DeviceTensor['dtype'] = storage === 'i8' ? 'int8' : 'float32',
): Held {
  const tensor: DeviceTensor = { id: ids++, dtype, dims, storage, layout };
  const bytes = new Uint8Array(storedBytes(tensor));
  if (values) {
    const view = viewOfBytes(storage, bytes);
    if (padding !== 0) view.fill(padding);
    const strides = stridesOf(tensor);
    for (const [i, at] of eachCoordinate(dims).entries()) {
      const value = values[i]!;
      view[at.reduce((sum, c, axis) => sum + c * strides[axis]!, 0)] = storage === 'f16' ? numberToFloat16(value) : value;
    }
  }
  return { tensor, bytes };
}

function viewOfBytes(storage: Storage, bytes: Uint8Array): Float32Array | Uint16Array | Int8Array {
  if (storage === 'f32') return new Float32Array(bytes.buffer);
  return storage === 'f16' ? new Uint16Array(bytes.buffer) : new Int8Array(bytes.buffer);
}

/** Logical values, and those of the padding lanes. */
export function readHeld({ dims, storage, layout }: DeviceTensor, bytes: Uint8Array): { values: number[]; padding: number[] } {
  const view = viewOfBytes(storage as Storage, bytes);
  const number = (i: number): number => (storage === 'f16' ? float16ToNumber(view[i]!) : view[i]!);
  const strides = stridesOf({ dims, storage, layout });
  const used = eachCoordinate(dims).map((at) => at.reduce((sum, c, axis) => sum + c * strides[axis]!, 0));
  const taken = new Set(used);
  const rest = Array.from({ length: storedElements({ dims, storage, layout }) }, (_, i) => i).filter((i) => !taken.has(i));
  return { values: used.map(number), padding: rest.map(number) };
}

/** Numbers that the element type holds: halves in [−1, 1), whole numbers in [−127, 127]. */
export function elements(element: PackedElement, count: number, seed: number): number[] {
  return Array.from(noise(count, seed), (value) => (element === 'f16' ? float16ToNumber(numberToFloat16(value)) : Math.round(value * 127)));
}

export interface Problem {
  readonly spec: PackedSpec;
  readonly held: readonly Held[];
  /** The output's real numbers before rounding to its storage, float64. */
  readonly expected: readonly number[];
  /** What the expression quantizes them to. */
  readonly grid?: Grid | undefined;
}

export interface ProblemOptions {
  readonly element: PackedElement;
  readonly output?: Storage;
  readonly bias?: boolean;
  /** A residual of this storage is added. */
  readonly residual?: Storage;
  readonly zeroPoint?: number;
  /** The expression ends in this quantization, as the compiler writes it. */
  readonly grid?: Grid;
  /** GELU by its definition comes before the quantization. */
  readonly gelu?: boolean;
  /** Multiplies the bias and the residual: large values saturate the output. */
  readonly gain?: number;
}

const INT8_SCALE = 0.02;

const constant = (value: number): Expr => ({ kind: 'const', value, dtype: 'float32' });
const binary = (fn: 'add' | 'mul', a: Expr, b: Expr): Expr => ({ kind: 'binary', fn, a, b });
/** x/2 · (1 + erf(x/√2)) */
const geluOf = (x: Expr): Expr => binary('mul', binary('mul', x, constant(0.5)), binary('add', { kind: 'unary', fn: 'erf', x: binary('mul', x, constant(Math.SQRT1_2)) }, constant(1)));

/** Bias, residual, ReLU-free sum: the same in float64 and as a specification. */
function ends(dims: Dims, columns: number, options: ProblemOptions): {
  readonly operands: Pick<PackedSpec, 'bias' | 'columnScale' | 'extras' | 'epilogue'> & { readonly output: Held };
  readonly held: Held[];
  readonly apply: (sum: number, index: number, column: number) => number;
  readonly view: (tensor: DeviceTensor) => View;
} {
  const { element, output = element === 'i8' ? 'i8' : 'f16', gain = 1 } = options;
  const held: Held[] = [];
  const keep = (made: Held): Held => {
    held.push(made);
    return made;
  };
  const channelView: View = { offset: 0, strides: dims.map((_, axis) => (axis === 1 ? 1 : 0)) };
  const biasValues = noise(columns, 11).map((value) => value * gain);
  const scales = noise(columns, 12).map((value) => Math.fround(0.002 + Math.abs(value) * 0.001));
  const bias = options.bias === false ? undefined : keep(hold([columns], 'f32', 'linear', biasValues));
  const columnScale = element === 'i8' ? keep(hold([columns], 'f32', 'linear', scales)) : undefined;
  const residualBytes = options.residual === 'i8';
  const residualValues = options.residual && (residualBytes ? elements('i8', elementCount(dims), 13) : elements('f16', elementCount(dims), 13).map((value) => value * gain));
  const residual = options.residual && keep(hold(dims, options.residual, 'channels-last', residualValues));
  const { grid } = options;
  const out = keep(grid ? hold(dims, 'i8', 'channels-last', undefined, 0, grid.dtype) : hold(dims, output, 'channels-last'));
  const input = (index: number) => ({ kind: 'input', index, dtype: 'float32' }) as const;
  const added: Expr | undefined = residual ? binary('add', input(0), input(1)) : undefined;
  const sum = options.gelu ? geluOf(added ?? input(0)) : added;
  return {
    operands: {
      bias: bias && { tensor: bias.tensor, view: channelView },
      columnScale: columnScale && { tensor: columnScale.tensor, view: channelView },
      extras: residual ? [{ tensor: residual.tensor, view: { offset: 0, strides: stridesOf(residual.tensor) }, quantization: residualBytes ? { scale: 0.05, zeroPoint: 3 } : undefined }] : [],
      epilogue: grid ? quantizedExpr(sum ?? input(0), grid) : sum,
      output: out,
    },
    held,
    apply: (sum, index, column) => {
      const scaled = element === 'i8' ? sum * scales[column]! : sum;
      const biased = scaled + (bias ? Math.fround(biasValues[column]!) : 0);
      const other = residualValues ? (residualBytes ? (residualValues[index]! - 3) * 0.05 : residualValues[index]!) : 0;
      return options.gelu ? evaluateExpr(geluOf(input(0)), [biased + other]) : biased + other;
    },
    view: (tensor) => ({ offset: 0, strides: stridesOf(tensor) }),
  };
}

const quantizationOf = (storage: Storage, zeroPoint: number) => (storage === 'i8' ? { scale: INT8_SCALE, zeroPoint } : undefined);

/** A convolution; int8 inputs have the zero point 5, which the bias accounts for as in production. */
export function convProblem(test: ConvCase, options: ProblemOptions): Problem {
  const { element, zeroPoint = 0 } = options;
  const lanes = VECTOR_ELEMENTS[element];
  const dims = convDims(test);
  const { group } = test;
  const [inputs, outputs, taps] = [test.w[1]!, test.w[0]! / group, product(test.w.slice(2))];
  const xValues = elements(element, elementCount(test.x), 1);
  const wValues = elements(element, elementCount(test.w), 2);
  const x = hold(test.x, element, 'channels-last', xValues, zeroPoint);
  const shape = { groups: group, taps, channels: inputs, columns: outputs };
  const at = (g: number, tap: number, channel: number, column: number): number => wValues[((g * outputs + column) * inputs + channel) * taps + tap]!;
  const packed = element === 'f16' ? packHalf(shape, at) : packInt8(shape, at);
  const depth = packedDepth(shape, element);
  const w: Held = {
    tensor: { id: ids++, dtype: element === 'f16' ? 'float16' : 'int8', dims: [group * depth, packedColumns(outputs) * lanes], storage: element, layout: 'linear' },
    bytes: new Uint8Array(packed.buffer),
  };
  const end = ends(dims, test.w[0]!, options);
  const grouped = ({ offset, strides: [image, channel, ...spatial] }: View): View => ({ offset, strides: [channel! * outputs, image!, ...spatial, channel!] });
  const place = (operand: PackedOperand): PackedOperand => ({ ...operand, view: grouped(operand.view) });
  const strides = stridesOf(x.tensor).map((stride) => stride / lanes);
  const channels = Math.ceil(inputs / lanes);
  const image: PackedImage = {
    kind: 'image',
    tensor: x.tensor,
    offset: 0,
    imageStride: strides[0]!,
    spatialStrides: strides.slice(2),
    groupStride: group === 1 ? 0 : channels,
    images: test.x[0]!,
    inputSpatial: test.x.slice(2),
    outputSpatial: dims.slice(2),
    kernel: test.w.slice(2),
    stride: test.strides,
    dilation: test.dilations,
    padBegin: test.pads.slice(0, test.strides.length),
    channels,
    pad: (zeroPoint & 0xff) * 0x01010101,
  };
  const { bias, columnScale, extras, output, epilogue } = end.operands;
  const spec: PackedSpec = {
    label: 'test',
    element,
    batch: [group],
    rows: [test.x[0]!, ...dims.slice(2)],
    columns: outputs,
    storedColumns: group === 1 ? Math.ceil(outputs / (16 / (output.tensor.storage === 'f32' ? 4 : output.tensor.storage === 'f16' ? 2 : 1))) * (16 / (output.tensor.storage === 'f32' ? 4 : output.tensor.storage === 'f16' ? 2 : 1)) : outputs,
    depth,
    scale: 1,
    biasScale: 1,
    a: image,
    b: { kind: 'packed', tensor: w.tensor, columns: packedColumns(outputs), grouped: group > 1 },
    bias: bias && place(bias),
    columnScale: columnScale && place(columnScale),
    extras: extras.map(place),
    epilogue,
    output: place({ tensor: output.tensor, view: { offset: 0, strides: stridesOf(output.tensor) }, quantization: options.grid ? undefined : quantizationOf(output.tensor.storage as Storage, zeroPoint) }),
  };
  // Σ x·w over the window, taps outside holding the zero point: as the kernel sums, before the bias takes the zero point away.
  const shifted = conv(test, xValues.map((value) => value - zeroPoint), wValues);
  const weightSums = Array.from({ length: test.w[0]! }, (_, o) => wValues.slice(o * inputs * taps, (o + 1) * inputs * taps).reduce((all, value) => all + value, 0));
  const pixels = product(dims.slice(2));
  const expected = shifted.map((sum, i) => {
    const column = Math.floor(i / pixels) % dims[1]!;
    return end.apply(sum + zeroPoint * weightSums[column]!, i, column);
  });
  return { spec, held: [x, w, ...end.held], expected, grid: options.grid };
}

/** A convolution of single pixels, [images, channels, height, width], whose image is read as the matrix that it is. */
export function pointwiseProblem(x: readonly [number, number, number, number], outputs: number, options: ProblemOptions): Problem {
  const problem = convProblem({ x, w: [outputs, x[1], 1, 1], strides: [1, 1], pads: [0, 0, 0, 0], dilations: [1, 1], group: 1 }, options);
  const { tensor, offset, imageStride, spatialStrides } = problem.spec.a as PackedImage;
  return { ...problem, spec: { ...problem.spec, a: { kind: 'matrix', tensor, view: { offset, strides: [0, imageStride, ...spatialStrides] } } } };
}

/** A first convolution with an even stride; its pads keep the filter centred. */
export interface Stem {
  readonly images: number;
  /** Up to four. */
  readonly inputs: number;
  readonly height: number;
  readonly width: number;
  readonly outputs: number;
  readonly kernel: number;
  readonly stride: number;
}

/**
 * A convolution of few channels as one of single columns over overlapping rows: the image lies zero-padded in pixels of four halves, or of
 * four bytes of a row and four of the next, where an output column's run of pixels begins stride / 2 vectors after its neighbour's.
 */
export function stemProblem({ images, inputs, height, width, outputs, kernel, stride }: Stem, options: ProblemOptions): Problem {
  const { element } = options;
  const pad = (kernel - 1) >> 1;
  const test: ConvCase = { x: [images, inputs, height, width], w: [outputs, inputs, kernel, kernel], strides: [stride, stride], pads: [pad, pad, pad, pad], dilations: [1, 1], group: 1 };
  const dims = convDims(test);
  const [outHeight, outWidth] = dims.slice(2) as [number, number];
  const [xValues, wValues] = [elements(element, elementCount(test.x), 1), elements(element, elementCount(test.w), 2)];
  const together = element === 'i8' ? 2 : 1;
  const [taps, channels] = [Math.ceil(kernel / together), Math.ceil(kernel / 2)];
  const rows = ((outHeight - 1) * stride) / together + taps;
  const rowVectors = ((outWidth - 1) * stride) / 2 + channels;
  const values = new Float64Array(images * rows * rowVectors * VECTOR_ELEMENTS[element]);
  for (const [i, [image, channel, y, x]] of eachCoordinate(test.x).entries()) {
    const [row, column] = [y! + pad, x! + pad];
    // Pixels that no window reaches are not there.
    if (row >= rows * together || column >= rowVectors * 2) continue;
    values[(((image! * rows + Math.floor(row / together)) * rowVectors * 2 + column) * together + (row % together)) * 4 + channel!] = xValues[i]!;
  }
  const x = hold([images, rows, rowVectors * 2, together * 4], element, 'linear', values);
  const shape = { groups: 1, taps, channels: channels * VECTOR_ELEMENTS[element], columns: outputs };
  const at = (_: number, tap: number, position: number, column: number): number => {
    const [pixel, row, channel] = [Math.floor(position / (4 * together)), tap * together + (Math.floor(position / 4) % together), position % 4];
    return pixel < kernel && row < kernel && channel < inputs ? wValues[((column * inputs + channel) * kernel + row) * kernel + pixel]! : 0;
  };
  const w: Held = {
    tensor: { id: ids++, dtype: element === 'f16' ? 'float16' : 'int8', dims: [packedDepth(shape, element), packedColumns(outputs) * VECTOR_ELEMENTS[element]], storage: element, layout: 'linear' },
    bytes: new Uint8Array((element === 'f16' ? packHalf(shape, at) : packInt8(shape, at)).buffer),
  };
  const end = ends(dims, outputs, options);
  const place = (operand: PackedOperand): PackedOperand => {
    const [image, channel, ...spatial] = operand.view.strides;
    return { ...operand, view: { offset: 0, strides: [0, image!, ...spatial, channel!] } };
  };
  const { bias, columnScale, extras, output, epilogue } = end.operands;
  const spec: PackedSpec = {
    label: 'stem',
    element,
    batch: [1],
    rows: [images, outHeight, outWidth],
    columns: outputs,
    storedColumns: Math.ceil(outputs / VECTOR_ELEMENTS[element]) * VECTOR_ELEMENTS[element],
    depth: taps * channels,
    scale: 1,
    biasScale: 1,
    a: {
      kind: 'image', tensor: x.tensor, offset: 0, imageStride: rows * rowVectors, spatialStrides: [rowVectors, stride / 2], groupStride: 0, images,
      inputSpatial: [rows, outWidth], outputSpatial: [outHeight, outWidth], kernel: [taps, 1], stride: [stride / together, 1], dilation: [1, 1], padBegin: [0, 0], channels, pad: 0,
    },
    b: { kind: 'packed', tensor: w.tensor, columns: packedColumns(outputs), grouped: false },
    bias: bias && place(bias),
    columnScale: columnScale && place(columnScale),
    extras: extras.map(place),
    epilogue,
    output: place({ tensor: output.tensor, view: { offset: 0, strides: stridesOf(output.tensor) }, quantization: quantizationOf(output.tensor.storage as Storage, 0) }),
  };
  const pixels = outHeight * outWidth;
  const expected = conv(test, xValues, wValues).map((sum, i) => end.apply(sum, i, Math.floor(i / pixels) % outputs));
  return { spec, held: [x, w, ...end.held], expected };
}

/** A product whose left rows have factors by image, y = half(x · s) · B: one product saturates. */
export function scaledProblem(images: number, pixels: number, n: number, k: number): Problem {
  const half = (value: number): number => float16ToNumber(numberToFloat16(Math.max(-65504, Math.min(65504, value))));
  const [values, factors, weights] = [elements('f16', images * pixels * k, 1), elements('f16', images * k, 3), elements('f16', n * k, 2)];
  [values[k - 1], factors[k - 1]] = [-300, 300];
  const [a, s, b, out] = [hold([images, pixels, k], 'f16', 'linear', values), hold([images, k], 'f16', 'linear', factors), hold([n, k], 'f16', 'linear', weights), hold([images * pixels, n], 'f32', 'linear')];
  const vectors = k / 8;
  const spec: PackedSpec = {
    label: 'scaled',
    element: 'f16',
    batch: [1],
    rows: [images, pixels],
    columns: n,
    storedColumns: n,
    depth: vectors,
    scale: 1,
    biasScale: 1,
    a: { kind: 'matrix', tensor: a.tensor, view: { offset: 0, strides: [0, pixels * vectors, vectors] } },
    scaleOfA: { kind: 'matrix', tensor: s.tensor, view: { offset: 0, strides: [0, vectors, 0] } },
    b: { kind: 'rows-k-contiguous', tensor: b.tensor, view: { offset: 0, strides: [0, vectors] } },
    bias: undefined,
    extras: [],
    epilogue: undefined,
    output: { tensor: out.tensor, view: { offset: 0, strides: [0, pixels * n, n, 1] } },
  };
  const expected = Array.from({ length: images * pixels * n }, (_, i) => {
    const [row, column] = [Math.floor(i / n), i % n];
    let sum = 0;
    for (let d = 0; d < k; d++) sum += half(values[row * k + d]! * factors[Math.floor(row / pixels) * k + d]!) * weights[column * k + d]!;
    return sum;
  });
  return { spec, held: [a, s, b, out], expected };
}

/** Sums over whole columns of rows, and of squares, as kernels leave them: [groups, rows, 2]. */
export function rowSumsOf(values: readonly number[], count: number, columns: number): number[] {
  const rows = values.length / count;
  return Array.from({ length: count / columns }, (_, group) => group).flatMap((group) =>
    Array.from({ length: rows }, (_, row) => values.slice(row * count + group * columns, row * count + (group + 1) * columns))
      .flatMap((own) => [own.reduce((sum, value) => sum + value, 0), own.reduce((sum, value) => sum + value * value, 0)]));
}

/** A problem whose results, which are halves, leave with sums of so many columns of their rows. */
export function summedProblem(problem: Problem, columns: number): Problem & { readonly rowSums: Held } {
  const { spec } = problem;
  const rowSums = hold([spec.columns / columns, product(spec.rows), 2], 'f32', 'linear');
  return { ...problem, spec: { ...spec, rowSums: { tensor: rowSums.tensor, columns } }, held: [...problem.held, rowSums], rowSums };
}

/**
 * A product whose left rows are normalized, y = x̂ · B: rows have means far from 0 and deviations of their own. The moments are an operand that
 * is written. With `columns`, the sums of so many columns of the rows are known.
 */
export function normalizedProblem(m: number, n: number, k: number, centers: boolean, columns?: number): Problem & { readonly moments: Held; readonly pairs: readonly number[] } {
  const values = elements('f16', m * k, 1).map((value, i) => float16ToNumber(numberToFloat16(value * (1 + (Math.floor(i / k) % 3)) + 1.5 * ((Math.floor(i / k) % 4) - 1))));
  const weights = elements('f16', n * k, 2);
  const sums = Array.from({ length: n }, (_, column) => weights.slice(column * k, (column + 1) * k).reduce((sum, value) => sum + value, 0));
  const bias = noise(n, 5);
  const epsilon = 1e-3;
  const pairs = Array.from({ length: m }, (_, row) => {
    const own = values.slice(row * k, (row + 1) * k);
    const mean = own.reduce((sum, value) => sum + value, 0) / k;
    const center = centers ? mean : 0;
    return [mean, 1 / Math.sqrt(own.reduce((sum, value) => sum + (value - center) ** 2, 0) / k + epsilon)] as const;
  });
  const [a, b, c, s] = [hold([m, k], 'f16', 'linear', values), hold([n, k], 'f16', 'linear', weights), hold([n], 'f32', 'linear', bias), hold([n], 'f32', 'linear', sums)];
  const [moments, out] = [hold([m, 2], 'f32', 'linear'), hold([m, n], 'f16', 'linear')];
  const rowSums = columns && hold([k / columns, m, 2], 'f32', 'linear', rowSumsOf(values, k, columns));
  const byColumn: View = { offset: 0, strides: [0, 0, 1] };
  const spec: PackedSpec = {
    label: 'normalized',
    element: 'f16',
    batch: [1],
    rows: [m],
    columns: n,
    storedColumns: n,
    depth: k / 8,
    scale: 0.5,
    biasScale: 1,
    a: { kind: 'matrix', tensor: a.tensor, view: { offset: 0, strides: [0, k / 8] } },
    b: { kind: 'rows-k-contiguous', tensor: b.tensor, view: { offset: 0, strides: [0, k / 8] } },
    bias: { tensor: c.tensor, view: byColumn },
    normalization: { epsilon, count: k, sums: centers ? { tensor: s.tensor, view: byColumn } : undefined, rowSums: rowSums ? { tensor: rowSums.tensor, columns: columns! } : undefined, moments: moments.tensor },
    extras: [],
    epilogue: undefined,
    output: { tensor: out.tensor, view: { offset: 0, strides: [0, n, 1] } },
  };
  const expected = Array.from({ length: m * n }, (_, i) => {
    const [row, column] = [Math.floor(i / n), i % n];
    const [mean, factor] = pairs[row]!;
    let sum = 0;
    for (let d = 0; d < k; d++) sum += (values[row * k + d]! - (centers ? mean : 0)) * factor * weights[column * k + d]!;
    return 0.5 * sum + Math.fround(bias[column]!);
  });
  return { spec, held: [a, b, c, s, ...(rowSums ? [rowSums] : []), moments, out], expected, moments, pairs: pairs.flat() };
}

/** A batched product of activations: B is [n, k] or [k, n]. */
export function matmulProblem(batch: number, m: number, n: number, k: number, kind: 'rows-k-contiguous' | 'columns-contiguous', options: ProblemOptions): Problem {
  const { element } = options;
  const lanes = VECTOR_ELEMENTS[element];
  const stored = Math.ceil(k / lanes) * lanes;
  const [aValues, bValues] = [elements(element, batch * m * k, 1), elements(element, batch * n * k, 2)];
  const padded = (values: readonly number[], rows: number): number[] =>
    Array.from({ length: rows * stored }, (_, i) => (i % stored < k ? values[Math.floor(i / stored) * k + (i % stored)]! : 0));
  const a = hold([batch, m, stored], element, 'linear', padded(aValues, batch * m));
  const columnsFirst = kind === 'columns-contiguous';
  const across = Math.ceil(n / lanes) * lanes;
  const b = columnsFirst
    ? hold([batch, k, across], element, 'linear', Array.from({ length: batch * k * across }, (_, i) => {
        const [column, depth, image] = [i % across, Math.floor(i / across) % k, Math.floor(i / across / k)];
        return column < n ? bValues[(image * n + column) * k + depth]! : 0;
      }))
    : hold([batch, n, stored], element, 'linear', padded(bValues, batch * n));
  const out = hold([batch, m, n], 'f32', 'linear');
  const right: PackedRight = columnsFirst
    ? { kind: 'columns-contiguous', tensor: b.tensor, view: { offset: 0, strides: [(k * across) / 8, across / 8] }, depth: k }
    : { kind: 'rows-k-contiguous', tensor: b.tensor, view: { offset: 0, strides: [(n * stored) / lanes, stored / lanes] } };
  const spec: PackedSpec = {
    label: 'test',
    element,
    batch: [batch],
    rows: [m],
    columns: n,
    storedColumns: n,
    depth: stored / lanes,
    scale: 0.5,
    biasScale: 1,
    a: { kind: 'matrix', tensor: a.tensor, view: { offset: 0, strides: [(m * stored) / lanes, stored / lanes] } },
    b: right,
    bias: undefined,
    extras: [],
    epilogue: undefined,
    output: { tensor: out.tensor, view: { offset: 0, strides: [m * n, n, 1] } },
  };
  const expected = Array.from({ length: batch * m * n }, (_, i) => {
    const [column, row, image] = [i % n, Math.floor(i / n) % m, Math.floor(i / n / m)];
    let sum = 0;
    for (let d = 0; d < k; d++) sum += aValues[(image * m + row) * k + d]! * bValues[(image * n + column) * k + d]!;
    return 0.5 * sum;
  });
  return { spec, held: [a, b, out], expected };
}

/** A product with weights of few bits, their scales as halves or floats; `zeros`: a zero point for each block and column, or one for all. */
export function fewBitsProblem(
  m: number, n: number, k: number,
  { bits, block = k, scales, zeros }: { readonly bits: 2 | 4 | 8; readonly block?: number; readonly scales: 'f16' | 'f32'; readonly zeros: boolean },
): Problem {
  const random = (count: number, seed: number, below: number): number[] => Array.from(noise(count, seed), (value) => Math.floor(((value + 1) / 2) * below));
  const blocks = Math.ceil(k / block);
  const across = Math.ceil(n / 4) * 4;
  const a = hold([m, k], 'f16', 'linear', elements('f16', m * k, 1));
  const aValues = elements('f16', m * k, 1);
  const integers = random(k * n, 2, 2 ** bits);
  // Scales that halves hold, and weights that they round.
  const steps = random(blocks * across, 3, 1024).map((step) => (1024 + step) / 2 ** 19);
  const points = random(blocks * across, 4, 2 ** bits);
  const shape = { bits, depth: k, columns: n };
  const bytesOf = (dims: Dims, given: Uint8Array): Held => {
    const tensor: DeviceTensor = { id: ids++, dtype: 'uint8', dims, storage: 'u8', layout: 'linear' };
    const bytes = new Uint8Array(storedBytes(tensor));
    bytes.set(given);
    return { tensor, bytes };
  };
  const words = bytesOf([packedVectors(shape), across, 4], packWords(shape, (depth, column) => integers[depth * n + column]!));
  const scale = hold([blocks, across], scales, 'linear', steps);
  const zero = zeros ? bytesOf([blocks, across], Uint8Array.from(points)) : undefined;
  const out = hold([m, n], 'f32', 'linear');
  const spec: PackedSpec = {
    label: 'few bits', element: 'f16', batch: [1], rows: [m], columns: n, storedColumns: n, depth: k / 8, scale: 1, biasScale: 1,
    a: { kind: 'matrix', tensor: a.tensor, view: { offset: 0, strides: [0, k / 8] } },
    b: { kind: 'few-bits', bits, depth: k, columns: n, block, words: words.tensor, scales: scale.tensor, zeros: zero ? zero.tensor : 3 },
    bias: undefined, extras: [], epilogue: undefined,
    output: { tensor: out.tensor, view: { offset: 0, strides: [0, n, 1] } },
  };
  const weight = (d: number, column: number): number => {
    const at = Math.floor(d / block) * across + column;
    return float16ToNumber(numberToFloat16((integers[d * n + column]! - (zeros ? points[at]! : 3)) * steps[at]!));
  };
  const expected = Array.from({ length: m * n }, (_, i) => {
    let sum = 0;
    for (let d = 0; d < k; d++) sum += aValues[Math.floor(i / n) * k + d]! * weight(d, i % n);
    return sum;
  });
  return { spec, held: [a, words, scale, ...(zero ? [zero] : []), out], expected };
}

/** The kernels with the tensor between them, where there is one. */
export function kernelsOf(problem: Problem, tactic: PackedTactic, profile: DeviceProfile): { calls: KernelCall[]; held: Held[] } {
  const scratch: Held[] = [];
  const calls = packedKernels(problem.spec, tactic, profile, (count) => {
    const made = hold([count], 'f32', 'linear');
    scratch.push(made);
    return made.tensor;
  });
  return { calls, held: [...problem.held, ...scratch] };
}

/** Runs the kernels; gives the output's bytes. */
export async function runKernels(device: GPUDevice, problem: Problem, tactic: PackedTactic, profile: DeviceProfile): Promise<Uint8Array> {
  const { calls, held } = kernelsOf(problem, tactic, profile);
  return runCalls(device, calls, held, problem.spec.output.tensor);
}

const pipelines = new WeakMap<GPUDevice, Map<string, GPUComputePipeline>>();

/** Equal code is compiled once: SwiftShader takes tenths of a second for a kernel. */
async function pipelineOf(device: GPUDevice, code: string): Promise<GPUComputePipeline> {
  const known = pipelines.get(device) ?? new Map<string, GPUComputePipeline>();
  pipelines.set(device, known);
  const pipeline = known.get(code) ?? (await device.createComputePipelineAsync({ layout: 'auto', compute: { module: device.createShaderModule({ code }), entryPoint: 'main' } }));
  known.set(code, pipeline);
  return pipeline;
}

/** Runs kernels on memory that begins with the given bytes; gives those of one tensor afterwards. */
export async function runCalls(device: GPUDevice, calls: readonly KernelCall[], held: readonly Held[], output: DeviceTensor): Promise<Uint8Array> {
  const usage = 0x80 | 0x4 | 0x8;
  const buffers = new Map(held.map(({ tensor, bytes }) => {
    const buffer = device.createBuffer({ size: bytes.byteLength, usage });
    device.queue.writeBuffer(buffer, 0, bytes as Uint8Array<ArrayBuffer>);
    return [tensor.id, buffer] as const;
  }));
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  for (const { source, operands, workgroups } of calls) {
    const pipeline = await pipelineOf(device, source.wgsl);
    const entries = operands.map((tensor, binding) => ({ binding, resource: { buffer: buffers.get(tensor.id)! } }));
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
    pass.dispatchWorkgroups(...workgroups);
  }
  pass.end();
  const out = buffers.get(output.id)!;
  const readback = device.createBuffer({ size: out.size, usage: 0x1 | 0x8 });
  encoder.copyBufferToBuffer(out, 0, readback, 0, out.size);
  device.queue.submit([encoder.finish()]);
  await readback.mapAsync(0x1);
  const bytes = new Uint8Array(readback.getMappedRange().slice(0));
  for (const buffer of [...buffers.values(), readback]) buffer.destroy();
  return bytes;
}

/** What the output makes of a real number: an element as it lies in memory. */
export function stored(value: number, { spec, grid }: Problem): number {
  const { tensor, quantization } = spec.output;
  if (grid) {
    const [low, high] = grid.dtype === 'int8' ? [-128, 127] : [0, 255];
    return Math.max(low, Math.min(high, roundEven(value / grid.scale) + grid.zero)) - (grid.dtype === 'int8' ? 0 : 128);
  }
  if (tensor.storage === 'f16') return float16ToNumber(numberToFloat16(Math.max(-65504, Math.min(65504, value))));
  if (!quantization) return value;
  return Math.max(-128, Math.min(127, roundEven(value / quantization.scale) + quantization.zeroPoint));
}

function roundEven(value: number): number {
  const floor = Math.floor(value);
  return value - floor === 0.5 ? floor + (floor % 2 === 0 ? 0 : 1) : Math.round(value);
}

export { columnWidth, wideTensors };
