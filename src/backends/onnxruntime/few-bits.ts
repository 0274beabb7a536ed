/**
 * Types of few bits for onnxruntime, whose JavaScript tensors have none of them, and which lacks kernels for most: their numbers lie in wider types, floats
 * in float32 and integers in int8 and uint8, and a cast to one of them rounds to what it has. What only moves elements moves the numbers.
 *
 * onnxruntime (1.30) rounds to four of the floats of 8 bits itself, by a cast there and back (but where it does not saturate, next to the greatest number);
 * the others are rounded by arithmetic that is exact. Its Where adds 0 to what it chooses, and so loses the sign of −0: signs are factors here.
 */
import { TsrtError } from '../../errors.ts';
import { freshName } from '../../ir/build.ts';
import { isFewBits, isFewBitsFloat, MINIFLOATS, type FewBitsInteger, type Minifloat, type RoundMode } from '../../ir/few-bits.ts';
import type { AnyNode, Graph, Node, ValueId } from '../../ir/graph.ts';
import { typeOf } from '../../ir/graph.ts';
import type { OpAttrs, OpKind } from '../../ir/ops.ts';
import { fromNumbers, type DType, type Tensor, type TensorType } from '../../ir/tensor.ts';
import { carried, carrierOf } from './carriers.ts';

/** The graph with inputs and outputs that onnxruntime-node binds, ready for export. Throws MODEL_UNSUPPORTED for custom ops of such types. */
export function inCarriers(graph: Graph): Graph {
  return [...graph.types.values()].some(({ dtype }) => isFewBits(dtype)) ? withoutFewBits(graph) : graph;
}

function withoutFewBits(graph: Graph): Graph {
  const types = new Map([...graph.types].map(([id, { dtype, dims }]) => [id, { dtype: carrierOf(dtype), dims }] as const));
  const constants = new Map([...graph.constants].map(([id, tensor]) => [id, carried(tensor)] as const));
  const writer = new Writer(graph, types, constants);
  return { ...graph, types, constants, nodes: graph.nodes.flatMap((node) => rewritten(node, graph, writer)) };
}

function rewritten(node: AnyNode, graph: Graph, writer: Writer): readonly AnyNode[] {
  const few = [...node.inputs, ...node.outputs].find((id) => id !== '' && isFewBits(typeOf(graph, id).dtype));
  if (few === undefined) return [node];
  switch (node.op) {
    case 'Cast':
    case 'CastLike':
      return writer.cast(node, node.op === 'Cast' ? node.attrs : { ...node.attrs, to: typeOf(graph, node.inputs[1]!).dtype });
    case 'ConstantOfShape':
      return [{ ...node, attrs: { value: { ...node.attrs.value, dtype: carrierOf(node.attrs.value.dtype) } } }];
    case 'EyeLike':
      return [{ ...node, attrs: { ...node.attrs, dtype: node.attrs.dtype && carrierOf(node.attrs.dtype) } }];
    case 'Custom':
      throw new TsrtError('MODEL_UNSUPPORTED', `onnxruntime-node has no ${typeOf(graph, few).dtype} tensors, of which the op '${node.name}' has one`, {
        fix: 'cast them to float32 or an integer of 8 bits in front of the op and behind it',
      });
    default:
      return [node];
  }
}

/** What integers of few bits are taken modulo, and where they begin. */
const WRAPS: Readonly<Record<FewBitsInteger, { readonly modulus: number; readonly low: number }>> = {
  int4: { modulus: 16, low: -8 },
  uint4: { modulus: 16, low: 0 },
  int2: { modulus: 4, low: -2 },
  uint2: { modulus: 4, low: 0 },
};

/** The last node takes the name and the output of the cast that is written out. */
class Writer {
  readonly #graph: Graph;
  readonly #types: Map<ValueId, TensorType>;
  readonly #constants: Map<ValueId, Tensor>;
  readonly #values: Set<string>;
  readonly #names: Set<string>;
  #nodes: AnyNode[] = [];
  #source: AnyNode | undefined;

  constructor(graph: Graph, types: Map<ValueId, TensorType>, constants: Map<ValueId, Tensor>) {
    this.#graph = graph;
    this.#types = types;
    this.#constants = constants;
    this.#values = new Set(types.keys());
    this.#names = new Set(graph.nodes.map(({ name }) => name));
  }

