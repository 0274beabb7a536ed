/**
 * Depthwise convolution: one invocation computes 16 bytes of channels of several neighbouring output pixels. It is bound by memory:
 * what it reads of a row of the image serves all of its pixels, and bytes come and go in whole vectors.
 */
import type { KernelCall } from '../lower/call.ts';
import { address, decodeIndex, inUnits } from '../lower/space.ts';
import { type DeviceTensor, viewOf } from '../lower/tensor.ts';
import type { DeviceProfile } from '../profile.ts';
import type { Candidate, TacticProblem } from '../tactics/tactic.ts';
import { type Block, ModuleBuilder } from '../wgsl/module.ts';
import { independentThreads } from './grid.ts';
import { bindGroups, type GroupAccess } from './groups.ts';
import { columnWidth, WideEpilogue, wideTensors } from './packed/epilogue.ts';
import type { ColumnWidth } from './packed/operand.ts';
import type { WideSpec } from './packed/spec.ts';
import type { EpilogueSpec } from './epilogue.ts';
import { canLeave, emitWindow, UNROLLED_TAPS, windowTaps, type WindowSpec } from './window.ts';

export interface DepthwiseSpec extends WindowSpec {
  /** [tap, stored channel]. */
  readonly weights: DeviceTensor;
  readonly end: EpilogueSpec;
  /** Image and weights are 8-bit integers: Σ (x − zeroPoint)·w in i32, times the scale of the channel. */
  readonly integers?: { readonly zeroPoint: number; readonly scale: DeviceTensor } | undefined;
}

export interface DepthwiseTactic {
  /** Pixels of one invocation along the last axis. */
  readonly pixels: number;
  /** The most channels of one invocation. */
  readonly channels: ColumnWidth;
}

const STRIPS = [4, 2, 1] as const;

/** The ways to compute it, the most promising first: as many pixels as leave enough invocations. */
export function depthwiseTactics(spec: DepthwiseSpec, profile: DeviceProfile): DepthwiseTactic[] {
  const full = columnWidth(wideSpec(spec));
  const extent = spec.outputSpatial.at(-1)!;
  const stride = spec.stride.at(-1)!;
  const points = (spec.outputSpatial.reduce((all, length) => all * length, spec.images) * spec.end.storedColumns) / full;
  // Accumulators: with four pixels of 16 channels there are too many of them, and wide strides share little.
  const most = taps(spec) > UNROLLED_TAPS || profile.compact ? 1 : Math.min(stride === 1 ? 4 : 2, 32 / full);
  const strips = STRIPS.filter((pixels) => pixels <= most && (pixels === 1 || pixels <= extent));
  const wide = strips.map((pixels): DepthwiseTactic => ({ pixels, channels: full }));
  const enough = wide.findIndex(({ pixels }) => points / pixels >= profile.busyWorkgroups * 64);
  const best = wide[enough < 0 ? wide.length - 1 : enough]!;
  const narrow: DepthwiseTactic[] = full === 4 ? [] : [{ pixels: 1, channels: 4 }];
  return [best, ...wide.filter((tactic) => tactic !== best), ...narrow];
}

/** The tactics as candidates, and what to call the problem. */
export function depthwiseCandidates(spec: DepthwiseSpec, profile: DeviceProfile, precision?: 'int8'): { readonly problem: TacticProblem; readonly candidates: Candidate[] } {
  const { images, inputSpatial, outputSpatial, kernel, stride, dilation, channels, x } = spec;
  const points = outputSpatial.reduce((all, extent) => all * extent, images) * channels;
  const key = `Depthwise ${x.storage} ${images}x${inputSpatial.join('x')}x${channels} ${kernel.join('x')}/${stride.join('x')}${dilation.some((d) => d > 1) ? `~${dilation.join('x')}` : ''}`;
  const candidates = depthwiseTactics(spec, profile).map((tactic): Candidate => ({
    name: `strip ${tactic.pixels}x${tactic.channels}`,
    scratchBytes: 0,
    kernels: () => [{ ...depthwiseKernel(spec, tactic, profile), ...(precision && { precision }) }],
  }));
  return { problem: { key, flops: 2 * points * taps(spec) }, candidates };
}

