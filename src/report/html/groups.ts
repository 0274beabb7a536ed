/** Rows that may stand in one chart: those of one device under one scenario. */
import type { MeasuredRow } from '../rows.ts';

export interface Group {
  /** What tells it from the other groups; empty where there is no other. */
  readonly label: string;
  readonly rows: readonly MeasuredRow[];
  readonly variants: readonly string[];
  /** Ascending. */
  readonly batches: readonly number[];
}

export function groupsOf(rows: readonly MeasuredRow[]): Group[] {
  const devices = new Set(rows.map(({ device }) => device));
  const scenarios = new Set(rows.map(({ scenario }) => scenario));
  return [...devices].flatMap((device) =>
    [...scenarios].flatMap((scenario) => {
      const own = rows.filter((row) => row.device === device && row.scenario === scenario);
      if (own.length === 0) return [];
      const label = [...(scenarios.size > 1 ? [scenario] : []), ...(devices.size > 1 ? [device] : [])].join(', ');
      return [{ label, rows: own, variants: [...new Set(own.map(({ variant }) => variant))], batches: [...new Set(own.map(({ batch }) => batch))].sort((a, b) => a - b) }];
    }),
  );
}

/** `Throughput, items/s (offline)`. */
export function titled(title: string, { label }: Pick<Group, 'label'>): string {
  return label === '' ? title : `${title} (${label})`;
}
