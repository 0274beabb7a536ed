/**
 * The checks of the conformance kit, each on one case. They run in the worker process: whatever an op's code does, it does there.
 */
import { compileModel } from '../backends/compile.ts';
import type { Backend, Session } from '../backends/backend.ts';
import { chooseDevice } from '../backends/webgpu/devices.ts';
import type { WebgpuDevice } from '../backends/webgpu/device.ts';
import { tileName } from '../backends/webgpu/kernels/custom.ts';
import type { BuildOptions, Fusion } from '../engine/engine.ts';
import { deserializeEngine, serializeEngine } from '../engine/file.ts';
import type { Operands, RegisteredOp } from '../ir/custom.ts';
import { formatType, sameDims, toNumbers, type Tensor, type TensorType } from '../ir/tensor.ts';
import { sameType } from '../ir/verify.ts';
import { defineNode, inferCustom, inOp, writeCustomAttributes } from '../ops/custom.ts';
import { kernelFor } from '../ops/custom-routes.ts';
import { referenceInputs, referenceValues, runReferenceOn } from '../ops/custom-reference.ts';
import { decompositionOf } from '../ops/decomposition.ts';
import type { Registry } from '../registry.ts';
import { runWithCanaries } from './canary.ts';
import type { Material } from './case.ts';
import { compareWith, describeFailure, larger, NO_ERROR, toleranceOf, type Worst } from './compare.ts';
import { checkInt8 } from './int8-check.ts';
import { opModel, type OpModel } from './model.ts';
import { Nonconforming } from './nonconforming.ts';
import { checkPatterns } from './pattern-check.ts';
import { strict } from './strict.ts';

export const CHECKS = ['shapes', 'reference', 'int8', 'kernel', 'pattern', 'onnxruntime', 'webgpu', 'fusion', 'non-finite'] as const;
export type CheckName = (typeof CHECKS)[number];

/** What a check may use. */
export interface CheckSite {
  readonly entry: RegisteredOp;
  readonly material: Material;
  readonly registry: Registry;
  /** The webgpu device's slug; undefined: there is none, and nothing that needs one is asked for. */
  readonly device: string | undefined;
  /** Judge only where NaN and infinities are: what is finite in both is another check's. */
  readonly onlyNonFinite?: boolean;
}

/** Gives the largest error seen. Throws Nonconforming, or ShapeError for a case that the op refuses. */
export async function runCheck(check: CheckName, site: CheckSite): Promise<Worst> {
  switch (check) {
    case 'shapes':
      return checkShapes(site);
    case 'reference':
      return checkReference(site);
    case 'int8':
      return checkInt8(site.entry, define(site).definition, site.material);
    case 'kernel':
      return checkKernels(site);
    case 'pattern':
      return checkPatterns(site.entry, site.material, (pattern) => runFloat(site, pattern));
    case 'onnxruntime':
      return checkEngine(site, 'onnxruntime');
    case 'webgpu':
      return checkEngine(site, 'webgpu');
    case 'fusion':
      return checkFusion(site);
    case 'non-finite':
      return checkNonFinite(site);
    default:
      return check satisfies never;
  }
}

interface Defined {
  readonly definition: ReturnType<typeof defineNode>['definition'];
  readonly types: readonly TensorType[];
}

function define({ entry, material: { attrs, inputs } }: CheckSite): Defined {
  const { definition } = defineNode(entry, new Map(writeCustomAttributes(entry.op, attrs).map(({ name, value }) => [name, value])), inputs);
  const own = { ...definition, attrs: strict(definition.attrs, 'attribute') };
  return { definition: own, types: inferCustom(own, inputs) };
}

/** Inference gives the same twice, the reference has as many values, the decomposition has the same types. */
function checkShapes(site: CheckSite): Worst {
  const { definition, types } = define(site);
  const { inputs } = site.material;
  const again = define(site).types;
  for (const [index, type] of types.entries()) {
    if (!sameType(type, again[index]!)) throw new Nonconforming(`infer is not deterministic: ${formatType(type)}, then ${formatType(again[index]!)}`);
  }
  referenceValues(definition, inputs, types);
  const { op } = site.entry;
  if (op.flops) checkFlops(definition, inputs, types);
  if (op.decompose || op.expression) decompositionOf(definition, inputs.map((tensor) => tensor && { type: { dtype: tensor.dtype, dims: tensor.dims }, constant: undefined }), types);
  return NO_ERROR;
}

