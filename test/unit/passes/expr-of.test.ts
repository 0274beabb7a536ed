/**
 * Every elementwise op's expression against onnxruntime's own kernel for the op.
 */
import { describe, expect, it } from 'vitest';
import type { OpAttrs } from '../../../src/ir/ops.ts';
import { fromNumbers, toNumbers, type DType, type Tensor } from '../../../src/ir/tensor.ts';
import type { GraphBuilder } from '../../../src/ir/build.ts';
import type { ValueId } from '../../../src/ir/graph.ts';
import { newGraphBuilder } from '../../../src/ops/builder.ts';
import { ELEMENTWISE_OPS, exprSize, type ElementwiseOp } from '../../../src/passes/expr-of.ts';
import { fuseElementwise } from '../../../src/passes/fuse-elementwise.ts';
import { evaluateExpr } from '../../helpers/expr.ts';
import { runGraph } from '../../helpers/ort.ts';

const inf = Number.POSITIVE_INFINITY;
const REALS = [-100, -88.5, -6.5, -3, -2.5, -1.5, -1, -0.5, -0.1, 0, 0.1, 0.5, 1, 1.5, 2.5, 3, 6.5, 88.5, 100];
const UNIT = [-1, -0.9, -0.5, 0, 0.25, 0.9, 1];
const POSITIVE = [0.01, 0.5, 1, 1.5, 10, 100];
const OTHERS = REALS.map((value, index) => (index % 3 ? value / 7 + 0.3 : value));

interface Sample {
  readonly inputs: readonly (readonly number[])[];
  readonly dtypes?: readonly DType[];
  readonly attrs?: OpAttrs[ElementwiseOp];
}

const real: Sample = { inputs: [REALS] };
const reals: Sample = { inputs: [REALS, OTHERS] };
const bits = (attrs = {}): Sample => ({ inputs: [[0, 1, 5, 12, 255], [1, 3, 2, 7, 4]], dtypes: ['uint32', 'uint32'], attrs });
const flags: Sample = { inputs: [[0, 0, 1, 1], [0, 1, 0, 1]], dtypes: ['bool', 'bool'] };

const SAMPLES: { readonly [K in ElementwiseOp]: Sample | readonly Sample[] } = {
  Abs: real, Acos: { inputs: [UNIT] }, Acosh: { inputs: [[1, 1.5, 10]] }, Add: reals, And: flags, Asin: { inputs: [UNIT] },
  Asinh: { inputs: [[-10, -1, 0, 0.5, 3]] }, Atan: real, Atanh: { inputs: [[-0.9, 0, 0.5]] },
  BitShift: [bits({ direction: 'LEFT' }), bits({ direction: 'RIGHT' })],
  BitwiseAnd: bits(), BitwiseNot: { inputs: [[0, 1, -5, 100]], dtypes: ['int32'] }, BitwiseOr: bits(), BitwiseXor: bits(),
  Cast: [
    { inputs: [[-2.7, -0.2, 0, 0.9, 3.5]], attrs: { to: 'int32', saturate: 1 } },
    { inputs: [[-2.7, -0.2, 0, 0.9]], attrs: { to: 'bool', saturate: 1 } },
    { inputs: [[-3, 0, 7]], dtypes: ['int32'], attrs: { to: 'float32', saturate: 1 } },
  ],
  CastLike: { inputs: [[-2.7, 0, 3.5], [1, 1, 1]], dtypes: ['float32', 'int32'], attrs: { saturate: 1 } },
  Ceil: real, Celu: { inputs: [REALS], attrs: { alpha: 1.5 } },
  Clip: [{ inputs: [REALS, [-1.5], [2]] }, { inputs: [REALS, [-1.5]] }, real, { inputs: [[-3, 0, 9], [-1], [4]], dtypes: ['int32', 'int32', 'int32'] }],
  Cos: real, Cosh: { inputs: [[-5, -1, 0, 2]] },
  Div: [{ inputs: [REALS, REALS.map(() => 0.7)] }, { inputs: [[-7, -6, 7, 9], [2, 4, -2, 5]], dtypes: ['int32', 'int32'] }],
  Elu: { inputs: [REALS], attrs: { alpha: 0.7 } }, Equal: reals, Erf: real, Exp: { inputs: [[-100, -1, 0, 1, 10]] }, Floor: real,
  Gelu: [{ inputs: [REALS], attrs: { approximate: 'none' } }, { inputs: [REALS], attrs: { approximate: 'tanh' } }],
  Greater: reals, GreaterOrEqual: reals, HardSigmoid: { inputs: [REALS], attrs: { alpha: 0.3, beta: 0.4 } }, HardSwish: real, Identity: real,
  IsInf: [
    { inputs: [[-inf, -1, inf]], attrs: { detect_negative: 1, detect_positive: 1 } },
    { inputs: [[-inf, -1, inf]], attrs: { detect_negative: 1, detect_positive: 0 } },
    { inputs: [[-inf, -1, inf]], attrs: { detect_negative: 0, detect_positive: 1 } },
  ],
  IsNaN: { inputs: [[Number.NaN, 0, inf]] }, LeakyRelu: { inputs: [REALS], attrs: { alpha: 0.1 } }, Less: reals, LessOrEqual: reals,
  Log: { inputs: [POSITIVE] }, Max: { inputs: [REALS, OTHERS, [0.2]] }, Mean: { inputs: [REALS, OTHERS, [0.2]] }, Min: reals, Mish: real,
  Mod: [
    { inputs: [[-7, -6, 7, 9], [3, 4, -4, 5]], dtypes: ['int32', 'int32'], attrs: { fmod: 0 } },
    { inputs: [[-7, -6, 7, 9], [3, 4, -4, 5]], dtypes: ['int32', 'int32'], attrs: { fmod: 1 } },
    { inputs: [[-7.5, 6.25], [2, 4]], attrs: { fmod: 1 } },
  ],
  Mul: reals, Neg: real, Not: { inputs: [[0, 1]], dtypes: ['bool'] }, Or: flags, PRelu: { inputs: [REALS, [0.2]] },
  Pow: [{ inputs: [[-2, -1, 0.5, 3], [2]] }, { inputs: [POSITIVE, [0.5]] }, { inputs: [[-2, 3], [3, 2]], dtypes: ['float32', 'int32'] }, { inputs: [[2, 16, 7, -2, 10], [3, 0.75, 1.5, 3, 8]], dtypes: ['int32', 'float32'] }],
  Reciprocal: { inputs: [POSITIVE] }, Relu: real, Round: real, Selu: { inputs: [REALS], attrs: { alpha: 1.6, gamma: 1.05 } },
  Shrink: { inputs: [REALS], attrs: { bias: 0.3, lambd: 1.2 } }, Sigmoid: real, Sign: real, Sin: real, Sinh: { inputs: [[-5, -1, 0, 2]] },
  Softplus: real, Softsign: real, Sqrt: { inputs: [POSITIVE] }, Sub: reals, Sum: { inputs: [REALS, OTHERS, [0.2]] },
  Swish: { inputs: [REALS], attrs: { alpha: 1.7 } }, Tan: { inputs: [[-1, 0, 0.5, 1]] }, Tanh: real,
  ThresholdedRelu: { inputs: [REALS], attrs: { alpha: 1.2 } },
  Where: { inputs: [[0, 1, 1, 0], [1, 2, 3, 4], [5, 6, 7, 8]], dtypes: ['bool', 'float32', 'float32'] }, Xor: flags,
};

