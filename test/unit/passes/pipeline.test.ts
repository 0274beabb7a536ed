import { describe, expect, it } from 'vitest';
import { nodeCost } from '../../../src/ops/infer.ts';
import { PASSES, runPasses, selectPasses } from '../../../src/passes/pipeline.ts';
import { fold } from '../../helpers/ort.ts';
import { countOps, optimize } from '../../helpers/passes.ts';
import { CONV, sketch, type Sketch } from '../../helpers/rules.ts';

const NOTHING_DISABLED = { disabled: [], fold } as const;

/** conv → batchnorm → relu → identity, and a reshape to a computed shape. */
function network({ b, x, w, positive }: Sketch): string {
  const image = x(1, 2, 4, 4);
  const y = b.node('Conv', [image, w(2, 2, 3, 3)], { ...CONV, pads: [1, 1, 1, 1] }, { name: 'conv' });
  const normal = b.node('BatchNormalization', [y, w(2), w(2), w(2), positive(2)], { epsilon: 1e-5, momentum: 0.9, training_mode: 0 }, { name: 'bn' });
  const active = b.node('Identity', [b.node('Relu', [normal], {}, { name: 'relu' })], {}, { name: 'same' });
  const shape = b.node('Shape', [b.node('Flatten', [image], { axis: 1 }, { name: 'flat' })], { start: 0, end: undefined }, { name: 'shape' });
  return b.node('Reshape', [active, shape], { allowzero: 0 }, { name: 'reshape' });
}

