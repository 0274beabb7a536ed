/** Build options with everything at its default. */
import type { BuildOptions } from '../../src/engine/engine.ts';

export function buildOptions(overrides: Partial<BuildOptions> = {}): BuildOptions {
  return {
    backend: 'onnxruntime',
    precision: 'fp32',
    fusion: 'on',
    batch: 1,
    dims: {},
    inputShapes: {},
    disabledPasses: [],
    workspaceBytes: undefined,
    backendOptions: {},
    ...overrides,
  };
}
