/** Model to engine: passes, kernels, plan. */
import type { CompositePlan } from '../../engine/composite.ts';
import type { Engine, EngineHeader, PassReport } from '../../engine/engine.ts';
import type { Plan } from '../../engine/plan.ts';
import { TsrtError } from '../../errors.ts';
import { decomposeCustomNodes } from '../../passes/decompose-custom.ts';
import { runPasses } from '../../passes/pipeline.ts';
import { TOOL_VERSION } from '../../version.ts';
import type { BuildContext, BuildInput, DeviceInfo } from '../backend.ts';
import { unsupportedError } from '../compile.ts';
import { evaluateConstants } from '../onnxruntime/evaluate.ts';
import { type Built, buildPlan } from './build.ts';
import { type BuiltComposite, buildComposite } from './composite/build.ts';
import { describeChosen, knownMemory } from './devices.ts';
import { unsupportedNodes } from './lower/lower.ts';
import { isUnchecked, webgpuOptions } from './options.ts';
import { type DeviceProfile, PORTABLE_PROFILE, profileOf } from './profile.ts';

/** What the engine is built for. */
interface Target {
  readonly profile: DeviceProfile;
  readonly requires: Readonly<Record<string, string>>;
  readonly notices: readonly string[];
}

export async function compileWebgpu(input: BuildInput, { device, signal, onProgress }: BuildContext): Promise<Engine> {
  if (!input.graph.ok) throw new Error('build was called for a model that supports() refuses');
  onProgress?.('passes', 0, 2);
  const { options, model } = input;
  const passes = { fusion: options.fusion, disabled: options.disabledPasses, fold: evaluateConstants, signal, customOps: input.customOps };
  const { graph, reports } = await runPasses(input.graph.graph, { ...passes, target: 'webgpu' });
  const unsupported = unsupportedNodes(graph);
  const { fallback } = webgpuOptions(options);
  if (unsupported.length > 0 && fallback === 'none') throw unsupportedError(model.name, 'webgpu', unsupported);
  onProgress?.('kernels', 1, 2);
  const target = await targetOf(input, device);
  const { profile } = target;
  const { workspaceBytes } = options;
  const content: Content =
    unsupported.length === 0
      ? plainContent(buildPlan(graph, profile, { workspaceBytes }), reports)
      : await buildComposite({ graph: decomposeCustomNodes(input.graph.graph, 'webgpu').graph, modelName: model.name, passes, profile, workspaceBytes });
  onProgress?.('kernels', 2, 2);
  const header: EngineHeader = {
    formatVersion: 1,
    tool: { name: 'tsrt-bench', version: TOOL_VERSION },
    backend: 'webgpu',
    model: { name: model.name, sha256: model.sha256 },
    options,
    inputs: content.inputs,
    outputs: content.outputs,
    memory: content.memory,
    passes: content.passes,
    layers: content.layers,
    requires: target.requires,
    notices: [...target.notices, ...content.notices],
    backendData: content.plan,
  };
  return { header, parts: content.parts };
}

/** What differs between a plain engine and a composite one. */
type Content = Omit<BuiltComposite, 'plan'> & { readonly plan: Plan | CompositePlan };

function plainContent(built: Built, passes: readonly PassReport[]): Content {
  return { ...built, parts: new Map([['weights', built.weights]]), passes, notices: [] };
}

/** Properties of a device that kernels are made for: another model of GPU gets an engine of its own. */
const BOUND_TO = ['vendor', 'architecture', 'device', 'subgroups'] as const;

/** Where no device is named and none is there, the engine is for any; a device that is named must be there. */
async function targetOf({ options }: BuildInput, device: string | undefined): Promise<Target> {
  if (webgpuOptions(options).portable) return { profile: PORTABLE_PROFILE, requires: {}, notices: [] };
  try {
    const { adapter, info } = await describeChosen({ wanted: device, unchecked: isUnchecked(options) });
    return { profile: { ...profileOf(adapter), ...knownMemory(info) }, requires: requirements(info), notices: [] };
  } catch (error) {
    if (device !== undefined || !(error instanceof TsrtError) || error.code !== 'BACKEND_UNAVAILABLE') throw error;
    return { profile: PORTABLE_PROFILE, requires: {}, notices: [`There is no adapter here (${error.message}): built for any WebGPU adapter.`] };
  }
}

function requirements(info: DeviceInfo): Readonly<Record<string, string>> {
  return Object.fromEntries(BOUND_TO.map((key) => [key, info.properties[key]!]));
}
