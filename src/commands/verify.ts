/** `tsrt-bench verify MODEL|FOLDER`. */
import { Args, Flags } from '@oclif/core';
import { EXIT } from '../errors.ts';
import { FUSIONS, PRECISIONS, type Fusion, type Precision } from '../engine/engine.ts';
import type { CaseResult, VerifySummary } from '../workflows/verify/result.ts';
import { BaseCommand } from './base.ts';
import { MODEL_SIZE_FLAGS } from './build-flags.ts';
import { CONFIG_FLAGS, settings } from './config-flags.ts';
import { DEVICE_FLAG } from './device-flag.ts';
import { REBUILD_FLAG } from './engine-flags.ts';
import { FALLBACK_FLAG, withFallback } from './fallback-flag.ts';
import { onInterrupt } from './interrupt.ts';
import { BUILT_ALREADY, refuseStray } from './stray-flags.ts';
import { parseDuration } from './suite-flags.ts';
import { parsePairs, parseShapes, parseSizes, parseTolerance } from './values.ts';

/** What an engine file says itself. */
const BUILD_FLAGS = ['backend', 'precision', 'fusion', 'fallback', 'option', 'batch', 'dim', 'shape'] as const;

interface VerifyReport {
  readonly summary: VerifySummary;
  readonly cases: readonly CaseResult[];
}

export default class Verify extends BaseCommand {
  static override summary = 'Run models on a backend and compare with expected outputs';
  static override description =
    "A folder may hold ONNX's own test layout at any depth: CASE/model.onnx with CASE/test_data_set_N/input_K.pb and output_K.pb, or the .pb files beside the model. A model without expected outputs is compared with onnxruntime, unoptimized, on seeded inputs or those of --inputs. Integers, bools and strings must be equal; floats may differ by ATOL × max(1, largest expected magnitude) + RTOL × |expected| (the defaults are onnxruntime's for ONNX's own tests). Exits with 1 if a case failed.";
  static override examples = [
    '<%= config.bin %> verify model.onnx --backend webgpu',
    '<%= config.bin %> verify conformance/ --backend onnxruntime --json',
    '<%= config.bin %> verify model.engine --against model.onnx',
    '<%= config.bin %> verify model.onnx --backend webgpu --precision fp16 --inputs samples.npz',
    '<%= config.bin %> verify model.onnx --batch 4 --dim sequence=128 --rtol 1e-2',
  ];
  static override args = { path: Args.string({ required: true, description: 'an .onnx file, a folder that contains some, or an engine file' }) };
  static override flags = {
    ...CONFIG_FLAGS,
    backend: Flags.string({ description: 'backend to run on', default: 'onnxruntime', helpValue: 'NAME' }),
    precision: Flags.string({ description: 'precision to build', options: [...PRECISIONS], default: 'fp32' }),
    fusion: Flags.string({ description: 'fuse operators', options: [...FUSIONS], default: 'on' }),
    ...FALLBACK_FLAG,
    option: Flags.string({ description: 'backend option, such as threads=1', helpValue: 'KEY=VALUE', multiple: true }),
    ...DEVICE_FLAG,
    rtol: Flags.string({ description: 'relative tolerance [default: 1e-3; 1e-2 in fp16 and for models in halves, 0.1 in int8 and mixed]', helpValue: 'X' }),
    atol: Flags.string({
      description: "absolute tolerance, multiplied by the output's scale [default: 1e-5; 1e-4 against the reference; 2e-2 in fp16 and for models in halves, 0.2 in int8 and mixed]",
      helpValue: 'X',
    }),
    inputs: Flags.string({ description: "arrays to run instead of test data or seeded inputs, named after the inputs (.npz, or a folder of .npy); arrays named after outputs are the expected values", helpValue: 'PATH' }),
    batch: Flags.integer({ description: "batch of models without test data [default: the model's, or 1]", min: 1, helpValue: 'N' }),
    ...MODEL_SIZE_FLAGS,
    seed: Flags.integer({ description: 'seed of the inputs, for models without test data', default: 0, min: 0, helpValue: 'N' }),
    jobs: Flags.integer({ char: 'j', description: 'number of cases at a time, each in a process of its own', default: 1, min: 1, helpValue: 'N' }),
    timeout: Flags.string({ description: 'stop a case that takes longer', default: '5m', helpValue: 'TIME' }),
    against: Flags.string({ description: 'model to compare an engine file with', helpValue: 'MODEL' }),
    ...REBUILD_FLAG,
    'fail-fast': Flags.boolean({ description: 'stop at the first case that fails' }),
  };

  async run(): Promise<VerifyReport> {
    const parsed = await this.parse(Verify);
    const { args, flags } = parsed;
    if (args.path.endsWith('.engine')) refuseStray(parsed, BUILD_FLAGS, BUILT_ALREADY);
    const { config } = await settings({ plugin: flags.plugin, results: flags.results, cache: flags.cache });
    const [{ verify }, { summarize }, text] = await Promise.all([
      import('../workflows/verify.ts'),
      import('../workflows/verify/result.ts'),
      import('../workflows/verify/describe.ts'),
    ]);
    const interrupt = onInterrupt(() => {});
    const cases: CaseResult[] = [];
    try {
      const { results, notices } = await verify({
        path: args.path,
        against: flags.against,
        rebuild: flags.rebuild,
        backend: flags.backend,
        plugins: config.plugins,
        tolerance: { rtol: parseTolerance('--rtol', flags.rtol), atol: parseTolerance('--atol', flags.atol) },
        options: {
          batch: flags.batch ?? 1,
          dims: parseSizes('--dim', flags.dim),
          inputShapes: parseShapes('--shape', flags.shape),
          precision: flags.precision as Precision,
          fusion: flags.fusion as Fusion,
          disabledPasses: [],
          backendOptions: withFallback(parsePairs('--option', flags.option), flags.fallback),
        },
        rebatch: flags.batch !== undefined,
        arrays: flags.inputs,
        device: flags.device,
        seed: flags.seed,
        jobs: flags.jobs,
        caseTimeoutMs: parseDuration('--timeout', flags.timeout),
        signal: interrupt.signal,
      });
      for (const notice of notices) this.log(`note     ${notice}`);
      for await (const result of results) {
        cases.push(result);
        const lines = text.describeFailure(result);
        for (const line of lines) this.log(line);
        if (flags['fail-fast'] && lines.length > 0) break;
      }
    } finally {
      interrupt.dispose();
    }
    const summary = summarize(cases);
    for (const line of [...text.describeUnsupported(cases), ...text.describeSummary(cases, summary)]) this.log(line);
    if (summary.failed + summary.error > 0) this.exitWith(EXIT.failed);
    return { summary, cases };
  }
}
