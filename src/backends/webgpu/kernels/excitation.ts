/**
 * Two small products in a row on one row of an image each, y = f(g(x · A) · B): the squeeze and the excitation of channels (Hu et al., "Squeeze-and-
 * Excitation Networks", 2018). Every workgroup computes all of g(x · A), which stays in its memory, and its own columns of the result. Where the row
 * is the mean over an image's pixels, every workgroup takes that first: of a small image this takes less time than a kernel of its own.
 *
 * Invocations lie as in few-rows.ts, [slice of the depth, four columns].
 */
import type { Expr } from '../../../ir/expr.ts';
import type { KernelCall } from '../lower/call.ts';
import { type DeviceTensor, storedBytes, viewOf } from '../lower/tensor.ts';
import type { DeviceProfile } from '../profile.ts';
import { bindElements, precisionOf } from '../wgsl/access.ts';
import { ExprEmitter } from '../wgsl/expr.ts';
import { type Block, ModuleBuilder } from '../wgsl/module.ts';
import { Epilogue, epilogueOperands, type EpilogueSpec } from './epilogue.ts';
import { addends, addSlices } from './few-rows.ts';
import { foldWorkgroups, repeatedWorkgroup } from './grid.ts';
import { bindGroups } from './groups.ts';

/** The end is that of the second product; rows are images. */
export interface ExcitationSpec extends EpilogueSpec {
  readonly label: string;
  readonly images: number;
  /** Channels-last [images, channels, …], whole vectors of four, with memory of its own: rows, or images of which rows are the means. */
  readonly x: DeviceTensor;
  /** Of an image. */
  readonly pixels: number;
  /** Channels as stored. */
  readonly channels: number;
  /** The first product: [channels, columns in fours], what is added (in fours too), and the function of the sums. */
  readonly squeeze: { readonly weights: DeviceTensor; readonly bias: DeviceTensor | undefined; readonly columns: number; readonly epilogue: Expr | undefined };
  /** [columns of the first product, columns in fours]. */
  readonly weights: DeviceTensor;
}

const INVOCATIONS = 256;
const MORE_INVOCATIONS = [1024, 512] as const;
/** Loads of an image, of 16 bytes, that an invocation has under way; with fewer to do, half as many invocations do them. */
const LOADS = 4;
/** Invocations side by side for the second product. */
const LANES = 32;

/** Invocations as [slice, four columns]; what is left over has no work. */
interface Team {
  readonly lanes: number;
  readonly slices: number;
}

/** Channels in one load of 16 bytes. */
const loadedChannels = ({ storage }: Pick<DeviceTensor, 'storage'>): 4 | 8 => (storage === 'f16' ? 8 : 4);

type Shape = Pick<ExcitationSpec, 'x' | 'channels' | 'pixels'> & { readonly squeeze: Pick<ExcitationSpec['squeeze'], 'columns'> };

/** The workgroup's size; undefined where an image has more channels than it takes the mean of. */
export function excitationInvocations({ x, channels, pixels, squeeze }: Shape, profile: DeviceProfile): number | undefined {
  const few = Math.min(INVOCATIONS, profile.maxInvocations);
  if (pixels === 1) return few;
  const vectors = channels / loadedChannels(x);
  const bytes = (threads: number): number => (threads + Math.ceil(squeeze.columns / 4) + channels / 4) * 16;
  const legal = [...MORE_INVOCATIONS, few].filter((threads) => threads <= profile.maxInvocations && vectors <= threads && bytes(threads) <= profile.maxWorkgroupBytes);
  return legal.find((threads) => vectors * pixels >= LOADS * threads) ?? legal.at(-1);
}

export function excitationKernel(spec: ExcitationSpec, profile: DeviceProfile): KernelCall {
  const { x, squeeze, images, pixels } = spec;
  const module = new ModuleBuilder(spec.label);
  const threads = excitationInvocations(spec, profile)!;
  const team = (lanes: number): Team => ({ lanes, slices: Math.floor(threads / lanes) });
  const hidden = Math.ceil(squeeze.columns / 4);
  const stored = Math.ceil(Math.max(spec.columns, spec.storedColumns) / 4);
  const [first, second] = [team(hidden), team(Math.min(LANES, stored))];
  const tiles = Math.ceil(stored / second.lanes);
  const grid = foldWorkgroups(images * tiles, profile);
  const row = pixels === 1 ? rowOf(module, x) : meanOf(module, spec, { lanes: spec.channels / loadedChannels(x), slices: Math.floor((threads * loadedChannels(x)) / spec.channels) }, profile);
  const a = bindElements(module, 'a', squeeze.weights, storedBytes(squeeze.weights), 4, 'read');
  const bias = squeeze.bias && bindElements(module, 'bias', squeeze.bias, storedBytes(squeeze.bias), 4, 'read');
  const b = bindElements(module, 'b', spec.weights, storedBytes(spec.weights), 4, 'read');
  const epilogue = new Epilogue(module, spec);
  module.workgroup('parts', 'f32', 4, threads);
  module.workgroup('hidden', 'f32', 4, hidden);
  module.main(threads, (block) => {
    block.let('place', repeatedWorkgroup(grid, images * tiles));
    block.let('image', `place / ${tiles}u`);
    block.let('first_group', `(place % ${tiles}u) * ${second.lanes}u`);
    block.let('batch', '0u');
    row.begin(block);
    product(block, first, `${spec.channels / 4}u`, (loop) => {
      loop.let('four', row.load('at'));
      for (const [i, component] of COMPONENTS.entries()) loop.line(`sum += four.${component} * ${a.load(`(at * 4u + ${i}u) * ${hidden}u + lane`)}`);
    }, (end, total) => {
      end.let('biased', bias ? `${total} + ${bias.load('lane')}` : total);
      const value = squeeze.epilogue ? new ExprEmitter(module, end, 4, ['biased'], { prefix: 's', precision: precisionOf(x) }).emit(squeeze.epilogue) : 'biased';
      // Functions of nothing may be something.
      const inside = `vec4<u32>(lane * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(${squeeze.columns}u)`;
      end.line(`hidden[lane] = ${squeeze.columns % 4 === 0 ? value : `select(vec4<f32>(), ${value}, ${inside})`}`);
    });
    block.line('workgroupBarrier()');
    const groups = Math.ceil(spec.columns / 4);
    product(block, second, `${hidden}u`, (loop) => {
      loop.let('four', 'hidden[at]');
      loop.let('group', `min(first_group + lane, ${groups - 1}u)`);
      for (const [i, component] of COMPONENTS.entries()) loop.line(`sum += four.${component} * ${b.load(`min(at * 4u + ${i}u, ${squeeze.columns - 1}u) * ${groups}u + group`)}`);
    }, (end, total) => {
      end.let('column', '(first_group + lane) * 4u');
      end.if(`column < ${stored * 4}u`, (inside) => {
        inside.let('total', total);
        epilogue.emit(inside, 'batch', 'image', 'column', 'total');
      });
    });
  });
  return {
    source: module.finish(),
    operands: [x, squeeze.weights, ...(squeeze.bias ? [squeeze.bias] : []), spec.weights, ...epilogueOperands(spec).map(({ tensor }) => tensor)],
    workgroups: grid,
    // f32 holds the products of halves exactly, as the kernels of halves sum theirs.
    ...(x.storage === 'f16' && { precision: 'float16' }),
  };
}

