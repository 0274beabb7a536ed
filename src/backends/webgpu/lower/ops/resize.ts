/** Resize in all its modes: per axis a table of taps made at build, one kernel that mixes them. */
import type { Node } from '../../../../ir/graph.ts';
import { typeOf } from '../../../../ir/graph.ts';
import { DTYPE_BITS, elementCount } from '../../../../ir/tensor.ts';
import { normalizeAxis } from '../../../../ops/shapes.ts';
import { elementKernel, type PointScope } from '../../kernels/pointwise.ts';
import { registerType } from '../../wgsl/access.ts';
import { literal } from '../../wgsl/expr.ts';
import type { Block } from '../../wgsl/module.ts';
import type { LowerContext, Lowering, LoweringTable } from '../context.ts';
import { axisTaps, type ResizeAxis } from '../resize-taps.ts';
import { mustBeConstant } from '../support.ts';
import type { DeviceTensor } from '../tensor.ts';

/** A resized axis, and where its taps lie in the tables. */
interface ResizedAxis {
  readonly axis: number;
  readonly count: number;
  readonly offset: number;
}

interface Tables {
  readonly axes: readonly ResizedAxis[];
  readonly indices: DeviceTensor;
  readonly weights: DeviceTensor;
  readonly extrapolates: boolean;
}

/** What each axis needs; axes that keep every element as it is are left out. */
function resizedAxes(node: Node<'Resize'>, context: LowerContext): (ResizeAxis & { readonly axis: number })[] {
  const { attrs } = node;
  const [from, to] = [context.type(node.inputs[0]!).dims, context.type(node.outputs[0]!).dims];
  const axes = attrs.axes?.map((axis) => normalizeAxis(axis, from.length)) ?? from.map((_, axis) => axis);
  const optional = (index: number): readonly number[] | undefined => {
    const values = context.ints(node.inputs[index] ?? '');
    return values && values.length > 0 ? values : undefined;
  };
  const [roi, scales] = [optional(1), optional(2)];
  const kept = attrs.keep_aspect_ratio_policy !== 'stretch' ? aspectScale(node, axes, context) : undefined;
  return axes.flatMap((axis, i) => {
    const given = scales?.[i] ?? kept;
    const scale = Math.fround(given ?? to[axis]! / from[axis]!);
    const region: readonly [number, number] = roi ? [roi[i]!, roi[axes.length + i]!] : [0, 1];
    const same = scale === 1 && from[axis] === to[axis] && attrs.coordinate_transformation_mode !== 'tf_crop_and_resize';
    const length = given === undefined ? to[axis]! : given * from[axis]!;
    return same ? [] : [{ axis, from: from[axis]!, to: to[axis]!, scale, length, roi: region }];
  });
}

/** The one scale of all axes under an aspect ratio policy. */
function aspectScale(node: Node<'Resize'>, axes: readonly number[], context: LowerContext): number | undefined {
  const sizes = context.ints(node.inputs[3] ?? '');
  if (!sizes) return undefined;
  const { dims } = context.type(node.inputs[0]!);
  const scales = axes.map((axis, i) => sizes[i]! / dims[axis]!);
  return node.attrs.keep_aspect_ratio_policy === 'not_larger' ? Math.min(...scales) : Math.max(...scales);
}

function tablesOf(node: Node<'Resize'>, context: LowerContext): Tables {
  const taps = resizedAxes(node, context).map((resized) => ({ axis: resized.axis, ...axisTaps(node.attrs, resized) }));
  let length = 0;
  const axes = taps.map(({ axis, count, indices }): ResizedAxis => {
    const offset = length;
    length += indices.length;
    return { axis, count, offset };
  });
  const id = node.outputs[0]!;
  const indices = context.pack(`${id}:taps`, { dtype: 'int32', dims: [length], storage: 'i32' }, () => Int32Array.from(taps.flatMap((t) => [...t.indices])));
  const weights = context.pack(`${id}:weights`, { dtype: 'float32', dims: [length], storage: 'f32' }, () => Float32Array.from(taps.flatMap((t) => [...t.weights])));
  return { axes, indices, weights, extrapolates: taps.some((t) => t.indices.includes(-1)) };
}

