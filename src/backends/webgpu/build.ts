/** Graph → the parts of an engine: kernels, plan and weights. Needs no device, only a profile of one. */
import type { Binding, EngineLayer, MemoryLedger } from '../../engine/engine.ts';
import type { Plan } from '../../engine/plan.ts';
import { TsrtError } from '../../errors.ts';
import { type Graph } from '../../ir/graph.ts';
import { bindingOf } from '../binding.ts';
import { checkFits, outOfMemory } from './fits.ts';
import { type Assembled, assemble } from './lower/assemble.ts';
import type { LowerOptions, Program } from './lower/context.ts';
import { lowerGraph } from './lower/lower.ts';
import type { DeviceProfile } from './profile.ts';

export interface Built {
  readonly plan: Plan;
  readonly weights: Uint8Array;
  readonly layers: readonly EngineLayer[];
  readonly memory: MemoryLedger;
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
  const { plan, weights, memory } = assembleWithin(program, profile);
  checkFits(plan, profile);
  const { workspaceBytes } = options;
  if (workspaceBytes !== undefined && memory.workspaceBytes > workspaceBytes) {
    throw new TsrtError('OUT_OF_MEMORY', `the build needs ${memory.workspaceBytes} bytes of workspace, and --workspace allows ${workspaceBytes}`, {
      fix: `give it --workspace ${memory.workspaceBytes}, or a smaller batch`,
    });
  }
  const binding = (name: string): Binding => bindingOf(graph, name);
  return { plan, weights, layers: program.layers, memory, inputs: graph.inputs.map(binding), outputs: graph.outputs.map(binding) };
}

/** The memory planner knows bytes, not devices: its RangeError is a tensor that no buffer of this device can hold. */
function assembleWithin(program: Program, profile: DeviceProfile): Assembled {
  try {
    return assemble(program, profile);
  } catch (error) {
    const largest = program.tensorBytes.reduce((most, bytes) => Math.max(most, bytes), 0);
    if (!(error instanceof RangeError) || largest <= profile.maxBufferBytes) throw error;
    throw outOfMemory(largest, `${largest} in one tensor, and the device allows ${profile.maxBufferBytes} in one buffer (maxBufferSize)`, error);
  }
}
