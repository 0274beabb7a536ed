/**
 * Expected errors: what a user can get into, with the way out. Everything else is a bug and is thrown plainly.
 *
 * The prior art is clig.dev and cargo's diagnostics: one line that says what is wrong, one that says what to do.
 */

/** Exit statuses of the command line; 1 is reserved for "regressed" so that a gate's answer is never mistaken. */
export const EXIT = {
  ok: 0,
  /** The gate found a regression, `verify` a mismatch, or a case of a run failed: the tool worked, the answer is no. */
  failed: 1,
  /** Wrong usage or broken input. */
  usage: 2,
  /** Nothing comparable: no baseline, or one of another device. */
  incomparable: 3,
  /** The gate could not decide within its budget. */
  inconclusive: 4,
  /** A device, driver or package that the request needs is missing. */
  unavailable: 5,
  /** Ended by the user; what was finished is kept (128 + SIGINT, as shells have it). */
  interrupted: 130,
} as const;

/** One of the exit statuses of the command line. */
export type ExitStatus = (typeof EXIT)[keyof typeof EXIT];

/** Codes of expected errors, with the exit status each gives. Stable: scripts match on them in `--json` output. */
export const ERROR_EXIT = {
  USAGE: EXIT.usage,
  CONFIG_INVALID: EXIT.usage,
  SUITE_NOT_FOUND: EXIT.usage,
  SUITE_INVALID: EXIT.usage,
  MODEL_NOT_FOUND: EXIT.usage,
  MODEL_INVALID: EXIT.usage,
  MODEL_UNSUPPORTED: EXIT.usage,
  MODEL_DOWNLOAD: EXIT.unavailable,
  DATASET_INVALID: EXIT.usage,
  CALIBRATION_INVALID: EXIT.usage,
  ENGINE_INVALID: EXIT.usage,
  ENGINE_INCOMPATIBLE: EXIT.usage,
  RESULTS_NOT_FOUND: EXIT.usage,
  RESULTS_INVALID: EXIT.usage,
  RESULTS_LOCKED: EXIT.usage,
  RESULTS_UNWRITABLE: EXIT.usage,
  STORE_UNAVAILABLE: EXIT.unavailable,
  BASELINE_NOT_FOUND: EXIT.incomparable,
  BASELINE_INCOMPARABLE: EXIT.incomparable,
  BACKEND_UNKNOWN: EXIT.usage,
  BACKEND_UNAVAILABLE: EXIT.unavailable,
  BACKEND_FAILED: EXIT.unavailable,
  DEVICE_LOST: EXIT.unavailable,
  OUT_OF_MEMORY: EXIT.unavailable,
  /** Too many requests wait. */
  OVERLOADED: EXIT.unavailable,
  PRECISION_UNPROVEN: EXIT.unavailable,
  PLUGIN_INVALID: EXIT.usage,
  /** Code of a plugin threw. */
  PLUGIN_FAILED: EXIT.usage,
  INTERRUPTED: EXIT.interrupted,
} as const satisfies Record<string, ExitStatus>;

/** What kind of expected error it is: what programs match on. */
export type ErrorCode = keyof typeof ERROR_EXIT;

/** What an expected error says beside its message. */
export interface ErrorOptions {
  /** The way out, as a sentence or a command. */
  readonly fix?: string;
  /** Where: a file, `file:line`, or a path inside a document. */
  readonly place?: string;
  /** Further lines, for reports that list all of a kind at once. */
  readonly details?: readonly string[];
  /** The plugin that raised it. */
  readonly plugin?: string;
  readonly cause?: unknown;
}

/** An expected error. `message` is one sentence without a trailing full stop's worth of advice; the advice is `fix`. */
export class TsrtError extends Error {
  override readonly name = 'TsrtError';
  readonly code: ErrorCode;
  readonly fix: string | undefined;
  readonly place: string | undefined;
  readonly details: readonly string[];
  readonly plugin: string | undefined;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.fix = options.fix;
    this.place = options.place;
    this.details = options.details ?? [];
    this.plugin = options.plugin;
  }

  get exitStatus(): ExitStatus {
    return ERROR_EXIT[this.code];
  }
}

