/**
 * The recurrent kernel: all steps of an RNN, GRU or LSTM in one dispatch. A workgroup owns one sequence in one direction and
 * keeps its hidden state in workgroup memory; the products with the input, which don't depend on the state, are made before.
 *
 * Formulas are ONNX's (https://onnx.ai/onnx/operators/onnx__LSTM.html, __GRU, __RNN); clipping acts on what goes into a gate.
 */
import type { KernelCall } from '../lower/call.ts';
import type { DeviceTensor } from '../lower/tensor.ts';
import type { DeviceProfile } from '../profile.ts';
import { type Block, ModuleBuilder } from '../wgsl/module.ts';
import { flatWorkgroup, foldWorkgroups } from './grid.ts';
import { BoundTensor } from './pointwise.ts';

export type Cell = 'GRU' | 'LSTM' | 'RNN';

export const GATES = { GRU: 3, LSTM: 4, RNN: 1 } as const satisfies Record<Cell, number>;

/** Two rows of the hidden state fit the workgroup memory that every device has. */
export const MAX_HIDDEN = 2048;

/** A gate's function with its parameters. */
export interface Activation {
  readonly name: string;
  readonly alpha: number;
  readonly beta: number;
}

export interface RecurrentSpec {
  readonly cell: Cell;
  readonly directions: number;
  readonly batch: number;
  readonly steps: number;
  readonly hidden: number;
  /** 1: the batch comes first in x's rows and in y. */
  readonly layout: 0 | 1;
  /** Which directions run backward. */
  readonly backward: 'none' | 'all' | 'second';
  /** Products with the input and biases, [directions, rows, gates · hidden]; rows are steps and batch, as in x. */
  readonly gates: DeviceTensor;
  /** [directions, hidden, gates · hidden]. */
  readonly recurrence: DeviceTensor;
  /** GRU with linear_before_reset: bias of the hidden gate inside the reset, [directions, hidden]. */
  readonly innerBias: DeviceTensor | undefined;
  readonly lengths: DeviceTensor | undefined;
  /** LSTM: [directions, 3 · hidden]. */
  readonly peepholes: DeviceTensor | undefined;
  readonly y: DeviceTensor | undefined;
  /** Hidden state, for an LSTM then the cell's: [1 or 2, directions, batch, hidden]. Read at the start, final at the end. */
  readonly state: DeviceTensor;
  /** Per direction, in ONNX's order. */
  readonly activations: readonly (readonly Activation[])[];
  readonly clip: number | undefined;
  readonly inputForget: boolean;
}

type Bound = { readonly [K in 'gates' | 'recurrence' | 'innerBias' | 'lengths' | 'peepholes' | 'y' | 'state']: BoundTensor | undefined };

export function recurrentKernel(spec: RecurrentSpec, profile: DeviceProfile): KernelCall {
  const { batch, directions, hidden, steps, cell } = spec;
  const grid = foldWorkgroups(batch * directions, profile);
  const threads = Math.min(profile.maxInvocations, 256, Math.max(32, 2 ** Math.ceil(Math.log2(hidden))));
  const module = new ModuleBuilder(cell);
  const bind = (name: keyof Bound, access: 'read' | 'read_write'): BoundTensor | undefined => spec[name] && new BoundTensor(module, name, spec[name], access);
  const bound: Bound = {
    gates: bind('gates', 'read'),
    recurrence: bind('recurrence', 'read'),
    innerBias: bind('innerBias', 'read'),
    lengths: bind('lengths', 'read'),
    peepholes: bind('peepholes', 'read'),
    y: bind('y', 'read_write'),
    state: bind('state', 'read_write'),
  };
  module.workgroup('h', 'f32', 1, hidden);
  module.workgroup('next', 'f32', 1, hidden);
  module.main(threads, (block) => {
    const units = (outer: Block, body: (loop: Block) => void): void => outer.for('u', 'lid', `${hidden}u`, `${threads}u`, body);
    block.let('pair', flatWorkgroup(grid));
    block.if(`pair >= ${batch * directions}u`, (inside) => inside.line('return'));
    block.let('d', `pair / ${batch}u`);
    block.let('b', `pair % ${batch}u`);
    block.let('length', bound.lengths ? `u32(clamp(${bound.lengths.load(['b'])}, 0, ${steps}))` : `${steps}u`);
    units(block, (loop) => loop.line(`h[u] = ${bound.state!.load(['0u', 'd', 'b', 'u'])}`));
    block.line('workgroupBarrier()');
    block.for('s', '0u', `${steps}u`, '1u', (loop) => {
      loop.let('live', 's < length');
      const backward = { none: undefined, all: 'live', second: 'live && d == 1u' }[spec.backward];
      loop.let('place', backward === undefined ? 's' : `select(s, length - 1u - s, ${backward})`);
      loop.let('row', spec.layout === 0 ? `place * ${batch}u + b` : `b * ${steps}u + place`);
      new StepEmitter(module, spec, bound, units).emit(loop);
      units(loop, (each) => each.line('h[u] = next[u]'));
      loop.line('workgroupBarrier()');
    });
    units(block, (loop) => bound.state!.store(loop, ['0u', 'd', 'b', 'u'], 'h[u]'));
  });
  const operands = Object.keys(bound).flatMap((name) => spec[name as keyof Bound] ?? []);
  return { source: module.finish(), operands, workgroups: grid };
}

