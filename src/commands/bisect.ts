/** `tsrt-bench bisect SUITE`. */
import { Args } from '@oclif/core';
import { EXIT, type ExitStatus } from '../errors.ts';
import type { BisectReport } from '../workflows/bisect/request.ts';
import { BaseCommand } from './base.ts';
import { BISECT_FLAGS, parseMetric, parseSubject, parseThreshold } from './bisect-flags.ts';
import { CONFIG_FLAGS, settings } from './config-flags.ts';
import { DEVICE_FLAG } from './device-flag.ts';
import { parseDuration, withConfig } from './suite-flags.ts';
import { watched } from './watched.ts';

export default class Bisect extends BaseCommand {
  static override summary = 'Find the model, option or commit that changed a metric';
  static override description =
    'Compares states with the first one, interleaved in fresh processes, as gate --against does, and halves the range that is left. A state that stays undecided is skipped; the answer may then be a range. Ctrl-C keeps the finished comparisons, and the same command continues. Exit status: 0 found, 1 the ends do not differ, 2 usage or broken input, 3 the first state cannot be built, 4 undecided or a range, 130 interrupted.';
  static override examples = [
    '<%= config.bin %> bisect suites/resnet50 --good v1.0 --bad HEAD --prepare "npm run build"',
    '<%= config.bin %> bisect suites/resnet50 --models monday.onnx,tuesday.onnx,friday.onnx --metric snr',
    '<%= config.bin %> bisect suites/resnet50 --change threads=2 --change fusion=off --change without=fuse-epilogue',
    '<%= config.bin %> bisect suites/resnet50 --engines a.engine,b.engine,c.engine --metric memory-peak',
  ];
  static override args = { suite: Args.string({ required: true, description: "a suite's folder, file or name" }) };
  static override flags = {
    ...CONFIG_FLAGS,
    ...DEVICE_FLAG,
    ...BISECT_FLAGS,
  };

  async run(): Promise<BisectReport> {
    const { args, flags } = await this.parse(Bisect);
    const asked = { subject: parseSubject(flags), metric: parseMetric(flags.metric), threshold: parseThreshold(flags.threshold) };
    const resolved = await settings({ plugin: flags.plugin, results: flags.results, cache: flags.cache });
    const [{ bisect }, { renderBisect }, { parseConfidence }] = await Promise.all([import('../workflows/bisect/bisect.ts'), import('../report/bisect.ts'), import('../gate/policy.ts')]);
    const report = await watched({ quiet: flags.quiet, json: this.jsonEnabled(), stopping: 'finished comparisons are kept; the same command continues' }, (watch) =>
      bisect({
        ...asked,
        suite: args.suite,
        settings: resolved,
        overrides: { ...withConfig({}, resolved.config), timeMs: flags.time === undefined ? resolved.config.timeMs : parseDuration('--time', flags.time) },
        modelFile: flags.model,
        device: flags.device,
        confidence: parseConfidence(flags.confidence),
        caseId: flags.case,
        rounds: flags.rounds,
        fresh: flags.fresh,
        ...watch,
      }),
    );
    this.log(renderBisect(report).trimEnd());
    this.exitWith(statusOf(report));
    return report;
  }
}

function statusOf({ outcome }: BisectReport): ExitStatus {
  switch (outcome.kind) {
    case 'found':
      return EXIT.ok;
    case 'no-change':
      return EXIT.failed;
    case 'range':
    case 'undecided':
      return EXIT.inconclusive;
    case 'probe':
      return EXIT.interrupted;
    default:
      return outcome satisfies never;
  }
}
