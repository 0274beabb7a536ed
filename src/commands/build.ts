/** `tsrt-bench build MODEL|SUITE`. */
import { Args, Flags, type Interfaces } from '@oclif/core';
import { EXIT, TsrtError } from '../errors.ts';
import type { BuildResult } from '../workflows/build.ts';
import type { SuiteBuildResult } from '../workflows/build-suite.ts';
import { BaseCommand } from './base.ts';
import { buildOptions } from './build-flags.ts';
import { ofOneEngine, refuseModelFlags, refuseSuiteFlags, TARGET_FLAGS } from './build-target.ts';
import { CONFIG_FLAGS, settings } from './config-flags.ts';
import { DEVICE_FLAG } from './device-flag.ts';
import { suiteOverrides, withConfig } from './suite-flags.ts';
import { TUNE_FLAGS, tuningRequest, withTune } from './tune-flags.ts';
import { watched, type Watch } from './watched.ts';

type BuildFlags = Interfaces.InferredFlags<typeof Build.flags>;

export default class Build extends BaseCommand {
  static override summary = 'Compile a model, or the variants of a suite, into engine files';
  static override description =
    'An engine file needs neither the model nor the compiler to run. `inspect` shows what is in it. From a suite, every variant that the flags select is built as `run` builds it, with the same calibration and the same pixels.';
  static override examples = [
    '<%= config.bin %> build resnet50.onnx',
    '<%= config.bin %> build resnet50.onnx --batch 8 --option threads=2 --output engines/',
    '<%= config.bin %> build resnet50.onnx --backend webgpu --device swiftshader',
    '<%= config.bin %> build resnet50.onnx --backend webgpu --tune fast --export-tactics resnet50.tactics.json',
    '<%= config.bin %> build bert.onnx --dim sequence=128 --fusion off',
    '<%= config.bin %> build resnet50.onnx --precision int8 --calibration resnet50.calibration.json',
    '<%= config.bin %> build suites/resnet50 --variant onnxruntime/int8/fusion-on/threads-2 --batch 8 --output resnet50.engine',
    '<%= config.bin %> build suites/resnet50 --precision fp32,int8 --dataset ./photos --output engines/',
  ];
  static override args = { target: Args.string({ required: true, description: "an ONNX file, or a suite's folder, file or name" }) };
  static override flags = {
    ...CONFIG_FLAGS,
    ...TARGET_FLAGS,
    ...DEVICE_FLAG,
    ...TUNE_FLAGS,
    'export-tactics': Flags.string({ description: 'write the tactics of the engine to this file, for --frozen-tactics', helpValue: 'FILE', helpGroup: 'TUNING' }),
    quiet: Flags.boolean({ char: 'q', description: 'print no progress' }),
    output: Flags.string({ char: 'o', description: 'file whose name ends in .engine, or a folder', default: '.', helpValue: 'PATH' }),
  };

  async run(): Promise<BuildResult | SuiteBuildResult> {
    const { args, flags } = await this.parse(Build);
    const { namesModel } = await import('../suite/load.ts');
    const isModel = await namesModel(args.target);
    const result = await watched({ quiet: flags.quiet, json: this.jsonEnabled(), stopping: 'times that were measured are kept' }, async (watch) =>
      (isModel ? buildModel(args.target, flags, watch) : buildOfSuite(args.target, flags, watch)).catch((cause: unknown) => {
        if (!watch.signal.aborted) throw cause;
        throw new TsrtError('INTERRUPTED', 'the build was interrupted', { fix: 'start it again: times that were measured are not measured again', cause });
      }),
    );
    const { describeBuild, describeSuiteBuild } = await import('./build-summary.ts');
    for (const line of 'engines' in result ? await describeSuiteBuild(result) : await describeBuild(result)) this.log(line);
    if ('engines' in result && (result.engines.length === 0 || result.missing.some(({ status }) => status === 'failed'))) this.exitWith(EXIT.failed);
    return result;
  }
}

async function buildModel(model: string, flags: BuildFlags, { signal, onEvent }: Watch): Promise<BuildResult> {
  refuseSuiteFlags(flags);
  const built = buildOptions(ofOneEngine(flags));
  const options = { ...built, backendOptions: withTune(built.backendOptions, flags.tune) };
  const { config } = await settings({ plugin: flags.plugin, results: flags.results, cache: flags.cache });
  const [{ buildEngineFile }, { openRegistry }, { tuningContext }] = await Promise.all([import('../workflows/build.ts'), import('../workflows/registry.ts'), import('../workflows/tuning.ts')]);
  const tuning = await tuningContext(tuningRequest(flags), config.cache);
  const registry = await openRegistry(config.plugins);
  const onProgress = (step: string, done: number, total: number): void => {
    if (step === 'tuning') onEvent({ kind: 'progress', stage: 'build', label: 'tuning', done, total, unit: 'kernels' });
  };
  const { output, device, calibration, 'export-tactics': exportTactics } = flags;
  return buildEngineFile({ model, options, rebatch: flags.batch !== undefined, output, device, calibration, tuning, exportTactics, registry, onProgress, signal });
}

async function buildOfSuite(suite: string, flags: BuildFlags, watch: Watch): Promise<SuiteBuildResult> {
  refuseModelFlags(flags);
  const asked = suiteOverrides({ ...flags, option: flags.option?.flatMap((words) => words.split(',')) });
  const resolved = await settings({ ...flags, batch: asked.batch, precision: asked.precision });
  const { config } = resolved;
  const overrides = withConfig(asked, config);
  const { buildSuite } = await import('../workflows/build-suite.ts');
  const { variant, output, device, model, 'export-tactics': exportTactics } = flags;
  const run = { suite, settings: resolved, overrides, modelFile: model, limit: undefined, tuning: tuningRequest(flags), device, resume: false, ...watch };
  return buildSuite({ run, variants: variant, output, exportTactics });
}
