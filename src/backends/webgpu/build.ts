/** Graph → the parts of an engine: kernels, plan and weights. Needs no device, only a profile of one. */
import type { Binding, EngineLayer, MemoryLedger } from '../../engine/engine.ts';
import type { Plan } from '../../engine/plan.ts';
import { TsrtError } from '../../errors.ts';
import { type Graph } from '../../ir/graph.ts';
import { WINDOWS } from '../../passes/names.ts';
import type { PassReport } from '../../passes/pass.ts';
import { bindingOf } from '../binding.ts';
import { checkFits, outOfMemory } from './fits.ts';
import { assemble } from './lower/assemble.ts';
import type { InPlace, LowerOptions, Program } from './lower/context.ts';
import { lowerGraph } from './lower/lower.ts';
import type { DeviceProfile } from './profile.ts';

export interface Built {
  readonly plan: Plan;
  /** Parts of the engine, by the names that the plan has for them. */
  readonly weights: ReadonlyMap<string, Uint8Array>;
  readonly layers: readonly EngineLayer[];
  readonly memory: MemoryLedger;
  readonly inPlace: InPlace;
  readonly inputs: readonly Binding[];
  readonly outputs: readonly Binding[];
}

/**
 * Lowers a graph that the backend supports.
 * Throws TsrtError OUT_OF_MEMORY, saying what it would need, where scratch memory exceeds `workspaceBytes` or the plan the
 * device of the profile.
 */
export function buildPlan(graph: Graph, profile: DeviceProfile, options: LowerOptions = {}): Built {
  const program = lowerGraph(graph, profile, options);
  checkTensors(program, profile);
  const { plan, weights, memory } = assemble(program, profile, options.streams);
  checkFits(plan, profile);
  const { workspaceBytes } = options;
  if (workspaceBytes !== undefined && memory.workspaceBytes > workspaceBytes) {
    throw new TsrtError('OUT_OF_MEMORY', `the build needs ${memory.workspaceBytes} bytes of workspace, but --workspace allows ${workspaceBytes}`, {
      fix: `give it --workspace ${memory.workspaceBytes}, or a smaller batch`,
    });
  }
  const binding = (name: string): Binding => bindingOf(graph, name);
  return { plan, weights, layers: program.layers, memory, inPlace: program.inPlace, inputs: graph.inputs.map(binding), outputs: graph.outputs.map(binding) };
}

/** A tensor that no buffer of this device can hold has no place in a plan. */
function checkTensors({ steps, inputs, outputs, tensorBytes }: Program, { maxBufferBytes }: DeviceProfile): void {
  const bound = [...steps.flatMap(({ call }) => call.operands), ...[...inputs, ...outputs].map(({ tensor }) => tensor)];
  const largest = bound.reduce((most, { id }) => Math.max(most, tensorBytes[id]!), 0);
  if (largest > maxBufferBytes) throw outOfMemory(largest, `${largest} in one tensor, but the device allows ${maxBufferBytes} in one buffer (maxBufferSize)`);
}

/** Concat, split and slice without copies, where kernels are fused at all. */
export function wantsWindows({ fusion, disabled }: { readonly fusion: 'on' | 'off'; readonly disabled: readonly string[] }): boolean {
  return fusion === 'on' && !disabled.includes(WINDOWS);
}

/** What lowering without copies did, as the last of the passes: it leaves the nodes of the graph and takes their kernels. */
export function windowsReport({ written, viewed }: InPlace, graph: Graph): PassReport {
  const rewrites = { 'written into its concatenation': written, 'part read in place': viewed };
  const { length } = graph.nodes;
  return { pass: WINDOWS, nodesBefore: length, nodesAfter: length, rewrites: Object.fromEntries(Object.entries(rewrites).filter(([, count]) => count > 0)) };
}
