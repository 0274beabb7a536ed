/** Model to engine: passes, kernels, plan. */
import type { CompositePlan } from '../../engine/composite.ts';
import type { BuildOptions, Engine, EngineHeader } from '../../engine/engine.ts';
import type { Plan } from '../../engine/plan.ts';
import { TsrtError } from '../../errors.ts';
import { decomposeCustomNodes } from '../../passes/decompose-custom.ts';
import type { Graph, ValueId } from '../../ir/graph.ts';
import { droppedRounding, narrowTypes } from '../../passes/device-types.ts';
import { withBytes } from '../../passes/input-bytes.ts';
import type { PassReport } from '../../passes/pass.ts';
import { type PipelineOptions, type PipelineResult, runPasses } from '../../passes/pipeline.ts';
import { TOOL_VERSION } from '../../version.ts';
import type { BuildContext, BuildInput, DeviceInfo } from '../backend.ts';
import { unsupportedError } from '../compile.ts';
import { headOf } from '../head.ts';
import { evaluateConstants } from '../onnxruntime/evaluate.ts';
import { wantedPixels } from '../pixels.ts';
import { wantsWindows, windowsReport } from './build.ts';
import { type BuiltComposite, buildComposite } from './composite/build.ts';
import type { CompositeTail } from './composite/tail.ts';
import { chooseDevice, describeChosen, knownMemory } from './devices.ts';
import { unsupportedNodes } from './lower/lower.ts';
import { isUnchecked, webgpuOptions } from './options.ts';
import { beyondHalf, gridsBeyondHalf, halfNotices, type InPrecision, planPrecision, precisionElsewhere, provePrecision, together, typeNotices } from './precision.ts';
import { type DeviceProfile, matricesOf, PORTABLE_PROFILE, profileOf } from './profile.ts';
import { type Planned, Planner } from './tune/planner.ts';

/** What the engine is built for. */
interface Target {
  readonly profile: DeviceProfile;
  readonly requires: Readonly<Record<string, string>>;
  readonly notices: readonly string[];
  /** The device that is there; undefined where the engine is for any. */
  readonly info?: DeviceInfo;
}

export async function compileWebgpu(input: BuildInput, context: BuildContext): Promise<Engine> {
  const { device, signal, onProgress } = context;
  const { imported, tail } = buildable(input);
  onProgress?.('passes', 0, 2);
  const { options, model } = input;
  const { fallback, tune, streams, f32Products, fp16Accumulation } = webgpuOptions(options);
  const seen = beyondHalf(input.calibration?.cache);
  // Where onnxruntime runs what the device can't, doubles stay doubles.
  const disabled = fallback === 'none' ? options.disabledPasses : [...options.disabledPasses, narrowTypes.name];
  const asked = { fusion: options.fusion, disabled, fold: evaluateConstants, signal, customOps: input.customOps, wide: seen };
  const precision = await planPrecision(imported, input, asked);
  const whole = precision.of(precision.named?.graph ?? imported);
  const wide = new Set([...seen, ...gridsBeyondHalf(whole.graph)]);
  const passes = { ...asked, wide };
  const pixels = wantedPixels(input);
  // After int8 was placed: a calibration knows the values of the network, not what is put in front of it.
  const bytes = withBytes(whole.graph, pixels);
  const { graph, reports: own } = await runPasses(bytes.graph, { ...passes, target: 'webgpu' });
  const reports = [...bytes.reports, ...own];
  const unsupported = unsupportedNodes(graph);
  if (unsupported.length > 0 && fallback === 'none') throw unsupportedError(model.name, 'webgpu', unsupported);
  onProgress?.('kernels', 1, 2);
  const target = await targetOf(input, device);
  const { profile } = target;
  const { workspaceBytes } = options;
  const windows = wantsWindows(passes);
  const byteInputs = new Set(pixels.map(({ input: id }) => id));
  const lowering = { workspaceBytes, windows, byteInputs, streams, half: options.precision !== 'fp32', split: f32Products === 'split', halfSums: fp16Accumulation, keepFloat: wide };
  const planner = await Planner.open({ profile, level: tune, context, device: tunedOn(target, input, device) });
  const build = async (): Promise<Content> => {
    if (unsupported.length === 0 && !tail) return plainContent(await planner.plan(graph, lowering), { graph, wanted: whole, reports, windows });
    const divisible = precision.named ?? (await withoutFusion(imported, asked));
    const plan = (part: Graph, keepFloat: ReadonlySet<ValueId>) => planner.plan(part, { ...lowering, keepFloat, streams: 1 });
    return buildComposite({ ...divisible, modelName: model.name, passes: asked, inPrecision: precision.of, pixels, plan, workspaceBytes, tail });
  };
  const content = await build().finally(() => planner.destroy());
  const { tactics, notices } = planner.report(content.choices);
  const proof = provePrecision(content.layers, together(content.wanted), options.precision);
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
    ...(pixels.length > 0 && { pixels }),
    ...(tactics && { tactics }),
    requires: target.requires,
    ...((precision.named || options.precision === 'fp16') && input.calibration && { calibration: input.calibration.stamp }),
    notices: [...target.notices, ...content.notices, ...notices, ...typeNotices(precision.named?.graph ?? imported, content.passes), ...droppedRounding(imported, precision.named?.reports ?? []), ...(fp16Accumulation ? accumulationNotices(options, profile) : []), ...(lowering.half ? halfNotices(graph, input.calibration?.cache) : []), ...proof, ...precisionElsewhere(content.elsewhere, precision.products)],
    backendData: content.plan,
  };
  return { header, parts: content.parts };
}

