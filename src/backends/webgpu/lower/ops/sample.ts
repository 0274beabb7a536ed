/** Ops that read an image at computed positions: GridSample and RoiAlign. */
import type { Node } from '../../../../ir/graph.ts';
import type { OpAttrs } from '../../../../ir/ops.ts';
import type { BoundTensor } from '../../kernels/pointwise.ts';
import type { Block } from '../../wgsl/module.ts';
import type { Lowering, LoweringTable } from '../context.ts';
import { lowerElements } from '../elements.ts';

type GridAttrs = OpAttrs['GridSample'];

/** An index (or its weight) per tap of one axis; `inside` is absent where every tap lies in the image. */
interface AxisSamples {
  readonly indices: readonly string[];
  readonly weights: readonly string[];
  readonly inside: readonly (string | undefined)[];
}

/** Keys' kernel with a = −0.75, at distances 1 + t, t, 1 − t and 2 − t. */
const CUBIC = [
  (t: string) => `((-0.75f * (${t} + 1.0f) + 3.75f) * (${t} + 1.0f) - 6.0f) * (${t} + 1.0f) + 3.0f`,
  (t: string) => `(1.25f * ${t} - 2.25f) * ${t} * ${t} + 1.0f`,
  (t: string) => `(1.25f * (1.0f - ${t}) - 2.25f) * (1.0f - ${t}) * (1.0f - ${t}) + 1.0f`,
  (t: string) => `((-0.75f * (2.0f - ${t}) + 3.75f) * (2.0f - ${t}) - 6.0f) * (2.0f - ${t}) + 3.0f`,
] as const;

/** The range that reflection folds into: pixel centres where corners are aligned, pixel edges otherwise. */
function reflectionRange({ align_corners: aligned }: GridAttrs, extent: number): readonly [number, number] {
  return aligned ? [0, extent - 1] : [-0.5, extent - 0.5];
}

const float = (value: number): string => `${Number.isInteger(value) ? value.toFixed(1) : value}f`;

/** A position folded into [low, high] as often as it takes: a triangle wave. */
function reflected(block: Block, name: string, position: string, [low, high]: readonly [number, number]): string {
  const range = high - low;
  if (range === 0) return block.let(name, float(low));
  const distance = block.let(`${name}_d`, `abs(${position} - (${float(low)}))`);
  const phase = block.let(`${name}_p`, `${distance} - ${float(2 * range)} * floor(${distance} / ${float(2 * range)})`);
  return block.let(name, `${float(low)} + (${float(range)} - abs(${phase} - ${float(range)}))`);
}

/** Taps of one axis around a grid coordinate in [−1, 1]. */
function samplesOf(block: Block, attrs: GridAttrs, coordinate: string, extent: number, prefix: string): AxisSamples {
  const { align_corners: aligned, mode, padding_mode: padding } = attrs;
  const range = reflectionRange(attrs, extent);
  const scaled = aligned ? `(${coordinate} + 1.0f) * ${float((extent - 1) / 2)}` : `((${coordinate} + 1.0f) * ${float(extent)} - 1.0f) * 0.5f`;
  let position = block.let(`${prefix}x`, mode === 'nearest' ? `round(${scaled})` : scaled);
  if (padding === 'reflection') position = reflected(block, `${prefix}r`, position, range);
  // Far outside, every tap is outside alike; this keeps the conversion to i32 in range. Cubic filters keep their shape at a
  // border, as in PyTorch and onnxruntime: their taps are clamped, not the position.
  position = padding === 'border' && mode !== 'cubic' ? `clamp(${position}, 0.0f, ${float(extent - 1)})` : `clamp(${position}, -4.0f, ${float(extent + 4)})`;
  position = block.let(`${prefix}p`, position);
  const first = block.let(`${prefix}f`, mode === 'nearest' ? position : `floor(${position})`);
  const offsets = mode === 'nearest' ? [0] : mode === 'linear' ? [0, 1] : [-1, 0, 1, 2];
  const t = block.let(`${prefix}t`, `${position} - ${first}`);
  const taps = offsets.map((offset, k) => {
    const place = block.let(`${prefix}a${k}`, `${first} + ${float(offset)}`);
    const folded = padding === 'reflection' ? reflected(block, `${prefix}b${k}`, place, range) : place;
    return { index: block.let(`${prefix}i${k}`, `u32(clamp(i32(${folded}), 0, ${extent - 1}))`), place };
  });
  const linear = [`(1.0f - ${t})`, t];
  return {
    indices: taps.map((tap) => tap.index),
    weights: mode === 'nearest' ? ['1.0f'] : mode === 'linear' ? linear : CUBIC.map((weight, k) => block.let(`${prefix}w${k}`, weight(t))),
    inside: taps.map(({ place }) => (padding === 'zeros' ? `${place} >= 0.0f && ${place} <= ${float(extent - 1)}` : undefined)),
  };
}

/** Adds weight · pixel of every combination of taps to `sum`. */
function emitTaps(block: Block, image: BoundTensor, lead: readonly string[], axes: readonly AxisSamples[]): string {
  const sum = block.var('sum', '0.0f');
  const nest = (level: number, indices: readonly string[], weights: readonly string[], conditions: readonly string[]): void => {
    const axis = axes[level];
    if (!axis) {
      const add = (inner: Block): void => inner.line(`${sum} += ${weights.map((w) => `(${w})`).join(' * ')} * ${image.load([...lead, ...indices])}`);
      return conditions.length > 0 ? block.if(conditions.join(' && '), add) : add(block);
    }
    for (const [k, index] of axis.indices.entries()) {
      const condition = axis.inside[k];
      nest(level + 1, [...indices, index], [...weights, axis.weights[k]!], condition === undefined ? conditions : [...conditions, condition]);
    }
  };
  nest(0, [], [], []);
  return sum;
}

