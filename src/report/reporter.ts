/** The contract of a reporter: a pure function from records to text. Writing the text is the caller's. */
import type { BenchRecord } from '../results/record.ts';

/** What there is to report: the records of one suite, in the order of its cases, and what is known of the terminal. */
export interface ReportInput {
  readonly suite: string;
  readonly records: readonly BenchRecord[];
  /** Variant that speed-ups are stated against, by its id or the start of one; undefined: the suite's as the records say, or the first completed. */
  readonly baselineVariant: string | undefined;
  /** Terminal colours wanted. */
  readonly color: boolean;
  /** Terminal width in columns, for formats that care. */
  readonly width: number;
}

/** A format of `report` and `run`: a pure function, so that the same records give the same text. */
export interface Reporter {
  /** The name given to `--format`. */
  readonly name: string;
  readonly description: string;
  readonly fileExtension: string;
  /** May be a promise: a format that needs a library loads it when it is asked for, and not with every command. */
  render(input: ReportInput): string | Promise<string>;
}