  cast(node: AnyNode, { to, saturate, round_mode: mode = 'up' }: OpAttrs['Cast']): readonly AnyNode[] {
    this.#nodes = [];
    this.#source = node;
    const from = typeOf(this.#graph, node.inputs[0]!).dtype;
    const x = node.inputs[0]!;
    if (from === to) this.#emit('Identity', [x], {}, carrierOf(to));
    else if (!isFewBits(to)) this.#cast(x, to);
    else if (!isFewBitsFloat(to)) this.#wrap(x, WRAPS[to], carrierOf(to));
    else {
      const float = carrierOf(from) === 'float32' ? x : this.#cast(x, 'float32');
      if (to === 'float8e8m0') this.#toPower(float, saturate, mode);
      else if (to === 'float4e2m1') this.#toFourBits(float);
      else this.#cast(this.#emit('Cast', [saturate ? float : this.#unbounded(float, MINIFLOATS[to])], { to, saturate }, to), 'float32');
    }
    const last = this.#nodes.pop()!;
    return [...this.#nodes, { ...last, name: node.name, outputs: node.outputs }];
  }

  #emit<K extends OpKind>(op: K, inputs: readonly ValueId[], attrs: OpAttrs[K], dtype: DType): ValueId {
    const { name, origins, outputs } = this.#source!;
    const output = freshName(this.#values, `${outputs[0]!}/${op}`);
    this.#types.set(output, { dtype, dims: typeOf(this.#graph, outputs[0]!).dims });
    const node: Node<K> = { op, name: freshName(this.#names, `${name}/${op}`), inputs, outputs: [output], attrs, origins };
    this.#nodes.push(node as unknown as AnyNode);
    return output;
  }

  #cast(x: ValueId, to: DType): ValueId {
    return this.#emit('Cast', [x], { to, saturate: 1 }, to);
  }

  #number(dtype: DType, value: number): ValueId {
    const tensor = fromNumbers(dtype, [], [value]);
    const id = freshName(this.#values, `${this.#source!.name}/${value}`);
    this.#types.set(id, { dtype, dims: [] });
    this.#constants.set(id, tensor);
    return id;
  }

  /** The last bits of a whole number. */
  #wrap(x: ValueId, { modulus, low }: { readonly modulus: number; readonly low: number }, to: DType): ValueId {
    const [whole, begin] = [this.#cast(x, 'int32'), this.#number('int32', low)];
    const rest = this.#emit('Mod', [this.#emit('Sub', [whole, begin], {}, 'int32'), this.#number('int32', modulus)], { fmod: 0 }, 'int32');
    return this.#cast(this.#emit('Add', [rest, begin], {}, 'int32'), to);
  }

  /** Infinity for what lies nearer to the number behind the greatest one, of which onnxruntime (1.30) makes the greatest one, or NaN where the type has infinities. */
  #unbounded(x: ValueId, { mantissaBits, max }: Minifloat): ValueId {
    const step = 2 ** (Math.floor(Math.log2(max)) - mantissaBits);
    const size = this.#emit('Abs', [x], {}, 'float32');
    // The middle goes to the even one of the two.
    const isBeyond = this.#emit((max / step) % 2 === 0 ? 'Greater' : 'GreaterOrEqual', [size, this.#number('float32', max + step / 2)], {}, 'bool');
    const factor = this.#emit('Where', [isBeyond, this.#number('float32', Number.POSITIVE_INFINITY), this.#number('float32', 1)], {}, 'float32');
    return this.#emit('Mul', [x, factor], {}, 'float32');
  }

  /** To 0, ½, 1, 1½, 2, 3, 4, 6 and their negatives, and −0 for NaN: whole steps of ½ below 2, of 1 below 4, of 2 beyond. */
  #toFourBits(x: ValueId): ValueId {
    const number = (value: number): ValueId => this.#number('float32', value);
    const of = (op: 'Abs' | 'Div' | 'Min' | 'Mul' | 'Round', ...inputs: readonly ValueId[]): ValueId => this.#emit(op, inputs, {}, 'float32');
    const where = (condition: ValueId, yes: ValueId, no: ValueId): ValueId => this.#emit('Where', [condition, yes, no], {}, 'float32');
    const less = (a: ValueId, b: ValueId): ValueId => this.#emit('Less', [a, b], {}, 'bool');
    const isNaN = this.#emit('IsNaN', [x], {}, 'bool');
    const size = where(isNaN, number(0), of('Abs', x));
    const step = where(less(size, number(2)), number(0.5), where(less(size, number(4)), number(1), number(2)));
    const rounded = of('Min', of('Mul', of('Round', of('Div', size, step)), step), number(6));
    // Of the reciprocals, that of −0 is less than 0 and that of −∞ is not.
    const isNegative = this.#emit('Or', [less(x, number(0)), less(of('Div', number(1), x), number(0))], {}, 'bool');
    return of('Mul', rounded, where(this.#emit('Or', [isNaN, isNegative], {}, 'bool'), number(-1), number(1)));
  }

  /**
   * To a power of two. A float64 has the logarithm to fifteen digits, and that of a float32 that is no power of two differs from a whole number in the
   * eighth, so that adding a bit before it is cut off gives the exponent.
   */
  #toPower(x: ValueId, saturate: 0 | 1, mode: RoundMode): ValueId {
    const number = (value: number): ValueId => this.#number('float64', value);
    const of = (op: 'Add' | 'Floor' | 'Log' | 'Max' | 'Min' | 'Mul' | 'Pow', ...inputs: readonly ValueId[]): ValueId => this.#emit(op, inputs, {}, 'float64');
    const where = (condition: ValueId, yes: ValueId, no: ValueId): ValueId => this.#emit('Where', [condition, yes, no], {}, 'float64');
    const less = (a: ValueId, b: ValueId): ValueId => this.#emit('Less', [a, b], {}, 'bool');
    const value = this.#cast(x, 'float64');
    const bounded = of('Min', of('Max', value, number(2 ** -127)), number(2 ** 128));
    const exponent = of('Floor', of('Add', of('Mul', of('Log', bounded), number(Math.LOG2E)), number(1e-9)));
    const floor = of('Pow', number(2), exponent);
    const next = of('Mul', floor, number(2));
    const isDown = mode === 'up' ? this.#emit('Equal', [bounded, floor], {}, 'bool') : less(bounded, of('Mul', floor, number(1.5)));
    const power = mode === 'down' ? floor : where(isDown, floor, next);
    const isBelow = less(value, number(2 ** -127));
    const isBeyond = less(number(2 ** 127), power);
    const inRange = saturate ? of('Min', power, number(2 ** 127)) : where(this.#emit('Or', [isBelow, isBeyond], {}, 'bool'), number(Number.NaN), power);
    return this.#cast(where(this.#emit('IsNaN', [x], {}, 'bool'), number(Number.NaN), inRange), 'float32');
  }
}
