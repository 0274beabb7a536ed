/** The gate's modes with a stored baseline: records against it, and what becomes of it. */
import { Flags } from '@oclif/core';
import type { Config, ResolvedConfig } from '../config.ts';
import { TsrtError } from '../errors.ts';
import { parseConfidence } from '../gate/policy.ts';
import type { BaselineHome } from '../results/baselines.ts';
import type { Judged, UpdateOutcome } from '../workflows/gate-update.ts';
import { openBaselines } from './config-flags.ts';
import { type MeasuredFlags, measureStored } from './gate-measure.ts';

const GROUP = { helpGroup: 'BASELINE' } as const;

export const UPDATE_FLAGS = {
  update: Flags.boolean({ ...GROUP, description: 'make the judged run the new baseline; refused if a case did not pass, unless it is accepted' }),
  accept: Flags.string({ ...GROUP, multiple: true, description: 'with --update: take cases whose ids contain this text even if they did not pass; repeatable', helpValue: 'CASE' }),
  force: Flags.boolean({ ...GROUP, description: 'with --update: take all cases, passed or not' }),
} as const;

export interface StoredFlags {
  readonly baseline: string;
  readonly candidate: string;
  readonly threshold?: readonly string[] | undefined;
  readonly confidence?: string | undefined;
  readonly 'allow-different-device': boolean;
  readonly 'ignore-missing': boolean;
  readonly update: boolean;
  readonly accept?: readonly string[] | undefined;
  readonly force: boolean;
}

/** Throws USAGE where flags of an update stand alone, or where there is nothing that could be updated. */
export function checkUpdateFlags(flags: StoredFlags, measured: boolean): void {
  const { update, accept, force } = flags;
  if (!update && (accept || force)) throw new TsrtError('USAGE', `${accept ? '--accept' : '--force'} goes with --update`, { fix: 'add --update once the change is reviewed' });
  if (!update) return;
  if (measured) {
    throw new TsrtError('USAGE', '--update stores a run, but --against and --self-test make none', { fix: 'measure with --measure, or with `tsrt-bench run` first' });
  }
  if (flags['allow-different-device']) {
    throw new TsrtError('USAGE', '--update keeps a baseline on its own device', { fix: 'leave out --allow-different-device, or keep the run under its device with `tsrt-bench baseline save`' });
  }
  if (flags.baseline.endsWith('.jsonl') || flags.baseline === 'latest' || flags.baseline.startsWith('run:')) {
    throw new TsrtError('USAGE', `'${flags.baseline}' is not a baseline that can be updated`, { fix: 'name one with --baseline NAME' });
  }
}

/** What was judged, and where its baseline lies. */
export interface StoredJudgement extends Judged {
  readonly home: BaselineHome;
}

/** Reading records needs no plugin's code but where one gives the suite: nothing is loaded that nobody named. */
async function suitesOfPlugins({ plugins }: Config): Promise<ReadonlyMap<string, string> | undefined> {
  if (plugins.length === 0) return undefined;
  const { openRegistry } = await import('../workflows/registry.ts');
  return (await openRegistry(plugins)).suites;
}

/** Judges the records that the flags name, or the run that is made for it. */
export async function judgeStored(suite: string | undefined, flags: StoredFlags & MeasuredFlags, settings: ResolvedConfig): Promise<StoredJudgement> {
  const { config } = settings;
  const pluginSuites = await suitesOfPlugins(config);
  const store = await openBaselines(config);
  const gate = {
    results: config.results,
    store,
    cache: config.cache,
    pluginSuites,
    baseline: flags.baseline,
    thresholds: flags.threshold ?? [],
    confidence: parseConfidence(flags.confidence),
    allowDifferentDevice: flags['allow-different-device'],
    ignoreMissing: flags['ignore-missing'],
  };
  if (flags.measure) return { ...(await measureStored(suite, flags, settings, gate)), home: store };
  const { judgeRecords } = await import('../workflows/gate.ts');
  return { ...(await judgeRecords({ ...gate, suite, candidate: flags.candidate })), home: store };
}

/** Makes the judged run the baseline. */
export async function storeUpdate(judged: StoredJudgement, flags: StoredFlags): Promise<UpdateOutcome> {
  const { updateBaseline } = await import('../workflows/gate-update.ts');
  const name = flags.baseline.replace(/^baseline:/, '');
  return updateBaseline(judged, { home: judged.home, name, accept: flags.accept ?? [], force: flags.force });
}
