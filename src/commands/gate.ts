/** `tsrt-bench gate [SUITE]`. */
import { Args, Flags } from '@oclif/core';
import { EXIT, type ErrorReport, reportError, TsrtError } from '../errors.ts';
import type { GateReport } from '../gate/judge.ts';
import type { SelfTestResult } from '../workflows/paired/self-test.ts';
import { BaseCommand, formatError } from './base.ts';
import type { UpdateOutcome } from '../workflows/gate-update.ts';
import { CONFIG_FLAGS, settings, STORE_FLAG } from './config-flags.ts';
import { checkUpdateFlags, judgeStored, type StoredFlags, type StoredJudgement, storeUpdate, UPDATE_FLAGS } from './gate-stored.ts';
import { MEASURED_FLAGS, measureGate, parseDetect, STORED_ONLY, VERDICT_ONLY, wantsMeasurement } from './gate-measure.ts';
import { refuseStray } from './stray-flags.ts';

/** The verdict, and what `--update` made of the baseline or why it did not. */
type UpdatedReport = GateReport & { readonly update?: UpdateOutcome; readonly refusal?: ErrorReport };

export default class Gate extends BaseCommand {
  static override summary = 'Say whether a run got worse than a baseline';
  static override description =
    'Exit status: 0 passed, 1 regressed, 2 usage or broken input, 3 no comparable baseline, 4 inconclusive. A case has passed only if its interval lies within the threshold. It has regressed only if the change is beyond chance over all cases together. Otherwise it is inconclusive.';
  static override examples = [
    '<%= config.bin %> gate',
    '<%= config.bin %> gate suites/resnet50 --baseline main --format junit --output gate.xml',
    '<%= config.bin %> gate --threshold latency-p50=3 --threshold throughput=off',
    '<%= config.bin %> gate suites/resnet50 --measure --budget 10m',
    '<%= config.bin %> gate suites/resnet50 --against main.engine',
    '<%= config.bin %> gate suites/resnet50 --against origin/main --prepare "npm run build"',
    '<%= config.bin %> gate suites/resnet50 --self-test --detect 5%',
    '<%= config.bin %> gate --store s3://perf/baselines --update --accept resnet50/fp16',
  ];
  static override args = { suite: Args.string({ description: "a suite's folder, file or name [default: that of the newest run]" }) };
  static override flags = {
    ...CONFIG_FLAGS,
    ...STORE_FLAG,
    ...MEASURED_FLAGS,
    ...UPDATE_FLAGS,
    baseline: Flags.string({ char: 'b', default: 'main', description: 'baseline, run or .jsonl file to compare with', helpValue: 'NAME' }),
    candidate: Flags.string({ char: 'c', default: 'latest', description: 'run or .jsonl file to judge', helpValue: 'NAME' }),
    threshold: Flags.string({ multiple: true, description: "largest worsening of a metric that may pass, instead of the suite's threshold; repeatable", helpValue: 'METRIC=NUMBER|off' }),
    confidence: Flags.string({ description: 'confidence of the intervals, such as 0.99', helpValue: 'NUMBER' }),
    format: Flags.option({
      char: 'f',
      options: ['table', 'markdown', 'json', 'junit', 'github', 'gitlab', 'sarif'] as const,
      default: 'table',
      description: "format of the answer; github also adds to the job's summary",
    })(),
    quiet: Flags.boolean({ char: 'q', description: 'print no progress' }),
    output: Flags.string({ char: 'o', description: 'write the answer to this file, and one line to the terminal', helpValue: 'FILE' }),
    inconclusive: Flags.option({ options: ['fail', 'pass'] as const, default: 'fail', description: 'exit status of an undecided gate: 4 (fail) or 0 (pass)' })(),
    'ignore-missing': Flags.boolean({ description: 'let cases pass that the baseline has and the run did not try' }),
    'allow-different-device': Flags.boolean({ description: 'compare even if the baseline is from another device' }),
  };

  async run(): Promise<UpdatedReport | SelfTestResult> {
    const parsed = await this.parse(Gate);
    const { args, flags } = parsed;
    const detect = parseDetect(flags.detect);
    const measured = wantsMeasurement(flags);
    checkUpdateFlags(flags, measured);
    if (measured) refuseStray(parsed, STORED_ONLY, 'is for a stored baseline, but both sides are measured now');
    if (flags['self-test']) refuseStray(parsed, VERDICT_ONLY, 'is for a verdict, but --self-test gives none', 'leave it out; --json prints its answer for programs');
    const { plugin, results, cache, store } = flags;
    if (flags.measure && flags.candidate !== 'latest') throw new TsrtError('USAGE', '--measure makes the run that is judged, but --candidate names another', { fix: 'leave out one of them' });
    const resolved = await settings({ plugin, results, cache, store });
    const stored = measured ? undefined : await judgeStored(args.suite, flags, resolved);
    const answer = stored?.report ?? (await measureGate(args.suite, flags, resolved));
    if ('alarms' in answer) {
      const { renderSelfTest } = await import('../report/self-test.ts');
      this.log(renderSelfTest(answer, detect).trimEnd());
      return answer;
    }
    const [{ publishGate }, { exitStatusOf }] = await Promise.all([import('../workflows/publish-gate.ts'), import('../gate/judge.ts')]);
    this.log(
      await publishGate(answer, {
        format: flags.format,
        output: flags.output,
        summaryFile: flags.format === 'github' ? process.env['GITHUB_STEP_SUMMARY'] : undefined,
        color: process.stdout.isTTY === true && !process.env['NO_COLOR'],
      }),
    );
    // A regression that was found stays one; what was stopped before it was decided is not passed.
    if (process.exitCode !== EXIT.interrupted || answer.verdict === 'regressed') this.exitWith(exitStatusOf(answer.verdict, flags.inconclusive));
    return stored && flags.update ? this.update(stored, flags) : answer;
  }

  /** A refusal leaves the verdict's own status; an update that is made is a pass, whatever was accepted. */
  private async update(stored: StoredJudgement, flags: StoredFlags & { readonly format: string }): Promise<UpdatedReport> {
    const { report } = stored;
    try {
      const [update, { renderUpdate }] = await Promise.all([storeUpdate(stored, flags), import('../report/update.ts')]);
      const text = renderUpdate(update);
      if (flags.format === 'table') this.log(`\n${text}`);
      else this.logToStderr(text);
      this.exitWith(EXIT.ok);
      return { ...report, update };
    } catch (error) {
      if (report.verdict === 'passed' || !(error instanceof TsrtError) || error.code !== 'USAGE') throw error;
      const refusal = reportError(error);
      for (const line of formatError(refusal)) this.logToStderr(line);
      return { ...report, refusal };
    }
  }
}
