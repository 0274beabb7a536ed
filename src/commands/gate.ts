/** `tsrt-bench gate [SUITE]`. */
import { Args, Flags } from '@oclif/core';
import type { GateReport } from '../gate/judge.ts';
import type { SelfTestResult } from '../workflows/paired/self-test.ts';
import { BaseCommand } from './base.ts';
import { CONFIG_FLAGS, settings } from './config-flags.ts';
import { MEASURED_FLAGS, measureGate, parseDetect, wantsMeasurement } from './gate-measure.ts';

export default class Gate extends BaseCommand {
  static override summary = 'Say whether a run got worse than a baseline';
  static override description =
    'Exit status: 0 passed, 1 regressed, 2 usage or broken input, 3 no comparable baseline, 4 inconclusive. A case passes only where its interval lies within the threshold, and regressed only where the change is beyond chance over all cases together; what is neither is inconclusive.';
  static override examples = [
    '<%= config.bin %> gate',
    '<%= config.bin %> gate suites/resnet50 --baseline main --format junit --output gate.xml',
    '<%= config.bin %> gate --threshold latency-p50=3 --threshold throughput=off',
    '<%= config.bin %> gate suites/resnet50 --against main.engine',
    '<%= config.bin %> gate suites/resnet50 --against origin/main --prepare "npm run build"',
    '<%= config.bin %> gate suites/resnet50 --self-test --detect 5%',
  ];
  static override args = { suite: Args.string({ description: "a suite's folder, file or name [default: that of the newest run]" }) };
  static override flags = {
    ...CONFIG_FLAGS,
    ...MEASURED_FLAGS,
    baseline: Flags.string({ char: 'b', default: 'main', description: 'baseline, run or .jsonl file to compare with', helpValue: 'NAME' }),
    candidate: Flags.string({ char: 'c', default: 'latest', description: 'run or .jsonl file to judge', helpValue: 'NAME' }),
    threshold: Flags.string({ multiple: true, description: "worsening that must not pass unseen, over the suite's; repeatable", helpValue: 'METRIC=NUMBER|off' }),
    confidence: Flags.string({ description: 'confidence of the intervals, such as 0.99', helpValue: 'NUMBER' }),
    format: Flags.option({
      char: 'f',
      options: ['table', 'markdown', 'json', 'junit', 'github', 'gitlab', 'sarif'] as const,
      default: 'table',
      description: "form of the answer; github also adds to the job's summary",
    })(),
    output: Flags.string({ char: 'o', description: 'write to this file as well as one line to the terminal', helpValue: 'FILE' }),
    inconclusive: Flags.option({ options: ['fail', 'pass'] as const, default: 'fail', description: 'what an undecided gate exits with: 4 or 0' })(),
    'ignore-missing': Flags.boolean({ description: 'pass cases that the baseline has and the run did not try' }),
    'allow-different-device': Flags.boolean({ description: 'compare although the baseline is of another device' }),
  };

  async run(): Promise<GateReport | SelfTestResult> {
    const { args, flags } = await this.parse(Gate);
    const detect = parseDetect(flags.detect);
    const measured = wantsMeasurement(flags);
    const resolved = await settings({ plugin: flags.plugin, results: flags.results, cache: flags.cache });
    const answer = measured ? await measureGate(args.suite, flags, resolved) : await this.judgeRecords(args.suite, flags, resolved.config.results);
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
    this.exitWith(exitStatusOf(answer.verdict, flags.inconclusive));
    return answer;
  }

  private async judgeRecords(suite: string | undefined, flags: RecordFlags, results: string): Promise<GateReport> {
    const [{ runGate }, { parseConfidence }] = await Promise.all([import('../workflows/gate.ts'), import('../gate/policy.ts')]);
    return runGate({
      results,
      suite,
      baseline: flags.baseline,
      candidate: flags.candidate,
      thresholds: flags.threshold ?? [],
      confidence: parseConfidence(flags.confidence),
      allowDifferentDevice: flags['allow-different-device'],
      ignoreMissing: flags['ignore-missing'],
    });
  }
}

interface RecordFlags {
  readonly baseline: string;
  readonly candidate: string;
  readonly threshold: readonly string[] | undefined;
  readonly confidence: string | undefined;
  readonly 'allow-different-device': boolean;
  readonly 'ignore-missing': boolean;
}
