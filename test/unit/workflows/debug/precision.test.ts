import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import onnxProto from 'onnx-proto';
import { describe, expect, it } from 'vitest';
import { resolveConfig } from '../../../../src/config.ts';
import type { Graph } from '../../../../src/ir/graph.ts';
import { fromNumbers, toNumbers } from '../../../../src/ir/tensor.ts';
import { exportGraph } from '../../../../src/onnx/export.ts';
import { parseCalibration } from '../../../../src/quantize/calibration.ts';
import { debugPrecision, type PrecisionRequest } from '../../../../src/workflows/debug/precision.ts';
import { node, value } from '../../onnx/models.ts';
import { temporaryFolder } from '../../../helpers/folder.ts';
import { net } from '../../quantize/networks.ts';

const { onnx } = onnxProto;

/**
 * Six convolutions. One of them has huge weights for an input channel that is always zero: the function is what it was, and
 * the scale of each of its output channels is ruined.
 */
function withCulprit(): { readonly graph: Graph; readonly culprit: string } {
  const { b, conv } = net(3);
  let x = b.input('x', { dtype: 'float32', dims: [2, 3, 8, 8] });
  for (let i = 0; i < 6; i++) x = b.node('Relu', [conv(x, 8, 3)], {});
  const graph = b.finish([b.node('GlobalAveragePool', [x], {}, { outputs: ['y'] })]);
  const convs = graph.nodes.filter((node) => node.op === 'Conv');
  const constants = new Map(graph.constants);
  const change = (id: string, value: (old: number, index: number) => number): void => {
    const tensor = constants.get(id)!;
    constants.set(id, fromNumbers('float32', tensor.dims, toNumbers(tensor).map(value)));
  };
  // Channel 0 of the third convolution is −1 everywhere, and 0 after its activation.
  change(convs[2]!.inputs[1]!, (old, index) => (index < 8 * 9 ? 0 : old));
  change(convs[2]!.inputs[2]!, (old, index) => (index === 0 ? -1 : old));
  change(convs[3]!.inputs[1]!, (old, index) => (Math.floor(index / 9) % 8 === 0 ? 300 : old));
  return { graph: { ...graph, constants }, culprit: convs[3]!.name };
}

/** The net with what the data select of its output behind it. */
function withSelection(bytes: Uint8Array): Uint8Array {
  const model = onnx.ModelProto.decode(bytes);
  model.graph!.node!.push(onnx.NodeProto.create(node('NonZero', ['y'], ['found'])), onnx.NodeProto.create(node('Transpose', ['found'], ['picked'])));
  model.graph!.output!.unshift(onnx.ValueInfoProto.create(value('picked', 'int64', ['n', 4])));
  return onnx.ModelProto.encode(model).finish();
}

async function prepare(minSnrDb: number, more: { readonly change?: (bytes: Uint8Array) => Uint8Array; readonly task?: object } = {}): Promise<{ readonly request: PrecisionRequest; readonly culprit: string; readonly progress: string[] }> {
  const folder = await temporaryFolder();
  const { graph, culprit } = withCulprit();
  const { change = (bytes: Uint8Array) => bytes, task = { kind: 'raw' } } = more;
  await writeFile(join(folder, 'net.onnx'), change(exportGraph(graph)));
  const suite = {
    name: 'planted',
    description: 'a net with one bad layer',
    model: { name: 'net', file: 'net.onnx' },
    inputs: [{ kind: 'synthetic', values: { distribution: 'uniform', low: -1, high: 1 } }],
    task,
    variants: [{ backend: 'onnxruntime', precision: 'mixed' }],
    accuracy: { minSnrDb },
    quantization: { samples: 8 },
  };
  await writeFile(join(folder, 'suite.yaml'), JSON.stringify(suite));
  const { config } = await resolveConfig({ cache: join(folder, 'cache') }, folder);
  const progress: string[] = [];
  const request: PrecisionRequest = {
    suite: folder, modelFile: undefined, overrides: {}, calibration: undefined, samples: 6, minSnrDb: undefined, out: join(folder, 'mixed.json'), config,
    signal: new AbortController().signal,
    onEvent: (event) => event.kind === 'progress' && event.unit === 'nodes' && progress.push(event.label),
  };
  return { request, culprit, progress };
}

describe('debug precision', () => {
  it('puts the planted culprit first, and keeping it alone recovers the accuracy', async () => {
    const { request, culprit, progress } = await prepare(22);
    const result = await debugPrecision(request);
    expect(progress).toHaveLength(6);
    expect(result.ranking[0]?.node).toBe(culprit);
    expect(result.ranking[0]!.snrDb).toBeLessThan(result.ranking[1]!.snrDb - 10);
    expect(result.int8.withinBudget).toBe(false);
    expect(result.kept?.keep).toEqual([culprit]);
    expect(result.kept!.evaluation.snrDb).toBeGreaterThan(22);
    const written = parseCalibration(await readFile(request.out, 'utf8'), request.out);
    expect(written.quantization.keep).toEqual([culprit]);
  });

  it('judges a model whose end a fallback runs by what that reads', async () => {
    const { request, culprit } = await prepare(22, { change: withSelection });
    expect((await debugPrecision(request)).kept?.keep).toEqual([culprit]);
    const { request: asked } = await prepare(22, { change: withSelection, task: { kind: 'embedding', output: 0 } });
    await expect(debugPrecision(asked)).rejects.toMatchObject({ code: 'SUITE_INVALID', message: expect.stringContaining("'picked'") as string });
  });

  it('goes on where it was cut off, and begins again for another budget', async () => {
    const { request, progress } = await prepare(22);
    const first = await debugPrecision(request);
    const path = `${request.out}.search`;
    const state = JSON.parse(await readFile(path, 'utf8')) as { readonly costs: readonly unknown[] };
    await writeFile(path, JSON.stringify({ ...state, costs: state.costs.slice(0, 4) }));
    progress.length = 0;
    expect(await debugPrecision(request)).toEqual(first);
    expect(progress).toHaveLength(2);
    progress.length = 0;
    await debugPrecision({ ...request, minSnrDb: 10 });
    expect(progress).toHaveLength(6);
  });

  it('keeps everything where nothing else will do', async () => {
    const { request } = await prepare(1000);
    expect((await debugPrecision(request)).kept).toMatchObject({ evaluation: { withinBudget: true }, keep: { length: 6 } });
  });

  it('a damaged state is an error to mend', async () => {
    const { request } = await prepare(22);
    await writeFile(`${request.out}.search`, '{');
    await expect(debugPrecision(request)).rejects.toMatchObject({ code: 'CALIBRATION_INVALID', fix: expect.stringContaining('.search') });
  });
});
