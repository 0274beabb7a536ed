import { describe, expect, it } from 'vitest';
import { recoverActivations, recoverSwish } from '../../../src/passes/recover-activations.ts';
import { recoverLayerNorm, recoverRmsNorm } from '../../../src/passes/recover-norms.ts';
import { applyPass } from '../../helpers/passes.ts';
import { sketch, testRows, type Row, type Sketch } from '../../helpers/rules.ts';

const erfTerm = ({ b, n }: Sketch, i: string): string =>
  b.node('Add', [b.node('Erf', [b.node('Div', [i, n(1.4142135381698608)], {})], {}), n(1)], {});
const erfTermByProduct = ({ b, n }: Sketch, i: string): string =>
  b.node('Add', [n(1), b.node('Erf', [b.node('Mul', [n(0.7071067690849304), i], {})], {})], {});
const tanhTerm = (s: Sketch, i: string, cube: string): string => {
  const inner = s.b.node('Add', [i, s.b.node('Mul', [cube, s.n(0.044715)], {})], {});
  return s.b.node('Add', [s.b.node('Tanh', [s.b.node('Mul', [inner, s.n(0.7978845608)], {})], {}), s.n(1)], {});
};
const clip6 = ({ b, n }: Sketch, i: string): string => b.node('Clip', [b.node('Add', [i, n(3)], {}), n(0), n(6)], {});

describe('activations', () => {
  const rows: Row[] = [
    ['Gelu, TorchScript: (x·t)·½', (s) => { const i = s.x(2, 3); return s.b.node('Mul', [s.b.node('Mul', [i, erfTerm(s, i)], {}), s.n(0.5)], {}); }, 'Gelu'],
    ['Gelu, dynamo: (x·½)·t', (s) => { const i = s.x(2, 3); return s.b.node('Mul', [s.b.node('Mul', [i, s.n(0.5)], {}), erfTermByProduct(s, i)], {}); }, 'Gelu'],
    ['Gelu, tf2onnx: x·(½·t)', (s) => { const i = s.x(2, 3); return s.b.node('Mul', [s.b.node('Mul', [s.n(0.5), erfTermByProduct(s, i)], {}), i], {}); }, 'Gelu'],
    ['Gelu with a division by 2', (s) => { const i = s.x(2, 3); return s.b.node('Div', [s.b.node('Mul', [i, erfTerm(s, i)], {}), s.n(2)], {}); }, 'Gelu'],
    ['not Gelu: another constant', (s) => { const i = s.x(2, 3); return s.b.node('Mul', [s.b.node('Mul', [i, erfTerm(s, i)], {}), s.n(0.4)], {}); }, 'Div Erf Add Mul Mul'],
    ['not Gelu: another x', (s) => { const i = s.x(2, 3); return s.b.node('Mul', [s.b.node('Mul', [s.x(2, 3), erfTerm(s, i)], {}), s.n(0.5)], {}); }, 'Div Erf Add Mul Mul'],
    ['not Gelu: the erf is read elsewhere', (s) => { const i = s.x(2, 3); const t = erfTerm(s, i); return [s.b.node('Mul', [s.b.node('Mul', [i, t], {}), s.n(0.5)], {}), s.b.node('Relu', [t], {})]; }, 'Div Erf Add Mul Mul Relu'],
    ['Gelu by tanh, cube as Pow', (s) => { const i = s.x(2, 3); return s.b.node('Mul', [s.b.node('Mul', [s.n(0.5), i], {}), tanhTerm(s, i, s.b.node('Pow', [i, s.n(3)], {}))], {}); }, 'Gelu'],
    ['Gelu by tanh, cube as products', (s) => { const i = s.x(2, 3); return s.b.node('Mul', [i, s.b.node('Mul', [s.n(0.5), tanhTerm(s, i, s.b.node('Mul', [i, s.b.node('Mul', [i, i], {})], {}))], {})], {}); }, 'Gelu'],
    ['HardSwish: x·clip/6', (s) => { const i = s.x(2, 3); return s.b.node('Div', [s.b.node('Mul', [i, clip6(s, i)], {}), s.n(6)], {}); }, 'HardSwish'],
    ['HardSwish: x·(clip/6)', (s) => { const i = s.x(2, 3); return s.b.node('Mul', [i, s.b.node('Div', [clip6(s, i), s.n(6)], {})], {}); }, 'HardSwish'],
    ['HardSwish from HardSigmoid', (s) => { const i = s.x(2, 3); return s.b.node('Mul', [i, s.b.node('HardSigmoid', [i], { alpha: 1 / 6, beta: 0.5 })], {}); }, 'HardSwish'],
    ['not HardSwish: other slope', (s) => { const i = s.x(2, 3); return s.b.node('Mul', [i, s.b.node('HardSigmoid', [i], { alpha: 0.2, beta: 0.5 })], {}); }, 'HardSigmoid Mul'],
    ['HardSigmoid', (s) => s.b.node('Div', [clip6(s, s.x(2, 3)), s.n(6)], {}), 'HardSigmoid'],
    ['Softplus', ({ b, x, n }) => b.node('Log', [b.node('Add', [n(1), b.node('Exp', [x(2)], {})], {})], {}), 'Softplus'],
    ['not Softplus: another constant', ({ b, x, n }) => b.node('Log', [b.node('Add', [n(2), b.node('Exp', [x(2)], {})], {})], {}), 'Exp Add Log'],
    ['Mish from Softplus', ({ b, x }) => { const i = x(2); return b.node('Mul', [i, b.node('Tanh', [b.node('Softplus', [i], {})], {})], {}); }, 'Mish'],
    ['Mish from primitives', ({ b, x, n }) => { const i = x(2); return b.node('Mul', [b.node('Tanh', [b.node('Log', [b.node('Add', [b.node('Exp', [i], {}), n(1)], {})], {})], {}), i], {}); }, 'Mish'],
    ['Clip from min(max)', ({ b, x, n }) => b.node('Min', [b.node('Max', [x(2), n(-1)], {}), n(1)], {}), 'Clip'],
    ['Clip from max(min)', ({ b, x, n }) => b.node('Max', [b.node('Min', [x(2), n(1)], {}), n(-1)], {}), 'Clip'],
    ['max(min) with crossed bounds is not Clip', ({ b, x, n }) => b.node('Max', [b.node('Min', [x(2), n(-1)], {}), n(1)], {}), 'Min Max'],
    ['Relu6', ({ b, x, n }) => b.node('Min', [b.node('Relu', [x(2)], {}), n(6)], {}), 'Clip'],
    ['Clip of Relu', ({ b, x, n }) => b.node('Clip', [b.node('Relu', [x(2)], {}), n(-1), n(1)], {}), 'Clip'],
    ['Relu from Max', ({ b, x, n }) => b.node('Max', [n(0), x(2)], {}), 'Relu'],
    ['a Max that broadcasts stays', ({ b, x, w }) => b.node('Max', [x(2), w(3, 1)], {}), 'Max'],
  ];
  testRows(recoverActivations, rows, 'onnx');
});

