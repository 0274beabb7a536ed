/**
 * One encoder layer of BERT (Devlin et al. 2018, arXiv:1810.04805) as PyTorch's TorchScript exporter writes it before opset
 * 17: normalizations and Gelu in primitive ops, bias as MatMul + Add, the scale as a division.
 */
import { describe, expect, it } from 'vitest';
import { VIEWS } from '../../../src/passes/reshapes.ts';
import { countOps, expectSame, optimize } from '../../helpers/passes.ts';
import { sketch, type Sketch } from '../../helpers/rules.ts';

const [SEQUENCE, HIDDEN, HEADS] = [6, 16, 2];

function layerNorm({ b, n, w, ints }: Sketch, x: string): string {
  const mean = (of: string): string => b.node('ReduceMean', [of, ints(-1)], { keepdims: 1, noop_with_empty_axes: 0 });
  const centered = b.node('Sub', [x, mean(x)], {});
  const variance = mean(b.node('Pow', [centered, n(2)], {}));
  const normal = b.node('Div', [centered, b.node('Sqrt', [b.node('Add', [variance, n(1e-12)], {})], {})], {});
  return b.node('Add', [b.node('Mul', [normal, w(HIDDEN)], {}), w(HIDDEN)], {});
}

const dense = ({ b, w }: Sketch, x: string, from: number, to: number): string =>
  b.node('Add', [b.node('MatMul', [x, w(from, to)], {}), w(to)], {});

function heads(s: Sketch, x: string, perm: number[]): string {
  const split = s.b.node('Reshape', [dense(s, x, HIDDEN, HIDDEN), s.ints(1, SEQUENCE, HEADS, HIDDEN / HEADS)], { allowzero: 0 });
  return s.b.node('Transpose', [split], { perm });
}

function encoderLayer(s: Sketch): string {
  const { b, n } = s;
  const [x, mask] = [s.x(1, SEQUENCE, HIDDEN), s.x(1, 1, 1, SEQUENCE)];
  const [q, k, v] = [heads(s, x, [0, 2, 1, 3]), heads(s, x, [0, 2, 3, 1]), heads(s, x, [0, 2, 1, 3])];
  const scores = b.node('Div', [b.node('MatMul', [q, k], {}), n(Math.sqrt(HIDDEN / HEADS))], {});
  const weights = b.node('Softmax', [b.node('Add', [scores, mask], {})], { axis: -1 });
  const context = b.node('Transpose', [b.node('MatMul', [weights, v], {})], { perm: [0, 2, 1, 3] });
  const merged = b.node('Reshape', [context, s.ints(1, SEQUENCE, HIDDEN)], { allowzero: 0 });
  const attended = layerNorm(s, b.node('Add', [dense(s, merged, HIDDEN, HIDDEN), x], {}));
  const inner = dense(s, attended, HIDDEN, 4 * HIDDEN);
  const erf = b.node('Add', [b.node('Erf', [b.node('Div', [inner, n(Math.SQRT2)], {})], {}), n(1)], {});
  const gelu = b.node('Mul', [b.node('Mul', [inner, erf], {}), n(0.5)], {});
  return layerNorm(s, b.node('Add', [dense(s, gelu, 4 * HIDDEN, HIDDEN), attended], {}));
}

describe('a BERT encoder layer', () => {
  it('becomes 14 nodes of 46, three of them windows for webgpu', async () => {
    const graph = sketch(encoderLayer);
    const { graph: fused } = await optimize(graph, 'webgpu');
    expect([graph, fused].map((each) => each.nodes.filter((node) => !VIEWS.has(node.op)).length)).toEqual([46, 14]);
    expect(countOps(fused)).toEqual({ FusedMatMul: 4, Slice: 3, Reshape: 4, Transpose: 4, FusedAttention: 1, LayerNormalization: 2 });
    await expectSame(graph, fused);
  });

  it('has its normalizations and Gelu recovered for onnx', async () => {
    const graph = sketch(encoderLayer);
    const { graph: onnx } = await optimize(graph, 'onnx');
    expect(countOps(onnx)).toEqual({ MatMul: 8, Add: 9, Reshape: 4, Transpose: 4, Div: 1, Softmax: 1, LayerNormalization: 2, Gelu: 1 });
    await expectSame(graph, onnx);
  });
});