type Scope = PointScope<'data' | 'taps' | 'weights', 'result'>;

/** Σ over the taps of all axes of weight · data, as nested loops. */
function emitMix({ block, at, inputs }: Scope, { axes }: Tables, sum: string): void {
  const nest = (outer: Block, level: number, source: readonly string[], weight: string): void => {
    const resized = axes[level];
    if (!resized) return outer.line(`${sum} += ${weight} * f32(${inputs.data.load(source)})`);
    const { axis, count, offset } = resized;
    outer.for(`k${level}`, '0u', `${count}u`, '1u', (loop) => {
      const slot = loop.let(`slot${level}`, `${offset}u + ${at[axis]} * ${count}u + k${level}`);
      const index = loop.let(`index${level}`, `u32(${inputs.taps.loadFlat(slot)})`);
      const factor = loop.let(`weight${level}`, `${weight === '' ? '' : `${weight} * `}${inputs.weights.loadFlat(slot)}`);
      nest(loop, level + 1, source.map((c, a) => (a === axis ? index : c)), factor);
    });
  };
  nest(block, 0, at, '');
}

function emitNearest({ block, at, inputs }: Scope, { axes }: Tables): string {
  const source = [...at];
  for (const { axis, count, offset } of axes) {
    source[axis] = block.let(`index${axis}`, `u32(max(0, ${inputs.taps.loadFlat(`${offset}u + ${at[axis]} * ${count}u`)}))`);
  }
  return inputs.data.load(source);
}

/** As ONNX's reference casts; a sum that is whole but for the rounding of its weights is not to lose one. */
const truncated = (sum: string, type: string): string => `${type}(${sum} + sign(${sum}) * 0.001f)`;

function emitResize(scope: Scope, node: Node<'Resize'>, tables: Tables): string {
  const { block, module, at, inputs } = scope;
  const { dtype } = inputs.data.tensor;
  const type = registerType(dtype);
  const { extrapolation_value: extrapolation } = node.attrs;
  const value = block.var('value', `${type}()`);
  const outside = tables.axes.map(({ axis, count, offset }) => `${inputs.taps.loadFlat(`${offset}u + ${at[axis]} * ${count}u`)} < 0`);
  const mix = (inner: Block): void => {
    if (node.attrs.mode === 'nearest') return inner.line(`${value} = ${emitNearest({ ...scope, block: inner }, tables)}`);
    inner.var('sum', '0.0f');
    emitMix({ ...scope, block: inner }, tables, 'sum');
    inner.line(`${value} = ${type === 'f32' ? 'sum' : truncated('sum', type)}`);
  };
  if (!tables.extrapolates) mix(block);
  else block.if(outside.join(' || '), (then) => then.line(`${value} = ${literal(module, type === 'f32' ? extrapolation : Math.trunc(extrapolation), type)}`), mix);
  return value;
}

const resize: Lowering<'Resize'> = {
  unsupported(node, graph) {
    const { dtype } = typeOf(graph, node.inputs[0]!);
    const { mode, antialias } = node.attrs;
    // Cubic sums may leave an integer's range, f32 does not hold 32 bits, and ONNX does not say how antialiased pixels are rounded.
    const casts = mode === 'linear' && !antialias && dtype !== 'bool' && DTYPE_BITS[dtype] <= 16;
    if (mode !== 'nearest' && registerType(dtype) !== 'f32' && !casts) return `no ${antialias ? 'antialiased ' : ''}${mode} resize of ${dtype}`;
    return mustBeConstant(node, graph, { 1: 'roi', 2: 'scales', 3: 'sizes' });
  },
  lower(node, context) {
    const data = context.source(node.inputs[0]!);
    const tables = tablesOf(node, context);
    if (tables.axes.length === 0) return context.alias(node.outputs[0]!, data, data.layout);
    const output = context.target(node.outputs[0]!, data.layout);
    if (elementCount(output.dims) === 0) return;
    const inputs = { data, taps: tables.indices, weights: tables.weights };
    context.dispatch(elementKernel({ label: 'Resize', inputs, output, body: (scope) => emitResize(scope, node, tables) }, context.profile));
  },
};

export const RESIZE_LOWERINGS: LoweringTable = { Resize: resize };
