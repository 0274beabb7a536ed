/**
 * The null backend: right shapes, fixed answers and a fake clock. It tests the harness, the gate and the reports with no
 * device, and shows what they do with crashes, hangs and drifts. Prior art: Dawn's and tinygrad's null devices.
 */
import { tensorBytes } from '../../ir/tensor.ts';
import { typeOf } from '../../ir/graph.ts';
import type { Binding, Engine, EngineHeader } from '../../engine/engine.ts';
import { checkCompatible } from '../../engine/fingerprint.ts';
import { TOOL_VERSION } from '../../version.ts';
import type { Backend, BuildInput, DeviceInfo, Unsupported } from '../backend.ts';
import { readOptions } from '../options.ts';
import { maybeFail } from './fault.ts';
import { NULL_OPTIONS } from './options.ts';
import { openNullSession } from './session.ts';

export const NULL_DEVICE: DeviceInfo = {
  slug: 'null',
  kind: 'fake',
  description: 'fake device: fixed answers, fake clock',
  properties: {},
};

export const nullBackend: Backend = {
  name: 'null',
  description: 'Fixed answers on a fake clock: tests a suite, a gate or a report without a device.',
  options: NULL_OPTIONS,
  probe: () => Promise.resolve({ status: 'available', version: TOOL_VERSION, devices: [NULL_DEVICE] }),
  supports,
  async build(input, context): Promise<Engine> {
    const options = readOptions(NULL_OPTIONS, input.options);
    context.signal?.throwIfAborted();
    await maybeFail(options, 'build', 0);
    context.onProgress?.('build', 1, 1);
    return { header: nullHeader(input, options.memoryBytes), parts: new Map() };
  },
  async load(engine, { signal }) {
    signal?.throwIfAborted();
    checkCompatible(engine.header, 'null', NULL_DEVICE);
    return openNullSession(engine, NULL_DEVICE);
  },
};

/** All it needs of a model is its inputs and outputs. */
function supports({ graph, model }: BuildInput): readonly Unsupported[] {
  return graph.ok || (model.inputs && model.outputs) ? [] : graph.unsupported;
}

function nullHeader(input: BuildInput, memoryBytes: number): EngineHeader {
  const { inputs, outputs } = bindingsOf(input);
  const staging = [...inputs, ...outputs].reduce((sum, binding) => sum + tensorBytes(binding), 0);
  return {
    formatVersion: 1,
    tool: { name: 'tsrt-bench', version: TOOL_VERSION },
    backend: 'null',
    model: { name: input.model.name, sha256: input.model.sha256 },
    options: input.options,
    inputs,
    outputs,
    memory: { weightBytes: memoryBytes, activationBytes: 0, workspaceBytes: 0, stagingBytes: staging },
    passes: [],
    layers: [{ name: 'everything', kind: 'Null', precision: 'float32', origins: [], flops: 0, bytes: 0 }],
    requires: {},
    notices: ['The null backend computes nothing: its answers and times are made up.'],
    backendData: null,
  };
}

function bindingsOf({ graph, model }: BuildInput): { inputs: readonly Binding[]; outputs: readonly Binding[] } {
  if (graph.ok) {
    const bind = (name: string): Binding => ({ name, ...typeOf(graph.graph, name) });
    return { inputs: graph.graph.inputs.map(bind), outputs: graph.graph.outputs.map(bind) };
  }
  if (!model.inputs || !model.outputs) throw new Error('build was called for a model that supports() refuses');
  return { inputs: model.inputs, outputs: model.outputs };
}
