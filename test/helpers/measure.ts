/** Cases, plans and engines on the null device, for tests of the measurement. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { BuildOptions } from '../../src/engine/engine.ts';
import { serializeEngine } from '../../src/engine/file.ts';
import type { CasePlan, MeasurePlan } from '../../src/measure/plan.ts';
import type { Round, Scenario } from '../../src/results/record.ts';
import { sampleHeader } from './engine.ts';

export const SINGLE_STREAM: Scenario = { name: 'single-stream', streams: 1, targetQps: undefined, transfers: true };

/** A round of a 1 ms case in which nothing is remarkable. */
export function sampleRound(overrides: Partial<Round> = {}): Round {
  return {
    index: 0,
    position: 0,
    startedAt: '2026-01-01T00:00:00.000Z',
    samplesNs: Array.from({ length: 400 }, (_, i) => 1e6 + (i % 7)),
    executionsPerSample: 1,
    requests: 400,
    elapsedNs: 4e8,
    warmup: { executions: 100, durationMs: 100, steady: true },
    yardstick: [{ workload: 'cpu-arithmetic', durationNs: 1e7 }],
    cpuLoad: 0,
    clockMhz: undefined,
    ...overrides,
  };
}

export function nullBuild(backendOptions: BuildOptions['backendOptions'] = {}): BuildOptions {
  return { ...sampleHeader().options, backendOptions };
}

export interface NullCase {
  readonly id: string;
  readonly options?: BuildOptions['backendOptions'];
  readonly build?: Partial<BuildOptions>;
  readonly scenario?: Partial<Scenario>;
  readonly plan?: Partial<CasePlan>;
}

/** A case plan whose engine does not exist; workers that are no processes need none. */
export function nullCase({ id, options = {}, build = {}, scenario = {}, plan = {} }: NullCase): CasePlan {
  return {
    case: {
      id,
      suite: 'test',
      variant: { id: `null/${id}`, options: { ...nullBuild(options), ...build } },
      scenario: { ...SINGLE_STREAM, ...scenario },
    },
    enginePath: `${id}.engine`,
    device: undefined,
    inputs: { kind: 'seed', seed: 1 },
    environment: {},
    ...plan,
  };
}

/** The same with an engine file in `folder`. */
export async function writeNullCase(folder: string, spec: NullCase): Promise<CasePlan> {
  const enginePath = join(folder, `${spec.id}.engine`);
  const header = sampleHeader({ requires: {}, outputs: [{ name: 'y', dtype: 'float32', dims: [2] }], options: nullBuild(spec.options) });
  await writeFile(enginePath, await serializeEngine({ header, parts: new Map() }));
  return { ...nullCase(spec), enginePath, ...spec.plan };
}

export function plan(cases: readonly CasePlan[], overrides: Partial<MeasurePlan> = {}): MeasurePlan {
  return {
    cases,
    plugins: [],
    seed: 1,
    rounds: 3,
    minRounds: 1,
    isolation: 'round',
    timing: { sampleMs: 20, minSamples: 5, maxSamples: 50, maxWarmupMs: 1000 },
    budgetMs: undefined,
    timeoutMs: 20_000,
    ...overrides,
  };
}
