/**
 * The join kernel: parts of concatenations, each an expression of its own inputs, written by one dispatch: a thread per element or per four.
 *
 * A concatenation's parts are often small, and a dispatch costs more than they do. Which part a thread is in is a chain of conditions along
 * the axis. Parts that lie in turn (the pairs of an interleaved rotation) share a thread's four lanes. Several concatenations are ranges of
 * threads.
 */
import { STORAGE_BYTES } from '../../../engine/plan.ts';
import { type PartPlace, runsOf } from '../../../ir/expr.ts';
import type { KernelCall } from '../lower/call.ts';
import type { Computed } from '../lower/context.ts';
import { address, decodeIndex, isAligned, memoryOrder } from '../lower/space.ts';
import { type DeviceTensor, storedBytes, type View, viewOf } from '../lower/tensor.ts';
import type { DeviceProfile } from '../profile.ts';
import { bindElements, type ElementAccess, loadedType, precisionOf, registerType } from '../wgsl/access.ts';
import { ExprEmitter } from '../wgsl/expr.ts';
import { type Block, ModuleBuilder, typeName, type Width } from '../wgsl/module.ts';
import { independentThreads } from './grid.ts';

/** Places are counted in the target. */
export interface JoinPart extends PartPlace {
  /** By element of the part, whose inputs have views over its axes; zeros where there is nothing. */
  readonly value: Computed | undefined;
}

/** The parts of one concatenation; what lies between them in the target stays as it is. */
export interface Join {
  readonly axis: number;
  readonly parts: readonly JoinPart[];
  /** Neighbouring threads write neighbouring elements of it. */
  readonly target: DeviceTensor;
}

export interface JoinSpec {
  readonly label: string;
  readonly joins: readonly Join[];
}

/** Parts that lie in turn, or one by itself. */
type Run = readonly JoinPart[];

const startOf = (run: Run): number => run[0]!.start;
const lengthOf = (run: Run): number => run.length * run[0]!.extent;

/** Tensors that the kernel of these concatenations binds beside the targets; inputs of one tensor share its binding. */
export function joinedTensors(joins: readonly Pick<Join, 'parts'>[]): DeviceTensor[] {
  const inputs = joins.flatMap(({ parts }) => parts.flatMap(({ value }) => value?.inputs ?? []));
  return [...new Map(inputs.map(({ tensor }) => [tensor.id, tensor] as const)).values()];
}

/** Whether the kernel can write the target: narrow elements are written four at a time. */
export function isJoinable(join: Join): boolean {
  return STORAGE_BYTES[join.target.storage] >= 4 || widthOf(join) === 4;
}

/** The axis along which the target's memory runs. */
const innerOf = ({ target }: Join): number => memoryOrder(viewOf(target).strides).at(-1)!;

/** Four elements belong to one run, so that only parts in turn share them. */
function widthOf(join: Join): Width {
  const { axis, parts, target } = join;
  const inner = innerOf(join);
  const extents = inner === axis ? runsOf(parts).flatMap((run) => [startOf(run), lengthOf(run)]) : [target.dims[inner]!];
  const inTurn = runsOf(parts).every((run) => inner !== axis || 4 % run.length === 0);
  return isVector(viewOf(target), inner) && inTurn && extents.every((extent) => extent % 4 === 0) ? 4 : 1;
}

const isVector = (view: View, inner: number): boolean => view.strides[inner] === 1 && isAligned(view, 4, inner);

export function joinKernel({ label, joins }: JoinSpec, profile: DeviceProfile): KernelCall {
  const module = new ModuleBuilder(label);
  const tensors = joinedTensors(joins);
  const scalars = new Set(joins.flatMap(scalarReads));
  const sources = new Map(tensors.map((tensor, i): [number, Source] => {
    const width = scalars.has(tensor.id) ? 1 : 4;
    return [tensor.id, { width, access: bindElements(module, `in${i}`, tensor, storedBytes(tensor), width, 'read') }];
  }));
  const writers = joins.map((join, i) => new JoinWriter(module, joins.length === 1 ? 'out' : `out${i}`, join, sources));
  const threads = writers.reduce((sum, writer) => sum + writer.threads, 0);
  const workgroups = independentThreads(module, threads, profile, (block) => {
    let first = 0;
    for (const writer of writers) {
      const [from, to] = [first, (first += writer.threads)];
      if (writers.length === 1) writer.write(block, 'i');
      else block.if(`(i >= ${from}u) & (i < ${to}u)`, (inside) => writer.write(inside, inside.let('n', `i - ${from}u`)));
    }
  });
  return { source: module.finish(), operands: [...tensors, ...joins.map(({ target }) => target)], workgroups };
}

/** A tensor that is read, and how many elements at a time. */
interface Source {
  readonly width: Width;
  readonly access: ElementAccess;
}

/** Tensors of which some read is not of whole vectors: they are bound by element, for all reads. */
function scalarReads(join: Join): number[] {
  const inner = innerOf(join);
  const width = widthOf(join);
  return runsOf(join.parts).flatMap((run) => {
    const inTurn = run.length > 1 && inner === join.axis;
    const inputs = run.flatMap(({ value }) => value?.inputs ?? []);
    return inputs.filter(({ view }) => width === 1 || inTurn || !isVector(view, inner)).map(({ tensor }) => tensor.id);
  });
}

