import { describe } from 'vitest';
import { splitVariadic } from '../../../src/passes/split-variadic.ts';
import { type Sketch, testRows } from '../../helpers/rules.ts';

const operands = ({ x }: Sketch, count: number): string[] => Array.from({ length: count }, (_, i) => (i % 3 === 1 ? x(1, 4) : i % 3 === 2 ? x(3, 1) : x(3, 4)));
const of = (op: 'Max' | 'Mean' | 'Min' | 'Sum', count: number) => (s: Sketch) => s.b.node(op, operands(s, count), {});

describe('ops of many operands', () => {
  testRows(splitVariadic, [
    ['as many as a kernel binds', of('Sum', 7), 'Sum'],
    ['a sum', of('Sum', 8), 'Sum Sum'],
    ['a maximum in three steps', of('Max', 14), 'Max Max Max'],
    ['a minimum', of('Min', 13), 'Min Min'],
    ['a mean', of('Mean', 9), 'Sum Sum Div'],
    ['a mean of few', of('Mean', 7), 'Mean'],
    ['operands that widen what the first ones give', ({ b, x }) => b.node('Sum', [...Array.from({ length: 7 }, () => x(1, 4)), x(2, 3, 4)], {}), 'Sum Sum'],
  ]);
});