/** Emits one step of a cell: reads `h`, leaves the new state in `next` behind a barrier. */
class StepEmitter {
  readonly #module: ModuleBuilder;
  readonly #spec: RecurrentSpec;
  readonly #bound: Bound;
  readonly #units: (outer: Block, body: (loop: Block) => void) => void;

  constructor(module: ModuleBuilder, spec: RecurrentSpec, bound: Bound, units: (outer: Block, body: (loop: Block) => void) => void) {
    this.#module = module;
    this.#spec = spec;
    this.#bound = bound;
    this.#units = units;
  }

  emit(block: Block): void {
    switch (this.#spec.cell) {
      case 'RNN':
        return this.#rnn(block);
      case 'GRU':
        return this.#gru(block);
      case 'LSTM':
        return this.#lstm(block);
      default:
        return this.#spec.cell satisfies never;
    }
  }

  #rnn(block: Block): void {
    this.#units(block, (loop) => {
      this.#dots(loop, [0], 'h');
      this.#finish(loop, this.#activate(0, this.#input(0)));
    });
    block.line('workgroupBarrier()');
  }

  #lstm(block: Block): void {
    const { state, peepholes } = this.#bound;
    const peep = (gate: number, cell: string): string => (peepholes ? ` + ${peepholes.load(['d', `${gate * this.#spec.hidden}u + u`])} * ${cell}` : '');
    this.#units(block, (loop) => {
      this.#dots(loop, [0, 1, 2, 3], 'h');
      loop.let('c', state!.load(['1u', 'd', 'b', 'u']));
      // Gates lie in the order input, output, forget, cell; peepholes have input, output, forget.
      loop.let('in_gate', this.#activate(0, `${this.#input(0)}${peep(0, 'c')}`));
      loop.let('forget', this.#spec.inputForget ? '1.0f - in_gate' : this.#activate(0, `${this.#input(2)}${peep(2, 'c')}`));
      loop.let('cell', `forget * c + in_gate * ${this.#activate(1, this.#input(3))}`);
      loop.let('out_gate', this.#activate(0, `${this.#input(1)}${peep(1, 'cell')}`));
      state!.store(loop, ['1u', 'd', 'b', 'u'], 'select(c, cell, live)');
      this.#finish(loop, `out_gate * ${this.#function(2, 'cell')}`);
    });
    block.line('workgroupBarrier()');
  }

  #gru(block: Block): void {
    const { hidden, innerBias } = this.#spec;
    // Gates lie in the order update, reset, hidden.
    if (innerBias) {
      this.#units(block, (loop) => {
        this.#dots(loop, [0, 1, 2], 'h');
        loop.let('update', this.#activate(0, this.#input(0)));
        loop.let('reset', this.#activate(0, this.#input(1)));
        const inner = `reset * (dot2 + ${this.#bound.innerBias!.load(['d', 'u'])})`;
        loop.let('fresh', this.#activate(1, `${this.#gate(2)} + ${inner}`));
        this.#finish(loop, '(1.0f - update) * fresh + update * h[u]');
      });
      block.line('workgroupBarrier()');
      return;
    }
    this.#units(block, (loop) => {
      this.#dots(loop, [1], 'h');
      loop.line(`next[u] = ${this.#activate(0, this.#input(1))} * h[u]`);
    });
    block.line('workgroupBarrier()');
    // Units of a thread are few: their new states wait in registers until all threads have read `next`.
    const waiting = Math.ceil(hidden / 32);
    block.line(`var waiting = array<f32, ${waiting}>()`);
    block.line('var slot = 0u');
    this.#units(block, (loop) => {
      this.#dots(loop, [0], 'h');
      this.#dots(loop, [2], 'next');
      loop.let('update', this.#activate(0, this.#input(0)));
      loop.let('fresh', this.#activate(1, this.#input(2)));
      loop.line(`waiting[slot] = ${this.#result(loop, '(1.0f - update) * fresh + update * h[u]')}`);
      loop.line('slot += 1u');
    });
    block.line('workgroupBarrier()');
    block.line('slot = 0u');
    this.#units(block, (loop) => {
      loop.line('next[u] = waiting[slot]');
      loop.line('slot += 1u');
    });
    block.line('workgroupBarrier()');
  }

  /** Declares `dot<gate>`, the product of a state in workgroup memory with the gates' recurrent weights. */
  #dots(block: Block, gates: readonly number[], state: 'h' | 'next'): void {
    const { hidden } = this.#spec;
    for (const gate of gates) block.var(`dot${gate}`, '0.0f');
    block.for('j', '0u', `${hidden}u`, '1u', (loop) => {
      loop.let('v', `${state}[j]`);
      for (const gate of gates) loop.line(`dot${gate} += v * ${this.#bound.recurrence!.load(['d', 'j', `${gate * hidden}u + u`])}`);
    });
  }

  #gate(gate: number): string {
    return this.#bound.gates!.load(['d', 'row', `${gate * this.#spec.hidden}u + u`]);
  }

  /** What goes into a gate. */
  #input(gate: number): string {
    return `${this.#gate(gate)} + dot${gate}`;
  }

  /** The activation of a gate's clipped input. */
  #activate(index: number, x: string): string {
    const { clip } = this.#spec;
    return this.#function(index, clip === undefined ? `(${x})` : `clamp(${x}, f32(${-clip}), f32(${clip}))`);
  }

  #function(index: number, x: string): string {
    const codes = this.#spec.activations.map((own) => activationCode(this.#module, own[index]!, x));
    return codes[1] === undefined || codes[0] === codes[1] ? codes[0]! : `select(${codes[1]}, ${codes[0]}, d == 0u)`;
  }

  /** Writes y and returns the state to keep: the old one beyond the sequence's end. */
  #result(block: Block, value: string): string {
    const fresh = block.let('state_new', value);
    const place = this.#spec.layout === 0 ? ['place', 'd', 'b', 'u'] : ['b', 'place', 'd', 'u'];
    this.#bound.y?.store(block, place, `select(0.0f, ${fresh}, live)`);
    return `select(h[u], ${fresh}, live)`;
  }

  #finish(block: Block, value: string): void {
    block.line(`next[u] = ${this.#result(block, value)}`);
  }
}

