/**
 * Images of few channels made ready for the packed matrix kernel: pixels of four elements, rows padded as the convolution wants them.
 *
 * A window's row is then one run of memory, eight pixels of a 7×7 filter for instance, and the depth of the product is rows × pixels × 4
 * in place of rows × pixels × a whole vector of channels. Runs must begin at 16 bytes: where a stride does not keep to that, the rows lie
 * there once for each phase, shifted, or two rows of bytes lie together, pixel by pixel. What is done to every element first (a quantization, a normalization of bytes) is done on the way.
 * Prior art: the input layout of cuDNN's and TensorRT's first convolutions (NHWC4).
 */
import type { Dims } from '../../../ir/tensor.ts';
import { exprDtype } from '../../../ops/internal.ts';
import type { KernelCall } from '../lower/call.ts';
import type { Computed } from '../lower/context.ts';
import { address, decodeIndex } from '../lower/space.ts';
import { channelAlignment, type DeviceTensor, storedBytes } from '../lower/tensor.ts';
import type { DeviceProfile } from '../profile.ts';
import { bindElements, packedWords, registerType } from '../wgsl/access.ts';
import { ExprEmitter } from '../wgsl/expr.ts';
import { type Block, ModuleBuilder } from '../wgsl/module.ts';
import { independentThreads } from './grid.ts';

export type RunStorage = 'f32' | 'f16' | 'i8';

export interface FewChannelsSpec {
  /** The image, [N, C, H, W] of up to four channels. */
  readonly image: Computed;
  readonly dims: Dims;
  /** [N, rows / together, phases, pixels, together, 4], linear; rows are whole vectors. */
  readonly output: DeviceTensor & { readonly storage: RunStorage };
  readonly padTop: number;
  readonly padLeft: number;
  /** Pixels by which one phase is shifted against the one before. */
  readonly shift: number;
  /** What lies outside the image: 0, or a zero point. */
  readonly fill: number;
}

/** One invocation writes 16 bytes. */
export function fewChannelsKernel(spec: FewChannelsSpec, profile: DeviceProfile): KernelCall {
  const { image: source, output, padTop, padLeft, shift } = spec;
  const [, , height, width] = spec.dims as [number, number, number, number];
  const together = output.dims[4]!;
  const pixels = channelAlignment(output.storage) / 4 / together;
  const extents = output.dims.slice(0, 4).map((extent, axis) => (axis === 3 ? extent / pixels : extent));
  const threads = extents.reduce((all, extent) => all * extent, 1);
  const module = new ModuleBuilder('FewChannels');
  const inputs = source.inputs.map(({ tensor }, i) => bindElements(module, `x${i}`, tensor, storedBytes(tensor), 1, 'read'));
  module.storage('out', 'u32', 4, storedBytes(output) / 16, 'read_write');
  const workgroups = independentThreads(module, threads, profile, (block) => {
    const [image, row, phase, run] = decodeIndex('i', extents).map((code, axis) => block.let(`c${axis}`, code));
    // As unsigned numbers, positions before the image are large.
    const ys = Array.from({ length: together }, (_, i) => block.let(`y${i}`, `${row}${together === 1 ? '' : ` * ${together}u + ${i}u`} - ${padTop}u`));
    block.let('first', `${run} * ${pixels}u + ${phase} * ${shift}u - ${padLeft}u`);
    const words = Array.from({ length: pixels * together }, (_, i) => {
      const y = ys[i % together]!;
      block.let(`z${i}`, `first + ${Math.floor(i / together)}u`);
      const inside = block.let(`in${i}`, `(${y} < ${height}u) & (z${i} < ${width}u)`);
      const at = [image!, '', `min(${y}, ${height - 1}u)`, `min(z${i}, ${width - 1}u)`];
      return packedWords(module, output, pixelValue(module, block, spec, inputs, at, inside, i));
    });
    block.line(`out[i] = ${words.length === 1 ? words[0]! : `vec4<u32>(${words.join(', ')})`}`);
  });
  return { source: module.finish(), operands: [...source.inputs.map(({ tensor }) => tensor), output], workgroups };
}

/** Emits a pixel: its channels as a vector of four, the image's own or `fill`. */
function pixelValue(
  module: ModuleBuilder,
  block: Block,
  { image, dims, fill }: FewChannelsSpec,
  accesses: readonly ReturnType<typeof bindElements>[],
  at: readonly string[],
  inside: string,
  pixel: number,
): string {
  const channels = dims[1]!;
  const registers = image.inputs.map(({ tensor, view }, i) => {
    const { scalar, load } = accesses[i]!;
    const element = (channel: number): string => load(address(view, at.map((code, axis) => (axis === 1 ? `${channel}u` : code))));
    const lanes = [0, 1, 2, 3].map((channel) => (channel < channels ? element(channel) : `${scalar}(0)`));
    const value = block.let(`v${pixel}_${i}`, view.strides[1] === 0 ? `vec4<${scalar}>(${element(0)})` : `vec4<${scalar}>(${lanes.join(', ')})`);
    return registerType(tensor.dtype) === 'bool' ? `(${value} != vec4<u32>())` : value;
  });
  const value = new ExprEmitter(module, block, 4, registers, { prefix: `t${pixel}_` }).emit(image.expr);
  const scalar = registerType(exprDtype(image.expr));
  const valid = [0, 1, 2, 3].map((channel) => (channel < channels ? inside : 'false'));
  return block.let(`p${pixel}`, `select(vec4<${scalar}>(${scalar}(${fill})), ${value}, vec4<bool>(${valid.join(', ')}))`);
}
