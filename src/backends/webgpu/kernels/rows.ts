/**
 * The row kernel: reductions, softmax, normalizations. A row is what is left of a tensor when some axes are kept fixed; the
 * threads of a team walk it together, once per reduction, and once more to write it.
 *
 * Vectors run across rows where neighbouring rows are neighbours in memory (channels-last), or along the row where it is
 * contiguous.
 */
import type { KernelCall } from '../lower/call.ts';
import { address, collapse, decodeIndex, isAligned, memoryOrder, permuteSpace, type Space } from '../lower/space.ts';
import { type DeviceTensor, storedBytes, type View } from '../lower/tensor.ts';
import type { DeviceProfile } from '../profile.ts';
import type { Expr } from '../../../ir/expr.ts';
import { ExprEmitter, literal } from '../wgsl/expr.ts';
import { bindElements, type ElementAccess, loadedType, storedScalar } from '../wgsl/access.ts';
import { type Block, ModuleBuilder, typeName, type Width } from '../wgsl/module.ts';
import { foldWorkgroups, turnableWorkgroup } from './grid.ts';

export interface RowOperand {
  readonly tensor: DeviceTensor;
  /** Over [kept axes…, reduced axes…]; an output written once per row has stride 0 on the reduced ones. */
  readonly view: View;
}

export interface RowSpec {
  readonly label: string;
  readonly kept: readonly number[];
  readonly reduced: readonly number[];
  /** Bound as `in0`, `in1` …; the first sets the order in which rows are walked. */
  readonly inputs: readonly RowOperand[];
  readonly output: RowOperand;
  /** What a row's one value becomes: an expression of it (input 0) and of the single elements of further tensors. */
  readonly end?: { readonly expr: Expr; readonly inputs: readonly DeviceTensor[] };
}

export type RowReduction = 'sum' | 'prod' | 'max' | 'min';

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
  /** Writes every element of the row. */
  storeEach(value: (load: (input: number) => string) => string): void;
  /** Writes one value for the row. */
  storeRow(value: string): void;
}

/** A row's elements stay in registers from one walk to the next where a thread has no more of them than this, in vectors. */
const MAX_HELD = 8;

/** Teams are made no larger than this, and no larger than a row keeps busy. */
const MAX_TEAM = 128;
const GROUP = 128;

type Direction = 'across' | 'along' | 'none';

interface Layout {
  readonly kept: Space;
  readonly reduced: Space;
  readonly direction: Direction;
  readonly width: Width;
}

export function rowKernel(spec: RowSpec, profile: DeviceProfile, program: (row: RowEmitter) => void): KernelCall {
  const layout = layoutOf(spec);
  const rows = product(layout.kept.extents) / (layout.direction === 'across' ? 4 : 1);
  const steps = product(layout.reduced.extents) / (layout.direction === 'along' ? 4 : 1);
  const team = teamSize(rows, steps, profile);
  const slots = Math.min(GROUP, profile.maxInvocations) / team;
  const grid = foldWorkgroups(Math.ceil(rows / slots), profile);
  const module = new ModuleBuilder(spec.label);
  module.main(team * slots, (block) => {
    // Neighbouring threads take neighbouring memory: of one row along it, of neighbouring rows across them.
    const along = layout.direction !== 'across';
    block.let('lane', along ? `lid % ${team}u` : `lid / ${slots}u`);
    block.let('slot', along ? `lid / ${team}u` : `lid % ${slots}u`);
    block.let('wanted', `${turnableWorkgroup(module, grid)} * ${slots}u + slot`);
    // Threads beyond the last row walk it too: every thread must reach the barriers.
    block.let('row', `min(wanted, ${rows - 1}u)`);
    program(new Emitter(module, block, spec, layout, { rows, steps, team, slots, along }));
  });
  return { source: module.finish(), operands: [...[...spec.inputs, spec.output].map((operand) => operand.tensor), ...(spec.end?.inputs ?? [])], workgroups: grid };
}

const product = (extents: readonly number[]): number => extents.reduce((all, extent) => all * extent, 1);

