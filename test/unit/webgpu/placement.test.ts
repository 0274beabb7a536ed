/** Which values are written into the concatenation that reads them, and what that leaves to copy in known networks. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildPlan, wantsWindows, windowsReport } from '../../../src/backends/webgpu/build.ts';
import { planPlacement } from '../../../src/backends/webgpu/lower/placement.ts';
import { PORTABLE_PROFILE } from '../../../src/backends/webgpu/profile.ts';
import { readPlan } from '../../../src/engine/plan.ts';
import type { Graph, ValueId } from '../../../src/ir/graph.ts';
import { elementCount, fromNumbers } from '../../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../../src/ops/builder.ts';
import { randomImageGraph } from '../../helpers/random-graph.ts';

/** A network by its layers; images are 4 × 4. */
class Net {
  readonly #graph = newGraphBuilder('net');
  readonly #channels = new Map<ValueId, number>();

  input(channels: number): ValueId {
    this.#channels.set('x', channels);
    return this.#graph.input('x', { dtype: 'float32', dims: [1, channels, 4, 4] });
  }

  #keep(id: ValueId, channels: number): ValueId {
    this.#channels.set(id, channels);
    return id;
  }

  conv(x: ValueId, channels: number, kernel: 1 | 3 = 1): ValueId {
    const from = this.#channels.get(x)!;
    const w = this.#graph.constant(fromNumbers('float32', [channels, from, kernel, kernel], new Float32Array(channels * from * kernel * kernel)));
    const pad = (kernel - 1) / 2;
    const attrs = { auto_pad: 'NOTSET', dilations: [1, 1], group: 1, kernel_shape: [kernel, kernel], pads: [pad, pad, pad, pad], strides: [1, 1] } as const;
    return this.#keep(this.#graph.node('Conv', [x, w], attrs), channels);
  }

  pool(x: ValueId): ValueId {
    const attrs = { auto_pad: 'NOTSET', ceil_mode: 0, dilations: [1, 1], kernel_shape: [3, 3], pads: [1, 1, 1, 1], storage_order: 0, strides: [1, 1] } as const;
    return this.#keep(this.#graph.node('MaxPool', [x], attrs), this.#channels.get(x)!);
  }

  relu(x: ValueId): ValueId {
    return this.#keep(this.#graph.node('Relu', [x], {}), this.#channels.get(x)!);
  }

  concat(...parts: readonly ValueId[]): ValueId {
    return this.#keep(this.#graph.node('Concat', parts, { axis: 1 }), parts.reduce((sum, id) => sum + this.#channels.get(id)!, 0));
  }

  split(x: ValueId): [ValueId, ValueId] {
    const half = this.#channels.get(x)! / 2;
    const outputs: [ValueId, ValueId] = [`${x}_left`, `${x}_right`];
    this.#graph.node('Split', [x, this.#ints(half, half)], { axis: 1, num_outputs: undefined } as never, { outputs });
    for (const id of outputs) this.#channels.set(id, half);
    return outputs;
  }

  /** ShuffleNet's: two groups of channels dealt out in turn. */
  shuffle(x: ValueId): ValueId {
    const c = this.#channels.get(x)!;
    const parts = this.#graph.node('Reshape', [x, this.#ints(1, 2, c / 2, 4, 4)], { allowzero: 0 });
    const moved = this.#graph.node('Transpose', [parts], { perm: [0, 2, 1, 3, 4] });
    return this.#keep(this.#graph.node('Reshape', [moved, this.#ints(1, c, 4, 4)], { allowzero: 0 }), c);
  }

  /** Every second row and column from (row, column) on, as YOLOX's Focus takes them. */
  everySecond(x: ValueId, row: number, column: number): ValueId {
    const picked = this.#graph.node('Slice', [x, this.#ints(row, column), this.#ints(4, 4), this.#ints(2, 3), this.#ints(2, 2)], {});
    return this.#keep(picked, this.#channels.get(x)!);
  }

  #ints(...values: readonly number[]): ValueId {
    return this.#graph.constant(fromNumbers('int64', [values.length], values));
  }

  finish(output: ValueId): Graph {
    return this.#graph.finish([output]);
  }
}

