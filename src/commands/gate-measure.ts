/** The gate's modes that measure for themselves: `--against` and `--self-test`. */
import { Flags } from '@oclif/core';
import type { ResolvedConfig } from '../config.ts';
import { TsrtError } from '../errors.ts';
import type { GateReport } from '../gate/judge.ts';
import { parseConfidence, parseThresholds } from '../gate/policy.ts';
import { DEFAULT_ROUNDS, looksUpTo } from '../gate/sequential.ts';
import type { Suite } from '../suite/schema.ts';
import type { SelfTestResult } from '../workflows/paired/self-test.ts';
import { DEVICE } from './device-flag.ts';
import { onInterrupt } from './interrupt.ts';
import { createProgress, progressMode } from './progress.ts';
import { parseDuration } from './suite-flags.ts';

const GROUP = { helpGroup: 'MEASURED' } as const;

export const MEASURED_FLAGS = {
  against: Flags.string({ ...GROUP, multiple: true, delimiter: ',', description: 'baseline to run again, in the same rounds as the candidate: engine files, or a git revision of the project', helpValue: 'ENGINE|REF' }),
  prepare: Flags.string({ ...GROUP, description: 'with --against REF: command that makes a fresh checkout of it ready, such as "npm run build"', helpValue: 'COMMAND' }),
  engine: Flags.string({ ...GROUP, multiple: true, delimiter: ',', description: "with --against: engine files as the candidate, in place of the suite's variants", helpValue: 'ENGINE' }),
  'self-test': Flags.boolean({ ...GROUP, description: 'run identical engines against each other, and say how often the gate is wrong and what it finds' }),
  detect: Flags.string({ ...GROUP, description: 'with --self-test: choose rounds that find such a slowdown, as 5%', helpValue: 'PERCENT' }),
  model: Flags.string({ ...GROUP, description: "an ONNX file in place of the suite's model", helpValue: 'FILE' }),
  rounds: Flags.integer({ ...GROUP, default: DEFAULT_ROUNDS, min: 3, description: 'most rounds; a case that is decided before is measured no more', helpValue: 'N' }),
  time: Flags.string({ ...GROUP, description: 'timed part of one case in one round, such as 500ms or 2s', helpValue: 'TIME' }),
  budget: Flags.string({ ...GROUP, description: 'start no round after this time, such as 10m', helpValue: 'TIME' }),
  device: Flags.string({ ...GROUP, ...DEVICE }),
} as const;

export interface MeasuredFlags {
  readonly against?: readonly string[] | undefined;
  readonly prepare?: string | undefined;
  readonly engine?: readonly string[] | undefined;
  readonly 'self-test': boolean;
  readonly detect?: string | undefined;
  readonly model?: string | undefined;
  readonly rounds: number;
  readonly time?: string | undefined;
  readonly budget?: string | undefined;
  readonly device?: string | undefined;
  readonly threshold?: readonly string[] | undefined;
  readonly confidence?: string | undefined;
  readonly 'ignore-missing': boolean;
  readonly json?: boolean | undefined;
}

/** Whether the flags ask for measurement; throws USAGE where they ask for two things at once. */
export function wantsMeasurement({ against, prepare, detect, engine, 'self-test': selfTest }: MeasuredFlags): boolean {
  if (against && selfTest) throw new TsrtError('USAGE', '--against and --self-test are two different measurements', { fix: 'ask for one of them' });
  if (detect !== undefined && !selfTest) throw new TsrtError('USAGE', '--detect goes with --self-test', { fix: 'add --self-test' });
  if (engine && !against) throw new TsrtError('USAGE', '--engine goes with --against', { fix: 'name the baseline with --against ENGINE, or measure with `tsrt-bench run`' });
  if (prepare !== undefined && !against) throw new TsrtError('USAGE', '--prepare goes with --against REF', { fix: 'name a git revision with --against' });
  return selfTest || against !== undefined;
}

/** `5%` or `5`. Throws USAGE. */
export function parseDetect(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const percent = Number(text.trim().replace(/\s*%$/, ''));
  if (percent > 0 && percent <= 700) return percent;
  throw new TsrtError('USAGE', `'${text}' is no slowdown to detect`, { fix: 'give percent, such as --detect 5%' });
}

/** Measures as the flags say. Throws USAGE without a suite. */
export async function measureGate(suite: string | undefined, flags: MeasuredFlags, settings: ResolvedConfig): Promise<GateReport | SelfTestResult> {
  if (suite === undefined) throw new TsrtError('USAGE', 'a gate that measures needs a suite', { fix: 'name it: `tsrt-bench gate suites/resnet50 --self-test`' });
  const mode = progressMode({ quiet: false, json: flags.json === true, isTty: process.stderr.isTTY === true, ci: 'CI' in process.env });
  const [progress, { policyOf }] = await Promise.all([createProgress(mode, process.stderr), import('../workflows/gate.ts')]);
  const interrupt = onInterrupt(() => progress.onEvent({ kind: 'notice', text: 'stopping: what was measured is judged' }));
  const { config } = settings;
  const thresholds = parseThresholds(flags.threshold ?? []);
  const request = {
    suite,
    settings,
    overrides: {
      timeMs: flags.time === undefined ? undefined : parseDuration('--time', flags.time),
      budgetMs: flags.budget === undefined ? undefined : parseDuration('--budget', flags.budget),
      ...(flags.engine === undefined && { backend: config.backend, precision: config.precision, batch: config.batch }),
    },
    modelFile: flags.model,
    engineFiles: flags.engine ?? [],
    device: flags.device,
    signal: interrupt.signal,
    onEvent: progress.onEvent,
    policy: (read: Pick<Suite, 'gate'>) => policyOf(read, { thresholds, confidence: parseConfidence(flags.confidence), ignoreMissing: flags['ignore-missing'] }),
    looks: looksUpTo(flags.rounds),
  };
  try {
    if (flags.against) return await (await import('../workflows/paired/against.ts')).runGateAgainst({ ...request, against: flags.against, prepare: flags.prepare });
    return await (await import('../workflows/paired/self-test.ts')).runSelfTest({ ...request, rounds: flags.rounds });
  } finally {
    progress.stop();
    interrupt.dispose();
  }
}
