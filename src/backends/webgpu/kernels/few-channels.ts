/**
 * Images of few channels made ready for the packed matrix kernel: pixels of four elements, rows padded as the convolution wants them.
 *
 * A window's row is then one run of memory, eight pixels of a 7×7 filter for instance, and the depth of the product is rows × pixels × 4
 * in place of rows × pixels × a whole vector of channels. Runs must begin at 16 bytes: where a stride does not keep to that, the rows lie
 * there once for each phase, shifted. Prior art: the input layout of cuDNN's and TensorRT's first convolutions (NHWC4).
 */
import type { KernelCall } from '../lower/call.ts';
import { address, decodeIndex } from '../lower/space.ts';
import { type DeviceTensor, storedBytes, viewOf } from '../lower/tensor.ts';
import type { DeviceProfile } from '../profile.ts';
import { bindElements } from '../wgsl/access.ts';
import { ModuleBuilder } from '../wgsl/module.ts';
import { flatInvocations, flatWorkgroup, foldWorkgroups } from './grid.ts';

export interface FewChannelsSpec {
  /** [N, C, H, W] of up to four channels. */
  readonly x: DeviceTensor;
  /** [N, rows, phases, pixels, 4], linear. */
  readonly output: DeviceTensor;
  readonly padTop: number;
  readonly padLeft: number;
  /** Pixels by which one phase is shifted against the one before. */
  readonly shift: number;
  /** What lies outside the image: 0, or a zero point. */
  readonly fill: number;
}

/** One invocation writes one pixel. */
export function fewChannelsKernel(spec: FewChannelsSpec, profile: DeviceProfile): KernelCall {
  const { x, output, padTop, padLeft, shift, fill } = spec;
  const [, channels, height, width] = x.dims as [number, number, number, number];
  const extents = output.dims.slice(0, -1);
  const threads = extents.reduce((all, extent) => all * extent, 1);
  const invocations = flatInvocations(threads, profile);
  const grid = foldWorkgroups(Math.ceil(threads / invocations), profile);
  const module = new ModuleBuilder('FewChannels');
  const source = bindElements(module, 'x', x, storedBytes(x), 1, 'read');
  const target = bindElements(module, 'out', output, storedBytes(output), 4, 'read_write');
  const view = viewOf(x);
  module.main(invocations, (block) => {
    block.let('i', `${flatWorkgroup(grid)} * ${invocations}u + lid`);
    block.if(`i >= ${threads}u`, (inside) => inside.line('return'));
    const [image, row, phase, pixel] = decodeIndex('i', extents).map((code, axis) => block.let(`c${axis}`, code));
    // As unsigned numbers, positions before the image are large.
    block.let('y', `${row} - ${padTop}u`);
    block.let('z', `${pixel} + ${phase} * ${shift}u - ${padLeft}u`);
    block.let('ok', `(y < ${height}u) & (z < ${width}u)`);
    const lanes = [0, 1, 2, 3].map((channel) => {
      if (channel >= channels) return `${source.scalar}(${fill})`;
      const index = address(view, [image!, `${channel}u`, `min(y, ${height - 1}u)`, `min(z, ${width - 1}u)`]);
      return `select(${source.scalar}(${fill}), ${source.load(index)}, ok)`;
    });
    block.line(target.store('i', `vec4<${source.scalar}>(${lanes.join(', ')})`));
  });
  return { source: module.finish(), operands: [x, output], workgroups: grid };
}
