/** `compare`: two sets of records side by side. Reads only. */
import { comparePairs, type Comparison } from '../gate/compare.ts';
import { DEFAULT_POLICY } from '../gate/policy.ts';
import { pairCases } from '../gate/pair.ts';
import { selectRecords } from '../results/select.ts';
import type { BaselineStore } from '../results/stores/contract.ts';

export interface CompareRequest {
  readonly results: string;
  /** Where baselines are; default: in the results folder. */
  readonly store?: BaselineStore | undefined;
  /** Each a file, a run, `latest` or a baseline. */
  readonly baseline: string;
  readonly candidate: string;
  readonly suite: string | undefined;
  readonly allowDifferentDevice: boolean;
}

/** Compares case by case. Throws BASELINE_INCOMPARABLE for other suites and, unless allowed, other devices. */
export async function compareRecords(request: CompareRequest): Promise<Comparison> {
  const [baseline, candidate] = await Promise.all([selectRecords(request.baseline, request), selectRecords(request.candidate, request)]);
  const pairing = pairCases(baseline, candidate, request);
  const notices = [...baseline.notices, ...candidate.notices, ...pairing.notices];
  const labels = { baseline: baseline.label, candidate: candidate.label };
  return comparePairs({ ...pairing, notices }, labels, DEFAULT_POLICY);
}
