/** What the flags of `bisect` mean. */
import { TsrtError } from '../errors.ts';
import { METRIC_NAMES, type MetricName } from '../gate/metrics.ts';
import { nearest } from '../nearest.ts';
import type { BisectSubject } from '../workflows/bisect/request.ts';

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
    throw new TsrtError('USAGE', subject ? 'several kinds of states are named' : 'no states are named to search', {
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
  throw new TsrtError('USAGE', `'${text}' is no threshold`, { fix: 'give a number, such as --threshold 5' });
}