describe('Swish', () => {
  testRows(recoverSwish, [
    ['x·σ(x)', ({ b, x }) => { const i = x(2); return b.node('Mul', [b.node('Sigmoid', [i], {}), i], {}); }, 'Swish'],
    ['x·σ(αx)', ({ b, x, n }) => { const i = x(2); return b.node('Mul', [i, b.node('Sigmoid', [b.node('Mul', [i, n(1.702)], {})], {})], {}); }, 'Swish'],
    ['y·σ(x) is not', ({ b, x }) => b.node('Mul', [x(2), b.node('Sigmoid', [x(2)], {})], {}), 'Sigmoid Mul'],
  ]);
});

const MEAN = { keepdims: 1, noop_with_empty_axes: 0 } as const;

/** The pieces of a normalization over the last axis. */
function centered({ b, ints }: Sketch, i: string, axis = -1): { mean: string; difference: string } {
  const mean = b.node('ReduceMean', [i, ints(axis)], MEAN);
  return { mean, difference: b.node('Sub', [i, mean], {}) };
}
function deviation({ b, n, ints }: Sketch, d: string, square: 'Pow' | 'Mul', axis = -1): string {
  const squares = square === 'Pow' ? b.node('Pow', [d, n(2)], {}) : b.node('Mul', [d, d], {});
  return b.node('Add', [b.node('ReduceMean', [squares, ints(axis)], MEAN), n(1e-5)], {});
}