function teamSize(rows: number, steps: number, profile: DeviceProfile): number {
  if (rows >= profile.busyWorkgroups * GROUP) return 1;
  const limit = Math.min(MAX_TEAM, profile.maxInvocations, steps / 2);
  return 2 ** Math.max(0, Math.floor(Math.log2(limit)));
}

function layoutOf(spec: RowSpec): Layout {
  const operands = [...spec.inputs, spec.output];
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

interface Team {
  readonly rows: number;
  readonly steps: number;
  readonly team: number;
  readonly slots: number;
  readonly along: boolean;
}

class Emitter implements RowEmitter {
  readonly module: ModuleBuilder;
  readonly count: number;
  readonly #block: Block;
  readonly #spec: RowSpec;
  readonly #layout: Layout;
  readonly #team: Team;
  /** Names of the thread's share of the first input, where it is held. */
  #held: readonly { readonly at: readonly string[]; readonly value: string }[] | undefined;
  readonly #bound: readonly { readonly access: ElementAccess; readonly vector: boolean; readonly base: string }[];
  readonly #ends: readonly ElementAccess[];
  #registers = 0;

  constructor(module: ModuleBuilder, block: Block, spec: RowSpec, layout: Layout, team: Team) {
    this.module = module;
    this.count = product(spec.reduced);
    this.#block = block;
    this.#spec = spec;
    this.#layout = layout;
    this.#team = team;
    const keptExtents = this.#inVectors(layout.kept.extents, 'across');
    const at = decodeIndex('row', keptExtents).map((code, axis) => block.let(`kept${axis}`, code));
    this.#bound = [...spec.inputs, spec.output].map(({ tensor, view }, i) => {
      const name = i < spec.inputs.length ? `in${i}` : 'out';
      const vector = this.#isVector(i);
      const access = bindElements(module, name, tensor, storedBytes(tensor), vector ? 4 : 1, name === 'out' ? 'read_write' : 'read');
      const rowView = { offset: view.offset, strides: layout.kept.views[i]!.strides };
      return { access, vector, base: block.let(`${name}_row`, address(this.#scaled(rowView, vector, 'across'), at)) };
    });
    this.#ends = (spec.end?.inputs ?? []).map((tensor, i) => bindElements(module, `end${i}`, tensor, storedBytes(tensor), 1, 'read'));
    if (team.team > 1) module.workgroup('shared_values', this.#scalar, layout.width, team.team * team.slots);
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
    const own = this.#layout.direction === side;
    const inner = view.strides.length - 1;
    if (!vector) return { offset: view.offset, strides: view.strides.map((stride, axis) => (own && axis === inner ? stride * 4 : stride)) };
    return { offset: view.offset / 4, strides: view.strides.map((stride, axis) => (own && axis === inner ? stride : stride / 4)) };
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

  /** Walks the thread's share of the row. */
  #walk(body: (block: Block, load: (input: number) => string, at: readonly string[]) => void): void {
    const { steps, team } = this.#team;
    if (steps <= MAX_HELD * team) {
      this.#held ??= this.#hold();
      for (const [turn, { at, value }] of this.#held.entries()) {
        const emit = (block: Block): void => body(block, (input) => (input === 0 ? value : this.#load(input, at)), at);
        if ((turn + 1) * team <= steps) emit(this.#block);
        else this.#block.if(`lane + ${turn * team}u < ${steps}u`, emit);
      }
      return;
    }
    this.#block.for('step', 'lane', `${steps}u`, `${team}u`, (loop) => {
      const extents = this.#inVectors(this.#layout.reduced.extents, 'along');
      const at = decodeIndex('step', extents).map((code, axis) => loop.let(`at${axis}`, code));
      body(loop, (input) => this.#load(input, at), at);
    });
  }

  /** Reads the thread's share of the first input; a thread without a last element repeats the row's last one. */
  #hold(): { readonly at: readonly string[]; readonly value: string }[] {
    const { steps, team } = this.#team;
    const extents = this.#inVectors(this.#layout.reduced.extents, 'along');
    const block = this.#block;
    return Array.from({ length: Math.ceil(steps / team) }, (_, turn) => {
      const step = block.let(`step${turn}`, (turn + 1) * team <= steps ? `lane + ${turn * team}u` : `min(lane + ${turn * team}u, ${steps - 1}u)`);
      const at = decodeIndex(step, extents).map((code, axis) => block.let(`at${turn}_${axis}`, code));
      return { at, value: block.let(`held${turn}`, this.#load(0, at)) };
    });
  }

  reduce(how: RowReduction, value: (load: (input: number) => string) => string): string {
    const block = this.#block;
    const type = typeName(this.#scalar, this.#layout.width);
    const sum = block.var(this.#fresh(), `${type}(${this.#start(how)})`);
    this.#walk((loop, load) => loop.line(`${sum} = ${combine(how, sum, value(load))}`));
    const whole = this.#team.team === 1 ? sum : this.#acrossTeam(how, sum);
    if (this.#layout.direction !== 'along') return whole;
    const pairs = block.let(this.#fresh(), combine(how, `${whole}.xy`, `${whole}.zw`));
    return block.let(this.#fresh(), combine(how, `${pairs}.x`, `${pairs}.y`));
  }

  #start(how: RowReduction): string {
    if (how === 'sum') return this.constant(0);
    if (how === 'prod') return this.constant(1);
    const scalar = this.#scalar;
    const largest = scalar === 'f32' ? Number.POSITIVE_INFINITY : scalar === 'i32' ? 2 ** 31 - 1 : 2 ** 32 - 1;
    const lowest = scalar === 'f32' ? Number.NEGATIVE_INFINITY : scalar === 'i32' ? -(2 ** 31) : 0;
    return this.constant(how === 'max' ? lowest : largest);
  }

  /** A tree over the team in workgroup memory. */
  #acrossTeam(how: RowReduction, value: string): string {
    const { team, slots, along } = this.#team;
    const block = this.#block;
    const at = (lane: string): string => `shared_values[${along ? `slot * ${team}u + ${lane}` : `(${lane}) * ${slots}u + slot`}]`;
    // The barrier before the first write protects what an earlier reduction may still read.
    block.line('workgroupBarrier()');
    block.line(`${at('lane')} = ${value}`);
    for (let half = team / 2; half >= 1; half /= 2) {
      block.line('workgroupBarrier()');
      block.if(`lane < ${half}u`, (inside) => inside.line(`${at('lane')} = ${combine(how, at('lane'), at(`lane + ${half}u`))}`));
    }
    block.line('workgroupBarrier()');
    return block.let(this.#fresh(), at('0u'));
  }

  storeEach(value: (load: (input: number) => string) => string): void {
    const output = this.#bound.length - 1;
    this.#walk((loop, load, at) => {
      const result = loop.let(this.#fresh(), value(load));
      loop.if(`wanted < ${this.#team.rows}u`, (inside) => inside.line(this.#bound[output]!.access.store(this.#index(output, at), result)));
    });
  }

  #ended(value: string): string {
    const { end } = this.#spec;
    if (!end) return value;
    const width = this.#layout.direction === 'across' ? 4 : 1;
    const others = this.#ends.map(({ scalar, load }) => (width === 4 ? `vec4<${scalar}>(${load('0u')})` : load('0u')));
    return new ExprEmitter(this.module, this.#block, width, [value, ...others], 'y').emit(end.expr);
  }

  storeRow(value: string): void {
    const { base, access } = this.#bound.at(-1)!;
    const result = this.#ended(this.let(value));
    this.#block.if(`lane == 0u && wanted < ${this.#team.rows}u`, (inside) => inside.line(access.store(base, result)));
  }
}

function combine(how: RowReduction, a: string, b: string): string {
  switch (how) {
    case 'sum':
      return `${a} + ${b}`;
    case 'prod':
      return `${a} * ${b}`;
    case 'max':
    case 'min':
      return `${how}(${a}, ${b})`;
    default:
      return how satisfies never;
  }
}
