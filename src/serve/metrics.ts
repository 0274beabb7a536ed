/** What a server tells of itself, in Prometheus' text format. Names and units are by Prometheus' conventions; Triton's counterparts are its `nv_inference_*`. */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { BatchReport } from '../batcher.ts';
import type { ServedModel } from './model.ts';

/** Where requests and batches are counted. */
export interface Metrics {
  /** Answered, with an HTTP status; `model` is the empty string where there is none of the name that was asked for. */
  request(model: string, status: number, seconds: number): void;
  batch(model: string, report: BatchReport): void;
  readonly contentType: string;
  /** The page that Prometheus reads. `models` tell how many wait now. */
  text(models: readonly ServedModel[]): Promise<string>;
}

/** From a tenth of a millisecond, which a small network takes, to ten seconds. */
const SECONDS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const ITEMS = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/** Counts from nothing, in a registry of its own. */
export function createMetrics(): Metrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  const requests = new Counter({ name: 'tsrt_bench_requests_total', help: 'Inference requests answered, by HTTP status.', labelNames: ['model', 'status'], registers });
  const errors = new Counter({ name: 'tsrt_bench_request_errors_total', help: 'Inference requests answered with an error.', labelNames: ['model'], registers });
  const duration = new Histogram({ name: 'tsrt_bench_request_duration_seconds', help: 'From the head of an inference request until its answer was written.', labelNames: ['model'], buckets: SECONDS, registers });
  const items = new Histogram({ name: 'tsrt_bench_batch_items', help: 'Items of requests that were run together in a batch, without its padding.', labelNames: ['model'], buckets: ITEMS, registers });
  const queue = new Histogram({ name: 'tsrt_bench_queue_duration_seconds', help: 'From the arrival of an item until its batch was sent to an engine.', labelNames: ['model'], buckets: SECONDS, registers });
  const compute = new Histogram({ name: 'tsrt_bench_compute_duration_seconds', help: "From sending a batch to its engine until its answer was there; batch: the engine's.", labelNames: ['model', 'batch'], buckets: SECONDS, registers });
  const waiting = new Gauge({ name: 'tsrt_bench_waiting_items', help: 'Items waiting for an engine.', labelNames: ['model'], registers });
  return {
    contentType: registry.contentType,
    request(model, status, seconds) {
      requests.inc({ model, status });
      if (status >= 400) errors.inc({ model });
      duration.observe({ model }, seconds);
    },
    batch(model, { batch, queuedMs, tookMs }) {
      items.observe({ model }, queuedMs.length);
      for (const ms of queuedMs) queue.observe({ model }, ms / 1000);
      compute.observe({ model, batch }, tookMs / 1000);
    },
    text(models) {
      for (const model of models) waiting.set({ model: model.name }, model.waiting());
      return registry.metrics();
    },
  };
}
