/** What a composite engine copies between device and host because of its onnxruntime segments, and how that is told. */
import type { CompositeSegment } from '../../../engine/composite.ts';
import type { Binding, EngineLayer } from '../../../engine/engine.ts';
import { tensorBytes } from '../../../ir/tensor.ts';
import type { Unsupported } from '../../backend.ts';

type Shape = Pick<CompositeSegment, 'runner' | 'inputs' | 'outputs'>;

export interface SegmentCopies {
  /** Values from earlier segments that go up to the device before this one runs. */
  readonly uploads: readonly Binding[];
  /** Values that come down to the host because later segments read them. */
  readonly downloads: readonly Binding[];
}

/** Copies of each segment; the engine's own inputs and outputs are not among them, and onnxruntime's segments have none. */
export function copiesOf(segments: readonly Shape[]): readonly SegmentCopies[] {
  const made = new Set(segments.flatMap(({ outputs }) => outputs.map(({ name }) => name)));
  return segments.map(({ runner, inputs, outputs }, index) => {
    if (runner === 'onnxruntime') return { uploads: [], downloads: [] };
    const readLater = new Set(segments.slice(index + 1).flatMap((later) => later.inputs.map(({ name }) => name)));
    return { uploads: inputs.filter(({ name }) => made.has(name)), downloads: outputs.filter(({ name }) => readLater.has(name)) };
  });
}

export function copyLayer(name: string, values: readonly Binding[]): EngineLayer {
  return { name, kind: 'Copy', precision: values[0]!.dtype, origins: [], flops: 0, bytes: bytesOf(values) };
}

/** The engine's notices: how many nodes run in onnxruntime, each reason once with the nodes it holds for, and the copies. */
export function describeFallback(about: {
  readonly nodes: number;
  readonly reasons: readonly Unsupported[];
  readonly segments: readonly Shape[];
}): string[] {
  const { nodes, reasons, segments } = about;
  const elsewhere = segments.filter(({ runner }) => runner === 'onnxruntime').length;
  if (elsewhere === 0) return [];
  const byReason = new Map<string, string[]>();
  for (const { node, op, reason } of reasons) {
    const key = `${op}: ${reason}`;
    byReason.set(key, [...(byReason.get(key) ?? []), node]);
  }
  const copies = copiesOf(segments).flatMap(({ uploads, downloads }) => [...uploads, ...downloads]);
  return [
    `${reasons.length} of ${nodes} nodes run in onnxruntime on the processor (--fallback), in ${elsewhere} of ${segments.length} segments.`,
    ...[...byReason].map(([reason, names]) => `In onnxruntime: ${reason} (${names.map((name) => `'${name}'`).join(', ')}).`),
    copies.length === 0
      ? 'Nothing is copied between device and host for it.'
      : `Every inference copies ${copies.length} ${copies.length === 1 ? 'value' : 'values'} (${bytesOf(copies)} bytes) between device and host for it; timed executions include that.`,
  ];
}

function bytesOf(values: readonly Binding[]): number {
  return values.reduce((sum, binding) => sum + tensorBytes(binding), 0);
}
