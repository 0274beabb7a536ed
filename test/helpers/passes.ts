/**
 * Runs passes over a graph and shows, with onnxruntime, that the result computes the same.
 */
import { expect } from 'vitest';
import type { Graph, ValueId } from '../../src/ir/graph.ts';
import { toNumbers, type Tensor } from '../../src/ir/tensor.ts';
import { verifyGraph } from '../../src/ir/verify.ts';
import { OP_RULES } from '../../src/ops/builder.ts';
import type { Pass, Target } from '../../src/passes/pass.ts';
import { runPasses, type PipelineResult } from '../../src/passes/pipeline.ts';
import { fold, randomInputs, runGraph } from './ort.ts';
import { unfuse } from './unfuse.ts';

/** Runs one pass, checks the graph before and after, and that both give the same on random inputs. */
export async function applyPass(pass: Pass, graph: Graph, target: Target = 'webgpu'): Promise<{ graph: Graph; rewrites: Record<string, number> }> {
  verifyGraph(graph, { stage: 'imported', rules: OP_RULES });
  const result = await pass.run(graph, { target, fusion: 'on', fold });
  verifyGraph(result.graph, { stage: target, rules: OP_RULES });
  await expectSame(graph, result.graph);
  return { graph: result.graph, rewrites: Object.fromEntries(Object.entries(result.rewrites).filter(([, count]) => count > 0)) };
}

/** The whole pipeline, verified between passes. */
export function optimize(graph: Graph, target: Target, options: { readonly fusion?: 'on' | 'off' } = {}): Promise<PipelineResult> {
  return runPasses(graph, { target, fusion: options.fusion ?? 'on', disabled: [], fold, verify: true });
}

/** Both graphs have the same bindings and give the same outputs on seeded inputs. */
export async function expectSame(before: Graph, after: Graph, tolerance = 1e-4): Promise<void> {
  expect(after.inputs).toEqual(before.inputs);
  expect(after.outputs).toEqual(before.outputs);
  const inputs = randomInputs(before, 7);
  expectClose(await runGraph(unfuse(after), inputs), await runGraph(unfuse(before), inputs), tolerance);
}

/** Element by element, relative to the magnitude of the expected tensor's values. */
export function expectClose(found: ReadonlyMap<ValueId, Tensor>, wanted: ReadonlyMap<ValueId, Tensor>, tolerance: number): void {
  for (const [name, tensor] of wanted) {
    const other = found.get(name)!;
    expect({ name, dtype: other.dtype, dims: other.dims }).toEqual({ name, dtype: tensor.dtype, dims: tensor.dims });
    const [a, b] = [toNumbers(other), toNumbers(tensor)];
    const scale = Math.max(1, largest(b));
    const worst = a.findIndex((value, index) => !(Object.is(value, b[index]) || Math.abs(value - b[index]!) <= tolerance * scale));
    if (worst >= 0) expect.fail(`${name}[${worst}] is ${a[worst]}, not ${b[worst]} (scale ${scale})`);
  }
}

/** Largest finite magnitude, without spreading millions of elements over the stack. */
function largest(values: readonly number[]): number {
  return values.reduce((most, value) => (Number.isFinite(value) ? Math.max(most, Math.abs(value)) : most), 0);
}

/** How many nodes there are of each op. */
export function countOps(graph: Graph): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const node of graph.nodes) counts[node.op] = (counts[node.op] ?? 0) + 1;
  return counts;
}
