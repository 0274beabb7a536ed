/**
 * Is a calibration set representative? Compares the distributions that other inputs give with the ranges that were calibrated:
 * what clips now, and how far the bulk of the values has moved.
 */
import type { ValueId } from '../ir/graph.ts';
import type { Calibration } from './calibration.ts';
import { bulkOf, shareOutside } from './collect.ts';
import type { Distribution } from './observer.ts';

export interface TensorDrift {
  readonly tensor: ValueId;
  /** Values outside the calibrated range, now and over the calibration set. */
  readonly clippedShare: number;
  readonly calibratedClippedShare: number;
  /** How far the ends of the bulk (99.9 % of the values) moved, as a share of its calibrated width. */
  readonly drift: number;
  /** Whether one of the two is beyond what another sample of the same pictures gives. */
  readonly suspicious: boolean;
}

/** Clipping beyond this share of a tensor, and beyond three times what calibration left out, is worth a warning. */
const MAX_CLIPPED = 0.002;
const MAX_GROWTH = 3;
/** Fewer values than these may clip by chance: of as many again, one lies beyond the largest of a calibration. */
const MIN_CLIPPED = 10;
/** Ends of the bulk that moved by more than this share of its width. */
const MAX_DRIFT = 0.3;

/** A row per tensor of the calibration that was seen, the worst first. */
export function compareDrift({ tensors }: Pick<Calibration, 'tensors'>, seen: ReadonlyMap<ValueId, Distribution>): readonly TensorDrift[] {
  const rows = Object.entries(tensors).flatMap(([tensor, { range, bulk, clippedShare: before }]): TensorDrift[] => {
    const distribution = seen.get(tensor);
    if (!distribution) return [];
    const clippedShare = shareOutside(distribution, range);
    const now = bulkOf(distribution);
    const width = bulk.high - bulk.low;
    const moved = Math.max(Math.abs(now.low - bulk.low), Math.abs(now.high - bulk.high));
    const drift = moved === 0 ? 0 : width === 0 ? Number.MAX_VALUE : moved / width;
    const clips = clippedShare * distribution.count >= MIN_CLIPPED && clippedShare > MAX_CLIPPED && clippedShare > MAX_GROWTH * before;
    return [{ tensor, clippedShare, calibratedClippedShare: before, drift, suspicious: clips || drift > MAX_DRIFT }];
  });
  return rows.sort((a, b) => badness(b) - badness(a));
}

function badness({ clippedShare, calibratedClippedShare, drift }: TensorDrift): number {
  return Math.max(drift / MAX_DRIFT, Math.max(0, clippedShare - MAX_GROWTH * calibratedClippedShare) / MAX_CLIPPED);
}