/** An expected error with the place where it was found, unless it names one itself; anything else as it is. */
export function withPlace(error: unknown, place: string): unknown {
  if (!(error instanceof TsrtError) || error.place !== undefined) return error;
  const { code, message, fix, details, plugin, cause } = error;
  return new TsrtError(code, message, { place, details, cause, ...(fix !== undefined && { fix }), ...(plugin !== undefined && { plugin }) });
}

/** The form that `--json` prints and that crosses process borders. */
export interface ErrorReport {
  readonly code: ErrorCode | 'INTERNAL';
  readonly message: string;
  readonly fix?: string;
  readonly place?: string;
  readonly details?: readonly string[];
  readonly plugin?: string;
  /** Only for bugs. */
  readonly stack?: string;
}

/** Any thrown value as data, which crosses the border of a process or a thread; {@link errorFrom} makes an error of it again. */
export function reportError(error: unknown): ErrorReport {
  if (error instanceof TsrtError) {
    return {
      code: error.code,
      message: error.message,
      ...(error.fix !== undefined && { fix: error.fix }),
      ...(error.place !== undefined && { place: error.place }),
      ...(error.details.length > 0 && { details: error.details }),
      ...(error.plugin !== undefined && { plugin: error.plugin }),
    };
  }
  if (error instanceof Error) {
    return { code: 'INTERNAL', message: error.message, ...(error.stack !== undefined && { stack: error.stack }) };
  }
  return { code: 'INTERNAL', message: String(error) };
}

/** What {@link reportError} gave, as an error again: on the other side of a process' or a thread's border. */
export function errorFrom({ code, message, stack, ...rest }: ErrorReport): Error {
  if (code !== 'INTERNAL') return new TsrtError(code, message, rest);
  const error = new Error(message);
  if (stack !== undefined) error.stack = stack;
  return error;
}

/** Where a plugin's code was when it threw: the innermost frame that is neither Node's nor ours; undefined where there is none. */
export function plainFrame(stack: string): string | undefined {
  // The folder of this tool's own code: a frame in it says nothing to a plugin's author.
  const own = import.meta.url.replace(/[^/]*$/, '');
  const frames = [...stack.matchAll(/^\s+at (.*)$/gm)].map(([, frame]) => frame!);
  return frames.find((frame) => /file:|[/\\]/.test(frame) && !frame.includes('node:') && !frame.includes(own) && !frame.includes(own.replace('file://', '')))?.replace('file://', '');
}

/** What a plugin's code threw, with the plugin's name: an expected error keeps its code, anything else becomes PLUGIN_FAILED. */
export function pluginError(plugin: string, doing: string, error: unknown): TsrtError {
  if (error instanceof TsrtError) {
    if (error.plugin !== undefined) return error;
    const { code, message, fix, place, details } = error;
    return new TsrtError(code, message, { plugin, details, cause: error, ...(fix !== undefined && { fix }), ...(place !== undefined && { place }) });
  }
  const reason = error instanceof Error ? error.message : String(error);
  const where = error instanceof Error ? plainFrame(error.stack ?? '') : undefined;
  return new TsrtError('PLUGIN_FAILED', `${doing} threw: ${reason}`, {
    plugin,
    ...(where !== undefined && { place: where }),
    fix: 'mend the plugin (tsrt-bench plugin test shows the smallest input that does it), or run without it',
    cause: error,
  });
}

/** Runs a plugin's code; what it throws, at once or later, gets the plugin's name. `keep` are errors that pass as they are. */
export function inPlugin<T>(plugin: string, doing: string, work: () => T, keep: (error: unknown) => boolean = () => false): T {
  const fail = (error: unknown): never => {
    throw keep(error) ? error : pluginError(plugin, doing, error);
  };
  try {
    const result = work();
    return result instanceof Promise ? (result.catch(fail) as T) : result;
  } catch (error) {
    return fail(error);
  }
}