/** The kinds of the plan's layers; checks that the plan's own reader takes it. */
function layersOf(graph: Graph, windows = true): string[] {
  const { plan, weights, layers } = buildPlan(graph, PORTABLE_PROFILE, { windows });
  expect(readPlan(JSON.parse(JSON.stringify(plan)), weights)).toEqual(plan);
  return layers.map(({ kind }) => kind);
}

const count = (kinds: readonly string[], kind: string): number => kinds.filter((k) => k === kind).length;

/** Layers that only move: after the image's way in and the result's way out. */
function moves(graph: Graph, windows = true): string[] {
  return layersOf(graph, windows).filter((kind) => ['Concat', 'Split', 'Slice', 'Transpose', 'Reshape'].includes(kind));
}

describe('networks without copies', () => {
  it('SqueezeNet: both expansions of a fire module write the next one its image', () => {
    const net = new Net();
    let x = net.conv(net.input(8), 16);
    for (let i = 0; i < 3; i++) {
      const squeezed = net.relu(net.conv(x, 8));
      x = net.concat(net.relu(net.conv(squeezed, 16)), net.relu(net.conv(squeezed, 16, 3)));
    }
    const graph = net.finish(net.conv(x, 8));
    expect(moves(graph)).toEqual([]);
    expect(count(moves(graph, false), 'Concat')).toBe(3);
  });

  it('Inception: branches of convolutions and of a pool', () => {
    const net = new Net();
    const x = net.conv(net.input(8), 16);
    const deep = net.conv(net.conv(x, 8), 12, 3);
    const mixed = net.concat(net.conv(x, 8), deep, net.conv(net.pool(x), 4), net.pool(net.conv(x, 4)));
    expect(moves(net.finish(net.conv(mixed, 8)))).toEqual([]);
  });

  it('ShuffleNet: halves are read where they lie, and one kernel shuffles channels-last', () => {
    const net = new Net();
    let x = net.conv(net.input(8), 16);
    for (let i = 0; i < 2; i++) {
      const [left, right] = net.split(x);
      x = net.shuffle(net.concat(left, net.relu(net.conv(right, 8, 3))));
    }
    const graph = net.finish(net.conv(x, 8));
    // The left half is copied into the next image: it is the end of one buffer and the beginning of another.
    expect(moves(graph)).toEqual(['Concat', 'Transpose', 'Concat', 'Transpose']);
    expect(count(layersOf(graph), 'Reformat')).toBe(count(layersOf(graph, false), 'Reformat') - 4);
  });

  it('YOLOX: four slices of the image in one kernel, channels-last; cross-stage parts in place', () => {
    const net = new Net();
    const x = net.input(3);
    const focus = net.concat(net.everySecond(x, 0, 0), net.everySecond(x, 1, 0), net.everySecond(x, 0, 1), net.everySecond(x, 1, 1));
    const stem = net.conv(focus, 16, 3);
    const inner = net.conv(net.conv(stem, 8), 8, 3);
    const graph = net.finish(net.conv(net.concat(inner, net.conv(stem, 8)), 16));
    const { plan, layers } = buildPlan(graph, PORTABLE_PROFILE);
    expect(plan.steps.filter(({ layer }) => layers[layer]!.kind === 'Concat').length).toBe(1);
    expect(layersOf(graph)).toEqual(['Concat', 'Conv', 'Conv', 'Conv', 'Conv', 'Conv', 'Reformat']);
    expect(count(moves(graph, false), 'Slice')).toBe(4);
  });

  it('DenseNet: with a kernel between, every concatenation is a part of the last one', () => {
    const net = new Net();
    const parts = [net.conv(net.input(8), 8)];
    for (let i = 0; i < 4; i++) {
      const all = parts.length === 1 ? parts[0]! : net.concat(...parts);
      parts.push(net.conv(net.conv(net.relu(all), 16), 4, 3));
    }
    const graph = net.finish(net.conv(net.concat(...parts), 8));
    expect(moves(graph)).toEqual([]);
    expect(count(moves(graph, false), 'Concat')).toBe(4);
  });

  it('DenseNet: where a convolution reads the concatenation that it adds to, only what it adds is copied', () => {
    const net = new Net();
    let x = net.conv(net.input(8), 8);
    for (let i = 0; i < 3; i++) x = net.concat(x, net.conv(x, 4, 3));
    const graph = net.finish(net.conv(x, 8));
    expect(count(moves(graph), 'Concat')).toBe(3);
    const slots = planPlacement(graph);
    const concats = graph.nodes.filter(({ op }) => op === 'Concat');
    for (const { inputs } of concats) {
      expect(slots.has(inputs[0]!)).toBe(true);
      expect(slots.has(inputs[1]!)).toBe(false);
    }
  });

  it('pyramid of pools: the image that all of them read is copied, not their results', () => {
    const net = new Net();
    const x = net.conv(net.input(8), 8);
    const graph = net.finish(net.conv(net.concat(x, net.pool(x), net.pool(x), net.pool(x)), 8));
    expect(planPlacement(graph).has(x)).toBe(false);
    expect([...planPlacement(graph).keys()].length).toBe(3);
    expect(moves(graph)).toEqual(['Concat']);
  });
});