/** The end of the kernel, with the factors of integers. */
function wideSpec({ end, integers }: DepthwiseSpec): WideSpec {
  const along = [...end.batch, ...end.rows].map(() => 0);
  return { ...end, label: 'Depthwise', columnScale: integers && { tensor: integers.scale, view: { offset: 0, strides: [...along, 1] } } };
}

function depthwiseKernel(spec: DepthwiseSpec, tactic: DepthwiseTactic, profile: DeviceProfile): KernelCall {
  const module = new ModuleBuilder('Depthwise');
  const end = wideSpec(spec);
  const width = columnWidth(end, tactic.channels);
  const x = bindGroups(module, 'x', spec.x, width);
  const w = bindGroups(module, 'w', spec.weights, width);
  const epilogue = new WideEpilogue(module, end, tactic.channels);
  const { pixels } = tactic;
  const extent = spec.outputSpatial.at(-1)!;
  const strips = [spec.images, ...spec.outputSpatial.slice(0, -1), Math.ceil(extent / pixels)];
  // What is stored may be padded to fewer channels than the image.
  const stored = Math.ceil(spec.end.storedColumns / width);
  const threads = strips.reduce((all, length) => all * length, stored);
  const workgroups = independentThreads(module, threads, profile, (block) => {
    block.let('vector', `i % ${stored}u`);
    block.let('column', `vector * ${width}u`);
    block.let('strip', `i / ${stored}u`);
    const at = decodeIndex('strip', strips).map((code, axis) => block.let(`o${axis}`, code));
    block.let('start', `${at.at(-1)} * ${pixels}u`);
    const type = spec.integers ? 'vec4<i32>' : 'vec4<f32>';
    for (let pixel = 0; pixel < pixels; pixel++) for (let group = 0; group < width / 4; group++) block.var(`acc${pixel}_${group}`, `${type}()`);
    // Loops reuse nothing from one pixel to the next.
    if (taps(spec) > UNROLLED_TAPS) emitLoops(block, spec, at, { x, w, width });
    else emitStrip(block, spec, at, pixels, { x, w, width });
    epilogue.hoist(block, '0u', 'column');
    for (let pixel = 0; pixel < pixels; pixel++) {
      const emit = (inside: Block): void => {
        const row = inside.let(`row${pixel}`, `strip / ${strips.at(-1)}u * ${extent}u + start + ${pixel}u`);
        const sums = Array.from({ length: width / 4 }, (_, group) => (spec.integers ? inside.let(`real${pixel}_${group}`, `vec4<f32>(acc${pixel}_${group})`) : `acc${pixel}_${group}`));
        epilogue.finish(inside, row, epilogue.fetch(inside, row, '0u', row, 'column'), '0u', row, 'column', sums);
      };
      if (extent % pixels === 0 || pixel === 0) emit(block);
      else block.if(`start + ${pixel}u < ${extent}u`, emit);
    }
  });
  return { source: module.finish(), operands: [spec.x, spec.weights, ...wideTensors(end)], workgroups };
}

interface Access {
  readonly x: GroupAccess;
  readonly w: GroupAccess;
  readonly width: ColumnWidth;
}

const taps = ({ kernel }: DepthwiseSpec): number => kernel.reduce((all, extent) => all * extent, 1);

/** Emits acc += x·w for every group of four channels. */
function emitProducts(block: Block, pixel: number, values: readonly string[], weights: readonly string[]): void {
  for (const [group, value] of values.entries()) block.line(`acc${pixel}_${group} += ${value} * ${weights[group]}`);
}

/** The window tap by tap, for one pixel. */
function emitLoops(block: Block, spec: DepthwiseSpec, [image, ...outputs]: readonly string[], { x, w, width }: Access): void {
  const vectors = spec.channels / width;
  // Addresses are counted in groups of four channels.
  emitWindow(block, spec, image!, outputs, `vector * ${width / 4}u`, (inside, index, tap) => {
    const values = x.load(inside, 'v', `(${index}) / ${width / 4}u`);
    const weights = w.load(inside, 'w', `(${tap}) * ${vectors}u + vector`);
    emitProducts(inside, 0, centred(spec, values), weights);
  });
}

