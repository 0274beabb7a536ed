/** Types of few bits on SwiftShader: casts against a table of their numbers, and a network that is quantized to float8 against onnxruntime, which has these. */
import { describe, expect, it } from 'vitest';
import { compileModel } from '../../src/backends/compile.ts';
import { onnxruntimeBackend } from '../../src/backends/onnxruntime/onnxruntime.ts';
import { webgpuBackend } from '../../src/backends/webgpu/webgpu.ts';
import { elementCount, fromNumbers, type Tensor, toNumbers } from '../../src/ir/tensor.ts';
import { fewBitsCasts } from '../helpers/few-bits-casts.ts';
import { buildOptions } from '../helpers/options.ts';
import { floats, modelBytes, node, value } from '../unit/onnx/models.ts';
import { disagreement, runOnnx } from '../unit/onnx/run.ts';
import { noDevice, runGraph } from './helpers.ts';

process.env['TSRT_BENCH_SWIFTSHADER'] = '1';

const spread = (dims: readonly number[], size: number): number[] => Array.from({ length: elementCount(dims) }, (_, i) => (size * (((i * 7919) % 401) - 200)) / 200);

/** As exporters for TensorRT write it: data and weights of a product through float8, weights as its codes or as floats before it. */
function network(): Uint8Array {
  const dtype = 'float8e4m3fn';
  const zero = fromNumbers(dtype, [], [0]);
  const around = (x: string, y: string) => [node('QuantizeLinear', [x, 's', 'z'], [`${y}_q`]), node('DequantizeLinear', [`${y}_q`, 's', 'z'], [y])];
  return modelBytes({
    opset: 19, inputs: [value('x', 'float32', [2, 8, 4, 4])], outputs: [value('y', 'float32', [2, 5])],
    initializers: {
      s: floats([0.0625], []), z: zero,
      k: fromNumbers(dtype, [16, 8, 3, 3], spread([16, 8, 3, 3], 40)), ks: floats(spread([16], 0.01).map((step) => Math.abs(step) + 0.01), [16]), kz: fromNumbers(dtype, [16], new Float32Array(16)),
      w: floats(spread([16, 5], 2), [16, 5]),
    },
    nodes: [
      ...around('x', 'a'), node('DequantizeLinear', ['k', 'ks', 'kz'], ['kf'], { axis: 0 }), node('Conv', ['a', 'kf'], ['c'], { pads: [1, 1, 1, 1] }), node('Relu', ['c'], ['r']),
      node('GlobalAveragePool', ['r'], ['p']), node('Flatten', ['p'], ['f']), ...around('f', 'b'), ...around('w', 'v'), node('MatMul', ['b', 'v'], ['y']),
    ],
  });
}

describe.skipIf(noDevice)('types of few bits (skipped without SwiftShader)', () => {
  it('every number, the middles between neighbours, and what is none', async () => {
    const { graph, inputs, expected } = fewBitsCasts();
    const outputs = await runGraph(graph, inputs);
    for (const [name, values] of Object.entries(expected)) expect({ name, values: toNumbers(outputs[name]!) }).toEqual({ name, values });
  });

  it.each([['webgpu', webgpuBackend], ['onnxruntime', onnxruntimeBackend]] as const)('a network that is quantized to float8, on %s', async (name, backend) => {
    const bytes = network();
    const options = buildOptions({ backend: name, precision: 'fp32', batch: 2 });
    const engine = await compileModel({ modelBytes: bytes, modelName: 'm', folder: undefined, options, rebatch: false, backend, context: { signal: undefined, onProgress: undefined } });
    expect(engine.header.notices.join(' ')).toMatch(/Values quantized to float8e4m3fn are rounded as these types ask; the products behind run in wider floats\./);
    const session = await backend.load(engine, { device: name === 'webgpu' ? undefined : 'cpu', signal: undefined });
    try {
      const x: Tensor = floats(spread([2, 8, 4, 4], 1.7), [2, 8, 4, 4]);
      const [actual, expected] = [await session.run({ x }), await runOnnx(bytes, { x })];
      expect(disagreement(actual['y']!, expected['y']!, 1e-4, 1e-4)).toBeLessThanOrEqual(1);
    } finally {
      await session.dispose();
    }
  });
});
