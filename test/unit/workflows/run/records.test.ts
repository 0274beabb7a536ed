import { describe, expect, it } from 'vitest';
import type { CaseOutcome } from '../../../../src/measure/plan.ts';
import { type AccuracyOutcome, numericsKey } from '../../../../src/workflows/run/accuracy.ts';
import type { BuiltEngine } from '../../../../src/workflows/run/engines.ts';
import { measuredRecord, type RecordContext, unbuiltRecord } from '../../../../src/workflows/run/records.ts';
import { nullBackend } from '../../../../src/backends/null/null.ts';
import { decodeLine, encodeRecord } from '../../../../src/results/codec.ts';
import { sampleHeader } from '../../../helpers/engine.ts';
import { ACCURACY, completed } from '../../../helpers/records.ts';

const sample = completed();
const { case: entry, provenance } = sample;
const context: RecordContext = {
  provenance: (device) => ({ ...provenance, environment: { ...provenance.environment, device } }),
  fallbackDevice: () => provenance.environment.device,
  untrained: false,
  budget: { samples: 16, minSnrDb: 50 },
};
const engine: BuiltEngine = {
  status: 'built',
  variant: entry.variant,
  backend: nullBackend,
  path: '/tmp/0.engine',
  sha256: 'ab'.repeat(32),
  bytes: 1000,
  buildMs: 5,
  header: sampleHeader({ notices: [] }),
  environment: {},
};
const assessed = (snrDb: number): AccuracyOutcome => ({
  status: 'assessed',
  result: { reading: { ...ACCURACY, snrDb }, referenceTop1Percent: undefined, nonFiniteSamples: 0 },
});
const done: CaseOutcome = {
  status: 'completed',
  rounds: sample.rounds,
  device: provenance.environment.device,
  loadMs: 1,
  firstRunMs: 2,
  memory: sample.memory,
  warnings: [],
};

describe('unbuiltRecord', () => {
  it('keeps why, and tells a want of memory from other errors', () => {
    const skipped = unbuiltRecord(context, entry, { status: 'skipped', variant: entry.variant, reason: 'no adapter', fix: 'buy one' });
    expect(skipped).toMatchObject({ status: 'skipped', reason: 'no adapter', fix: 'buy one' });
    const failed = unbuiltRecord(context, entry, { status: 'failed', variant: entry.variant, error: { code: 'OUT_OF_MEMORY', message: 'no memory' } });
    expect(failed).toMatchObject({ status: 'failed', stage: 'build', cause: 'out-of-memory' });
    expect(unbuiltRecord(context, entry, { status: 'failed', variant: entry.variant, error: { code: 'INTERNAL', message: 'boom' } })).toMatchObject({ cause: 'error' });
  });
});

describe('measuredRecord', () => {
  const notices = (...words: Parameters<typeof measuredRecord>) =>
    measuredRecord(...words).warnings.flatMap((warning) => (warning.kind === 'notice' || warning.kind === 'over-budget' ? [`${warning.kind}: ${warning.text}`] : []));

  it('says how the engine was tuned, in a form that the wire takes, and nothing where it was not', () => {
    const tuning = { level: 'full', measured: 12, reused: 3, refused: 1, unmeasured: 0, clocks: 'proven' } as const;
    const tuned = measuredRecord(context, entry, { ...engine, header: { ...engine.header, tactics: { tuning, choices: [] } } }, done, undefined, []);
    expect(decodeLine(encodeRecord(tuned), 'line')).toMatchObject({ build: { tuning } });
    expect(measuredRecord(context, entry, engine, done, undefined, [])).not.toHaveProperty('build.tuning');
  });

  it('says in which types the operations run, and nothing where no operations are known', () => {
    const layer = { name: 'c', kind: 'Conv', origins: [], bytes: 0 };
    const layers = [{ ...layer, precision: 'int8', flops: 3 }, { ...layer, precision: 'float16', flops: 1 }] as const;
    const record = measuredRecord(context, entry, { ...engine, header: { ...engine.header, layers } }, done, undefined, []);
    expect(decodeLine(encodeRecord(record), 'line')).toMatchObject({ build: { precision: { int8: 0.75, float16: 0.25 } } });
    expect(measuredRecord(context, entry, { ...engine, header: { notices: [] } }, done, undefined, [])).not.toHaveProperty('build.precision');
  });

  it('says what breaks the accuracy budget, why accuracy is unknown, and what else is remarkable', () => {
    expect(notices(context, entry, engine, done, assessed(60), [])).toEqual([]);
    expect(notices(context, entry, engine, done, assessed(40), [])).toEqual([expect.stringMatching(/^over-budget: .*40\.0 dB/)]);
    expect(notices(context, entry, engine, done, { status: 'failed', error: { code: 'INTERNAL', message: 'boom' } }, ['unchecked'])).toEqual([
      'notice: accuracy is unknown: boom',
      'notice: unchecked',
    ]);
  });

  it('marks untrained weights', () => {
    const record = measuredRecord({ ...context, untrained: true }, entry, engine, done, assessed(60), []);
    expect(record.warnings).toContainEqual({ kind: 'untrained-weights' });
  });

  it('keeps the rounds of what failed or was cut off', () => {
    const error = { code: 'INTERNAL', message: 'gone' } as const;
    const failed = measuredRecord(context, entry, engine, { status: 'failed', stage: 'measure', cause: 'crashed', error, stderr: 'last words', rounds: sample.rounds }, undefined, []);
    expect(failed).toMatchObject({ status: 'failed', cause: 'crashed', stderr: 'last words', rounds: sample.rounds });
    expect(measuredRecord(context, entry, engine, { status: 'aborted', reason: 'budget', rounds: sample.rounds }, undefined, [])).toMatchObject({
      status: 'aborted',
      rounds: sample.rounds,
    });
  });
});

describe('numericsKey', () => {
  it('leaves out what does not change the numbers', () => {
    const { options } = entry.variant;
    expect(numericsKey({ ...options, batch: 64, backendOptions: { threads: 7 } })).toBe(numericsKey(options));
    expect(numericsKey({ ...options, precision: 'int8' })).not.toBe(numericsKey(options));
    expect(numericsKey({ ...options, backendOptions: { tf32: true } })).not.toBe(numericsKey({ ...options, backendOptions: { tf32: false } }));
    expect(numericsKey({ ...options, backendOptions: { a: 1, b: 2 } })).toBe(numericsKey({ ...options, backendOptions: { b: 2, a: 1 } }));
    expect(numericsKey({ ...options, disabledPasses: ['fuse'] })).not.toBe(numericsKey(options));
  });
});
