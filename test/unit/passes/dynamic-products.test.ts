import { describe, expect, it } from 'vitest';
import type { DType } from '../../../src/ir/tensor.ts';
import { fromNumbers } from '../../../src/ir/tensor.ts';
import { dynamicProducts } from '../../../src/passes/dynamic-products.ts';
import { applyPass } from '../../helpers/passes.ts';
import { type Sketch, sketch, testRows } from '../../helpers/rules.ts';

interface Weights {
  readonly dtype?: DType;
  readonly zero?: readonly number[];
  readonly scales?: number;
  readonly depth?: number;
}

const COLUMNS = 24;

/** What `quantize_dynamic` makes of a product: values quantized as they come, integers multiplied, both scales at once. */
function product({ b, w }: Sketch, x: string, { dtype = 'int8', zero, scales = 1, depth = 16 }: Weights = {}): string {
  const [values, scale, zeroPoint] = b.nodeOutputs('DynamicQuantizeLinear', [x], {}, { outputs: 3 }) as [string, string, string];
  const low = dtype === 'int8' ? -127 : 1;
  const weights = b.constant(fromNumbers(dtype, [depth, COLUMNS], Array.from({ length: depth * COLUMNS }, (_, i) => low + ((i * 37) % 254))));
  const zeros = zero ? [b.constant(fromNumbers(dtype, zero.length === 1 ? [] : [zero.length], zero))] : [];
  const sum = b.node('MatMulInteger', [values, weights, zeroPoint, ...zeros], {});
  return b.node('Mul', [b.node('Cast', [sum], { to: 'float32', saturate: 1 }), b.node('Mul', [scale, scales === 1 ? w(1) : w(scales)], {})], {});
}

const OWN = 'DynamicQuantizeLinear Mul Cast QuantizedMatMul';
const PLAIN = 'DynamicQuantizeLinear MatMulInteger Cast Mul Mul';

describe('products of dynamically quantized values', () => {
  testRows(dynamicProducts, [
    ['symmetric weights', (s) => product(s, s.x(2, 3, 16)), OWN],
    ['weights around 128', (s) => product(s, s.x(5, 16), { dtype: 'uint8', zero: [128] }), OWN],
    ['a scale for every column', (s) => product(s, s.x(5, 16), { scales: COLUMNS }), OWN],
    ['with a bias and an activation behind them', (s) => s.b.node('Relu', [s.b.node('Add', [product(s, s.x(5, 16)), s.w(COLUMNS)], {})], {}), OWN],
    ['with more behind them than a kernel binds', (s) => s.b.node('Add', [s.b.node('Add', [s.b.node('Add', [product(s, s.x(5, 16)), s.w(COLUMNS)], {}), s.x(5, COLUMNS)], {}), s.x(5, COLUMNS)], {}), `${OWN} Add Add Add`],
    ['weights whose zero point leaves more than 8 bits', (s) => product(s, s.x(5, 16), { dtype: 'uint8', zero: [3] }), PLAIN],
    ['a depth of no whole vectors', (s) => product(s, s.x(5, 12), { depth: 12 }), PLAIN],
    ['a product that others read', (s) => { const y = s.b.node('MatMulInteger', [s.b.constant(fromNumbers('uint8', [1, 16], Array.from({ length: 16 }, (_, i) => i))), s.b.constant(fromNumbers('int8', [16, 2], Array.from({ length: 32 }, (_, i) => i - 16)))], {}); return [s.b.node('Mul', [s.b.node('Cast', [y], { to: 'float32', saturate: 1 }), s.x(1)], {}), y]; }, 'MatMulInteger Cast Mul'],
  ]);

  it('take the sums of their columns from the build', async () => {
    const { graph } = await applyPass(dynamicProducts, sketch((s) => product(s, s.x(2, 16))));
    const node = graph.nodes.find(({ op }) => op === 'QuantizedMatMul')!;
    expect(node.inputs.slice(4).map((id) => graph.types.get(id)!.dims)).toEqual([[], [COLUMNS], [1]]);
    expect(node.attrs).toMatchObject({ zeroPoint: 128 });
  });
});
