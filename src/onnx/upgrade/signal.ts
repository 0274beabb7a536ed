/**
 * Spectra: windows and mel weights of known sizes are constants, transforms of known lengths are products with a constant matrix. A transform
 * of a frame has hundreds of points, where a product on wide units is no slower than the steps of an FFT.
 */
import { elementCount, fromNumbers, toNumbers, type DType } from '../../ir/tensor.ts';
import { NotStaticError, ShapeError, UnsupportedError } from '../../ops/def.ts';
import { dtypeOfOnnx, ONNX_DTYPE } from '../../ops/specs.ts';
import type { Scope, SourceNode } from '../scope.ts';
import { inputOf, int64Input, normalizeAxis, numberAttribute, type Rule } from './rule.ts';

/** 32 MiB of float32: a complex transform of 1,448 points. Where a matrix would have more, the op stays as it is. */
const MOST_ELEMENTS = 2 ** 23;

function checkSize(what: string, elements: number): void {
  if (elements > MOST_ELEMENTS) throw new UnsupportedError(`${what} would be a constant of ${elements} elements`);
}

/** A scalar that sizes depend on. Throws NotStaticError where the data decide it. */
function sizeOf(node: SourceNode, scope: Scope, index: number, least = 1): number {
  const size = scope.known(inputOf(node, index))?.[0];
  if (size === undefined) throw new NotStaticError(`its size, input ${index}, depends on data`);
  if (!Number.isSafeInteger(size) || size < least) throw new ShapeError(`${size} is not a size (input ${index})`);
  return size;
}

function givenType(node: SourceNode): DType {
  const number = numberAttribute(node, 'output_datatype', ONNX_DTYPE.float32);
  const dtype = dtypeOfOnnx(number);
  if (!dtype) throw new UnsupportedError(`output_datatype ${number} is not supported`);
  return dtype;
}

/** Σ factors[i] · cos(2πi·n/N), where N is the size, or one less for a window that is symmetric. */
function cosineWindow(factors: readonly number[]): Rule {
  return (node, scope) => {
    const size = sizeOf(node, scope, 0, 0);
    checkSize('the window', size);
    const period = size - (numberAttribute(node, 'periodic', 1) !== 0 ? 0 : 1);
    const at = (n: number): number => factors.reduce((sum, factor, i) => sum + factor * Math.cos((2 * Math.PI * i * n) / period), 0);
    scope.addConstant(fromNumbers(givenType(node), [size], Array.from({ length: size }, (_, n) => at(n))), node.outputs[0]);
  };
}

/** Triangles over the bins of a spectrum, evenly spaced in mel: [bins, bands]. */
const melWeightMatrix: Rule = (node, scope) => {
  const [bands, length, rate] = [0, 1, 2].map((index) => sizeOf(node, scope, index)) as [number, number, number];
  const [lowest, highest] = [3, 4].map((index) => {
    const edge = scope.constant(inputOf(node, index));
    if (!edge) throw new NotStaticError(`an edge of its bands, input ${index}, depends on data`);
    return 2595 * Math.log10(1 + toNumbers(edge)[0]! / 700);
  }) as [number, number];
  const bins = Math.floor(length / 2) + 1;
  checkSize('the matrix', bins * bands);
  const step = (highest - lowest) / (bands + 2);
  const binOf = (edge: number): number => Math.floor(((length + 1) * 700 * (10 ** ((edge * step + lowest) / 2595) - 1)) / rate);
  const edges = Array.from({ length: bands + 2 }, (_, edge) => binOf(edge));
  if (!edges.every((edge) => edge >= 0 && edge < bins)) throw new ShapeError(`bands up to bin ${Math.max(...edges)} of a spectrum of ${bins}`);
  const weight = (bin: number, band: number): number => {
    const [left, centre, right] = edges.slice(band, band + 3) as [number, number, number];
    if (bin >= centre) return bin < right ? (right - bin) / (right - centre) : Number(bin === centre);
    return bin >= left ? (bin - left) / (centre - left) : 0;
  };
  const weights = Array.from({ length: bins * bands }, (_, at) => weight(Math.floor(at / bands), at % bands));
  scope.addConstant(fromNumbers(givenType(node), [bins, bands], weights), node.outputs[0]);
};

/** A transform of `length` points, of which the first `given` may be other than zero, to the first `bins` frequencies; an inverse one the other way round. */
interface Transform {
  readonly length: number;
  readonly given: number;
  readonly bins: number;
  /** 1 for real numbers, 2 for complex ones. */
  readonly parts: number;
  readonly resultParts: number;
  readonly inverse: boolean;
}

/** The frequencies of `length` real points that say all others: these are their conjugates. */
const oneSide = (length: number): number => Math.floor(length / 2) + 1;

function transformOf(length: number, given: number, parts: number, onesided: boolean, inverse: boolean): Transform {
  if (parts !== 1 && parts !== 2) throw new ShapeError(`numbers of ${parts} parts are neither real nor complex`);
  if (onesided && inverse !== (parts === 2)) throw new UnsupportedError(inverse ? 'one side of a spectrum of real numbers is not supported' : 'one side of the spectrum of complex numbers is not supported');
  const bins = onesided && !inverse ? oneSide(length) : length;
  const resultParts = onesided && inverse ? 1 : 2;
  checkSize(`a transform of ${length} points`, given * parts * bins * resultParts);
  return { length, given, bins, parts, resultParts, inverse };
}

/**
 * What part `from` of point `t` adds to part `to` of frequency `k`: parts of exp(∓2πi·kt/length) or, from the imaginary part, of i times that. Where
 * one side of a spectrum becomes real numbers, each frequency but those that are their own conjugates stands for two.
 */
