/** `tsrt-bench plugin test PATH`. */
import { Args, Flags } from '@oclif/core';
import { EXIT, TsrtError } from '../../errors.ts';
import { BaseCommand } from '../base.ts';
import { CONFIG_FLAGS, settings } from '../config-flags.ts';
import { DEVICE_FLAG } from '../device-flag.ts';
import { onInterrupt } from '../interrupt.ts';
import { parseDuration } from '../suite-flags.ts';
import type { PluginReport } from '../../workflows/plugin-test.ts';

export default class PluginTest extends BaseCommand {
  static override summary = "Check a plugin: its ops with random inputs, with canaries around buffers and on every route against the reference; its other parts against their contracts";
  static override examples = ['<%= config.bin %> plugin test ./fast-gelu', '<%= config.bin %> plugin test ./fast-gelu --device swiftshader --effort 5'];
  static override args = { plugin: Args.string({ required: true, description: 'path or name of the plugin' }) };
  static override flags = {
    ...CONFIG_FLAGS,
    ...DEVICE_FLAG,
    dataset: Flags.string({ description: "folder for the plugin's datasets", helpValue: 'DIR' }),
    seed: Flags.integer({ description: 'seed of the inputs', default: 1, min: 0, helpValue: 'N' }),
    effort: Flags.string({ description: 'how many times the usual number of inputs', default: '1', helpValue: 'X' }),
    timeout: Flags.string({ description: 'an input that takes longer counts as a hang', default: '30s', helpValue: 'TIME' }),
  };

  async run(): Promise<PluginReport> {
    const { args, flags } = await this.parse(PluginTest);
    const { config } = await settings({ plugin: flags.plugin, results: flags.results, cache: flags.cache });
    const effort = Number(flags.effort);
    if (!(effort > 0 && effort <= 1000)) throw new TsrtError('USAGE', `--effort takes a number above 0, found '${flags.effort}'`, { fix: 'for example: --effort 5' });
    const [{ testPlugin }, { describeConformance }] = await Promise.all([import('../../workflows/plugin-test.ts'), import('../conformance.ts')]);
    const interrupt = onInterrupt(() => {});
    try {
      const report = await testPlugin({
        plugin: args.plugin,
        others: config.plugins,
        device: flags.device,
        datasetFolder: flags.dataset,
        seed: flags.seed,
        effort,
        timeoutMs: parseDuration('--timeout', flags.timeout),
        signal: interrupt.signal,
        ...(process.stderr.isTTY && !this.jsonEnabled() && { onCheck: (op, check) => this.logToStderr(`checking ${op}: ${check}`) }),
      });
      for (const line of describeConformance(report)) this.log(line);
      if (!report.passed) this.exitWith(EXIT.failed);
      return report;
    } finally {
      interrupt.dispose();
    }
  }
}
