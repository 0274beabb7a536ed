/** `tsrt-bench calibrate SUITE`. */
import { Args, Flags } from '@oclif/core';
import { EXIT } from '../errors.ts';
import { CALIBRATION_METHODS } from '../quantize/calibrators.ts';
import { SCHEMES, type Scheme } from '../quantize/params.ts';
import type { CalibrateCommandResult } from '../workflows/calibrate/command.ts';
import { BaseCommand } from './base.ts';
import { CONFIG_FLAGS, settings } from './config-flags.ts';
import { DATASET_FLAG, SIZE_FLAGS, dataOverrides } from './suite-flags.ts';
import { watched } from './watched.ts';

export default class Calibrate extends BaseCommand {
  static override summary = 'Find the int8 ranges of a model’s activations, or check whether ranges still fit';
  static override description =
    'Streams the dataset through the optimized model and writes a calibration cache, which builds reuse: name it in the suite (quantization.calibration) or give it to `build --calibration`. With --check, it compares the samples with a cache instead, and shows what clips and how far the values have moved.';
  static override examples = [
    '<%= config.bin %> calibrate suites/resnet50 --dataset ./photos --out resnet50.calibration.json',
    '<%= config.bin %> calibrate mobilenetv2 --model model.onnx --dataset ./photos --method percentile --percentile 99.9',
    '<%= config.bin %> calibrate tagger.onnx --dataset samples.npz --dim sequence=128',
    '<%= config.bin %> calibrate resnet50 --dataset ./night --check resnet50.calibration.json',
  ];
  static override args = { suite: Args.string({ required: true, description: "a suite's folder, file or name; or an ONNX file, with --dataset" }) };
  static override flags = {
    ...CONFIG_FLAGS,
    model: Flags.string({ description: "ONNX file to use instead of the suite's model", helpValue: 'FILE' }),
    ...DATASET_FLAG,
    ...SIZE_FLAGS,
    samples: Flags.integer({ description: 'largest number of samples, spread over the dataset', helpValue: 'N', min: 1 }),
    method: Flags.string({ description: `how a range is chosen: ${CALIBRATION_METHODS.join(', ')}, or a plugin's calibrator`, helpValue: 'NAME' }),
    scheme: Flags.string({ description: 'affine: uint8 with a zero point; symmetric: int8 around zero', options: [...SCHEMES] }),
    percentile: Flags.string({ description: 'share of values inside the range, for --method percentile', helpValue: 'P' }),
    out: Flags.string({ char: 'o', description: 'cache to write [default: MODEL.calibration.json]', helpValue: 'FILE' }),
    check: Flags.string({ description: 'compare the samples with this cache, and write nothing', helpValue: 'FILE', exclusive: ['out', 'method', 'scheme', 'percentile'] }),
    quiet: Flags.boolean({ char: 'q', description: 'print no progress' }),
  };

  async run(): Promise<CalibrateCommandResult> {
    const { args, flags } = await this.parse(Calibrate);
    const { config } = await settings({ plugin: flags.plugin, results: flags.results, cache: flags.cache });
    const { calibrateCommand, describeCalibration } = await import('../workflows/calibrate/command.ts');
    const result = await watched({ quiet: flags.quiet, json: this.jsonEnabled(), stopping: 'nothing is written' }, (watch) =>
      calibrateCommand({
        suite: args.suite,
        modelFile: flags.model,
        overrides: dataOverrides(flags),
        samples: flags.samples,
        method: flags.method,
        scheme: flags.scheme as Scheme | undefined,
        percentile: flags.percentile,
        out: flags.out,
        check: flags.check,
        config,
        ...watch,
      }),
    );
    for (const line of describeCalibration(result)) this.log(line);
    if (result.kind === 'checked' && result.suspicious > 0) this.exitWith(EXIT.failed);
    return result;
  }
}
