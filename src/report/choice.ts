/**
 * Which variant to take: the fastest within the accuracy budget, and those that nothing beats in accuracy, latency and memory
 * at once (Pareto, 1896). One answer per device, batch and scenario: rows of different ones do not compare.
 */
import { measuredRows, type MeasuredRow, type Report } from './rows.ts';
import { formatMib, formatNumber, formatPercent } from './units.ts';

export interface Choice {
  readonly device: string;
  readonly batch: number;
  readonly scenario: string;
  /** Undefined where every variant is over the budget. */
  readonly fastest: MeasuredRow | undefined;
  /** Within the budget or not, fastest first. */
  readonly pareto: readonly MeasuredRow[];
}

/** Only where there is a choice: rows of at least two variants. */
export function choicesOf(rows: readonly MeasuredRow[]): Choice[] {
  const groups = new Map<string, MeasuredRow[]>();
  for (const row of rows) {
    const key = JSON.stringify([row.device, row.batch, row.scenario]);
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  return [...groups.values()]
    .filter((group) => group.length > 1)
    .map((group) => {
      const bySpeed = group.toSorted((a, b) => latency(a) - latency(b));
      const { device, batch, scenario } = bySpeed[0]!;
      return {
        device,
        batch,
        scenario,
        fastest: bySpeed.find((row) => !row.overBudget),
        pareto: bySpeed.filter((row) => !group.some((other) => dominates(other, row))),
      };
    });
}

/** At least as good in all three, better in one. An accuracy that is not known beats none and is beaten by none. */
function dominates(a: MeasuredRow, b: MeasuredRow): boolean {
  const [x, y] = [accuracyScore(a), accuracyScore(b)];
  if (x === undefined || y === undefined) return false;
  const differences = [latency(b) - latency(a), b.memoryBytes - a.memoryBytes, x - y];
  return differences.every((gain) => gain >= 0) && differences.some((gain) => gain > 0);
}

function latency(row: MeasuredRow): number {
  return row.latencyMs.p50.point;
}

/** More is better. Rows of one run are of one task, so that all have the same figure. */
function accuracyScore({ accuracy }: MeasuredRow): number | undefined {
  if (accuracy === undefined) return undefined;
  return accuracy.top1Percent ?? accuracy.snrDb ?? Number.POSITIVE_INFINITY;
}

export interface ChoiceLine {
  readonly label: 'fastest' | 'pareto';
  readonly text: string;
}

/** What a run and a report of it say beneath the table. */
export function choiceLines(report: Report): ChoiceLine[] {
  const several = report.devices.length > 1;
  return choicesOf(measuredRows(report)).flatMap(({ device, batch, scenario, fastest, pareto }): ChoiceLine[] => {
    const where = `${several ? `on ${device} ` : ''}at batch ${batch}, ${scenario}`;
    const budget = fastest?.accuracy ? 'within the accuracy budget' : 'its accuracy not assessed';
    const first: ChoiceLine = {
      label: 'fastest',
      text: fastest ? `${where}, ${budget}: ${describe(fastest)}` : `${where}: none, as every variant is over the accuracy budget`,
    };
    const rest = pareto.length > 1 && pareto.some(({ accuracy }) => accuracy) ? pareto.map((row): ChoiceLine => ({ label: 'pareto', text: `${where}: ${describe(row)}${row.overBudget ? ', over the accuracy budget' : ''}` })) : [];
    return [first, ...rest];
  });
}

function describe(row: MeasuredRow): string {
  const { accuracy } = row;
  const figure = accuracy?.top1Percent === undefined ? (accuracy?.snrDb === undefined ? [] : [`${formatNumber(accuracy.snrDb)} dB`]) : [`top-1 ${formatPercent(accuracy.top1Percent)}`];
  return [`${row.variant} ${formatNumber(latency(row))} ms`, ...figure, `${formatMib(row.memoryBytes)} MiB`].join(', ');
}
