/**
 * Maxima over windows, 16 bytes of channels and a strip of neighbouring output pixels at a time. Loads have no conditions, so that all of
 * them are under way at once: a tap outside the image is read at its edge, which the window has too.
 */
import type { KernelCall } from '../lower/call.ts';
import { address, decodeIndex, inUnits } from '../lower/space.ts';
import { channelAlignment, type DeviceTensor, storedBytes, viewOf } from '../lower/tensor.ts';
import type { DeviceProfile } from '../profile.ts';
import type { Candidate, TacticProblem } from '../tactics/tactic.ts';
import { ModuleBuilder } from '../wgsl/module.ts';
import { independentThreads } from './grid.ts';
import { bindGroups } from './groups.ts';
import type { ColumnWidth } from './packed/operand.ts';
import { poolKernel, type PoolSpec } from './pool.ts';
import { windowTaps } from './window.ts';

interface MaxPoolTactic {
  /** Output pixels of one invocation along the last axis, and channels. */
  readonly pixels: number;
  readonly channels: ColumnWidth;
}

/** The ways to compute it, the most promising first; the kernel of all pools is always among them. */
export function maxPoolCandidates(spec: PoolSpec, profile: DeviceProfile): { readonly problem: TacticProblem; readonly candidates: Candidate[] } {
  const { x, images, inputSpatial, kernel, stride, outputSpatial, channels } = spec;
  const points = outputSpatial.reduce((all, extent) => all * extent, images) * channels;
  const plain: Candidate = { name: 'plain', scratchBytes: 0, kernels: () => [poolKernel(spec, profile)] };
  const wide = tacticsOf(spec, profile).map((tactic): Candidate => ({ name: `strip ${tactic.pixels}x${tactic.channels}`, scratchBytes: 0, kernels: () => [maxPoolKernel(spec, tactic, profile)] }));
  const taps = kernel.reduce((all, extent) => all * extent, 1);
  const key = `MaxPool ${x.storage} ${images}x${inputSpatial.join('x')}x${channels} ${kernel.join('x')}/${stride.join('x')}`;
  return { problem: { key, flops: points * taps }, candidates: [...wide, plain] };
}

/** Windows of more taps than this are left to the plain kernel: a strip writes its taps out for every pixel. */
const MOST_TAPS = 25;

function tacticsOf(spec: PoolSpec, profile: DeviceProfile): MaxPoolTactic[] {
  const width = widthOf(spec);
  const taps = spec.kernel.reduce((all, extent) => all * extent, 1);
  if (profile.compact || width === undefined || taps > MOST_TAPS || !spec.kernel.every((_, axis) => holdsEdge(spec, axis))) return [];
  const extent = spec.outputSpatial.at(-1)!;
  const points = (spec.outputSpatial.reduce((all, length) => all * length, spec.images) * spec.channels) / width;
  const shares = spec.kernel.at(-1)! > spec.stride.at(-1)! && extent > 1;
  const strips = shares ? (points / 2 >= profile.busyWorkgroups * 64 ? [2, 1] : [1, 2]) : [1];
  return strips.map((pixels) => ({ pixels, channels: width }));
}

/** Channels of 16 bytes, where image and output are whole runs of them. */
function widthOf({ x, output, channels }: PoolSpec): ColumnWidth | undefined {
  const width = channelAlignment(x.storage);
  if (x.storage !== output.storage || (width !== 4 && width !== 8 && width !== 16) || channels % width !== 0) return undefined;
  const whole = [x, output].every((tensor) => {
    const { offset, strides } = viewOf(tensor);
    return [offset, strides[0]!, ...strides.slice(2)].every((stride) => stride % width === 0);
  });
  return whole ? width : undefined;
}

/** Whether every window holds a pixel of the image, so that it has the edge that a tap outside is moved to. */
function holdsEdge({ kernel, padBegin, dilation, stride, outputSpatial, inputSpatial }: PoolSpec, axis: number): boolean {
  const last = (outputSpatial[axis]! - 1) * stride[axis]! - padBegin[axis]!;
  return dilation[axis] === 1 && padBegin[axis]! < kernel[axis]! && last < inputSpatial[axis]!;
}

