/**
 * The onnxruntime backend: our passes, then ONNX Runtime's kernels (https://onnxruntime.ai), through onnxruntime-node.
 *
 * It is the default where there is no GPU, and what a user would otherwise run, so that every speed-up has a baseline.
 */
import { checkCompatible } from '../../engine/fingerprint.ts';
import { TsrtError } from '../../errors.ts';
import { typeOf } from '../../ir/graph.ts';
import type { Backend, BuildInput, Unsupported } from '../backend.ts';
import { deviceOf, probe } from './device.ts';
import { ORT_OPTIONS, ortOptions } from './options.ts';
import { openOrtSession } from './session.ts';
import { isOrtDtype } from './tensors.ts';

export const onnxruntimeBackend: Backend = {
  name: 'onnxruntime',
  description: 'ONNX Runtime on the processor, or on a GPU through its own providers.',
  options: ORT_OPTIONS,
  probe,
  supports,
  // The compiler is loaded only where something is compiled: a process that runs an engine should weigh what running takes.
  build: async (input, context) => (await import('./build.ts')).buildOrtEngine(input, context),
  async load(engine, { device: wanted, signal }) {
    signal?.throwIfAborted();
    const device = deviceOf(ortOptions(engine.header.options).provider);
    if (wanted !== undefined && wanted !== device.slug) {
      throw new TsrtError('USAGE', `onnxruntime has no device '${wanted}' for this engine`, { fix: `Its device is ${device.slug}.` });
    }
    checkCompatible(engine.header, 'onnxruntime', device);
    return openOrtSession(engine, device);
  },
  reference: async (model) => (await import('./evaluate.ts')).openReference(model),
};

function supports(input: BuildInput): readonly Unsupported[] {
  const { graph, model, options } = input;
  const reasons: Unsupported[] = [];
  if (options.precision !== 'fp32') {
    reasons.push({ node: model.name, op: 'precision', reason: `the onnxruntime backend builds fp32 only, not ${options.precision}` });
  }
  if (graph.ok) {
    for (const id of [...graph.graph.inputs, ...graph.graph.outputs]) {
      const { dtype } = typeOf(graph.graph, id);
      if (!isOrtDtype(dtype)) reasons.push({ node: id, op: 'binding', reason: `onnxruntime-node has no ${dtype} tensors` });
    }
  } else if (!model.inputs) reasons.push(...graph.unsupported);
  return reasons;
}
