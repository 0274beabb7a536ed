/**
 * The null backend: right shapes, fixed answers and a fake clock. It tests the harness, the gate and the reports with no
 * device, and shows what they do with crashes, hangs and drifts. Prior art: Dawn's and tinygrad's null devices.
 */
import type { Engine } from '../../engine/engine.ts';
import { checkCompatible } from '../../engine/fingerprint.ts';
import { TOOL_VERSION } from '../../version.ts';
import type { Backend, BuildInput, Unsupported } from '../backend.ts';
import { matchDevice } from '../match.ts';
import { readOptions } from '../options.ts';
import { maybeFail } from './fault.ts';
import { nullHeader } from './header.ts';
import { NULL_OPTIONS } from './options.ts';
import { NULL_DEVICE, openNullSession } from './session.ts';

export const nullBackend: Backend = {
  name: 'null',
  description: 'Fixed answers on a fake clock: tests a suite, a gate or a report without a device.',
  options: NULL_OPTIONS,
  async probe(device) {
    if (device !== undefined) matchDevice(device, [NULL_DEVICE], 'null');
    return { status: 'available', version: TOOL_VERSION, devices: [NULL_DEVICE] };
  },
  supports,
  async build(input, context): Promise<Engine> {
    const options = readOptions(NULL_OPTIONS, input.options);
    context.signal?.throwIfAborted();
    await maybeFail(options, 'build', 0);
    context.onProgress?.('build', 1, 1);
    return { header: nullHeader(input, options.memoryBytes), parts: new Map() };
  },
  async load(engine, { device, signal }) {
    signal?.throwIfAborted();
    if (device !== undefined) matchDevice(device, [NULL_DEVICE], 'null');
    checkCompatible(engine.header, 'null', NULL_DEVICE);
    return openNullSession(engine);
  },
  reference: async (model) => (await import('./reference.ts')).openNullReference(model),
};

/** All it needs of a model is its inputs and outputs. */
function supports({ graph, model }: BuildInput): readonly Unsupported[] {
  return graph.ok || (model.inputs && model.outputs) ? [] : graph.unsupported;
}
