/** Pools: one invocation reduces the windows of four channels at one output pixel. */
import type { KernelCall } from '../lower/call.ts';
import { address, decodeIndex, inUnits } from '../lower/space.ts';
import { type DeviceTensor, storedBytes } from '../lower/tensor.ts';
import type { DeviceProfile } from '../profile.ts';
import { bindElements } from '../wgsl/access.ts';
import { type Block, ModuleBuilder } from '../wgsl/module.ts';
import { independentThreads } from './grid.ts';
import { emitWindow, type WindowSpec } from './window.ts';

export type PoolReduction =
  | { readonly kind: 'max' }
  | { readonly kind: 'average'; readonly countsPadding: boolean }
  | { readonly kind: 'norm'; readonly p: number };

export interface PoolSpec extends WindowSpec {
  readonly label: string;
  readonly output: DeviceTensor;
  readonly padEnd: readonly number[];
  /** Channels that are not padding lanes. */
  readonly validChannels: number;
  readonly how: PoolReduction;
}

export function poolKernel(spec: PoolSpec, profile: DeviceProfile): KernelCall {
  const vectors = spec.channels / 4;
  const threads = spec.outputSpatial.reduce((all, extent) => all * extent, spec.images) * vectors;
  const module = new ModuleBuilder(spec.label);
  const x = bindElements(module, 'x', spec.x, storedBytes(spec.x), 4, 'read');
  const out = bindElements(module, 'out', spec.output, storedBytes(spec.output), 4, 'read_write');
  const workgroups = independentThreads(module, threads, profile, (block) => {
    block.let('channel', `i % ${vectors}u`);
    const [image, ...outputs] = decodeIndex(`(i / ${vectors}u)`, [spec.images, ...spec.outputSpatial]).map((code, axis) => block.let(`o${axis}`, code));
    // The least value of 8-bit integers, of which a pool only takes the maximum.
    const least = { f32: () => `-${module.helper('inf')}()`, i32: () => '-128i', u32: () => '0u' }[x.scalar];
    block.var('acc', `vec4<${x.scalar}>(${spec.how.kind === 'max' ? least() : '0.0'})`);
    const counts = spec.how.kind === 'average' && !spec.how.countsPadding;
    if (counts) block.var('count', '0.0');
    emitWindow(block, spec, image!, outputs, 'channel', (inside, index) => {
      inside.line(accumulate(spec.how, x.load(index)));
      if (counts) inside.line('count += 1.0');
    });
    const result = finish(block, spec, outputs);
    // Padding lanes hold zero already, except where the maximum of nothing but them would be.
    const masked = spec.channels > spec.validChannels ? maskLanes(result, spec.validChannels, x.scalar) : result;
    block.line(out.store(outputIndex(spec, [image!, ...outputs]), masked));
  });
  return { source: module.finish(), operands: [spec.x, spec.output], workgroups };
}

/** The vec4 of the output that a thread writes. */
function outputIndex({ output }: PoolSpec, pixel: readonly string[]): string {
  if (!output.window) return 'i';
  const { offset, strides } = output.window;
  const [image, , ...spatial] = strides as [number, number, ...number[]];
  return `${address(inUnits({ offset, strides: [image, ...spatial] }, 4), pixel)} + channel`;
}

function accumulate(how: PoolReduction, value: string): string {
  switch (how.kind) {
    case 'max':
      return `acc = max(acc, ${value})`;
    case 'average':
      return `acc += ${value}`;
    case 'norm':
      if (how.p === 1) return `acc += abs(${value})`;
      return how.p === 2 ? `acc += ${value} * ${value}` : `acc += pow(abs(${value}), vec4<f32>(${how.p}.0))`;
    default:
      return how satisfies never;
  }
}

function finish(block: Block, spec: PoolSpec, outputs: readonly string[]): string {
  const { how } = spec;
  switch (how.kind) {
    case 'max':
      return 'acc';
    case 'average':
      return how.countsPadding ? `acc / f32(${paddedCount(block, spec, outputs)})` : 'acc / count';
    case 'norm':
      return how.p === 1 ? 'acc' : how.p === 2 ? 'sqrt(acc)' : `pow(acc, vec4<f32>(${1 / how.p}))`;
    default:
      return how satisfies never;
  }
}

/** Taps of a window that are inside the padded image: all of them, except where ceil_mode lets the last window overhang it. */
function paddedCount(block: Block, spec: PoolSpec, outputs: readonly string[]): string {
  const factors = outputs.map((output, axis) => {
    const [kernel, stride, dilation] = [spec.kernel[axis]!, spec.stride[axis]!, spec.dilation[axis]!];
    const padded = spec.inputSpatial[axis]! + spec.padBegin[axis]! + spec.padEnd[axis]!;
    const reach = (spec.outputSpatial[axis]! - 1) * stride + (kernel - 1) * dilation;
    if (reach < padded) return `${kernel}u`;
    return block.let(`taps${axis}`, `min(${kernel}u, (${padded - 1}u - ${output} * ${stride}u) / ${dilation}u + 1u)`);
  });
  return factors.join(' * ');
}

function maskLanes(value: string, valid: number, scalar: string): string {
  return `select(vec4<${scalar}>(), ${value}, vec4<u32>(channel * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(${valid}u))`;
}
