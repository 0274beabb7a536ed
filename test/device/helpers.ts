/**
 * Graphs run on SwiftShader, and validated on Dawn's null backend. SwiftShader comes with a dev dependency; where it can't run
 * (anything but Linux x64) the device tests skip and say so.
 */
import type { Engine } from '../../src/engine/engine.ts';
import type { Graph } from '../../src/ir/graph.ts';
import { type Tensor, toNumbers } from '../../src/ir/tensor.ts';
import type { Session, TensorMap } from '../../src/backends/backend.ts';
import { buildPlan } from '../../src/backends/webgpu/build.ts';
import { requestAdapter } from '../../src/backends/webgpu/dawn.ts';
import type { LowerOptions } from '../../src/backends/webgpu/lower/context.ts';
import { openDevice, type WebgpuDevice } from '../../src/backends/webgpu/device.ts';
import { unsupportedNodes } from '../../src/backends/webgpu/lower/lower.ts';
import { type DeviceProfile, PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import { createSession } from '../../src/backends/webgpu/session.ts';
import { swiftshader } from '../helpers/swiftshader.ts';

export { noDevice, swiftshader } from '../helpers/swiftshader.ts';

let opened: Promise<WebgpuDevice> | undefined;

/**
 * SwiftShader, opened once per test file, as engines run by default: without the driver's bounds checks, with which it takes
 * seconds to compile a tiled kernel.
 */
export function testDevice(): Promise<WebgpuDevice> {
  opened ??= open();
  return opened;
}

async function open(): Promise<WebgpuDevice> {
  const adapter = await requestAdapter({ swiftshader, unchecked: true });
  if (!adapter) throw new Error('SwiftShader is installed and gives no adapter');
  const opened = await openDevice(adapter);
  keepPipelines(opened.device);
  return opened;
}

/** Tests run many a kernel more than once, and compiling one takes SwiftShader longer than running it. */
const MOST_KEPT = 256;

/** Has the latest pipelines compiled once, by their code: it names the bindings, of which the layout is made. */
function keepPipelines(device: GPUDevice): void {
  const codes = new WeakMap<GPUShaderModule, string>();
  const kept = new Map<string, Promise<GPUComputePipeline>>();
  const [createModule, createPipeline] = [device.createShaderModule.bind(device), device.createComputePipelineAsync.bind(device)];
  device.createShaderModule = (descriptor) => {
    const module = createModule(descriptor);
    codes.set(module, descriptor.code);
    return module;
  };
  device.createComputePipelineAsync = (descriptor) => {
    const code = codes.get(descriptor.compute.module);
    if (code === undefined) return createPipeline(descriptor);
    const made = kept.get(code) ?? createPipeline(descriptor);
    kept.delete(code);
    kept.set(code, made);
    if (kept.size > MOST_KEPT) kept.delete(kept.keys().next().value!);
    return made;
  };
}

/** Lines that take a remainder by anything but a number without a sign. Vulkan leaves that of a negative number undefined (SwiftShader does not). */
function signedRemainders(wgsl: string): string[] {
  const tables = [...wgsl.matchAll(/var (\w+) = array<u32,/g)].map(([, name]) => name);
  const unsigned = new RegExp(`(?:const|let) (\\w+) = (?:\\d+u|(?:${['-', ...tables].join('|')})\\[\\w+\\]);`, 'g');
  const names = new Set([...wgsl.matchAll(unsigned)].map(([, name]) => name!));
  return wgsl.split('\n').filter((line) => [...line.matchAll(/% (\w+)/g)].some(([, by]) => !/^\d+u$/.test(by!) && !names.has(by!)));
}

/** An engine of a graph, without the passes and without a model behind it. */
export function engineOf(graph: Graph, profile: DeviceProfile = COMPACT_PROFILE, options: LowerOptions = {}): Engine {
  const unsupported = unsupportedNodes(graph);
  if (unsupported.length > 0) throw new Error(unsupported.map((u) => `${u.node}: ${u.op}: ${u.reason}`).join('\n'));
  const built = buildPlan(graph, profile, options);
  const signed = built.plan.shaders.flatMap(({ wgsl }) => signedRemainders(wgsl));
  if (signed.length > 0) throw new Error(`a remainder that may be of a negative number: ${signed.join('; ')}`);
  return {
    header: {
      formatVersion: 1,
      tool: { name: 'tsrt-bench', version: '0.1.0' },
      backend: 'webgpu',
      model: { name: graph.name, sha256: '' },
      options: {
        backend: 'webgpu',
        precision: 'fp32',
        fusion: 'on',
        batch: 1,
        dims: {},
        inputShapes: {},
        disabledPasses: [],
        workspaceBytes: undefined,
        backendOptions: {},
      },
      inputs: built.inputs,
      outputs: built.outputs,
      memory: built.memory,
      passes: [],
      layers: built.layers,
      requires: {},
      notices: [],
      // As it comes out of an engine file.
      backendData: JSON.parse(JSON.stringify(built.plan)) as unknown,
    },
    parts: built.weights,
  };
}

/** What the device tests compile for by default. */
export const COMPACT_PROFILE: DeviceProfile = { ...PORTABLE_PROFILE, compact: true };

export async function withSession<T>(graph: Graph, use: (session: Session) => Promise<T>, profile?: DeviceProfile, options?: LowerOptions): Promise<T> {
  const session = await createSession(engineOf(graph, profile, options), await testDevice());
  try {
    return await use(session);
  } finally {
    await session.dispose();
  }
}

/** The graph's outputs, computed on the device. */
export async function runGraph(graph: Graph, inputs: TensorMap, profile?: DeviceProfile, options?: LowerOptions): Promise<TensorMap> {
  return withSession(graph, (session) => session.run(inputs), profile, options);
}

/** A device of Dawn's null backend: it validates everything and runs nothing. */
export async function validatingDevice(): Promise<WebgpuDevice> {
  const adapter = await requestAdapter({ validateOnly: true });
  if (!adapter) throw new Error('Dawn gives no null adapter');
  return openDevice(adapter);
}

/** Largest |a − b| / (absolute + relative·|b|) over all elements: 1 or less means close. NaN and infinities must agree. */
export function distance(actual: Tensor, expected: ArrayLike<number>, { absolute = 1e-5, relative = 1e-5 } = {}): number {
  const values = toNumbers(actual);
  if (values.length !== expected.length) throw new Error(`${values.length} elements, expected ${expected.length}`);
  let worst = 0;
  for (const [i, value] of values.entries()) {
    const wanted = expected[i]!;
    const same = Object.is(value, wanted) || value === wanted || (Number.isNaN(value) && Number.isNaN(wanted));
    const gap = same ? 0 : Math.abs(value - wanted) / (absolute + relative * Math.abs(wanted));
    if (!(gap <= worst)) worst = Number.isNaN(gap) ? Number.POSITIVE_INFINITY : gap;
  }
  return worst;
}

/** Deterministic numbers in [-1, 1): a linear congruential generator (Numerical Recipes' constants). */
export function noise(count: number, seed = 1): Float64Array {
  let state = seed >>> 0;
  return Float64Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.fround(state / 2 ** 31 - 1);
  });
}
