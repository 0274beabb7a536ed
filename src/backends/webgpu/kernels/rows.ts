/**
 * The row kernel: reductions, softmax, normalizations. A row is what is left of a tensor when some axes are kept fixed; the
 * threads of a team (row-team.ts) walk it together, once per reduction, and once more to write it.
 *
 * Vectors run across rows where neighbouring rows are neighbours in memory (channels-last), or along the row where it is
 * contiguous.
 */
import { elementCount } from '../../../ir/tensor.ts';
import type { KernelCall } from '../lower/call.ts';
import { address, collapse, decodeIndex, inUnits, isAligned, memoryOrder, permuteSpace, type Space } from '../lower/space.ts';
import { type DeviceTensor, storedBytes, type View } from '../lower/tensor.ts';
import type { DeviceProfile } from '../profile.ts';
import type { Expr } from '../../../ir/expr.ts';
import { ExprEmitter, literal } from '../wgsl/expr.ts';
import { bindElements, type ElementAccess, precisionOf, loadedType, storedScalar } from '../wgsl/access.ts';
import { type Block, ModuleBuilder, typeName, type Width } from '../wgsl/module.ts';
import { flatWorkgroup, foldWorkgroups } from './grid.ts';
import { combine, MAX_HELD, type RowReduction, type RowTeam, rowTeam, type RowWork } from './row-team.ts';

export interface RowOperand {
  readonly tensor: DeviceTensor;
  /** Over [kept axes…, reduced axes…]; an output written once per row has stride 0 on the reduced ones. */
  readonly view: View;
}

export interface RowOutput extends RowOperand {
  /** What a value becomes: an expression of it (input 0) and of the single elements of further tensors. Without it, the value. */
  readonly end?: { readonly expr: Expr; readonly inputs: readonly DeviceTensor[] } | undefined;
}

export interface RowSpec {
  readonly label: string;
  readonly kept: readonly number[];
  readonly reduced: readonly number[];
  /** Bound as `in0`, `in1` …; the first sets the order in which rows are walked. */
  readonly inputs: readonly RowOperand[];
  /** Bound as `out0`, `out1` …: one value in several forms. */
  readonly outputs: readonly RowOutput[];
}

/** What a row program may emit. Values are registers or expressions of the kernel's type and width. */
export interface RowEmitter {
  /** Elements of a row. */
  readonly count: number;
  readonly module: ModuleBuilder;
  /** Literal of the kernel's type. */
  constant(value: number): string;
  /** Reduces `value(load)` over the row; `load(i)` is input i's element. The result is the same in all threads of the team. */
  reduce(how: RowReduction, value: (load: (input: number) => string) => string): string;
  /** A value per row. */
  let(value: string): string;
  /** The name of a helper function for values per row, or for loaded elements. */
  help(name: RowHelper, takes: 'row' | 'element'): string;
  /** Writes every element of the row. */
  storeEach(value: (load: (input: number) => string) => string): void;
  /** Writes one value for the row. */
  storeRow(value: string): void;
}

type RowHelper = 'exp1' | 'finite1' | 'log1' | 'softmax_sum';

type Direction = 'across' | 'along' | 'none';

interface Layout {
  readonly kept: Space;
  readonly reduced: Space;
  readonly direction: Direction;
  readonly width: Width;
}

export function rowKernel(spec: RowSpec, profile: DeviceProfile, program: (row: RowEmitter) => void): KernelCall {
  const layout = layoutOf(spec);
  const rows = elementCount(layout.kept.extents) / (layout.direction === 'across' ? 4 : 1);
  const steps = elementCount(layout.reduced.extents) / (layout.direction === 'along' ? 4 : 1);
  const work = { rows, steps, across: layout.direction === 'across' };
  const team = rowTeam(work, profile);
  const { size, slots } = team;
  const grid = foldWorkgroups(Math.ceil(rows / slots), profile);
  const module = new ModuleBuilder(spec.label);
  module.main(size * slots, (block) => {
    team.place(module, block);
    block.let('wanted', `${flatWorkgroup(grid)} * ${slots}u + slot`);
    // Threads beyond the last row walk it too: every thread must reach the barriers and the shuffles.
    block.let('row', `min(wanted, ${rows - 1}u)`);
    program(new Emitter(module, block, spec, layout, work, team));
  });
  const ends = spec.outputs.flatMap(({ end }) => end?.inputs ?? []);
  return { source: module.finish(), operands: [...[...spec.inputs, ...spec.outputs].map((operand) => operand.tensor), ...ends], workgroups: grid };
}

