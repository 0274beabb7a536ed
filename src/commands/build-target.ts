/** The flags of `build`, which takes a model or a suite: lists, of which a model takes one value, and those that only one of the two has. */
import { Flags } from '@oclif/core';
import { FUSIONS, PRECISIONS } from '../engine/engine.ts';
import { TsrtError } from '../errors.ts';
import { BUILD_FLAGS, type ParsedBuildFlags } from './build-flags.ts';
import { parseCount, SUITE_FLAGS } from './suite-flags.ts';

const { model, dataset, seed } = SUITE_FLAGS;

const list = (description: string, helpValue: string, options: Record<string, unknown> = {}) => Flags.string({ description, helpValue, multiple: true, delimiter: ',', ...options });

export const TARGET_FLAGS = {
  ...BUILD_FLAGS,
  backend: list("backend to build for [default: onnxruntime]; for a suite several, as a,b or repeated [default: the suite's]", 'NAME'),
  precision: list(`precision: ${PRECISIONS.join(', ')} [default: fp32]; for a suite several [default: the suite's]`, 'NAME', { options: [...PRECISIONS] }),
  fusion: list("fuse operators [default: on]; for a suite off,on for both [default: the suite's]", 'on|off', { options: [...FUSIONS] }),
  batch: list("batch, which replaces one that the model fixes [default: the model's, or 1]; for a suite several [default: the suite's]", 'N'),
  calibration: Flags.string({ description: 'ranges, as calibrate writes them; for int8 and mixed, and for fp16 to find values beyond what a half holds', helpValue: 'FILE' }),
  variant: list("build only these variants of the suite, by their names in run's table", 'ID', { helpGroup: 'SUITE' }),
  model,
  dataset,
  seed,
} as const;

/** What a suite says itself, by the flag that says it of a model. */
const MODEL_ONLY = { 'disable-pass': 'disabledPasses', workspace: 'workspaceBytes', calibration: 'quantization.calibration' } as const;
const SUITE_ONLY = ['variant', 'model', 'dataset', 'seed'] as const;

type GivenFlags = Readonly<Record<string, unknown>>;

/** Throws USAGE for a flag that says nothing of a model. */
export function refuseSuiteFlags(flags: GivenFlags): void {
  const given = SUITE_ONLY.find((name) => flags[name] !== undefined);
  if (given !== undefined) throw new TsrtError('USAGE', `--${given} is for a suite, but a model was named`, { fix: 'leave it out, or name a suite instead of the model' });
}

/** Throws USAGE for a flag that would make an engine that no run of the suite measures. */
export function refuseModelFlags(flags: GivenFlags): void {
  for (const [name, key] of Object.entries(MODEL_ONLY)) {
    if (flags[name] !== undefined) throw new TsrtError('USAGE', `--${name} is for a model, but a suite was named`, { fix: `set it in the suite, as ${key}: then run measures what is built` });
  }
}

interface ParsedLists {
  readonly backend?: readonly string[] | undefined;
  readonly precision?: readonly string[] | undefined;
  readonly fusion?: readonly string[] | undefined;
  readonly batch?: readonly string[] | undefined;
}

/** The flags of one engine. Throws USAGE where one of them has several values. */
export function ofOneEngine<T extends ParsedLists>(flags: T): Omit<T, keyof ParsedLists> & Pick<ParsedBuildFlags, keyof ParsedLists> {
  const one = (name: keyof ParsedLists): string | undefined => {
    const [value, ...others] = flags[name] ?? [];
    if (others.length === 0) return value;
    throw new TsrtError('USAGE', `--${name} takes one value for a model, found ${flags[name]!.join(', ')}`, { fix: 'build them one by one, or name a suite instead of the model' });
  };
  const batch = one('batch');
  return {
    ...flags,
    backend: one('backend') ?? 'onnxruntime',
    precision: one('precision') ?? 'fp32',
    fusion: one('fusion') ?? 'on',
    batch: batch === undefined ? undefined : parseCount('--batch', batch),
  };
}
