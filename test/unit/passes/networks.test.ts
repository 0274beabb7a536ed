/**
 * Whole exported networks: optimized graphs compute what the models as exported do, and fusion leaves as many kernels as
 * this table says.
 */
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { describe, expect, it } from 'vitest';
import { importGraph } from '../../../src/onnx/import.ts';
import { readModel } from '../../../src/onnx/model.ts';
import type { Graph } from '../../../src/ir/graph.ts';
import { VIEWS } from '../../../src/passes/reshapes.ts';
import { randomInputs, runGraph, runModel } from '../../helpers/ort.ts';
import { countOps, expectClose, optimize } from '../../helpers/passes.ts';
import { sharedPath } from '../../helpers/shared.ts';
import { unfuse } from '../../helpers/unfuse.ts';

const conformance = (name: string): string | undefined => sharedPath('conformance', 'models', name, 'model.onnx');
const cached = (name: string): string | undefined => {
  const path = `${homedir()}/.cache/tsrt-bench-test-models/${name}.onnx`;
  return existsSync(path) ? path : undefined;
};

/** Kernels: nodes that move or compute elements, views left out. */
const kernels = (graph: Graph): number => graph.nodes.filter((node) => !VIEWS.has(node.op)).length;

const NETWORKS = [
  { name: 'resnet50', path: cached('resnet50'), before: 174, after: 56 },
  { name: 'mobilenetv2', path: cached('mobilenetv2'), before: 103, after: 55 },
  { name: 'yolox_nano', path: cached('yolox_nano'), before: 366, after: 143 },
  { name: 'vit_tiny_depth4_dynamo20', path: conformance('vit_tiny_depth4_dynamo20'), before: 103, after: 59 },
  { name: 'mobilenetv3_small_050_dynamo18', path: conformance('mobilenetv3_small_050_dynamo18'), before: 122, after: 73 },
  { name: 'regnetx_002_13', path: conformance('regnetx_002_13'), before: 117, after: 46 },
  { name: 'resnet10t_dynbatch17', path: conformance('resnet10t_dynbatch17'), before: 35, after: 20 },
] as const;

function load(path: string): { bytes: Uint8Array; graph: Graph } {
  const bytes = readFileSync(path);
  const imported = importGraph(readModel(bytes), { batch: 1 });
  if (!imported.ok) throw new Error(JSON.stringify(imported.unsupported));
  return { bytes, graph: imported.graph };
}

for (const { name, path, before, after } of NETWORKS) {
  describe.skipIf(!path)(`${name}${path ? '' : ' (skipped: its model file is not there)'}`, () => {
    it('computes the same, optimized for onnx and for webgpu', async () => {
      const { bytes, graph } = load(path!);
      const inputs = randomInputs(graph, 11);
      const expected = await runModel(bytes, inputs);
      const onnx = await optimize(graph, 'onnx');
      expectClose(await runGraph(onnx.graph, inputs), expected, 1e-4);
      const webgpu = await optimize(graph, 'webgpu');
      expectClose(await runGraph(unfuse(webgpu.graph), inputs), expected, 1e-4);
      expect({ before: kernels(graph), after: kernels(webgpu.graph) }, JSON.stringify(countOps(webgpu.graph))).toEqual({ before, after });
    });
  });
}
