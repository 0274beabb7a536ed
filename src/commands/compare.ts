/** `tsrt-bench compare BASELINE [CANDIDATE]`. */
import { Args, Flags } from '@oclif/core';
import { METRIC_NAMES } from '../gate/metrics.ts';
import { TsrtError } from '../errors.ts';
import { BaseCommand } from './base.ts';
import { DEVICE_FLAG } from './device-flag.ts';
import { onInterrupt } from './interrupt.ts';
import type { Config } from '../config.ts';
import { CONFIG_FLAGS, openBaselines, settings, STORE_FLAG } from './config-flags.ts';

export default class Compare extends BaseCommand {
  static override summary = 'Compare two runs case by case: ratios with intervals, without a verdict; or two engines node by node';
  static override examples = [
    '<%= config.bin %> compare main',
    '<%= config.bin %> compare 20260131T080509Z-a1b2c3 latest',
    '<%= config.bin %> compare main --metric latency-p50 --metric throughput --case int8',
    '<%= config.bin %> compare before.jsonl after.jsonl --format markdown',
    '<%= config.bin %> compare fp32.engine int8.engine --by node',
  ];
  static override args = {
    baseline: Args.string({ required: true, description: 'what to compare with: a run, a baseline, a .jsonl file or `latest`; with --by node, an engine file' }),
    candidate: Args.string({ default: 'latest', description: 'what to compare, in the same forms' }),
  };
  static override flags = {
    ...CONFIG_FLAGS,
    ...STORE_FLAG,
    ...DEVICE_FLAG,
    by: Flags.option({ options: ['case', 'node'] as const, default: 'case', description: 'case: two runs; node: the layers of two engine files, timed now and joined by the ONNX nodes that they came from' })(),
    runs: Flags.integer({ description: 'with --by node: how often every layer is timed; the median counts [default: 20]', min: 1, helpValue: 'N' }),
    format: Flags.option({ char: 'f', options: ['table', 'markdown', 'json'] as const, default: 'table', description: 'format of the answer' })(),
    metric: Flags.option({ char: 'm', options: METRIC_NAMES, multiple: true, description: 'only this metric; repeatable; intervals allow for the number of metrics', helpValue: 'METRIC' })(),
    case: Flags.string({ description: 'only cases whose id contains this text', helpValue: 'TEXT' }),
    suite: Flags.string({ description: 'use only runs and baselines of this suite', helpValue: 'NAME' }),
    'allow-different-device': Flags.boolean({ description: 'compare even if the two sides were measured on different devices' }),
  };

  async run(): Promise<unknown> {
    const { args, flags } = await this.parse(Compare);
    const { config } = await settings(flags);
    checkMeant(flags);
    if (flags.by === 'node') return this.byNode({ ...args, ...flags }, config);
    const [{ compareRecords }, { comparisonData, renderComparison }] = await Promise.all([
      import('../workflows/compare.ts'),
      import('../report/comparison.ts'),
    ]);
    const comparison = await compareRecords({
      results: config.results,
      store: await openBaselines(config),
      baseline: args.baseline,
      candidate: args.candidate,
      suite: flags.suite,
      allowDifferentDevice: flags['allow-different-device'],
      metrics: flags.metric,
      caseFilter: flags.case,
    });
    const color = process.stdout.isTTY === true && !process.env['NO_COLOR'];
    this.log(renderComparison(comparison, flags.format, color).trimEnd());
    return comparisonData(comparison);
  }

  private async byNode(request: { baseline: string; candidate: string; runs?: number | undefined; device: string | undefined; format: 'table' | 'markdown' | 'json' }, config: Config): Promise<unknown> {
    const [{ compareEngines }, { openRegistry }, { renderNodeComparison }] = await Promise.all([import('../workflows/compare.ts'), import('../workflows/registry.ts'), import('../report/by-node.ts')]);
    const { baseline, candidate, runs = 20, device, format } = request;
    const interrupt = onInterrupt(() => {});
    try {
      const comparison = await compareEngines({ baseline, candidate, runs, device, seed: config.seed, signal: interrupt.signal, registry: await openRegistry(config.plugins) });
      this.log(format === 'json' ? JSON.stringify(comparison, null, 2) : renderNodeComparison(comparison, format));
      return comparison;
    } finally {
      interrupt.dispose();
    }
  }
}

/** Flags of one kind of comparison, which say nothing of the other. */
const OWN_FLAGS = { case: ['metric', 'case', 'suite', 'allow-different-device', 'store'], node: ['runs', 'device'] } as const;

/** Throws USAGE for a flag that would change nothing. */
function checkMeant(flags: { readonly by: 'case' | 'node' }): void {
  const other = flags.by === 'node' ? 'case' : 'node';
  const given = new Map<string, unknown>(Object.entries(flags));
  const stray = OWN_FLAGS[other].find((name) => given.get(name) !== undefined);
  if (stray === undefined) return;
  const message = other === 'node' ? `--${stray} goes with --by node` : `--${stray} is for comparisons of runs, not --by node`;
  throw new TsrtError('USAGE', message, { fix: 'leave it out' });
}
