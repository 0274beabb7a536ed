/** `tsrt-bench gate [SUITE]`. */
import { Args, Flags } from '@oclif/core';
import type { GateReport } from '../gate/judge.ts';
import { BaseCommand } from './base.ts';
import { CONFIG_FLAGS, settings } from './config-flags.ts';

export default class Gate extends BaseCommand {
  static override summary = 'Say whether a run got worse than a baseline';
  static override description =
    'Exit status: 0 passed, 1 regressed, 2 usage or broken input, 3 no comparable baseline, 4 inconclusive. A case regressed only where the whole interval of its change lies beyond the threshold.';
  static override examples = [
    '<%= config.bin %> gate',
    '<%= config.bin %> gate suites/resnet50 --baseline main --format junit --output gate.xml',
    '<%= config.bin %> gate --threshold latency-p50=3 --threshold throughput=off',
  ];
  static override args = { suite: Args.string({ description: "a suite's folder, file or name [default: that of the newest run]" }) };
  static override flags = {
    ...CONFIG_FLAGS,
    baseline: Flags.string({ char: 'b', default: 'main', description: 'baseline, run or .jsonl file to compare with', helpValue: 'NAME' }),
    candidate: Flags.string({ char: 'c', default: 'latest', description: 'run or .jsonl file to judge', helpValue: 'NAME' }),
    threshold: Flags.string({ multiple: true, description: "worsening that is still noise, over the suite's; repeatable", helpValue: 'METRIC=NUMBER|off' }),
    confidence: Flags.string({ description: 'confidence of the intervals, such as 0.99', helpValue: 'NUMBER' }),
    format: Flags.option({
      char: 'f',
      options: ['table', 'markdown', 'json', 'junit', 'github'] as const,
      default: 'table',
      description: "form of the answer; github also adds to the job's summary",
    })(),
    output: Flags.string({ char: 'o', description: 'write to this file as well as one line to the terminal', helpValue: 'FILE' }),
    inconclusive: Flags.option({ options: ['fail', 'pass'] as const, default: 'fail', description: 'what an undecided gate exits with: 4 or 0' })(),
    'ignore-missing': Flags.boolean({ description: 'pass cases that the baseline has and the run did not try' }),
    'allow-different-device': Flags.boolean({ description: 'compare although the baseline is of another device' }),
  };

  async run(): Promise<GateReport> {
    const { args, flags } = await this.parse(Gate);
    const { config } = await settings(flags);
    const [{ runGate }, { exitStatusOf }, { parseConfidence }] = await Promise.all([
      import('../workflows/gate.ts'),
      import('../gate/judge.ts'),
      import('../gate/policy.ts'),
    ]);
    const report = await runGate({
      results: config.results,
      suite: args.suite,
      baseline: flags.baseline,
      candidate: flags.candidate,
      thresholds: flags.threshold ?? [],
      confidence: parseConfidence(flags.confidence),
      allowDifferentDevice: flags['allow-different-device'],
      ignoreMissing: flags['ignore-missing'],
    });
    const { publishGate } = await import('../workflows/publish-gate.ts');
    this.log(
      await publishGate(report, {
        format: flags.format,
        output: flags.output,
        summaryFile: flags.format === 'github' ? process.env['GITHUB_STEP_SUMMARY'] : undefined,
        color: process.stdout.isTTY === true && !process.env['NO_COLOR'],
      }),
    );
    this.exitWith(exitStatusOf(report.verdict, flags.inconclusive));
    return report;
  }
}
