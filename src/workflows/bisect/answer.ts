/** The answer of a search as a sentence. */
import { METRICS } from '../../gate/metrics.ts';
import { thresholdUnit } from '../../gate/policy.ts';
import type { BisectReport } from './request.ts';

/** Without a full stop. */
export function answerOf({ outcome, states, metric, threshold, direction, caseId, probes }: Omit<BisectReport, 'answer'>): string {
  const { label, better } = METRICS[metric];
  const moved = (direction === 'worse') === (better === 'lower') ? 'rose' : 'fell';
  const named = (index: number): string => `'${states[index]}'`;
  const limit = `${threshold} ${thresholdUnit(metric)}`;
  switch (outcome.kind) {
    case 'found':
      return `${label} of ${caseId} ${moved} with ${named(outcome.index)}, state ${outcome.index + 1} of ${states.length}; with ${named(outcome.index - 1)} before it, it had not`;
    case 'range': {
      const between = outcome.upTo - outcome.after - 1;
      const skipped = `${between} state${between === 1 ? '' : 's'} between could not be decided`;
      return `${label} of ${caseId} ${moved} after ${named(outcome.after)} and up to ${named(outcome.upTo)}; ${skipped}`;
    }
    case 'no-change':
      return `${label} does not differ between the ends by more than ${limit}: ${probes[0]?.reason ?? ''}`;
    case 'undecided':
      return `the ends can't be told apart or compared: ${probes[0]?.reason ?? ''}`;
    case 'probe':
      return `not found yet: ${named(outcome.index)} will be compared next`;
    default:
      return outcome satisfies never;
  }
}
