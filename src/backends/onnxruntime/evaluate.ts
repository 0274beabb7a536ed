/**
 * Evaluates models with onnxruntime as they are, unoptimized: constant subgraphs for the folding pass, and whole models as
 * the reference that every numerical check compares with. Never timed.
 */
import { TsrtError } from '../../errors.ts';
import { typeOf, type Graph, type ValueId } from '../../ir/graph.ts';
import type { Tensor } from '../../ir/tensor.ts';
import type { ReferenceModel, ReferenceSource } from '../backend.ts';
import { castBindings } from './cast-bindings.ts';
import { mappedFiles } from './external.ts';
import { openEarly, readEarly } from './early-reference.ts';
import { withoutAccuracyLevels } from '../../onnx/accuracy-levels.ts';
import { exportGraph } from '../../onnx/export.ts';
import { inCarriers } from './few-bits.ts';
import { loadOrt, reasonOf, runError, SILENT, type OrtSession } from './library.ts';
import { fromOrt, refuseForeignOutputs, valueFromOrt, valueToOrt } from './tensors.ts';
import { referenceThreads } from './threads.ts';

const PLAIN = { ...SILENT, graphOptimizationLevel: 'disabled', intraOpNumThreads: 1, enableCpuMemArena: false } as const;

/** The outputs of a graph without inputs. Rejects where onnxruntime lacks an op or a type. */
export async function evaluateConstants(graph: Graph): Promise<ReadonlyMap<ValueId, Tensor>> {
  const session = await (await loadOrt()).InferenceSession.create(exportGraph(inCarriers(graph)), PLAIN);
  try {
    const outputs = await session.run({});
    return new Map(graph.outputs.map((id) => [id, fromOrt(outputs[id]!, typeOf(graph, id).dtype)]));
  } finally {
    await session.release();
  }
}

/**
 * Loads a model as its exporter wrote it, but for leave to round (onnx/accuracy-levels.ts), or as one of a later opset where onnxruntime lacks kernels of the first ones. Throws TsrtError
 * MODEL_UNSUPPORTED with onnxruntime's reason where it can't.
 */
export async function openReference(model: ReferenceSource): Promise<ReferenceModel> {
  const ort = await loadOrt();
  const options = { ...PLAIN, intraOpNumThreads: referenceThreads(model) };
  const outside = mappedFiles(model.bytes, model.folder);
  const cast = castBindings(model.bytes);
  const bytes = cast?.bytes ?? model.bytes;
  let session: OrtSession;
  try {
    session = await ort.InferenceSession.create(withoutAccuracyLevels(bytes) ?? bytes, { ...options, ...outside });
  } catch (cause) {
    const early = readEarly(model);
    if (early) return openEarly(early, options);
    throw new TsrtError('MODEL_UNSUPPORTED', "onnxruntime can't load the model", {
      details: [reasonOf(cause)],
      fix: 'export the model for an older opset, or give expected outputs beside it',
      cause,
    });
  }
  refuseForeignOutputs(session);
  return {
    inputNames: session.inputNames,
    outputNames: session.outputNames,
    async run(inputs) {
      const feeds = Object.fromEntries([...inputs].map(([name, value]) => [name, valueToOrt(ort, value)]));
      const outputs = await session.run(feeds).catch((cause: unknown) => {
        throw runError(cause);
      });
      return new Map(session.outputNames.map((name) => [name, valueFromOrt(outputs[name]!, cast?.outputs.get(name))]));
    },
    dispose: () => session.release(),
  };
}
