/**
 * The second kernel of attention whose keys are divided. Every span of keys left, by row, its sums of weighted values, the score that its weights are
 * relative to, and the sum of its weights: all are brought to the largest of these scores, and added.
 *
 * It is a dispatch of its own because WebGPU orders no workgroup's writes before another's reads within one.
 */
import type { KernelCall } from '../../lower/call.ts';
import { type DeviceTensor, storedBytes } from '../../lower/tensor.ts';
import type { DeviceProfile } from '../../profile.ts';
import { type AttentionTactic, partialVectors } from '../../tactics/attention.ts';
import { ModuleBuilder } from '../../wgsl/module.ts';
import { independentThreads } from '../grid.ts';
import { AttentionResults, hasSoftmax } from './results.ts';
import type { AttentionSpec } from './spec.ts';

/** `partials`: vec4<f32> by [split, batch, head, row, vector], of which the last one of a row holds the score and the sum. */
export function combineKernel(spec: AttentionSpec, { splits }: AttentionTactic, profile: DeviceProfile, partials: DeviceTensor): KernelCall {
  const module = new ModuleBuilder(`Attention of ${splits} spans`);
  module.storage('partials', 'f32', 4, storedBytes(partials) / 16, 'read');
  const results = new AttentionResults(module, spec);
  const { batch, heads, rows, depthV } = spec;
  const [columns, vectors] = [depthV / 4, partialVectors(spec)];
  const lines = batch * heads * rows;
  const spans = Array.from({ length: splits }, (_, i) => i);
  const workgroups = independentThreads(module, lines * columns, profile, (block) => {
    block.let('line', `i / ${columns}u`);
    block.let('vector', `i % ${columns}u`);
    // Nothing waits for anything here but the largest score: all loads are under way at once.
    for (const split of spans) block.let(`span${split}`, `partials[(${split * lines}u + line) * ${vectors}u + ${columns}u]`);
    block.let('largest', spans.map((split) => `span${split}.x`).reduce((a, b) => `max(${a}, ${b})`));
    block.var('total', 'vec4<f32>()');
    block.var('sum', 'f32()');
    for (const split of spans) {
      block.let(`by${split}`, `exp(span${split}.x - largest)`);
      block.line(`sum += by${split} * span${split}.y`);
      block.line(`total += by${split} * partials[(${split * lines}u + line) * ${vectors}u + vector]`);
    }
    // A row without any weight is 0/0, as in ONNX's reference.
    const result = spec.zeroEmptyRows ? `select(vec4<f32>(), total * (1.0f / sum), ${hasSoftmax('sum')})` : `total * select(1.0f / sum, ${module.helper('nan')}(), sum == 0.0f)`;
    block.let('result', result);
    const at = [`i / ${columns * rows * heads}u`, `(i / ${columns * rows}u) % ${heads}u`, `line % ${rows}u`] as const;
    results.emit(block, [block.let('batch', at[0]), block.let('head', at[1]), block.let('row', at[2]), 'vector * 4u'], 'result');
  });
  return { source: module.finish(), operands: [partials, ...AttentionResults.operands(spec)], workgroups };
}