const gridSample: Lowering<'GridSample'> = {
  lower(node, context) {
    const image = context.tensor(node.inputs[0]!);
    const grid = context.tensorIn(node.inputs[1]!, 'linear');
    const spatial = image.dims.slice(2);
    lowerElements(context, node.outputs[0]!, {
      label: 'GridSample',
      inputs: { image, grid },
      body({ block, at, inputs }) {
        const [n, c, ...place] = at as [string, string, ...string[]];
        // The grid lists coordinates from the innermost axis outward.
        const axes = spatial.map((extent, axis) => {
          const coordinate = block.let(`g${axis}`, inputs.grid.load([n, ...place, `${spatial.length - 1 - axis}u`]));
          return samplesOf(block, node.attrs, coordinate, extent, `s${axis}`);
        });
        return emitTaps(block, inputs.image, [n, c], axes);
      },
    });
  },
};

/** Two taps of a bilinear sample along one axis of a region, and whether it counts: positions a pixel beyond the image give 0. */
function emitBilinear(block: Block, position: string, extent: number, prefix: string): void {
  block.let(`${prefix}c`, `max(${position}, 0.0f)`);
  block.let(`${prefix}0`, `min(u32(${prefix}c), ${extent - 1}u)`);
  block.let(`${prefix}1`, `min(${prefix}0 + 1u, ${extent - 1}u)`);
  block.let(`${prefix}w`, `select(${prefix}c - f32(${prefix}0), 0.0f, ${prefix}0 >= ${extent - 1}u)`);
}

/** Begin, bin size and samples per bin of a region along one axis. */
function emitRegion(block: Block, node: Node<'RoiAlign'>, begin: string, end: string, bins: number, prefix: string): void {
  const { spatial_scale: scale, sampling_ratio: ratio, coordinate_transformation_mode: mode } = node.attrs;
  const offset = mode === 'half_pixel' ? 0.5 : 0;
  block.let(`${prefix}_begin`, `${begin} * f32(${scale}) - ${float(offset)}`);
  const size = `${end} * f32(${scale}) - ${float(offset)} - ${prefix}_begin`;
  block.let(`${prefix}_size`, mode === 'half_pixel' ? size : `max(${size}, 1.0f)`);
  block.let(`${prefix}_bin`, `${prefix}_size / ${float(bins)}`);
  block.let(`${prefix}_count`, ratio > 0 ? `${ratio}u` : `u32(max(ceil(${prefix}_bin), 0.0f))`);
}

const roiAlign: Lowering<'RoiAlign'> = {
  lower(node, context) {
    const { attrs } = node;
    const image = context.tensor(node.inputs[0]!);
    const [rois, batches] = [context.tensorIn(node.inputs[1]!, 'linear'), context.tensorIn(node.inputs[2]!, 'linear')];
    const [images, , height, width] = image.dims as [number, number, number, number];
    lowerElements(context, node.outputs[0]!, {
      label: 'RoiAlign',
      inputs: { image, rois, batches },
      body({ block, at, inputs }) {
        const [roi, channel, row, column] = at as [string, string, string, string];
        const corner = (k: number): string => block.let(`r${k}`, inputs.rois.load([roi, `${k}u`]));
        const [x1, y1, x2, y2] = [corner(0), corner(1), corner(2), corner(3)];
        block.let('n', `u32(clamp(${inputs.batches.load([roi])}, 0, ${images - 1}))`);
        emitRegion(block, node, y1, y2, attrs.output_height, 'y');
        emitRegion(block, node, x1, x2, attrs.output_width, 'x');
        const result = block.var('result', '0.0f');
        block.for('iy', '0u', 'y_count', '1u', (rows) => {
          rows.let('y', `y_begin + f32(${row}) * y_bin + (f32(iy) + 0.5f) * y_bin / f32(y_count)`);
          emitBilinear(rows, 'y', height, 'v');
          rows.for('ix', '0u', 'x_count', '1u', (columns) => {
            columns.let('x', `x_begin + f32(${column}) * x_bin + (f32(ix) + 0.5f) * x_bin / f32(x_count)`);
            emitBilinear(columns, 'x', width, 'u');
            columns.let('inside', `y >= -1.0f && y <= ${float(height)} && x >= -1.0f && x <= ${float(width)}`);
            const pixel = (v: string, u: string): string => inputs.image.load(['n', channel, v, u]);
            const taps = [
              `(1.0f - vw) * (1.0f - uw) * ${pixel('v0', 'u0')}`,
              `(1.0f - vw) * uw * ${pixel('v0', 'u1')}`,
              `vw * (1.0f - uw) * ${pixel('v1', 'u0')}`,
              `vw * uw * ${pixel('v1', 'u1')}`,
            ];
            if (attrs.mode === 'avg') return columns.line(`${result} += select(0.0f, ${taps.join(' + ')}, inside)`);
            // As onnxruntime and ONNX's tests have it: the largest weighted tap, not the largest sample.
            const largest = taps.reduce((a, b) => `max(${a}, ${b})`);
            const sample = columns.let('sample', `select(0.0f, ${largest}, inside)`);
            columns.line(`${result} = select(max(${result}, ${sample}), ${sample}, iy == 0u && ix == 0u)`);
          });
        });
        return attrs.mode === 'avg' ? `${result} / f32(max(y_count * x_count, 1u))` : result;
      },
    });
  },
};

export const SAMPLE_LOWERINGS: LoweringTable = { GridSample: gridSample, RoiAlign: roiAlign };
