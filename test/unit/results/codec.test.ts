/** The wire form: round trips, refusals, and the published schema. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TsrtError } from '../../../src/errors.ts';
import { decodeLine, encodeRecord } from '../../../src/results/codec.ts';
import type { AccuracyReading, BenchRecord, RecordWarning, Round } from '../../../src/results/record.ts';
import { recordJsonSchema } from '../../../src/results/wire.ts';
import { ACCURACY, aborted, completed, failed, skipped } from '../../helpers/records.ts';
import { anyText } from '../../helpers/text.ts';

/** Objects as `{}` makes them, as JSON.parse does too. */
const PLAIN = { noNullPrototype: true } as const;
const amount = fc.double({ min: 0, max: 1e15, noNaN: true }).map((value) => value + 0);
const count = fc.nat();
const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });
const anyNumber = fc.oneof(amount, fc.constantFrom(NaN, Infinity, -Infinity, -3.5));
const instant = fc.date({ min: new Date(0), max: new Date('2100-01-01'), noInvalidDate: true }).map((date) => date.toISOString());

const round: fc.Arbitrary<Round> = fc.record({
  index: count,
  position: count,
  startedAt: instant,
  samplesNs: fc.array(amount),
  executionsPerSample: fc.integer({ min: 1, max: 1e6 }),
  requests: count,
  elapsedNs: amount,
  warmup: fc.record({ executions: count, durationMs: amount, steady: fc.boolean() }, PLAIN),
  yardstick: fc.array(fc.record({ workload: fc.constantFrom('cpu-arithmetic' as const, 'memory' as const, 'gpu' as const, 'gpu-clock' as const), durationNs: amount }, PLAIN)),
  cpuLoad: amount,
  clockMhz: maybe(amount),
}, PLAIN).chain((plain) => fc.oneof(fc.constant(plain), amount.map((deviceNs) => ({ ...plain, deviceNs }))));

const percent = fc.double({ min: 0, max: 100, noNaN: true }).map((value) => value + 0);
const accuracy: fc.Arbitrary<AccuracyReading> = fc.record({
  samples: count,
  top1Percent: maybe(percent),
  top5Percent: maybe(percent),
  agreementPercent: maybe(percent),
  cosineMin: anyNumber,
  maxAbsError: anyNumber,
  snrDb: maybe(anyNumber),
  inputs: anyText,
  untrained: fc.boolean(),
}, PLAIN);

const warnings: fc.Arbitrary<RecordWarning[]> = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant('not-steady' as const), rounds: count }, PLAIN),
    fc.record({ kind: fc.constant('drift' as const), yardstick: fc.constant('memory' as const), ratio: amount }, PLAIN),
    fc.record({ kind: fc.constant('untrained-weights' as const) }, PLAIN),
    fc.record({ kind: fc.constantFrom('notice' as const, 'note' as const), text: fc.string() }, PLAIN),
  ),
);

/** A record with some of its parts replaced. */
const over =
  <T extends BenchRecord>(record: T) =>
  (parts: Partial<T>): BenchRecord => ({ ...record, ...parts });

const withDevice = (deviceBytes: number | undefined) => ({ ...completed().memory, deviceBytes });
const record: fc.Arbitrary<BenchRecord> = fc.oneof(
  fc
    .record({
      rounds: fc.array(round),
      accuracy: maybe(accuracy),
      memory: maybe(amount).map((deviceBytes) => withDevice(deviceBytes)),
      warnings,
    })
    .map(over(completed())),
  fc.record({ rounds: fc.array(round), stderr: fc.string() }).map(over(failed())),
  fc.record({ reason: fc.string(), fix: maybe(fc.string()) }).map(over(skipped())),
  fc.record({ rounds: fc.array(round) }).map(over(aborted())),
);

