/**
 * Model bytes to engine: read, import, ask the backend, build.
 */
import type { Binding, BuildOptions, Engine } from '../engine/engine.ts';
import { sha256Hex } from '../engine/sha256.ts';
import { TsrtError } from '../errors.ts';
import type { RegisteredOp } from '../ir/custom.ts';
import { isFewBits, isFewBitsInteger } from '../ir/few-bits.ts';
import type { PixelInput } from '../ir/pixels.ts';
import type { Tensor } from '../ir/tensor.ts';
import { batchSaid, bindInputs, derivedDims, fixedBatch, isBindable, resolveType, type BindOptions, unusedDims } from '../onnx/bind.ts';
import { fewBitsFloats } from '../onnx/few-bits-floats.ts';
import { readModel, type OnnxModel } from '../onnx/model.ts';
import { allowsInt8 } from '../onnx/accuracy-levels.ts';
import { hasFewBits } from '../onnx/upgrade.ts';
import type { Backend, BuildContext, BuildInput, Unsupported } from './backend.ts';
import { bindingOf } from './binding.ts';
import { importFolded } from './import-folded.ts';

export const COMPILE_STEPS = ['read', 'import', 'build'] as const;
export type CompileStep = (typeof COMPILE_STEPS)[number];

export interface CompileRequest {
  readonly modelBytes: Uint8Array;
  /** For messages and the engine's header. */
  readonly modelName: string;
  /** The model file's folder, where external data lies; undefined where the bytes came from elsewhere. */
  readonly folder: string | undefined;
  readonly options: BuildOptions;
  readonly backend: Backend;
  readonly context: BuildContext;
  /**
   * Inputs whose values are fixed at build: they become constants, and the engine lacks them. For models whose shapes depend
   * on the values of small inputs (TensorRT's shape tensors).
   */
  readonly inputValues?: ReadonlyMap<string, Tensor>;
  /** Whether a leading dimension that the model fixes gives way to `options.batch` (default: it does, or the import fails), or is the batch. */
  readonly rebatch?: boolean | undefined;
  /** Ops of plugins. */
  readonly customOps?: readonly RegisteredOp[] | undefined;
  /** For int8 and mixed precision. */
  readonly calibration?: BuildInput['calibration'] | undefined;
  /** Image inputs, for a model with these inputs. */
  readonly pixels?: ((inputs: readonly Binding[]) => readonly PixelInput[]) | undefined;
  /** Told how long each step took, in milliseconds, as it ends. */
  readonly onStep?: (step: CompileStep, durationMs: number) => void;
}

/**
 * Compiles a model for a backend. Throws TsrtError: MODEL_INVALID for a file that is no sound model, MODEL_UNSUPPORTED with
 * every reason at once, and whatever the backend's build raises.
 */
export async function compileModel(request: CompileRequest): Promise<Engine> {
  const { backend, context } = request;
  const { input, notices } = await readRequest(request);
  const unsupported = await backend.supports(input);
  if (unsupported.length > 0) throw refusal(input, backend, unsupported);
  context.signal?.throwIfAborted();
  const engine = await timed(request, 'build', () => backend.build(input, context));
  return notices.length === 0 ? engine : { ...engine, header: { ...engine.header, notices: [...notices, ...engine.header.notices] } };
}

/** What a backend builds from: the file read and imported. Whether a backend supports it is for `supports` to say. */
export async function readBuildInput(request: Omit<CompileRequest, 'backend' | 'context'>): Promise<BuildInput> {
  return (await readRequest(request)).input;
}

/** What a backend builds from, and what the engine's header is to say of the request. */
async function readRequest(request: Omit<CompileRequest, 'backend' | 'context'>): Promise<{ readonly input: BuildInput; readonly notices: readonly string[] }> {
  const { modelBytes, modelName, folder, rebatch = true } = request;
  const model = await timed(request, 'read', () => readModel(modelBytes, { folder }));
  const options = rebatch ? request.options : atOwnBatch(request.options, model);
  const { batch, dims, inputShapes } = options;
  const bindOptions: BindOptions = { batch, dims, inputShapes, rebatch };
  const graph = await timed(request, 'import', () => importFolded(model, { ...bindOptions, inputValues: request.inputValues, customOps: request.customOps }));
  const own = ownBindings(model, bindOptions);
  const inputs = graph.ok ? graph.graph.inputs.map((id) => bindingOf(graph.graph, id)) : own.inputs;
  const input: BuildInput = {
    graph,
    model: { name: modelName, sha256: await sha256Hex(modelBytes), bytes: modelBytes, folder, ...own, ...((request.inputValues?.size ?? 0) === 0 && isPacked(model, bindOptions) && { hasFewBits: true }), ...(allowsInt8(model) && { allowsInt8: true }) },
    options,
    ...(request.pixels && inputs && { pixels: request.pixels(inputs) }),
    ...(request.customOps && { customOps: request.customOps }),
    ...(request.calibration && { calibration: request.calibration }),
  };
  const floats = fewBitsFloats(model);
  const rounded = floats.length > 0 ? [`Values quantized to ${floats.join(', ')} are rounded as these types ask; the products behind run in wider floats.`] : [];
  return { input, notices: [...unusedDims(model, bindOptions), ...derivedDims(model, bindOptions), ...rounded] };
}

/** The options with the batch that given sizes say, or that the model fixes, where they do. */
function atOwnBatch(options: BuildOptions, { inputs }: OnnxModel): BuildOptions {
  const batch = batchSaid(inputs, options) ?? fixedBatch(inputs);
  return batch === undefined ? options : { ...options, batch };
}

