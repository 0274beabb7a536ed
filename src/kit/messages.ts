/** What the conformance kit and its worker process say to each other. Data only. */
import type { ErrorReport } from '../errors.ts';
import type { CheckName } from './checks.ts';
import type { KitCase } from './case.ts';
import type { Worst } from './compare.ts';
import type { PartMaterial, PartName, PartVerdict } from './part-checks.ts';

export type KitRequest =
  | { readonly kind: 'open'; readonly plugins: readonly string[]; readonly cwd: string; readonly device: string | undefined }
  /** `op`: index in the registry's ops. */
  | { readonly kind: 'check'; readonly op: number; readonly check: CheckName; readonly given: KitCase }
  | { readonly kind: 'part'; readonly part: PartName; readonly material: PartMaterial };

export type KitReply =
  | { readonly kind: 'opened' }
  | { readonly kind: 'passed'; readonly worst: Worst }
  /** The op refuses the case's inputs. */
  | { readonly kind: 'refused'; readonly reason: string }
  | { readonly kind: 'failed'; readonly message: string; readonly input: string }
  /** The answer to a part. */
  | { readonly kind: 'judged'; readonly verdict: PartVerdict }
  | { readonly kind: 'broken'; readonly error: ErrorReport };
