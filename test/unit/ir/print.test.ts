import { describe, expect, it } from 'vitest';
import type { Expr } from '../../../src/ir/expr.ts';
import { formatExpr, printGraph } from '../../../src/ir/print.ts';
import { fromNumbers } from '../../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../../src/ops/builder.ts';

const x: Expr = { kind: 'input', index: 0, dtype: 'float32' };
const number = (value: number): Expr => ({ kind: 'const', value, dtype: 'float32' });

describe('formatExpr', () => {
  it.each<[Expr, string]>([
    [{ kind: 'binary', fn: 'max', a: { kind: 'binary', fn: 'add', a: x, b: { ...x, index: 1 } }, b: number(0) }, 'max((x0 + x1), 0)'],
    [{ kind: 'select', condition: { kind: 'binary', fn: 'lt', a: x, b: number(-0) }, a: x, b: number(1.5) }, 'select((x0 < -0), x0, 1.5)'],
    [{ kind: 'cast', to: 'int32', x: { kind: 'unary', fn: 'erf', x } }, 'int32(erf(x0))'],
  ])('%#', (expr, text) => {
    expect(formatExpr(expr)).toBe(text);
  });
});

it('prints attributes in order, large constants by digest, origins where they differ, and no unused constant', () => {
  const b = newGraphBuilder('net');
  const image = b.input('image', { dtype: 'float32', dims: [1, 1, 3, 3] });
  const w = b.constant(fromNumbers('float32', [1, 1, 3, 3], [1, 2, 3, 4, 5, 6, 7, 8, 9]), 'w');
  b.constant(fromNumbers('float32', [1], [1]), 'unused');
  const attrs = { auto_pad: 'NOTSET', group: 1, kernel_shape: [3, 3], pads: [0, 0, 0, 0], strides: [1, 1], dilations: [1, 1] } as const;
  const y = b.node('Conv', [image, w], attrs, { name: 'conv', outputs: ['y'], origins: ['conv', 'bn'] });
  const z = b.node('Clip', [y, '', b.constant(fromNumbers('float32', [], [6]), 'six')], {}, { name: 'clip', outputs: ['z'] });
  expect(printGraph(b.finish([z]))).toMatchInlineSnapshot(`
    "graph net
      input image: float32[1,1,3,3]
      constant w: float32[1,1,3,3] = #f3bee598
      constant six: float32[] = 6
      y: float32[1,1,1,1] = Conv(image, w) {auto_pad=NOTSET, dilations=[1,1], group=1, kernel_shape=[3,3], pads=[0,0,0,0], strides=[1,1]} @conv <- conv bn
      z: float32[1,1,1,1] = Clip(y, _, six) @clip
      output z: float32[1,1,1,1]
    "
  `);
});
