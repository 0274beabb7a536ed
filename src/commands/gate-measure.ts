/** The gate's modes that measure for themselves: `--against`, `--self-test` and `--measure`. */
import { Flags } from '@oclif/core';
import type { ResolvedConfig } from '../config.ts';
import { TsrtError } from '../errors.ts';
import type { GateReport } from '../gate/judge.ts';
import { parseConfidence, parseThresholds } from '../gate/policy.ts';
import { DEFAULT_ROUNDS, looksUpTo, PAIRED_ROUNDS } from '../gate/sequential.ts';
import type { Suite } from '../suite/schema.ts';
import type { MeasuredGateRequest } from '../workflows/gate-measured.ts';
import type { Judged } from '../workflows/gate-update.ts';
import type { SelfTestResult } from '../workflows/paired/self-test.ts';
import type { RunRequest } from '../workflows/run/request.ts';
import { DEVICE } from './device-flag.ts';
import { parseDuration, SUITE_FLAGS, suiteOverrides, withConfig } from './suite-flags.ts';
import { watched } from './watched.ts';

const GROUP = { helpGroup: 'MEASURED' } as const;

const { model: _model, rounds: _rounds, time: _time, seed: _seed, ...VARIANT_FLAGS } = SUITE_FLAGS;

export const MEASURED_FLAGS = {
  against: Flags.string({ ...GROUP, multiple: true, delimiter: ',', description: 'baseline to run again, in the same rounds as the candidate: engine files, or a git revision of the project', helpValue: 'ENGINE|REF' }),
  prepare: Flags.string({ ...GROUP, description: 'with --against REF: command that prepares a fresh checkout, such as "npm run build"', helpValue: 'COMMAND' }),
  measure: Flags.boolean({ ...GROUP, description: 'run the suite now, against the stored baseline, for as many rounds as the verdict needs' }),
  engine: Flags.string({ ...GROUP, multiple: true, delimiter: ',', description: "with --against: engine files as the candidate, instead of the suite's variants", helpValue: 'ENGINE' }),
  'self-test': Flags.boolean({ ...GROUP, description: 'measure identical engines against each other, and show how often the gate is wrong and what it finds' }),
  detect: Flags.string({ ...GROUP, description: 'with --self-test: find the number of rounds that detects this slowdown, such as 5%', helpValue: 'PERCENT' }),
  model: Flags.string({ ...GROUP, description: "ONNX file to use instead of the suite's model", helpValue: 'FILE' }),
  rounds: Flags.integer({ ...GROUP, min: 3, description: `largest number of rounds [default: ${PAIRED_ROUNDS}, with --measure and --self-test ${DEFAULT_ROUNDS}]; a case that is decided earlier is not measured further`, helpValue: 'N' }),
  time: Flags.string({ ...GROUP, description: 'time to measure one case in one round, such as 500ms or 2s', helpValue: 'TIME' }),
  budget: Flags.string({ ...GROUP, description: 'start no round after this time, such as 10m', helpValue: 'TIME' }),
  device: Flags.string({ ...GROUP, ...DEVICE }),
  ...VARIANT_FLAGS,
} as const;

export interface MeasuredFlags extends Omit<Parameters<typeof suiteOverrides>[0], 'rounds'> {
  readonly limit?: number | undefined;
  readonly against?: readonly string[] | undefined;
  readonly prepare?: string | undefined;
  readonly engine?: readonly string[] | undefined;
  readonly 'self-test': boolean;
  readonly measure: boolean;
  readonly detect?: string | undefined;
  readonly model?: string | undefined;
  readonly rounds?: number | undefined;
  readonly time?: string | undefined;
  readonly budget?: string | undefined;
  readonly device?: string | undefined;
  readonly threshold?: readonly string[] | undefined;
  readonly confidence?: string | undefined;
  readonly 'ignore-missing': boolean;
  readonly json?: boolean | undefined;
  readonly quiet: boolean;
}

