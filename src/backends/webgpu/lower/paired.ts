/**
 * Two products of the same few rows, of which one is read by the other's end alone, are one kernel: the gate and the values of a gated layer,
 * silu(x·w₁) ∘ (x·w₂). Both weights lie in one matrix, groups of four columns in turn, so that the invocation which ends with four sums of the one finds
 * those of the other beside them, and nothing is bound twice. Prior art: the packed gate and up projections of vLLM and of FlashInfer.
 */
import { type Expr, replaceInputs } from '../../../ir/expr.ts';
import { type AnyNode, type Graph, type Node, typeOf, type ValueId } from '../../../ir/graph.ts';
import { elementCount } from '../../../ir/tensor.ts';
import { FEW_BESIDE_MATRICES } from './candidates.ts';
import type { LowerContext } from './context.ts';

type WeightOnly = Node<'WeightOnlyMatMul'>;

/** Inputs of a WeightOnlyMatMul before those of its expression. */
const EXTRAS = 5;

/** Whether a product's work is done by the kernel of the product that reads it. */
export function isPaired(node: AnyNode, reader: AnyNode, context: Pick<LowerContext, 'graph' | 'profile' | 'normalization'>): boolean {
  const { graph, profile } = context;
  if (node.op !== 'WeightOnlyMatMul' || reader.op !== 'WeightOnlyMatMul') return false;
  const [output] = node.outputs as [ValueId];
  const at = reader.inputs.indexOf(output);
  const [a, weights, , , c = ''] = node.inputs as [ValueId, ValueId, ...ValueId[]];
  const isExtra = at >= EXTRAS && reader.inputs.lastIndexOf(output) === at && node.inputs.length <= EXTRAS;
  const dims = typeOf(graph, output).dims;
  const isFew = elementCount(dims) / dims.at(-1)! <= FEW_BESIDE_MATRICES && elementCount(dims) === elementCount(typeOf(graph, reader.outputs[0]!).dims);
  const others = reader.inputs.slice(EXTRAS).filter((id) => graph.nodes.some((other) => other.op === node.op && other.inputs[0] === a && other.outputs[0] === id));
  const isVector = c === '' || elementCount(typeOf(graph, c).dims) === dims.at(-1);
  const isAlone = isExtra && others.length === 1;
  return isAlone && isFew && isVector && reader.inputs[0] === a && areAlike(node, reader, weights, graph) && boundBy(node, reader, context) <= profile.maxStorageBuffers;
}

/** Tensors that the kernel binds: rows, weights, scales, zero points, a bias for each, gains and sums, the other extras, the output. */
function boundBy(node: WeightOnly, reader: WeightOnly, context: Pick<LowerContext, 'normalization'>): number {
  const known = context.normalization(node.inputs[0]!);
  const hasZeros = node.attrs.zeroPoint !== reader.attrs.zeroPoint || [node, reader].some(({ inputs }) => inputs[3]);
  const biases = [node, reader].filter(({ inputs }) => inputs[4] || known?.bias).length;
  const extras = reader.inputs.slice(EXTRAS).filter(Boolean).length - 1;
  return 3 + (hasZeros ? 1 : 0) + biases + (known ? 1 : 0) + (known?.centers ? 1 : 0) + extras + 1;
}

/** Whether weights can lie in one matrix. */
function areAlike(node: WeightOnly, reader: WeightOnly, weights: ValueId, graph: Graph): boolean {
  const form = ({ attrs, inputs: [, matrix, scale] }: WeightOnly): string => JSON.stringify([attrs.bits, attrs.block_size, attrs.transB, [matrix!, scale!].map((id) => typeOf(graph, id).dims)]);
  return graph.constants.get(weights)?.dims.length === 2 && form(node) === form(reader);
}

/** What is fused behind the second product. */
interface SecondEnd {
  readonly epilogue: Expr;
  readonly alpha: number;
  /** Whether its bias is the last of the extras. */
  readonly isBiased: boolean;
}

/**
 * The end of both products over [sum, extras…, bias of the second?, sum of the second]. `at`: the extra of `epilogue`, counted from 0, that is the second
 * product's value; `extras`: how many there are beside it.
 */
export function pairedEpilogue(epilogue: Expr, at: number, extras: number, { epilogue: second, alpha, isBiased }: SecondEnd): Expr {
  const input = (index: number): Expr => ({ kind: 'input', index, dtype: 'float32' });
  const sum = input(extras + (isBiased ? 2 : 1));
  const scaled: Expr = alpha === 1 ? sum : { kind: 'binary', fn: 'mul', a: sum, b: { kind: 'const', value: alpha, dtype: 'float32' } };
  const biased: Expr = isBiased ? { kind: 'binary', fn: 'add', a: scaled, b: input(extras + 1) } : scaled;
  const value = replaceInputs(second, () => biased);
  return replaceInputs(epilogue, (index, dtype) => (index === at + 1 ? value : { kind: 'input', index: index > at + 1 ? index - 1 : index, dtype }));
}
