/** What every command shares: global flags, the one place that prints an expected error, and exit statuses. */
import { Command, Errors, Flags } from '@oclif/core';
import { EXIT, reportError, TsrtError, type ErrorReport, type ExitStatus } from '../errors.ts';
import { nearest } from '../nearest.ts';
import { shellWord } from '../text.ts';
import { asInterruption } from './interrupt.ts';

/** Flags that decide which plugins are loaded and how much is said. */
export const GLOBAL_FLAGS = {
  plugin: Flags.string({
    description: 'load a plugin from this path or package; repeatable',
    multiple: true,
    helpGroup: 'GLOBAL',
    helpValue: 'PATH',
  }),
} as const;

/** A command: a declaration plus one call. Expected errors are printed once, here, with the way out. */
export abstract class BaseCommand extends Command {
  static override enableJsonFlag = true;

  #write: typeof process.stdout.write | undefined;

  /** With --json, standard output is one JSON document: what a plugin prints goes to standard error. */
  override async init(): Promise<void> {
    await super.init();
    // A flag takes the one word behind it, however often it may be given: else `report --plugin ./mine latest` names two plugins and no run.
    for (const flag of Object.values(this.ctor.flags)) if (flag.type === 'option' && flag.multiple) flag.multipleNonGreedy = true;
    if (!this.jsonEnabled()) return;
    this.#write = process.stdout.write;
    process.stdout.write = process.stderr.write.bind(process.stderr) as typeof process.stdout.write;
  }

  override logJson(json: unknown): void {
    if (this.#write) process.stdout.write = this.#write;
    super.logJson(json);
  }

  /** The command line as a shell takes it back. */
  protected get commandLine(): string {
    return ['tsrt-bench', ...(this.id?.split(':') ?? []), ...this.argv].map(shellWord).join(' ');
  }

  /** Sets the exit status without cutting off output that is still being written. */
  protected exitWith(status: ExitStatus): void {
    process.exitCode = status;
  }

  protected override async catch(thrown: Error): Promise<unknown> {
    if (thrown instanceof Errors.ExitError) throw thrown;
    const error = asInterruption(thrown);
    const usage = error instanceof Errors.CLIError;
    const report = usage ? usageReport(error, Object.keys(this.ctor.flags)) : reportError(error);
    process.exitCode = error instanceof TsrtError ? error.exitStatus : usage ? EXIT.usage : 70;
    if (this.jsonEnabled()) this.logJson({ error: report });
    else for (const line of formatError(report, usage ? `tsrt-bench ${this.id?.replaceAll(':', ' ')} --help` : undefined)) this.logToStderr(line);
    return undefined;
  }

  protected override toErrorJson(error: unknown): unknown {
    return { error: reportError(error) };
  }
}

/** Lines of a printed error: what is wrong, where, the likes of it, the way out. */
export function formatError(report: ErrorReport, help?: string): string[] {
  const internal = report.code === 'INTERNAL';
  const lines = [`error: ${report.plugin ? `[plugin ${report.plugin}] ` : ''}${report.message}`];
  if (report.place) lines.push(`   at: ${report.place}`);
  for (const detail of report.details ?? []) lines.push(`       ${detail}`);
  if (report.fix) lines.push(`  fix: ${report.fix}`);
  if (help) lines.push(`  see: ${help}`);
  if (internal) {
    lines.push('  fix: this is a bug in tsrt-bench or a plugin; please report it with the lines below');
    if (report.stack) lines.push(report.stack);
  }
  return lines;
}

/** What oclif says of a mistake, on one line, with the nearest of the command's flags for one that it lacks. */
export function usageReport(error: Error, flags: readonly string[]): ErrorReport {
  const unknown = 'flags' in error && Array.isArray(error.flags) ? error.flags.map(String) : [];
  const [first] = unknown;
  if (first !== undefined) {
    const guess = nearest(first.replace(/^--?/, ''), flags);
    const hint = guess === undefined ? '' : `; did you mean --${guess}?`;
    return { code: 'USAGE', message: `unknown flag${unknown.length > 1 ? 's' : ''} ${unknown.join(', ')}${hint}` };
  }
  const lines = error.message.split('\n').map((line) => line.trim().replace(/\s+/g, ' '));
  const advice = lines.findIndex((line) => /^(See more help|Note: )/.test(line));
  const said = (advice < 0 ? lines : lines.slice(0, advice)).filter((line) => line !== '').join(' ');
  return { code: 'USAGE', message: said.replace(/^Parsing (--\S+) E/, '$1: e') };
}