/** Whether the flags ask for measurement of two sides; throws USAGE where they ask for two things at once. */
export function wantsMeasurement(flags: MeasuredFlags): boolean {
  const { against, prepare, detect, engine, measure, 'self-test': selfTest } = flags;
  const [one, other] = [against && '--against', selfTest && '--self-test', measure && '--measure'].filter((flag) => flag !== undefined && flag !== false);
  if (other !== undefined) throw new TsrtError('USAGE', `${one} and ${other} are different measurements`, { fix: 'choose one of them' });
  if (detect !== undefined && !selfTest) throw new TsrtError('USAGE', '--detect goes with --self-test', { fix: 'add --self-test' });
  if (engine && !against) throw new TsrtError('USAGE', '--engine goes with --against', { fix: 'name the baseline with --against ENGINE, or measure with `tsrt-bench run`' });
  if (prepare !== undefined && !against) throw new TsrtError('USAGE', '--prepare goes with --against REF', { fix: 'name a git revision with --against' });
  const given = new Map<string, unknown>(Object.entries(flags));
  // The other side of a comparison has its own suite, which says what its variants are.
  const variants = measure ? undefined : Object.keys(VARIANT_FLAGS).find((name) => given.get(name) !== undefined);
  if (variants !== undefined) throw new TsrtError('USAGE', `--${variants} goes with --measure`, { fix: 'add --measure; with --against and --self-test, the suites name the variants' });
  const stray = one === undefined ? Object.keys(MEASURED_FLAGS).find((name) => given.get(name) !== undefined && given.get(name) !== false) : undefined;
  if (stray !== undefined) throw new TsrtError('USAGE', `--${stray} is for a gate that measures, but this one only reads records`, { fix: 'add --measure, --against or --self-test' });
  return selfTest || against !== undefined;
}

/** What a gate between two measured sides has no use for, and what a self-test, which gives no verdict, has none for besides. */
export const STORED_ONLY = ['baseline', 'candidate', 'store', 'allow-different-device'] as const;
export const VERDICT_ONLY = ['format', 'output', 'inconclusive'] as const;

/** `5%` or `5`. Throws USAGE. */
export function parseDetect(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const percent = Number(text.trim().replace(/\s*%$/, ''));
  if (percent > 0 && percent <= 700) return percent;
  throw new TsrtError('USAGE', `'${text}' is not a slowdown`, { fix: 'give a percentage, such as --detect 5%' });
}

/** Measures both sides as the flags say. Throws USAGE without a suite. */
export function measureGate(suite: string | undefined, flags: MeasuredFlags, settings: ResolvedConfig): Promise<GateReport | SelfTestResult> {
  return measuring(suite, flags, settings, async (request) => {
    const { policyOf } = await import('../workflows/gate.ts');
    const thresholds = parseThresholds(flags.threshold ?? []);
    const paired = {
      ...request,
      policy: (read: Pick<Suite, 'gate'>) => policyOf(read, { thresholds, confidence: parseConfidence(flags.confidence), ignoreMissing: flags['ignore-missing'] }),
      looks: looksUpTo(flags.rounds ?? PAIRED_ROUNDS),
    };
    if (flags.against) return (await import('../workflows/paired/against.ts')).runGateAgainst({ ...paired, against: flags.against, prepare: flags.prepare });
    return (await import('../workflows/paired/self-test.ts')).runSelfTest({ ...paired, rounds: flags.rounds ?? DEFAULT_ROUNDS });
  });
}

/** The suite against a stored baseline, which `gate` names. */
export function measureStored(suite: string | undefined, flags: MeasuredFlags & { readonly update: boolean }, settings: ResolvedConfig, gate: MeasuredGateRequest['gate']): Promise<Judged> {
  return measuring(suite, flags, settings, async (run) => {
    const { measureAndJudge } = await import('../workflows/gate-measured.ts');
    return measureAndJudge({ run: { ...run, limit: flags.limit }, gate, looks: looksUpTo(flags.rounds ?? DEFAULT_ROUNDS), whole: flags.update });
  });
}

type Measurement = Pick<RunRequest, 'suite' | 'settings' | 'overrides' | 'modelFile' | 'device' | 'signal' | 'onEvent'> & { readonly engineFiles: readonly string[] };

/** What all of them need: a suite, settings over its own, progress, an end by Ctrl-C. */
async function measuring<T>(suite: string | undefined, flags: MeasuredFlags, settings: ResolvedConfig, measure: (request: Measurement) => Promise<T>): Promise<T> {
  if (suite === undefined) throw new TsrtError('USAGE', 'a gate that measures needs a suite', { fix: 'name it: `tsrt-bench gate suites/resnet50 --self-test`' });
  const { config } = settings;
  const asked = suiteOverrides({ ...flags, rounds: undefined });
  return watched({ quiet: flags.quiet, json: flags.json === true, stopping: 'the verdict will rest on what was measured' }, (watch) =>
    measure({
      suite,
      settings,
      overrides: {
        // What a configuration file says of variants is for engines that are built.
        ...(flags.engine === undefined ? withConfig(asked, config) : asked),
        timeMs: asked.timeMs ?? config.timeMs,
        budgetMs: flags.budget === undefined ? undefined : parseDuration('--budget', flags.budget),
      },
      modelFile: flags.model,
      engineFiles: flags.engine ?? [],
      device: flags.device,
      ...watch,
    }),
  );
}
