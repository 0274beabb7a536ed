/** What a long-running workflow tells while it works. Commands decide how (and whether) to show it. */
import type { BenchRecord } from '../results/record.ts';

export const STAGES = ['model', 'dataset', 'build', 'accuracy', 'measure'] as const;
export type Stage = (typeof STAGES)[number];

export type RunEvent =
  /** A stage begins; `text` says on what. */
  | { readonly kind: 'stage'; readonly stage: Stage; readonly text: string }
  /** Within the stage: `done` of `total` in `unit`; `label` says which item. */
  | {
      readonly kind: 'progress';
      readonly stage: Stage;
      readonly label: string;
      readonly done: number;
      readonly total: number;
      readonly unit: 'bytes' | 'engines' | 'kernels' | 'nodes' | 'rounds' | 'samples';
    }
  /** A case ended and its record is on disk. */
  | { readonly kind: 'record'; readonly record: BenchRecord; readonly done: number; readonly total: number }
  /** Something that the user should know; repeated in the final report. */
  | { readonly kind: 'notice'; readonly text: string };

export type OnRunEvent = (event: RunEvent) => void;