describe('codec', () => {
  it('gives back every record as it was', () => {
    fc.assert(
      fc.property(record, (original) => {
        const line = encodeRecord(original);
        expect(line).not.toContain('\n');
        expect(decodeLine(line, 'x:1')).toStrictEqual(original);
      }),
      { seed: 7, numRuns: 200 },
    );
  });

  it('gives a record or RESULTS_INVALID with the place and a way out, whatever the line', () => {
    const wire: unknown = JSON.parse(encodeRecord(completed({ accuracy: ACCURACY })));
    const paths = pathsOf(wire);
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json(), mutated(wire, paths)), (line) => {
        expect(outcomeOf(line)).toMatch(/^(?:record|RESULTS_INVALID at file\.jsonl:3, fix: .+)$/);
      }),
      { seed: 8, numRuns: 500 },
    );
  });

  it('refuses other schema versions with what to do', () => {
    const other = (schemaVersion: unknown) => JSON.stringify({ ...completed(), schemaVersion });
    expect(() => decodeLine(other(2), 'x:1')).toThrow(expect.objectContaining({ message: expect.stringContaining('version 2'), fix: expect.stringContaining('update') }));
    expect(() => decodeLine(other(0), 'x:1')).toThrow(expect.objectContaining({ message: expect.stringContaining('version 0'), fix: expect.stringContaining('measure again') }));
    expect(() => decodeLine(other('1'), 'x:1')).toThrow(expect.objectContaining({ message: expect.stringContaining('"1"') }));
    expect(() => decodeLine('{"a":1}', 'x:1')).toThrow(expect.objectContaining({ message: expect.stringContaining('no schemaVersion') }));
  });

  it('names the place inside the record', () => {
    const wrong = { ...completed(), rounds: [{ ...completed().rounds[0], samplesNs: [1, 'fast'] }], speed: 3 };
    expect(() => decodeLine(JSON.stringify(wrong), 'x:1')).toThrow(
      expect.objectContaining({ details: [expect.stringContaining('rounds[0].samplesNs[1]'), expect.stringContaining('"speed"')] }),
    );
  });

  it('keeps the steps of a load where there are any', () => {
    const record = completed();
    const split = { ...record, build: { ...record.build, loadSteps: { uploadMs: 5, pipelinesMs: 60.5 } } };
    expect(decodeLine(encodeRecord(split), 'x:1')).toEqual(split);
    expect(decodeLine(encodeRecord(record), 'x:1')).not.toHaveProperty('build.loadSteps');
  });

  it('publishes its schema', async () => {
    const schema = recordJsonSchema();
    expect(schema['oneOf'] ?? schema['anyOf']).toHaveLength(4);
    await expect(`${JSON.stringify(schema, null, 2)}\n`).toMatchFileSnapshot('../../../docs/record.schema.json');
  });
});

/** `record`, or the expected error in one line; anything else is thrown on. */
function outcomeOf(line: string): string {
  try {
    decodeLine(line, 'file.jsonl:3');
    return 'record';
  } catch (error) {
    if (!(error instanceof TsrtError)) throw error;
    return `${error.code} at ${error.place}, fix: ${error.fix}`;
  }
}

type Path = readonly (string | number)[];

function pathsOf(value: unknown, path: Path = []): Path[] {
  if (typeof value !== 'object' || value === null) return [path];
  return [path, ...Object.entries(value).flatMap(([key, item]) => pathsOf(item, [...path, key]))];
}

/** A valid record with one value replaced. */
function mutated(wire: unknown, paths: readonly Path[]): fc.Arbitrary<string> {
  return fc.record({ path: fc.constantFrom(...paths.slice(1)), value: fc.jsonValue() }).map(({ path, value }) => {
    const copy = structuredClone(wire);
    let target = copy as Record<string | number, unknown>;
    for (const key of path.slice(0, -1)) target = target[key] as Record<string | number, unknown>;
    target[path.at(-1)!] = value;
    return JSON.stringify(copy);
  });
}