function checkFlops(definition: Defined['definition'], inputs: readonly (Tensor | undefined)[], outputs: readonly TensorType[]): void {
  const count: unknown = inOp(definition, 'flops', () => definition.op.flops!({ attrs: definition.attrs, inputs: inputs as Operands<TensorType>, outputs }));
  if (typeof count !== 'number' || !(count >= 0 && Number.isFinite(count))) throw new Nonconforming(`flops gives ${String(count)}: a number of operations, from 0 up`);
}

/** The same twice, from inputs that are as they were. */
function checkReference(site: CheckSite): Worst {
  const { definition, types } = define(site);
  const given = referenceInputs(definition, site.material.inputs);
  const before = given.map((tensor) => tensor?.values.slice());
  const first = runReferenceOn(definition, given, types);
  for (const [index, tensor] of given.entries()) {
    const at = tensor?.values.findIndex((value, i) => !Object.is(value, before[index]![i])) ?? -1;
    if (at >= 0) throw new Nonconforming(`the reference changes its inputs: element ${at} of '${site.entry.op.inputs[index]!.name}' was ${before[index]![at]}, and is ${tensor!.values[at]}`);
  }
  const second = referenceValues(definition, site.material.inputs, types);
  for (const [index, values] of first.entries()) {
    const at = values.findIndex((value, i) => !Object.is(value, second[index]![i]));
    if (at >= 0) throw new Nonconforming(`the reference is not deterministic: element ${at} is ${values[at]}, then ${second[index]![at]}`);
  }
  return NO_ERROR;
}

let opened: Promise<WebgpuDevice> | undefined;

/** Each kernel and tile between canaries, against the reference. */
async function checkKernels(site: CheckSite): Promise<Worst> {
  const { definition, types } = define(site);
  const { inputs } = site.material;
  const kernel = kernelFor(definition, inputs);
  if (!kernel) return NO_ERROR;
  opened ??= chooseDevice({ wanted: site.device, unchecked: false });
  let worst = NO_ERROR;
  const expected = referenceValues(definition, inputs, types);
  for (const tile of kernel.tiles ?? [{}]) {
    const result = await runWithCanaries({ definition, kernel, inputs, outputs: types, tile: strict(tile, 'number of a tile') }, inputs, await opened);
    const what = kernel.tiles ? `the kernel (${tileName(tile)})` : 'the kernel';
    if (!result.ok) throw new Nonconforming(`${what} ${result.what}`);
    worst = larger(worst, compareOutputs(site, what, result.outputs, expected));
  }
  return worst;
}

function compareOutputs({ entry: { op }, onlyNonFinite = false }: CheckSite, what: string, outputs: readonly Tensor[], expected: readonly ArrayLike<number>[]): Worst {
  let worst = NO_ERROR;
  for (const [index, output] of outputs.entries()) {
    const tolerance = onlyNonFinite ? { absolute: Number.POSITIVE_INFINITY } : toleranceOf(op, output.dtype);
    const found = compareWith(output, expected[index]!, tolerance);
    const name = op.outputs.length > 1 ? `${what}, output '${op.outputs[index]}'` : what;
    if (found.failure) throw new Nonconforming(describeFailure(name, found.failure, tolerance));
    worst = larger(worst, found);
  }
  return worst;
}

/**
 * Import, build, engine file, load, run: twice each, and against the reference. On webgpu with what WebGPU promises of a shader (no access beyond a
 * buffer, zeros in workgroup memory, divisions by zero), and once that is right as engines run unless they are asked for it: without.
 */
async function checkEngine(site: CheckSite, backendName: 'onnxruntime' | 'webgpu'): Promise<Worst> {
  if (backendName === 'onnxruntime') return checkEngineOf(site, backendName, {});
  const checked = await checkEngineOf(site, backendName, CHECKED);
  return larger(checked, await checkEngineOf(site, backendName, {}, ' (without bounds checks and their like, as engines run)'));
}