/** Names that {@link activationCode} knows, in lower case, with their default parameters. */
export const ACTIVATIONS: Readonly<Record<string, { readonly alpha?: number; readonly beta?: number }>> = {
  affine: { alpha: 1, beta: 0 },
  elu: { alpha: 1 },
  hardsigmoid: { alpha: 0.2, beta: 0.5 },
  leakyrelu: { alpha: 0.01 },
  relu: {},
  scaledtanh: { alpha: 1, beta: 1 },
  sigmoid: {},
  softplus: {},
  softsign: {},
  tanh: {},
  thresholdedrelu: { alpha: 1 },
};

function activationCode(module: ModuleBuilder, { name, alpha, beta }: Activation, x: string): string {
  const [a, b] = [`f32(${alpha})`, `f32(${beta})`];
  switch (name) {
    case 'affine':
      return `(${a} * ${x} + ${b})`;
    case 'elu':
      return `select(${x}, ${a} * (exp(${x}) - 1.0f), ${x} < 0.0f)`;
    case 'hardsigmoid':
      return `clamp(${a} * ${x} + ${b}, 0.0f, 1.0f)`;
    case 'leakyrelu':
      return `select(${x}, ${a} * ${x}, ${x} < 0.0f)`;
    case 'relu':
      return `max(${x}, 0.0f)`;
    case 'scaledtanh':
      return `(${a} * ${module.helper('tanh1')}(${b} * ${x}))`;
    case 'sigmoid':
      return `(1.0f / (1.0f + exp(-${x})))`;
    case 'softplus':
      return `(max(${x}, 0.0f) + log(1.0f + exp(-abs(${x}))))`;
    case 'softsign':
      return `(${x} / (1.0f + abs(${x})))`;
    case 'tanh':
      return `${module.helper('tanh1')}(${x})`;
    case 'thresholdedrelu':
      return `select(0.0f, ${x}, ${x} > ${a})`;
    default:
      throw new Error(`no activation '${name}'`);
  }
}
