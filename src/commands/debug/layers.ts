/** `tsrt-bench debug layers MODEL`. */
import { Args, Flags } from '@oclif/core';
import { EXIT } from '../../errors.ts';
import { FUSIONS, type Fusion, type Precision } from '../../engine/engine.ts';
import type { Grid } from '../../report/grid.ts';
import { formatNumber, plural } from '../../report/units.ts';
import type { LayersResult } from '../../workflows/debug/layers.ts';
import type { ValueReading } from '../../workflows/debug/readings.ts';
import { BaseCommand } from '../base.ts';
import { MODEL_SIZE_FLAGS } from '../build-flags.ts';
import { CONFIG_FLAGS, settings } from '../config-flags.ts';
import { DEVICE_FLAG } from '../device-flag.ts';
import { parsePairs, parseShapes, parseSizes } from '../values.ts';
import { watched } from '../watched.ts';

export default class DebugLayers extends BaseCommand {
  static override summary = 'Compare every value inside a model with onnxruntime, and name the first one that is off';
  static override description =
    "Builds the model with its inner values as outputs, runs it on the backend, and compares each value with what onnxruntime computes from the model's own file, unoptimized. A value that is an output cannot be fused away, so the outputs of the unchanged model are compared too. If only these are off, a fusion is wrong (tsrt-bench bisect finds the pass). Exits with 1 if a value is off.";
  static override examples = [
    '<%= config.bin %> debug layers model.onnx --precision fp16',
    '<%= config.bin %> debug layers model.onnx --inputs request.npz --min-snr 60 --top 30',
    '<%= config.bin %> debug layers model.onnx --backend onnxruntime --json',
  ];
  static override args = { model: Args.string({ required: true, description: 'an .onnx file' }) };
  static override flags = {
    ...CONFIG_FLAGS,
    backend: Flags.string({ description: 'backend to run on', default: 'webgpu', helpValue: 'NAME' }),
    precision: Flags.string({ description: 'precision to build', options: ['fp32', 'fp16'], default: 'fp32' }),
    fusion: Flags.string({ description: 'fuse operators', options: [...FUSIONS], default: 'on' }),
    option: Flags.string({ description: 'backend option, such as threads=1', helpValue: 'KEY=VALUE', multiple: true }),
    ...DEVICE_FLAG,
    inputs: Flags.string({ description: "arrays to run instead of seeded inputs, named after the inputs (.npz, or a folder of .npy)", helpValue: 'PATH' }),
    batch: Flags.integer({ description: "batch [default: the model's, or 1]", min: 1, helpValue: 'N' }),
    ...MODEL_SIZE_FLAGS,
    seed: Flags.integer({ description: 'seed of the inputs', default: 0, min: 0, helpValue: 'N' }),
    'min-snr': Flags.string({ description: 'decibels that every value must reach [default: 80, or 30 in halves; errors below 1e-6, or 1e-3 in halves, are ignored]', helpValue: 'DB' }),
    top: Flags.integer({ description: 'show this many values, those that add the most error', min: 1, default: 10, helpValue: 'N' }),
    quiet: Flags.boolean({ char: 'q', description: 'print no progress' }),
  };

  async run(): Promise<LayersResult> {
    const { args, flags } = await this.parse(DebugLayers);
    const minSnrDb = flags['min-snr'] === undefined ? undefined : Number(flags['min-snr']);
    if (minSnrDb !== undefined && !Number.isFinite(minSnrDb)) this.error(`--min-snr takes a number of decibels, found '${flags['min-snr']}'`);
    const { config } = await settings({ plugin: flags.plugin, results: flags.results, cache: flags.cache });
    const { debugLayers } = await import('../../workflows/debug/layers.ts');
    const result = await watched({ quiet: flags.quiet, json: this.jsonEnabled() }, (watch) =>
      debugLayers({
        modelFile: args.model,
        backend: flags.backend,
        plugins: config.plugins,
        options: {
          batch: flags.batch ?? 1,
          dims: parseSizes('--dim', flags.dim),
          inputShapes: parseShapes('--shape', flags.shape),
          precision: flags.precision as Precision,
          fusion: flags.fusion as Fusion,
          backendOptions: parsePairs('--option', flags.option),
        },
        rebatch: flags.batch !== undefined,
        arrays: flags.inputs,
        seed: flags.seed,
        device: flags.device,
        minSnrDb,
        ...watch,
      }),
    );
    const [{ alignedGrid }, { worstOf }] = await Promise.all([import('../../report/grid.ts'), import('../../workflows/debug/readings.ts')]);
    for (const line of describe(result, worstOf(result.values, flags.top), alignedGrid)) this.log(line);
    if (![...result.values, ...result.outputs].every(({ holds }) => holds)) this.exitWith(EXIT.failed);
    return result;
  }
}

const decibels = (value: number | undefined): string => (value === undefined ? 'exact' : `${formatNumber(value)} dB`);
const magnitude = (value: number): string => (Number.isFinite(value) ? value.toPrecision(3) : 'not finite');

function rowOf({ value, op, type, snrDb, addedDb, maxAbsError, largest, mismatches, elements }: ValueReading): string[] {
  const wrong = mismatches > 0 ? `${mismatches} of ${elements}` : '';
  return [value, op, type, decibels(snrDb), addedDb === undefined ? '–' : decibels(addedDb), magnitude(maxAbsError), magnitude(largest), wrong];
}

function describe({ values, outputs, device, notices }: LayersResult, worst: readonly ValueReading[], grid: (grid: Grid) => string): string[] {
  const off = values.filter(({ holds }) => !holds);
  const [first] = off;
  const wrong = outputs.filter(({ holds }) => !holds);
  return [
    `${plural(values.length, 'value')} on ${device.description}, beside onnxruntime, unoptimized`,
    grid({
      heads: ['value', 'op', 'type', 'SNR', 'added here', 'max error', 'largest', 'wrong'],
      aligns: ['left', 'left', 'left', 'right', 'right', 'right', 'right', 'right'],
      rows: worst.map(rowOf),
    }),
    ...notices.map((notice) => `note     ${notice}`),
    ...(first
      ? [`first    '${first.value}' (${first.op} '${first.node}') is off: ${first.mismatches > 0 ? `${plural(first.mismatches, 'element')} of ${first.elements} can't be told by a ratio (not finite, or integers that differ)` : `${decibels(first.snrDb)}, below ${first.minSnrDb} dB`}; ${off.length} of ${plural(values.length, 'value')} are`]
      : ['inside   no value is off']),
    ...outputs.map(({ value, snrDb, mismatches, holds }) => `output   '${value}' of the model as it is: ${mismatches > 0 ? `${mismatches} wrong` : decibels(snrDb)}${holds ? '' : ', off'}`),
    ...(wrong.length > 0 && !first ? ['next     every value is right by itself, so a fusion is wrong: compare with --fusion off, and find the pass with tsrt-bench bisect'] : []),
  ];
}
