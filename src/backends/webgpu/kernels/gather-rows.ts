/**
 * Gathering whole rows: what an embedding does. One thread moves four neighbouring elements, so that rows can be stored as halves
 * and are read in vectors. Rows of few bits are dequantized on their way.
 */
import { address, decodeIndex, inUnits, isAligned } from '../lower/space.ts';
import type { KernelCall } from '../lower/call.ts';
import { type DeviceTensor, storedBytes, type View, viewOf } from '../lower/tensor.ts';
import type { DeviceProfile } from '../profile.ts';
import { bindElements, loadedType } from '../wgsl/access.ts';
import { type Block, ModuleBuilder } from '../wgsl/module.ts';
import { type FewBitRows, fewBitRowOperands, FewBitRowLoader } from './few-bits/rows.ts';
import { independentThreads } from './grid.ts';
import { wrapIndex } from './pointwise.ts';

export interface GatherRowsSpec {
  /** A tensor of whole rows; or a table of few bits, of which rows are gathered (axis 0). */
  readonly data: DeviceTensor | FewBitRows;
  readonly indices: DeviceTensor;
  /** Of whole rows, but that those of few bits may be written anywhere. */
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
  const module = new ModuleBuilder('kind' in data ? `Gather w${data.bits}` : 'Gather');
  const load = 'kind' in data ? fewBitVectors(module, data) : vectors(module, data);
  const at = bindElements(module, 'indices', indices, storedBytes(indices), 1, 'read');
  const width = hasWholeRows(output) ? 4 : 1;
  const to = bindElements(module, 'out', output, storedBytes(output), width, 'read_write');
  const workgroups = independentThreads(module, threads, profile, (block) => {
    const point = decodeIndex('i', extents).map((code, a) => block.let(`c${a}`, code));
    const rank = indices.dims.length;
    block.let('index', at.load(address(viewOf(indices), point.slice(axis, axis + rank))));
    const row = [...point.slice(0, axis), wrapIndex('index', data.dims[axis]!), ...point.slice(axis + rank)];
    block.let('value', load(block, row));
    if (width === 4) block.line(to.store(address(inFours(output), point), 'value'));
    else for (let lane = 0; lane < 4; lane++) block.line(to.store(address(viewOf(output), [...point.slice(0, -1), `(${point.at(-1)} * 4u + ${lane}u)`]), `value[${lane}]`));
  });
  return { source: module.finish(), operands: [...('kind' in data ? fewBitRowOperands(data) : [data]), indices, output], workgroups };
}

/** Binds what rows are taken from. Gives WGSL for the vector at a row's coordinates, of which the last counts vectors. */
type VectorLoader = (block: Block, row: readonly string[]) => string;

function vectors(module: ModuleBuilder, data: DeviceTensor): VectorLoader {
  const from = bindElements(module, 'data', data, storedBytes(data), 4, 'read');
  return (_, row) => `${loadedType(data, 4)}(${from.load(address(inFours(data), row))})`;
}

function fewBitVectors(module: ModuleBuilder, data: FewBitRows): VectorLoader {
  const loader = new FewBitRowLoader(module, data);
  return (block, [row, vector]) => loader.load(block, row!, vector!);
}
