import { createHash } from 'node:crypto';
import onnxProto from 'onnx-proto';
import * as ort from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { typedView } from '../../../src/ir/tensor.ts';
import { concat, createOnnxWriter, type OnnxPlan } from '../../../src/suite/builders/onnx-writer.ts';
import { BUILDERS } from '../../../src/suite/builders/table.ts';
import { openDataset } from '../../../src/suite/datasets.ts';
import { loadSuite } from '../../../src/suite/load.ts';

const bytesOf = (plan: OnnxPlan) => concat([...plan.chunks()]);

/** Trainable numbers: everything but running statistics, scalars and integers. */
function parameterCount({ initializers }: OnnxPlan): number {
  return initializers
    .filter(({ name, dtype, dims }) => dtype === 'float32' && dims.length > 0 && !name.includes('running_'))
    .reduce((sum, { dims }) => sum + dims.reduce((count, dim) => count * dim, 1), 0);
}

/** Answers of a built model to its suite's synthetic samples. */
async function answers(suiteName: string, plan: OnnxPlan, batch: number, samples: number) {
  const suite = await loadSuite(suiteName);
  const session = await ort.InferenceSession.create(bytesOf(plan), { logSeverityLevel: 3 });
  const dims = suiteName === 'smoke' ? [batch, 3, 32, 32] : [batch, 3, 224, 224];
  const dataset = await openDataset({
    inputs: suite.inputs,
    bindings: session.inputNames.map((name) => ({ name, dtype: 'float32' as const, dims })),
    batch,
    folder: undefined,
    classes: undefined,
    labelsFile: undefined,
    labelOffset: 0,
    limit: undefined,
    skipBroken: false,
    samples,
    seed: 1,
  });
  const rows: number[][] = [];
  for await (const { inputs, count } of dataset.batches()) {
    const feeds = Object.fromEntries(
      Object.entries(inputs).map(([name, tensor]) => [name, new ort.Tensor('float32', typedView(tensor) as Float32Array, [...tensor.dims])]),
    );
    const output = (await session.run(feeds))[session.outputNames[0]!]!;
    const size = output.dims[1]!;
    for (let i = 0; i < count; i++) rows.push(Array.from((output.data as Float32Array).subarray(i * size, (i + 1) * size)));
  }
  const names = { inputs: [...session.inputNames], outputs: [...session.outputNames] };
  await session.release();
  return { rows, names };
}

const deviation = (values: readonly number[]) => {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
};
const argmax = (values: readonly number[]) => values.indexOf(Math.max(...values));

describe('ONNX writer', () => {
  it('writes what onnx-proto reads, as long as it said', () => {
    const writer = createOnnxWriter('g', 1);
    const x = writer.input('x', 'float32', ['N', 2]);
    const shape = writer.ints('shape', [2], [0, -1]);
    const y = writer.node('Reshape', [writer.node('Add', [x, writer.normal('w', [2], 1)]), shape], { name: 'r', attrs: { allowzero: 0 } });
    writer.output(writer.node('Softmax', [y], { attrs: { axis: -1 } }), 'y', ['N', 2]);
    const plan = writer.finish();
    const bytes = bytesOf(plan);
    expect(bytes).toHaveLength(plan.byteLength);
    const model = onnxProto.onnx.ModelProto.decode(bytes);
    expect(model.graph?.node?.map(({ opType, output }) => [opType, output])).toEqual([
      ['Add', ['Add_0_output']],
      ['Reshape', ['r_output']],
      ['Softmax', ['y']],
    ]);
    expect(model.graph?.initializer?.map(({ name, rawData }) => [name, rawData?.length])).toEqual([['shape', 16], ['w', 8]]);
    expect(model.graph?.input?.[0]?.type?.tensorType?.shape?.dim?.[0]?.dimParam).toBe('N');
  });

  it('writes lengths above 127 and above 2^31 right', () => {
    const writer = createOnnxWriter('g', 1);
    const x = writer.input('x', 'float32', ['N', 3]);
    writer.output(writer.node('Add', [x, writer.normal('large', [1_000_000, 1000], 1)]), 'y', ['N', 3]);
    // Not written: 4 GB. The plan alone must count it.
    expect(writer.finish().byteLength).toBeGreaterThan(4_000_000_000);
  });
});

describe('builders', () => {
  it.each([
    ['resnet50', 1000, 25_557_032],
    ['mobilenetv2', 1000, 3_504_872],
    ['mobilenetv2', 1001, 3_506_153],
    ['bert-base', undefined, 109_482_240],
    ['vit-b16', 1000, 86_567_656],
  ] as const)('%s with %s classes has %d parameters', (name, classes, expected) => {
    expect(parameterCount(BUILDERS[name].plan({ seed: 1, classes }))).toBe(expected);
  });

  it('give the same bytes on every machine', () => {
    const plan = BUILDERS.smoke.plan({ seed: 1, classes: undefined });
    const hash = createHash('sha256').update(bytesOf(plan)).digest('hex');
    expect(hash).toBe('e5aa16e4a2c8722919740169df1d7778ce0ad65d4d5e48549334d8c5e7a072a9');
  });

  it('smoke runs, and tells pictures apart', async () => {
    const { rows, names } = await answers('smoke', BUILDERS.smoke.plan({ seed: 1, classes: undefined }), 4, 16);
    expect(names).toEqual({ inputs: ['input'], outputs: ['output'] });
    expect(rows).toHaveLength(16);
    expect(rows.every((row) => row.length === 10 && row.every(Number.isFinite))).toBe(true);
    expect(new Set(rows.map(argmax)).size).toBeGreaterThan(1);
  });

  it.each(['resnet50', 'mobilenetv2'] as const)('%s runs with scores in range', async (name) => {
    const { rows } = await answers(name, BUILDERS[name].plan({ seed: 1, classes: undefined }), 1, 2);
    for (const row of rows) {
      expect(row).toHaveLength(name === 'resnet50' ? 1000 : 1001);
      expect(deviation(row)).toBeGreaterThan(0.3);
      expect(Math.max(...row.map(Math.abs))).toBeLessThan(20);
    }
    expect(rows[0]).not.toEqual(rows[1]);
  }, 60_000);
});