describe('expressions of elementwise ops', () => {
  const rows = ELEMENTWISE_OPS.flatMap((op) => [SAMPLES[op]].flat().map((sample, index) => [`${op} ${index}`, op, sample] as const));
  it.each(rows)('%s', async (_, op, { inputs, dtypes = [], attrs = {} }) => {
    const tensors = inputs.map((values, i) => fromNumbers(dtypes[i] ?? 'float32', [values.length], values));
    const b = newGraphBuilder(op);
    const ids = tensors.map((tensor, i) => b.input(`x${i}`, { dtype: tensor.dtype, dims: tensor.dims.join() === '1' ? [] : tensor.dims }));
    const graph = b.finish([b.node('Identity', [b.node(op, ids, attrs)], {})]);
    const fused = (await fuseElementwise.run(graph, { target: 'webgpu', fusion: 'on', fold: undefined })).graph.nodes[0]!;
    if (fused.op !== 'FusedElementwise') expect.fail(`${op} was not fused`);
    const order = fused.inputs.map((id) => tensors[ids.indexOf(id)]!);
    const found = elements(order).map((row) => evaluateExpr(fused.attrs.exprs[0]!, row));
    const wanted = toNumbers(await reference(b, op, ids, attrs, tensors));
    expect(found).toHaveLength(wanted.length);
    expectNear(found, wanted);
  });

  it('counts the tree, not the shared nodes', () => {
    const x = { kind: 'input', index: 0, dtype: 'float32' } as const;
    const sum = { kind: 'binary', fn: 'add', a: x, b: x } as const;
    expect(exprSize({ kind: 'binary', fn: 'mul', a: sum, b: sum })).toBe(7);
  });
});

/** Row i holds element i of every tensor; those of one element are repeated. */
function elements(tensors: readonly Tensor[]): number[][] {
  const columns = tensors.map(toNumbers);
  const length = Math.max(...columns.map((column) => column.length));
  return Array.from({ length }, (_, i) => columns.map((column) => column[column.length === 1 ? 0 : i]!));
}

/** What onnxruntime's kernel gives; it has none for Swish, whose schema defines it by x·sigmoid(αx). */
async function reference(b: GraphBuilder, op: ElementwiseOp, ids: readonly ValueId[], attrs: OpAttrs[ElementwiseOp], tensors: readonly Tensor[]): Promise<Tensor> {
  const inputs = new Map(ids.map((id, i) => [id, { ...tensors[i]!, dims: b.type(id).dims }]));
  if (op !== 'Swish') {
    const graph = b.finish(['Identity_1']);
    return (await runGraph(graph, inputs)).get('Identity_1')!;
  }
  const alpha = b.constant(fromNumbers('float32', [], [(attrs as OpAttrs['Swish']).alpha]));
  const y = b.node('Mul', [ids[0]!, b.node('Sigmoid', [b.node('Mul', [ids[0]!, alpha], {})], {})], {}, { outputs: ['y'] });
  const graph = b.finish([y]);
  return (await runGraph({ ...graph, nodes: graph.nodes.slice(2) }, inputs)).get(y)!;
}

function expectNear(found: readonly number[], wanted: readonly number[]): void {
  found.forEach((value, i) => {
    const other = wanted[i]!;
    if (Math.fround(value) === other || (Number.isNaN(value) && Number.isNaN(other))) return;
    expect(Math.abs(value - other), `element ${i}: ${value}, not ${other}`).toBeLessThanOrEqual(2e-6 * Math.max(1, Math.abs(other)));
  });
}
