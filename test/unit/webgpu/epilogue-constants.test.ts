/** Layers that differ in their scales alone have one pipeline; what is known by its constants keeps them. */
import { describe, expect, it } from 'vitest';
import { buildPlan } from '../../../src/backends/webgpu/build.ts';
import { withConstants } from '../../../src/backends/webgpu/lower/epilogue-constants.ts';
import type { HostArray } from '../../../src/backends/webgpu/lower/context.ts';
import type { DeviceTensor } from '../../../src/backends/webgpu/lower/tensor.ts';
import { saturatingTail } from '../../../src/backends/webgpu/kernels/packed/saturate.ts';
import { PORTABLE_PROFILE } from '../../../src/backends/webgpu/profile.ts';
import type { Expr } from '../../../src/ir/expr.ts';
import { dequantizedExpr, quantizedExpr } from '../../../src/passes/linear-grid.ts';
import { optimize } from '../../helpers/passes.ts';
import { convProblem } from '../../device/packed-problem.ts';
import { net, quantizeNet } from '../quantize/networks.ts';

async function pipelines(maxStorageBuffers: number): Promise<number> {
  const { b, conv } = net(7);
  let x = b.node('Relu', [conv(b.input('x', { dtype: 'float32', dims: [1, 16, 9, 9] }), 32, 3)], {});
  for (let block = 0; block < 4; block++) {
    const inner = b.node('Relu', [conv(x, 32, 3)], {});
    x = b.node('Relu', [b.node('Add', [conv(inner, 32, 1), x], {})], {});
  }
  const { graph } = await quantizeNet(b.finish([b.node('Relu', [conv(x, 32, 1)], {}, { outputs: ['y'] })]));
  const { graph: ready } = await optimize(graph, 'webgpu');
  const { plan } = buildPlan(ready, { ...PORTABLE_PROFILE, maxStorageBuffers }, { half: true });
  return plan.shaders.filter(({ label }) => label.startsWith('QuantizedConv')).length;
}

describe('constants of an epilogue', () => {
  it('are data, so that equal layers share their pipelines', async () => {
    // The first layer, the inner and the outer one of every block, the last one.
    expect(await pipelines(8)).toBe(4);
  });

  it('are code where the device has no binding left', async () => {
    expect(await pipelines(6)).toBeGreaterThan(4);
  });

  it('leave whole bounds and zero points, by which a quantization is known', () => {
    const grid = { dtype: 'uint8', scale: 0.037, zero: 3 } as const;
    const [x, residual]: Expr[] = [{ kind: 'input', index: 0, dtype: 'float32' }, { kind: 'input', index: 1, dtype: 'uint8' }];
    const epilogue = quantizedExpr({ kind: 'binary', fn: 'add', a: x!, b: dequantizedExpr(residual!, { ...grid, scale: 0.5 }) }, grid);
    const { spec: base } = convProblem({ x: [1, 16, 4, 4], w: [16, 16, 1, 1], strides: [1, 1], pads: [0, 0, 0, 0], dilations: [1, 1], group: 1 }, { element: 'i8', residual: 'i8' });
    let values: HostArray | undefined;
    const pack = (_: string, spec: Pick<DeviceTensor, 'dtype' | 'dims' | 'storage'>, make: () => HostArray): DeviceTensor => {
      values = make();
      return { id: 99, layout: 'linear', ...spec };
    };
    const given = { ...base, epilogue, output: { ...base.output, tensor: { ...base.output.tensor, dtype: 'uint8' as const }, quantization: undefined } };
    const lifted = withConstants(given, { profile: PORTABLE_PROFILE, pack });
    expect([...values!]).toEqual([0.5, 1 / 0.037, 0, 0].map(Math.fround));
    expect(saturatingTail(lifted.epilogue, lifted.output)).toMatchObject({ zero: 3, low: 0, high: 255 });
  });
});
