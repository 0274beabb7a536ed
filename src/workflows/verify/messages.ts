/** What the verifying process and its workers say to each other. */
import type { ErrorReport } from '../../errors.ts';
import type { VerifyCase } from './cases.ts';
import type { CheckSettings } from './check.ts';
import type { CaseResult } from './result.ts';

export type Request =
  | { readonly kind: 'open'; readonly backend: string; readonly plugins: readonly string[]; readonly settings: CheckSettings }
  | { readonly kind: 'check'; readonly testCase: VerifyCase }
  /** The last one; the answer is the process' end. */
  | { readonly kind: 'bye' };

export type Reply =
  | { readonly kind: 'opened' }
  | { readonly kind: 'checked'; readonly result: CaseResult }
  /** Nothing can be checked: the backend is unknown or unavailable. */
  | { readonly kind: 'failed'; readonly error: ErrorReport };