async function checkEngineOf(site: CheckSite, backendName: 'onnxruntime' | 'webgpu', options: BuildOptions['backendOptions'], how = ''): Promise<Worst> {
  const { definition, types } = define(site);
  const { bytes, feeds } = opModel(site.entry, site.material);
  const backend = site.registry.backend(backendName);
  const [first, second] = [await buildBytes(site, backend, bytes, 'on', options), await buildBytes(site, backend, bytes, 'on', options)];
  if (Buffer.compare(first, second) !== 0) throw new Nonconforming(`two builds for ${backendName} give different engines`);
  const [outputs, again] = await withEngine(site, backend, first, async (session) => [await session.run(feeds), await session.run(feeds)] as const);
  const results = types.map((type, index) => {
    const output = outputs[`y${index}`]!;
    if (!sameDims(output.dims, type.dims)) throw new Nonconforming(`on ${backendName}, output ${index} is ${formatType(output)}, and infer says ${formatType(type)}`);
    if (Buffer.compare(output.data, again[`y${index}`]!.data) !== 0) throw new Nonconforming(`on ${backendName}${how}, two runs of one engine differ`);
    return output;
  });
  return compareOutputs(site, `on ${backendName}${how}`, results, referenceValues(definition, site.material.inputs, types));
}

/** Between neighbours, fused and unfused give the same within what the op claims. */
async function checkFusion(site: CheckSite): Promise<Worst> {
  const { op } = site.entry;
  const backend = site.registry.backend(site.device !== undefined ? 'webgpu' : 'onnxruntime');
  const { bytes, feeds, graph } = opModel(site.entry, site.material, true);
  const run = async (fusion: Fusion): Promise<Readonly<Record<string, Tensor>>> =>
    withEngine(site, backend, await buildBytes(site, backend, bytes, fusion), (session) => session.run(feeds));
  const [fused, unfused] = [await run('on'), await run('off')];
  let worst = NO_ERROR;
  for (const id of graph.outputs) {
    const tolerance = toleranceOf(op, fused[id]!.dtype);
    const found = compareWith(fused[id]!, toNumbers(unfused[id]!), tolerance);
    if (found.failure) throw new Nonconforming(describeFailure(`fused with its neighbours on ${backend.name} (against unfused)`, found.failure, tolerance));
    worst = larger(worst, found);
  }
  return worst;
}

/** NaN and infinities come out where the reference has them, by whatever route there is. */
async function checkNonFinite(full: CheckSite): Promise<Worst> {
  const site: CheckSite = { ...full, onlyNonFinite: true };
  const { op } = site.entry;
  let worst = NO_ERROR;
  if (site.device !== undefined && op.kernels) worst = larger(worst, await checkKernels(site));
  else if (site.device !== undefined) worst = larger(worst, await checkEngine(site, 'webgpu'));
  if (op.decompose || op.expression) worst = larger(worst, await checkEngine(site, 'onnxruntime'));
  return worst;
}

/** A model of standard ops, as they are. */
async function runFloat(site: CheckSite, { bytes, feeds }: Pick<OpModel, 'bytes' | 'feeds'>): Promise<Readonly<Record<string, Tensor>>> {
  const backend = site.registry.backend('onnxruntime');
  return withEngine(site, backend, await buildBytes(site, backend, bytes, 'off'), (session) => session.run(feeds));
}

/** What a plugin's kernel does wrong must not take the process down before it is seen. */
const CHECKED: BuildOptions['backendOptions'] = { boundsChecks: true };

async function buildBytes(site: CheckSite, backend: Backend, modelBytes: Uint8Array, fusion: Fusion, backendOptions = backend.name === 'webgpu' ? CHECKED : {}): Promise<Uint8Array> {
  const options: BuildOptions = {
    backend: backend.name,
    precision: 'fp32',
    fusion,
    batch: 1,
    dims: {},
    inputShapes: {},
    disabledPasses: [],
    workspaceBytes: undefined,
    backendOptions,
  };
  const context = { device: backend.name === 'webgpu' ? site.device : undefined, signal: undefined, onProgress: undefined };
  return serializeEngine(await compileModel({ modelBytes, modelName: site.entry.op.name, folder: undefined, options, backend, context, rebatch: false, customOps: site.registry.ops }));
}

async function withEngine<T>(site: CheckSite, backend: Backend, bytes: Uint8Array, use: (session: Session) => Promise<T>): Promise<T> {
  const session = await backend.load(await deserializeEngine(bytes), { device: backend.name === 'webgpu' ? site.device : undefined, signal: undefined });
  try {
    return await use(session);
  } finally {
    await session.dispose();
  }
}
