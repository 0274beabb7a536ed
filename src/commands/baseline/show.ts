/** `tsrt-bench baseline show NAME`. */
import { Args, Flags } from '@oclif/core';
import type { ShownBaseline } from '../../workflows/baseline.ts';
import { BaseCommand } from '../base.ts';
import { CONFIG_FLAGS, openBaselines, settings, STORE_FLAG } from '../config-flags.ts';

export default class BaselineShow extends BaseCommand {
  static override summary = 'Show the results that a baseline holds';
  static override examples = ['<%= config.bin %> baseline show main', '<%= config.bin %> baseline show main --suite resnet50'];
  static override args = { name: Args.string({ required: true, description: 'name of the baseline' }) };
  static override flags = {
    ...CONFIG_FLAGS,
    ...STORE_FLAG,
    suite: Flags.string({ description: 'only this suite', helpValue: 'NAME' }),
    device: Flags.string({ description: 'only this device', helpValue: 'NAME' }),
  };

  async run(): Promise<ShownBaseline> {
    const { args, flags } = await this.parse(BaselineShow);
    const { config } = await settings(flags);
    const { showBaseline } = await import('../../workflows/baseline.ts');
    const color = process.stdout.isTTY === true && !process.env['NO_COLOR'];
    const choice = { home: await openBaselines(config), name: args.name, suite: flags.suite, device: flags.device };
    const shown = await showBaseline(choice, { color, width: process.stdout.columns || 160 });
    for (const { path, text, updates } of shown.parts) {
      this.log(`${path}\n${text}`);
      for (const { at, runId, verdict, forced } of updates) this.log(`since ${at.slice(0, 16).replace('T', ' ')}  run ${runId}${verdict === undefined ? '' : `, after a gate: ${verdict}`}${forced ? ', accepted by hand' : ''}`);
    }
    return shown;
  }
}
