/** The header of a null engine: the model's inputs and outputs, and nothing to run. */
import type { Binding, EngineHeader } from '../../engine/engine.ts';
import { typeOf } from '../../ir/graph.ts';
import { tensorBytes } from '../../ir/tensor.ts';
import { TOOL_VERSION } from '../../version.ts';
import type { BuildInput } from '../backend.ts';

/** `memoryBytes` stands in the ledger as weights. */
export function nullHeader(input: BuildInput, memoryBytes: number): EngineHeader {
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
