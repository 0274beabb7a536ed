/** The kernels that can compute a product, as candidates for the choice of a tactic. */
import type { DType } from '../../../ir/tensor.ts';
import { matmulKernels, type MatmulSpec } from '../kernels/matmul.ts';
import { wordDepth } from '../kernels/few-bits/weights.ts';
import { packedKernels } from '../kernels/packed/kernel.ts';
import { overlapOf } from '../kernels/packed/slide.ts';
import { product, type PackedSpec } from '../kernels/packed/spec.ts';
import { stridedParts } from '../kernels/packed/stationary.ts';
import { type DeviceProfile, matricesOf } from '../profile.ts';
import { type MatmulShape, matmulTactics, tacticName, tacticScratchBytes } from '../tactics/matmul.ts';
import { matrixSubgroup, packedScratchBytes, packedTacticName, type PackedElement } from '../tactics/packed.ts';
import { packedTactics } from '../tactics/packed-candidates.ts';
import type { Candidate } from '../tactics/tactic.ts';
import type { LowerContext } from './context.ts';
import { withConstants } from './epilogue-constants.ts';

/** What candidates ask of a lowering's context. */
type KernelContext = Pick<LowerContext, 'pack' | 'profile' | 'scratch' | 'halfSums'>;

/** Register tiles in f32, which serve every storage. */
export function tiledCandidates(spec: MatmulSpec, shape: MatmulShape, context: KernelContext): Candidate[] {
  const { b } = spec;
  const unit = b.kind === 'few-bits' ? wordDepth(b) : 1;
  return matmulTactics(shape, context.profile).filter(({ bk }) => bk % unit === 0).map((tactic) => ({
    name: tacticName(tactic),
    scratchBytes: tacticScratchBytes(shape, tactic),
    kernels: () => matmulKernels(spec, tactic, context.profile, (elements) => context.scratch('float32', [elements])),
  }));
}

/** Products of halves or bytes, read 16 bytes at a time: on subgroup matrices where the device has them. */
export function packedCandidates(given: PackedSpec, context: KernelContext, precision: DType = given.element === 'f16' ? 'float16' : 'int8'): Candidate[] {
  const spec = withConstants(given, context);
  const overlap = overlapOf(spec.a);
  const parts = stridedParts(spec);
  const shape = { batch: product(spec.batch), rows: product(spec.rows), columns: spec.columns, depth: spec.depth, readsRows: readsRows(spec), normalizes: spec.normalization !== undefined, ...(overlap && { overlap }), ...(parts && { stationary: parts.map((part) => part.depth) }) };
  return packedTactics({ ...shape, element: spec.element, halfSums: context.halfSums && precision === 'float16' && !spec.normalization }, context.profile).map((tactic) => ({
    name: packedTacticName(tactic, spec.element),
    scratchBytes: packedScratchBytes(shape, tactic),
    kernels: () =>
      packedKernels(spec, tactic, context.profile, (elements) => context.scratch('float32', [elements])).map((call) => ({ ...call, precision })),
  }));
}

/** Whether an operand of the end differs from row to row. */
function readsRows({ batch, rows, extras }: PackedSpec): boolean {
  return extras.some(({ view }) => rows.some((extent, axis) => extent > 1 && view.strides[batch.length + axis] !== 0));
}

/** Whether the device multiplies matrices of this type in hardware that a kernel can use. */
export function hasMatrices(profile: DeviceProfile, element: PackedElement): boolean {
  return matrixSubgroup(profile) !== undefined && matricesOf(profile, element).length > 0;
}
