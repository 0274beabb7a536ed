/** What `bisect` is asked, and what it answers. */
import type { BisectStep, ProbeVerdict } from '../../gate/bisect.ts';
import type { MetricChange } from '../../gate/compare.ts';
import type { MetricName } from '../../gate/metrics.ts';
import type { MeasureServices } from '../../measure/orchestrate.ts';
import type { SideRequest } from '../paired/side.ts';

/** The ordered states of which one is the first that changed. */
export type BisectSubject =
  /** ONNX files, oldest first. */
  | { readonly kind: 'models'; readonly files: readonly string[] }
  /** Engine files of the suite's model, oldest first. */
  | { readonly kind: 'engines'; readonly files: readonly string[] }
  /** Changes of the suite's options, `KEY=VALUE`, each on top of those before it. */
  | { readonly kind: 'changes'; readonly changes: readonly string[] }
  /** Commits of the project after `good` up to `bad`, along first parents. */
  | { readonly kind: 'commits'; readonly good: string; readonly bad: string; readonly prepare: string | undefined };

export interface BisectRequest extends Omit<SideRequest, 'engineFiles'> {
  readonly subject: BisectSubject;
  readonly metric: MetricName;
  /** Change that counts, in the metric's threshold unit; undefined: the suite's, or the default. */
  readonly threshold: number | undefined;
  readonly confidence: number | undefined;
  /** Case to follow; undefined: the one that differs most between the ends. */
  readonly caseId: string | undefined;
  /** Most rounds of a probe. */
  readonly rounds: number;
  /** Leaves aside what an earlier search of the same question found. */
  readonly fresh: boolean;
  readonly services?: MeasureServices;
}

/** One state compared with the first. */
export interface Probe {
  readonly index: number;
  readonly verdict: ProbeVerdict;
  /** The gate's sentence, or why there was nothing to compare. */
  readonly reason: string;
  /** Undefined where it could not be measured. */
  readonly change: MetricChange | undefined;
}

export interface BisectReport {
  readonly suite: string;
  readonly metric: MetricName;
  readonly threshold: number;
  readonly subject: BisectSubject['kind'];
  /** In order; the first is what the others are compared with. */
  readonly states: readonly string[];
  /** The case that was followed; undefined where the ends do not differ in any. */
  readonly caseId: string | undefined;
  /** Whether the metric got worse or better between the ends. */
  readonly direction: 'worse' | 'better' | undefined;
  /** In the order in which they were measured. */
  readonly probes: readonly Probe[];
  /** `probe`: interrupted before the answer. */
  readonly outcome: BisectStep;
  /** One sentence, without a full stop. */
  readonly answer: string;
  readonly errors: {
    /** Most comparisons that the search may make; each spends that part of the rates below. */
    readonly probes: number;
    /** Chance that any state is called changed that is not. */
    readonly falseAlarms: number;
    /** Chance that any state is called unchanged that changed by more than the threshold. */
    readonly missed: number;
  };
  readonly notices: readonly string[];
  /** Where the search is kept; run again to go on, or to see the answer again. */
  readonly stateFile: string;
  readonly interrupted: boolean;
}
