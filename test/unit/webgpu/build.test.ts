/** Programs and plans without a device: workspace, shared shaders, layouts, what is reported as unsupported. */
import { describe, expect, it } from 'vitest';
import { buildPlan } from '../../../src/backends/webgpu/build.ts';
import { unsupportedNodes } from '../../../src/backends/webgpu/lower/lower.ts';
import { PORTABLE_PROFILE } from '../../../src/backends/webgpu/profile.ts';
import { readPlan } from '../../../src/engine/plan.ts';
import { elementCount, fromNumbers } from '../../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../../src/ops/builder.ts';
import { PROFILES } from '../../helpers/profiles.ts';

const zeros = (dims: readonly number[]) => fromNumbers('float32', dims, new Float32Array(elementCount(dims)));
const conv = { auto_pad: 'NOTSET', dilations: [1, 1], group: 1, kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [1, 1] } as const;

/** Convolutions of equal shape, one after another, between an image and a mean. */
function tower(depth: number, channels = 64, size = 7) {
  const graph = newGraphBuilder('tower');
  graph.input('x', { dtype: 'float32', dims: [1, channels, size, size] });
  let value = 'x';
  for (let i = 0; i < depth; i++) {
    value = graph.node('Conv', [value, graph.constant(zeros([channels, channels, 3, 3]))], conv, { name: `conv${i}` });
  }
  return graph.finish([graph.node('GlobalAveragePool', [value], {}, { outputs: ['y'] })]);
}

