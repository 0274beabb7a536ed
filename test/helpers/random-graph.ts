/** Random networks of small images that split, join, reshape and convolve: for what windows and placement must get right. */
import type { Graph, ValueId } from '../../src/ir/graph.ts';
import { type Dims, elementCount, fromNumbers } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { seededRandom } from './random.ts';

interface Value {
  readonly id: ValueId;
  readonly dims: Dims;
}

const CHANNELS = [1, 3, 4, 5, 8, 12];
const MAX_ELEMENTS = 4096;

/** A graph of `size` steps that the seed alone decides; its outputs are the values that nobody reads, and one that is read. */
export function randomImageGraph(seed: number, size: number): Graph {
  return new Generator(seed).graph(size);
}

class Generator {
  readonly #random: () => number;
  readonly #builder = newGraphBuilder('random');
  readonly #values: Value[] = [];
  readonly #read = new Set<ValueId>();

  constructor(seed: number) {
    this.#random = seededRandom(Math.imul(seed + 1, 0x9e3779b1));
    // The first numbers of neighbouring seeds are alike.
    for (let i = 0; i < 8; i++) this.#random();
  }

  graph(size: number): Graph {
    const dims = [this.#below(2) + 1, this.#pick(CHANNELS), 4, 4];
    this.#values.push({ id: this.#builder.input('x', { dtype: 'float32', dims }), dims });
    const steps = [this.#conv, this.#conv, this.#depthwise, this.#unary, this.#add, this.#concat, this.#concat, this.#concat, this.#split, this.#slice, this.#pool, this.#gate, this.#shuffle, this.#product];
    for (let i = 0; i < size; i++) this.#pick(steps).call(this, this.#pick(this.#values.slice(-6)));
    const made = this.#values.slice(1).map(({ id }) => id);
    const open = made.filter((id) => !this.#read.has(id));
    const outputs = [...new Set([...open, ...(made.length > 0 ? [this.#pick(made)] : [])])];
    if (outputs.length === 0) outputs.push(this.#node('Relu', [this.#values[0]!], {}, this.#values[0]!.dims).id);
    return this.#builder.finish(outputs);
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  #pick<T>(list: readonly T[]): T {
    return list[this.#below(list.length)]!;
  }

  #constant(dims: Dims): ValueId {
    const scale = 1 / Math.sqrt(elementCount(dims.slice(1)));
    return this.#builder.constant(fromNumbers('float32', dims, Array.from({ length: elementCount(dims) }, () => (this.#random() * 2 - 1) * scale)));
  }

  #ints(...values: readonly number[]): ValueId {
    return this.#builder.constant(fromNumbers('int64', [values.length], values));
  }

  #node(op: Parameters<ReturnType<typeof newGraphBuilder>['node']>[0], inputs: readonly (Value | ValueId)[], attrs: object, dims: Dims): Value {
    const ids = inputs.map((input) => (typeof input === 'string' ? input : input.id));
    for (const id of ids) this.#read.add(id);
    const value = { id: this.#builder.node(op, ids, attrs as never), dims };
    this.#values.push(value);
    return value;
  }

  #conv(x: Value): void {
    const [n, c, h, w] = x.dims as [number, number, number, number];
    const kernel = this.#pick([1, 3]);
    const channels = this.#pick(CHANNELS);
    const pad = (kernel - 1) / 2;
    const attrs = { auto_pad: 'NOTSET', dilations: [1, 1], group: 1, kernel_shape: [kernel, kernel], pads: [pad, pad, pad, pad], strides: [1, 1] };
    this.#node('Conv', [x, this.#constant([channels, c, kernel, kernel]), this.#constant([channels])], attrs, [n, channels, h, w]);
  }

  #depthwise(x: Value): void {
    const c = x.dims[1]!;
    const attrs = { auto_pad: 'NOTSET', dilations: [1, 1], group: c, kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [1, 1] };
    this.#node('Conv', [x, this.#constant([c, 1, 3, 3])], attrs, x.dims);
  }

  #unary(x: Value): void {
    this.#node(this.#pick(['Relu', 'Sigmoid', 'Neg']), [x], {}, x.dims);
  }

  #add(x: Value): void {
    const alike = this.#values.filter(({ dims }) => dims.join() === x.dims.join());
    this.#node(this.#pick(['Add', 'Mul']), [x, this.#pick(alike)], {}, x.dims);
  }

  #concat(x: Value): void {
    const axis = this.#pick([0, 1, 1, 1, 1, 2, 3]);
    const fits = this.#values.filter(({ dims }) => dims.every((dim, a) => a === axis || dim === x.dims[a]));
    const parts = [x, ...Array.from({ length: 1 + this.#below(3) }, () => this.#pick(fits))];
    const dims = x.dims.map((dim, a) => (a === axis ? parts.reduce((sum, part) => sum + part.dims[axis]!, 0) : dim));
    if (elementCount(dims) <= MAX_ELEMENTS) this.#node('Concat', parts, { axis }, dims);
  }

  #split(x: Value): void {
    const axis = this.#pick([1, 1, 2]);
    const extent = x.dims[axis]!;
    if (extent < 2) return;
    const first = extent % 2 === 0 ? extent / 2 : 1 + this.#below(extent - 1);
    this.#read.add(x.id);
    const base = `part${this.#values.length}`;
    const outputs = [`${base}a`, `${base}b`];
    this.#builder.node('Split', [x.id, this.#ints(first, extent - first)], { axis, num_outputs: undefined } as never, { outputs });
    for (const [i, size] of [first, extent - first].entries()) this.#values.push({ id: outputs[i]!, dims: x.dims.map((dim, a) => (a === axis ? size : dim)) });
  }

  #slice(x: Value): void {
    const axis = this.#pick([1, 2, 3]);
    const extent = x.dims[axis]!;
    if (extent < 2) return;
    const [start, step] = [this.#below(2), this.#pick([1, 2])];
    this.#node('Slice', [x, this.#ints(start), this.#ints(extent), this.#ints(axis), this.#ints(step)], {}, x.dims.map((dim, a) => (a === axis ? Math.ceil((dim - start) / step) : dim)));
  }

  #pool(x: Value): void {
    const attrs = { auto_pad: 'NOTSET', ceil_mode: 0, dilations: [1, 1], kernel_shape: [3, 3], pads: [1, 1, 1, 1], storage_order: 0, strides: [1, 1] };
    this.#node('MaxPool', [x], attrs, x.dims);
  }

  #gate(x: Value): void {
    const mean = this.#node('GlobalAveragePool', [x], {}, [x.dims[0]!, x.dims[1]!, 1, 1]);
    this.#node('Mul', [x, mean], {}, x.dims);
  }

  #shuffle(x: Value): void {
    const [n, c, h, w] = x.dims as [number, number, number, number];
    const groups = c % 2 === 0 ? 2 : 1;
    const parts = [n, groups, c / groups, h, w];
    const split = this.#node('Reshape', [x, this.#ints(...parts)], { allowzero: 0 }, parts);
    const moved = this.#node('Transpose', [split], { perm: [0, 2, 1, 3, 4] }, [n, c / groups, groups, h, w]);
    this.#node('Reshape', [moved, this.#ints(n, c, h, w)], { allowzero: 0 }, x.dims);
    // Values of other ranks are no images.
    for (const value of [split, moved]) this.#values.splice(this.#values.indexOf(value), 1);
  }

  #product(x: Value): void {
    const w = x.dims[3]!;
    this.#node('MatMul', [x, this.#constant([w, 4])], {}, [...x.dims.slice(0, 3), 4]);
  }
}
