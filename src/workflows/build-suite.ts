/** `build` of a suite: the engines that `run` measures, written where they stay. */
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { EngineHeader } from '../engine/engine.ts';
import { type ErrorReport, TsrtError } from '../errors.ts';
import { nearest } from '../nearest.ts';
import type { Case, Variant } from '../results/record.ts';
import { writeWhole } from './build.ts';
import { type EngineOutcome, engineKey } from './run/engines.ts';
import type { RunRequest } from './run/request.ts';
import { withSuiteEngines } from './run/suite-engines.ts';
import { exportTactics as writeTactics } from './tuning.ts';

export interface SuiteBuildRequest {
  /** The suite, what replaces its settings, and how its engines are built; `choose` is this workflow's. */
  readonly run: Omit<RunRequest, 'choose'>;
  /** Ids of the variants to build; undefined: all that are left. */
  readonly variants: readonly string[] | undefined;
  /** A file ending in `.engine`, for one engine, or a folder. */
  readonly output: string;
  /** File that receives the tactics of one engine, to be frozen. */
  readonly exportTactics: string | undefined;
}

/** An engine of a suite as a file. */
export interface WrittenEngine {
  readonly variant: string;
  readonly batch: number;
  readonly file: string;
  readonly sha256: string;
  readonly bytes: number;
  readonly buildMs: number;
  readonly header: EngineHeader;
}

/** An engine of a suite that is none: `skipped` where its backend can't, `failed` where it should have. */
export interface MissingEngine {
  readonly status: 'skipped' | 'failed';
  readonly variant: string;
  readonly batch: number;
  readonly error: Pick<ErrorReport, 'message' | 'fix' | 'details'>;
}

export interface SuiteBuildResult {
  readonly suite: string;
  readonly engines: readonly WrittenEngine[];
  readonly missing: readonly MissingEngine[];
}

/** Builds the variants of a suite as `run` does, each once, and writes those that could be built. Throws USAGE where one file is named for several. */
export function buildSuite({ run, variants, output, exportTactics }: SuiteBuildRequest): Promise<SuiteBuildResult> {
  const choose = (cases: readonly Case[]): readonly Case[] => {
    const chosen = ofVariants(cases, variants);
    if (output.endsWith('.engine')) requireOne(chosen, `--output ${output} names one file`, 'give --output a folder');
    if (exportTactics !== undefined) requireOne(chosen, `--export-tactics ${exportTactics} is for one`, 'leave it out');
    return chosen;
  };
  return withSuiteEngines({ ...run, choose }, async ({ suite: { name } }, outcomes) => {
    const engines: WrittenEngine[] = [];
    const missing: MissingEngine[] = [];
    for (const outcome of outcomes.values()) {
      const { id: variant, options: { batch } } = outcome.variant;
      if (outcome.status !== 'built') {
        missing.push({ status: outcome.status, variant, batch, error: whyMissing(outcome) });
        continue;
      }
      const { path, sha256, bytes, buildMs, header } = outcome;
      const file = output.endsWith('.engine') ? output : join(output, fileName(name, outcome.variant));
      await writeWhole(file, (part) => copyFile(path, part));
      if (exportTactics !== undefined) await writeTactics(exportTactics, header.tactics);
      engines.push({ variant, batch, file, sha256, bytes, buildMs, header });
    }
    return { suite: name, engines, missing };
  });
}

/** `resnet50-onnxruntime-int8-fusion-on-threads-2-b8.engine`: all that an id says. */
function fileName(suite: string, { id, options: { batch } }: Variant): string {
  return `${[suite, ...id.split('/'), `b${batch}`].join('-')}.engine`;
}

function whyMissing(outcome: Exclude<EngineOutcome, { readonly status: 'built' }>): MissingEngine['error'] {
  if (outcome.status === 'failed') return outcome.error;
  const { reason, fix } = outcome;
  return { message: reason, ...(fix !== undefined && { fix }) };
}

/** The cases of the variants that were named. Throws USAGE for one that the suite lacks. */
function ofVariants(cases: readonly Case[], ids: readonly string[] | undefined): readonly Case[] {
  if (ids === undefined) return cases;
  const known = [...new Set(cases.map(({ variant }) => variant.id))];
  const unknown = ids.find((id) => !known.includes(id));
  if (unknown === undefined) return cases.filter(({ variant }) => ids.includes(variant.id));
  const guess = nearest(unknown, known);
  throw new TsrtError('USAGE', `the suite has no variant '${unknown}'`, {
    details: known,
    fix: guess === undefined ? 'name one of those above' : `did you mean '${guess}'?`,
  });
}

function requireOne(cases: readonly Case[], what: string, otherwise: string): void {
  const variants = new Map(cases.map(({ variant }) => [engineKey(variant), variant]));
  if (variants.size === 1) return;
  throw new TsrtError('USAGE', `${what}, but the suite has ${variants.size} engines`, {
    details: [...variants.keys()],
    fix: `narrow them by ${narrowing([...variants.values()]).join(', ')}, or ${otherwise}`,
  });
}

/** The flags by which variants differ; `--variant` alone says what else an id may hold. */
function narrowing(variants: readonly Variant[]): string[] {
  const differ = (of: (options: Variant['options']) => unknown): boolean => new Set(variants.map(({ options }) => of(options))).size > 1;
  const keys = [...new Set(variants.flatMap(({ options }) => Object.keys(options.backendOptions)))];
  return [
    ...(new Set(variants.map(({ id }) => id)).size > 1 ? ['--variant'] : []),
    ...(['backend', 'precision', 'fusion', 'batch'] as const).filter((axis) => differ((options) => options[axis])).map((axis) => `--${axis}`),
    ...keys.filter((key) => differ(({ backendOptions }) => backendOptions[key])).map((key) => `--option ${key}=VALUE`),
  ];
}
