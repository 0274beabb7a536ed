/**
 * The roofline of an engine: each layer's time beside the least that the device could take for it, given its arithmetic and what it
 * must move (Williams, Waterman and Patterson, "Roofline: An Insightful Visual Performance Model", CACM 2009).
 */
import type { DevicePeaks } from '../backends/backend.ts';
import type { DType } from '../ir/tensor.ts';

export interface ProfiledLayer {
  readonly name: string;
  readonly kind: string;
  readonly precision: DType;
  readonly tactic?: string | undefined;
  /** ONNX nodes whose work it does. */
  readonly origins?: readonly string[];
  readonly flops: number;
  readonly bytes: number;
  readonly durationNs: number;
}

export const ROOFLINE_FORMATS = ['table', 'markdown', 'csv'] as const;
export type RooflineFormat = (typeof ROOFLINE_FORMATS)[number];

/** What a layer's floor is made of. `latency`: an empty kernel takes longer than the floor. */
export const BOUNDS = ['memory', 'compute', 'latency'] as const;
export type Bound = (typeof BOUNDS)[number];

export interface RooflineRow extends ProfiledLayer {
  /** Where the device's peaks are known. */
  readonly floor?: { readonly ns: number; readonly bound: Bound; /** Of the time that it took. */ readonly share: number };
  /** Of the kernels' time together. */
  readonly timeShare: number;
}

export interface Roofline {
  readonly rows: readonly RooflineRow[];
  /** Sum of the layers. */
  readonly kernelNs: number;
  /** One execution by the wall clock, others before and behind it. */
  readonly wallNs: number;
  /** What the layers leave of the wall: launches, gaps, copies; negative where timing each by itself cost more than that. */
  readonly residualNs: number;
  /** Where the device's peaks are known. */
  readonly floorNs?: number;
  /** Kernel time by what bounds it. */
  readonly boundNs?: Readonly<Record<Bound, number>>;
}

export function roofline(layers: readonly ProfiledLayer[], wallNs: number, peaks: DevicePeaks | undefined): Roofline {
  const kernelNs = layers.reduce((sum, { durationNs }) => sum + durationNs, 0);
  const rows = layers.map((layer): RooflineRow => {
    const timeShare = kernelNs > 0 ? layer.durationNs / kernelNs : 0;
    return peaks ? { ...layer, timeShare, floor: floorOf(layer, peaks) } : { ...layer, timeShare };
  });
  const base = { rows, kernelNs, wallNs, residualNs: wallNs - kernelNs };
  if (!peaks) return base;
  const boundNs: Record<Bound, number> = { memory: 0, compute: 0, latency: 0 };
  for (const { floor, durationNs } of rows) boundNs[floor!.bound] += durationNs;
  return { ...base, boundNs, floorNs: rows.reduce((sum, { floor }) => sum + floor!.ns, 0) };
}

function floorOf({ flops, bytes, precision, durationNs }: ProfiledLayer, peaks: DevicePeaks): NonNullable<RooflineRow['floor']> {
  const memoryNs = (bytes * 1e9) / peaks.bytesPerSecond;
  const rate = rateOf(precision, peaks);
  const computeNs = rate === undefined ? 0 : (flops * 1e9) / rate;
  const ns = Math.max(memoryNs, computeNs);
  const bound = ns < peaks.launchNs ? 'latency' : memoryNs >= computeNs ? 'memory' : 'compute';
  return { ns, bound, share: durationNs > 0 ? ns / durationNs : 0 };
}

/** The fastest arithmetic that gives a result of this precision: what the device lacks, it computes in float32. */
function rateOf(precision: DType, { operationsPerSecond: rates }: DevicePeaks): number | undefined {
  switch (precision) {
    case 'float16':
    case 'bfloat16':
      return Math.max(rates.float16 ?? 0, rates.float32 ?? 0) || undefined;
    case 'int8':
    case 'uint8':
      return Math.max(rates.int8 ?? 0, rates.float32 ?? 0) || undefined;
    default:
      return rates.float32;
  }
}

export const ROOFLINE_ORDERS = ['time', 'share', 'flops', 'bytes', 'graph'] as const;
export type RooflineOrder = (typeof ROOFLINE_ORDERS)[number];

/** The rows in an order (by share: the farthest from its floor first), at most `top` of them. */
export function ordered({ rows }: Roofline, by: RooflineOrder, top = rows.length): readonly RooflineRow[] {
  const key = (row: RooflineRow): number => {
    switch (by) {
      case 'time':
        return -row.durationNs;
      case 'share':
        return row.floor?.share ?? 1;
      case 'flops':
        return -row.flops;
      case 'bytes':
        return -row.bytes;
      case 'graph':
        return 0;
      default:
        return by satisfies never;
    }
  };
  return rows.toSorted((a, b) => key(a) - key(b)).slice(0, top);
}
