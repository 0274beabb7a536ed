/**
 * What reads and makes values of few bits (ir/few-bits.ts): casts, and linear quantization, taken apart so that the only op that knows these
 * types is Cast.
 *
 * Floats of few bits are a division or a product beside a cast; no kernel multiplies them, and a pass that looks for integers finds none. Integers of few
 * bits are integers of 8 bits, clipped; constants of them are widened, for the kernels that multiply integers or read them packed.
 */
import { decodeFewBits, encodeFewBits, type FewBitsFloat, type FewBitsInteger, isFewBits, isFewBitsFloat, isFewBitsInteger, type RoundMode } from '../../ir/few-bits.ts';
import { elementCount, fromNumbers, type DType, type Tensor, toNumbers } from '../../ir/tensor.ts';
import { dequantized, type ScaleGrid, scaleIndex, valuesOf } from '../../ops/block-scales.ts';
import { NotStaticError, ShapeError, UnsupportedError } from '../../ops/def.ts';
import { isInteger } from '../../ops/dtypes.ts';
import { dtypeOfOnnx, ONNX_DTYPE } from '../../ops/specs.ts';
import type { Scope, SourceNode } from '../scope.ts';
import { attributesOf, emitAs, inputOf, int64Input, normalizeAxis, numberAttribute, scalarInput, type Rule } from './rule.ts';

/** Integers that hold those of few bits, and how far these go. */
const WIDE = {
  int4: { dtype: 'int8', range: [-8, 7] },
  uint4: { dtype: 'uint8', range: [0, 15] },
  int2: { dtype: 'int8', range: [-2, 1] },
  uint2: { dtype: 'uint8', range: [0, 3] },
} as const satisfies Record<FewBitsInteger, { readonly dtype: DType; readonly range: readonly [number, number] }>;

/** Types whose numbers an f32 holds, so that a cast by way of it rounds once. */
const HELD_BY_FLOAT32: ReadonlySet<DType> = new Set<DType>(['float32', 'float16', 'bfloat16', 'bool', 'int8', 'uint8', 'int16', 'uint16']);
/** What these lose in an f32 lies beyond all floats of 8 bits but powers of two. */
const LARGE_INTEGERS: ReadonlySet<DType> = new Set<DType>(['int32', 'uint32', 'int64', 'uint64']);

/** Casts `id`; a constant becomes one. Throws UnsupportedError for casts that would round twice. */
function cast(node: SourceNode, scope: Scope, id: string, to: DType, { outputs, saturate = 1, mode = 'up' }: { readonly outputs?: readonly string[]; readonly saturate?: 0 | 1; readonly mode?: RoundMode } = {}): string {
  const { dtype: from } = scope.type(id);
  if (from === to && !outputs) return id;
  if (isFewBitsFloat(to) && !isFewBits(from) && !HELD_BY_FLOAT32.has(from) && !(to !== 'float8e8m0' && LARGE_INTEGERS.has(from))) throw new UnsupportedError(`a cast from ${from} to ${to} is not supported`);
  const known = isFewBits(from) || isFewBits(to) ? scope.constant(id) : undefined;
  if (known) return scope.addConstant(castConstant(known, to, saturate, mode), outputs?.[0]);
  const power = to === 'float8e8m0' ? { round_mode: mode } : {};
  return scope.emit(node, 'Cast', [id], { to: ONNX_DTYPE[to], saturate, ...power }, outputs)[0]!;
}

/** A constant of integers of few bits as integers of 8 bits. Weights are many: no list of numbers. */
export function widened(from: FewBitsInteger, { dims, data }: Tensor): Tensor {
  const { dtype } = WIDE[from];
  const values = decodeFewBits(from, data, elementCount(dims));
  return { dtype, dims, data: dtype === 'int8' ? new Uint8Array(new Int8Array(values).buffer) : new Uint8Array(values) };
}

function castConstant(tensor: Tensor, to: DType, saturate: 0 | 1, mode: RoundMode): Tensor {
  if (isFewBitsInteger(tensor.dtype) && to === WIDE[tensor.dtype].dtype) return widened(tensor.dtype, tensor);
  const values = valuesOf(tensor);
  if (isFewBits(to)) return { dtype: to, dims: tensor.dims, data: encodeFewBits(to, values, { saturate, round_mode: mode }) };
  if (to === 'bool') return fromNumbers(to, tensor.dims, Array.from(values, (value) => (value === 0 ? 0 : 1)));
  // What no integer has is undefined in ONNX.
  return fromNumbers(to, tensor.dims, isInteger(to) ? Array.from(values, (value) => (Number.isFinite(value) ? value : 0)) : values);
}

function flagOf(node: SourceNode, name: string): 0 | 1 {
  const value = numberAttribute(node, name, 1);
  if (value !== 0 && value !== 1) throw new ShapeError(`attribute '${name}' must be 0 or 1, found ${value}`);
  return value;
}

