/**
 * Who is to blame: what quantizing each node alone costs, and a small set of nodes to keep in fp32 with which the rest meets
 * the budget.
 *
 * The ranking quantizes one product at a time. The search keeps the first k of it, k doubling until the budget is met and then
 * halving back, and at last gives back every kept node that turns out not to be needed: so the set is no mere prefix.
 */

/** How good a network is with some of its nodes in int8. */
export interface Evaluation {
  /** Signal-to-noise ratio against fp32, in decibels; infinite where the answers are the same. */
  readonly snrDb: number;
  readonly withinBudget: boolean;
}

export interface NodeCost extends Evaluation {
  readonly node: string;
}

/** Nodes by what each costs alone, the costliest first. Evaluations that are known are not made again; `onCost` tells of new ones. */
export async function rankNodes(
  nodes: readonly string[],
  known: ReadonlyMap<string, Evaluation>,
  evaluateAlone: (node: string) => Promise<Evaluation>,
  onCost: (cost: NodeCost, done: number) => Promise<void>,
): Promise<readonly NodeCost[]> {
  const costs: NodeCost[] = [];
  for (const node of nodes) {
    const before = known.get(node);
    const cost = { node, ...(before ?? (await evaluateAlone(node))) };
    costs.push(cost);
    if (!before) await onCost(cost, costs.length);
  }
  return costs.toSorted((a, b) => (a.snrDb === b.snrDb ? 0 : a.snrDb - b.snrDb));
}

export interface KeptNodes {
  /** In the order of the ranking. */
  readonly keep: readonly string[];
  readonly evaluation: Evaluation;
  /** Evaluations that the search took. */
  readonly tried: number;
}

/** Undefined where even fp32 throughout breaks the budget. */
export async function findKept(ranking: readonly string[], evaluate: (keep: readonly string[]) => Promise<Evaluation>): Promise<KeptNodes | undefined> {
  let tried = 0;
  const attempt = (keep: readonly string[]): Promise<Evaluation> => {
    tried++;
    return evaluate(keep);
  };
  let failing = -1;
  let passing: { readonly count: number; readonly evaluation: Evaluation } | undefined;
  for (let count = 0; !passing; count = Math.min(ranking.length, Math.max(1, 2 * count))) {
    const evaluation = await attempt(ranking.slice(0, count));
    if (evaluation.withinBudget) passing = { count, evaluation };
    else if (count === ranking.length) return undefined;
    else failing = count;
  }
  while (passing.count - failing > 1) {
    const count: number = (passing.count + failing) >> 1;
    const evaluation = await attempt(ranking.slice(0, count));
    if (evaluation.withinBudget) passing = { count, evaluation };
    else failing = count;
  }
  let keep = ranking.slice(0, passing.count);
  let { evaluation } = passing;
  // The last of a shortest prefix is needed; the others may have come along for its sake.
  for (const node of keep.slice(0, -1).toReversed()) {
    const without = keep.filter((other) => other !== node);
    const next = await attempt(without);
    if (next.withinBudget) [keep, evaluation] = [without, next];
  }
  return { keep, evaluation, tried };
}
