/** `tsrt-bench baseline rm NAME`. */
import { Args, Flags } from '@oclif/core';
import { BaseCommand } from '../base.ts';
import { CONFIG_FLAGS, openBaselines, settings, STORE_FLAG } from '../config-flags.ts';

export default class BaselineRm extends BaseCommand {
  static override summary = 'Delete a baseline, or its part for one suite or device';
  static override examples = ['<%= config.bin %> baseline rm v1.2 --force', '<%= config.bin %> baseline rm main --device nvidia-h200 --force'];
  static override args = { name: Args.string({ required: true, description: 'name of the baseline' }) };
  static override flags = {
    ...CONFIG_FLAGS,
    ...STORE_FLAG,
    suite: Flags.string({ description: 'only its part for this suite', helpValue: 'NAME' }),
    device: Flags.string({ description: 'only its part for this device', helpValue: 'NAME' }),
    force: Flags.boolean({ description: 'delete; without this flag, only say what would be deleted' }),
  };

  async run(): Promise<{ readonly deleted: readonly string[] }> {
    const { args, flags } = await this.parse(BaselineRm);
    const { config } = await settings(flags);
    const { deleteBaseline } = await import('../../workflows/baseline.ts');
    const choice = { home: await openBaselines(config), name: args.name, suite: flags.suite, device: flags.device };
    const deleted = await deleteBaseline(choice, flags.force);
    for (const path of deleted) this.log(`deleted ${path}`);
    return { deleted };
  }
}