function layoutOf(spec: RowSpec): Layout {
  const operands = [...spec.inputs, ...spec.outputs];
  const split = spec.kept.length;
  const cut = (from: number, to: number | undefined, extents: readonly number[]): Space => ({
    extents,
    views: operands.map(({ view }) => ({ offset: 0, strides: view.strides.slice(from, to) })),
  });
  const ordered = (space: Space): Space => collapse(permuteSpace(space, memoryOrder(space.views[0]!.strides)));
  const kept = ordered(cut(0, split, spec.kept));
  const reduced = ordered(cut(split, undefined, spec.reduced));
  const offsets = operands.map(({ view }) => ({ offset: view.offset, strides: [] }));
  const fits = (space: Space, other: Space): boolean =>
    space.extents.length > 0 &&
    space.extents.at(-1)! % 4 === 0 &&
    space.views.every((view, i) => {
      const inner = view.strides.length - 1;
      const stride = view.strides[inner];
      if (stride === 0) return true;
      return stride === 1 && isAligned(view, 4, inner) && isAligned(other.views[i]!, 4, -1) && isAligned(offsets[i]!, 4, -1);
    });
  const reads = (space: Space): boolean => space.views[0]!.strides.at(-1) === 1;
  if (reads(kept) && fits(kept, reduced)) return { kept, reduced, direction: 'across', width: 4 };
  if (reads(reduced) && fits(reduced, kept)) return { kept, reduced, direction: 'along', width: 4 };
  return { kept, reduced, direction: 'none', width: 1 };
}

/** The code of a value as each output stores it. */
type Result = readonly string[];

/** An element, or a vector, of the first input that a thread keeps: its place in the row, and its value. */
interface Held {
  readonly at: readonly string[];
  readonly value: string;
}

class Emitter implements RowEmitter {
  readonly module: ModuleBuilder;
  readonly count: number;
  readonly #block: Block;
  readonly #spec: RowSpec;
  readonly #layout: Layout;
  readonly #work: RowWork;
  readonly #team: RowTeam;
  #held: readonly Held[] | undefined;
  readonly #bound: readonly { readonly access: ElementAccess; readonly vector: boolean; readonly base: string }[];
  /** What the ends of outputs read, by output. */
  readonly #ends: readonly (readonly ElementAccess[])[];
  #registers = 0;

  constructor(module: ModuleBuilder, block: Block, spec: RowSpec, layout: Layout, work: RowWork, team: RowTeam) {
    this.module = module;
    this.count = elementCount(spec.reduced);
    this.#block = block;
    this.#spec = spec;
    this.#layout = layout;
    this.#work = work;
    this.#team = team;
    const keptExtents = this.#inVectors(layout.kept.extents, 'across');
    const at = decodeIndex('row', keptExtents).map((code, axis) => block.let(`kept${axis}`, code));
    this.#bound = [...spec.inputs, ...spec.outputs].map(({ tensor, view }, i) => {
      const isInput = i < spec.inputs.length;
      const name = isInput ? `in${i}` : `out${i - spec.inputs.length}`;
      const vector = this.#isVector(i);
      const access = bindElements(module, name, tensor, storedBytes(tensor), vector ? 4 : 1, isInput ? 'read' : 'read_write');
      const rowView = { offset: view.offset, strides: layout.kept.views[i]!.strides };
      return { access, vector, base: block.let(`${name}_row`, address(this.#scaled(rowView, vector, 'across'), at)) };
    });
    this.#ends = spec.outputs.map(({ end }, i) => (end?.inputs ?? []).map((tensor, j) => bindElements(module, `end${i}_${j}`, tensor, storedBytes(tensor), 1, 'read')));
  }

  get #scalar(): 'f32' | 'i32' | 'u32' {
    const { storage, dtype } = this.#spec.inputs[0]!.tensor;
    return storedScalar(storage, dtype);
  }

