/** Flags that decide what one engine is, and the step from them to build options. */
import { Flags } from '@oclif/core';
import { FUSIONS, PRECISIONS, type BuildOptions, type Fusion, type Precision } from '../engine/engine.ts';
import { passNames } from '../passes/names.ts';
import { FALLBACK_FLAG, withFallback } from './fallback-flag.ts';
import { parseBytes, parsePairs, parseShapes, parseSizes } from './values.ts';

/** Sizes that a model leaves open, wherever one is given without a suite. */
export const MODEL_SIZE_FLAGS = {
  dim: Flags.string({ description: 'size of a symbolic dimension other than the batch; repeatable', helpValue: 'NAME=N', multiple: true }),
  shape: Flags.string({ description: 'whole shape of an input; repeatable', helpValue: 'INPUT=1x3x224x224', multiple: true }),
} as const;

export const BUILD_FLAGS = {
  backend: Flags.string({ description: 'backend to build for', default: 'onnxruntime', helpValue: 'NAME' }),
  precision: Flags.string({ description: 'precision', options: [...PRECISIONS], default: 'fp32' }),
  fusion: Flags.string({ description: 'fuse operators', options: [...FUSIONS], default: 'on' }),
  batch: Flags.integer({ description: "batch, which replaces one that the model fixes [default: the model's, or 1]", min: 1, helpValue: 'N' }),
  ...MODEL_SIZE_FLAGS,
  'disable-pass': Flags.string({ description: 'passes to leave out, by the names that inspect lists; as a,b or repeated', helpValue: 'NAME', multiple: true, delimiter: ',' }),
  workspace: Flags.string({ description: 'upper limit of scratch memory, such as 256MiB', helpValue: 'SIZE' }),
  ...FALLBACK_FLAG,
  option: Flags.string({ description: 'backend option, such as threads=2; repeatable', helpValue: 'KEY=VALUE', multiple: true }),
} as const;

export interface ParsedBuildFlags {
  readonly backend: string;
  readonly precision: string;
  readonly fusion: string;
  readonly batch?: number | undefined;
  readonly dim?: readonly string[] | undefined;
  readonly shape?: readonly string[] | undefined;
  readonly 'disable-pass'?: readonly string[] | undefined;
  readonly workspace?: string | undefined;
  readonly fallback?: string | undefined;
  readonly option?: readonly string[] | undefined;
}

/** oclif has checked precision and fusion against their lists. */
export function buildOptions(flags: ParsedBuildFlags): BuildOptions {
  return {
    backend: flags.backend,
    precision: flags.precision as Precision,
    fusion: flags.fusion as Fusion,
    batch: flags.batch ?? 1,
    dims: parseSizes('--dim', flags.dim),
    inputShapes: parseShapes('--shape', flags.shape),
    disabledPasses: passNames(flags['disable-pass'] ?? [], '--disable-pass'),
    workspaceBytes: flags.workspace === undefined ? undefined : parseBytes('--workspace', flags.workspace),
    backendOptions: withFallback(parsePairs('--option', flags.option), flags.fallback),
  };
}