describe('pipeline', () => {
  it('has one list of passes with unique names and a line about each', () => {
    expect(new Set(PASSES.map((pass) => pass.name)).size).toBe(PASSES.length);
    expect(PASSES.map((pass) => `${pass.name}: ${pass.summary}`)).toMatchInlineSnapshot(`
      [
        "decompose-custom: custom ops without a kernel of their own, in standard ones",
        "dead-code: drop nodes, constants and optional outputs that nothing reads",
        "shape-constants: compute what follows from static shapes",
        "split-variadic: sums and extremes of many operands in steps that a kernel can bind",
        "halves-as-float32: for int8: compute float16 and bfloat16 in float32, without the rounding of casts",
        "bfloat16-as-float32: compute bfloat16 in float32, rounded where the model casts to it",
        "dequantize-blocks: constants with a scale for each block are dequantized at build, where no product or gather reads them packed",
        "constant-folding: evaluate subgraphs of constants that do not grow the weights",
        "narrow-types: compute float64 in float32 and uint64 in uint32",
        "identities: drop nodes that give their input unchanged",
        "reshapes: one Reshape for a chain of views",
        "transposes: cancel, compose and sink transposes",
        "common-subexpressions: compute equal things once",
        "complete-qdq: quantization as exporters write it, in the form that onnxruntime fuses",
        "qlinear-products: QLinearConv and QLinearMatMul as products between Q/DQ, where those have an integer kernel",
        "custom-patterns: custom ops from the subgraphs that exporters write them in",
        "recover-activations: Gelu, HardSwish, Mish, Softplus and Clip from primitive ops",
        "recover-layer-norm: LayerNormalization from primitive ops",
        "recover-rms-norm: RMSNormalization from primitive ops",
        "pick-rows: rows are picked before they are normalized",
        "fold-linear: MatMul + Add as Gemm; BatchNorm and per-channel arithmetic into weights",
        "fold-pads: Pad into the convolution or pool that reads it",
        "recover-swish: Swish from x·sigmoid(x)",
        "batch-norm: BatchNormalization as Mul and Add, for elementwise fusion",
        "fuse-attention: softmax(QK)V as one kernel",
        "fuse-projections: products of one matrix by several weights as one",
        "integer-chains: moves carry 8-bit integers, and a product meets its elementwise reader without a grid between",
        "early-addends: constants are added where a product is computed, not behind copies of it",
        "dynamic-products: products of dynamically quantized values on the kernels of integer products",
        "fuse-conv: convolution, bias, activation and residual as one kernel",
        "fuse-matmul: matrix product, bias, activation and residual as one kernel",
        "fuse-elementwise: chains and trees of elementwise ops as one kernel",
        "integer-products: products of dequantized operands multiply the 8-bit integers themselves",
        "weight-only: products and gathers of rows read weights of few bits packed",
        "fold-dequantized: weights that no integer kernel reads are dequantized at build",
        "fuse-concat: concatenations of elementwise expressions, and what reads them elementwise, as one kernel",
        "fuse-cache-writes: joined expressions computed where a wider one reads them, with those that read the same: keys and values on their way into a cache",
        "fuse-shortcuts: a convolution and the one whose result it adds as one product",
        "fuse-siblings: convolutions of one image that differ in their weights alone as one",
      ]
    `);
  });

  it('chooses by target, fusion and name', () => {
    const names = (target: 'onnx' | 'webgpu', fusion: 'on' | 'off', disabled: string[] = []): string[] =>
      selectPasses({ target, fusion, disabled }).map((pass) => pass.name);
    expect(names('webgpu', 'on')).toEqual(PASSES.map((pass) => pass.name).filter((name) => name !== 'complete-qdq' && name !== 'halves-as-float32'));
    expect(selectPasses({ target: 'onnx', fusion: 'off', disabled: [], forInt8: true }).map((pass) => pass.name)).toContain('halves-as-float32');
    expect(names('onnx', 'on')).not.toContain('fuse-conv');
    expect(names('webgpu', 'off')).toEqual(['decompose-custom', 'dead-code', 'shape-constants', 'split-variadic', 'bfloat16-as-float32', 'dequantize-blocks', 'narrow-types', 'qlinear-products', 'integer-products', 'fold-dequantized']);
    expect(names('onnx', 'on')).not.toContain('integer-products');
    expect(names('onnx', 'on', ['transposes'])).not.toContain('transposes');
    expect(names('webgpu', 'on', ['windows'])).not.toContain('fuse-cache-writes');
  });

  it('fuses with fusion on, keeps a kernel per op with fusion off', async () => {
    const graph = sketch(network);
    const on = await optimize(graph, 'webgpu');
    expect(countOps(on.graph)).toEqual({ FusedConv: 1, Reshape: 1 });
    expect(on.graph.nodes[0]!.origins).toEqual(['conv', 'bn', 'relu']);
    const off = await optimize(graph, 'webgpu', { fusion: 'off' });
    expect(countOps(off.graph)).toEqual({ Conv: 1, BatchNormalization: 1, Relu: 1, Identity: 1, Reshape: 1 });
    const onnx = await optimize(graph, 'onnx');
    expect(countOps(onnx.graph)).toEqual({ Conv: 1, Relu: 1, Reshape: 1 });
  });

  it('reports what each pass rewrote, by rule', async () => {
    const { reports } = await optimize(sketch(network), 'onnx');
    const changed = reports.filter((report) => Object.keys(report.rewrites).length > 0);
    expect(changed.map(({ pass, nodesBefore, nodesAfter, rewrites }) => [pass, nodesBefore, nodesAfter, rewrites])).toEqual([
      ['shape-constants', 7, 5, { shape: 1 }],
      ['identities', 5, 4, { identity: 1 }],
      ['fold-linear', 4, 3, { 'affine-into-weights': 1 }],
    ]);
  });

  it('leaves constants to be computed at run time without an evaluator', async () => {
    const graph = sketch(({ b, x, w }) => b.node('Add', [x(2), b.node('Exp', [w(2)], {})], {}));
    const { graph: kept } = await runPasses(graph, { target: 'onnx', fusion: 'on', disabled: [], fold: undefined });
    expect(countOps(kept)).toEqual({ Add: 1, Exp: 1 });
  });

  it('finds a broken graph where it verifies', async () => {
    const graph = sketch(({ b, x }) => b.node('Relu', [x(2)], {}));
    const broken = { ...graph, outputs: ['nowhere'] };
    await expect(runPasses(broken, { ...NOTHING_DISABLED, target: 'onnx', fusion: 'on', verify: true })).rejects.toThrow(
      "after import: graph g is malformed:\n  output 'nowhere' is not defined",
    );
  });

  it('stops when the signal aborts', async () => {
    const signal = AbortSignal.abort(new Error('enough'));
    const graph = sketch(({ b, x }) => b.node('Relu', [x(2)], {}));
    await expect(runPasses(graph, { ...NOTHING_DISABLED, target: 'onnx', fusion: 'on', signal })).rejects.toThrow('enough');
  });

  it('has nothing left to do after it ran', async () => {
    const { graph } = await optimize(sketch(network), 'webgpu');
    const again = await runPasses(graph, { ...NOTHING_DISABLED, target: 'webgpu', fusion: 'on' });
    expect(again.reports.flatMap((report) => Object.keys(report.rewrites))).toEqual([]);
    expect(again.graph).toBe(graph);
  });

  it('keeps the arithmetic of what it fuses in the cost of the fused node', async () => {
    const { graph } = await optimize(sketch(network), 'webgpu');
    const convolution = 2 * 2 * 3 * 3 * (2 * 16);
    expect(nodeCost(graph, graph.nodes[0]!).flops).toBe(convolution + 32 + 32);
  });
});
