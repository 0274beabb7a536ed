/** What each engine is: the proof of its precision, its size, and what building and loading it take. */
import { describeShares } from '../../engine/precision.ts';
import type { CompletedRecord } from '../../results/record.ts';
import { formatBytes, formatNumber } from '../units.ts';
import { breakable, tableOf, type Markup } from './markup.ts';

const HEADS = ['case', 'asked for', 'operations run in', 'engine', 'build ms', 'load ms', 'driver compiles ms', 'first inference ms', 'kernels tuned'];
/** What no engine of the report tells is left out. */
const OPTIONAL = new Set([2, 6, 8]);

export function engines(markup: Markup, records: readonly CompletedRecord[]): HTMLElement {
  const rows = records.map(({ case: { id, variant }, build }) => [
    breakable(markup, id),
    variant.options.precision,
    build.precision ? describeShares(build.precision) : '–',
    formatBytes(build.engineBytes),
    build.buildMs === 0 ? '–' : formatNumber(build.buildMs),
    formatNumber(build.loadMs),
    build.loadSteps === undefined ? '–' : formatNumber(build.loadSteps.pipelinesMs),
    formatNumber(build.firstRunMs),
    build.tuning === undefined ? '–' : build.tuning.level,
  ]);
  const shown = HEADS.map((_, index) => index).filter((index) => !OPTIONAL.has(index) || rows.some((row) => row[index] !== '–'));
  const numbers = new Set([3, 4, 5, 6, 7].flatMap((column) => (shown.includes(column) ? [shown.indexOf(column)] : [])));
  return tableOf(markup, 'Engines', shown.map((index) => HEADS[index]!), rows.map((row) => shown.map((index) => row[index]!)), numbers);
}
