/** Records made of few words, for tests of what comes after measurement. */
import type {
  AbortedRecord,
  AccuracyReading,
  BenchRecord,
  Case,
  CompletedRecord,
  FailedRecord,
  Provenance,
  RecordWarning,
  Round,
  SkippedRecord,
  SuitePlace,
} from '../../src/results/record.ts';

export interface RecordOptions {
  readonly suite?: string;
  readonly variant?: string;
  readonly batch?: number;
  readonly device?: string;
  readonly runId?: string;
  readonly startedAt?: string;
  readonly warnings?: readonly RecordWarning[];
  readonly inSuite?: SuitePlace;
}

export interface CompletedOptions extends RecordOptions {
  /** Milliseconds of each sample of each round. */
  readonly latencyMs?: readonly (readonly number[])[];
  readonly residentPeakBytes?: number;
  readonly deviceBytes?: number;
  readonly accuracy?: AccuracyReading;
  readonly yardstickNs?: number;
  readonly deviceNs?: number;
}

const MIB = 1024 * 1024;

export const ACCURACY: AccuracyReading = {
  samples: 500,
  top1Percent: 79.2,
  top5Percent: 94.6,
  agreementPercent: 100,
  cosineMin: 0.9999,
  maxAbsError: 0.001,
  snrDb: 96.5,
  inputs: 'imagenet-sample 0f3a',
  untrained: false,
};

export function completed(options: CompletedOptions = {}): CompletedRecord {
  const latencyMs = options.latencyMs ?? [1, 2, 3].map(() => [10, 10.1, 10.2, 10.3]);
  return {
    ...base(options),
    status: 'completed',
    build: { engineSha256: 'e'.repeat(64), engineBytes: 100 * MIB, buildMs: 812, loadMs: 95, firstRunMs: 40 },
    rounds: latencyMs.map((samples, index) => ({ ...round(samples, index, options.yardstickNs ?? 1e6), ...(options.deviceNs !== undefined && { deviceNs: options.deviceNs }) })),
    memory: {
      planned: { weightBytes: 100 * MIB, activationBytes: 10 * MIB, workspaceBytes: 0, stagingBytes: 0 },
      residentAfterLoadBytes: 220 * MIB,
      residentPeakBytes: options.residentPeakBytes ?? 250 * MIB,
      residentBaselineBytes: 60 * MIB,
      deviceBytes: options.deviceBytes,
    },
    accuracy: options.accuracy,
  };
}

export function failed(options: RecordOptions & { readonly message?: string } = {}): FailedRecord {
  return {
    ...base(options),
    status: 'failed',
    stage: 'measure',
    cause: 'out-of-memory',
    error: { code: 'OUT_OF_MEMORY', message: options.message ?? 'the worker ran out of memory', fix: 'use a smaller batch' },
    stderr: '',
    rounds: [],
  };
}

export function skipped(options: RecordOptions = {}): SkippedRecord {
  return { ...base(options), status: 'skipped', reason: 'no adapter', fix: 'install a Vulkan driver' };
}

export function aborted(options: RecordOptions = {}): AbortedRecord {
  return { ...base(options), status: 'aborted', rounds: [round([10, 10.1], 0, 1e6)] };
}

function round(samplesMs: readonly number[], index: number, yardstickNs: number): Round {
  const elapsedMs = samplesMs.reduce((sum, ms) => sum + ms, 0);
  return {
    index,
    position: 0,
    startedAt: '2026-01-31T08:05:10.000Z',
    samplesNs: samplesMs.map((ms) => Math.round(ms * 1e6)),
    executionsPerSample: 1,
    requests: samplesMs.length,
    elapsedNs: Math.round(elapsedMs * 1e6),
    warmup: { executions: 5, durationMs: 55, steady: true },
    yardstick: [{ workload: 'cpu-arithmetic', durationNs: yardstickNs }],
    cpuLoad: 0.1,
    clockMhz: 2400,
  };
}

function base(options: RecordOptions): Pick<BenchRecord, 'schemaVersion' | 'case' | 'inSuite' | 'provenance' | 'warnings'> {
  return { schemaVersion: 1, case: caseOf(options), ...(options.inSuite && { inSuite: options.inSuite }), provenance: provenance(options), warnings: options.warnings ?? [] };
}

function caseOf({ suite = 'resnet50', variant = 'onnxruntime/fp32/fusion-on', batch = 1 }: RecordOptions): Case {
  const [backend = '', precision = 'fp32', fusion = 'fusion-on'] = variant.split('/');
  return {
    id: `${variant}/b${batch}/single-stream`,
    suite,
    variant: {
      id: variant,
      options: {
        backend,
        precision: precision === 'int8' ? 'int8' : 'fp32',
        fusion: fusion === 'fusion-off' ? 'off' : 'on',
        batch,
        dims: {},
        inputShapes: {},
        disabledPasses: [],
        workspaceBytes: undefined,
        backendOptions: {},
      },
    },
    scenario: { name: 'single-stream', streams: 1, targetQps: undefined, transfers: true },
  };
}

function provenance(options: RecordOptions): Provenance {
  const slug = options.device ?? 'cpu-test-2c';
  return {
    runId: options.runId ?? '20260131T080509Z-a1b2c3',
    startedAt: options.startedAt ?? '2026-01-31T08:05:09.000Z',
    tool: { version: '0.1.0', revision: '0123456789abcdef' },
    model: { name: 'resnet50-v1-7', sha256: 'a'.repeat(64), source: 'cache' },
    suiteSha256: 'b'.repeat(64),
    seed: 1,
    environment: {
      device: { slug, kind: 'cpu', description: `test device ${slug}`, properties: { cores: '2' } },
      cpu: { model: 'Test CPU', cores: 2, governor: undefined },
      memoryBytes: 8 * 1024 * MIB,
      os: 'Linux 6.1',
      node: '20.20.2',
      packages: { 'onnxruntime-node': '1.30.0' },
      loadAverage: [0.1, 0.2, 0.3],
    },
  };
}
