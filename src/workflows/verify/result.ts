/** What verifying a case gives, and the totals. */
import type { Unsupported } from '../../backends/backend.ts';
import type { ErrorReport } from '../../errors.ts';
import type { OutputComparison, Tolerance } from './compare.ts';

/** What the outputs were compared with. */
export type Yardstick = 'expected outputs' | 'reference';

interface CaseBase {
  readonly name: string;
  readonly modelFile: string;
}

export type CaseResult =
  | (CaseBase & {
      readonly status: 'passed' | 'failed';
      readonly comparedWith: Yardstick;
      readonly tolerance: Tolerance;
      readonly outputs: readonly OutputComparison[];
      /** From the engine: a model that ran unchanged, say. */
      readonly notices: readonly string[];
    })
  /** The backend says that it can't, and why. */
  | (CaseBase & { readonly status: 'unsupported'; readonly reasons: readonly Unsupported[]; readonly fix?: string })
  /** Anything else: a broken file, a crash, a hang. */
  | (CaseBase & { readonly status: 'error'; readonly error: ErrorReport });

export type VerifySummary = Readonly<Record<CaseResult['status'], number>> & { readonly total: number };

export function summarize(results: readonly CaseResult[]): VerifySummary {
  const count = (status: CaseResult['status']) => results.filter((result) => result.status === status).length;
  return {
    passed: count('passed'),
    failed: count('failed'),
    unsupported: count('unsupported'),
    error: count('error'),
    total: results.length,
  };
}