  /** Whether operand i is read and written in vec4s. */
  #isVector(i: number): boolean {
    const { direction, kept, reduced } = this.#layout;
    const views = direction === 'across' ? kept.views : reduced.views;
    return direction !== 'none' && views[i]!.strides.at(-1) === 1;
  }

  /** Extents counted in vec4s on the innermost axis of the vectors' own side. */
  #inVectors(extents: readonly number[], side: Direction): number[] {
    return extents.map((extent, axis) => (this.#layout.direction === side && axis === extents.length - 1 ? extent / 4 : extent));
  }

  /** A view whose addresses count vec4s, where the operand is one of vec4s. */
  #scaled(view: View, vector: boolean, side: Direction): View {
    const inner = this.#layout.direction === side ? view.strides.length - 1 : undefined;
    if (vector) return inUnits(view, 4, inner);
    return { offset: view.offset, strides: view.strides.map((stride, axis) => (axis === inner ? stride * 4 : stride)) };
  }

  constant(value: number): string {
    return literal(this.module, value, this.#scalar);
  }

  #fresh(): string {
    return `r${this.#registers++}`;
  }

  let(value: string): string {
    return this.#block.let(this.#fresh(), value);
  }

  help(name: RowHelper, takes: 'row' | 'element'): string {
    const { direction } = this.#layout;
    return this.module.helper(direction === 'across' || (direction === 'along' && takes === 'element') ? `${name}4` : name);
  }

  #index(i: number, at: readonly string[]): string {
    const { base, vector } = this.#bound[i]!;
    const code = address(this.#scaled({ offset: 0, strides: this.#layout.reduced.views[i]!.strides }, vector, 'along'), at);
    return code === '0u' ? base : `${base} + ${code}`;
  }

  #load(i: number, at: readonly string[]): string {
    const { access, vector } = this.#bound[i]!;
    const value = access.load(this.#index(i, at));
    return vector ? value : this.#layout.width === 4 ? `${loadedType(this.#spec.inputs[i]!.tensor, 4)}(${value})` : value;
  }

  /** The thread's share of the first input, read at the first call; undefined where it is too much to hold. */
  #share(): readonly Held[] | undefined {
    if (this.#work.steps > MAX_HELD * this.#team.size) return undefined;
    this.#held ??= this.#hold();
    return this.#held;
  }

  /** Walks the thread's share of the row. */
  #walk(body: (block: Block, load: (input: number) => string, at: readonly string[]) => void): void {
    const share = this.#share();
    if (share) return share.forEach((held, turn) => this.#within(this.#block, turn, (block) => body(block, this.#loadHeld(held), held.at)));
    this.#block.for('step', 'lane', `${this.#work.steps}u`, `${this.#team.size}u`, (loop) => {
      const extents = this.#inVectors(this.#layout.reduced.extents, 'along');
      const at = decodeIndex('step', extents).map((code, axis) => loop.let(`at${axis}`, code));
      body(loop, (input) => this.#load(input, at), at);
    });
  }

  #loadHeld({ at, value }: Held): (input: number) => string {
    return (input) => (input === 0 ? value : this.#load(input, at));
  }

  /** Emits what only threads do that have an element of their own at this turn. */
  #within(block: Block, turn: number, emit: (block: Block) => void): void {
    const { steps } = this.#work;
    const { size } = this.#team;
    if ((turn + 1) * size <= steps) emit(block);
    else block.if(`lane + ${turn * size}u < ${steps}u`, emit);
  }

  /** Reads the thread's share of the first input; a thread without a last element repeats the row's last one. */
  #hold(): Held[] {
    const { steps } = this.#work;
    const { size } = this.#team;
    const extents = this.#inVectors(this.#layout.reduced.extents, 'along');
    const block = this.#block;
    return Array.from({ length: Math.ceil(steps / size) }, (_, turn) => {
      const step = block.let(`step${turn}`, (turn + 1) * size <= steps ? `lane + ${turn * size}u` : `min(lane + ${turn * size}u, ${steps - 1}u)`);
      const at = decodeIndex(step, extents).map((code, axis) => block.let(`at${turn}_${axis}`, code));
      return { at, value: block.let(`held${turn}`, this.#load(0, at)) };
    });
  }

  reduce(how: RowReduction, value: (load: (input: number) => string) => string): string {
    const block = this.#block;
    const type = typeName(this.#scalar, this.#layout.width);
    const sum = block.var(this.#fresh(), `${type}(${this.#start(how)})`);
    this.#walk((loop, load) => loop.line(`${sum} = ${combine(how, sum, value(load))}`));
    const along = this.#layout.direction === 'along';
    const code = along ? this.#folded(how, sum) : sum;
    return this.#team.reduce(this.module, block, how, { code, scalar: this.#scalar, width: along ? 1 : this.#layout.width }, this.#fresh());
  }

  /** A vector's four elements brought together. */
  #folded(how: RowReduction, value: string): string {
    const pairs = this.let(combine(how, `${value}.xy`, `${value}.zw`));
    return this.let(combine(how, `${pairs}.x`, `${pairs}.y`));
  }

  #start(how: RowReduction): string {
    if (how === 'sum') return this.constant(0);
    if (how === 'prod') return this.constant(1);
    const scalar = this.#scalar;
    const largest = scalar === 'f32' ? Number.POSITIVE_INFINITY : scalar === 'i32' ? 2 ** 31 - 1 : 2 ** 32 - 1;
    const lowest = scalar === 'f32' ? Number.NEGATIVE_INFINITY : scalar === 'i32' ? -(2 ** 31) : 0;
    return this.constant(how === 'max' ? lowest : largest);
  }

  storeEach(value: (load: (input: number) => string) => string): void {
    const share = this.#share();
    const { width } = this.#layout;
    const first = this.#spec.inputs.length;
    const store = (block: Block, at: readonly string[], result: Result): void =>
      result.forEach((code, output) => block.line(this.#bound[first + output]!.access.store(this.#index(first + output, at), code)));
    const wanted = `wanted < ${this.#work.rows}u`;
    if (!share) {
      return this.#walk((loop, load, at) => {
        const result = this.#ended(loop, loop.let(this.#fresh(), value(load)), width);
        loop.if(wanted, (inside) => store(inside, at, result));
      });
    }
    // The other inputs are all read before the first write, with no branch between: the reads then wait for memory together.
    const values = share.map((held) => this.let(value(this.#loadHeld(held))));
    const results = values.map((code) => this.#ended(this.#block, code, width));
    this.#block.if(wanted, (inside) => share.forEach(({ at }, turn) => this.#within(inside, turn, (block) => store(block, at, results[turn]!))));
  }

  /** What each output stores of a value. */
  #ended(block: Block, value: string, width: Width): Result {
    return this.#spec.outputs.map(({ tensor, end }, output) => {
      if (!end) return value;
      const others = this.#ends[output]!.map(({ scalar, load }) => (width === 4 ? `vec4<${scalar}>(${load('0u')})` : load('0u')));
      return new ExprEmitter(this.module, block, width, [value, ...others], { prefix: `${this.#fresh()}_`, precision: precisionOf(tensor) }).emit(end.expr);
    });
  }

  storeRow(value: string): void {
    const results = this.#ended(this.#block, this.let(value), this.#layout.direction === 'across' ? 4 : 1);
    const outputs = this.#bound.slice(this.#spec.inputs.length);
    this.#block.if(`lane == 0u && wanted < ${this.#work.rows}u`, (inside) => outputs.forEach(({ base, access }, i) => inside.line(access.store(base, results[i]!))));
  }
}
