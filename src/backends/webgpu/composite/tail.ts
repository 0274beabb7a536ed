/** The last segment of a composite engine whose model the IR holds in part: nodes of the model's file, in onnxruntime as they are. */
import { type CompositeSegment, segmentPrefix } from '../../../engine/composite.ts';
import type { Binding, EngineLayer } from '../../../engine/engine.ts';
import { tensorBytes } from '../../../ir/tensor.ts';
import type { Tail } from '../../../onnx/tail.ts';
import type { Unsupported } from '../../backend.ts';
import { unsupportedError } from '../../compile.ts';
import { outputBindings } from '../../onnxruntime/build.ts';
import { externalFiles } from '../../onnxruntime/external.ts';
import { loadOrt, reasonOf, SILENT } from '../../onnxruntime/library.ts';
import { EXTERNAL_PREFIX, MODEL_PART } from '../../onnxruntime/parts.ts';

export interface CompositeTail extends Tail {
  /** What the IR can't hold; the other nodes depend on these. */
  readonly reasons: readonly Unsupported[];
  /** Outputs of the model, where all of them have static types. */
  readonly declared: readonly Binding[];
  /** Of the model's file. */
  readonly folder: string | undefined;
}

export interface BuiltTail {
  readonly segment: Omit<CompositeSegment, 'firstLayer' | 'layerCount'>;
  readonly layers: readonly EngineLayer[];
  readonly parts: ReadonlyMap<string, Uint8Array>;
}

/** `index`: of the segment. Throws TsrtError MODEL_UNSUPPORTED where onnxruntime does not take the nodes either. */
export async function buildTail(tail: CompositeTail, index: number, inputs: readonly Binding[], modelName: string): Promise<BuiltTail> {
  const files = externalFiles(tail.bytes, tail.folder);
  const ort = await loadOrt();
  const open = async (bytes: Uint8Array) => ({ bytes, session: await ort.InferenceSession.create(bytes, { ...SILENT, intraOpNumThreads: 1, externalData: files }) });
  const { bytes, session } = await open(tail.bytes).catch((error: unknown) =>
    open(tail.openBytes()).catch(() => {
      const why = reasonOf(error);
      throw unsupportedError(modelName, 'webgpu', tail.reasons.map((entry) => ({ ...entry, reason: `${entry.reason}; nor does onnxruntime take it: ${why}` })), false);
    }),
  );
  try {
    const outputs = await outputBindings(session, inputs, tail.declared);
    const prefix = segmentPrefix(index);
    const weightBytes = bytes.byteLength + files.reduce((sum, file) => sum + file.data.byteLength, 0);
    const stagingBytes = [...inputs, ...outputs].reduce((sum, binding) => sum + tensorBytes(binding), 0);
    return {
      segment: { runner: 'onnxruntime', inputs, outputs, memory: { weightBytes, activationBytes: 0, workspaceBytes: 0, stagingBytes }, data: null },
      layers: tail.nodes.map(({ name, op }) => ({ name, kind: `onnxruntime ${op}`, precision: inputs.find(({ dtype }) => dtype.includes('float'))?.dtype ?? 'float32', origins: [name], flops: 0, bytes: 0 })),
      parts: new Map([[prefix + MODEL_PART, bytes], ...files.map((file) => [prefix + EXTERNAL_PREFIX + file.path, file.data] as const)]),
    };
  } finally {
    await session.release();
  }
}

/** What a user is told of it. */
export function describeTail({ nodes, reasons }: CompositeTail, inputs: readonly Binding[]): string {
  const first = reasons.slice(0, 3).map(({ node, op, reason }) => `${op} '${node}': ${reason}`);
  const more = reasons.length > first.length ? ` and ${reasons.length - first.length} more` : '';
  const bytes = inputs.reduce((sum, binding) => sum + tensorBytes(binding), 0);
  const what = nodes.length === 1 ? 'The last node of the model runs' : `The last ${nodes.length} nodes of the model run`;
  return `${what} in onnxruntime on the processor (--fallback), unchanged and in the types that it has, with ${inputs.length} ${inputs.length === 1 ? 'value' : 'values'} (at most ${bytes} bytes) copied for them: ${first.join('; ')}${more}, and what depends on ${reasons.length === 1 ? 'it' : 'them'}.`;
}
