/** How many times as fast as the baseline variant each other one is. */
import { formatSpeedup } from '../units.ts';
import { bars } from './bars.ts';
import { titled, type Group } from './groups.ts';
import type { Markup } from './markup.ts';
import type { Series } from './series.ts';

/** One chart per batch; none where nothing is to be compared. */
export function speedups(markup: Markup, group: Group, baseline: string, series: ReadonlyMap<string, Series>): HTMLElement[] {
  return group.batches.flatMap((batch) => {
    const entries = group.rows.flatMap(({ batch: own, variant, speedup }) =>
      own !== batch || speedup === undefined ? [] : [{ name: variant, value: speedup, low: speedup, high: speedup, figure: formatSpeedup(speedup), color: series.get(variant)!.color }],
    );
    if (!entries.some(({ name }) => name !== baseline)) return [];
    const title = titled(`Speed-up at batch ${batch}`, group);
    return [bars(markup, { title, alternative: `${title} against ${baseline}. ${entries.map(({ name, figure }) => `${name}: ${figure}`).join('; ')}.` }, entries, 1)];
  });
}
