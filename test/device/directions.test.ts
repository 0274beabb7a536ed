/** Large tensors are read from the end that was written last: the plan's order of turns, and the same numbers from either end. */
import { describe, expect, it } from 'vitest';
import { buildPlan } from '../../src/backends/webgpu/build.ts';
import { elementCount, fromNumbers, toNumbers } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { randomInputs, runGraph as runOnnxruntime } from '../helpers/ort.ts';
import { COMPACT_PROFILE, distance, noDevice, noise, runGraph } from './helpers.ts';

const window = { auto_pad: 'NOTSET', dilations: [1, 1], kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [1, 1] } as const;

/** Every kind of kernel that can go either way, one after the other, on images of this height. */
function chain(height: number) {
  const [channels, width] = [8, 131];
  const graph = newGraphBuilder('chain');
  graph.input('x', { dtype: 'float32', dims: [1, channels, height, width] });
  const weights = (dims: readonly number[], seed: number) => graph.constant(fromNumbers('float32', dims, noise(elementCount(dims), seed).map((value) => value / 3)));
  const pointwise = graph.node('Conv', ['x', weights([channels, channels, 1, 1], 1)], { ...window, kernel_shape: [1, 1], pads: [0, 0, 0, 0], group: 1 });
  const depthwise = graph.node('Conv', [pointwise, weights([channels, 1, 3, 3], 2)], { ...window, group: channels });
  const pooled = graph.node('MaxPool', [depthwise], { ...window, ceil_mode: 0, storage_order: 0 });
  const averaged = graph.node('AveragePool', [pooled], { ...window, ceil_mode: 0, count_include_pad: 0 });
  const mapped = graph.node('Relu', [averaged], {});
  const y = graph.node('Softmax', [mapped], { axis: 1 }, { outputs: ['y'] });
  return graph.finish([y]);
}

const turns = (height: number): boolean[] => {
  const { plan } = buildPlan(chain(height), COMPACT_PROFILE);
  return plan.steps.map((step) => step.kind === 'dispatch' && plan.shaders[step.shader]!.wgsl.includes('const backwards = true;'));
};

it('steps take turns where tensors are large, and not where they are small', () => {
  const large = turns(1024);
  expect(large[0]).toBe(false);
  // Each reads what the one before it wrote.
  expect(large.slice(1).every((backwards, i) => backwards !== large[i])).toBe(true);
  expect(large.length).toBeGreaterThanOrEqual(6);
  expect(turns(64)).not.toContain(true);
});

describe.skipIf(noDevice)('backwards (skipped without SwiftShader)', () => {
  it('gives what onnxruntime gives', async () => {
    const graph = chain(1024);
    const inputs = randomInputs(graph, 3);
    const expected = await runOnnxruntime(graph, inputs);
    const outputs = await runGraph(graph, Object.fromEntries(inputs));
    expect(distance(outputs['y']!, toNumbers(expected.get('y')!), { absolute: 1e-5, relative: 1e-4 })).toBeLessThan(1);
  });
});
