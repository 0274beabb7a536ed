/** `tsrt-bench baseline list`. */
import type { BaselineSummary } from '../../results/baselines.ts';
import { BaseCommand } from '../base.ts';
import { CONFIG_FLAGS, openBaselines, settings, STORE_FLAG } from '../config-flags.ts';

export default class BaselineList extends BaseCommand {
  static override summary = 'List the baselines: when each was measured, on what, and by which version';
  static override examples = ['<%= config.bin %> baseline list', '<%= config.bin %> baseline list --json'];
  static override flags = { ...CONFIG_FLAGS, ...STORE_FLAG };

  async run(): Promise<readonly BaselineSummary[]> {
    const { flags } = await this.parse(BaselineList);
    const { config } = await settings(flags);
    const [{ describeBaselines }, { renderBaselines }] = await Promise.all([
      import('../../workflows/baseline.ts'),
      import('../../report/baselines.ts'),
    ]);
    const summaries = await describeBaselines(await openBaselines(config));
    this.log(summaries.length > 0 ? renderBaselines(summaries) : 'no baselines yet; keep the newest run with `tsrt-bench baseline save main`');
    return summaries;
  }
}
