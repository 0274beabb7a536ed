/** `tsrt-bench compare BASELINE [CANDIDATE]`. */
import { Args, Flags } from '@oclif/core';
import { BaseCommand } from './base.ts';
import { CONFIG_FLAGS, openBaselines, settings, STORE_FLAG } from './config-flags.ts';

export default class Compare extends BaseCommand {
  static override summary = 'Compare two runs case by case: ratios with intervals, without a verdict';
  static override examples = [
    '<%= config.bin %> compare main',
    '<%= config.bin %> compare 20260131T080509Z-a1b2c3 latest',
    '<%= config.bin %> compare before.jsonl after.jsonl --format markdown',
  ];
  static override args = {
    baseline: Args.string({ required: true, description: 'what to compare with: a run, a baseline, a .jsonl file, or `latest`' }),
    candidate: Args.string({ default: 'latest', description: 'what is compared: likewise' }),
  };
  static override flags = {
    ...CONFIG_FLAGS,
    ...STORE_FLAG,
    format: Flags.option({ char: 'f', options: ['table', 'markdown', 'json'] as const, default: 'table', description: 'form of the answer' })(),
    suite: Flags.string({ description: 'take runs and baselines of this suite only', helpValue: 'NAME' }),
    'allow-different-device': Flags.boolean({ description: 'compare although the two sides were measured on different devices' }),
  };

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(Compare);
    const { config } = await settings(flags);
    const [{ compareRecords }, { comparisonData, renderComparison }] = await Promise.all([
      import('../workflows/compare.ts'),
      import('../report/comparison.ts'),
    ]);
    const comparison = await compareRecords({
      results: config.results,
      store: await openBaselines(config),
      baseline: args.baseline,
      candidate: args.candidate,
      suite: flags.suite,
      allowDifferentDevice: flags['allow-different-device'],
    });
    const color = process.stdout.isTTY === true && !process.env['NO_COLOR'];
    this.log(renderComparison(comparison, flags.format, color).trimEnd());
    return comparisonData(comparison);
  }
}
