/** Networks that quantize what comes as it comes (`quantize_dynamic`), on SwiftShader against onnxruntime. */
import { describe, expect, it } from 'vitest';
import { buildPlan } from '../../src/backends/webgpu/build.ts';
import { lowerGraph } from '../../src/backends/webgpu/lower/lower.ts';
import { fromNumbers } from '../../src/ir/tensor.ts';
import { randomInputs, runGraph as runReference } from '../helpers/ort.ts';
import { expectClose, optimize } from '../helpers/passes.ts';
import { PROFILES } from '../helpers/profiles.ts';
import { type Sketch, sketch } from '../helpers/rules.ts';
import { COMPACT_PROFILE, noDevice, noise, runGraph } from './helpers.ts';

/** A dense layer: values quantized, integers multiplied, scales and bias behind. */
function dense({ b, w }: Sketch, x: string, depth: number, columns: number, seed: number): string {
  const [values, scale, zero] = b.nodeOutputs('DynamicQuantizeLinear', [x], {}, { outputs: 3 }) as [string, string, string];
  const weights = b.constant(fromNumbers('uint8', [depth, columns], noise(depth * columns, seed).map((value) => Math.round(128 + 100 * value))));
  const sum = b.node('MatMulInteger', [values, weights, zero, b.constant(fromNumbers('uint8', [], [128]))], {});
  const scaled = b.node('Mul', [b.node('Cast', [sum], { to: 'float32', saturate: 1 }), b.node('Mul', [scale, b.constant(fromNumbers('float32', [1], [0.004]))], {})], {});
  return b.node('Add', [scaled, w(columns)], {});
}

const network = sketch((s) => {
  const x = s.x(2, 9, 48);
  const hidden = s.b.node('Relu', [dense(s, x, 48, 80, 1)], {});
  return [s.b.node('Add', [dense(s, hidden, 80, 48, 2), x], {}), s.b.node('Softmax', [dense(s, hidden, 80, 20, 3)], { axis: -1 })];
});

describe.skipIf(noDevice)('dynamically quantized networks (skipped without SwiftShader)', () => {
  it.each([false, true])('give what onnxruntime gives, stored in halves: %s', async (half) => {
    const inputs = randomInputs(network, 5);
    const { graph } = await optimize(network, 'webgpu');
    const { layers } = buildPlan(graph, COMPACT_PROFILE, { half });
    expect(layers.filter(({ kind }) => kind === 'QuantizedMatMul')).toHaveLength(3);
    expect(layers.map(({ kind }) => kind)).not.toContain('MatMulInteger');
    const found = await runGraph(graph, Object.fromEntries(inputs), COMPACT_PROFILE, { half });
    // A value halfway between two of 255 steps may be rounded either way.
    expectClose(new Map(Object.entries(found)), await runReference(network, inputs), half ? 3e-2 : 2e-2);
  });

  it('fit the bindings of every adapter', async () => {
    const { graph } = await optimize(network, 'webgpu');
    for (const profile of Object.values(PROFILES)) {
      const { steps } = lowerGraph(graph, profile, { half: true });
      expect(Math.max(...steps.map(({ call }) => call.operands.length))).toBeLessThanOrEqual(8);
    }
  });
});
