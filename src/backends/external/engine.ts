/** From what was built outside to an engine: the header says what every engine's does. */
import type { Binding, Engine, EngineLayer, MemoryLedger } from '../../engine/engine.ts';
import { TsrtError } from '../../errors.ts';
import { typeOf, type Graph } from '../../ir/graph.ts';
import { tensorBytes } from '../../ir/tensor.ts';
import { TOOL_VERSION } from '../../version.ts';
import type { BuildInput } from '../backend.ts';

/** What an engine is made of, before its header is written. */
export interface ExternalBuild {
  readonly parts: ReadonlyMap<string, Uint8Array>;
  readonly layers?: readonly EngineLayer[];
  readonly memory?: MemoryLedger;
  readonly notices?: readonly string[];
  /** Device properties without which the engine does not load. */
  readonly requires?: Readonly<Record<string, string>>;
  /** JSON that the program gets at `load`. */
  readonly data?: unknown;
}

/**
 * Bindings are the graph's, or the model's own where the IR can't hold it.
 * Throws TsrtError MODEL_UNSUPPORTED where neither gives every size.
 */
export function engineFrom(name: string, input: BuildInput, built: ExternalBuild): Engine {
  const { inputs, outputs } = bindingsOf(name, input);
  const staging = [...inputs, ...outputs].reduce((sum, binding) => sum + tensorBytes(binding), 0);
  const partBytes = [...built.parts.values()].reduce((sum, part) => sum + part.byteLength, 0);
  return {
    header: {
      formatVersion: 1,
      tool: { name: 'tsrt-bench', version: TOOL_VERSION },
      backend: name,
      model: { name: input.model.name, sha256: input.model.sha256 },
      options: input.options,
      inputs,
      outputs,
      memory: built.memory ?? { weightBytes: partBytes, activationBytes: 0, workspaceBytes: 0, stagingBytes: staging },
      passes: [],
      layers: built.layers ?? [],
      requires: built.requires ?? {},
      notices: built.notices ?? [],
      backendData: built.data ?? null,
    },
    parts: built.parts,
  };
}

function bindingsOf(name: string, { graph, model }: BuildInput): { readonly inputs: readonly Binding[]; readonly outputs: readonly Binding[] } {
  if (graph.ok) return graphBindings(graph.graph);
  if (model.inputs && model.outputs) return { inputs: model.inputs, outputs: model.outputs };
  throw new TsrtError('MODEL_UNSUPPORTED', `the backend ${name} needs the sizes of every input and output of ${model.name}`, {
    fix: 'give the sizes with --dim and --shape',
  });
}

function graphBindings(graph: Graph): { readonly inputs: readonly Binding[]; readonly outputs: readonly Binding[] } {
  const bind = (id: string): Binding => ({ name: id, ...typeOf(graph, id) });
  return { inputs: graph.inputs.map(bind), outputs: graph.outputs.map(bind) };
}
