/**
 * The join kernel: several parts of a concatenation copied by one dispatch, a thread per element or per four.
 *
 * For the parts that could not be written into place: they are often small, and a dispatch costs more than they do. Lanes that
 * no part fills are a part without a source, which is zero.
 */
import { STORAGE_BYTES } from '../../../engine/plan.ts';
import type { KernelCall } from '../lower/call.ts';
import { address, decodeIndex, isAligned, memoryOrder } from '../lower/space.ts';
import { type DeviceTensor, storedBytes, type View, viewOf } from '../lower/tensor.ts';
import type { DeviceProfile } from '../profile.ts';
import { bindElements, type ElementAccess, loadedType } from '../wgsl/access.ts';
import { type Block, ModuleBuilder, type Width } from '../wgsl/module.ts';
import { independentThreads } from './grid.ts';

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
  /** Neighbouring threads write neighbouring elements of it. */
  readonly target: DeviceTensor;
}

/** Tensors that the kernel of these parts binds beside the target; parts of one tensor share its binding. */
export function joinedTensors(parts: readonly JoinPart[]): DeviceTensor[] {
  return [...new Map(parts.flatMap(({ source }) => (source ? [[source.tensor.id, source.tensor] as const] : []))).values()];
}

/** Whether the kernel can write the target: narrow elements are written four at a time, each four of one part. */
export function isJoinable(spec: Omit<JoinSpec, 'label'>): boolean {
  return STORAGE_BYTES[spec.target.storage] >= 4 || widthOf(spec) === 4;
}

/** The axis along which the target's memory runs. */
const innerOf = ({ target }: Pick<JoinSpec, 'target'>): number => memoryOrder(viewOf(target).strides).at(-1)!;

function widthOf(spec: Omit<JoinSpec, 'label'>): Width {
  const view = viewOf(spec.target);
  const inner = innerOf(spec);
  const extents = inner === spec.axis ? spec.parts.flatMap(({ start, extent }) => [start, extent]) : [spec.target.dims[inner]!];
  return isVector(view, inner) && extents.every((extent) => extent % 4 === 0) ? 4 : 1;
}

const isVector = (view: View, inner: number): boolean => view.strides[inner] === 1 && isAligned(view, 4, inner);

/** Reads the elements at these coordinates, the first of `width` along the target's memory. */
type Load = (at: readonly string[]) => string;

export function joinKernel(spec: JoinSpec, profile: DeviceProfile): KernelCall {
  const { label, axis, parts, target } = spec;
  const view = viewOf(target);
  const width = widthOf(spec);
  const inner = innerOf(spec);
  // Threads in the order of the target's memory.
  const order = memoryOrder(view.strides);
  const total = parts.reduce((sum, { extent }) => sum + extent, 0);
  const extents = order.map((at) => (at === axis ? total : target.dims[at]!) / (at === inner ? width : 1));
  const threads = extents.reduce((all, extent) => all * extent, 1);
  const module = new ModuleBuilder(label);
  const tensors = joinedTensors(parts);
  const isWide = (tensor: DeviceTensor): boolean => width === 4 && parts.every(({ source }) => source?.tensor.id !== tensor.id || isVector(source.view, inner));
  const bound = new Map(tensors.map((tensor, i) => [tensor.id, bindElements(module, `in${i}`, tensor, storedBytes(tensor), isWide(tensor) ? 4 : 1, 'read')]));
  const loadOf = ({ tensor, view: from }: NonNullable<JoinPart['source']>): Load => {
    const access = bound.get(tensor.id)!;
    if (isWide(tensor)) return (at) => access.load(inFours(address(from, at)));
    const lane = (at: readonly string[], step: number): string => access.load(address(from, at.map((c, a) => (a === inner && step > 0 ? `(${c} + ${step}u)` : c))));
    return (at) => (width === 1 ? lane(at, 0) : `${loadedType(tensor, 4)}(${[0, 1, 2, 3].map((step) => lane(at, step)).join(', ')})`);
  };
  const out: ElementAccess = bindElements(module, 'out', target, storedBytes(target), width, 'read_write');
  const workgroups = independentThreads(module, threads, profile, (block) => {
    const codes = decodeIndex('i', extents);
    const at = target.dims.map((_, a) => block.let(`c${a}`, a === inner && width === 4 ? `(${codes[order.indexOf(a)]}) * 4u` : codes[order.indexOf(a)]!));
    block.var('value', `${loadedType(target, width)}()`);
    block.var('place', '0u');
    emitParts(block, axis, parts, at, loadOf);
    const to = address(view, at.map((c, a) => (a === axis ? 'place' : c)));
    block.line(out.store(width === 4 ? inFours(to) : to, 'value'));
  });
  return { source: module.finish(), operands: [...tensors, target], workgroups };
}

const inFours = (index: string): string => `(${index}) / 4u`;

/** A chain of conditions along the axis: which part a thread is in, its value, and its place in the target. */
function emitParts(block: Block, axis: number, parts: readonly JoinPart[], at: readonly string[], loadOf: (source: NonNullable<JoinPart['source']>) => Load): void {
  let before = 0;
  for (const { source, start, extent } of parts) {
    block.if(`(${at[axis]} >= ${before}u) & (${at[axis]} < ${before + extent}u)`, (inside) => {
      const own = inside.let('own', `${at[axis]} - ${before}u`);
      if (source) inside.line(`value = ${loadOf(source)(at.map((c, a) => (a === axis ? own : c)))}`);
      inside.line(`place = own + ${start}u`);
    });
    before += extent;
  }
}
