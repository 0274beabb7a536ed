/**
 * Deformable convolution: every tap of the filter samples the image at a place of its own, bilinearly and zero outside, and may be
 * weighted (Dai et al., 2017; Zhu et al., "Deformable ConvNets v2", 2019). It is ONNX's DeformConv (opset 19), which neither
 * onnxruntime's processor provider nor the tool has: with this plugin both run it.
 */
import { defineOp, definePlugin, elementCount, ShapeError, type AttributeValues, type TensorType } from 'tsrt-bench';

const attributes = {
  kernel_shape: { type: 'ints', default: [] },
  strides: { type: 'ints', default: [1, 1], length: 2, min: 1, max: 2 },
  pads: { type: 'ints', default: [0, 0, 0, 0], length: 4, min: 0, max: 2 },
  dilations: { type: 'ints', default: [1, 1], length: 2, min: 1, max: 2 },
  group: { type: 'int', default: 1, min: 1, max: 2 },
  offset_group: { type: 'int', default: 1, min: 1, max: 2 },
} as const;

type Attrs = AttributeValues<typeof attributes>;

/** Places of the filter along an axis; none where it does not fit. */
function extent({ pads, dilations, strides }: Attrs, axis: 0 | 1, size: number, kernel: number): number {
  return Math.max(0, Math.floor((size + pads[axis]! + pads[axis + 2]! - (dilations[axis]! * (kernel - 1) + 1)) / strides[axis]!) + 1);
}

/** Everything that follows from shapes: images, channels, sizes, filters. */
function geometry(attrs: Attrs, x: TensorType, w: TensorType) {
  const [n, c, h, width] = x.dims as [number, number, number, number];
  const [outputs, perGroup, kh, kw] = w.dims as [number, number, number, number];
  const [top, left] = attrs.pads as readonly [number, number, number, number];
  return { n, c, h, width, outputs, perGroup, kh, kw, top, left, oh: extent(attrs, 0, h, kh), ow: extent(attrs, 1, width, kw) };
}