function coefficient({ length, inverse, resultParts }: Transform, t: number, from: number, k: number, to: number): number {
  if (t >= (resultParts === 1 ? oneSide(length) : length)) return 0;
  const angle = (2 * Math.PI * ((k * t) % length)) / length;
  const sine = inverse ? Math.sin(angle) : -Math.sin(angle);
  const value = from === to ? Math.cos(angle) : from < to ? sine : -sine;
  const times = resultParts === 2 || t === 0 || 2 * t === length ? 1 : 2;
  return inverse ? (times * value) / length : value;
}

/** The last axis but one, or `axis`, transformed: points of all other axes are rows of one product. */
const dft: Rule = (node, scope) => {
  const data = inputOf(node, 0);
  const { dtype, dims } = scope.type(data);
  const rank = dims.length;
  const axis = normalizeAxis(node.opset < 20 ? numberAttribute(node, 'axis', 1) : node.inputs[2] ? axisOf(node, scope) : -2, rank);
  if (axis > rank - 2) throw new ShapeError(`axis ${axis} of ${rank} dimensions, the last of which is not a signal`);
  const [given, parts] = [dims[axis]!, dims[rank - 1]!];
  const [onesided, inverse] = ['onesided', 'inverse'].map((name) => numberAttribute(node, name, 0) !== 0) as [boolean, boolean];
  const transform = transformOf(node.inputs[1] ? sizeOf(node, scope, 1) : onesided && inverse ? Math.max(1, 2 * (given - 1)) : given, given, parts, onesided, inverse);
  const { bins, resultParts } = transform;
  const [width, columns] = [given * parts, bins * resultParts];
  const matrix = Array.from({ length: width * columns }, (_, at) => {
    const [row, column] = [Math.floor(at / columns), at % columns];
    return coefficient(transform, Math.floor(row / parts), row % parts, Math.floor(column / resultParts), column % resultParts);
  });
  const order = [...dims.keys()].filter((at) => at !== axis && at !== rank - 1);
  const perm = [...order, axis, rank - 1];
  const others = order.map((at) => dims[at]!);
  const isLast = axis === rank - 2;
  const [last] = isLast ? [data] : scope.emit(node, 'Transpose', [data], { perm });
  const [rows] = scope.emit(node, 'Reshape', [last!, int64Input(scope, [elementCount(others), width])], { allowzero: 1 });
  const [product] = scope.emit(node, 'MatMul', [rows!, scope.addConstant(fromNumbers(dtype, [width, columns], matrix))], {});
  const [spectrum] = scope.emit(node, 'Reshape', [product!, int64Input(scope, [...others, bins, resultParts])], { allowzero: 1 }, isLast ? node.outputs : undefined);
  if (!isLast) scope.emit(node, 'Transpose', [spectrum!], { perm: perm.map((_, at) => perm.indexOf(at)) }, node.outputs);
};

function axisOf(node: SourceNode, scope: Scope): number {
  const axis = scope.known(inputOf(node, 2))?.[0];
  if (axis === undefined) throw new NotStaticError('its axis depends on data');
  return axis;
}

/** Frames of a signal, each transformed: a convolution whose filters are the window times the waves, in steps of a frame. */
const stft: Rule = (node, scope) => {
  const signal = inputOf(node, 0);
  const { dtype, dims } = scope.type(signal);
  const [batch, samples, parts = 1] = dims as readonly [number, number, number?];
  if (dims.length < 2 || dims.length > 3) throw new ShapeError(`a signal of ${dims.length} dimensions`);
  const window = node.inputs[2] ?? '';
  const step = sizeOf(node, scope, 1);
  const length = window === '' || node.inputs[3] ? sizeOf(node, scope, 3) : scope.type(window).dims[0]!;
  if (window !== '' && scope.type(window).dims.join() !== String(length)) throw new ShapeError(`a window of [${scope.type(window).dims.join(',')}] for frames of ${length}`);
  if (length > samples) throw new ShapeError(`frames of ${length} in a signal of ${samples}`);
  const transform = transformOf(length, length, parts, numberAttribute(node, 'onesided', 1) !== 0, false);
  const waves = Array.from({ length: transform.bins * 2 * parts * length }, (_, at) => {
    const [filter, rest] = [Math.floor(at / (parts * length)), at % (parts * length)];
    return coefficient(transform, rest % length, Math.floor(rest / length), filter >> 1, filter & 1);
  });
  let filters = scope.addConstant(fromNumbers(dtype, [transform.bins * 2, parts, length], waves));
  if (window !== '') [filters] = scope.emit(node, 'Mul', [filters, window], {}) as [string];
  const [channels] = parts === 1 ? scope.emit(node, 'Reshape', [signal, int64Input(scope, [batch, 1, samples])], { allowzero: 1 }) : scope.emit(node, 'Transpose', [signal], { perm: [0, 2, 1] });
  const [framed] = scope.emit(node, 'Conv', [channels!, filters], { strides: [step], kernel_shape: [length] });
  const [byFrame] = scope.emit(node, 'Transpose', [framed!], { perm: [0, 2, 1] });
  const frames = Math.floor((samples - length) / step) + 1;
  scope.emit(node, 'Reshape', [byFrame!, int64Input(scope, [batch, frames, transform.bins, 2])], { allowzero: 1 }, node.outputs);
};

export const SIGNAL_RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  ['HannWindow', cosineWindow([0.5, -0.5])],
  ['HammingWindow', cosineWindow([25 / 46, -21 / 46])],
  ['BlackmanWindow', cosineWindow([0.42, -0.5, 0.08])],
  ['MelWeightMatrix', melWeightMatrix],
  ['DFT', dft],
  ['STFT', stft],
]);
