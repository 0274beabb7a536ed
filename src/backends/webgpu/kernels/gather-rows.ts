/**
 * Gathering whole rows: what an embedding does. One thread moves four neighbouring elements, so that rows can be stored as halves
 * and are read in vectors.
 */
import { address, decodeIndex, inUnits, isAligned } from '../lower/space.ts';
import { type DeviceTensor, storedBytes, type View, viewOf } from '../lower/tensor.ts';
import type { DeviceProfile } from '../profile.ts';
import { bindElements, loadedType } from '../wgsl/access.ts';
import { ModuleBuilder } from '../wgsl/module.ts';
import { independentThreads } from './grid.ts';
import type { KernelCall } from '../lower/call.ts';
import { wrapIndex } from './pointwise.ts';

export interface GatherRowsSpec {
  readonly data: DeviceTensor;
  readonly indices: DeviceTensor;
  readonly output: DeviceTensor;
  /** Of `data`, counted from the front, and not its last. */
  readonly axis: number;
}

/** Whether a tensor's last axis consists of whole vectors whose elements lie together. */
export function hasWholeRows(tensor: DeviceTensor): boolean {
  const view = viewOf(tensor);
  return (tensor.dims.at(-1) ?? 1) % 4 === 0 && view.strides.at(-1) === 1 && isAligned(view, 4, tensor.dims.length - 1);
}

/** Where the rows' vectors of four lie. */
const inFours = (tensor: DeviceTensor): View => inUnits(viewOf(tensor), 4, tensor.dims.length - 1);

export function gatherRowsKernel(spec: GatherRowsSpec, profile: DeviceProfile): KernelCall {
  const { data, indices, output, axis } = spec;
  const extents = [...output.dims.slice(0, -1), output.dims.at(-1)! / 4];
  const threads = extents.reduce((all, extent) => all * extent, 1);
  const module = new ModuleBuilder('Gather');
  const from = bindElements(module, 'data', data, storedBytes(data), 4, 'read');
  const at = bindElements(module, 'indices', indices, storedBytes(indices), 1, 'read');
  const to = bindElements(module, 'out', output, storedBytes(output), 4, 'read_write');
  const workgroups = independentThreads(module, threads, profile, (block) => {
    const point = decodeIndex('i', extents).map((code, a) => block.let(`c${a}`, code));
    const rank = indices.dims.length;
    block.let('index', at.load(address(viewOf(indices), point.slice(axis, axis + rank))));
    const row = [...point.slice(0, axis), wrapIndex('index', data.dims[axis]!), ...point.slice(axis + rank)];
    block.let('value', `${loadedType(data, 4)}(${from.load(address(inFours(data), row))})`);
    block.line(to.store(address(inFours(output), point), 'value'));
  });
  return { source: module.finish(), operands: [data, indices, output], workgroups };
}
