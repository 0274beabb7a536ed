/** Determinants of small matrices by Leibniz' formula: the signed sum, over all orders of the columns, of the products of a row's elements. */
import { fromNumbers } from '../../ir/tensor.ts';
import { ShapeError, UnsupportedError } from '../../ops/def.ts';
import { inputOf, int64Input, type Rule } from './rule.ts';

/** 24 products each. */
const MOST_ROWS = 4;

interface Order {
  readonly columns: readonly number[];
  readonly sign: number;
}

/** All orders of `size` columns, with their parity. */
function ordersOf(size: number): readonly Order[] {
  if (size === 0) return [{ columns: [], sign: 1 }];
  const last = size - 1;
  return ordersOf(last).flatMap(({ columns, sign }) =>
    Array.from({ length: size }, (_, at) => ({ columns: columns.toSpliced(at, 0, last), sign: (last - at) % 2 === 0 ? sign : -sign })),
  );
}

const det: Rule = (node, scope) => {
  const data = inputOf(node, 0);
  const { dtype, dims } = scope.type(data);
  const [rows, columns] = dims.slice(-2) as [number, number];
  if (dims.length < 2 || rows !== columns) throw new ShapeError(`[${dims.join(',')}] are not square matrices`);
  if (rows > MOST_ROWS || rows === 0) throw new UnsupportedError(`determinants of ${rows} rows are not supported`);
  const orders = ordersOf(rows);
  const [flat] = scope.emit(node, 'Reshape', [data, int64Input(scope, [...dims.slice(0, -2), rows * columns])], { allowzero: 1 });
  let product = scope.addConstant(fromNumbers(dtype, [orders.length], orders.map(({ sign }) => sign)));
  for (let row = 0; row < rows; row++) {
    const [elements] = scope.emit(node, 'Gather', [flat!, int64Input(scope, orders.map((order) => row * columns + order.columns[row]!))], { axis: -1 });
    [product] = scope.emit(node, 'Mul', [elements!, product], {}) as [string];
  }
  scope.emit(node, 'ReduceSum', [product, int64Input(scope, [-1])], { keepdims: 0 }, node.outputs);
};

export const DETERMINANT_RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([['Det', det]]);
