/** A residual block whose projection is multiplied with its last convolution: on SwiftShader against onnxruntime, and as WGSL for several vendors. */
import { describe, expect, it } from 'vitest';
import { buildPlan } from '../../src/backends/webgpu/build.ts';
import type { LowerOptions, TacticChooser } from '../../src/backends/webgpu/lower/context.ts';
import type { DeviceProfile } from '../../src/backends/webgpu/profile.ts';
import type { Graph } from '../../src/ir/graph.ts';
import { toNumbers } from '../../src/ir/tensor.ts';
import { runGraph as runOrt } from '../helpers/ort.ts';
import { optimize } from '../helpers/passes.ts';
import { PROFILES } from '../helpers/profiles.ts';
import { net, pictures } from '../unit/quantize/networks.ts';
import { COMPACT_PROFILE, noDevice, runGraph, validatingDevice } from './helpers.ts';

interface Block {
  /** Channels of the block's input, of its inside, of its output. */
  readonly channels: readonly [number, number, number];
  /** The last convolution's filter. */
  readonly kernel: number;
  readonly bias?: boolean;
  /** A third term of the sum. */
  readonly extra?: boolean;
}

function block({ channels: [outer, inner, out], kernel, bias = true, extra = false }: Block): Graph {
  const { b, conv } = net(5);
  const x = b.input('x', { dtype: 'float32', dims: [2, outer, 6, 5] });
  const start = b.node('Relu', [conv(x, outer, 1)], {});
  const inside = b.node('Relu', [conv(start, inner, 1)], {});
  const sum = b.node('Add', [conv(inside, out, kernel), conv(start, out, 1, { bias })], {});
  const all = extra ? b.node('Add', [sum, conv(inside, out, 1)], {}) : sum;
  return b.finish([b.node('Relu', [all], {}, { outputs: ['y'] })]);
}

const BLOCKS: Readonly<Record<string, Block>> = {
  'whole blocks of the depth': { channels: [64, 32, 48], kernel: 1 },
  'a border within a block, a filter, padded channels': { channels: [24, 20, 40], kernel: 3 },
  'no bias on the shortcut': { channels: [32, 16, 20], kernel: 1, bias: false },
  'another operand': { channels: [32, 16, 32], kernel: 1, extra: true },
};

/** The `at`-th of the joined tactics of this engine, and the first in plain WGSL of everything else. */
function joined(at: number, engine: string): TacticChooser {
  return (problem, candidates) => {
    const fitting = candidates.filter(({ name }) => name.startsWith(engine));
    const some = problem.key.startsWith('Shortcut') ? fitting[at % Math.max(1, fitting.length)] : fitting[0];
    return some ?? candidates[0]!;
  };
}

const apart: TacticChooser = (_, candidates) => candidates.find(({ name }) => name.startsWith('apart lanes')) ?? candidates.find(({ name }) => name.startsWith('lanes')) ?? candidates[0]!;

describe('a projection shortcut', () => {
  it('is one product with the convolution that adds it, where there are matrices', async () => {
    const { graph } = await optimize(block(BLOCKS['whole blocks of the depth']!), 'webgpu');
    const shortcut = (profile: DeviceProfile, options: LowerOptions) => buildPlan(graph, profile, options).plan.steps.length;
    const nvidia = PROFILES['NVIDIA']!;
    const portable = shortcut(PROFILES['no matrices']!, { half: true });
    expect(shortcut(nvidia, { half: true })).toBe(portable - 1);
    expect(shortcut(nvidia, { split: true })).toBe(portable - 1);
    expect(shortcut(nvidia, { half: true, choose: (_, candidates) => candidates.find(({ name }) => name.startsWith('apart')) ?? candidates[0]! })).toBe(portable);
  });

  it.each(['NVIDIA', 'AMD', 'Intel', 'Apple', 'default limits'])('is valid WGSL for %s', { timeout: 120_000 }, async (vendor) => {
    const open = await validatingDevice();
    const seen = new Set<string>();
    for (const [name, options] of [['whole blocks of the depth', { half: true }], ['a border within a block, a filter, padded channels', { half: true }], ['another operand', { split: true }]] as const) {
      const { graph } = await optimize(block(BLOCKS[name]!), 'webgpu');
      for (let at = 0; at < 12; at += 3) {
        const { plan } = buildPlan(graph, PROFILES[vendor]!, { ...options, choose: joined(at, 'matrix') });
        for (const { wgsl, label } of plan.shaders.filter((shader) => shader.label.startsWith('Shortcut'))) {
          if (seen.has(wgsl)) continue;
          seen.add(wgsl);
          const { messages } = await open.device.createShaderModule({ code: wgsl }).getCompilationInfo();
          expect(messages.map(({ message, lineNum }) => `${label} ${lineNum}: ${message}`)).toEqual([]);
        }
      }
    }
    expect(seen.size).toBeGreaterThan(5);
    open.destroy();
  });

  const [whole, border, unbiased, more] = Object.keys(BLOCKS) as [string, string, string, string];
  const ways: readonly (readonly [string, readonly string[], DeviceProfile, LowerOptions, number])[] = [
    ['halves', [whole, border, unbiased, more], PROFILES['NVIDIA']!, { half: true, choose: joined(0, 'lanes') }, 3e-3],
    ['halves, another tile', [border], PROFILES['NVIDIA']!, { half: true, choose: joined(1, 'lanes') }, 3e-3],
    ['f32 split into halves', [whole, border], PROFILES['NVIDIA']!, { split: true, choose: joined(0, 'lanes') }, 2e-6],
    ['two kernels by choice', [more], PROFILES['NVIDIA']!, { half: true, choose: apart }, 3e-3],
    ['f32, two kernels', [border], COMPACT_PROFILE, {}, 2e-6],
  ];
  for (const [way, names, profile, options, tolerance] of ways) {
    it.skipIf(noDevice).each(names)(`gives onnxruntime's answer: ${way}, %s`, { timeout: 60_000 }, async (name) => {
      const graph = block(BLOCKS[name]!);
      const { graph: ready } = await optimize(graph, 'webgpu');
      expect(ready.nodes.filter(({ op }) => op === 'FusedShortcut')).toHaveLength(1);
      const inputs = pictures(graph, 5);
      const [expected, actual] = [await runOrt(graph, inputs), await runGraph(ready, Object.fromEntries(inputs), profile, options)];
      const [wanted, found] = [toNumbers(expected.get('y')!), toNumbers(actual['y']!)];
      const largest = Math.max(...wanted.map(Math.abs));
      expect(Math.max(...wanted.map((value, i) => Math.abs(value - found[i]!))) / largest).toBeLessThan(tolerance);
    });
  }
});
