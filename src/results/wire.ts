/**
 * The wire schema of a record: what one line of a results file holds. docs/record.schema.json is generated from it.
 *
 * It is kept apart from the in-memory types (record.ts), so that either can change without the other. The differences:
 * what is unknown is absent here and `undefined` there; numbers that JSON lacks are written as the strings `NaN`,
 * `Infinity` and `-Infinity`. Unknown keys are refused: a reader that ignores what it does not know misreads.
 */
import { z } from 'zod';
import { FUSIONS, PRECISIONS } from '../engine/engine.ts';
import { DTYPES, type DType } from '../ir/tensor.ts';
import { YARDSTICKS, FAILURE_CAUSES, FAILURE_STAGES, RECORD_SCHEMA_VERSION, SCENARIOS } from './record.ts';

const count = z.number().int().nonnegative();
const amount = z.number().nonnegative();
const percent = z.number().min(0).max(100);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 hexadecimal digits');
const instant = z.iso.datetime({ offset: true });
const strings = z.record(z.string(), z.string());

/** A number that may be one of the three that JSON lacks. */
const anyNumber = z.union([z.number(), z.enum(['NaN', 'Infinity', '-Infinity'])]).meta({ id: 'anyNumber' });

const scenario = z.strictObject({
  name: z.enum(SCENARIOS),
  streams: count.describe('Concurrent requests'),
  targetQps: amount.exactOptional().describe('Offered load in requests per second (server)'),
  transfers: z.boolean().describe('Whether upload and download are inside the timed part'),
  maxQueueDelayMs: amount.exactOptional().describe("Requests of one item are collected into the engine's batch, for which none waits longer (server)"),
});

const options = z.strictObject({
  backend: z.string(),
  precision: z.enum(PRECISIONS),
  fusion: z.enum(FUSIONS),
  batch: count,
  dims: z.record(z.string(), z.number()),
  inputShapes: z.record(z.string(), z.array(z.number())),
  disabledPasses: z.array(z.string()),
  workspaceBytes: amount.exactOptional(),
  backendOptions: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
});

const caseSchema = z.strictObject({
  id: z.string().min(1).describe('Unique in the suite, stable between runs'),
  suite: z.string().min(1),
  variant: z.strictObject({ id: z.string().min(1), options }),
  scenario,
}).meta({ id: 'case' });

const provenance = z.strictObject({
  runId: z.string().min(1),
  startedAt: instant,
  tool: z.strictObject({ version: z.string(), revision: z.string().exactOptional() }),
  model: z.strictObject({ name: z.string(), sha256, source: z.string() }),
  suiteSha256: sha256,
  seed: z.number().int(),
  command: z.string().exactOptional().describe('What made the run, as a shell takes it in the folder where it was given'),
  environment: z.strictObject({
    device: z.strictObject({
      slug: z.string().min(1).describe('Records of one slug are comparable'),
      kind: z.enum(['cpu', 'gpu', 'fake']),
      description: z.string(),
      properties: strings,
    }),
    cpu: z.strictObject({ model: z.string(), cores: count, governor: z.string().exactOptional() }),
    memoryBytes: amount,
    os: z.string(),
    node: z.string(),
    packages: strings,
    loadAverage: z.array(amount),
  }),
}).meta({ id: 'provenance' });

const yardstick = z.strictObject({ workload: z.enum(YARDSTICKS), durationNs: amount });

const round = z.strictObject({
  index: count,
  position: count.describe('Place among the cases of its round'),
  startedAt: instant,
  samplesNs: z.array(amount).describe('Wall time of each sample, in measurement order, nanoseconds'),
  executionsPerSample: z.number().int().positive(),
  requests: count.describe('Requests that ended in the round; one holds `batch` items, or one where they are collected'),
  elapsedNs: amount.describe('Wall time in which they ended'),
  batches: count.exactOptional().describe('Batches that the requests took, where they are collected'),
  wallElapsedNs: amount.exactOptional().describe("By the harness's clock, where the samples are by an outside program's own"),
  deviceNs: amount.exactOptional().describe('What the device itself took for one execution, by its own clock, nanoseconds'),
  slices: z
    .array(z.strictObject({ samples: count, elapsedNs: amount }))
    .exactOptional()
    .describe('How the samples fall into slices, where the two processes of a pair took turns'),
  warmup: z.strictObject({ executions: count, durationMs: amount, steady: z.boolean() }),
  yardstick: z.array(yardstick).describe('Fixed workloads: they move only when the machine does'),
  cpuLoad: amount,
  clockMhz: amount.exactOptional(),
  start: z
    .strictObject({ loadMs: amount, firstRunMs: amount })
    .exactOptional()
    .describe('Start of the process, where it is fresh: from the engine file to a session that is ready, and the first inference'),
}).meta({ id: 'round' });

