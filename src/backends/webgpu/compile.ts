/** Model to engine: passes, kernels, plan. */
import type { Engine, EngineHeader } from '../../engine/engine.ts';
import { TsrtError } from '../../errors.ts';
import { runPasses } from '../../passes/pipeline.ts';
import { TOOL_VERSION } from '../../version.ts';
import type { BuildContext, BuildInput, DeviceInfo } from '../backend.ts';
import { unsupportedError } from '../compile.ts';
import { evaluateConstants } from '../onnxruntime/evaluate.ts';
import { buildPlan } from './build.ts';
import { describeChosen } from './devices.ts';
import { unsupportedNodes } from './lower/lower.ts';
import { isUnchecked, webgpuOptions } from './options.ts';
import { type DeviceProfile, PORTABLE_PROFILE, profileOf } from './profile.ts';

/** What the engine is built for. */
interface Target {
  readonly profile: DeviceProfile;
  readonly requires: Readonly<Record<string, string>>;
  readonly notices: readonly string[];
}

export async function compileWebgpu(input: BuildInput, { signal, onProgress }: BuildContext): Promise<Engine> {
  if (!input.graph.ok) throw new Error('build was called for a model that supports() refuses');
  onProgress?.('passes', 0, 2);
  const { options, model } = input;
  const { graph, reports } = await runPasses(input.graph.graph, {
    target: 'webgpu',
    fusion: options.fusion,
    disabled: options.disabledPasses,
    fold: evaluateConstants,
    signal,
  });
  const unsupported = unsupportedNodes(graph);
  if (unsupported.length > 0) throw unsupportedError(model.name, 'webgpu', unsupported);
  onProgress?.('kernels', 1, 2);
  const target = await targetOf(input);
  const built = buildPlan(graph, target.profile, { workspaceBytes: options.workspaceBytes });
  onProgress?.('kernels', 2, 2);
  const header: EngineHeader = {
    formatVersion: 1,
    tool: { name: 'tsrt-bench', version: TOOL_VERSION },
    backend: 'webgpu',
    model: { name: model.name, sha256: model.sha256 },
    options,
    inputs: built.inputs,
    outputs: built.outputs,
    memory: built.memory,
    passes: reports,
    layers: built.layers,
    requires: target.requires,
    notices: target.notices,
    backendData: built.plan,
  };
  return { header, parts: new Map([['weights', built.weights]]) };
}

/** Properties of a device that kernels are made for: another model of GPU gets an engine of its own. */
const BOUND_TO = ['vendor', 'architecture', 'device', 'subgroups'] as const;

async function targetOf({ options }: BuildInput): Promise<Target> {
  if (webgpuOptions(options).portable) return { profile: PORTABLE_PROFILE, requires: {}, notices: [] };
  try {
    const { adapter, info } = await describeChosen({ wanted: undefined, unchecked: isUnchecked(options) });
    return { profile: profileOf(adapter), requires: requirements(info), notices: [] };
  } catch (error) {
    if (!(error instanceof TsrtError) || error.code !== 'BACKEND_UNAVAILABLE') throw error;
    return { profile: PORTABLE_PROFILE, requires: {}, notices: [`There is no adapter here (${error.message}): built for any WebGPU adapter.`] };
  }
}

function requirements(info: DeviceInfo): Readonly<Record<string, string>> {
  return Object.fromEntries(BOUND_TO.map((key) => [key, info.properties[key]!]));
}
