/** Convolutions of one image that became one: its parts are read where they lie. On SwiftShader against onnxruntime. */
import { describe, expect, it } from 'vitest';
import { buildPlan } from '../../src/backends/webgpu/build.ts';
import type { LowerOptions, TacticChooser } from '../../src/backends/webgpu/lower/context.ts';
import { type DeviceProfile, PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import type { Graph } from '../../src/ir/graph.ts';
import { toNumbers } from '../../src/ir/tensor.ts';
import { runPasses } from '../../src/passes/pipeline.ts';
import { fold, runGraph as runOrt } from '../helpers/ort.ts';
import { PROFILES } from '../helpers/profiles.ts';
import { net, pictures } from '../unit/quantize/networks.ts';
import { COMPACT_PROFILE, noDevice, runGraph } from './helpers.ts';

/** Two reductions of one image and what becomes of each, as in an Inception module. */
function branches(): Graph {
  const { b, conv } = net(13);
  const x = b.input('x', { dtype: 'float32', dims: [2, 24, 6, 5] });
  const [narrow, wide] = [b.node('Relu', [conv(x, 16, 1)], {}), b.node('Relu', [conv(x, 32, 1)], {})];
  return b.finish([b.node('Add', [conv(narrow, 20, 3), conv(wide, 20, 1)], {}, { outputs: ['y'] })]);
}

const optimized = async (disabled: readonly string[]): Promise<Graph> => (await runPasses(branches(), { target: 'webgpu', fusion: 'on', disabled, fold, verify: true })).graph;
const lanes: TacticChooser = (_, candidates) => candidates.find(({ name }) => name.startsWith('lanes')) ?? candidates[0]!;

describe('convolutions of one image', () => {
  it('are a kernel less, and copy nothing', async () => {
    const steps = async (disabled: readonly string[]) => buildPlan(await optimized(disabled), PORTABLE_PROFILE, { half: true }).plan.steps.length;
    expect(await steps([])).toBe((await steps(['fuse-siblings'])) - 1);
  });

  const ways: readonly (readonly [string, DeviceProfile, LowerOptions, number])[] = [
    ['f32', COMPACT_PROFILE, {}, 2e-6],
    ['halves', COMPACT_PROFILE, { half: true }, 3e-3],
    ['halves for matrices', PROFILES['NVIDIA']!, { half: true, choose: lanes }, 3e-3],
  ];
  it.skipIf(noDevice).each(ways)("give onnxruntime's answer: %s", { timeout: 60_000 }, async (_, profile, options, tolerance) => {
    const graph = await optimized([]);
    const inputs = pictures(graph, 5);
    const [expected, actual] = [await runOrt(branches(), inputs), await runGraph(graph, Object.fromEntries(inputs), profile, options)];
    const [wanted, found] = [toNumbers(expected.get('y')!), toNumbers(actual['y']!)];
    expect(Math.max(...wanted.map((value, i) => Math.abs(value - found[i]!))) / Math.max(...wanted.map(Math.abs))).toBeLessThan(tolerance);
  });
});