const inFours = (index: string): string => `(${index}) / 4u`;

/** One concatenation in the kernel. */
class JoinWriter {
  readonly threads: number;
  readonly #module: ModuleBuilder;
  readonly #join: Join;
  readonly #sources: ReadonlyMap<number, Source>;
  readonly #inner: number;
  readonly #width: Width;
  readonly #runs: readonly Run[];
  /** Threads in the order of the target's memory, counted along each axis. */
  readonly #order: readonly number[];
  readonly #extents: readonly number[];
  readonly #out: ElementAccess;

  constructor(module: ModuleBuilder, name: string, join: Join, sources: ReadonlyMap<number, Source>) {
    this.#module = module;
    this.#join = join;
    this.#sources = sources;
    this.#inner = innerOf(join);
    this.#width = widthOf(join);
    this.#runs = runsOf(join.parts);
    const { axis, target } = join;
    this.#order = memoryOrder(viewOf(target).strides);
    const total = this.#runs.reduce((sum, run) => sum + lengthOf(run), 0);
    this.#extents = this.#order.map((at) => (at === axis ? total : target.dims[at]!) / (at === this.#inner ? this.#width : 1));
    this.threads = this.#extents.reduce((all, extent) => all * extent, 1);
    this.#out = bindElements(module, name, target, storedBytes(target), this.#width, 'read_write');
  }

  /** The thread of this number: finds its part, and writes it to its place. */
  write(block: Block, number: string): void {
    const { axis, target } = this.#join;
    const codes = decodeIndex(number, this.#extents);
    const at = target.dims.map((_, a) => {
      const code = codes[this.#order.indexOf(a)]!;
      return block.let(`c${a}`, a === this.#inner && this.#width === 4 ? `(${code}) * 4u` : code);
    });
    block.var('value', `${loadedType(target, this.#width)}()`);
    block.var('place', '0u');
    let before = 0;
    for (const run of this.#runs) {
      const [from, to] = [before, (before += lengthOf(run))];
      block.if(`(${at[axis]} >= ${from}u) & (${at[axis]} < ${to}u)`, (inside) => {
        const own = inside.let('own', `${at[axis]} - ${from}u`);
        this.#emitRun(inside, run, at, own);
        inside.line(`place = own + ${startOf(run)}u`);
      });
    }
    const index = address(viewOf(target), at.map((c, a) => (a === axis ? 'place' : c)));
    block.line(this.#out.store(this.#width === 4 ? inFours(index) : index, 'value'));
  }

  /** Sets `value` to the run's elements at these coordinates, `own` along the axis. */
  #emitRun(block: Block, run: Run, at: readonly string[], own: string): void {
    const { axis } = this.#join;
    const moved = (along: string): string[] => at.map((c, a) => (a === axis ? along : c));
    const count = run.length;
    if (count === 1) return this.#assign(block, run[0]!, moved(own), this.#width, '');
    const step = block.let('step', `${own} / ${count}u`);
    if (this.#width === 4 && this.#inner === axis) {
      // Four elements begin with the first part, and hold each one's next elements.
      for (const lane of [0, 1, 2, 3]) {
        const later = Math.floor(lane / count);
        const place = moved(later === 0 ? step : `(${step} + ${later}u)`);
        block.scope((inside) => this.#assign(inside, run[lane % count]!, place, 1, `.${'xyzw'[lane]}`));
      }
      return;
    }
    for (const [phase, part] of run.entries()) {
      block.if(`${own} % ${count}u == ${phase}u`, (inside) => this.#assign(inside, part, moved(step), this.#width, ''));
    }
  }

  /** Sets `value`, or a lane of it, to the part's expression at its own coordinates. */
  #assign(block: Block, { value }: JoinPart, at: readonly string[], width: Width, lane: string): void {
    if (!value) return;
    const { target } = this.#join;
    const registers = value.inputs.map((input, i) => this.#load(block, `v${i}`, input, at, width));
    const result = new ExprEmitter(this.#module, block, width, registers, { precision: precisionOf(target) }).emit(value.expr);
    const type = loadedType(target, width);
    block.line(`value${lane} = ${registerType(target.dtype) === 'bool' ? `select(${type}(0u), ${type}(1u), ${result})` : result}`);
  }

  #load(block: Block, name: string, { tensor, view }: Computed['inputs'][number], at: readonly string[], width: Width): string {
    const { access, width: bound } = this.#sources.get(tensor.id)!;
    const lane = (step: number): string => access.load(address(view, at.map((c, a) => (a === this.#inner && step > 0 ? `(${c} + ${step}u)` : c))));
    const type = loadedType(tensor, width);
    const lanes = (): string => `${type}(${view.strides[this.#inner] === 0 ? lane(0) : [0, 1, 2, 3].map(lane).join(', ')})`;
    const code = bound === 4 ? access.load(inFours(address(view, at))) : width === 1 ? lane(0) : lanes();
    const loaded = block.let(name, code);
    return registerType(tensor.dtype) === 'bool' ? block.let(`b_${name}`, `${loaded} != ${typeName('u32', width)}(0u)`) : loaded;
  }
}
