/** `tsrt-bench inspect FILE`. */
import { Args, Flags } from '@oclif/core';
import type { Inspection } from '../workflows/inspect.ts';
import { BaseCommand } from './base.ts';
import { BUILD_FLAGS, buildOptions } from './build-flags.ts';
import { CONFIG_FLAGS, settings } from './config-flags.ts';
import { DEVICE_FLAG } from './device-flag.ts';
import { BUILT_ALREADY, refuseStray } from './stray-flags.ts';

export default class Inspect extends BaseCommand {
  static override summary = 'Show what an ONNX or engine file holds, what it costs, what was fused and what is unsupported';
  static override description = 'An ONNX file is built in memory for the backend, to show what the passes do to it. Only --onnx writes a file.';
  static override examples = [
    '<%= config.bin %> inspect resnet50.onnx',
    '<%= config.bin %> inspect resnet50.onnx --batch 8 --passes',
    '<%= config.bin %> inspect resnet50-b8.engine --layers',
    '<%= config.bin %> inspect resnet50-int8.engine --onnx resnet50-qdq.onnx',
    '<%= config.bin %> inspect resnet50-b8.engine --tactics --json > resnet50-b8.tactics.json',
  ];
  static override args = { file: Args.string({ required: true, description: 'an ONNX or engine file' }) };
  static override flags = {
    ...CONFIG_FLAGS,
    ...BUILD_FLAGS,
    ...DEVICE_FLAG,
    passes: Flags.boolean({ description: 'show what each pass did' }),
    tactics: Flags.boolean({ description: 'show the kernel of each product, and the others that were measured; with --json the list for --frozen-tactics' }),
    layers: Flags.boolean({ description: 'show every layer of the engine, with the ONNX nodes that it came from' }),
    onnx: Flags.string({ description: 'write the ONNX file of an onnxruntime engine to this path: optimized, with Q/DQ where it is int8', helpValue: 'FILE' }),
  };

  async run(): Promise<Inspection & { readonly tactics?: Readonly<Record<string, string>> }> {
    const parsed = await this.parse(Inspect);
    const { args, flags } = parsed;
    const options = buildOptions(flags);
    const { config } = await settings({ plugin: flags.plugin, results: flags.results, cache: flags.cache });
    const [{ inspect, writeModelOf }, { openRegistry }, { describeInspection }, { frozenOf }, { tuningContext }] = await Promise.all([
      import('../workflows/inspect.ts'),
      import('../workflows/registry.ts'),
      import('./inspection.ts'),
      import('../backends/webgpu/tune/frozen.ts'),
      import('../workflows/tuning.ts'),
    ]);
    const inspection = await inspect(args.file, options, await openRegistry(config.plugins), { device: flags.device, tuning: await tuningContext({}, config.cache), rebatch: flags.batch !== undefined });
    if (inspection.kind === 'engine') refuseStray(parsed, [...Object.keys(BUILD_FLAGS), ...Object.keys(DEVICE_FLAG)], BUILT_ALREADY);
    if (flags.onnx !== undefined) await writeModelOf(args.file, flags.onnx);
    const engine = inspection.kind === 'engine' ? inspection.header : inspection.engine;
    for (const line of describeInspection(inspection, engine, { passes: flags.passes, layers: flags.layers, tactics: flags.tactics })) this.log(line);
    if (flags.onnx !== undefined) this.log(`written  ${flags.onnx}`);
    if (!flags.tactics || !engine?.tactics) return inspection;
    return { ...inspection, tactics: frozenOf(engine.tactics.choices) };
  }
}
