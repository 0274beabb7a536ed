import { describe } from 'vitest';
import { pickRows } from '../../../src/passes/pick-rows.ts';
import { type Sketch, testRows } from '../../helpers/rules.ts';

const norm = ({ b, w }: Sketch, x: string, axis = -1, ...dims: number[]): string => b.node('LayerNormalization', [x, w(...dims), w(...dims)], { axis, epsilon: 1e-5, stash_type: 1 });

describe('rows that are picked', () => {
  testRows(pickRows, [
    ['the first token of a transformer', (s) => s.b.node('Gather', [norm(s, s.x(2, 5, 8), -1, 8), s.n(0, 'int64')], { axis: 1 }), 'Gather LayerNormalization'],
    ['several, from the end, the axis counted from the front', (s) => s.b.node('Gather', [norm(s, s.x(2, 5, 8), 2, 8), s.ints(-1, 2)], { axis: -2 }), 'Gather LayerNormalization'],
    ['in front of a normalization of two axes', (s) => s.b.node('Gather', [norm(s, s.x(3, 4, 2, 8), -2, 2, 8), s.n(1, 'int64')], { axis: 0 }), 'Gather LayerNormalization'],
    ['in front of a softmax', ({ b, x, n }) => b.node('Gather', [b.node('Softmax', [x(3, 8)], { axis: 1 }), n(1, 'int64')], { axis: 0 }), 'Gather Softmax'],
    ['in front of a normalization without a mean', ({ b, x, w, ints }) => b.node('Gather', [b.node('RMSNormalization', [x(3, 8), w(8)], { axis: -1, epsilon: 1e-5, stash_type: 1 }), ints(2)], { axis: 0 }), 'Gather RMSNormalization'],
    ['elements of a row are no rows', (s) => s.b.node('Gather', [norm(s, s.x(2, 5, 8), -1, 8), s.n(0, 'int64')], { axis: 2 }), 'LayerNormalization Gather'],
    ['of two axes one is picked from', (s) => s.b.node('Gather', [norm(s, s.x(3, 4, 8), -2, 4, 8), s.n(1, 'int64')], { axis: 1 }), 'LayerNormalization Gather'],
    ['somebody else reads all rows', (s) => { const y = norm(s, s.x(2, 5, 8), -1, 8); return [s.b.node('Gather', [y, s.n(0, 'int64')], { axis: 1 }), s.b.node('Relu', [y], {})]; }, 'LayerNormalization Gather Relu'],
    ['rows that are given out', (s) => { const y = norm(s, s.x(2, 5, 8), -1, 8); return [s.b.node('Gather', [y, s.n(0, 'int64')], { axis: 1 }), y]; }, 'LayerNormalization Gather'],
    ['more rows than there were', (s) => s.b.node('Gather', [norm(s, s.x(2, 8), -1, 8), s.ints(0, 1, 0, 1)], { axis: 0 }), 'LayerNormalization Gather'],
  ]);
});
