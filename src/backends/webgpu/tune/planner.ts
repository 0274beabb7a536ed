/**
 * Graph → plan with a choice of tactics: by the cost model, by measured times, or by a frozen list. One planner serves all graphs of
 * one build (a composite engine has several), so that equal problems get equal tactics.
 */
import type { TacticChoice, TacticsReport, TacticTime, TuneLevel } from '../../../engine/engine.ts';
import type { Graph } from '../../../ir/graph.ts';
import { TOOL_VERSION } from '../../../version.ts';
import type { BuildContext, DeviceInfo, FrozenTactics } from '../../backend.ts';
import { type Built, buildPlan } from '../build.ts';
import type { WebgpuDevice } from '../device.ts';
import type { LowerOptions, TacticChooser } from '../lower/context.ts';
import type { DeviceProfile } from '../profile.ts';
import type { Decision } from './decide.ts';
import { frozenTactic, unmatched } from './frozen.ts';
import { createTuningDevice } from './gpu.ts';
import { ProblemIds, survey } from './survey.ts';
import { TimingCache } from './timing-cache.ts';
import { Tuner } from './tuner.ts';

export interface PlannerRequest {
  readonly profile: DeviceProfile;
  readonly level: TuneLevel;
  readonly context: BuildContext;
  /** What there is to tune on; undefined where the engine is for any device. */
  readonly device: { readonly info: DeviceInfo; readonly open: () => Promise<WebgpuDevice> } | undefined;
}

/** A plan with the choices that are in it. */
export interface Planned extends Built {
  readonly choices: readonly TacticChoice[];
}

type ChoosingOptions = Omit<LowerOptions, 'choose'>;

export class Planner {
  readonly #request: PlannerRequest;
  readonly #frozen: FrozenTactics | undefined;
  readonly #tuner: Tuner | undefined;
  readonly #cache: TimingCache | undefined;
  readonly #ids = new ProblemIds();
  readonly #decisions = new Map<string, Decision>();

  private constructor(request: PlannerRequest, tuner: Tuner | undefined, cache: TimingCache | undefined) {
    this.#request = request;
    this.#frozen = request.context.tuning?.frozen;
    this.#tuner = tuner;
    this.#cache = cache;
  }

  static async open(request: PlannerRequest): Promise<Planner> {
    const { level, context, device } = request;
    const { frozen, cacheFile, budgetMs } = context.tuning ?? {};
    if (level === 'none' || frozen || !device) return new Planner(request, undefined, undefined);
    const cache = await TimingCache.open(cacheFile, { tool: TOOL_VERSION, device: device.info.properties });
    const { signal, onProgress } = context;
    const open = async () => createTuningDevice(await device.open());
    // Software takes as long for a kernel in a network as by itself, and for a network too long.
    const inNetwork = device.info.kind === 'gpu';
    const tuner = new Tuner({ level, inNetwork, cache, open, budgetMs, signal, onProgress: onProgress && ((done, total) => onProgress('tuning', done, total)) });
    return new Planner(request, tuner, cache);
  }

  /** Throws what buildPlan throws, USAGE for a frozen tactic that a problem does not have, and what the signal aborts with. */
  async plan(graph: Graph, options: ChoosingOptions): Promise<Planned> {
    const { profile } = this.#request;
    if (this.#tuner) {
      const { problems, network } = survey(graph, profile, options, this.#ids);
      const fixed = new Set(this.#decisions.keys());
      for (const [id, decision] of await this.#tuner.decideAll(problems.filter(({ id }) => !fixed.has(id)))) this.#decisions.set(id, decision);
      for (const [id, decision] of await this.#tuner.refineIn(network, problems, this.#decisions, fixed)) this.#decisions.set(id, decision);
    }
    const choices = new Map<string, TacticChoice & { readonly layers: string[] }>();
    const choose: TacticChooser = (problem, candidates, layer) => {
      const id = this.#ids.of(problem, candidates);
      const known = choices.get(id);
      if (known) known.layers.push(layer);
      const choice = known ?? { ...this.#choiceOf(id, candidates.map(({ name }) => name)), layers: [layer] };
      choices.set(id, choice);
      return candidates.find(({ name }) => name === choice.tactic)!;
    };
    const built = buildPlan(graph, profile, { ...options, choose });
    return { ...built, choices: [...choices.values()] };
  }

  #choiceOf(id: string, names: readonly string[]): Omit<TacticChoice, 'layers'> {
    const base = { problem: id, candidates: names.length };
    const frozen = this.#frozen && frozenTactic(this.#frozen, id, names);
    if (frozen !== undefined) return { ...base, tactic: frozen, by: 'frozen' };
    const { tactic, times = [], inNetwork } = this.#decisions.get(id) ?? {};
    if (tactic === undefined || !names.includes(tactic)) return { ...base, tactic: names[0]!, by: 'model' };
    return { ...base, tactic, by: 'measured', times: times.map(rounded), ...(inNetwork && { inNetwork: inNetwork.map(rounded) }) };
  }

  /** The header's section for the plans that became the engine, and what a user should know. Throws USAGE for a frozen list of another model. */
  report(planned: readonly TacticChoice[]): { readonly tactics?: TacticsReport; readonly notices: readonly string[] } {
    const { level, device } = this.#request;
    const choices = joined(planned);
    const notices = [...(this.#cache?.notices ?? []), ...(this.#tuner?.notices ?? [])];
    if (this.#frozen && choices.length > 0) notices.push(...unmatched(this.#frozen, choices.map(({ problem }) => problem)));
    else if (level !== 'none' && !device) notices.push('Nothing was tuned: there is no device to tune for.');
    if (choices.length === 0) return { notices };
    if (!this.#tuner || level === 'none') return { tactics: { choices }, notices };
    const { clocks, networks, ...counts } = this.#tuner.counts();
    if (clocks === 'unproven') notices.push('Tactics were tuned while the clock of the device was not seen to stand at its full rate: the times may be off, and were not kept.');
    return { tactics: { tuning: { level, ...counts, ...(networks > 0 && { networks }), ...(clocks && { clocks }) }, choices }, notices };
  }

  destroy(): void {
    this.#tuner?.destroy();
  }
}

/** Several graphs of one engine can have the same problem, and then have the same tactic for it. */
function joined(choices: readonly TacticChoice[]): TacticChoice[] {
  const byProblem = new Map<string, TacticChoice>();
  for (const choice of choices) {
    const known = byProblem.get(choice.problem);
    byProblem.set(choice.problem, known ? { ...known, layers: [...known.layers, ...choice.layers] } : choice);
  }
  return [...byProblem.values()];
}

/** To a tenth of a nanosecond: more digits are none of the measurement's. */
function rounded(time: TacticTime): TacticTime {
  return 'refused' in time ? time : { ...time, ns: Math.round(time.ns * 10) / 10, spreadNs: Math.round(time.spreadNs * 10) / 10 };
}