const deformConv = defineOp({
  domain: '',
  name: 'DeformConv',
  opset: [19, 25],
  dtypes: ['float32', 'float16'],
  attributes,
  inputs: [
    { name: 'X', dims: ['images', 'channels', 'height', 'width'] },
    { name: 'W', dims: ['filters', 'perGroup', 'kh', 'kw'], values: [-1, 1] },
    { name: 'offset', dims: ['images', 'offsets', 'oh', 'ow'], values: [-1.5, 1.5] },
    { name: 'B', dims: ['filters'], optional: true },
    { name: 'mask', dims: ['images', 'masks', 'oh', 'ow'], optional: true, values: [0, 1] },
  ],
  outputs: ['Y'],
  sizes: {
    images: [1, 2],
    perGroup: [1, 3],
    channels: ({ perGroup }, { group }) => perGroup! * group,
    filtersPerGroup: [1, 2],
    filters: ({ filtersPerGroup }, { group }) => filtersPerGroup! * group,
    height: [1, 6],
    width: [1, 6],
    kh: [1, 3],
    kw: [1, 3],
    oh: ({ height, kh }, attrs) => extent(attrs, 0, height!, kh!),
    ow: ({ width, kw }, attrs) => extent(attrs, 1, width!, kw!),
    offsets: ({ kh, kw }, { offset_group: groups }) => 2 * kh! * kw! * groups,
    masks: ({ kh, kw }, { offset_group: groups }) => kh! * kw! * groups,
  },
  infer({ attrs, inputs: [x, w, offset, , mask] }) {
    const { n, c, outputs, perGroup, kh, kw, oh, ow } = geometry(attrs, x!, w!);
    const { group, offset_group: groups, kernel_shape: kernel } = attrs;
    if (kernel.length > 0 && (kernel[0] !== kh || kernel[1] !== kw)) throw new ShapeError(`kernel_shape [${kernel.join(',')}] is not that of the filters, ${kh}x${kw}`);
    if (c !== perGroup * group || outputs % group !== 0) throw new ShapeError(`${group} groups of ${perGroup} channels and ${outputs} filters do not fit ${c} channels`);
    if (c % groups !== 0) throw new ShapeError(`${c} channels have no ${groups} offset groups`);
    if (oh < 1 || ow < 1) throw new ShapeError('the filter does not fit the padded image');
    const places = (type: TensorType, per: number, name: string): void => {
      const [, count, height, width] = type.dims as [number, number, number, number];
      if (count !== per * kh * kw * groups || height !== oh || width !== ow) throw new ShapeError(`${name} must be [${n},${per * kh * kw * groups},${oh},${ow}]`);
    };
    places(offset!, 2, 'offset');
    if (mask) places(mask, 1, 'mask');
    return [{ dtype: x!.dtype, dims: [n, outputs, oh, ow] }];
  },
  reference({ attrs, inputs: [x, w, offset, bias, mask], outputs: [y] }) {
    const g = geometry(attrs, x!, w!);
    const { group, offset_group: groups } = attrs;
    const taps = g.kh * g.kw;
    const pixel = (image: number, channel: number, row: number, column: number): number =>
      row < 0 || column < 0 || row >= g.h || column >= g.width ? 0 : x!.values[((image * g.c + channel) * g.h + row) * g.width + column]!;
    const sample = (image: number, channel: number, v: number, u: number): number => {
      const [row, column] = [Math.floor(v), Math.floor(u)];
      const [a, b] = [v - row, u - column];
      return (
        (1 - a) * ((1 - b) * pixel(image, channel, row, column) + b * pixel(image, channel, row, column + 1)) +
        a * ((1 - b) * pixel(image, channel, row + 1, column) + b * pixel(image, channel, row + 1, column + 1))
      );
    };
    const result = new Float64Array(elementCount(y!.dims));
    for (let i = 0; i < result.length; i++) {
      const [column, row] = [i % g.ow, Math.floor(i / g.ow) % g.oh];
      const filter = Math.floor(i / (g.ow * g.oh)) % g.outputs;
      const image = Math.floor(i / (g.ow * g.oh * g.outputs));
      let sum = bias ? bias.values[filter]! : 0;
      for (let k = 0; k < g.perGroup; k++) {
        const channel = Math.floor((filter * group) / g.outputs) * g.perGroup + k;
        const set = Math.floor((channel * groups) / g.c);
        for (let tap = 0; tap < taps; tap++) {
          const at = (plane: number, count: number): number => ((image * count + plane) * g.oh + row) * g.ow + column;
          const v = row * attrs.strides[0]! - g.top + Math.floor(tap / g.kw) * attrs.dilations[0]! + offset!.values[at((set * taps + tap) * 2, 2 * groups * taps)]!;
          const u = column * attrs.strides[1]! - g.left + (tap % g.kw) * attrs.dilations[1]! + offset!.values[at((set * taps + tap) * 2 + 1, 2 * groups * taps)]!;
          const weight = mask ? mask.values[at(set * taps + tap, groups * taps)]! : 1;
          sum += w!.values[(filter * g.perGroup + k) * taps + tap]! * weight * sample(image, channel, v, u);
        }
      }
      result[i] = sum;
    }
    return [result];
  },
  /** One GridSample for all taps, then a convolution of 1×1 over channels and taps, in float32. Offset groups are images of their own. */
  decompose({ attrs, graph }) {
    const half = graph.type(graph.inputs[0]!).dtype === 'float16';
    const [x, w, offset, bias, mask] = graph.inputs.map((id) => (half && id !== '' ? graph.op('Cast', [id], { to: 1 }) : id)) as [string, string, string, string, string];
    const g = geometry(attrs, graph.type(x), graph.type(w));
    const taps = g.kh * g.kw;
    const groups = attrs.offset_group;
    const reshape = (value: string, ...dims: number[]): string => graph.op('Reshape', [value, graph.constant('int64', [dims.length], dims)]);
    const number = (value: number): string => graph.constant('float32', [], [value]);
    const places: number[] = [];
    for (let tap = 0; tap < taps; tap++) {
      for (let row = 0; row < g.oh; row++) {
        for (let column = 0; column < g.ow; column++) {
          places.push(row * attrs.strides[0]! - g.top + Math.floor(tap / g.kw) * attrs.dilations[0]!, column * attrs.strides[1]! - g.left + (tap % g.kw) * attrs.dilations[1]!);
        }
      }
    }
    const base = graph.constant('float32', [1, taps * g.oh, g.ow, 2], places);
    const moved = graph.op('Transpose', [reshape(offset, g.n * groups, taps, 2, g.oh, g.ow)], { perm: [0, 1, 3, 4, 2] });
    const position = graph.op('Add', [reshape(moved, g.n * groups, taps * g.oh, g.ow, 2), base]);
    const [v, u] = graph.ops('Split', [position], 2, { axis: 3, num_outputs: 2 }) as [string, string];
    // GridSample counts from −1 to 1 over pixel edges: p = (2·position + 1)/size − 1.
    const normal = (value: string, size: number): string => graph.op('Add', [graph.op('Mul', [value, number(2 / size)]), number(1 / size - 1)]);
    const grid = graph.op('Concat', [normal(u, g.width), normal(v, g.h)], { axis: 3 });
    const images = reshape(x, g.n * groups, g.c / groups, g.h, g.width);
    let sampled = graph.op('GridSample', [images, grid], { mode: 'linear', padding_mode: 'zeros', align_corners: 0 });
    if (mask) sampled = graph.op('Mul', [sampled, reshape(mask, g.n * groups, 1, taps * g.oh, g.ow)]);
    const columns = reshape(sampled, g.n, g.c * taps, g.oh, g.ow);
    const filters = reshape(w, g.outputs, g.perGroup * taps, 1, 1);
    const result = graph.op('Conv', bias ? [columns, filters, bias] : [columns, filters], { group: attrs.group, kernel_shape: [1, 1], strides: [1, 1], pads: [0, 0, 0, 0], dilations: [1, 1], auto_pad: 'NOTSET' });
    return half ? graph.op('Cast', [result], { to: 10 }) : result;
  },
  kernels: [
    {
      dtypes: ['float32', 'float16'],
      tiles: [{ block: 64 }, { block: 128 }, { block: 256 }],
      emit({ attrs, inputs: [x, w, , bias, mask], outputs: [y], tile }) {
        const g = geometry(attrs, x!, w!);
        const taps = g.kh * g.kw;
        const sets = attrs.offset_group;
        const plane = g.oh * g.ow;
        return {
          workgroupSize: tile['block']!,
          threads: elementCount(y!.dims),
          declarations: `
fn pixel(base: u32, row: i32, column: i32) -> f32 {
  if (row < 0 || column < 0 || row >= ${g.h} || column >= ${g.width}) { return 0.0; }
  return X[base + u32(row) * ${g.width}u + u32(column)];
}
fn bilinear(base: u32, v: f32, u: f32) -> f32 {
  // Far outside everything is zero: the clamp keeps the conversion to integers in range.
  let at = clamp(vec2<f32>(v, u), vec2<f32>(-2.0), vec2<f32>(${g.h + 1}.0, ${g.width + 1}.0));
  let low = floor(at);
  let t = at - low;
  let row = i32(low.x);
  let column = i32(low.y);
  let above = (1.0 - t.y) * pixel(base, row, column) + t.y * pixel(base, row, column + 1);
  let below = (1.0 - t.y) * pixel(base, row + 1, column) + t.y * pixel(base, row + 1, column + 1);
  return (1.0 - t.x) * above + t.x * below;
}`,
          body: `
let place = i % ${plane}u;
let column = f32(place % ${g.ow}u);
let row = f32(place / ${g.ow}u);
let filter_ = (i / ${plane}u) % ${g.outputs}u;
let image = i / ${plane * g.outputs}u;
var sum = ${bias ? 'B[filter_]' : '0.0'};
for (var k = 0u; k < ${g.perGroup}u; k++) {
  let channel = (filter_ * ${attrs.group}u / ${g.outputs}u) * ${g.perGroup}u + k;
  let family = channel * ${sets}u / ${g.c}u;
  for (var tap = 0u; tap < ${taps}u; tap++) {
    let offsets = ((image * ${sets * taps}u + family * ${taps}u + tap) * 2u) * ${plane}u + place;
    let v = row * ${attrs.strides[0]}.0 - ${g.top}.0 + f32(tap / ${g.kw}u * ${attrs.dilations[0]}u) + offset[offsets];
    let u = column * ${attrs.strides[1]}.0 - ${g.left}.0 + f32(tap % ${g.kw}u * ${attrs.dilations[1]}u) + offset[offsets + ${plane}u];
    let value = bilinear((image * ${g.c}u + channel) * ${g.h * g.width}u, v, u);
    sum += W[(filter_ * ${g.perGroup}u + k) * ${taps}u + tap] * ${mask ? `mask[(image * ${sets * taps}u + family * ${taps}u + tap) * ${plane}u + place] * ` : ''}value;
  }
}
Y[i] = sum;`,
        };
      },
    },
  ],
  flops({ attrs, inputs: [x, w], outputs: [y] }) {
    const { perGroup, kh, kw } = geometry(attrs, x!, w!);
    return elementCount(y!.dims) * perGroup * kh * kw * 12;
  },
  // A position that is off by an ULP moves a sample by as much as the image changes there, at every tap.
  tolerance: { float32: { absolute: 5e-5, relative: 1e-5 }, float16: { absolute: 1e-2, relative: 2e-3 } },
  nonFinite: 'unspecified',
});

export default definePlugin({ name: 'deform-conv', version: '1.0.0', ops: [deformConv] });