function centred({ integers }: DepthwiseSpec, values: readonly string[]): readonly string[] {
  return integers && integers.zeroPoint !== 0 ? values.map((value) => `(${value} - ${integers.zeroPoint})`) : values;
}

/** Rows of the window one after another: a pixel of the image is read once for all the outputs that it belongs to. */
function emitStrip(block: Block, spec: DepthwiseSpec, [image, ...outputs]: readonly string[], pixels: number, { x, w, width }: Access): void {
  const last = spec.kernel.length - 1;
  const vectors = spec.channels / width;
  const { offset, strides } = viewOf(spec.x);
  const [imageStride, , ...spatial] = strides as [number, number, ...number[]];
  const view = inUnits({ offset, strides: [imageStride, ...spatial] }, width);
  const reach = (spec.kernel[last]! - 1) * spec.dilation[last]!;
  const outsideAlong = spec.padBegin[last] !== 0 || (Math.ceil(spec.outputSpatial[last]! / pixels) * pixels - 1) * spec.stride[last]! + reach >= spec.inputSpatial[last]!;
  block.let('left', `i32(start) * ${spec.stride[last]} - ${spec.padBegin[last]}`);
  const firsts = outputs.slice(0, -1).map((output, axis) => block.let(`p${axis}`, `i32(${output}) * ${spec.stride[axis]} - ${spec.padBegin[axis]}`));
  for (const [line, tap] of windowTaps(spec.kernel.slice(0, -1)).entries()) {
    const positions = tap.map((at, axis) => block.let(`line${line}_${axis}`, `u32(${firsts[axis]} + ${at * spec.dilation[axis]!})`));
    const conditions = positions.flatMap((position, axis) => (canLeave(spec, axis) ? [`${position} < ${spec.inputSpatial[axis]}u`] : []));
    const emitRow = (inside: Block): void => {
      const weights = Array.from({ length: spec.kernel[last]! }, (_, k) => w.load(inside, `w${line}_${k}`, `${(line * spec.kernel[last]! + k) * vectors}u + vector`));
      for (const [column, uses] of columnsOf(spec, pixels)) {
        const name = `v${line}_${column}`;
        const position = inside.let(`place${line}_${column}`, outsideAlong ? `clamp(left + ${column}, 0, ${spec.inputSpatial[last]! - 1})` : `left + ${column}`);
        const values = centred(spec, x.load(inside, name, `${address(view, [image!, ...positions, `u32(${position})`])} + vector`));
        const within = outsideAlong ? inside.let(`in${line}_${column}`, `left + ${column} == ${position}`) : undefined;
        const zero = spec.integers ? 'vec4<i32>()' : 'vec4<f32>()';
        const used = values.map((value, group) => inside.let(`${name}_u${group}`, within ? `select(${zero}, ${value}, ${within})` : value));
        for (const { pixel, k } of uses) emitProducts(inside, pixel, used, weights[k]!);
      }
    };
    if (conditions.length === 0) emitRow(block);
    else block.if(conditions.map((condition) => `(${condition})`).join(' & '), emitRow);
  }
}

/** Columns of the image that a strip reads, each with the pixels and taps that it serves. */
function columnsOf({ kernel, stride, dilation }: DepthwiseSpec, pixels: number): [number, { readonly pixel: number; readonly k: number }[]][] {
  const columns = new Map<number, { readonly pixel: number; readonly k: number }[]>();
  for (let pixel = 0; pixel < pixels; pixel++) {
    for (let k = 0; k < kernel.at(-1)!; k++) {
      const column = pixel * stride.at(-1)! + k * dilation.at(-1)!;
      const uses = columns.get(column) ?? [];
      uses.push({ pixel, k });
      columns.set(column, uses);
    }
  }
  return [...columns].sort(([a], [b]) => a - b);
}