describe('buildPlan', () => {
  it('gives a plan that its own reader takes', () => {
    const { plan, weights } = buildPlan(tower(3), PORTABLE_PROFILE);
    expect(readPlan(JSON.parse(JSON.stringify(plan)), weights)).toEqual(plan);
  });

  it('is deterministic', () => {
    expect(JSON.stringify(buildPlan(tower(3), PORTABLE_PROFILE).plan)).toBe(JSON.stringify(buildPlan(tower(3), PORTABLE_PROFILE).plan));
  });

  it('divides the weights where a buffer of the device is too small for all of them', () => {
    const whole = buildPlan(tower(3), PORTABLE_PROFILE).weights;
    const [bytes] = [...whole.values()].map(({ length }) => length);
    const { plan, weights } = buildPlan(tower(3), { ...PORTABLE_PROFILE, maxBufferBytes: bytes! / 2 });
    expect([...whole.keys()]).toEqual(['weights']);
    expect([...weights.keys()]).toEqual(['weights', 'weights-1', 'weights-2']);
    expect(readPlan(JSON.parse(JSON.stringify(plan)), weights)).toEqual(plan);
    expect([...weights.values()].reduce((sum, { length }) => sum + length, 0)).toBe(bytes);
  });

  it('gives large weights as they lie in the model, without a copy', () => {
    const graph = newGraphBuilder('product');
    const large = zeros([4096, 2048]);
    const x = graph.input('x', { dtype: 'float32', dims: [1, 4096] });
    const { weights } = buildPlan(graph.finish([graph.node('MatMul', [x, graph.constant(large)], {}, { outputs: ['y'] })]), PORTABLE_PROFILE);
    expect([...weights.values()].map(({ buffer }) => buffer)).toEqual([large.data.buffer]);
  });

  it('makes halves of what comes in, where products of halves read it', () => {
    const graph = newGraphBuilder('product');
    const x = graph.input('x', { dtype: 'float32', dims: [64, 256] });
    const { layers } = buildPlan(graph.finish([graph.node('MatMul', [x, graph.constant(zeros([256, 128]))], {}, { outputs: ['y'] })]), PROFILES['NVIDIA']!, { half: true });
    expect(layers.map(({ kind, precision, tactic = '' }) => `${kind} ${precision} ${tactic.split(' ')[0]}`)).toEqual(['Reformat float16 ', 'MatMul float16 matrix']);
  });

  it.each([[4, 'rows'], [5, 'matrix'], [64, 'matrix']] as const)('multiplies %i rows with weights of few bits by %s', (rows, first) => {
    const graph = newGraphBuilder('product');
    const x = graph.input('x', { dtype: 'float32', dims: [rows, 256] });
    const operands = [fromNumbers('uint8', [256, 128], new Uint8Array(256 * 128)), fromNumbers('float32', [8, 128], new Float32Array(8 * 128).fill(0.5))].map((tensor) => graph.constant(tensor));
    const epilogue = { kind: 'input', index: 0, dtype: 'float32' } as const;
    const y = graph.node('WeightOnlyMatMul', [x, ...operands], { bits: 4, block_size: 32, zeroPoint: 8, alpha: 1, transB: 0, epilogue }, { outputs: ['y'] });
    const { layers } = buildPlan(graph.finish([y]), PROFILES['NVIDIA']!, { half: true });
    expect(layers.map(({ kind, precision, tactic = '' }) => `${kind} ${precision} ${tactic.split(' ')[0]}`)).toEqual(['Reformat float16 ', `WeightOnlyMatMul float16 ${first}`]);
  });

  it('shares the shaders of equal layers, and keeps one layout between them', () => {
    const { plan, layers } = buildPlan(tower(6), PORTABLE_PROFILE);
    expect(layers.map(({ kind }) => kind)).toEqual(['Reformat', ...Array.from({ length: 6 }, () => 'Conv'), 'GlobalAveragePool']);
    const kinds = new Set(plan.shaders.map(({ label }) => label));
    expect(plan.shaders.length).toBe(kinds.size);
    expect(plan.shaders.length).toBeLessThanOrEqual(4);
  });

  it('reuses the memory of activations that are read', () => {
    const short = buildPlan(tower(3), PORTABLE_PROFILE).memory;
    const long = buildPlan(tower(30), PORTABLE_PROFILE).memory;
    expect(long.activationBytes).toBe(short.activationBytes);
    expect(long.weightBytes).toBeGreaterThan(9 * short.weightBytes);
  });

  it('keeps scratch memory within the workspace, and says what it needs where it can not', () => {
    const free = buildPlan(tower(1, 256), PORTABLE_PROFILE).memory;
    expect(free.workspaceBytes).toBeGreaterThan(0);
    expect(buildPlan(tower(1, 256), PORTABLE_PROFILE, { workspaceBytes: 0 }).memory.workspaceBytes).toBe(0);
    const graph = newGraphBuilder('attention');
    for (const name of ['q', 'k', 'v']) graph.input(name, { dtype: 'float32', dims: [1, 2, 16, 7] });
    const y = graph.node('FusedAttention', ['q', 'k', 'v'], { scale: 1, softcap: 0, transposedK: 0, zeroEmptyRows: 0 });
    // Heads of no whole vectors take three kernels. Scores and their softmax: two tensors of [1, 2, 16, 16].
    expect(() => buildPlan(graph.finish([y]), PORTABLE_PROFILE, { workspaceBytes: 100 })).toThrow(/needs 4096 bytes of workspace/);
  });

  it('gives every output a buffer of its own, even where values repeat', () => {
    const graph = newGraphBuilder('outputs');
    graph.input('x', { dtype: 'float32', dims: [2, 2] });
    const y = graph.node('Neg', ['x'], {}, { outputs: ['y'] });
    const flat = graph.node('Flatten', [y], { axis: 0 }, { outputs: ['flat'] });
    const { plan } = buildPlan(graph.finish(['x', y, flat]), PORTABLE_PROFILE);
    expect(new Set(plan.outputs.map(({ buffer }) => buffer)).size).toBe(3);
  });
});

describe('unsupportedNodes', () => {
  it('reports everything at once, with node, op and reason', () => {
    const graph = newGraphBuilder('unsupported');
    graph.input('x', { dtype: 'float64', dims: [2, 3] });
    graph.input('n', { dtype: 'int64', dims: [1] });
    const a = graph.node('Neg', ['x'], {}, { name: 'first' });
    const large = graph.constant(fromNumbers('int64', [1], [2 ** 40]), 'large');
    const b = graph.node('Add', ['n', large], {}, { name: 'second' });
    const found = unsupportedNodes(graph.finish([a, b]));
    expect(found.map(({ node }) => node)).toEqual(['first', 'second']);
    expect(found.find(({ node }) => node === 'second')!.reason).toBe('constant large has int64 values beyond 32 bits');
    expect(found.find(({ node }) => node === 'first')!.reason).toMatch(/no device type holds float64/);
  });
});