function maxPoolKernel(spec: PoolSpec, { pixels, channels: width }: MaxPoolTactic, profile: DeviceProfile): KernelCall {
  const module = new ModuleBuilder(spec.label);
  // Bytes keep their order as they lie, whatever their type.
  const bytes = spec.x.storage === 'i8';
  const x = bindGroups(module, 'x', bytes ? { ...spec.x, dtype: 'int8' } : spec.x, width);
  module.storage('out', 'u32', 4, storedBytes(spec.output) / 16, 'read_write');
  const vectors = spec.channels / width;
  const extent = spec.outputSpatial.at(-1)!;
  const strips = [spec.images, ...spec.outputSpatial.slice(0, -1), Math.ceil(extent / pixels)];
  const threads = strips.reduce((all, length) => all * length, vectors);
  const last = spec.kernel.length - 1;
  const inVectors = (tensor: DeviceTensor) => {
    const { offset, strides } = viewOf(tensor);
    return inUnits({ offset, strides: [strides[0]!, ...strides.slice(2)] }, width);
  };
  const workgroups = independentThreads(module, threads, profile, (block) => {
    block.let('vector', `i % ${vectors}u`);
    const [image, ...at] = decodeIndex(`(i / ${vectors}u)`, strips).map((code, axis) => block.let(`o${axis}`, code));
    block.let('start', `${at[last]} * ${pixels}u`);
    const place = (name: string, output: string, axis: number, tap: number): string => {
      const position = `i32(${output}) * ${spec.stride[axis]} + ${tap - spec.padBegin[axis]!}`;
      return block.let(name, `u32(clamp(${position}, 0, ${spec.inputSpatial[axis]! - 1}))`);
    };
    const columns = Array.from({ length: (pixels - 1) * spec.stride[last]! + spec.kernel[last]! }, (_, column) => place(`x${column}`, 'start', last, column));
    const lines = windowTaps(spec.kernel.slice(0, -1)).map((tap, line) => tap.map((offset, axis) => place(`line${line}_${axis}`, at[axis]!, axis, offset)));
    // Of a column first: neighbouring windows share it.
    const maxima = columns.map((column, c) => {
      const loads = lines.map((line, l) => x.load(block, `v${c}_${l}`, `${address(inVectors(spec.x), [image!, ...line, column])} + vector`));
      return loads.reduce((a, b, l) => a.map((value, group) => block.let(`m${c}_${l}_${group}`, `max(${value}, ${b[group]})`)));
    });
    for (let pixel = 0; pixel < pixels; pixel++) {
      const own = maxima.slice(pixel * spec.stride[last]!, pixel * spec.stride[last]! + spec.kernel[last]!);
      const groups = own.reduce((a, b, c) => a.map((value, group) => block.let(`p${pixel}_${c}_${group}`, `max(${value}, ${b[group]})`)));
      const index = `${address(inVectors(spec.output), [image!, ...at.slice(0, -1), `(start + ${pixel}u)`])} + vector`;
      const store = `out[${index}] = ${packed(groups, spec.x)}`;
      if (pixel === 0 || extent % pixels === 0) block.line(store);
      else block.if(`start + ${pixel}u < ${extent}u`, (inside) => inside.line(store));
    }
  });
  return { source: module.finish(), operands: [spec.x, spec.output], workgroups };
}

/** 16 bytes of the values that were read. */
function packed(groups: readonly string[], { storage }: DeviceTensor): string {
  if (storage === 'f32') return `bitcast<vec4<u32>>(${groups[0]})`;
  const words = storage === 'f16' ? groups.flatMap((group) => [`pack2x16float(${group}.xy)`, `pack2x16float(${group}.zw)`]) : groups.map((group) => `pack4xI8(${group})`);
  return `vec4<u32>(${words.join(', ')})`;
}
