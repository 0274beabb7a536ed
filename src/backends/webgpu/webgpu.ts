/**
 * The webgpu backend: the project's own kernels, compiled for any WebGPU adapter and run through Dawn.
 *
 * The compiler is loaded only where something is compiled; loading an engine needs the device and the session alone.
 */
import { isComposite } from '../../engine/composite.ts';
import { checkCompatible } from '../../engine/fingerprint.ts';
import type { Backend } from '../backend.ts';
import { defaultDevice } from './dawn.ts';
import { chooseDevice, probe } from './devices.ts';
import { isUnchecked, WEBGPU_OPTIONS } from './options.ts';
import { createSession } from './session.ts';
import { findSwiftshader, SWIFTSHADER, swiftshaderEnvironment } from './swiftshader.ts';

export const webgpuBackend: Backend = {
  name: 'webgpu',
  description: "The project's own kernels on any WebGPU adapter, through Dawn.",
  options: WEBGPU_OPTIONS,
  probe,
  supports: async (input) => (await import('./supports.ts')).supportsInput(input),
  build: async (input, context) => (await import('./compile.ts')).compileWebgpu(input, context),
  async load(engine, { device: wanted, signal }) {
    signal?.throwIfAborted();
    const open = await chooseDevice({ wanted, unchecked: isUnchecked(engine.header.options) });
    try {
      checkCompatible(engine.header, 'webgpu', open.info);
      const release = (): void => open.destroy();
      if (!isComposite(engine.header.backendData)) return await createSession(engine, open, release);
      // Only an engine that runs partly in onnxruntime needs that library.
      return await (await import('./composite/session.ts')).createCompositeSession(engine, open, release);
    } catch (error) {
      open.destroy();
      throw error;
    }
  },
  compilesAtLoad: true,
  async workerEnvironment(device) {
    const swiftshader = (device ?? defaultDevice()) === SWIFTSHADER ? await findSwiftshader() : undefined;
    return swiftshader ? swiftshaderEnvironment(swiftshader) : {};
  },
};
