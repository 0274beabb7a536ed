/** The flags of `bisect` and what they mean. */
import { Flags } from '@oclif/core';
import { TsrtError } from '../errors.ts';
import { METRIC_NAMES, type MetricName } from '../gate/metrics.ts';
import { DEFAULT_ROUNDS } from '../gate/sequential.ts';
import { nearest } from '../nearest.ts';
import type { BisectSubject } from '../workflows/bisect/request.ts';

const STATES = { helpGroup: 'STATES' } as const;

export const BISECT_FLAGS = {
  good: Flags.string({ description: 'git revision before the change', helpValue: 'REF', ...STATES }),
  bad: Flags.string({ description: 'git revision that has the change [default: HEAD]', helpValue: 'REF', ...STATES }),
  prepare: Flags.string({ description: 'command that prepares a fresh checkout, such as "npm run build"', helpValue: 'COMMAND', ...STATES }),
  models: Flags.string({ multiple: true, delimiter: ',', description: 'ONNX files, oldest first', helpValue: 'FILE', ...STATES }),
  engines: Flags.string({ multiple: true, delimiter: ',', description: 'engine files, oldest first', helpValue: 'ENGINE', ...STATES }),
  change: Flags.string({
    multiple: true,
    description: "a change of the suite's options, on top of the changes before it: a backend's option, precision=, fusion=, without=PASS, workspace=BYTES; repeatable",
    helpValue: 'KEY=VALUE',
    ...STATES,
  }),
  metric: Flags.string({ char: 'm', default: 'latency-p50', description: 'metric that changed', helpValue: 'METRIC' }),
  threshold: Flags.string({ description: "change that counts, in percent, points or dB [default: the suite's]", helpValue: 'NUMBER' }),
  confidence: Flags.string({ description: 'confidence of the intervals, such as 0.99', helpValue: 'NUMBER' }),
  case: Flags.string({ description: 'case to follow [default: the one that differs most]', helpValue: 'ID' }),
  model: Flags.string({ description: "ONNX file to use instead of the suite's model", helpValue: 'FILE' }),
  rounds: Flags.integer({ default: DEFAULT_ROUNDS, min: 3, description: 'largest number of rounds of a comparison', helpValue: 'N' }),
  time: Flags.string({ description: 'time to measure one case in one round, such as 500ms or 2s', helpValue: 'TIME' }),
  fresh: Flags.boolean({ description: 'start from the beginning, and ignore an earlier search of the same question' }),
  quiet: Flags.boolean({ char: 'q', description: 'print no progress' }),
} as const;

interface SubjectFlags {
  readonly good?: string | undefined;
  readonly bad?: string | undefined;
  readonly prepare?: string | undefined;
  readonly models?: readonly string[] | undefined;
  readonly engines?: readonly string[] | undefined;
  readonly change?: readonly string[] | undefined;
  readonly model?: string | undefined;
}

/** Throws USAGE for none of them, or several. */
export function parseSubject({ good, bad, prepare, models, engines, change, model }: SubjectFlags): BisectSubject {
  const subjects: BisectSubject[] = [
    ...(models ? [{ kind: 'models', files: models } as const] : []),
    ...(engines ? [{ kind: 'engines', files: engines } as const] : []),
    ...(change ? [{ kind: 'changes', changes: change } as const] : []),
    ...(good === undefined ? [] : [{ kind: 'commits', good, bad: bad ?? 'HEAD', prepare } as const]),
  ];
  const [subject, ...others] = subjects;
  if (!subject || others.length > 0) {
    throw new TsrtError('USAGE', subject ? 'several kinds of states were named' : 'no states to search were named', {
      fix: 'name one kind: --good REF (and --bad REF), --models FILE,FILE, --engines ENGINE,ENGINE, or --change KEY=VALUE',
    });
  }
  if (subject.kind !== 'commits' && (bad !== undefined || prepare !== undefined)) {
    throw new TsrtError('USAGE', `${bad === undefined ? '--prepare' : '--bad'} goes with --good REF`, { fix: 'leave it out' });
  }
  if (subject.kind === 'models' && model !== undefined) throw new TsrtError('USAGE', '--models and --model both name the model', { fix: 'leave --model out' });
  return subject;
}

/** Throws USAGE with the nearest known metric. */
export function parseMetric(text: string): MetricName {
  const metric = METRIC_NAMES.find((known) => known === text);
  if (metric !== undefined) return metric;
  const guess = nearest(text, METRIC_NAMES);
  throw new TsrtError('USAGE', `there is no metric '${text}'${guess ? `; did you mean '${guess}'?` : ''}`, { fix: `one of ${METRIC_NAMES.join(', ')}` });
}

/** `5`, `5%` or `0.5`. Throws USAGE. */
export function parseThreshold(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const limit = Number(text.trim().replace(/\s*%$/, ''));
  if (text.trim() !== '' && Number.isFinite(limit) && limit >= 0) return limit;
  throw new TsrtError('USAGE', `'${text}' is not a threshold`, { fix: 'give a number, such as --threshold 5' });
}
