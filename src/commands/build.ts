/** `tsrt-bench build MODEL`. */
import { Args, Flags } from '@oclif/core';
import { TsrtError } from '../errors.ts';
import { formatBytes } from '../report/units.ts';
import type { BuildResult } from '../workflows/build.ts';
import { BaseCommand } from './base.ts';
import { BUILD_FLAGS, buildOptions } from './build-flags.ts';
import { describeTimes } from './build-times.ts';
import { CONFIG_FLAGS, settings } from './config-flags.ts';
import { DEVICE_FLAG } from './device-flag.ts';
import { TUNE_FLAGS, tuningRequest, withTune } from './tune-flags.ts';
import { watched } from './watched.ts';

export default class Build extends BaseCommand {
  static override summary = 'Compile a model into an engine file';
  static override description = 'The engine file needs neither the model nor the compiler to run. `inspect` shows what is in it.';
  static override examples = [
    '<%= config.bin %> build resnet50.onnx',
    '<%= config.bin %> build resnet50.onnx --batch 8 --option threads=2 --output engines/',
    '<%= config.bin %> build resnet50.onnx --backend webgpu --device swiftshader',
    '<%= config.bin %> build resnet50.onnx --backend webgpu --tune fast --export-tactics resnet50.tactics.json',
    '<%= config.bin %> build bert.onnx --dim sequence=128 --fusion off',
    '<%= config.bin %> build resnet50.onnx --precision int8 --calibration resnet50.calibration.json',
  ];
  static override args = { model: Args.string({ required: true, description: 'an ONNX file' }) };
  static override flags = {
    ...CONFIG_FLAGS,
    ...BUILD_FLAGS,
    ...DEVICE_FLAG,
    ...TUNE_FLAGS,
    'export-tactics': Flags.string({ description: 'write the tactics of the engine to this file, for --frozen-tactics', helpValue: 'FILE', helpGroup: 'TUNING' }),
    calibration: Flags.string({ description: 'ranges, as calibrate writes them: for int8 and mixed, and for fp16 to find values that no half holds', helpValue: 'FILE' }),
    quiet: Flags.boolean({ char: 'q', description: 'no progress' }),
    output: Flags.string({ char: 'o', description: 'file ending in .engine, or a folder', default: '.', helpValue: 'PATH' }),
  };

  async run(): Promise<BuildResult> {
    const { args, flags } = await this.parse(Build);
    const built = buildOptions(flags);
    const options = { ...built, backendOptions: withTune(built.backendOptions, flags.tune) };
    const { config } = await settings({ plugin: flags.plugin, results: flags.results, cache: flags.cache });
    const [{ buildEngineFile }, { openRegistry }, { tuningContext }] = await Promise.all([
      import('../workflows/build.ts'),
      import('../workflows/registry.ts'),
      import('../workflows/tuning.ts'),
    ]);
    const tuning = await tuningContext(tuningRequest(flags), config.cache);
    const registry = await openRegistry(config.plugins);
    const result = await watched({ quiet: flags.quiet, json: this.jsonEnabled(), stopping: 'times that were measured are kept' }, async ({ signal, onEvent }) => {
      const onProgress = (step: string, done: number, total: number): void => {
        if (step === 'tuning') onEvent({ kind: 'progress', stage: 'build', label: 'tuning', done, total, unit: 'kernels' });
      };
      const { model } = args;
      const { output, device, calibration, 'export-tactics': exportTactics } = flags;
      return buildEngineFile({ model, options, rebatch: flags.batch !== undefined, output, device, calibration, tuning, exportTactics, registry, onProgress, signal }).catch((cause: unknown) => {
        if (!signal.aborted) throw cause;
        throw new TsrtError('INTERRUPTED', 'the build was stopped', { fix: 'start it again: times that were measured are not measured again', cause });
      });
    });
    await this.describe(result);
    return result;
  }

  private async describe(result: BuildResult): Promise<void> {
    const { header } = result;
    this.log(`engine   ${result.file} (${formatBytes(result.bytes)}, sha256 ${result.sha256.slice(0, 16)}…)`);
    this.log(`built    ${header.layers.length} layers in ${describeTimes(result)}`);
    const needs = Object.entries(header.requires).map(([key, value]) => `${key} ${value}`);
    if (needs.length > 0) this.log(`needs    ${needs.join('; ')}`);
    for (const { name, dtype, dims } of header.inputs) this.log(`input    ${name} ${dtype}[${dims.join(',')}]`);
    for (const { name, dtype, dims, dynamic } of header.outputs) this.log(`output   ${name} ${dtype}[${dims.join(',')}]${dynamic ? ', for the data to decide' : ''}`);
    const tuning = header.tactics?.tuning;
    if (tuning) this.log(`tuned    ${(await import('./tactics.ts')).describeTuning(tuning)}`);
    for (const notice of header.notices) this.log(`note     ${notice}`);
    if (result.unproven !== undefined) this.log(`warning  ${result.unproven}, which \`run\` fails; \`inspect --layers\` shows where`);
    this.log(`next     tsrt-bench inspect ${result.file}`);
  }
}