function modeOf(node: SourceNode): RoundMode {
  const mode = node.attributes.get('round_mode') ?? 'up';
  if (mode !== 'up' && mode !== 'down' && mode !== 'nearest') throw new ShapeError(`attribute 'round_mode' must be one of up, down, nearest, found '${String(mode)}'`);
  return mode;
}

/** A Cast to `to`, whichever attribute or input said so; `round_mode` is of float8e8m0 alone. */
export function castTo(node: SourceNode, scope: Scope, to: DType): void {
  cast(node, scope, inputOf(node, 0), to, { outputs: node.outputs, saturate: flagOf(node, 'saturate'), mode: modeOf(node) });
}

const castLike: Rule = (node, scope) => {
  const { dtype: to } = scope.type(inputOf(node, 1));
  if (isFewBits(to) || isFewBits(scope.type(inputOf(node, 0)).dtype)) return castTo(node, scope, to);
  modeOf(node);
  emitAs('CastLike', node, scope, { attributes: attributesOf(node, 'round_mode') });
};

/** Throws ShapeError for scales that are not one, one by index of the axis, or one by block along it. */
function gridOf(node: SourceNode, scope: Scope): ScaleGrid {
  const [{ dims }, scale] = [scope.type(inputOf(node, 0)), scope.type(inputOf(node, 1))];
  const block = numberAttribute(node, 'block_size', 0);
  if (block < 0) throw new ShapeError(`attribute 'block_size' must be 0 or more, found ${block}`);
  const single = block === 0 && scale.dims.length <= 1 && elementCount(scale.dims) === 1;
  const axis = single ? 0 : normalizeAxis(numberAttribute(node, 'axis', 1), dims.length);
  const wanted = block > 0 ? dims.map((dim, i) => (i === axis ? Math.ceil(dim / block) : dim)) : [dims[axis]];
  if (!single && scale.dims.join() !== wanted.join()) throw new ShapeError(`the scales of [${scale.dims.join(',')}] are not [${wanted.join(',')}], as the tensor of [${dims.join(',')}] asks for along its axis ${axis}`);
  return { axis, block, dims, single };
}

/** The scales as floats that broadcast to the tensor. */
function spreadScales(node: SourceNode, scope: Scope, { axis, block, dims, single }: ScaleGrid): string {
  const scale = cast(node, scope, inputOf(node, 1), 'float32');
  const shaped = (id: string, to: readonly number[]): string => scope.emit(node, 'Reshape', [id, int64Input(scope, to)], { allowzero: 1 })[0]!;
  if (single) return scope.type(scale).dims.length === 0 ? scale : shaped(scale, []);
  if (block === 0) return shaped(scale, dims.map((dim, i) => (i === axis ? dim : 1)));
  const blocks = Math.ceil(dims[axis]! / block);
  const [before, behind] = [dims.slice(0, axis), dims.slice(axis + 1)];
  const column = shaped(scale, [...before, blocks, 1, ...behind]);
  const [repeated] = scope.emit(node, 'Expand', [column, int64Input(scope, [...before, blocks, block, ...behind])], {});
  const whole = shaped(repeated!, [...before, blocks * block, ...behind]);
  if (blocks * block === dims[axis]) return whole;
  return scope.emit(node, 'Slice', [whole, int64Input(scope, [0]), int64Input(scope, [dims[axis]!]), int64Input(scope, [axis])], {})[0]!;
}

/** ONNX has the zero point of such floats for its type. Throws where it is more. */
function checkZeroPoint(node: SourceNode, scope: Scope): void {
  const id = node.inputs[2];
  if (!id) return;
  const zero = scope.constant(id);
  if (!zero) throw new NotStaticError('a zero point of few bits (input 2) is not known at build');
  if (toNumbers(zero).some((value) => value !== 0)) throw new UnsupportedError(`a zero point of ${zero.dtype} other than 0 is not supported`);
}

const quantize: Rule = (node, scope) => {
  const zero = node.inputs[2] ?? '';
  const to = zero !== '' ? scope.type(zero).dtype : dtypeOfOnnx(numberAttribute(node, 'output_dtype', 0));
  if (to !== undefined && isFewBitsFloat(to)) return quantizeFloat(node, scope, to);
  // The division is in the type of the scales, where nothing else is asked for.
  const given = scope.type(inputOf(node, 1)).dtype;
  const scale = isFewBits(given) ? cast(node, scope, inputOf(node, 1), 'float32') : inputOf(node, 1);
  const precision = numberAttribute(node, 'precision', 0);
  const attributes = attributesOf(node, ...(precision === 0 || (precision === ONNX_DTYPE.float32 && scope.type(scale).dtype === 'float32') ? ['precision'] : []));
  if (to === undefined || !isFewBitsInteger(to)) return emitAs('QuantizeLinear', node, scope, { inputs: [inputOf(node, 0), scale, zero], attributes });
  const { dtype, range } = WIDE[to];
  const middle = zero === '' ? '' : cast(node, scope, zero, dtype);
  const [wide] = scope.emit(node, 'QuantizeLinear', [inputOf(node, 0), scale, middle], { ...attributes, output_dtype: ONNX_DTYPE[dtype] });
  const [clipped] = scope.emit(node, 'Clip', [wide!, ...range.map((bound) => scalarInput(scope, dtype, bound))], {});
  cast(node, scope, clipped!, to, { outputs: node.outputs });
};

