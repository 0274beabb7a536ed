/** `tsrt-bench report [SOURCE]`. */
import { Args, Flags } from '@oclif/core';
import type { ReportResult } from '../workflows/report.ts';
import { BaseCommand } from './base.ts';
import { CONFIG_FLAGS, openBaselines, settings, STORE_FLAG } from './config-flags.ts';

export default class Report extends BaseCommand {
  static override summary = 'Show stored results as a table, markdown, an HTML page with charts, CSV, JSON, JUnit XML or GitHub annotations';
  static override examples = [
    '<%= config.bin %> report',
    '<%= config.bin %> report --list',
    '<%= config.bin %> report main --format markdown --output results.md',
    '<%= config.bin %> report --format html --output report.html',
    '<%= config.bin %> report 20260131T080509Z-a1b2c3 --format csv',
  ];
  static override args = {
    source: Args.string({ default: 'latest', description: 'a run, a baseline, a .jsonl file, or `latest`' }),
  };
  static override flags = {
    ...CONFIG_FLAGS,
    ...STORE_FLAG,
    format: Flags.string({ char: 'f', default: 'table', description: 'table, markdown, html, csv, json, junit, github, or a plugin\'s', helpValue: 'FORMAT' }),
    output: Flags.string({ char: 'o', description: 'write to this file instead of the terminal', helpValue: 'FILE' }),
    suite: Flags.string({ description: 'use only runs and baselines of this suite', helpValue: 'NAME' }),
    'baseline-variant': Flags.string({ description: "variant that speed-ups are relative to [default: the suite's]", helpValue: 'ID' }),
    list: Flags.boolean({ description: 'list the stored runs instead', exclusive: ['format', 'output'] }),
  };

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(Report);
    const { config } = await settings(flags);
    const { reportRecords, reportRuns } = await import('../workflows/report.ts');
    if (flags.list) {
      const runs = await reportRuns(config.results, flags.suite);
      for (const run of runs) this.log(`${run.runId}  ${run.suite}  ${run.files.map((file) => file.device).join(', ')}`);
      if (runs.length === 0) this.log(`no runs under ${config.results}`);
      return runs;
    }
    const { openRegistry } = await import('../workflows/registry.ts');
    const registry = await openRegistry(config.plugins);
    const result: ReportResult = await reportRecords({
      results: config.results,
      store: await openBaselines(config),
      source: args.source,
      suite: flags.suite,
      pluginSuites: registry.suites,
      reporter: registry.reporter(flags.format),
      baselineVariant: flags['baseline-variant'],
      color: flags.output === undefined && process.stdout.isTTY === true && !process.env['NO_COLOR'],
      width: flags.output === undefined ? process.stdout.columns || 160 : 160,
    });
    for (const notice of result.notices) this.logToStderr(`note: ${notice}`);
    const { writeText } = await import('../workflows/output.ts');
    if (flags.output === undefined) this.log(result.text.trimEnd());
    else await writeText(flags.output, result.text);
    return result;
  }
}
