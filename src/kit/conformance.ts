/**
 * The conformance kit: whether a plugin's ops do what they say, by random inputs within what they declare. A failure is shrunk by
 * fast-check to the smallest input that still fails, a hang included: the worker is ended and the next input tried in a new one.
 *
 * Prior art: ONNX's backend tests and PyTorch's `opcheck` (fixed samples), QuickCheck (Claessen, Hughes, 2000).
 */
import fc from 'fast-check';
import { opTitle, type CustomOp, type PluginStamp } from '../ir/custom.ts';
import type { DType } from '../ir/tensor.ts';
import { decomposes } from '../ops/custom-routes.ts';
import type { Registry } from '../registry.ts';
import { caseArbitrary, describeCase, isFloating, type KitCase, type Special } from './case.ts';
import { CHECKS, type CheckName } from './checks.ts';
import { larger, NO_ERROR, type Worst } from './compare.ts';
import { Lane, type Answer } from './lane.ts';

export interface KitRequest {
  readonly registry: Registry;
  /** As they were named, and where: the worker loads them again. */
  readonly plugins: readonly string[];
  readonly cwd: string;
  /** Names of the plugins whose ops are checked. */
  readonly checked: readonly string[];
  /** The webgpu device's slug, or why there is none. */
  readonly device: { readonly slug: string } | { readonly reason: string };
  readonly environment: Readonly<Record<string, string>>;
  readonly seed: number;
  /** Share of the usual number of cases, 1 being the usual. */
  readonly effort: number;
  /** A case that takes longer hangs. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
  readonly onCheck?: (op: string, check: CheckName) => void;
}

export type CheckResult =
  | { readonly status: 'passed'; readonly check: CheckName; readonly cases: number; readonly worst: Worst }
  | { readonly status: 'skipped'; readonly check: CheckName; readonly reason: string }
  | { readonly status: 'failed'; readonly check: CheckName; readonly cases: number; readonly message: string; readonly input: string; readonly hung: boolean; readonly shrinks: number; readonly given: KitCase };

export interface OpResult {
  readonly op: string;
  readonly plugin: PluginStamp;
  readonly checks: readonly CheckResult[];
}

export interface ConformanceReport {
  readonly passed: boolean;
  readonly device: string | undefined;
  readonly seed: number;
  readonly ops: readonly OpResult[];
}

/** Cases per check: cheap ones many, those that compile for a device few. */
const CASES: Readonly<Record<CheckName, number>> = { shapes: 60, reference: 30, kernel: 30, onnxruntime: 20, webgpu: 8, fusion: 6, 'non-finite': 8 };

/** What a hang may cost: each try takes its whole time. */
const HANG_TRIES = 8;
const HANG_TIMEOUT_MS = 3000;

/** Throws what a plugin raises while it is loaded, and the signal's reason. */
export async function checkConformance(request: KitRequest): Promise<ConformanceReport> {
  const { registry, checked, plugins, cwd, device, environment, seed, signal } = request;
  const slug = 'slug' in device ? device.slug : undefined;
  const lane = new Lane({ open: { kind: 'open', plugins, cwd, device: slug }, environment });
  const stop = (): void => lane.end();
  signal?.addEventListener('abort', stop);
  try {
    const ops: OpResult[] = [];
    for (const [index, { op, plugin }] of registry.ops.entries()) {
      if (!checked.includes(plugin.name)) continue;
      const checks: CheckResult[] = [];
      for (const check of CHECKS) {
        signal?.throwIfAborted();
        request.onCheck?.(opTitle(op), check);
        const reason = checks.some(hangs) ? 'it would hang as an earlier check did' : whySkipped(op, check, device);
        checks.push(reason === undefined ? await checkOne(request, lane, op, index, check) : { status: 'skipped', check, reason });
      }
      ops.push({ op: opTitle(op), plugin, checks });
    }
    return { passed: ops.every(({ checks }) => checks.every(({ status }) => status !== 'failed')), device: slug, seed, ops };
  } finally {
    signal?.removeEventListener('abort', stop);
    lane.end();
  }
}

function hangs(result: CheckResult): boolean {
  return result.status === 'failed' && result.hung;
}

function kernelDtypes(op: CustomOp): readonly DType[] {
  return op.dtypes.filter((dtype) => op.kernels?.some(({ dtypes }) => dtypes.includes(dtype)));
}

/** Element types that a check draws from. */
function dtypesOf(op: CustomOp, check: CheckName, hasDevice: boolean): readonly DType[] {
  if (check === 'kernel') return kernelDtypes(op);
  if (check === 'non-finite') return op.dtypes.filter(isFloating);
  const onDevice = check === 'webgpu' || (check === 'fusion' && hasDevice);
  return onDevice && !decomposes(op) ? kernelDtypes(op) : op.dtypes;
}

function whySkipped(op: CustomOp, check: CheckName, device: KitRequest['device']): string | undefined {
  const noDevice = 'reason' in device ? `no WebGPU device: ${device.reason}` : undefined;
  const runsOnDevice = decomposes(op) || kernelDtypes(op).length > 0;
  switch (check) {
    case 'kernel':
      return kernelDtypes(op).length === 0 ? 'the op gives no WGSL kernel' : noDevice;
    case 'onnxruntime':
      return decomposes(op) ? undefined : 'the op gives no decomposition';
    case 'webgpu':
      return runsOnDevice ? noDevice : 'the op gives nothing that runs there';
    case 'fusion':
      if (!runsOnDevice) return 'the op gives nothing that runs';
      return decomposes(op) ? undefined : noDevice;
    case 'non-finite':
      if (op.nonFinite === 'unspecified') return 'the op leaves NaN and infinities unspecified';
      if (!op.dtypes.some(isFloating)) return 'the op has no floating type';
      return decomposes(op) ? undefined : (runsOnDevice ? noDevice : 'the op gives nothing that runs');
    case 'shapes':
    case 'reference':
      return undefined;
    default:
      return check satisfies never;
  }
}

type Failure = Pick<Extract<CheckResult, { status: 'failed' }>, 'message' | 'input' | 'hung'>;

async function checkOne({ seed, effort, timeoutMs, device }: KitRequest, lane: Lane, op: CustomOp, index: number, check: CheckName): Promise<CheckResult> {
  const specials: readonly Special[] = check === 'non-finite' ? ['nan', 'infinity'] : ['none'];
  const cases = caseArbitrary(op, specials, dtypesOf(op, check, 'slug' in device));
  let worst = NO_ERROR;
  let hangs = 0;
  let accepted = 0;
  let refusal = '';
  let broken: { readonly error: unknown } | undefined;
  const failures = new Map<string, Failure>();
  const property = fc.asyncProperty(cases, async (given) => {
    if (hangs >= HANG_TRIES) return true;
    const answer = await lane.check({ kind: 'check', op: index, check, given }, hangs > 0 ? Math.min(timeoutMs, HANG_TIMEOUT_MS) : timeoutMs).catch((error: unknown) => {
      broken ??= { error };
      throw error;
    });
    if (answer.kind === 'hung') hangs++;
    // Another case is drawn in its place, up to a hundred for each.
    if (answer.kind === 'refused') {
      refusal = answer.reason;
      fc.pre(false);
    }
    accepted++;
    if (answer.kind === 'passed') {
      worst = larger(worst, answer.worst);
      return true;
    }
    failures.set(JSON.stringify(given), failureOf(answer, given));
    return false;
  });
  const run = await fc.check(property, { seed, numRuns: Math.max(2, Math.round(CASES[check] * effort)) });
  const given = run.counterexample?.[0];
  if (broken) throw broken.error;
  if (given) return { status: 'failed', check, cases: run.numRuns, shrinks: run.numShrinks, given, ...failures.get(JSON.stringify(given))! };
  if (accepted === 0) {
    return { status: 'failed', check, cases: run.numRuns, shrinks: 0, given: fc.sample(cases, 1)[0]!, message: `infer refuses every input within what the op declares: ${refusal}`, input: 'all of them', hung: false };
  }
  return { status: 'passed', check, cases: accepted, worst };
}

function failureOf(answer: Exclude<Answer, { kind: 'passed' | 'refused' }>, given: KitCase): Failure {
  switch (answer.kind) {
    case 'failed':
      return { message: answer.message, input: answer.input, hung: false };
    case 'hung':
      return { message: 'it hangs: no answer in the time that a case may take (--timeout)', input: describeCase(given), hung: true };
    case 'died':
      return { message: answer.message, input: describeCase(given), hung: false };
    default:
      return answer satisfies never;
  }
}
