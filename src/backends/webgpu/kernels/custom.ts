/**
 * Kernels that plugins write: the tool declares the buffers and the entry point, the plugin says what one invocation does.
 *
 * Buffers are arrays of a known size, the flat index is checked before the plugin's code runs, and identifiers are the op's own
 * names, so that a kernel reads like its op. The conformance kit generates the same module over longer arrays (`guard`), in which
 * an access past the end lands on elements that it watches.
 */
import { opTitle, type CustomDefinition, type KernelBuffer, type KernelCode, type Operands, type Tile, type WgslKernel } from '../../../ir/custom.ts';
import { elementCount, type DType, type TensorType } from '../../../ir/tensor.ts';
import { CAST_ONLY } from '../../../passes/device-types.ts';
import { inOp } from '../../../ops/custom.ts';
import { KERNEL_NAMES } from '../../../ops/custom-faults.ts';
import type { KernelCall } from '../lower/call.ts';
import { storageOf } from '../lower/tensor.ts';
import type { DeviceProfile } from '../profile.ts';
import { ModuleBuilder, type Block, type KernelSource } from '../wgsl/module.ts';
import { flatWorkgroup, foldWorkgroups } from './grid.ts';

/** A type that a kernel can read or write; the element type of its array. */
export function kernelScalar(dtype: DType): KernelBuffer['scalar'] | undefined {
  return CAST_ONLY.has(dtype) ? undefined : storageOf(dtype);
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

/** One dispatch of a custom op. */
export interface CustomPass {
  readonly source: KernelSource;
  readonly workgroups: KernelCall['workgroups'];
  readonly code: KernelCode;
  /** Names of the operands and of scratch memory that it binds, as the op and the kernel have them, in the order of the bindings. */
  readonly bound: readonly string[];
}

/** A buffer that code may name, and how it is bound. */
interface Named {
  readonly key: string;
  readonly buffer: KernelBuffer;
  readonly access: 'read' | 'read_write';
}

/** Types of the memory that a kernel's passes share, by name. Throws TsrtError PLUGIN_FAILED for what no device holds. */
export function customScratch({ definition, kernel, inputs, outputs, tile }: CustomKernelSpec): Readonly<Record<string, TensorType>> {
  if (!kernel.scratch) return {};
  const { op, attrs } = definition;
  return inOp(definition, 'scratch', () => {
    const scratch = kernel.scratch!({ attrs, inputs: inputs as Operands<TensorType>, outputs, tile });
    for (const [name, type] of Object.entries(scratch)) {
      if (!/^[A-Za-z][A-Za-z0-9_]*$/.test(name)) throw new Error(`'${name}' is not a valid name in WGSL: use letters, digits and underscores, with a letter first`);
      if (KERNEL_NAMES.includes(name) || op.outputs.includes(name) || op.inputs.some((input) => input.name === name)) throw new Error(`'${name}' means something else in the kernel: an operand, or one of ${KERNEL_NAMES.join(', ')}`);
      if (!Array.isArray(type?.dims) || !type.dims.every((size) => Number.isSafeInteger(size) && size >= 0)) throw new Error(`'${name}' must be { dtype, dims } with whole numbers as dims, found ${JSON.stringify(type)}`);
      if (kernelScalar(type.dtype) === undefined) throw new Error(`no kernel holds ${type.dtype}, the type of '${name}'`);
    }
    return scratch;
  });
}

/** The passes with their grids, those without threads left out. Throws TsrtError PLUGIN_FAILED for code that asks for what no device has. */
export function customKernels(spec: CustomKernelSpec, profile: DeviceProfile): readonly CustomPass[] {
  const { definition, kernel, tile } = spec;
  const { op, attrs } = definition;
  const inputs = op.inputs.map(({ name }, index) => spec.inputs[index] && bufferOf(name, spec.inputs[index]));
  const outputs = op.outputs.map((name, index) => bufferOf(name, spec.outputs[index]!));
  const scratch = Object.fromEntries(Object.entries(customScratch(spec)).map(([name, type]) => [name, bufferOf(name, type)]));
  const named: readonly Named[] = [
    ...inputs.flatMap((buffer, index) => (buffer ? [{ key: op.inputs[index]!.name, buffer, access: 'read' as const }] : [])),
    ...outputs.map((buffer, index) => ({ key: op.outputs[index]!, buffer, access: 'read_write' as const })),
    ...Object.entries(scratch).map(([key, buffer]) => ({ key, buffer, access: 'read_write' as const })),
  ];
  const passes = inOp(definition, 'WGSL kernel', () => {
    const emitted = kernel.emit({ attrs, inputs: inputs as Operands<KernelBuffer>, outputs, tile, scratch });
    const codes = isPasses(emitted) ? emitted : [emitted];
    if (codes.length === 0) throw new Error('it gives no pass');
    return codes.map((code, index) => {
      const where = codes.length > 1 ? `pass ${index + 1}: ` : '';
      const bound = named.filter(({ buffer }) => new RegExp(`\\b${buffer.name}\\b`).test(textOf(checkedCode(code, profile, where))));
      if (bound.length > profile.maxStorageBuffers) throw new Error(`${where}it names ${bound.length} tensors, and a kernel binds at most ${profile.maxStorageBuffers}: give it several passes`);
      return { code, bound };
    });
  });
  return passes.filter(({ code }) => code.threads > 0).map(({ code, bound }) => passOf(code, bound, spec, profile));
}

const isPasses = (emitted: KernelCode | readonly KernelCode[]): emitted is readonly KernelCode[] => Array.isArray(emitted);

function bufferOf(name: string, type: TensorType): KernelBuffer {
  return { ...type, name: identifier(name), scalar: kernelScalar(type.dtype)!, count: elementCount(type.dims) };
}

function passOf(code: KernelCode, bound: readonly Named[], { definition, guard, backwards }: CustomKernelSpec, profile: DeviceProfile): CustomPass {
  const module = new ModuleBuilder(opTitle(definition.op));
  for (const { buffer: { name, scalar, count }, access } of bound) {
    // Bindings are whole vec4s, and never empty.
    module.storage(name, scalar, 1, guard === undefined ? Math.max(4, Math.ceil(count / 4) * 4) : count + guard, access);
  }
  if (code.declarations !== undefined) module.declare(code.declarations);
  const grid = foldWorkgroups(Math.ceil(code.threads / code.workgroupSize), profile);
  module.main(code.workgroupSize, (block) => {
    if (backwards) numberBackwards(block, code);
    block.let('i', `${flatWorkgroup(grid)} * ${code.workgroupSize}u + lid`);
    // Where invocations wait for each other, whole workgroups return: a barrier must be reached by all of one or by none.
    const beyond = waits(code) ? `${flatWorkgroup(grid)} >= ${code.threads / code.workgroupSize}u` : `i >= ${code.threads}u`;
    block.if(beyond, (inside) => inside.line('return'));
    for (const line of code.body.split('\n')) block.raw(line);
    if (backwards) block.raw('}');
  });
  return { source: module.finish(), workgroups: grid, code, bound: bound.map(({ key }) => key) };
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

function checkedCode(code: KernelCode, { maxInvocations }: DeviceProfile, where: string): KernelCode {
  const { workgroupSize, threads, body } = code;
  if (typeof body !== 'string') throw new Error(`${where}it gives no body`);
  if (!Number.isSafeInteger(threads) || threads < 0) throw new Error(`${where}threads must be a whole number, found ${threads}`);
  if (!Number.isSafeInteger(workgroupSize) || workgroupSize < 1 || workgroupSize > maxInvocations) {
    throw new Error(`${where}workgroupSize must be from 1 to ${maxInvocations}, found ${workgroupSize}`);
  }
  if (waits(code) && threads % workgroupSize !== 0) {
    throw new Error(`${where}its invocations wait for each other, so that threads must be whole workgroups: a multiple of ${workgroupSize}, found ${threads}. Round it up, and test the index where the body reads and writes`);
  }
  return code;
}

/** `block=64`, or `default` where there is nothing to choose. */
export function tileName(tile: Tile): string {
  return Object.entries(tile).map(([key, value]) => `${key}=${value}`).join(' ') || 'default';
}
