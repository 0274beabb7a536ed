/**
 * What of a Q/DQ graph is to run in integers. Apart from the quantizer, so that a process that only loads engines needs none.
 */
import { consumers, producers, type Graph, type ValueId } from '../ir/graph.ts';

/** Products of integers by their operators: scales are beside them, fixed (QLinear…) or found in each run (DynamicQuantizeLinear before …Integer). */
export const INTEGER_OPS: ReadonlySet<string> = new Set(['QLinearConv', 'QLinearMatMul', 'ConvInteger', 'MatMulInteger']);

/** Whether a graph comes with scales of its own: a product of integers, or one that reads dequantized values. Scales by block are of weights alone. */
export function isQuantized(graph: Graph): boolean {
  const readers = consumers(graph);
  return graph.nodes.some(
    (node) =>
      INTEGER_OPS.has(node.op) ||
      (node.op === 'DequantizeLinear' && node.attrs.block_size === 0 && (readers.get(node.outputs[0]!) ?? []).some(({ op }) => op === 'Conv' || op === 'Gemm' || op === 'MatMul')),
  );
}

/** Names of the products that are to run in int8: those that read dequantized data and weights, and those between fixed scales of their own. */
export function quantizedProducts(graph: Graph): ReadonlySet<string> {
  const producer = producers(graph);
  const isDequantized = (id: ValueId | undefined) => id !== undefined && producer.get(id)?.op === 'DequantizeLinear';
  const products = graph.nodes.filter(
    ({ op, inputs }) => op === 'QLinearConv' || op === 'QLinearMatMul' || ((op === 'Conv' || op === 'Gemm' || op === 'MatMul') && isDequantized(inputs[0]) && isDequantized(inputs[1])),
  );
  return new Set(products.map((node) => node.name));
}

/** Products named in a notice. */
const NAMED = 5;

/** The notice of products that stay float although they stand between integers; none where there are none. */
export function stayedFloat(names: readonly string[], products: number, dtype: 'float16' | 'float32'): readonly string[] {
  if (names.length === 0) return [];
  const more = names.length > NAMED ? ` and ${names.length - NAMED} more` : '';
  return [`${names.length} of ${products} products stay in ${dtype}, for want of an integer kernel: ${names.slice(0, NAMED).join(', ')}${more}.`];
}
