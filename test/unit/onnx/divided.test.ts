/** Models whose weights lie in files of their own: sizes of kilobytes take the way of gigabytes. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { compileModel } from '../../../src/backends/compile.ts';
import { onnxruntimeBackend } from '../../../src/backends/onnxruntime/onnxruntime.ts';
import { optimizedNodes } from '../../../src/backends/onnxruntime/optimized.ts';
import { modelParts } from '../../../src/backends/onnxruntime/parts.ts';
import { deserializeEngine, serializeEngine } from '../../../src/engine/file.ts';
import { fromNumbers, toNumbers } from '../../../src/ir/tensor.ts';
import { exportDivided, exportGraph } from '../../../src/onnx/export.ts';
import { readModel } from '../../../src/onnx/model.ts';
import { newGraphBuilder } from '../../../src/ops/builder.ts';
import { temporaryFolder } from '../../helpers/folder.ts';

const SIZE = 16;
const LIMITS = { inlineBytes: 1000, tensorBytes: 512 };
const matrix = Float64Array.from({ length: SIZE * SIZE }, (_, i) => Math.fround(Math.sin(i)));
const bias = Float64Array.from({ length: SIZE }, (_, i) => i);

const graph = (() => {
  const builder = newGraphBuilder('divided');
  builder.input('x', { dtype: 'float32', dims: [1, SIZE] });
  const product = builder.node('MatMul', ['x', builder.constant(fromNumbers('float32', [SIZE, SIZE], matrix), 'w')], {});
  return builder.finish([builder.node('Add', [product, builder.constant(fromNumbers('float32', [SIZE], bias), 'b')], {}, { outputs: ['y'] })]);
})();

describe('a model that is divided', () => {
  it('has its large tensors outside, as they are', () => {
    const { bytes, files } = exportDivided(graph, LIMITS);
    expect([...files]).toEqual([['tensor-0', graph.constants.get('w')!.data]]);
    expect(files.get('tensor-0')!.buffer).toBe(graph.constants.get('w')!.data.buffer);
    expect(bytes.length).toBeLessThan(1000);
    expect(exportDivided(graph)).toEqual({ bytes: exportGraph(graph), files: new Map() });
  });

  it('is what ONNX says it is: read again with its files', async () => {
    const { bytes, files } = exportDivided(graph, LIMITS);
    const folder = await temporaryFolder();
    for (const [name, data] of files) await writeFile(join(folder, name), data);
    expect(readModel(bytes, { folder }).initializers).toEqual(readModel(exportGraph(graph), {}).initializers);
  });

  it('runs from an engine file, and shows what onnxruntime makes of it', async () => {
    const options = { backend: 'onnxruntime', precision: 'fp32', fusion: 'on', batch: 1, dims: {}, inputShapes: {}, disabledPasses: [], workspaceBytes: undefined, backendOptions: {} } as const;
    const context = { device: undefined, signal: undefined, onProgress: undefined };
    const { header } = await compileModel({ modelBytes: exportGraph(graph), modelName: 'divided', folder: undefined, options, backend: onnxruntimeBackend, context });
    const engine = await deserializeEngine(await serializeEngine({ header, parts: modelParts(exportDivided(graph, LIMITS)) }));
    expect([...engine.parts.keys()]).toEqual(['model.onnx', 'external/tensor-0']);
    const session = await onnxruntimeBackend.load(engine, { device: undefined, signal: undefined });
    const x = Float64Array.from({ length: SIZE }, (_, i) => Math.fround(Math.cos(i)));
    const outputs = await session.run({ x: fromNumbers('float32', [1, SIZE], x) });
    const expected = Array.from(bias, (value, column) => x.reduce((sum, factor, row) => sum + factor * matrix[row * SIZE + column]!, value));
    toNumbers(outputs['y']!).forEach((value, i) => expect(value).toBeCloseTo(expected[i]!, 4));
    await session.dispose();
    const nodes = await optimizedNodes(exportDivided(graph, LIMITS), { logSeverityLevel: 4, graphOptimizationLevel: 'disabled' });
    expect(nodes.map(({ op }) => op)).toEqual(['MatMul', 'Add']);
  });
});
