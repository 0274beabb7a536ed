/** Tactics of the packed kernel for tests, and what is wrong with its answers. */
import { PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import { fewestRounds, type PackedElement, type PackedEngine, packedReason, type PackedTactic, VECTOR_ELEMENTS } from '../../src/backends/webgpu/tactics/packed.ts';
import { testDevice } from './helpers.ts';
import { type Problem, readHeld, runKernels, stored } from './packed-problem.ts';

/** Tiles of 16 × 16 with blocks of two vectors, unless told otherwise. */
export function tactic(engine: PackedEngine, element: PackedElement, options: Partial<PackedTactic> = {}): PackedTactic {
  const tile = {
    kind: 'packed',
    engine,
    bm: 16,
    bn: 16,
    bk: 2,
    sm: engine === 'lanes' ? 2 : 8,
    sn: engine === 'lanes' ? 4 : 16,
    splitK: 1,
    slices: 1,
    buffers: 1,
    ahead: 1,
    walk: 1,
    wide: 4,
    stationary: false,
    slide: undefined,
    halfSums: false,
    matrix: engine === 'lanes' ? undefined : { m: 8, n: 8, k: element === 'f16' ? 8 : 16 },
    subgroup: engine === 'lanes' ? 1 : 8,
    demandsSubgroup: false,
    ...options,
  } as const;
  return { ...tile, rounds: options.rounds ?? fewestRounds(tile, PORTABLE_PROFILE.maxWorkgroupBytes) };
}

/**
 * What is wrong with the kernel's answer, if anything is: sums in f32 within their rounding, halves and bytes within one step
 * where rounding can tip, padding lanes zero or the zero point.
 */
export async function fault(problem: Problem, chosen: PackedTactic): Promise<string | undefined> {
  const { spec } = problem;
  const illegal = packedReason(chosen, spec.element, PORTABLE_PROFILE);
  if (illegal) return illegal;
  const open = await testDevice();
  const bytes = await runKernels(open.device, problem, chosen, PORTABLE_PROFILE);
  open.check();
  const { values, padding } = readHeld(spec.output.tensor, bytes);
  let exact = 0;
  for (const [i, real] of problem.expected.entries()) {
    const wanted = stored(real, problem);
    const gap = Math.abs(values[i]! - wanted);
    if (gap === 0) exact++;
    if (!(gap <= stepOf(problem, chosen, wanted))) return `element ${i}: ${values[i]}, expected ${wanted} for ${real}`;
  }
  const narrow = spec.output.tensor.storage === 'i8';
  if (narrow && !chosen.halfSums && exact < 0.99 * values.length) return `${values.length - exact} of ${values.length} bytes differ`;
  const padded = spec.output.quantization?.zeroPoint ?? (problem.grid?.dtype === 'uint8' ? -128 : 0);
  const wrong = padding.find((value) => value !== padded);
  return wrong === undefined ? undefined : `a padding lane holds ${wrong}`;
}

/** How far a stored value may lie from the wanted one; saturated bytes are exact where sums are. */
function stepOf(problem: Problem, chosen: PackedTactic, wanted: number): number {
  const { tensor, quantization } = problem.spec.output;
  const drift = driftOf(problem, chosen);
  if (tensor.storage === 'i8') return drift === 0 && (wanted === -128 || wanted === 127) ? 0 : 1 + Math.ceil(drift / (quantization?.scale ?? problem.grid?.scale ?? 1));
  return (tensor.storage === 'f16' ? 2 ** -10 : 2e-5) * Math.max(1, Math.abs(wanted)) + drift;
}

/** What rounding sums to halves after every matrix makes of a result: the walk of as many errors of up to half a unit in the last place of √depth. */
export function driftOf({ spec: { depth, scale } }: Problem, { halfSums, matrix }: PackedTactic): number {
  const elements = depth * VECTOR_ELEMENTS.f16;
  return halfSums ? 2 * Math.abs(scale) * 2 ** -11 * Math.sqrt(elements) * Math.sqrt(elements / matrix!.k) : 0;
}
