/** `tsrt-bench history [SUITE]`. */
import { Args, Flags } from '@oclif/core';
import { METRIC_NAMES } from '../gate/metrics.ts';
import type { HistoryResult } from '../workflows/history.ts';
import { BaseCommand } from './base.ts';
import { CONFIG_FLAGS, settings } from './config-flags.ts';

export default class History extends BaseCommand {
  static override summary = 'Show each case over the stored runs, and where its level changed';
  static override description = 'Changes of level are found by a permutation test on ranks. If runs are independent of each other, 1 % of cases have a false change. The correlation of each run with the one before is estimated and allowed for; if it is a half, up to 6 % have a false change. A single outlier is not a change.';
  static override examples = ['<%= config.bin %> history', '<%= config.bin %> history resnet50 --metric throughput --case b8', '<%= config.bin %> history resnet50 --metric top1', '<%= config.bin %> history resnet50 --last 50 --json'];
  static override args = { suite: Args.string({ description: "a suite's name [default: that of the newest run]" }) };
  static override flags = {
    ...CONFIG_FLAGS,
    metric: Flags.option({ options: METRIC_NAMES, default: 'latency-p50', description: 'metric to show' })(),
    case: Flags.string({ description: 'only cases whose id contains this text', helpValue: 'TEXT' }),
    last: Flags.integer({ description: 'only this many of the newest runs', default: 200, min: 1, helpValue: 'N' }),
  };

  async run(): Promise<HistoryResult> {
    const { args, flags } = await this.parse(History);
    const { config } = await settings({ plugin: flags.plugin, results: flags.results, cache: flags.cache });
    const [{ readHistory }, { describeSpan, renderHistories }] = await Promise.all([import('../workflows/history.ts'), import('../report/history.ts')]);
    const { results } = config;
    const history = await readHistory({ results, suite: args.suite, metric: flags.metric, caseFilter: flags.case, last: flags.last });
    this.log(`${describeSpan(history.suite, history.histories)}\n\n${renderHistories(history.histories).trimEnd()}`);
    for (const notice of history.notices) this.logToStderr(`note: ${notice}`);
    return history;
  }
}
