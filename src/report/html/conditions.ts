/** On what, with what and how the records were made: what two reports must share to be comparable. */
import { quantile, sortSamples } from '../../stats/samples.ts';
import type { BenchRecord, Round } from '../../results/record.ts';
import type { Report } from '../rows.ts';
import { formatBytes, formatNumber } from '../units.ts';
import type { Markup } from './markup.ts';

type Fact = readonly [term: string, values: readonly string[]];

/** What was measured, with what and where: the head of the page. */
export function identity(markup: Markup, report: Report, records: readonly BenchRecord[]): HTMLElement {
  return listOf(markup, identityOf(report, records));
}

/** How quiet the machine was meanwhile, and how to measure again. */
export function conditions(markup: Markup, records: readonly BenchRecord[]): HTMLElement {
  return listOf(markup, conditionsOf(records));
}

/** Terms without a value are left out; records of several machines or runs give each value that differs. */
function listOf({ h }: Markup, all: readonly Fact[]): HTMLElement {
  const facts = all.filter(([, values]) => values.length > 0);
  return h('dl', { class: 'facts' }, ...facts.map(([term, values]) => h('div', {}, h('dt', {}, term), ...values.map((value) => h('dd', {}, value)))));
}

function identityOf(report: Report, records: readonly BenchRecord[]): readonly Fact[] {
  const environments = (of: (environment: BenchRecord['provenance']['environment']) => string) => each(records, (record) => of(record.provenance.environment));
  return [
    ['Run', runsOf(records)],
    ['Model', report.models],
    ['Device', report.devices.map(({ slug, description }) => `${slug} (${description})`)],
    ['Processor', environments(({ cpu }) => `${cpu.model}, ${cpu.cores} cores${cpu.governor === undefined ? '' : `, governor ${cpu.governor}`}`)],
    ['Memory', environments(({ memoryBytes }) => formatBytes(memoryBytes))],
    ['System', environments(({ os, node }) => `${os}, Node ${node}`)],
    ['tsrt-bench', each(records, ({ provenance: { tool } }) => `${tool.version}${tool.revision === undefined ? '' : ` (${tool.revision.slice(0, 12)})`}`)],
    ['Packages', environments(({ packages }) => Object.entries(packages).map(([name, version]) => `${name} ${version}`).join(', ')).filter((text) => text !== '')],
  ];
}

function conditionsOf(records: readonly BenchRecord[]): readonly Fact[] {
  const rounds = records.flatMap((record) => ('rounds' in record ? record.rounds : []));
  return [
    ['Rounds', range(records.flatMap((record) => (record.status === 'completed' ? [record.rounds.length] : [])), '')],
    ['Cores kept busy by other programs', range(rounds.map(({ cpuLoad }) => cpuLoad), '')],
    ['Processor clock', range(rounds.flatMap(({ clockMhz }) => clockMhz ?? []), ' MHz')],
    ...yardsticksOf(rounds),
    ['Measure again', each(records, ({ case: { suite }, provenance: { command, seed } }) => command ?? `tsrt-bench run ${suite} --seed ${seed}, and the flags of then, which these records do not have`)],
  ];
}

function each(records: readonly BenchRecord[], of: (record: BenchRecord) => string): string[] {
  return [...new Set(records.map(of))];
}

function runsOf(records: readonly BenchRecord[]): string[] {
  const starts = new Map<string, string>();
  for (const { provenance: { runId, startedAt } } of records) if (startedAt < (starts.get(runId) ?? '~')) starts.set(runId, startedAt);
  return [...starts].map(([runId, startedAt]) => `${runId}, started ${startedAt.slice(0, 16).replace('T', ' ')} UTC`);
}

/** A fixed workload's times: they move only when the machine does. */
function yardsticksOf(rounds: readonly Round[]): Fact[] {
  const readings = rounds.flatMap(({ yardstick }) => yardstick);
  return [...new Set(readings.map(({ workload }) => workload))].map((workload) => {
    const times = readings.filter((reading) => reading.workload === workload).map(({ durationNs }) => durationNs / 1e6);
    return [`Yardstick ${workload}`, range(times, ' ms')];
  });
}

/** Median and both ends. */
function range(values: readonly number[], unit: string): string[] {
  if (values.length === 0) return [];
  const sorted = sortSamples(values);
  const [least, middle, largest] = [quantile(sorted, 0), quantile(sorted, 0.5), quantile(sorted, 1)];
  const text = (value: number) => (Number.isInteger(value) ? String(value) : formatNumber(value));
  return [least === largest ? `${text(least)}${unit}` : `median ${text(middle)}${unit}, ${text(least)} to ${text(largest)}`];
}