/** cast(x / scale), with the quotient in float32 whatever the types, as onnxruntime takes it. */
function quantizeFloat(node: SourceNode, scope: Scope, to: FewBitsFloat): void {
  const precision = numberAttribute(node, 'precision', 0);
  if (precision !== 0 && precision !== ONNX_DTYPE.float32) throw new UnsupportedError(`attribute 'precision' is not supported for ${to}, but as float32`);
  refuseOthers(node, 'axis', 'block_size', 'output_dtype', 'precision', 'saturate');
  checkZeroPoint(node, scope);
  const [grid, saturate] = [gridOf(node, scope), flagOf(node, 'saturate')];
  const [data, scale] = [scope.constant(inputOf(node, 0)), scope.constant(inputOf(node, 1))];
  if (data && scale) {
    const [values, steps, at] = [Float32Array.from(valuesOf(data)), valuesOf(scale), scaleIndex(grid)];
    for (let i = 0; i < values.length; i++) values[i] = values[i]! / steps[at(i)]!;
    scope.addConstant({ dtype: to, dims: grid.dims, data: encodeFewBits(to, values, { saturate, round_mode: 'up' }) }, node.outputs[0]);
    return;
  }
  const [quotient] = scope.emit(node, 'Div', [cast(node, scope, inputOf(node, 0), 'float32'), spreadScales(node, scope, grid)], {});
  cast(node, scope, quotient!, to, { outputs: node.outputs, saturate });
}

function refuseOthers(node: SourceNode, ...known: readonly string[]): void {
  const other = [...node.attributes.keys()].find((name) => !known.includes(name));
  if (other !== undefined) throw new UnsupportedError(`attribute '${other}' is not known to ${node.opType}`);
}

const dequantize: Rule = (node, scope) => {
  const [{ dtype: from }, { dtype: scaleType }] = [scope.type(inputOf(node, 0)), scope.type(inputOf(node, 1))];
  const asked = numberAttribute(node, 'output_dtype', 0);
  const to = asked === 0 ? scaleType : dtypeOfOnnx(asked);
  if (to === undefined || isFewBits(to)) throw new UnsupportedError(`dequantization to ${to ?? `ONNX element type ${asked}`} is not supported`);
  if (isFewBitsFloat(from)) return dequantizeFloat(node, scope, to);
  // Where the types differ the product is taken in float32, and rounded once.
  const scale = to === scaleType ? inputOf(node, 1) : cast(node, scope, inputOf(node, 1), 'float32');
  const last = scope.type(scale).dtype === to ? node.outputs : undefined;
  const attributes = attributesOf(node, 'output_dtype');
  const inputs = isFewBitsInteger(from) ? dequantizedInputs(node, scope, WIDE[from].dtype, scale) : [inputOf(node, 0), scale, node.inputs[2] ?? ''];
  const [result] = scope.emit(node, 'DequantizeLinear', inputs, attributes, last);
  if (!last) cast(node, scope, result!, to, { outputs: node.outputs });
};

function dequantizedInputs(node: SourceNode, scope: Scope, wide: DType, scale: string): readonly string[] {
  const zero = node.inputs[2];
  return [cast(node, scope, inputOf(node, 0), wide), scale, zero ? cast(node, scope, zero, wide) : ''];
}

/** cast(x · scale), with the product in float32. */
function dequantizeFloat(node: SourceNode, scope: Scope, to: DType): void {
  refuseOthers(node, 'axis', 'block_size', 'output_dtype');
  checkZeroPoint(node, scope);
  const grid = gridOf(node, scope);
  const [data, scale] = [scope.constant(inputOf(node, 0)), scope.constant(inputOf(node, 1))];
  if (data && scale) {
    scope.addConstant(dequantized(data, scale, grid, to), node.outputs[0]);
    return;
  }
  const operands = [cast(node, scope, inputOf(node, 0), 'float32'), spreadScales(node, scope, grid)];
  const [product] = scope.emit(node, 'Mul', operands, {}, to === 'float32' ? node.outputs : undefined);
  if (to !== 'float32') cast(node, scope, product!, to, { outputs: node.outputs });
}

export const FEW_BIT_TYPE_RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  ['CastLike', castLike],
  ['DequantizeLinear', dequantize],
  ['QuantizeLinear', quantize],
]);
