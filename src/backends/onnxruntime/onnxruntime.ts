/**
 * The onnxruntime backend: our passes, then ONNX Runtime's kernels (https://onnxruntime.ai), through onnxruntime-node.
 *
 * It is the default where there is no GPU, and what a user would otherwise run, so that every speed-up has a baseline.
 */
import { checkCompatible } from '../../engine/fingerprint.ts';
import type { Backend } from '../backend.ts';
import { matchDevice } from '../match.ts';
import { deviceOf, probe } from './device.ts';
import { ORT_OPTIONS, ortOptions } from './options.ts';
import { openOrtSession } from './session.ts';

export const onnxruntimeBackend: Backend = {
  name: 'onnxruntime',
  description: 'ONNX Runtime on the processor, or on a GPU through its own providers.',
  options: ORT_OPTIONS,
  probe,
  supports: async (input) => (await import('./supports.ts')).supportsInput(input),
  // The compiler is loaded only where something is compiled: a process that runs an engine should weigh what running takes.
  build: async (input, context) => (await import('./build.ts')).buildOrtEngine(input, context),
  async load(engine, { device: wanted, signal }) {
    signal?.throwIfAborted();
    const device = deviceOf(ortOptions(engine.header.options).provider);
    // The build's option `provider` decides which it is.
    if (wanted !== undefined) matchDevice(wanted, [device], 'onnxruntime');
    checkCompatible(engine.header, 'onnxruntime', device);
    return openOrtSession(engine, device);
  },
  reference: async (model) => (await import('./evaluate.ts')).openReference(model),
};
