import { describe, expect, it } from 'vitest';
import { calibrateRange } from '../../../src/quantize/calibrators.ts';
import { type Gate, gatesBehind } from '../../../src/quantize/gates.ts';
import { createObserver } from '../../../src/quantize/observer.ts';
import { fakeQuantize, paramsOf, type Range } from '../../../src/quantize/params.ts';
import { seededRandom } from '../../helpers/random.ts';
import { gates, net } from './networks.ts';

const swish: Gate = (x) => x / (1 + Math.exp(-x));

describe('gatesBehind', () => {
  it('finds x·σ(x) and hard-swish, and computes them', () => {
    const graph = gates();
    const hard = graph.nodes.find(({ op }) => op === 'HardSwish')!.inputs[0]!;
    const found = gatesBehind(graph);
    expect([...found.keys()]).toEqual(['sums', hard]);
    expect([-20, -1, 0, 2].map(found.get('sums')!)).toEqual([-20, -1, 0, 2].map((x) => expect.closeTo(swish(x), 12)));
    expect([-4, -1, 0, 2, 5].map(found.get(hard)!)).toEqual([0, -1 / 3, 0, 5 / 3, 5].map((x) => expect.closeTo(x, 12)));
  });

  it('not where the value is an output, or something else is multiplied', () => {
    const whole = gates();
    expect([...gatesBehind({ ...whole, outputs: ['sums'] }).keys()]).not.toContain('sums');
    const { b } = net();
    const [x, other] = [b.input('x', { dtype: 'float32', dims: [2] }), b.input('other', { dtype: 'float32', dims: [2] })];
    expect(gatesBehind(b.finish([b.node('Mul', [other, b.node('Sigmoid', [x], {})], {})])).size).toBe(0);
  });
});

describe('mse behind a gate', () => {
  it('spends no steps on what the gate closes', () => {
    const random = seededRandom(3);
    const values = Float32Array.from({ length: 4000 }, (_, i) => (i % 4 === 0 ? -40 * random() : 6 * random() - 3));
    const observer = createObserver();
    observer.add(values);
    const [plain, gated] = [undefined, swish].map((gate) => calibrateRange(observer.distribution(), { method: 'mse', scheme: 'affine', percentile: 99.99 }, gate)) as [Range, Range];
    const error = (range: Range): number => values.reduce((sum, x) => sum + (swish(fakeQuantize(x, paramsOf(range, 'affine'))) - swish(x)) ** 2, 0);
    expect(plain.low).toBeLessThan(-30);
    expect(gated.low).toBeGreaterThan(-12);
    expect(error(gated)).toBeLessThan(error(plain) / 4);
  });
});
