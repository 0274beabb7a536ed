/** int8 of a model in float16 on SwiftShader: the engine of its twin in float32, with bindings in halves. */
import { describe, expect, it } from 'vitest';
import { webgpuBackend } from '../../src/backends/webgpu/webgpu.ts';
import { asHalves, runTwin } from '../helpers/half-twins.ts';
import { noDevice } from './helpers.ts';

process.env['TSRT_BENCH_SWIFTSHADER'] = '1';

describe.skipIf(noDevice)('int8 of a model in float16 on webgpu (skipped without SwiftShader)', () => {
  it('answers as that of the model in float32', async () => {
    const [exact, rounded] = [await runTwin('float32', webgpuBackend), await runTwin('float16', webgpuBackend)];
    expect([...rounded.header.inputs, ...rounded.header.outputs].map(({ dtype }) => dtype)).toEqual(['float16', 'float16']);
    expect(rounded.header.layers.filter(({ kind }) => kind === 'QuantizedConv')).toHaveLength(2);
    expect(rounded.y).toEqual(asHalves(exact.y));
  });
});