const build = z.strictObject({
  engineSha256: sha256,
  engineBytes: amount,
  buildMs: amount.describe('Median of buildsMs'),
  buildsMs: z.array(amount).exactOptional().describe('Each build of the engine in this run'),
  engineFile: z.string().exactOptional().describe('Engine file that was measured as it is; buildMs is 0'),
  loadMs: amount.describe('From the engine file to a session that is ready'),
  loadSteps: z
    .strictObject({ uploadMs: amount, pipelinesMs: amount.describe('Kernels compiled by the driver') })
    .exactOptional()
    .describe('Parts of loadMs, where the backend tells them'),
  loadFirstMs: amount.exactOptional().describe('The load before all others, in a process that left: loadMs finds what the driver compiled in it'),
  firstRunMs: amount,
  tuning: z
    .strictObject({
      level: z.enum(['fast', 'full']),
      measured: amount.describe('Candidates timed in the build'),
      reused: amount.describe('Candidates whose times came from a timing cache'),
      refused: amount.describe('Candidates that the device refused'),
      unmeasured: amount.describe('Problems that a budget left to the cost model'),
      networks: amount.exactOptional().describe('Whole networks timed in the build, to try tactics in their place; absent where there were none'),
      clocks: z.enum(['proven', 'unproven', 'software']).exactOptional().describe('Whether the device was seen to run at its full clock; absent where nothing was measured'),
    })
    .exactOptional()
    .describe('How the kernels of the engine were chosen by timing them'),
  precision: z
    .partialRecord(z.enum(DTYPES as [DType, ...DType[]]), z.number().min(0).max(1))
    .exactOptional()
    .describe('Share of the operations by the type of their arithmetic; absent where the backend tells no operations'),
});

const memory = z.strictObject({
  planned: z.strictObject({ weightBytes: amount, activationBytes: amount, workspaceBytes: amount, stagingBytes: amount }),
  residentAfterLoadBytes: amount,
  residentPeakBytes: amount,
  residentBaselineBytes: amount.describe('Resident set of the worker before the engine was loaded'),
  deviceBytes: amount.exactOptional(),
});

/** A reading of accuracy as a record has it. */
export const wireAccuracy = z.strictObject({
  samples: count,
  top1Percent: percent.exactOptional(),
  top5Percent: percent.exactOptional(),
  agreementPercent: percent.exactOptional(),
  cosineMin: anyNumber,
  maxAbsError: anyNumber,
  snrDb: anyNumber.exactOptional(),
  inputs: z.string(),
  ranges: z
    .strictObject({
      samples: count,
      tensors: z.array(
        z.strictObject({
          tensor: z.string(),
          clippedShare: z.number().min(0).max(1).describe('Values that the range cuts off'),
          drift: amount.describe('How far the ends of the bulk moved, as a share of its width when it was calibrated'),
          suspicious: z.boolean().describe('Beyond what another sample of the same pictures gives'),
        }),
      ),
    })
    .exactOptional()
    .describe('Calibrated ranges against these inputs, the worst tensor first; of int8 and mixed variants'),
  untrained: z.boolean(),
});

const error = z.strictObject({
  code: z.string().regex(/^[A-Z_]+$/).describe('One of the codes in src/errors.ts; later versions may add some'),
  message: z.string(),
  fix: z.string().exactOptional(),
  place: z.string().exactOptional(),
  details: z.array(z.string()).exactOptional(),
  plugin: z.string().exactOptional(),
  stack: z.string().exactOptional(),
}).meta({ id: 'error' });

const warning = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('not-steady'), rounds: count }),
  z.strictObject({ kind: z.literal('busy-machine'), loadAverage: amount, cores: count }),
  z.strictObject({ kind: z.literal('clock-quantum'), quantumNs: amount, executionsPerSample: count }),
  z.strictObject({ kind: z.literal('few-samples'), samples: count, percentile: percent }),
  z.strictObject({ kind: z.literal('drift'), yardstick: z.enum(YARDSTICKS), ratio: amount }),
  z.strictObject({ kind: z.literal('outliers'), share: z.number().min(0).max(1) }),
  z.strictObject({ kind: z.literal('host-bound'), latencyNs: amount, deviceNs: amount }),
  z.strictObject({ kind: z.literal('overloaded'), offeredQps: amount, answeredQps: amount }),
  z.strictObject({ kind: z.literal('untrained-weights') }),
  z.strictObject({ kind: z.literal('over-budget'), text: z.string() }),
  z.strictObject({ kind: z.literal('notice'), text: z.string() }),
  z.strictObject({ kind: z.literal('note'), text: z.string() }),
]).meta({ id: 'warning' });

const inSuite = z
  .strictObject({ index: count, baseline: z.boolean().describe('Speed-ups are stated against its variant') })
  .meta({ id: 'inSuite', description: 'Where the case stands in the suite of its run' });

const base = { schemaVersion: z.literal(RECORD_SCHEMA_VERSION), case: caseSchema, inSuite: inSuite.exactOptional(), provenance, warnings: z.array(warning) };
const rounds = z.array(round);

/** One line of a results file. */
export const wireRecord = z
  .discriminatedUnion('status', [
    z.strictObject({ ...base, status: z.literal('completed'), build, rounds, memory, accuracy: wireAccuracy.exactOptional() }),
    z.strictObject({
      ...base,
      status: z.literal('failed'),
      stage: z.enum(FAILURE_STAGES),
      cause: z.enum(FAILURE_CAUSES),
      error,
      stderr: z.string(),
      rounds,
    }),
    z.strictObject({ ...base, status: z.literal('skipped'), reason: z.string(), fix: z.string().exactOptional() }),
    z.strictObject({ ...base, status: z.literal('aborted'), rounds }),
  ])
  .meta({
    title: 'tsrt-bench record',
    description: 'What one case of one run gave: one line of results/<suite>/<device>/<run>.jsonl.',
  });

export type WireRecord = z.infer<typeof wireRecord>;
export type WireError = z.infer<typeof error>;
export type WireAccuracy = z.infer<typeof wireAccuracy>;
export type WireRound = z.infer<typeof round>;
export type WireCase = z.infer<typeof caseSchema>;
export type WireProvenance = z.infer<typeof provenance>;

/** The schema as JSON Schema (draft 2020-12), as published in docs/record.schema.json. */
export function recordJsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(wireRecord, { io: 'input' }) as Record<string, unknown>;
}
