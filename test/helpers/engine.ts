/** A small, complete engine that exercises every optional field. */
import type { Engine, EngineHeader } from '../../src/engine/engine.ts';
import { TOOL_VERSION } from '../../src/version.ts';

export function sampleHeader(overrides: Partial<EngineHeader> = {}): EngineHeader {
  return {
    formatVersion: 1,
    tool: { name: 'tsrt-bench', version: TOOL_VERSION },
    backend: 'null',
    model: { name: 'tiny', sha256: 'ab'.repeat(32) },
    options: {
      backend: 'null',
      precision: 'fp32',
      fusion: 'on',
      batch: 2,
      dims: { sequence: 128 },
      inputShapes: { x: [2, 3] },
      disabledPasses: ['fold-constants'],
      workspaceBytes: undefined,
      backendOptions: { latencyNs: 1000, note: 'a "quoted" ünïcode', steady: true },
    },
    inputs: [{ name: 'x', dtype: 'float32', dims: [2, 3] }],
    outputs: [
      { name: 'y', dtype: 'int64', dims: [] },
      { name: 'kept', dtype: 'int64', dims: [3], dynamic: true },
    ],
    memory: { weightBytes: 10, activationBytes: 20, workspaceBytes: 0, stagingBytes: 4 },
    passes: [{ pass: 'fold-constants', nodesBefore: 3, nodesAfter: 2, rewrites: { folded: 1 } }],
    layers: [
      { name: 'conv', kind: 'Conv', precision: 'float32', origins: ['a', 'b'], flops: 1e18, bytes: 12, tactic: 'tile-32' },
      { name: 'relu', kind: 'Relu', precision: 'float32', origins: [], flops: 1, bytes: 2 },
    ],
    pixels: [{ input: 'x', layout: 'NCHW', dtype: 'float16', scale: [1 / 255, 0.5, 2], shift: [-1, 0, 1e-3] }],
    activations: 'int8',
    requires: { adapter: 'fake' },
    notices: ['nothing to see'],
    backendData: { plan: [{ step: 'dispatch', groups: [1, 2, 3] }], nothing: null },
    ...overrides,
  };
}

/** Parts of awkward sizes: empty, one byte, exactly one alignment unit, and one more. */
export function sampleEngine(overrides: Partial<EngineHeader> = {}): Engine {
  const bytes = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 37 + length) & 0xff);
  return {
    header: sampleHeader(overrides),
    parts: new Map([
      ['weights', bytes(256)],
      ['empty', new Uint8Array(0)],
      ['one', bytes(1)],
      ['more', bytes(257)],
    ]),
  };
}
