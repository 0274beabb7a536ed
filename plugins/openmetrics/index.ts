/**
 * Results as OpenMetrics text (https://openmetrics.io, version 1.0), for Prometheus' node-exporter textfile collector, Pushgateway or
 * any dashboard above them: one gauge a quantity, one time series a case.
 */
import { buildReport, definePlugin, type MeasuredRow, type Reporter, type ReportRow } from 'tsrt-bench';

interface Family {
  readonly name: string;
  /** Last part of the name, as the standard has it; '' for a number without unit. */
  readonly unit: string;
  readonly help: string;
  /** Labels beyond the case's own, with the value; none where the row does not have it. */
  readonly samples: (row: MeasuredRow) => readonly (readonly [Readonly<Record<string, string>>, number | undefined])[];
}

const one = (value: number | undefined): readonly (readonly [Readonly<Record<string, string>>, number | undefined])[] => [[{}, value]];

const FAMILIES: readonly Family[] = [
  {
    name: 'tsrt_bench_latency_seconds',
    unit: 'seconds',
    help: 'Latency of one request, which holds `batch` items, by quantile.',
    samples: ({ latencyMs: { p50, p95, p99 } }) => [
      [{ quantile: '0.5' }, p50.point / 1000],
      [{ quantile: '0.95' }, p95.point / 1000],
      [{ quantile: '0.99' }, p99.point / 1000],
    ],
  },
  {
    name: 'tsrt_bench_latency_interval_seconds',
    unit: 'seconds',
    help: 'Bounds of the 95 % interval of the median latency.',
    samples: ({ latencyMs: { p50 } }) =>
      p50.roundsNeeded === undefined
        ? [
            [{ bound: 'low' }, p50.low / 1000],
            [{ bound: 'high' }, p50.high / 1000],
          ]
        : [],
  },
  { name: 'tsrt_bench_throughput_items_per_second', unit: '', help: 'Items per second.', samples: (row) => one(row.itemsPerSecond.point) },
  { name: 'tsrt_bench_memory_bytes', unit: 'bytes', help: 'Peak resident memory above what the process held before the engine was loaded.', samples: (row) => one(row.memoryBytes) },
  { name: 'tsrt_bench_device_memory_bytes', unit: 'bytes', help: 'Device memory that the session held.', samples: (row) => one(row.deviceBytes) },
  { name: 'tsrt_bench_engine_bytes', unit: 'bytes', help: 'Size of the engine.', samples: (row) => one(row.engineBytes) },
  { name: 'tsrt_bench_build_seconds', unit: 'seconds', help: 'Time of the build; 0 for an engine that was there.', samples: (row) => one(row.buildMs / 1000) },
  { name: 'tsrt_bench_load_seconds', unit: 'seconds', help: 'From the engine file to a session that is ready.', samples: (row) => one(row.loadMs / 1000) },
  { name: 'tsrt_bench_top1_ratio', unit: 'ratio', help: 'Share of samples whose first class is right.', samples: (row) => one(percent(row.accuracy?.top1Percent)) },
  { name: 'tsrt_bench_agreement_ratio', unit: 'ratio', help: 'Share of samples whose first class is the fp32 reference’s.', samples: (row) => one(percent(row.accuracy?.agreementPercent)) },
];

function percent(value: number | undefined): number | undefined {
  return value === undefined ? undefined : value / 100;
}

/** Escapes as the standard has them for label values. */
function escapeLabel(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"');
}

/** Help texts keep their quotes. */
function escapeHelp(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}

function sampleLine(name: string, labels: Readonly<Record<string, string>>, value: number): string {
  const written = Object.entries(labels).map(([key, text]) => `${key}="${escapeLabel(text)}"`);
  const number = Number.isNaN(value) ? 'NaN' : value === Infinity ? '+Inf' : value === -Infinity ? '-Inf' : String(value);
  return `${name}{${written.join(',')}} ${number}`;
}

/** Two rows of one case (of several runs, say) would be one time series twice: the last stands. */
function lastOfEach<T extends ReportRow>(rows: readonly T[]): T[] {
  return [...new Map(rows.map((row) => [`${row.device} ${row.caseId}`, row])).values()];
}

function labelsOf(suite: string, { variant, backend, precision, batch, scenario, device }: ReportRow): Readonly<Record<string, string>> {
  return { suite, device, variant, backend, precision, batch: String(batch), scenario };
}

export const openmetricsReporter = {
  name: 'openmetrics',
  description: 'OpenMetrics text, for Prometheus and the dashboards above it',
  fileExtension: 'prom',
  render(input) {
    const { suite, rows } = buildReport(input);
    const latest = lastOfEach(rows);
    const measured = latest.filter((row) => row.status === 'completed');
    const families = FAMILIES.flatMap(({ name, unit, help, samples }) => {
      const lines = measured.flatMap((row) =>
        samples(row).flatMap(([labels, value]) => (value === undefined ? [] : [sampleLine(name, { ...labelsOf(suite, row), ...labels }, value)])),
      );
      return lines.length === 0 ? [] : [`# TYPE ${name} gauge`, ...(unit === '' ? [] : [`# UNIT ${name} ${unit}`]), `# HELP ${name} ${escapeHelp(help)}`, ...lines];
    });
    const states = latest.map((row) => sampleLine('tsrt_bench_case', { ...labelsOf(suite, row), status: row.status }, 1));
    const cases = states.length === 0 ? [] : ['# TYPE tsrt_bench_case gauge', '# HELP tsrt_bench_case What became of each case.', ...states];
    return `${[...families, ...cases, '# EOF'].join('\n')}\n`;
  },
} satisfies Reporter;

export default definePlugin({ name: 'openmetrics', version: '0.1.0', reporters: [openmetricsReporter] });
