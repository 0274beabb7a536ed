/** A search on disk: what each comparison said, so that one that was cut off goes on and an answer is not measured twice. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { TsrtError } from '../../errors.ts';
import type { GatePolicy } from '../../gate/policy.ts';
import { writeText } from '../output.ts';
import type { BisectReport, Probe } from './request.ts';

export interface KeptSearch {
  readonly caseId: string | undefined;
  readonly direction: BisectReport['direction'];
  readonly probes: readonly Probe[];
  /** In force when it was measured. */
  readonly policy: Pick<GatePolicy, 'confidence' | 'falseAlarms'> & { readonly threshold: number };
}

const VERSION = 1;

const schema = z.strictObject({
  version: z.literal(VERSION),
  /** Of the question: states, metric, settings, machine. */
  key: z.string(),
  caseId: z.string().optional(),
  direction: z.enum(['worse', 'better']).optional(),
  policy: z.strictObject({ confidence: z.number(), falseAlarms: z.number(), threshold: z.number() }),
  probes: z.array(
    z.strictObject({
      index: z.number().int().positive(),
      verdict: z.enum(['changed', 'unchanged', 'skipped']),
      reason: z.string(),
      /** As the report has it; shown, never computed with. */
      change: z.custom<NonNullable<Probe['change']>>((value) => typeof value === 'object' && value !== null && 'kind' in value).optional(),
    }),
  ),
});

/** Under the folder of results, one file a question. */
export function keptPath(results: string, suite: string, key: string): string {
  return join(results, 'bisect', `${suite.replace(/[^A-Za-z0-9._-]+/g, '_')}-${key.slice(0, 12)}.json`);
}

/** Undefined where there is none of this question. Throws RESULTS_INVALID for a file that is damaged. */
export async function readKept(path: string, key: string): Promise<KeptSearch | undefined> {
  const text = await readFile(path, 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  try {
    const { key: of, caseId, direction, policy, probes } = schema.parse(JSON.parse(text));
    return of === key ? { caseId, direction, policy, probes: probes.map(({ change, ...probe }) => ({ ...probe, change })) } : undefined;
  } catch (cause) {
    throw new TsrtError('RESULTS_INVALID', 'the saved search is damaged, or from another version', { place: path, fix: 'start again with --fresh', cause });
  }
}

/** Throws RESULTS_UNWRITABLE. */
export function writeKept(path: string, key: string, { caseId, direction, policy, probes }: KeptSearch): Promise<void> {
  return writeText(path, `${JSON.stringify({ version: VERSION, key, caseId, direction, policy, probes }, null, 2)}\n`);
}
