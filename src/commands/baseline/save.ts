/** `tsrt-bench baseline save NAME [SOURCE]`. */
import { Args, Flags } from '@oclif/core';
import { BaseCommand } from '../base.ts';
import { CONFIG_FLAGS, openBaselines, settings, STORE_FLAG } from '../config-flags.ts';
import type { SaveResult } from '../../workflows/baseline.ts';

export default class BaselineSave extends BaseCommand {
  static override summary = 'Keep the completed cases of a run under a name, to compare with later';
  static override examples = [
    '<%= config.bin %> baseline save main',
    '<%= config.bin %> baseline save v1.2 20260131T080509Z-a1b2c3',
    '<%= config.bin %> baseline save main --force',
  ];
  static override args = {
    name: Args.string({ required: true, description: 'name of the baseline' }),
    source: Args.string({ default: 'latest', description: 'a run, a .jsonl file, another baseline, or `latest`' }),
  };
  static override flags = {
    ...CONFIG_FLAGS,
    ...STORE_FLAG,
    suite: Flags.string({ description: 'use only runs of this suite', helpValue: 'NAME' }),
    force: Flags.boolean({ description: 'overwrite what is stored under the name for the same suite and device' }),
  };

  async run(): Promise<SaveResult> {
    const { args, flags } = await this.parse(BaselineSave);
    const { config } = await settings(flags);
    const { saveAsBaseline } = await import('../../workflows/baseline.ts');
    const { results } = config;
    const saved = await saveAsBaseline({ results, store: await openBaselines(config), name: args.name, source: args.source, suite: flags.suite, force: flags.force });
    for (const place of saved.places) this.log(`saved ${place.cases} cases of ${saved.label} on ${place.device}: ${place.path}`);
    for (const caseId of saved.leftOut) this.log(`left out ${caseId}: it did not complete`);
    for (const notice of saved.notices) this.logToStderr(`note: ${notice}`);
    return saved;
  }
}
