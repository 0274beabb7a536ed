/**
 * Records to lines and back. `decodeLine(encodeRecord(r))` equals `r`; a line of another schema version is refused with
 * what to do, never misread.
 */
import type { z } from 'zod';
import { ERROR_EXIT, TsrtError, type ErrorCode, type ErrorReport } from '../errors.ts';
import {
  RECORD_SCHEMA_VERSION,
  type AccuracyReading,
  type BenchRecord,
  type Case,
  type Provenance,
  type Round,
} from './record.ts';
import { wireRecord, type WireAccuracy, type WireCase, type WireError, type WireProvenance, type WireRecord, type WireRound } from './wire.ts';

/** One line of JSON, without the line feed. Keys whose value is undefined are left out, as the wire schema has it. */
export function encodeRecord(record: BenchRecord): string {
  if (record.status !== 'completed' || record.accuracy === undefined) return JSON.stringify(record);
  return JSON.stringify({ ...record, accuracy: accuracyToWire(record.accuracy) });
}

/** A reading whose numbers JSON holds; keys whose value is undefined are still there. */
export function accuracyToWire(reading: AccuracyReading): object {
  const { cosineMin, maxAbsError, snrDb } = reading;
  return { ...reading, cosineMin: toWire(cosineMin), maxAbsError: toWire(maxAbsError), snrDb: snrDb === undefined ? undefined : toWire(snrDb) };
}

/**
 * Reads one line. `place` (`file:line`) is put on the error.
 * Throws RESULTS_INVALID where the line is no JSON, of another schema version, or not a record of this one.
 */
export function decodeLine(line: string, place: string): BenchRecord {
  return decodeRecord(parseJson(line, place), place);
}

/** Reads one parsed record; see {@link decodeLine}. */
export function decodeRecord(value: unknown, place: string): BenchRecord {
  checkVersion(value, place);
  const parsed = wireRecord.safeParse(value);
  if (!parsed.success) {
    throw new TsrtError('RESULTS_INVALID', 'a record does not follow the schema', {
      place,
      details: parsed.error.issues.slice(0, 5).map(describeIssue),
      fix: 'remove or mend the line; docs/record.schema.json is the schema',
    });
  }
  return toMemory(parsed.data);
}

function parseJson(line: string, place: string): unknown {
  try {
    return JSON.parse(line);
  } catch (cause) {
    throw new TsrtError('RESULTS_INVALID', 'a line of the results file is not JSON', {
      place,
      fix: 'remove the line, or restore the file from where it came',
      cause,
    });
  }
}

function checkVersion(value: unknown, place: string): void {
  if (typeof value !== 'object' || value === null || !('schemaVersion' in value)) {
    throw new TsrtError('RESULTS_INVALID', 'a line of the results file is not a record: it has no schemaVersion', {
      place,
      fix: 'check that the file is one that `tsrt-bench run` or `tsrt-bench baseline save` wrote',
    });
  }
  const version = value.schemaVersion;
  if (version === RECORD_SCHEMA_VERSION) return;
  const newer = typeof version === 'number' && version > RECORD_SCHEMA_VERSION;
  throw new TsrtError(
    'RESULTS_INVALID',
    `the record has schema version ${JSON.stringify(version)}; this tsrt-bench reads version ${RECORD_SCHEMA_VERSION}`,
    {
      place,
      fix: newer
        ? 'a newer tsrt-bench wrote it: update this one (npm install tsrt-bench@latest)'
        : 'measure again with this version (`tsrt-bench run`), and save the baseline again',
    },
  );
}

function describeIssue(issue: z.core.$ZodIssue): string {
  const place = issue.path.reduce<string>((path, key) => (typeof key === 'number' ? `${path}[${key}]` : `${path}.${String(key)}`), '');
  return `${place.replace(/^\./, '') || 'record'}: ${issue.message}`;
}

/** Fills in `undefined` where the wire form leaves out. */
function toMemory(wire: WireRecord): BenchRecord {
  const base = { ...wire, case: caseToMemory(wire.case), provenance: provenanceToMemory(wire.provenance) };
  switch (base.status) {
    case 'completed':
      return {
        ...base,
        rounds: base.rounds.map(roundToMemory),
        memory: { ...base.memory, deviceBytes: base.memory.deviceBytes },
        accuracy: base.accuracy && accuracyToMemory(base.accuracy),
      };
    case 'failed':
      return { ...base, error: errorToMemory(base.error), rounds: base.rounds.map(roundToMemory) };
    case 'aborted':
      return { ...base, rounds: base.rounds.map(roundToMemory) };
    case 'skipped':
      return { ...base, fix: base.fix };
    default:
      return base satisfies never;
  }
}

function caseToMemory(wire: WireCase): Case {
  const { options } = wire.variant;
  return {
    ...wire,
    variant: { ...wire.variant, options: { ...options, workspaceBytes: options.workspaceBytes } },
    scenario: { ...wire.scenario, targetQps: wire.scenario.targetQps },
  };
}

function provenanceToMemory(wire: WireProvenance): Provenance {
  const { environment, tool } = wire;
  return {
    ...wire,
    tool: { ...tool, revision: tool.revision },
    environment: { ...environment, cpu: { ...environment.cpu, governor: environment.cpu.governor } },
  };
}

function roundToMemory(wire: WireRound): Round {
  return { ...wire, clockMhz: wire.clockMhz };
}

export function accuracyToMemory(wire: WireAccuracy): AccuracyReading {
  return {
    ...wire,
    top1Percent: wire.top1Percent,
    top5Percent: wire.top5Percent,
    agreementPercent: wire.agreementPercent,
    cosineMin: Number(wire.cosineMin),
    maxAbsError: Number(wire.maxAbsError),
    snrDb: wire.snrDb === undefined ? undefined : Number(wire.snrDb),
  };
}

/** A code that a later version added is kept in the message. */
function errorToMemory(wire: WireError): ErrorReport {
  if (wire.code === 'INTERNAL' || isErrorCode(wire.code)) return { ...wire, code: wire.code };
  return { ...wire, code: 'INTERNAL', message: `${wire.code}: ${wire.message}` };
}

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERROR_EXIT, code);
}

function toWire(value: number): number | string {
  return Number.isFinite(value) ? value : String(value);
}