describe('LayerNormalization', () => {
  const torch = (s: Sketch, i: string): string => {
    const { difference } = centered(s, i);
    return s.b.node('Div', [difference, s.b.node('Sqrt', [deviation(s, difference, 'Pow')], {})], {});
  };
  testRows(recoverLayerNorm, [
    ['TorchScript, scale and bias', (s) => s.b.node('Add', [s.b.node('Mul', [torch(s, s.x(2, 3, 8)), s.w(8)], {}), s.w(8)], {}), 'LayerNormalization'],
    ['without scale and bias', (s) => torch(s, s.x(2, 3, 8)), 'LayerNormalization'],
    ['scale with leading ones', (s) => s.b.node('Mul', [s.w(1, 1, 8), torch(s, s.x(2, 3, 8))], {}), 'LayerNormalization'],
    ['a scalar scale stays outside', (s) => s.b.node('Mul', [s.n(3), torch(s, s.x(2, 3, 8))], {}), 'LayerNormalization Mul'],
    ['a second scale stays outside', (s) => s.b.node('Mul', [s.w(8), s.b.node('Mul', [s.w(8), torch(s, s.x(2, 3, 8))], {})], {}), 'LayerNormalization Mul'],
    [
      'by the reciprocal root',
      (s) => { const { difference } = centered(s, s.x(2, 8)); return s.b.node('Mul', [difference, s.b.node('Reciprocal', [s.b.node('Sqrt', [deviation(s, difference, 'Mul')], {})], {})], {}); },
      'LayerNormalization',
    ],
    [
      'Keras, scale in the factor and mean in the bias',
      (s) => {
        const i = s.x(2, 8);
        const { mean, difference } = centered(s, i);
        const root = s.b.node('Reciprocal', [s.b.node('Sqrt', [deviation(s, difference, 'Mul')], {})], {});
        const factor = s.b.node('Mul', [root, s.w(8)], {});
        const rest = s.b.node('Sub', [s.w(8), s.b.node('Mul', [mean, factor], {})], {});
        return s.b.node('Add', [s.b.node('Mul', [i, factor], {}), rest], {});
      },
      'LayerNormalization',
    ],
    ['over no elements, stays', (s) => torch(s, s.x(2, 0)), 'ReduceMean Sub Pow ReduceMean Add Sqrt Div'],
    [
      'over an axis that is not last, stays',
      (s) => { const { difference } = centered(s, s.x(2, 4, 8), 1); return s.b.node('Div', [difference, s.b.node('Sqrt', [deviation(s, difference, 'Pow', 1)], {})], {}); },
      'ReduceMean Sub Pow ReduceMean Add Sqrt Div',
    ],
    [
      'with moments over different axes, stays',
      (s) => { const { difference } = centered(s, s.x(2, 4, 8), 1); return s.b.node('Div', [difference, s.b.node('Sqrt', [deviation(s, difference, 'Pow', 2)], {})], {}); },
      'ReduceMean Sub Pow ReduceMean Add Sqrt Div',
    ],
  ], 'onnx');

  it('counts every node that it stands for among the origins', async () => {
    const { graph } = await applyPass(recoverLayerNorm, sketch((s) => s.b.node('Mul', [torch(s, s.x(2, 8)), s.w(8)], {})));
    expect(graph.nodes[0]!.origins).toHaveLength(8);
  });
});

describe('RMSNormalization', () => {
  testRows(recoverRmsNorm, [
    ['LLaMA: w·(x·1/√m)', (s) => { const i = s.x(2, 3, 8); return s.b.node('Mul', [s.w(8), s.b.node('Mul', [i, s.b.node('Div', [s.n(1), s.b.node('Sqrt', [deviation(s, i, 'Pow')], {})], {})], {})], {}); }, 'RMSNormalization'],
    ['x/√m', (s) => { const i = s.x(2, 8); return s.b.node('Div', [i, s.b.node('Sqrt', [deviation(s, i, 'Mul')], {})], {}); }, 'RMSNormalization'],
    ['y/√m(x) is not', (s) => { const i = s.x(2, 8); return s.b.node('Div', [s.x(2, 8), s.b.node('Sqrt', [deviation(s, i, 'Mul')], {})], {}); }, 'Mul ReduceMean Add Sqrt Div'],
  ]);
});
