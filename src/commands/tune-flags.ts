/** Flags about tuning, the same wherever engines are built, and the step from them to a request. */
import { Flags } from '@oclif/core';
import { TUNE_LEVELS } from '../engine/engine.ts';
import { TsrtError } from '../errors.ts';
import type { TuningRequest } from '../workflows/tuning.ts';
import { parseDuration } from './suite-flags.ts';

export const TUNE_FLAGS = {
  tune: Flags.string({
    description: 'choose kernels of the webgpu backend by timing them on the device: a few promising ones (fast) or all that are worth it (full)',
    options: [...TUNE_LEVELS],
    helpGroup: 'TUNING',
  }),
  'tune-budget': Flags.string({ description: 'stop timing candidates for one engine after this time, such as 60s', helpValue: 'TIME', helpGroup: 'TUNING' }),
  'timing-cache': Flags.string({ description: 'file of measured times [default: timing-cache.json in the cache folder]', helpValue: 'FILE', helpGroup: 'TUNING' }),
  'frozen-tactics': Flags.string({
    description: 'file of tactics to use without timing, so that the same engine is built byte for byte',
    helpValue: 'FILE',
    helpGroup: 'TUNING',
  }),
} as const;

interface ParsedTuneFlags {
  readonly tune?: string | undefined;
  readonly 'tune-budget'?: string | undefined;
  readonly 'timing-cache'?: string | undefined;
  readonly 'frozen-tactics'?: string | undefined;
}

/** Throws TsrtError USAGE where times and a frozen list are both to decide. */
export function tuningRequest(flags: ParsedTuneFlags): TuningRequest {
  const frozen = flags['frozen-tactics'];
  if (frozen !== undefined && flags.tune !== undefined && flags.tune !== 'none') {
    throw new TsrtError('USAGE', `--frozen-tactics decides every tactic, but --tune ${flags.tune} would measure them`, { fix: 'leave one of them out' });
  }
  const budget = flags['tune-budget'];
  return {
    cacheFile: flags['timing-cache'],
    budgetMs: budget === undefined ? undefined : parseDuration('--tune-budget', budget),
    frozenFile: frozen,
  };
}

/** Backend options with the flag among them; `none` is what holds without it. */
export function withTune(options: Readonly<Record<string, string | number | boolean>>, tune: string | undefined) {
  if (tune === undefined) return options;
  const { tune: _given, ...others } = options;
  return tune === 'none' ? others : { ...others, tune };
}