/** Why sums of halves that were asked for are none. */
function accumulationNotices({ precision }: BuildOptions, profile: DeviceProfile): readonly string[] {
  if (precision === 'fp32') return ['fp16Accumulation has nothing to do in fp32: its sums are f32.'];
  return matricesOf(profile, 'f16', true).length > 0 ? [] : ['fp16Accumulation: the device that this is built for has no matrices that sum halves in halves; sums are f32.'];
}

/** What there is to compile: the whole graph, or the head of a model whose tail onnxruntime runs. */
function buildable(input: BuildInput): { readonly imported: Graph; readonly tail: CompositeTail | undefined } {
  const { graph, model } = input;
  const head = headOf(input);
  if (!head) throw new Error('build was called for a model that supports() refuses');
  const { tail } = head;
  return { imported: head.graph, tail: tail && { ...tail, reasons: graph.ok ? [] : graph.unsupported, declared: model.outputs ?? [], folder: model.folder } };
}

/** What differs between a plain engine and a composite one. */
type Content = Omit<BuiltComposite, 'plan'> & { readonly plan: Plan | CompositePlan };

interface Lowered {
  readonly graph: Graph;
  readonly wanted: InPrecision;
  readonly reports: readonly PassReport[];
  readonly windows: boolean;
}

function plainContent(built: Planned, { graph, wanted, reports, windows }: Lowered): Content {
  const passes = windows ? [...reports, windowsReport(built.inPlace, graph)] : reports;
  return { ...built, parts: built.weights, passes, notices: [], wanted: [wanted], elsewhere: [] };
}

/** The graph as it can be written to ONNX, whole custom ops where there are kernels for them. */
function withoutFusion(imported: Graph, passes: Omit<PipelineOptions, 'target'>): Promise<PipelineResult> {
  return runPasses(decomposeCustomNodes(imported, 'webgpu').graph, { ...passes, disabled: [...passes.disabled, 'decompose-custom'], target: 'onnx' });
}

/** Properties of a device that kernels are made for: another model of GPU gets an engine of its own. */
const BOUND_TO = ['vendor', 'architecture', 'device', 'subgroups'] as const;

/** Where no device is named and none is there, the engine is for any; a device that is named must be there. */
async function targetOf({ options }: BuildInput, device: string | undefined): Promise<Target> {
  if (webgpuOptions(options).portable) return { profile: PORTABLE_PROFILE, requires: {}, notices: [] };
  try {
    const { adapter, info } = await describeChosen({ wanted: device, unchecked: isUnchecked(options) });
    return { profile: { ...profileOf(adapter), ...knownMemory(info) }, requires: requirements(info), notices: [], info };
  } catch (error) {
    if (device !== undefined || !(error instanceof TsrtError) || error.code !== 'BACKEND_UNAVAILABLE') throw error;
    return { profile: PORTABLE_PROFILE, requires: {}, notices: [`There is no adapter here (${error.message}): built for any WebGPU adapter.`] };
  }
}

/** The device that tactics are timed on, opened only where something is. */
function tunedOn({ info }: Target, { options }: BuildInput, device: string | undefined) {
  return info && { info, open: () => chooseDevice({ wanted: device, unchecked: isUnchecked(options) }) };
}

function requirements(info: DeviceInfo): Readonly<Record<string, string>> {
  return Object.fromEntries(BOUND_TO.map((key) => [key, info.properties[key]!]));
}
