/**
 * Quotients and remainders of floats, as IEEE 754 and C have them, on devices whose division is as inexact as WGSL allows. SwiftShader divides exactly, so
 * its quotients are put off by up to two units in the last place here, to either side.
 */
import { describe, expect, it } from 'vitest';
import type { Graph } from '../../src/ir/graph.ts';
import { fromNumbers, toNumbers } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { createSession } from '../../src/backends/webgpu/session.ts';
import { optimize } from '../helpers/passes.ts';
import { engineOf, noDevice, noise, testDevice } from './helpers.ts';

const EXACT = /let q = (\w+ \/ \w+);/g;

/** The graph's output y, where every quotient is `off` units in the last place from the right one. */
async function runOff(graph: Graph, off: number, inputs: Readonly<Record<string, readonly number[]>>): Promise<number[]> {
  const engine = engineOf(graph);
  const plan = JSON.stringify(engine.header.backendData);
  expect(plan).toMatch(EXACT);
  const inexact = plan.replaceAll(EXACT, (_, exact: string) => {
    const [float, integer] = exact === 'a / b' ? ['vec4<f32>', 'vec4<i32>'] : ['f32', 'i32'];
    return `let q = bitcast<${float}>(bitcast<${integer}>(${exact}) + ${integer}(${off}i));`;
  });
  const session = await createSession({ ...engine, header: { ...engine.header, backendData: JSON.parse(inexact) as unknown } }, await testDevice());
  try {
    const tensors = Object.entries(inputs).map(([name, values]) => [name, fromNumbers(graph.types.get(name)!.dtype, [values.length], values)] as const);
    return toNumbers((await session.run(Object.fromEntries(tensors)))['y']!) as number[];
  } finally {
    await session.dispose();
  }
}

function pairwise(op: 'Div' | 'Mod', length: number): Graph {
  const graph = newGraphBuilder(op);
  for (const name of ['a', 'b']) graph.input(name, { dtype: 'float32', dims: [length] });
  graph.node(op, ['a', 'b'], op === 'Mod' ? { fmod: 1 } : {}, { outputs: ['y'] });
  return graph.finish(['y']);
}

/** Numbers of either sign and magnitudes from 2⁻³⁰ to 2³⁰, whole ones, and some of few digits. */
function numbers(seed: number): number[] {
  const random = noise(1500, seed);
  return [...random].map((value, i) => Math.fround(i % 3 === 0 ? Math.round(value * 100) || 7 : i % 3 === 1 ? Math.round(value * 64) / 32 + 0.125 || 7 : (value || 1) * 2 ** ((i % 61) - 30)));
}

describe.skipIf(noDevice).each([0, 1, -1, 2, -2])('quotients that are %i units off (skipped without SwiftShader)', (off) => {
  it('are corrected to the nearest float', async () => {
    const [a, b] = [numbers(3), numbers(5)];
    expect(await runOff(pairwise('Div', a.length), off, { a, b })).toEqual(a.map((value, i) => Math.fround(value / b[i]!)));
  });

  it('leave remainders exact, with the dividend’s sign', async () => {
    const [a, b] = [numbers(7), numbers(11)];
    expect(await runOff(pairwise('Mod', a.length), off, { a, b })).toEqual(a.map((value, i) => value % b[i]!));
  });

  it('are rounded to whole numbers as exact ones are: ties to even', async () => {
    const graph = newGraphBuilder('quantize');
    const x = Array.from({ length: 511 }, (_, i) => (i - 255) * 1.5 || 3);
    graph.input('x', { dtype: 'float32', dims: [x.length] });
    graph.node('QuantizeLinear', ['x', graph.constant(fromNumbers('float32', [], [3]))], { axis: 0, block_size: 0, output_dtype: 'int8', saturate: 1 }, { outputs: ['y'] });
    const toEven = (value: number): number => (Math.abs(value % 1) === 0.5 ? 2 * Math.round(value / 2) : Math.round(value));
    expect(await runOff(graph.finish(['y']), off, { x })).toEqual(x.map((value) => Math.min(127, Math.max(-128, toEven(value / 3))) + 0));
  });

  it('are rounded to whole numbers as exact ones are, in kernels of halves, too', async () => {
    const graph = newGraphBuilder('floor');
    const x = Array.from({ length: 511 }, (_, i) => (i - 255) * 7 || 7);
    graph.input('x', { dtype: 'float16', dims: [x.length] });
    const ratio = graph.node('Div', ['x', graph.constant(fromNumbers('float16', [], [7]))], {});
    graph.node('Floor', [ratio], {}, { outputs: ['y'] });
    const { graph: fused } = await optimize(graph.finish(['y']), 'webgpu');
    expect(fused.nodes).toHaveLength(1);
    expect(await runOff(fused, off, { x })).toEqual(x.map((value) => value / 7));
  });
});

describe.skipIf(noDevice)('quotients of what is not a plain number (skipped without SwiftShader)', () => {
  const special = [0, -0, 1, -3, 1e-40, 3e-38, -2e38, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN].map(Math.fround);
  const a = special.flatMap((value) => special.map(() => value));
  const b = special.flatMap(() => special);

  it.each(['Div', 'Mod'] as const)('%s', async (op) => {
    const y = await runOff(pairwise(op, a.length), 0, { a, b });
    const wanted = a.map((value, i) => (op === 'Div' ? value / b[i]! : value % b[i]!));
    // A device may take numbers below the least normal one for zero, and a remainder needs a quotient that is a float.
    const normal = a.map((value, i) => [value, b[i]!, wanted[i]!].every((number) => number === 0 || !(Math.abs(number) < 2 ** -126)) && (op === 'Div' || Math.abs(value / b[i]!) < 2 ** 128 || b[i] === 0 || !Number.isFinite(value)));
    const both = [y, wanted].map((all) => all.flatMap((value, i) => (normal[i] ? [[a[i], b[i], Math.fround(value) + 0]] : [])));
    expect(both[0]).toEqual(both[1]);
  });
});
