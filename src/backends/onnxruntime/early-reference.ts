/**
 * The reference of a model of an opset before 7, where onnxruntime has no kernels for its ops: the graph as it was imported, without passes. It
 * says nothing of the import itself, and all of what a backend makes of the graph.
 */
import { TsrtError } from '../../errors.ts';
import { exportGraph } from '../../onnx/export.ts';
import { importGraph } from '../../onnx/import.ts';
import { readModel, type OnnxModel } from '../../onnx/model.ts';
import type { TensorValue } from '../../onnx/value.ts';
import type { ReferenceModel, ReferenceSource } from '../backend.ts';
import { loadOrt, type OrtSession, type SessionOptions } from './library.ts';
import { valueFromOrt, valueToOrt } from './tensors.ts';

/** The first opset of which onnxruntime has all kernels. */
const FIRST_OPSET = 7;

type Values = ReadonlyMap<string, TensorValue>;
type Shapes = Readonly<Record<string, readonly number[]>>;

/** The model where it is of such an opset. */
export function readEarly({ bytes, folder }: ReferenceSource): OnnxModel | undefined {
  const model = readModel(bytes, { folder });
  return (model.opsets.get('') ?? FIRST_OPSET) < FIRST_OPSET ? model : undefined;
}

/** Imports anew where inputs have other shapes than the last time; what can't be imported rejects then. */
export function openEarly(model: OnnxModel, options: SessionOptions): ReferenceModel {
  let latest: { readonly key: string; readonly session: OrtSession } | undefined;
  const sessionFor = async (inputShapes: Shapes): Promise<OrtSession> => {
    const key = JSON.stringify(inputShapes);
    if (latest?.key === key) return latest.session;
    await latest?.session.release();
    latest = undefined;
    const session = await (await loadOrt()).InferenceSession.create(graphBytes(model, inputShapes), options);
    latest = { key, session };
    return session;
  };
  return {
    inputNames: model.inputs.map(({ name }) => name),
    outputNames: model.outputs.map(({ name }) => name),
    async run(inputs: Values) {
      const ort = await loadOrt();
      const session = await sessionFor(Object.fromEntries([...inputs].map(([name, value]) => [name, dimsOf(value)])));
      const outputs = await session.run(Object.fromEntries([...inputs].map(([name, value]) => [name, valueToOrt(ort, value)])));
      return new Map(session.outputNames.map((name) => [name, valueFromOrt(outputs[name]!)]));
    },
    dispose: async () => latest?.session.release(),
  };
}

/** Throws TsrtError MODEL_UNSUPPORTED for what the graph can't hold. */
function graphBytes(model: OnnxModel, inputShapes: Shapes): Uint8Array {
  const imported = importGraph(model, { inputShapes });
  if (imported.ok) return exportGraph(imported.graph);
  throw new TsrtError('MODEL_UNSUPPORTED', "onnxruntime has no kernels for opsets before 7, and the model can't be read as a later one", {
    details: imported.unsupported.map(({ node, op, reason }) => `${op} '${node}': ${reason}`),
    fix: 'export the model for a later opset, or give expected outputs beside it',
  });
}

function dimsOf(value: TensorValue): readonly number[] {
  return value.kind === 'tensor' ? value.tensor.dims : value.dims;
}