/** The row of the first product. */
interface Row {
  begin(block: Block): void;
  /** The vec4<f32> of four neighbouring channels. */
  load(four: string): string;
}

function rowOf(module: ModuleBuilder, x: DeviceTensor): Row {
  const row = bindElements(module, 'x', x, storedBytes(x), 4, 'read');
  return { begin: () => undefined, load: (four) => row.load(`image * ${viewOf(x).strides[0]! / 4}u + ${four}`) };
}

/** The mean over the pixels of an image, by a team of invocations: [slice of the pixels, 16 bytes of channels]. */
function meanOf(module: ModuleBuilder, { x, channels, pixels }: ExcitationSpec, team: Team, { compact }: DeviceProfile): Row {
  const width = loadedChannels(x);
  const access = bindGroups(module, 'x', x, width);
  const groups = Array.from({ length: width / 4 }, (_, group) => group);
  const { lanes, slices } = team;
  const loads = compact ? 1 : Math.min(LOADS, Math.ceil(pixels / slices));
  module.workgroup('mean', 'f32', 4, channels / 4);
  const add = (loop: Block, load: number, isWhole: boolean): void => {
    const pixel = load === 0 ? 'pixel' : loop.let(`pixel${load}`, `pixel + ${load * slices}u`);
    // A pixel beyond the last one is read as the last, and counts nothing.
    const values = access.load(loop, `v${load}`, `(image * ${pixels}u + ${isWhole ? pixel : `min(${pixel}, ${pixels - 1}u)`}) * ${lanes}u + lane`);
    for (const group of groups) loop.line(`sum${group} += ${isWhole ? values[group] : `select(vec4<f32>(), ${values[group]}, ${pixel} < ${pixels}u)`}`);
  };
  return {
    begin(block) {
      block.scope((scope) => {
        scope.let('lane', `lid % ${lanes}u`);
        scope.let('slice', `lid / ${lanes}u`);
        for (const group of groups) scope.var(`sum${group}`, 'vec4<f32>()');
        scope.if(`slice < ${slices}u`, (own) => own.for('pixel', 'slice', `${pixels}u`, `${slices * loads}u`, (loop) => {
          for (let load = 0; load < loads; load++) add(loop, load, load === 0 || pixels % (slices * loads) === 0);
        }));
        for (const group of groups) {
          scope.line(`parts[lid] = sum${group}`);
          scope.line('workgroupBarrier()');
          const left = addSlices(scope, team, 1);
          scope.if(`lid < ${lanes}u`, (end) => end.line(`mean[lid * ${groups.length}u + ${group}u] = (${addends('lid', lanes, left)}) / ${pixels}f`));
          scope.line('workgroupBarrier()');
        }
      });
    },
    load: (four) => `mean[${four}]`,
  };
}

const COMPONENTS = ['x', 'y', 'z', 'w'] as const;

/** Emits a product of one row: `step` adds the four depths `at` to `sum`, `finish` takes the total of four columns, by `lane`. */
function product(block: Block, team: Team, vectors: string, step: (loop: Block) => void, finish: (end: Block, total: string) => void): void {
  const { lanes, slices } = team;
  block.scope((scope) => {
    scope.let('lane', `lid % ${lanes}u`);
    scope.let('slice', `lid / ${lanes}u`);
    scope.var('sum', 'vec4<f32>()');
    scope.if(`slice < ${slices}u`, (own) => own.for('at', 'slice', vectors, `${slices}u`, step));
    scope.line('parts[lid] = sum');
    scope.line('workgroupBarrier()');
    const left = addSlices(scope, team, 1);
    scope.if(`lid < ${lanes}u`, (end) => finish(end, `(${addends('lid', lanes, left)})`));
  });
}
