/** Where elements go: grids of affine maps, crops around the centre, columns of blocks laid back into an image. */
import { elementCount, fromNumbers } from '../../ir/tensor.ts';
import { ShapeError, UnsupportedError } from '../../ops/def.ts';
import { inputOf, int64Input, intsAttribute, knownInts, normalizeAxis, numberAttribute, scalarInput, type Rule } from './rule.ts';

/** theta · (x, y, …, 1)ᵀ at the centres of an image's elements, or at its corners: [batch, …spatial, axes]. */
const affineGrid: Rule = (node, scope) => {
  const theta = inputOf(node, 0);
  const { dtype, dims } = scope.type(theta);
  const [batch, , ...spatial] = knownInts(node, scope, 1, 'size');
  const axes = spatial.length;
  if ((axes !== 2 && axes !== 3) || dims.join() !== [batch, axes, axes + 1].join()) throw new ShapeError(`maps of [${dims.join(',')}] do not go with a size of ${axes + 2} numbers`);
  const corners = numberAttribute(node, 'align_corners', 0) !== 0;
  if (corners && spatial.includes(1)) throw new UnsupportedError('corners of an axis of one element coincide');
  const place = (at: number, extent: number): number => (corners ? (2 * at) / (extent - 1) - 1 : (2 * at + 1) / extent - 1);
  const count = elementCount(spatial);
  const points = Array.from({ length: count }, (_, at) => {
    let rest = at;
    const found: number[] = [];
    // The last axis is x, which comes first.
    for (const extent of spatial.toReversed()) {
      found.push(place(rest % extent, extent));
      rest = Math.floor(rest / extent);
    }
    return [...found, 1];
  });
  const grid = scope.addConstant(fromNumbers(dtype, [1, count, axes + 1], points.flat()));
  const [turned] = scope.emit(node, 'Transpose', [theta], { perm: [0, 2, 1] });
  const [mapped] = scope.emit(node, 'MatMul', [grid, turned!], {});
  scope.emit(node, 'Reshape', [mapped!, int64Input(scope, [batch!, ...spatial, axes])], { allowzero: 1 }, node.outputs);
};

/** Each axis to the size asked for: zeros around what is smaller, the middle of what is larger; of an odd rest one less comes first. */
const centerCropPad: Rule = (node, scope) => {
  const data = inputOf(node, 0);
  const { dtype, dims } = scope.type(data);
  const wanted = knownInts(node, scope, 1, 'shape');
  const axes = (intsAttribute(node, 'axes') ?? dims.map((_, axis) => axis)).map((axis) => normalizeAxis(axis, dims.length));
  if (axes.length !== wanted.length) throw new ShapeError(`${wanted.length} sizes are given for ${axes.length} axes`);
  const targets = new Map(axes.map((axis, index) => [axis, wanted[index]!]));
  const missing = dims.map((extent, axis) => (targets.get(axis) ?? extent) - extent);
  const pads = [...missing.map((count) => Math.floor(Math.max(0, count) / 2)), ...missing.map((count) => Math.ceil(Math.max(0, count) / 2))];
  const starts = missing.map((count) => Math.floor(Math.max(0, -count) / 2));
  const ends = dims.map((extent, axis) => (missing[axis]! < 0 ? starts[axis]! + targets.get(axis)! : extent));
  const isPadded = pads.some((count) => count > 0);
  const [cut] = scope.emit(node, 'Slice', [data, ...[starts, ends, dims.map((_, axis) => axis)].map((list) => int64Input(scope, list))], {}, isPadded ? undefined : node.outputs);
  if (isPadded) scope.emit(node, 'Pad', [cut!, int64Input(scope, pads), scalarInput(scope, dtype, 0)], {}, node.outputs);
};

/** The sum of blocks where each lay: a transposed convolution in which every element of a block has a channel of its own. */
const col2Im: Rule = (node, scope) => {
  const data = inputOf(node, 0);
  const { dtype, dims } = scope.type(data);
  const [image, block] = [knownInts(node, scope, 1, 'image_shape'), knownInts(node, scope, 2, 'block_shape')];
  const rank = image.length;
  const all = (name: string, count: number, fallback: number): readonly number[] => intsAttribute(node, name) ?? Array.from({ length: count }, () => fallback);
  const [dilations, strides, pads] = [all('dilations', rank, 1), all('strides', rank, 1), all('pads', 2 * rank, 0)];
  const size = elementCount(block);
  const channels = dims[1]! / size;
  const reach = image.map((_, axis) => (block[axis]! - 1) * dilations[axis]! + 1);
  const rest = image.map((extent, axis) => extent + pads[axis]! + pads[rank + axis]! - reach[axis]!);
  const counts = rest.map((extent, axis) => Math.floor(extent / strides[axis]!) + 1);
  if (dims.length !== 3 || !Number.isInteger(channels) || elementCount(counts) !== dims[2]) throw new ShapeError(`columns of [${dims.join(',')}] are not the blocks of [${block.join(',')}] of an image of [${image.join(',')}]`);
  const output_padding = rest.map((extent, axis) => extent % strides[axis]!);
  const one = scope.addConstant(fromNumbers(dtype, [channels * size, 1, ...block], Array.from({ length: channels * size * size }, (_, at) => Number(Math.floor(at / size) % size === at % size))));
  const [split] = scope.emit(node, 'Reshape', [data, int64Input(scope, [dims[0]!, channels * size, ...counts])], { allowzero: 1 });
  scope.emit(node, 'ConvTranspose', [split!, one], { group: channels, kernel_shape: block, dilations, strides, pads, output_padding }, node.outputs);
};

export const GEOMETRY_RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  ['AffineGrid', affineGrid],
  ['CenterCropPad', centerCropPad],
  ['Col2Im', col2Im],
]);
