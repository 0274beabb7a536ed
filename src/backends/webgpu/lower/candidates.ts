/** The kernels that can compute a product, as candidates for the choice of a tactic. */
import { matmulKernels, type MatmulSpec } from '../kernels/matmul.ts';
import { type MatmulShape, matmulTactics, tacticName, tacticScratchBytes } from '../tactics/matmul.ts';
import type { Candidate } from '../tactics/tactic.ts';
import type { LowerContext } from './context.ts';

/** Register tiles in f32, which serve every storage. */
export function tiledCandidates(spec: MatmulSpec, shape: MatmulShape, context: LowerContext): Candidate[] {
  return matmulTactics(shape, context.profile).map((tactic) => ({
    name: tacticName(tactic),
    scratchBytes: tacticScratchBytes(shape, tactic),
    kernels: () => matmulKernels(spec, tactic, context.profile, (elements) => context.scratch('float32', [elements])),
  }));
}
