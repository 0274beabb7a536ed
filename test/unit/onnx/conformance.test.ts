/**
 * ONNX's own operator tests and exported networks: read, imported, written again, and run in onnxruntime. The outputs must be
 * those that the tests expect. Import of the written model must give the same graph.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openGraph } from '../../../src/backends/onnxruntime/observe.ts';
import { isFewBits } from '../../../src/ir/few-bits.ts';
import type { Graph } from '../../../src/ir/graph.ts';
import type { Tensor } from '../../../src/ir/tensor.ts';
import { exportGraph } from '../../../src/onnx/export.ts';
import { importGraph } from '../../../src/onnx/import.ts';
import { readModel, type OnnxModel } from '../../../src/onnx/model.ts';
import { readTensorFile, type TestValue } from '../../../src/onnx/testdata.ts';
import { sharedPath } from '../../helpers/shared.ts';
import { disagreement, runOnnx } from './run.ts';

const nodeFolder = sharedPath('conformance/node');
const networkFolder = sharedPath('conformance/models');
const reason = nodeFolder ? '' : ' (skipped: the folder shared/conformance is not beside the repository)';

/** What became of a case. `refused`: onnxruntime takes neither the written model nor the original. */
type Outcome = 'passed' | 'unsupported' | 'refused' | `failed: ${string}`;

function values(folder: string, kind: 'input' | 'output'): TestValue[] {
  const files = readdirSync(folder).filter((file) => file.startsWith(`${kind}_`));
  return files.map((_, index) => readTensorFile(readFileSync(join(folder, `${kind}_${index}.pb`))));
}

function tensors(names: readonly string[], found: readonly TestValue[]): Record<string, Tensor> | undefined {
  const entries = names.map((name, index) => [name, found[index]] as const);
  if (!entries.every(([, value]) => value?.kind === 'tensor')) return undefined;
  return Object.fromEntries(entries.map(([name, value]) => [name, (value as { tensor: Tensor }).tensor]));
}

/** A graph as data that can be compared; origins are the importer's own. */
function structure(graph: Graph): unknown {
  return {
    ...graph,
    types: [...graph.types].sort(([a], [b]) => (a < b ? -1 : 1)),
    constants: [...graph.constants].map(([name, tensor]) => [name, tensor.dtype, tensor.dims, Buffer.from(tensor.data).toString('base64')]),
    nodes: graph.nodes.map((node) => ({ ...node, origins: [] })),
  };
}

function importCase(model: OnnxModel, inputs: Record<string, Tensor>): Graph | undefined {
  const shapes = Object.fromEntries(model.inputs.map(({ name }) => [name, inputs[name]!.dims]));
  const plain = importGraph(model, { inputShapes: shapes });
  if (plain.ok) return plain.graph;
  // Shapes, axes and sizes that the test passes as inputs are fixed at build, as a user would.
  const fixed = new Map(Object.entries(inputs).filter(([, tensor]) => tensor.dims.length <= 1).slice(0, 8));
  if (fixed.size === 0 || fixed.size === model.inputs.length) return undefined;
  const rest = Object.fromEntries(Object.entries(shapes).filter(([name]) => !fixed.has(name)));
  const again = importGraph(model, { inputShapes: rest, inputValues: fixed });
  return again.ok ? again.graph : undefined;
}

async function runGraph(graph: Graph, inputs: Record<string, Tensor>): Promise<Record<string, Tensor>> {
  const runner = await openGraph(graph);
  try {
    return Object.fromEntries(await runner.run(inputs));
  } finally {
    await runner.dispose();
  }
}

async function outcomeOf(modelPath: string, dataFolder: string): Promise<Outcome> {
  const bytes = readFileSync(modelPath);
  const model = readModel(bytes);
  const inputs = tensors(model.inputs.map((input) => input.name), values(dataFolder, 'input'));
  const expected = tensors(model.outputs.map((output) => output.name), values(dataFolder, 'output'));
  if (!inputs || !expected) return 'unsupported';
  const graph = importCase(model, inputs);
  if (!graph) return 'unsupported';
  const written = exportGraph(graph);
  const back = importGraph(readModel(written));
  if (!back.ok) return `failed: the written model is not importable`;
  expect(structure(back.graph)).toEqual(structure(graph));
  expect(Buffer.from(exportGraph(back.graph)).equals(written)).toBe(true);
  let outputs: Record<string, Tensor>;
  // What onnxruntime-node lacks runs as engines run it; it would end the process with an output of such a type.
  const hasFewBits = [...graph.types.values()].some(({ dtype }) => isFewBits(dtype));
  try {
    outputs = hasFewBits ? await runGraph(graph, inputs) : await runOnnx(written, inputs);
  } catch (error) {
    if (hasFewBits) return `failed: ${String(error)}`;
    const runs = await runOnnx(bytes, inputs).then(() => true, () => false);
    return runs ? `failed: ${String(error)}` : 'refused';
  }
  for (const [name, tensor] of Object.entries(expected)) {
    if (disagreement(outputs[name]!, tensor) > 1) {
      if (hasFewBits) return `failed: output ${name} is wrong`;
      // onnxruntime's own faults are not the importer's.
      const original = await runOnnx(bytes, inputs).catch(() => undefined);
      if (original && disagreement(outputs[name]!, original[name]!, 0, 0) === 0) return 'refused';
      return `failed: output ${name} is wrong`;
    }
  }
  return 'passed';
}

describe.skipIf(!nodeFolder)(`operator tests, imported and written again${reason}`, () => {
  it('pass in onnxruntime wherever it runs them', async () => {
    const counts = { passed: 0, unsupported: 0, refused: 0 };
    const failures: string[] = [];
    for (const name of readdirSync(nodeFolder!)) {
      const folder = join(nodeFolder!, name);
      const outcome = await outcomeOf(join(folder, 'model.onnx'), join(folder, 'test_data_set_0'));
      if (outcome === 'passed' || outcome === 'unsupported' || outcome === 'refused') counts[outcome]++;
      else failures.push(`${name} ${outcome}`);
    }
    expect(failures).toEqual([]);
    // Measured: 942 passed, 88 hold what the IR does not, 45 are beyond onnxruntime 1.30's CPU provider.
    expect(counts.passed).toBeGreaterThanOrEqual(940);
    expect(counts.refused).toBeLessThanOrEqual(48);
  }, 120_000);
});

describe.skipIf(!networkFolder)(`exported networks, imported and written again${reason}`, () => {
  it.each(networkFolder ? readdirSync(networkFolder) : [])('%s', async (name) => {
    const folder = join(networkFolder!, name);
    expect(await outcomeOf(join(folder, 'model.onnx'), folder)).toBe('passed');
  });
});
