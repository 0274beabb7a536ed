/**
 * Depthwise convolution: one invocation computes four channels of one output pixel. Memory-bound, so it only has to read
 * whole vectors and reuse the image through the cache.
 */
import type { KernelCall } from '../lower/call.ts';
import { decodeIndex } from '../lower/space.ts';
import { type DeviceTensor, storedBytes } from '../lower/tensor.ts';
import type { DeviceProfile } from '../profile.ts';
import { bindElements } from '../wgsl/access.ts';
import { ModuleBuilder } from '../wgsl/module.ts';
import { Epilogue, epilogueOperands, type EpilogueSpec } from './epilogue.ts';
import { flatInvocations, flatWorkgroup, foldWorkgroups } from './grid.ts';
import { emitWindow, type WindowSpec } from './window.ts';

export interface DepthwiseSpec extends WindowSpec {
  /** [tap, stored channel]. */
  readonly weights: DeviceTensor;
  readonly end: EpilogueSpec;
  /** Image and weights are 8-bit integers: Σ (x − zeroPoint)·w in i32, times the scale of the channel. */
  readonly integers?: { readonly zeroPoint: number; readonly scale: DeviceTensor } | undefined;
}

export function depthwiseKernel(spec: DepthwiseSpec, profile: DeviceProfile): KernelCall {
  const vectors = spec.channels / 4;
  const pixels = spec.outputSpatial.reduce((all, extent) => all * extent, spec.images);
  // What is stored may be padded to fewer channels than the image.
  const stored = spec.end.storedColumns / 4;
  const threads = pixels * stored;
  const invocations = flatInvocations(threads, profile);
  const grid = foldWorkgroups(Math.ceil(threads / invocations), profile);
  const module = new ModuleBuilder('Depthwise');
  const x = bindElements(module, 'x', spec.x, storedBytes(spec.x), 4, 'read');
  const w = bindElements(module, 'w', spec.weights, storedBytes(spec.weights), 4, 'read');
  const { integers } = spec;
  const scale = integers && bindElements(module, 'factor', integers.scale, storedBytes(integers.scale), 4, 'read');
  const epilogue = new Epilogue(module, spec.end);
  module.main(invocations, (block) => {
    block.let('i', `${flatWorkgroup(grid)} * ${invocations}u + lid`);
    block.if(`i >= ${threads}u`, (inside) => inside.line('return'));
    block.let('channel', `i % ${stored}u`);
    block.let('row', `i / ${stored}u`);
    const [image, ...outputs] = decodeIndex('row', [spec.images, ...spec.outputSpatial]).map((code, axis) => block.let(`o${axis}`, code));
    block.var('acc', integers ? 'vec4<i32>()' : 'vec4<f32>()');
    const pixel = (index: string): string => (integers ? `(vec4<i32>(${x.load(index)}) - ${integers.zeroPoint})` : x.load(index));
    emitWindow(block, spec, image!, outputs, 'channel', (inside, index, tap) =>
      inside.line(`acc += ${pixel(index)} * ${w.load(`(${tap}) * ${vectors}u + channel`)}`),
    );
    epilogue.emit(block, '0u', 'row', 'channel * 4u', scale ? block.let('real', `vec4<f32>(acc) * ${scale.load('channel')}`) : 'acc');
  });
  return {
    source: module.finish(),
    operands: [spec.x, spec.weights, ...(integers ? [integers.scale] : []), ...epilogueOperands(spec.end).map((operand) => operand.tensor)],
    workgroups: grid,
  };
}