describe('as a pass', () => {
  it('is part of fusion, can be left out by name, and counts what it did', () => {
    expect(wantsWindows({ fusion: 'on', disabled: ['dead-code'] })).toBe(true);
    expect(wantsWindows({ fusion: 'on', disabled: ['windows'] })).toBe(false);
    expect(wantsWindows({ fusion: 'off', disabled: [] })).toBe(false);
    const net = new Net();
    const [left, right] = net.split(net.conv(net.input(8), 16));
    const graph = net.finish(net.concat(net.relu(left), net.relu(right)));
    const { inPlace } = buildPlan(graph, PORTABLE_PROFILE);
    expect(windowsReport(inPlace, graph).rewrites).toEqual({ 'written into its concatenation': 2, 'part read in place': 2 });
    expect(windowsReport(buildPlan(graph, PORTABLE_PROFILE, { windows: false }).inPlace, graph).rewrites).toEqual({});
  });
});

describe('planPlacement', () => {
  it('gives no home to inputs, constants, outputs, and what a concatenation reads twice', () => {
    const graph = newGraphBuilder('homeless');
    graph.input('x', { dtype: 'float32', dims: [2, 4] });
    const fixed = graph.constant(fromNumbers('float32', [2, 4], new Float32Array(8)));
    const out = graph.node('Neg', ['x'], {});
    const twice = graph.node('Abs', ['x'], {});
    const once = graph.node('Exp', ['x'], {});
    const all = graph.node('Concat', ['x', fixed, out, twice, once, twice], { axis: 0 });
    expect([...planPlacement(graph.finish([out, all]))]).toEqual([[once, { concat: all, axis: 0, start: 8, image: false }]]);
  });

  it('leaves no node that reads and writes one buffer, whatever the network', () => {
    fc.assert(
      fc.property(fc.nat(1_000_000), fc.integer({ min: 4, max: 24 }), (seed, size) => {
        const graph = randomImageGraph(seed, size);
        // The lowering throws where a kernel would bind what it writes twice, the reader where buffers clash.
        const kinds = layersOf(graph);
        expect(count(kinds, 'Concat')).toBeLessThanOrEqual(count(layersOf(graph, false), 'Concat'));
        const root = (id: ValueId): ValueId => {
          const slot = slots.get(id);
          return slot ? root(slot.concat) : id;
        };
        const slots = planPlacement(graph);
        for (const node of graph.nodes) {
          if (node.op === 'Concat') continue;
          for (const id of node.inputs) for (const to of node.outputs) if (slots.has(id) && slots.has(to)) expect(root(id)).not.toBe(root(to));
        }
      }),
      { seed: 3, numRuns: 150 },
    );
  });

  it('puts parts where the concatenation has them, without overlaps', () => {
    fc.assert(
      fc.property(fc.nat(1_000_000), (seed) => {
        const graph = randomImageGraph(seed, 16);
        const dims = (id: ValueId): readonly number[] => graph.types.get(id)!.dims;
        for (const [id, { concat, axis, start }] of planPlacement(graph)) {
          const { inputs } = graph.nodes.find(({ outputs }) => outputs[0] === concat)!;
          const before = inputs.slice(0, inputs.indexOf(id)).reduce((sum, input) => sum + dims(input)[axis]!, 0);
          expect(start).toBe(before);
          expect(elementCount(dims(id))).toBeGreaterThan(0);
        }
      }),
      { seed: 4, numRuns: 200 },
    );
  });
});
