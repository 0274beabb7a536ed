/** Flags that replace what a suite says, and the step from them to overrides. */
import { resolve } from 'node:path';
import { Flags } from '@oclif/core';
import type { Config } from '../config.ts';
import { FUSIONS, PRECISIONS, type Fusion, type Precision } from '../engine/engine.ts';
import { TsrtError } from '../errors.ts';
import type { SuiteOverrides } from '../suite/expand.ts';
import { FALLBACK_FLAG } from './fallback-flag.ts';
import { parseScalar, parseShapes, parseSizes } from './values.ts';

/** A flag that takes `a,b` or is given twice. */
const list = (description: string, helpValue: string, options: Record<string, unknown> = {}) =>
  Flags.string({ description, helpValue, multiple: true, delimiter: ',', helpGroup: 'SUITE', ...options });

/** Sizes that a model leaves open. */
export const SIZE_FLAGS = {
  dim: Flags.string({ description: 'size of a symbolic dimension other than the batch; repeatable', helpValue: 'NAME=N', multiple: true, helpGroup: 'SUITE' }),
  shape: Flags.string({ description: 'whole shape of an input; repeatable', helpValue: 'INPUT=1x3x224x224', multiple: true, helpGroup: 'SUITE' }),
} as const;

/** Where the samples are. */
export const DATASET_FLAG = {
  dataset: Flags.string({ description: "dataset instead of the suite's: a folder of images, or arrays named after the inputs (.npz, or a folder of .npy)", helpValue: 'PATH', helpGroup: 'SUITE' }),
} as const;

export const SUITE_FLAGS = {
  model: Flags.string({ description: "ONNX file to use instead of the suite's model", helpValue: 'FILE', helpGroup: 'SUITE' }),
  ...DATASET_FLAG,
  limit: Flags.integer({ description: 'largest number of inputs for the accuracy run', helpValue: 'N', min: 1, helpGroup: 'SUITE' }),
  backend: list('backends to run, as a,b; repeatable', 'NAME'),
  precision: list(`precisions to run: ${PRECISIONS.join(', ')}`, 'NAME', { options: [...PRECISIONS] }),
  fusion: list('fusion on, off, or on,off for both', 'on|off', { options: [...FUSIONS] }),
  batch: list('batch sizes, such as 1,8', 'N'),
  option: list('backend option, such as threads=1; repeat a key to measure several values', 'KEY=VALUE'),
  ...SIZE_FLAGS,
  ...FALLBACK_FLAG,
  rounds: Flags.integer({ description: 'number of rounds over all cases', helpValue: 'N', min: 1, helpGroup: 'SUITE' }),
  time: Flags.string({ description: 'time to measure one case in one round, such as 500ms or 2s', helpValue: 'TIME', helpGroup: 'SUITE' }),
  seed: Flags.integer({ description: 'seed of orders, synthetic inputs and resampling', helpValue: 'N', min: 0, helpGroup: 'SUITE' }),
} as const;

interface ParsedDataFlags {
  readonly dataset?: string | undefined;
  readonly dim?: readonly string[] | undefined;
  readonly shape?: readonly string[] | undefined;
}

/** Which samples, and of which sizes: all that a calibration takes of the suite's flags. */
export function dataOverrides({ dataset, dim, shape }: ParsedDataFlags): Pick<SuiteOverrides, 'dataset' | 'dims' | 'inputShapes'> {
  return {
    dims: parseSizes('--dim', dim),
    inputShapes: parseShapes('--shape', shape),
    dataset: dataset === undefined ? undefined : resolve(dataset),
  };
}

interface ParsedSuiteFlags extends ParsedDataFlags {
  readonly backend?: readonly string[] | undefined;
  readonly precision?: readonly string[] | undefined;
  readonly fusion?: readonly string[] | undefined;
  readonly batch?: readonly string[] | undefined;
  readonly option?: readonly string[] | undefined;
  readonly fallback?: string | undefined;
  readonly tune?: string | undefined;
  readonly rounds?: number | undefined;
  readonly time?: string | undefined;
}

/** Flags as overrides; oclif has checked precision and fusion against their lists. */
export function suiteOverrides(flags: ParsedSuiteFlags): SuiteOverrides {
  return {
    backend: nonEmpty(flags.backend),
    precision: nonEmpty(flags.precision) as readonly Precision[] | undefined,
    fusion: nonEmpty(flags.fusion) as readonly Fusion[] | undefined,
    batch: nonEmpty(flags.batch)?.map((value) => parseCount('--batch', value)),
    backendOptions: flags.option && flags.option.length > 0 ? parseOptions(flags.option) : undefined,
    ...dataOverrides(flags),
    ownOptions: webgpuOptions(flags),
    rounds: flags.rounds,
    timeMs: flags.time === undefined ? undefined : parseDuration('--time', flags.time),
  };
}

/** With what a configuration file says of variants, where no flag does. */
export function withConfig(asked: SuiteOverrides, { backend, precision, batch }: Pick<Config, 'backend' | 'precision' | 'batch'>): SuiteOverrides {
  return { ...asked, backend: asked.backend ?? backend, precision: asked.precision ?? precision, batch: asked.batch ?? batch };
}

/** Options of the webgpu backend that have a flag of their own; a suite that tunes does not with `--tune none`, and one with a fallback has none with `--fallback none`. */
function webgpuOptions({ fallback, tune }: ParsedSuiteFlags): SuiteOverrides['ownOptions'] {
  const options = { ...(fallback !== undefined && { fallback: fallback === 'none' ? [] : [fallback] }), ...(tune !== undefined && { tune: [tune] }) };
  return Object.keys(options).length === 0 ? undefined : { webgpu: options };
}

function nonEmpty<T>(values: readonly T[] | undefined): readonly T[] | undefined {
  return values !== undefined && values.length > 0 ? values : undefined;
}

/** Throws USAGE. */
export function parseCount(flag: string, value: string): number {
  const count = Number(value);
  if (Number.isSafeInteger(count) && count > 0) return count;
  throw new TsrtError('USAGE', `${flag} takes whole numbers above 0, found '${value}'`, { fix: `for example: ${flag} 1,8,32` });
}

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Milliseconds of `500ms`, `2s`, `1.5m`; a bare number is seconds. Throws USAGE. */
export function parseDuration(flag: string, value: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)?$/.exec(value.trim());
  const milliseconds = match ? Math.round(Number(match[1]) * (UNIT_MS[match[2] ?? 's'] ?? 0)) : 0;
  if (milliseconds > 0) return milliseconds;
  throw new TsrtError('USAGE', `${flag} takes a duration, found '${value}'`, { fix: `for example: ${flag} 500ms, ${flag} 2s, ${flag} 1m` });
}

/** As {@link parseDuration}, and 0, with a unit or without, for none. Throws USAGE. */
export function parseDelay(flag: string, value: string): number {
  return /^0(ms|s|m|h)?$/.test(value.trim()) ? 0 : parseDuration(flag, value);
}

function parseOptions(words: readonly string[]): Record<string, (string | number | boolean)[]> {
  const options: Record<string, (string | number | boolean)[]> = {};
  for (const word of words) {
    const at = word.indexOf('=');
    if (at < 1) throw new TsrtError('USAGE', `--option takes KEY=VALUE, found '${word}'`, { fix: 'for example: --option threads=2' });
    (options[word.slice(0, at)] ??= []).push(parseScalar(word.slice(at + 1)));
  }
  return options;
}
