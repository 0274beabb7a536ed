/**
 * Left operands of the matrix kernel: A[batch, row, k], four depths at a time.
 *
 * A matrix is read through strides. A convolution's A is the image: rows are output pixels, depths are (tap, channel) with
 * the channel innermost, so that four depths are four channels of one pixel.
 */
import { address, collapse, decodeIndex } from '../lower/space.ts';
import { type DeviceTensor, storedBytes, type View } from '../lower/tensor.ts';
import { bindElements, type ElementAccess } from '../wgsl/access.ts';
import type { Block, ModuleBuilder } from '../wgsl/module.ts';
import { canLeave, type WindowWalk } from './window.ts';

export interface RowLoader {
  /** In the order of their bindings. */
  readonly tensors: readonly [DeviceTensor, ...DeviceTensor[]];
  bind(module: ModuleBuilder): void;
  /** Emits what depends on the row alone, under a name. The batch index is `batch`. */
  row(block: Block, name: string, row: string): void;
  /** Emits what depends on the depth alone; with `tail`, depths may lie beyond the last and must then give zero. */
  depth(block: Block, name: string, k: string, tail: boolean): void;
  /** A vec4<f32> of the depths k … k+3 in the row; may emit registers whose names begin with both. */
  load(block: Block, row: string, depth: string): string;
}

/** Binds a tensor as vec4s or scalars. */
function bindRows(module: ModuleBuilder, name: string, tensor: DeviceTensor, vector: boolean): ElementAccess {
  return bindElements(module, name, tensor, storedBytes(tensor), vector ? 4 : 1, 'read');
}

const LANES = [0, 1, 2, 3] as const;

export interface MatrixRows {
  readonly tensor: DeviceTensor;
  readonly batch: readonly number[];
  readonly rows: readonly number[];
  readonly depth: number;
  /** Over [batch axes…, row axes…, k]. */
  readonly view: View;
  /** The binding's. */
  readonly name?: string | undefined;
}

export function matrixRows({ tensor, batch, rows, depth, view, name: binding = 'a' }: MatrixRows): RowLoader {
  const part = (from: number, extents: readonly number[], offset: number) =>
    collapse({ extents, views: [{ offset, strides: view.strides.slice(from, from + extents.length) }] });
  const batchSpace = part(0, batch, view.offset);
  const rowSpace = part(batch.length, rows, 0);
  const depthStride = view.strides.at(-1)!;
  const strides = [view.offset, ...batchSpace.views[0]!.strides, ...rowSpace.views[0]!.strides];
  const vector = depthStride === 1 && depth % 4 === 0 && strides.every((stride) => stride % 4 === 0);
  let a: ElementAccess;
  return {
    tensors: [tensor],
    bind(module) {
      a = bindRows(module, binding, tensor, vector);
    },
    row(block, name, row) {
      const at = block.let(`${name}_m`, row);
      const base = address(batchSpace.views[0]!, decodeIndex('batch', batchSpace.extents));
      block.let(name, `${base} + ${address(rowSpace.views[0]!, decodeIndex(at, rowSpace.extents).map((code) => `(${code})`))}`);
    },
    depth(block, name, k, tail) {
      const bounded = (lane: number): string => (tail ? `min(${k} + ${lane}u, ${depth - 1}u)` : `(${k} + ${lane}u)`);
      if (vector) {
        block.let(name, tail ? `min(${k}, ${depth - 4}u)` : k);
        block.let(`${name}_ok`, tail ? `${k} < k_end` : 'true');
        return;
      }
      for (const lane of LANES) block.let(`${name}_${lane}`, `${bounded(lane)}${depthStride === 1 ? '' : ` * ${depthStride}u`}`);
      const inside = `vec4<u32>(${k}) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(k_end)`;
      block.let(`${name}_ok`, tail ? inside : 'vec4<bool>(true)');
    },
    load(_block, row, at) {
      if (vector) return `select(vec4<f32>(), ${a.load(`(${row} + ${at}) / 4u`)}, ${at}_ok)`;
      const lanes = LANES.map((lane) => a.load(`${row} + ${at}_${lane}`));
      return `select(vec4<f32>(), vec4<f32>(${lanes.join(', ')}), ${at}_ok)`;
    },
  };
}

/** The products of two loaders' elements, such as an image and its factors by channel. */
export function scaledRows(rows: RowLoader, factors: RowLoader): RowLoader {
  const of = (name: string): string => `${name}_factor`;
  return {
    tensors: [...rows.tensors, ...factors.tensors],
    bind(module) {
      rows.bind(module);
      factors.bind(module);
    },
    row(block, name, row) {
      rows.row(block, name, row);
      factors.row(block, of(name), row);
    },
    depth(block, name, k, tail) {
      rows.depth(block, name, k, tail);
      factors.depth(block, of(name), k, tail);
    },
    load: (block, row, at) => `(${rows.load(block, row, at)} * ${factors.load(block, of(row), of(at))})`,
  };
}

export interface WindowRows extends WindowWalk {
  readonly tensor: DeviceTensor;
  /** Over the tensor's logical axes [N, C, spatial…]. */
  readonly view: View;
  readonly images: number;
  /** Channels of one group as the depth walks them: padded where the layout pads. */
  readonly channels: number;
  /** Channels between the groups' first ones. */
  readonly groupChannels: number;
  /** Transposed convolution: the window walks the output and `stride` divides. */
  readonly transposed: boolean;
}

