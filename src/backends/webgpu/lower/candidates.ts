/** The kernels that can compute a product, as candidates for the choice of a tactic. */
import type { DType } from '../../../ir/tensor.ts';
import { matmulKernels, type MatmulSpec } from '../kernels/matmul.ts';
import { RUN, wordDepth } from '../kernels/few-bits/weights.ts';
import { fewRowsKernel, type FewRowsSpec } from '../kernels/few-rows.ts';
import { packedKernels } from '../kernels/packed/kernel.ts';
import { overlapOf } from '../kernels/packed/slide.ts';
import { product, type PackedSpec } from '../kernels/packed/spec.ts';
import { stridedParts } from '../kernels/packed/stationary.ts';
import { type DeviceProfile, matricesOf } from '../profile.ts';
import { fewRowsName, fewRowsTactics } from '../tactics/few-rows.ts';
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

/** The most rows for which kernels of few rows are likely to be the fastest: matrices take as long for one row as for sixteen. */
export const FEW_BESIDE_MATRICES = 4;

/** Kernels for few rows, which are bound by the bytes of the right matrix; none where there are many rows or several matrices, or where neighbouring columns do not lie side by side. */
export function fewRowsCandidates(spec: FewRowsSpec, shape: MatmulShape, context: Pick<LowerContext, 'profile'>): Candidate[] {
  const { b } = spec;
  if (shape.batch !== 1 || (b.kind !== 'few-bits' && b.view.strides.at(-1) !== 1)) return [];
  const form = b.kind === 'few-bits'
    ? { vectors: Math.ceil(b.depth / wordDepth(b)), blockVectors: b.block === b.depth ? RUN : b.block / wordDepth(b), vectorRegisters: 4, vectorWeights: 4 * wordDepth(b), unpacking: 6 }
    : { vectors: Math.ceil(spec.depth / 4), blockVectors: RUN, vectorRegisters: b.tensor.storage === 'f16' ? 8 : 16, vectorWeights: 16, unpacking: b.tensor.storage === 'f16' ? 2 : 1 };
  return fewRowsTactics({ ...form, rows: shape.rows, columns: shape.columns, normalizes: spec.normalization !== undefined }, context.profile).map((tactic) => ({ name: fewRowsName(tactic), scratchBytes: 0, kernels: () => [fewRowsKernel(spec, tactic, context.profile)] }));
}

/** Products of halves or bytes, read 16 bytes at a time: on subgroup matrices where the device has them. */
export function packedCandidates(given: PackedSpec, context: KernelContext, precision: DType = given.element === 'f16' ? 'float16' : 'int8'): Candidate[] {
  const spec = withConstants(given, context);
  const overlap = overlapOf(spec.a);
  const parts = stridedParts(spec);
  const shape = { batch: product(spec.batch), rows: product(spec.rows), columns: spec.columns, depth: spec.depth, readsRows: readsRows(spec), ...(spec.normalization && { normalizes: spec.normalization.rowSums ? 'known' as const : 'summed' as const }), ...(spec.rowSums && { rowSums: spec.rowSums.columns }), scales: spec.scaleOfA !== undefined, ...(spec.b.kind === 'few-bits' && { weightBits: spec.b.bits }), ...(overlap && { overlap }), ...(parts && { stationary: parts.map((part) => part.depth) }) };
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