async function timed<T>({ onStep }: Pick<CompileRequest, 'onStep'>, step: CompileStep, work: () => T | Promise<T>): Promise<T> {
  const start = performance.now();
  const result = await work();
  onStep?.(step, performance.now() - start);
  return result;
}

/** The model's own inputs and outputs as static types, each list undefined where the model does not give them. */
function ownBindings(model: OnnxModel, options: BindOptions): Pick<BuildInput['model'], 'inputs' | 'outputs'> {
  const bindable = model.inputs.filter(isBindable);
  if (bindable.length < model.inputs.length) return { inputs: undefined, outputs: undefined };
  const { inputs, symbols } = bindInputs(bindable, options);
  const bindings: Binding[] = [];
  for (const [name, { dtype, dims }] of inputs) bindings.push({ name, dtype, dims });
  const outputs = model.outputs.map(({ name, type }): Binding | undefined => {
    const resolved = resolveType(type, symbols);
    return resolved && { name, ...resolved };
  });
  return {
    inputs: bindings,
    outputs: outputs.every((output) => output !== undefined) ? outputs : undefined,
  };
}

/** Whether weights of few bits are in a file that onnxruntime runs as it is: of sizes that are those asked for, and with inputs and outputs of types that it takes. */
function isPacked({ nodes, inputs, outputs, initializers }: OnnxModel, options: BindOptions): boolean {
  const hasWeights = nodes.some(hasFewBits) || [...initializers.values()].some((value) => value.kind === 'tensor' && isFewBitsInteger(value.tensor.dtype));
  const isBound = [...inputs, ...outputs].some(({ type }) => type.kind === 'tensor' && isFewBits(type.dtypeName));
  return hasWeights && !isBound && !bindInputs(inputs.filter(isBindable), options).overridden;
}

const WAYS_OUT: Readonly<Record<string, string>> = {
  onnxruntime: 'export the model without these',
  webgpu: 'use --fallback onnxruntime to run these there and the rest here, --backend onnxruntime, or a plugin that has these ops',
};

/** For an op that is not known, where onnxruntime may be: its results need types. */
const TYPES = '; or, where onnxruntime has it, write the types of its outputs into the file (python -m onnxruntime.tools.symbolic_shape_infer)';

/** For a model that is no static graph: there is nothing to cut into a part for each. */
const WHOLE = 'use --backend onnxruntime, which runs such a model unchanged';

/** Ops that are not ONNX's own, and that onnxruntime has: these run there without a plugin. */
const OF_ONNXRUNTIME = /^(com\.microsoft|ai\.onnx\.ml)\./;
const THERE: Readonly<Record<string, string>> = { webgpu: 'use --fallback onnxruntime to run these there and the rest here, or --backend onnxruntime' };

/** For a shape that a value decides: where the value is an input's, it may be known all the same. */
const FREEZE = '; or, where an input decides it, make it a constant: tsrt-bench freeze MODEL --value NAME=V';

/** Why a backend does not build this input, with the way out that is left. */
export function refusal({ model, graph, options }: BuildInput, { name }: Pick<Backend, 'name'>, unsupported: readonly Unsupported[]): TsrtError {
  return unsupportedError(model.name, name, unsupported, graph.ok || (graph.held !== undefined && options.backendOptions['fallback'] !== 'onnxruntime'));
}

/** All reasons in one error, one line each. `isGraph`: the IR holds the model or the beginning of it, so that the rest may run elsewhere. */
export function unsupportedError(model: string, backend: string, unsupported: readonly Unsupported[], isGraph = true): TsrtError {
  if (unsupported.every(({ op }) => op === 'precision')) return precisionError(model, backend, unsupported.map(({ reason }) => reason));
  const ops = [...new Set(unsupported.map(({ op }) => op))].join(', ');
  return new TsrtError('MODEL_UNSUPPORTED', `the backend ${backend} can't build ${model}: ${ops}`, {
    details: unsupported.map(({ node, op, reason }) => `${op} '${node}': ${reason}`),
    fix: wayOut(backend, unsupported, isGraph),
  });
}

/** The ops are all there; what was asked of them is not. */
function precisionError(model: string, backend: string, details: readonly string[]): TsrtError {
  const uncalibrated = details.some((reason) => reason.includes('--calibration'));
  const fix = uncalibrated ? 'run tsrt-bench calibrate SUITE, then build with --calibration FILE; a suite that is run calibrates by itself' : 'choose another --precision or --backend';
  return new TsrtError('MODEL_UNSUPPORTED', `the backend ${backend} can't build ${model} in the precision that was asked for`, { details, fix });
}

/** Ops that nobody knows are a plugin's business; for the others it depends on the backend. */
function wayOut(backend: string, unsupported: readonly Unsupported[], isGraph: boolean): string {
  const unknown = unsupported.find(({ op, reason }) => op !== 'precision' && /not a known op|no plugin that is loaded/.test(reason));
  const way = (isGraph || backend === 'onnxruntime' ? WAYS_OUT[backend] : WHOLE) ?? 'use --backend onnxruntime, or a plugin that has these ops';
  if (unknown) {
    const plugin = pluginWayOut(unknown.op) + (unknown.reason.includes('does not declare static types') ? TYPES : '');
    return backend !== 'onnxruntime' && OF_ONNXRUNTIME.test(unknown.op) ? `${isGraph ? (THERE[backend] ?? WHOLE) : WHOLE}; or ${plugin}` : plugin;
  }
  return unsupported.some(({ reason }) => reason.includes('not known at build')) ? way + FREEZE : way;
}

/** What to do about an op (with its domain) that neither ONNX nor the backend has. */
export function pluginWayOut(op: string): string {
  return `load a plugin that has the op (--plugin PATH), or start one: tsrt-bench plugin new NAME --op ${op}`;
}
