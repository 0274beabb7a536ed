/** `compare`: two sets of records side by side, or two engines by the nodes of their model. */
import { profileFile, type ProfileSettings } from './profile.ts';
import { compareByNode, type NodeComparison } from '../report/by-node.ts';
import type { Registry } from '../registry.ts';
import { chooseDevices } from './probe.ts';
import { readEngineFile } from './engine-file.ts';
import { suiteCall } from './suite-call.ts';
import { TsrtError } from '../errors.ts';
import { comparePairs, type Comparison } from '../gate/compare.ts';
import { DEFAULT_POLICY } from '../gate/policy.ts';
import { pairCases, sameRunNotices } from '../gate/pair.ts';
import { METRICS, type MetricName } from '../gate/metrics.ts';
import { noCase, selectRecords } from '../results/select.ts';
import type { RecordSet } from '../results/store.ts';
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
  /** Default: all that both sides have. */
  readonly metrics?: readonly MetricName[] | undefined;
  /** Only cases whose id holds this text. */
  readonly caseFilter?: string | undefined;
}

/** Compares case by case. Throws BASELINE_INCOMPARABLE for other suites and, unless allowed, other devices. */
export async function compareRecords(request: CompareRequest): Promise<Comparison> {
  const candidate = await selectRecords(request.candidate, request);
  // A baseline may have several suites: the other side says which is meant.
  const baseline = await selectRecords(request.baseline, { ...request, suite: request.suite ?? candidate.suite });
  const pairing = pairCases(ofCases(baseline, request.caseFilter), ofCases(candidate, request.caseFilter), request);
  if (request.caseFilter !== undefined && pairing.pairs.length === 0) throw noCase(candidate.suite, request.caseFilter, candidate.records.map((record) => record.case.id));
  const notices = [...sameRunNotices(baseline, candidate, await suiteCall(candidate.suite, undefined)), ...baseline.notices, ...candidate.notices, ...pairing.notices];
  const labels = { baseline: baseline.label, candidate: candidate.label };
  const comparison = comparePairs({ ...pairing, notices }, labels, { ...DEFAULT_POLICY, ...(request.metrics && { metrics: request.metrics }) });
  const shown = new Set(comparison.cases.flatMap(({ changes }) => changes.map(({ metric }) => metric)));
  const missing = (request.metrics ?? []).filter((metric) => !shown.has(metric)).map((metric) => `no case has ${METRICS[metric].label} on both sides`);
  return { ...comparison, notices: [...comparison.notices, ...missing] };
}

function ofCases(set: RecordSet, text: string | undefined): RecordSet {
  return text === undefined ? set : { ...set, records: set.records.filter((record) => record.case.id.includes(text)) };
}

export interface NodeCompareRequest extends ProfileSettings {
  /** Two engine files of one model. */
  readonly baseline: string;
  readonly candidate: string;
  readonly registry: Registry;
  readonly device: string | undefined;
}

/** Times the layers of both engines and joins them by ONNX node. Throws USAGE for engines of different models, and what `profile` throws. */
export async function compareEngines({ baseline, candidate, ...request }: NodeCompareRequest): Promise<NodeComparison> {
  const stray = [baseline, candidate].find((file) => !file.endsWith('.engine'));
  if (stray !== undefined) throw new TsrtError('USAGE', 'nodes are compared between two engine files', { place: stray, fix: 'tsrt-bench build MODEL writes one; give two of them to compare --by node' });
  const { header } = await readEngineFile(baseline);
  const { header: otherHeader } = await readEngineFile(candidate);
  if (header.model.sha256 !== otherHeader.model.sha256) throw new TsrtError('USAGE', `the engines are of different models, ${header.model.name} and ${otherHeader.model.name}`, { fix: 'give two engines of the same file' });
  // A device is usually one backend's: the other side's takes its first.
  const backends = [header.backend, otherHeader.backend].map((name) => request.registry.backend(name));
  const devices = await chooseDevices(request.device, [...new Set(backends)]);
  const profiled = (file: string, index: number) => profileFile(file, { ...request, device: devices.get(backends[index]!.name) });
  return compareByNode(await profiled(baseline, 0), await profiled(candidate, 1));
}
