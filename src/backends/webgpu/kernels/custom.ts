/**
 * Kernels that plugins write: the tool declares the buffers and the entry point, the plugin says what one invocation does.
 *
 * Buffers are arrays of a known size, the flat index is checked before the plugin's code runs, and identifiers are the op's own
 * names, so that a kernel reads like its op. The conformance kit generates the same module over longer arrays (`guard`), in which
 * an access past the end lands on elements that it watches.
 */
import { opTitle, type CustomDefinition, type KernelBuffer, type KernelCode, type Operands, type Tile, type WgslKernel } from '../../../ir/custom.ts';
import { elementCount, type DType, type TensorType } from '../../../ir/tensor.ts';
import { inOp } from '../../../ops/custom.ts';
import type { KernelCall } from '../lower/call.ts';
import { storageOf } from '../lower/tensor.ts';
import type { DeviceProfile } from '../profile.ts';
import { ModuleBuilder, type Block, type KernelSource } from '../wgsl/module.ts';
import { flatWorkgroup, foldWorkgroups } from './grid.ts';

/** A type that a kernel can read or write; the element type of its array. */
export function kernelScalar(dtype: DType): KernelBuffer['scalar'] | undefined {
  const storage = storageOf(dtype);
  return storage === 'f32' || storage === 'f16' || storage === 'i32' || storage === 'u32' ? storage : undefined;
}

export interface CustomKernelSpec {
  readonly definition: CustomDefinition;
  readonly kernel: WgslKernel;
  readonly inputs: readonly (TensorType | undefined)[];
  readonly outputs: readonly TensorType[];
  readonly tile: Tile;
  /** Elements that each array is longer than its tensor; whole vec4s of 4-byte elements without a guard. */
  readonly guard?: number;
  /** Workgroups and their invocations are numbered from the last to the first: other code runs first, and a race shows. */
  readonly backwards?: boolean;
}

export interface CustomKernel {
  readonly source: KernelSource;
  readonly workgroups: KernelCall['workgroups'];
  readonly code: KernelCode;
}

/** The module and its grid. Throws TsrtError PLUGIN_FAILED for code that asks for what no device has. */
export function customKernel(spec: CustomKernelSpec, profile: DeviceProfile): CustomKernel {
  const { definition, kernel, tile, guard } = spec;
  const { op, attrs } = definition;
  const module = new ModuleBuilder(opTitle(op));
  const bind = (name: string, type: TensorType, access: 'read' | 'read_write'): KernelBuffer => {
    const scalar = kernelScalar(type.dtype)!;
    const count = elementCount(type.dims);
    // Bindings are whole vec4s, and never empty.
    const words = guard === undefined ? Math.max(4, Math.ceil(count / 4) * 4) : count + guard;
    return { ...type, name: module.storage(name, scalar, 1, words, access), scalar, count };
  };
  const inputs = op.inputs.map((input, index) => {
    const type = spec.inputs[index];
    return type && bind(identifier(input.name), type, 'read');
  });
  const outputs = op.outputs.map((name, index) => bind(identifier(name), spec.outputs[index]!, 'read_write'));
  const code = inOp(definition, 'WGSL kernel', () => checkedCode(kernel.emit({ attrs, inputs: inputs as Operands<KernelBuffer>, outputs, tile }), profile));
  if (code.declarations !== undefined) module.declare(code.declarations);
  const grid = foldWorkgroups(Math.ceil(code.threads / code.workgroupSize), profile);
  module.main(code.workgroupSize, (block) => {
    if (spec.backwards) numberBackwards(block, code);
    block.let('i', `${flatWorkgroup(grid)} * ${code.workgroupSize}u + lid`);
    // Where invocations wait for each other, whole workgroups return: a barrier must be reached by all of one or by none.
    const beyond = waits(code) ? `${flatWorkgroup(grid)} >= ${code.threads / code.workgroupSize}u` : `i >= ${code.threads}u`;
    block.if(beyond, (inside) => inside.line('return'));
    for (const line of code.body.split('\n')) block.raw(line);
    if (spec.backwards) block.raw('}');
  });
  return { source: module.finish(), workgroups: grid, code };
}

/** Opens a block in which `wid` and `lid` count down. Lanes of a subgroup keep their places: which they are is the device's to say. */
function numberBackwards(block: Block, code: KernelCode): void {
  // Names that a plugin's declarations would not have: these would hide them.
  block.let('tsrt_counted', SUBGROUP_CALL.test(textOf(code)) ? 'lid' : `${code.workgroupSize - 1}u - lid`);
  block.let('tsrt_mirrored', 'groups - vec3<u32>(1u) - wid');
  block.raw('{');
  block.let('wid', 'tsrt_mirrored');
  block.let('lid', 'tsrt_counted');
}

const SUBGROUP_CALL = /\b(subgroup|quad)[A-Z]\w*\s*[(<]/;
const BARRIER_CALL = /\b(workgroupBarrier|storageBarrier|textureBarrier|workgroupUniformLoad)\s*[(<]/;

function textOf({ body, declarations = '' }: KernelCode): string {
  return `${declarations}\n${body}`;
}

/** Whether invocations of a workgroup wait for each other, or exchange values within a subgroup. */
function waits(code: KernelCode): boolean {
  return BARRIER_CALL.test(textOf(code)) || SUBGROUP_CALL.test(textOf(code));
}

/** WGSL identifiers have no dashes or dots; a prefix keeps an op's name apart from WGSL's words. */
function identifier(name: string): string {
  const safe = name.replace(/[^A-Za-z0-9_]/g, '_');
  return /^[A-Za-z]/.test(safe) ? safe : `t_${safe}`;
}

function checkedCode(code: KernelCode, { maxInvocations }: DeviceProfile): KernelCode {
  const { workgroupSize, threads, body } = code;
  if (typeof body !== 'string') throw new Error('it gives no body');
  if (!Number.isSafeInteger(threads) || threads < 0) throw new Error(`threads must be a whole number, found ${threads}`);
  if (!Number.isSafeInteger(workgroupSize) || workgroupSize < 1 || workgroupSize > maxInvocations) {
    throw new Error(`workgroupSize must be from 1 to ${maxInvocations}, found ${workgroupSize}`);
  }
  if (waits(code) && threads % workgroupSize !== 0) {
    throw new Error(`its invocations wait for each other, so that threads must be whole workgroups: a multiple of ${workgroupSize}, found ${threads}. Round it up, and test the index where the body reads and writes`);
  }
  return code;
}

/** `block=64`, or `default` where there is nothing to choose. */
export function tileName(tile: Tile): string {
  return Object.entries(tile).map(([key, value]) => `${key}=${value}`).join(' ') || 'default';
}