/** The batch index is the group; rows are [image, output pixel…]. */
export function windowRows(spec: WindowRows): RowLoader {
  const { tensor, view, kernel, channels } = spec;
  const [imageStride, channelStride, ...spatialStrides] = view.strides as [number, number, ...number[]];
  const isAligned = [view.offset, imageStride, ...spatialStrides, spec.groupChannels * channelStride].every((stride) => stride % 4 === 0);
  const vector = channelStride === 1 && channels % 4 === 0 && isAligned;
  const depth = kernel.reduce((all, extent) => all * extent, channels);
  const tap = (block: Block, name: string, k: string, tail: boolean): void => emitTap(block, spec, name, k, tail, depth);
  let a: ElementAccess;
  return {
    tensors: [tensor],
    bind(module) {
      a = bindRows(module, 'a', tensor, vector);
    },
    row: (block, name, row) => emitPixel(block, spec, imageStride, channelStride, name, row),
    depth(block, name, k, tail) {
      if (vector) return tap(block, name, k, tail);
      for (const i of LANES) tap(block, `${name}_${i}`, `(${k} + ${i}u)`, tail);
    },
    load(block, row, at) {
      if (vector) {
        const { ok, index } = emitElement(block, spec, spatialStrides, channelStride, row, at);
        return `select(vec4<f32>(), ${a.load(`${index} / 4u`)}, ${ok})`;
      }
      const lanes = LANES.map((i) => {
        const { ok, index } = emitElement(block, spec, spatialStrides, channelStride, row, `${at}_${i}`);
        return `select(0.0, ${a.load(index)}, ${ok})`;
      });
      return `vec4<f32>(${lanes.join(', ')})`;
    },
  };
}

/** Emits a row's image offset and the window's first coordinate along every spatial axis. */
function emitPixel(block: Block, spec: WindowRows, imageStride: number, channelStride: number, name: string, row: string): void {
  const at = block.let(`${name}_m`, row);
  const [image, ...outputs] = decodeIndex(at, [spec.images, ...spec.outputSpatial]);
  const group = spec.groupChannels === 0 ? '' : ` + batch * ${spec.groupChannels * channelStride}u`;
  const offset = spec.view.offset === 0 ? '' : ` + ${spec.view.offset}u`;
  block.let(name, `(${image}) * ${imageStride}u${group}${offset}`);
  for (const [axis, output] of outputs.entries()) {
    const scaled = spec.transposed ? `i32(${output}) + ${spec.padBegin[axis]}` : `i32(${output}) * ${spec.stride[axis]} - ${spec.padBegin[axis]}`;
    block.let(`${name}_p${axis}`, scaled);
  }
}

/** Emits a depth's channel, its offset along every spatial axis, and whether it is inside the depth. */
function emitTap(block: Block, spec: WindowRows, name: string, k: string, tail: boolean, depth: number): void {
  const at = tail ? block.let(`${name}_k`, `min(${k}, ${depth - 1}u)`) : k;
  const codes = decodeIndex(at, [...spec.kernel, spec.channels]);
  block.let(`${name}_c`, codes.at(-1)!);
  for (const [axis, code] of codes.slice(0, -1).entries()) {
    block.let(`${name}_t${axis}`, `i32(${code})${spec.dilation[axis] === 1 ? '' : ` * ${spec.dilation[axis]}`}`);
  }
  if (tail) block.let(`${name}_in`, `${k} < k_end`);
  else block.let(`${name}_in`, 'true');
}

/** Emits the index of a row's element at a depth, and whether there is one; where there is none the index is 0. */
function emitElement(
  block: Block,
  spec: WindowRows,
  spatialStrides: readonly number[],
  channelStride: number,
  row: string,
  at: string,
): { ok: string; index: string } {
  const name = `${row}_${at}`;
  const conditions = [`${at}_in`];
  const terms = [row];
  for (const [axis, extent] of spec.inputSpatial.entries()) {
    const moved = block.let(`${name}_i${axis}`, spec.transposed ? `${row}_p${axis} - ${at}_t${axis}` : `${row}_p${axis} + ${at}_t${axis}`);
    const step = spec.transposed ? spec.stride[axis]! : 1;
    const position = block.let(`${name}_u${axis}`, step === 1 ? `u32(${moved})` : `u32(${moved}) / ${step}u`);
    // As an unsigned number a negative position is a large one.
    if (spec.transposed || canLeave(spec, axis)) conditions.push(`${position} < ${extent}u`);
    if (step !== 1) conditions.push(`${moved} >= 0`, `u32(${moved}) % ${step}u == 0u`);
    terms.push(`${position} * ${spatialStrides[axis]}u`);
  }
  terms.push(channelStride === 1 ? `${at}_c` : `${at}_c * ${channelStride}u`);
  // `&` does not branch, as `&&` does: SwiftShader's compiler takes minutes over the branches of one tile.
  const ok = block.let(`${name}_ok`, conditions.map((condition) => `(${condition})`).join(' & '));
  return { ok, index: block.let(`${name}_x`, `select(0u, ${terms.join(' + ')}, ${ok})`) };
}
