/** A whole network on devices of several vendors: in every precision, tactics from all over their ranks are valid WGSL within the device's limits. */
import { describe, expect, it } from 'vitest';
import { buildPlan } from '../../../src/backends/webgpu/build.ts';
import type { LowerOptions, TacticChooser } from '../../../src/backends/webgpu/lower/context.ts';
import type { Graph } from '../../../src/ir/graph.ts';
import { optimize } from '../../helpers/passes.ts';
import { PROFILES } from '../../helpers/profiles.ts';
import { validatingDevice } from '../../device/helpers.ts';
import { GEMM, net, POOL, quantizeNet } from '../quantize/networks.ts';

/** A stem, a pool, a block with a projection, one without, and a classifier. */
function network(): Graph {
  const { b, weight, conv } = net(9);
  const x = b.input('x', { dtype: 'float32', dims: [2, 3, 32, 32] });
  const stem = b.node('Conv', [x, weight(32, 3, 7, 7), weight(32)], { auto_pad: 'NOTSET', dilations: [1, 1], group: 1, kernel_shape: [7, 7], pads: [3, 3, 3, 3], strides: [2, 2] });
  const pooled = b.node('MaxPool', [b.node('Relu', [stem], {})], { ...POOL, kernel_shape: [3, 3], pads: [1, 1, 1, 1], storage_order: 0 });
  const inner = b.node('Relu', [conv(b.node('Relu', [conv(pooled, 32, 1)], {}), 32, 3)], {});
  const first = b.node('Relu', [b.node('Add', [conv(inner, 64, 1), conv(pooled, 64, 1)], {})], {});
  const second = b.node('Relu', [b.node('Add', [conv(first, 64, 3), first], {})], {});
  const flat = b.node('Flatten', [b.node('GlobalAveragePool', [second], {})], { axis: 1 });
  return b.finish([b.node('Gemm', [flat, weight(20, 64), weight(20)], GEMM, { outputs: ['y'] })]);
}

/** Every problem's candidate at this share of its list. */
const at = (share: number): TacticChooser => (_, candidates) => candidates[Math.min(candidates.length - 1, Math.floor(share * candidates.length))]!;

const WAYS: readonly (readonly [string, 'float' | 'int8', LowerOptions])[] = [
  ['fp32', 'float', {}],
  ['fp32, split into halves', 'float', { split: true }],
  ['fp16', 'float', { half: true }],
  ['fp16, summed in halves', 'float', { half: true, halfSums: true }],
  ['int8', 'int8', { half: true }],
];

describe('a network within the limits', () => {
  it.each(Object.keys(PROFILES))('of %s', { timeout: 120_000 }, async (vendor) => {
    const profile = PROFILES[vendor]!;
    const open = await validatingDevice();
    const graphs = { float: (await optimize(network(), 'webgpu')).graph, int8: (await optimize((await quantizeNet(network())).graph, 'webgpu')).graph };
    const seen = new Set<string>();
    for (const [way, kind, options] of WAYS) {
      for (const share of [0.35]) {
        for (const { label, wgsl, access } of buildPlan(graphs[kind], profile, { ...options, choose: at(share) }).plan.shaders) {
          if (seen.has(wgsl)) continue;
          seen.add(wgsl);
          const { messages } = await open.device.createShaderModule({ code: wgsl }).getCompilationInfo();
          expect(messages.map(({ message, lineNum }) => `${way}, ${label}, ${lineNum}: ${message}`)).toEqual([]);
          expect(access.length).toBeLessThanOrEqual(profile.maxStorageBuffers);
          const size = Number(/@workgroup_size\((\d+)/.exec(wgsl)![1]);
          expect(size).toBeLessThanOrEqual(profile.maxInvocations);
          expect(workgroupBytes(wgsl)).toBeLessThanOrEqual(profile.maxWorkgroupBytes);
        }
      }
    }
    expect(seen.size).toBeGreaterThan(15);
    open.check();
    open.destroy();
  });
});

const BYTES: Readonly<Record<string, number>> = { f32: 4, u32: 4, i32: 4, 'vec4<f32>': 16, 'vec4<u32>': 16, 'vec4<i32>': 16 };

/** What the module declares for a workgroup. */
function workgroupBytes(wgsl: string): number {
  return [...wgsl.matchAll(/var<workgroup> \w+: array<([^,]+), (\d+)>/g)].reduce((sum, [, type, count]) => sum + (BYTES[type!] ?? Number.NaN) * Number(count), 0);
}
