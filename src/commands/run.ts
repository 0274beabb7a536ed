/** `tsrt-bench run SUITE`. */
import { Args, Flags } from '@oclif/core';
import { EXIT } from '../errors.ts';
import type { RunResult } from '../workflows/run/request.ts';
import { BaseCommand, formatError } from './base.ts';
import { CONFIG_FLAGS, describeSettings, settings } from './config-flags.ts';
import { DEVICE_FLAG } from './device-flag.ts';
import { RUN_ENGINE_FLAGS } from './engine-flags.ts';
import { refuseStray } from './stray-flags.ts';
import { parseDuration, SUITE_FLAGS, suiteOverrides, withConfig } from './suite-flags.ts';
import { TUNE_FLAGS, tuningRequest } from './tune-flags.ts';
import { watched } from './watched.ts';

export default class Run extends BaseCommand {
  static override summary = "Compile a suite's model into engine variants, measure them, and print one table";
  static override description =
    'Each case is measured in worker processes of its own, in interleaved rounds; its record is on disk as soon as it ends. Ctrl-C keeps the finished cases, and --resume continues the run.';
  static override examples = [
    '<%= config.bin %> run suites/resnet50',
    '<%= config.bin %> run resnet50 --model resnet50.onnx --dataset ./photos --batch 1,8',
    '<%= config.bin %> run model.onnx --batch 1,8 --backend webgpu --precision fp16',
    '<%= config.bin %> run suites/smoke --rounds 10 --time 2s --json',
    '<%= config.bin %> run suites/resnet50 --resume',
    '<%= config.bin %> run suites/resnet50 --engine resnet50-b1.engine,resnet50-b8.engine',
  ];
  static override args = { suite: Args.string({ required: true, description: "a suite's folder, file or name; or an ONNX file, which gets seeded inputs" }) };
  static override flags = {
    ...CONFIG_FLAGS,
    ...SUITE_FLAGS,
    ...RUN_ENGINE_FLAGS,
    budget: Flags.string({ description: 'start no round after this time, such as 3m', helpValue: 'TIME' }),
    ...DEVICE_FLAG,
    ...TUNE_FLAGS,
    accuracy: Flags.boolean({ allowNo: true, default: true, description: 'assess every variant on the dataset; with --no-accuracy only one answer of each case is checked, before its timing' }),
    resume: Flags.boolean({ description: 'continue the latest unfinished run of this suite' }),
    quiet: Flags.boolean({ char: 'q', description: 'print no progress' }),
    'print-config': Flags.boolean({ description: 'print the settings in force and where each came from, and exit' }),
  };

  async run(): Promise<RunResult | unknown> {
    const parsed = await this.parse(Run);
    const { args, flags } = parsed;
    if (!flags.engine) refuseStray(parsed, ['rebuild'], 'goes with --engine');
    if (!flags.accuracy) refuseStray(parsed, ['limit'], 'bounds the accuracy run, and --no-accuracy leaves that out');
    const asked = suiteOverrides(flags);
    const resolved = await settings({ ...flags, timeMs: asked.timeMs, batch: asked.batch, precision: asked.precision });
    if (flags['print-config']) {
      for (const line of describeSettings(resolved)) this.log(line);
      return resolved;
    }
    const { config } = resolved;
    const overrides = {
      // What a configuration file says of variants is for engines that are built.
      ...(flags.engine === undefined ? withConfig(asked, config) : asked),
      rounds: config.rounds,
      timeMs: config.timeMs,
      budgetMs: flags.budget === undefined ? undefined : parseDuration('--budget', flags.budget),
    };
    const { runSuite } = await import('../workflows/run/run.ts');
    const result = await watched({ quiet: flags.quiet, json: this.jsonEnabled(), stopping: 'the finished cases are kept' }, (watch) =>
      runSuite({
        suite: args.suite,
        settings: resolved,
        overrides,
        modelFile: flags.model,
        engineFiles: flags.engine ?? [],
        rebuild: flags.rebuild,
        limit: flags.limit,
        accuracy: flags.accuracy,
        device: flags.device,
        tuning: tuningRequest(flags),
        resume: flags.resume,
        command: this.commandLine,
        ...watch,
      }),
    );
    const { describeRun } = await import('./run-summary.ts');
    const color = process.stdout.isTTY === true && !process.env['NO_COLOR'];
    this.log(describeRun(result, { suite: args.suite, flags }, { color, width: process.stdout.columns || 120 }));
    if (result.unsaved) for (const line of formatError(result.unsaved)) this.logToStderr(line);
    if (result.unsaved) this.exitWith(EXIT.usage);
    else if (result.interrupted) this.exitWith(EXIT.interrupted);
    else if (result.records.some(({ status }) => status === 'failed') || result.records.every(({ status }) => status !== 'completed')) this.exitWith(EXIT.failed);
    return result;
  }
}
