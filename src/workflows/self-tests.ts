/**
 * The self-tests of the gate that were made on this machine, in the user's cache: what a verdict and `doctor` quote. A self-test
 * says something of one machine, one suite and one setting; of another machine it says nothing and is not shown.
 */
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { arch, cpus, platform, totalmem } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import type { GatePolicy } from '../gate/policy.ts';
import { type SelfTest, describeWorth } from '../gate/self-test.ts';
import { availableCores } from '../system.ts';

const sensitivity = z.strictObject({
  rounds: z.number(),
  worstPercent: z.number().exactOptional(),
  medianPercent: z.number().exactOptional(),
});

const schema = z.strictObject({
  schemaVersion: z.literal(1),
  machine: z.string(),
  suite: z.string(),
  /** Hash of the policy and the time of a round. */
  settings: z.string(),
  measuredAt: z.string(),
  cases: z.number(),
  comparisons: z.number(),
  alarms: z.number(),
  inForce: sensitivity,
});

/** What is kept of a self-test. */
export type StoredSelfTest = z.infer<typeof schema>;

/** What a self-test depends on besides the machine and the suite. */
export interface TestedSettings {
  readonly policy: GatePolicy;
  /** Timed part of a round; undefined: the suite's. */
  readonly timeMs: number | undefined;
}

/** Runs of one fingerprint are of machines that a user calls the same: processor, cores, memory, platform. */
export function machineFingerprint(): string {
  return `${cpus()[0]?.model.trim() ?? 'unknown'}, ${availableCores()} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, ${platform()} ${arch()}`;
}

/** Keeps the newest of a machine, suite and setting. Errors of the file system are thrown as they are: nothing rests on it. */
export async function keepSelfTest(cache: string, test: SelfTest & { readonly suite: string }, settings: TestedSettings, measuredAt: string): Promise<void> {
  const { suite, cases, comparisons, alarms, inForce } = test;
  const { rounds, worstPercent, medianPercent } = inForce;
  const stored: StoredSelfTest = {
    schemaVersion: 1,
    machine: machineFingerprint(),
    suite,
    settings: hashOf(settings),
    measuredAt,
    cases,
    comparisons,
    alarms,
    inForce: { rounds, ...(worstPercent !== undefined && { worstPercent }), ...(medianPercent !== undefined && { medianPercent }) },
  };
  const folder = folderOf(cache);
  await mkdir(folder, { recursive: true });
  const path = join(folder, `${digest(`${stored.machine}\n${suite}\n${stored.settings}\n${rounds}`)}.json`);
  await writeFile(`${path}.${process.pid}`, `${JSON.stringify(stored, null, 2)}\n`);
  await rename(`${path}.${process.pid}`, path);
}

/** Those of this machine, newest first. What can't be read is left out. */
export async function selfTestsHere(cache: string): Promise<readonly StoredSelfTest[]> {
  const files = await readdir(folderOf(cache)).catch(() => []);
  const found: StoredSelfTest[] = [];
  for (const file of files.filter((name) => name.endsWith('.json'))) {
    const text = await readFile(join(folderOf(cache), file), 'utf8').catch(() => '');
    const parsed = schema.safeParse(jsonOf(text));
    if (parsed.success && parsed.data.machine === machineFingerprint()) found.push(parsed.data);
  }
  return found.sort((a, b) => (a.measuredAt < b.measuredAt ? 1 : -1));
}

/** What a verdict says of the gate's worth here; the self-test of the same settings where there is one. `called` is the suite as a command takes it. */
export async function worthNotice(cache: string, suite: string, settings: TestedSettings, called = suite): Promise<string> {
  const ofSuite = (await selfTestsHere(cache)).filter((test) => test.suite === suite);
  const same = ofSuite.find((test) => test.settings === hashOf(settings));
  const chosen = same ?? ofSuite[0];
  if (!chosen) return `no self-test of suite ${suite} was made on this machine; \`tsrt-bench gate ${called} --self-test\` says what the gate is worth here`;
  return `${describeWorth(chosen)}${same ? '' : ', at other settings than these'}`;
}

function folderOf(cache: string): string {
  return join(cache, 'self-tests');
}

function hashOf({ policy, timeMs }: TestedSettings): string {
  const { confidence, falseAlarms, thresholds, watched, minRounds } = policy;
  const sorted = (record: Readonly<Record<string, unknown>>) => Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1));
  return digest(JSON.stringify([confidence, falseAlarms, sorted(thresholds), sorted(watched), minRounds, timeMs ?? 'suite']));
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
