/** What a gate can judge: each metric's unit, which way is better, and how a change of it is stated. */
import type { GateMetric } from '../suite/schema.ts';

/** The suite's metrics, and device memory, which goes by the threshold of `memory-peak` unless it has its own. */
export type MetricName = GateMetric | 'memory-device';

export type MetricUnit = 'ms' | 'items/s' | 'bytes' | '%' | 'dB';

export interface MetricDefinition {
  readonly label: string;
  readonly unit: MetricUnit;
  readonly better: 'lower' | 'higher';
  /**
   * How values are compared. `sampled`: ratio with an interval, from the rounds. `ratio`: one value a side, exactly, in percent.
   * `difference`: one value a side, exactly, in the metric's own unit.
   */
  readonly compared: 'sampled' | 'ratio' | 'difference';
  /** Differences up to this, in the metric's unit, matter to nobody or are noise, whatever their share. */
  readonly floor?: number;
  /** Taken once in a process or a build and not in each sample: fewer values and wilder ones. */
  readonly startup?: true;
}

/** Resident sets of identical processes differ by a few MiB: pages are the allocator's and the collector's to give back. */
const RESIDENT_NOISE_BYTES = 8 * 2 ** 20;

/** Below, what a build, a load or a first inference takes is the system's mood: page faults, the file cache, a core waking up. */
const BUILD_FLOOR_MS = 50;
const LOAD_FLOOR_MS = 10;
const FIRST_INFERENCE_FLOOR_MS = 2;

export const METRICS: { readonly [K in MetricName]: MetricDefinition } = {
  'latency-p50': { label: 'latency p50', unit: 'ms', better: 'lower', compared: 'sampled' },
  'latency-p95': { label: 'latency p95', unit: 'ms', better: 'lower', compared: 'sampled' },
  'latency-p99': { label: 'latency p99', unit: 'ms', better: 'lower', compared: 'sampled' },
  throughput: { label: 'throughput', unit: 'items/s', better: 'higher', compared: 'sampled' },
  'device-time': { label: 'device time', unit: 'ms', better: 'lower', compared: 'sampled' },
  'build-time': { label: 'build time', unit: 'ms', better: 'lower', compared: 'sampled', floor: BUILD_FLOOR_MS, startup: true },
  'load-time': { label: 'load time', unit: 'ms', better: 'lower', compared: 'sampled', floor: LOAD_FLOOR_MS, startup: true },
  'first-inference': { label: 'first inference', unit: 'ms', better: 'lower', compared: 'sampled', floor: FIRST_INFERENCE_FLOOR_MS, startup: true },
  'memory-peak': { label: 'peak memory', unit: 'bytes', better: 'lower', compared: 'ratio', floor: RESIDENT_NOISE_BYTES },
  'memory-device': { label: 'device memory', unit: 'bytes', better: 'lower', compared: 'ratio' },
  'engine-bytes': { label: 'engine size', unit: 'bytes', better: 'lower', compared: 'ratio' },
  top1: { label: 'top-1 accuracy', unit: '%', better: 'higher', compared: 'difference' },
  agreement: { label: 'agreement with fp32', unit: '%', better: 'higher', compared: 'difference' },
  snr: { label: 'SNR against fp32', unit: 'dB', better: 'higher', compared: 'difference' },
};

export const METRIC_NAMES = Object.keys(METRICS) as readonly MetricName[];
