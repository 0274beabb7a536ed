/** Finds what there is to choose in a graph by lowering it once without dispatching any of it. */
import type { Graph } from '../../../ir/graph.ts';
import type { KernelCall } from '../lower/call.ts';
import { once } from '../lower/constants.ts';
import type { LowerOptions, TacticChooser } from '../lower/context.ts';
import { lowerGraph } from '../lower/lower.ts';
import type { DeviceProfile } from '../profile.ts';
import type { Candidate, TacticProblem } from '../tactics/tactic.ts';
import { Network, type OpenStep } from './network.ts';
import type { Instance, Problem } from './problems.ts';

/**
 * Names of problems. Equal keys are one problem as long as they have the same candidates; another list under the same key is
 * told apart by its order of appearance, which is that of the graph: `Conv f32 1x49x64x64 ~2`.
 */
export class ProblemIds {
  readonly #lists = new Map<string, string[]>();

  of({ key }: TacticProblem, candidates: readonly Candidate[]): string {
    const lists = this.#lists.get(key) ?? [];
    this.#lists.set(key, lists);
    const list = candidates.map(({ name }) => name).join('\n');
    const known = lists.indexOf(list);
    const index = known >= 0 ? known : lists.push(list) - 1;
    return index === 0 ? key : `${key} ~${index + 1}`;
  }
}

/** What there is to choose in a graph, and the network around the choices. */
export interface Survey {
  /** In the graph's order. */
  readonly problems: readonly Problem[];
  readonly network: Network;
}

export function survey(graph: Graph, profile: DeviceProfile, options: LowerOptions, ids: ProblemIds): Survey {
  const found = new Map<string, Problem & { readonly instances: Instance[] }>();
  const open = new Map<KernelCall, OpenStep>();
  const record: TacticChooser = (problem, given, layer) => {
    // Generated once for the problem and for the network.
    const candidates = given.map((candidate): Candidate => ({ ...candidate, kernels: once(() => candidate.kernels()) }));
    const id = ids.of(problem, candidates);
    const known = found.get(id) ?? { id, flops: problem.flops, names: candidates.map(({ name }) => name), instances: [] };
    found.set(id, known);
    known.instances.push({ layer, candidates });
    const mark: KernelCall = { source: { label: id, wgsl: '', access: [], invocations: 0, workgroupBytes: 0 }, operands: [], workgroups: [0, 0, 0] };
    open.set(mark, { id, candidates });
    return { name: '', scratchBytes: 0, kernels: () => [mark] };
  };
  const { steps } = lowerGraph(graph, profile, { ...options, choose: record });
  return { problems: [...found.values()], network: new Network(steps.map(({ call }) => open.get(call) ?? call)) };
}
