/** `tsrt-bench debug precision SUITE`. */
import { Args, Flags } from '@oclif/core';
import { EXIT } from '../../errors.ts';
import type { Grid } from '../../report/grid.ts';
import { formatNumber, plural } from '../../report/units.ts';
import type { PrecisionResult } from '../../workflows/debug/precision.ts';
import { shellWord } from '../../text.ts';
import { BaseCommand } from '../base.ts';
import { CONFIG_FLAGS, settings } from '../config-flags.ts';
import { DATASET_FLAG, SIZE_FLAGS, dataOverrides } from '../suite-flags.ts';
import { watched } from '../watched.ts';

const SHOWN = 10;

export default class DebugPrecision extends BaseCommand {
  static override summary = 'Rank nodes by what int8 costs in accuracy, and find the few to keep in fp32';
  static override description =
    "Quantizes each convolution and matrix product alone, then searches for a small set to keep so that the suite's accuracy budget is met. The result is a calibration for precision mixed: name it in the suite (quantization.calibration). Run the command again to continue a search that was interrupted.";
  static override examples = [
    '<%= config.bin %> debug precision suites/mobilenetv2 --model model.onnx --dataset ./photos --out mixed.json',
    '<%= config.bin %> debug precision resnet50 --dataset ./photos --min-snr 30',
    '<%= config.bin %> debug precision tagger.onnx --dataset samples.npz --min-snr 30',
  ];
  static override args = { suite: Args.string({ required: true, description: "a suite's folder, file or name; or an ONNX file, with --dataset" }) };
  static override flags = {
    ...CONFIG_FLAGS,
    model: Flags.string({ description: "ONNX file to use instead of the suite's model", helpValue: 'FILE' }),
    ...DATASET_FLAG,
    ...SIZE_FLAGS,
    calibration: Flags.string({ description: 'ranges to start from [default: calibrated now]', helpValue: 'FILE' }),
    samples: Flags.integer({ description: 'number of samples to judge by; calibration uses none of them', helpValue: 'N', min: 1, default: 32 }),
    'min-snr': Flags.string({ description: "decibels to reach, instead of the suite's accuracy budget", helpValue: 'DB' }),
    out: Flags.string({ char: 'o', description: 'calibration to write, for precision mixed', helpValue: 'FILE', default: 'mixed.calibration.json' }),
    quiet: Flags.boolean({ char: 'q', description: 'print no progress' }),
  };

  async run(): Promise<PrecisionResult> {
    const { args, flags } = await this.parse(DebugPrecision);
    const minSnrDb = flags['min-snr'] === undefined ? undefined : Number(flags['min-snr']);
    if (minSnrDb !== undefined && !Number.isFinite(minSnrDb)) this.error(`--min-snr takes a number of decibels, found '${flags['min-snr']}'`);
    const { config } = await settings({ plugin: flags.plugin, results: flags.results, cache: flags.cache });
    const { debugPrecision } = await import('../../workflows/debug/precision.ts');
    const result = await watched({ quiet: flags.quiet, json: this.jsonEnabled(), stopping: 'what was found is kept; run again to continue' }, (watch) =>
      debugPrecision({
        suite: args.suite,
        modelFile: flags.model,
        overrides: dataOverrides(flags),
        calibration: flags.calibration,
        samples: flags.samples,
        minSnrDb,
        out: flags.out,
        config,
        ...watch,
      }),
    );
    const { alignedGrid } = await import('../../report/grid.ts');
    const { namesModel } = await import('../../suite/load.ts');
    const next = (await namesModel(args.suite))
      ? `tsrt-bench build ${shellWord(args.suite)} --precision mixed --calibration ${shellWord(flags.out)}`
      : 'name the file in the suite (quantization.calibration), and run with --precision mixed';
    for (const line of describe(result, next, alignedGrid)) this.log(line);
    if (!result.kept) this.exitWith(EXIT.failed);
    return result;
  }
}

function describe({ ranking, int8, kept, file, samples, dataset, nodes }: PrecisionResult, next: string, grid: (grid: Grid) => string): string[] {
  const keep = new Set(kept?.keep);
  const decibels = (value: number) => (Number.isFinite(value) ? `${formatNumber(value)} dB` : 'exact');
  const rows = ranking.slice(0, SHOWN).map(({ node, snrDb }) => [node, decibels(snrDb), keep.has(node) ? 'fp32' : 'int8']);
  return [
    `judged by ${plural(samples, 'sample')} of ${dataset}`,
    grid({ heads: ['node', 'alone in int8', 'mixed'], aligns: ['left', 'right', 'left'], rows }),
    `int8     all ${nodes} nodes: ${decibels(int8.snrDb)}, ${int8.withinBudget ? 'within' : 'over'} the budget`,
    ...(kept ? [`mixed    ${keep.size} in fp32: ${decibels(kept.evaluation.snrDb)}, within the budget (${plural(kept.tried, 'set')} tried)`, `file     ${file}`] : []),
    kept ? `next     ${next}` : 'no set of nodes meets the budget, not even all of them in fp32: loosen it',
  ];
}
