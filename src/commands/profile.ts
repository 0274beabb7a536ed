/** `tsrt-bench profile ENGINE|SUITE`. */
import { Args, Flags } from '@oclif/core';
import { ROOFLINE_FORMATS, ROOFLINE_ORDERS, type RooflineFormat, type RooflineOrder } from '../report/roofline.ts';
import type { EngineProfile } from '../workflows/profile.ts';
import { BaseCommand } from './base.ts';
import { CONFIG_FLAGS, settings } from './config-flags.ts';
import { DEVICE_FLAG } from './device-flag.ts';
import { BUILT_ALREADY, refuseStray } from './stray-flags.ts';
import { SUITE_FLAGS, suiteOverrides, withConfig } from './suite-flags.ts';
import { TUNE_FLAGS, tuningRequest } from './tune-flags.ts';
import { watched } from './watched.ts';

const { limit: _limit, rounds: _rounds, time: _time, seed, ...VARIANT_FLAGS } = SUITE_FLAGS;

export default class Profile extends BaseCommand {
  static override summary = 'Time every layer of an engine, and compare with the best that the device could do';
  static override description =
    "Profiles an engine file, or every variant of a suite. The device's peak rates are measured first: a layer's floor is the longer of its arithmetic and its memory traffic at those rates. The sum of the layers is compared with the wall clock. The first engine that fails ends the command.";
  static override examples = [
    '<%= config.bin %> profile resnet50.engine',
    '<%= config.bin %> profile resnet50.engine --top 10 --sort share',
    '<%= config.bin %> profile suites/resnet50 --backend webgpu --precision fp16,int8 --batch 128 --format markdown',
    '<%= config.bin %> profile resnet50.engine --json',
  ];
  static override args = { target: Args.string({ required: true, description: "an engine file, or a suite's folder, file or name" }) };
  static override flags = {
    ...CONFIG_FLAGS,
    ...VARIANT_FLAGS,
    seed,
    ...DEVICE_FLAG,
    ...TUNE_FLAGS,
    runs: Flags.integer({ description: 'how often every layer is timed; the median counts', default: 20, min: 1, helpValue: 'N' }),
    sort: Flags.string({ description: 'order of the layers; share puts the one farthest from its floor first', options: [...ROOFLINE_ORDERS], default: 'time' }),
    top: Flags.integer({ description: 'show only this many layers', min: 1, helpValue: 'N' }),
    quiet: Flags.boolean({ char: 'q', description: 'print no progress' }),
    format: Flags.string({ char: 'f', description: 'format of the text', options: [...ROOFLINE_FORMATS], default: 'table' }),
  };

  async run(): Promise<readonly EngineProfile[]> {
    const parsed = await this.parse(Profile);
    const { args, flags } = parsed;
    const isEngine = args.target.endsWith('.engine');
    if (isEngine) refuseStray(parsed, [...Object.keys(VARIANT_FLAGS), ...Object.keys(TUNE_FLAGS)], BUILT_ALREADY);
    const asked = suiteOverrides(flags);
    const resolved = await settings({ ...flags, batch: asked.batch, precision: asked.precision });
    const { config } = resolved;
    const [{ profileFile, profileSuite }, { openRegistry }, { renderRoofline }] = await Promise.all([import('../workflows/profile.ts'), import('../workflows/registry.ts'), import('../report/roofline-text.ts')]);
    const profiles = await watched({ quiet: flags.quiet, json: this.jsonEnabled() }, async (watch) => {
      const common = { runs: flags.runs, seed: config.seed, signal: watch.signal };
      if (isEngine) return [await profileFile(args.target, { ...common, registry: await openRegistry(config.plugins), device: flags.device })];
      const overrides = withConfig(asked, config);
      return profileSuite({ suite: args.target, settings: resolved, overrides, modelFile: flags.model, limit: undefined, tuning: tuningRequest(flags), device: flags.device, resume: false, ...watch }, common);
    });
    const view = { format: flags.format as RooflineFormat, sort: flags.sort as RooflineOrder, top: flags.top };
    for (const [i, { title, device, peaks, roofline }] of profiles.entries()) this.log(`${i > 0 ? '\n' : ''}${renderRoofline({ title, device: device.description, peaks, roofline }, view)}`);
    return profiles;
  }
}
