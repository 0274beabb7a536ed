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
import { caseArbitrary, isFloating, type KitCase, type Special } from './case.ts';
import { CHECKS, type CheckName } from './checks.ts';
import type { Worst } from './compare.ts';
import type { Lane } from './lane.ts';
import { emptyHint, emptySweep, simplerCases, sweep } from './sweep.ts';
import { Trial } from './trial.ts';

export interface KitRequest {
  readonly registry: Registry;
  /** The worker that has the same plugins and device. */
  readonly lane: Lane;
  /** Names of the plugins whose ops are checked. */
  readonly checked: readonly string[];
  /** The webgpu device's slug, or why there is none. */
  readonly device: { readonly slug: string } | { readonly reason: string };
  readonly seed: number;
  /** Share of the usual number of cases, 1 being the usual. */
  readonly effort: number;
  /** A case that takes longer hangs. */
  readonly timeoutMs: number;
  /** Default: every check. */
  readonly only?: readonly CheckName[];
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
const CASES: Readonly<Record<CheckName, number>> = { shapes: 60, reference: 30, int8: 20, kernel: 30, pattern: 8, onnxruntime: 24, webgpu: 8, fusion: 6, 'non-finite': 12 };

/** Further cases at most, in which modes, flags and element types are gone through. */
const SWEEPS: Readonly<Record<CheckName, number>> = { shapes: 130, reference: 70, int8: 40, kernel: 70, pattern: 0, onnxruntime: 70, webgpu: 12, fusion: 0, 'non-finite': 12 };

const DRAWS_EMPTY: ReadonlySet<CheckName> = new Set(['shapes', 'reference', 'kernel', 'onnxruntime', 'webgpu']);

/** Throws what a plugin raises while it is loaded again, and the signal's reason. */
export async function checkConformance(request: KitRequest): Promise<ConformanceReport> {
  const { registry, checked, lane, device, seed, signal } = request;
  const slug = 'slug' in device ? device.slug : undefined;
  const ops: OpResult[] = [];
  for (const [index, { op, plugin }] of registry.ops.entries()) {
    if (!checked.includes(plugin.name)) continue;
    const checks: CheckResult[] = [];
    for (const check of request.only ?? CHECKS) {
      signal?.throwIfAborted();
      request.onCheck?.(opTitle(op), check);
      const reason = checks.some(hangs) ? 'it would hang as an earlier check did' : whySkipped(op, check, device);
      checks.push(reason === undefined ? await checkOne(request, lane, op, index, check) : { status: 'skipped', check, reason });
    }
    ops.push({ op: opTitle(op), plugin, checks });
  }
  return { passed: ops.every(({ checks }) => checks.every(({ status }) => status !== 'failed')), device: slug, seed, ops };
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
  if (check === 'int8' || (check === 'pattern' && op.dtypes.includes('float32'))) return ['float32'];
  const onDevice = check === 'webgpu' || (check === 'fusion' && hasDevice);
  return onDevice && !decomposes(op) ? kernelDtypes(op) : op.dtypes;
}

function whySkipped(op: CustomOp, check: CheckName, device: KitRequest['device']): string | undefined {
  const noDevice = 'reason' in device ? `no WebGPU device: ${device.reason}` : undefined;
  const runsOnDevice = decomposes(op) || kernelDtypes(op).length > 0;
  switch (check) {
    case 'kernel':
      return kernelDtypes(op).length === 0 ? 'the op gives no WGSL kernel' : noDevice;
    case 'int8':
      if (!op.int8) return 'the op says nothing of int8';
      return op.dtypes.includes('float32') ? undefined : 'int8 stands in for float32, which the op does not take';
    case 'pattern':
      if (!op.patterns?.length) return 'the op gives no pattern';
      return op.expression || op.kernels?.length ? undefined : 'nothing is put in for a pattern without a kernel or an expression';
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

/** Seeds that have nothing to do with each other: the first numbers that fast-check draws for neighbouring ones are alike. */
function spread(seed: number, turn: number): number {
  return Math.imul(seed + 1, 0x9e3779b9) ^ Math.imul(turn + 1, 0x85ebca6b);
}

/** One check: cases at random, then a sweep. The first failure, shrunk, ends it. */
async function checkOne(request: KitRequest, lane: Lane, op: CustomOp, index: number, check: CheckName): Promise<CheckResult> {
  const { seed, effort, device } = request;
  const specials: readonly Special[] = check === 'non-finite' ? ['nan', 'infinity'] : ['none'];
  const dtypes = dtypesOf(op, check, 'slug' in device);
  const trial = new Trial(request, lane, index, check);
  const runs = (count: number): number => Math.max(2, Math.round(count * effort));
  const random = caseArbitrary(op, specials, dtypes);
  let given = await trial.search(random, { seed, numRuns: runs(CASES[check]) });
  const fixed = [...sweep(op, dtypes, Math.round(SWEEPS[check] * effort)), ...(DRAWS_EMPTY.has(check) ? emptySweep(op) : [])];
  for (let turn = 0; turn < fixed.length && given === undefined; turn++) {
    given = await trial.search(caseArbitrary(op, specials, dtypes, fixed[turn]), { seed: spread(seed, turn), numRuns: 1 });
  }
  if (given) given = await trial.simplify(given, (failing) => simplerCases(op, failing, dtypes));
  const { cases, accepted, refusal, worst, shrinks } = trial;
  if (given) {
    const { message, input, hung } = await trial.explain(given);
    return { status: 'failed', check, cases, shrinks, given, message: message + emptyHint(op, given), input, hung };
  }
  if (accepted > 0) return { status: 'passed', check, cases: accepted, worst };
  if (check === 'pattern') return { status: 'skipped', check, reason: `${refusal}; try it on a model that has it: tsrt-bench inspect MODEL --passes` };
  return { status: 'failed', check, cases, shrinks: 0, given: fc.sample(random, 1)[0]!, message: `infer refuses every input within what the op declares: ${refusal}`, input: 'all of them', hung: false };
}
