/**
 * The join kernel: several parts of a concatenation copied by one dispatch, one thread per element.
 *
 * For the parts that could not be written into place: they are often small, and a dispatch costs more than they do. Lanes that
 * no part fills are a part without a source, which is zero.
 */
import type { KernelCall } from '../lower/call.ts';
import { address, decodeIndex, memoryOrder } from '../lower/space.ts';
import { type DeviceTensor, storedBytes, type View, viewOf } from '../lower/tensor.ts';
import type { DeviceProfile } from '../profile.ts';
import { bindElements, type ElementAccess } from '../wgsl/access.ts';
import { type Block, ModuleBuilder } from '../wgsl/module.ts';
import { flatInvocations, flatWorkgroup, foldWorkgroups } from './grid.ts';

export interface JoinPart {
  readonly source: { readonly tensor: DeviceTensor; readonly view: View } | undefined;
  /** Its first element along the axis, in the target. */
  readonly start: number;
  readonly extent: number;
}

export interface JoinSpec {
  readonly label: string;
  readonly axis: number;
  readonly parts: readonly JoinPart[];
  /** Of 32-bit elements: neighbouring threads write neighbouring elements. */
  readonly target: DeviceTensor;
}

/** Tensors that the kernel of these parts binds beside the target; parts of one tensor share its binding. */
export function joinedTensors(parts: readonly JoinPart[]): DeviceTensor[] {
  return [...new Map(parts.flatMap(({ source }) => (source ? [[source.tensor.id, source.tensor] as const] : []))).values()];
}

export function joinKernel({ label, axis, parts, target }: JoinSpec, profile: DeviceProfile): KernelCall {
  const view = viewOf(target);
  // Threads in the order of the target's memory.
  const order = memoryOrder(view.strides);
  const total = parts.reduce((sum, { extent }) => sum + extent, 0);
  const extents = order.map((at) => (at === axis ? total : target.dims[at]!));
  const threads = extents.reduce((all, extent) => all * extent, 1);
  const invocations = flatInvocations(threads, profile);
  const grid = foldWorkgroups(Math.ceil(threads / invocations), profile);
  const module = new ModuleBuilder(label);
  const tensors = joinedTensors(parts);
  const bound = new Map(tensors.map((tensor, i) => [tensor.id, bindElements(module, `in${i}`, tensor, storedBytes(tensor), 1, 'read')]));
  const out = bindElements(module, 'out', target, storedBytes(target), 1, 'read_write');
  module.main(invocations, (block) => {
    block.let('i', `${flatWorkgroup(grid)} * ${invocations}u + lid`);
    block.if(`i >= ${threads}u`, (inside) => inside.line('return'));
    const codes = decodeIndex('i', extents);
    const at = target.dims.map((_, a) => block.let(`c${a}`, codes[order.indexOf(a)]!));
    block.var('value', `${out.scalar}()`);
    block.var('place', '0u');
    emitParts(block, axis, parts, at, bound);
    block.line(out.store(address(view, at.map((c, a) => (a === axis ? 'place' : c))), 'value'));
  });
  return { source: module.finish(), operands: [...tensors, target], workgroups: grid };
}

/** A chain of conditions along the axis: which part a thread is in, its value, and its place in the target. */
function emitParts(block: Block, axis: number, parts: readonly JoinPart[], at: readonly string[], bound: ReadonlyMap<number, ElementAccess>): void {
  let before = 0;
  for (const { source, start, extent } of parts) {
    block.if(`(${at[axis]} >= ${before}u) & (${at[axis]} < ${before + extent}u)`, (inside) => {
      const own = inside.let('own', `${at[axis]} - ${before}u`);
      if (source) inside.line(`value = ${bound.get(source.tensor.id)!.load(address(source.view, at.map((c, a) => (a === axis ? own : c))))}`);
      inside.line(`place = own + ${start}u`);
    });
    before += extent;
  }
}
