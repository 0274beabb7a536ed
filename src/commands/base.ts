/** What every command shares: global flags, the one place that prints an expected error, and exit statuses. */
import { Command, Errors, Flags } from '@oclif/core';
import { EXIT, reportError, TsrtError, type ErrorReport, type ExitStatus } from '../errors.ts';

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

  /** Sets the exit status without cutting off output that is still being written. */
  protected exitWith(status: ExitStatus): void {
    process.exitCode = status;
  }

  protected override async catch(error: Error): Promise<unknown> {
    if (error instanceof Errors.ExitError) throw error;
    const usage = error instanceof Errors.CLIError;
    const report: ErrorReport = usage ? { code: 'USAGE', message: firstLine(error.message) } : reportError(error);
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

function firstLine(message: string): string {
  return message.split('\n')[0] ?? message;
}
