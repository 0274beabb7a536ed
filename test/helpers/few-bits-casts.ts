/** Every cast from and to types of few bits as one graph, with what each output must hold. */
import { FEW_BITS, type FewBits, type FewBitsFloat, type RoundMode } from '../../src/ir/few-bits.ts';
import type { Graph } from '../../src/ir/graph.ts';
import { fromNumbers, type Tensor } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { castTo, castToPower, numbersOf, powerProbes, probes, SCALED } from './few-bits-reference.ts';

export interface Casts {
  readonly graph: Graph;
  readonly inputs: Readonly<Record<string, Tensor>>;
  readonly expected: Readonly<Record<string, readonly number[]>>;
}

const INTEGERS = { int4: [16, -8], uint4: [16, 0], int2: [4, -2], uint2: [4, 0] } as const;

export function fewBitsCasts(): Casts {
  const builder = newGraphBuilder('casts');
  const inputs: Record<string, Tensor> = {};
  const expected: Record<string, readonly number[]> = {};
  const add = (name: string, tensor: Tensor): string => {
    inputs[name] = tensor;
    return builder.input(name, tensor);
  };
  const cast = (from: string, to: FewBits | 'float32', saturate: 0 | 1, mode: RoundMode | undefined, values: readonly number[]): void => {
    const name = [from, to, saturate, mode].filter((part) => part !== undefined).join(' ');
    builder.node('Cast', [from], { to, saturate, ...(mode && { round_mode: mode }) }, { outputs: [name] });
    expected[name] = values;
  };
  const floats = (name: string, values: readonly number[]): string => add(name, fromNumbers('float32', [values.length], values));
  for (const dtype of SCALED) {
    const values = probes(dtype);
    const x = floats(`floats for ${dtype}`, values);
    for (const saturate of [1, 0] as const) cast(x, dtype, saturate, undefined, values.map((value) => castTo(dtype, value, saturate)));
  }
  const x = floats('floats for powers', powerProbes());
  for (const saturate of [1, 0] as const) {
    for (const mode of ['up', 'down', 'nearest'] as const) cast(x, 'float8e8m0', saturate, mode, powerProbes().map((value) => castToPower(value, saturate, mode)));
  }
  const whole = Array.from({ length: 43 }, (_, i) => i - 21);
  const [fractions, words] = [floats('fractions', whole.map((value) => value + (value < 0 ? -0.75 : 0.75))), add('words', fromNumbers('int32', [whole.length], whole))];
  for (const [dtype, [modulus, low]] of Object.entries(INTEGERS) as [keyof typeof INTEGERS, readonly [number, number]][]) {
    const wrapped = whole.map((value) => ((((value - low) % modulus) + modulus) % modulus) + low);
    cast(fractions, dtype, 1, undefined, wrapped);
    cast(words, dtype, 1, undefined, wrapped);
  }
  for (const dtype of Object.keys(FEW_BITS) as FewBits[]) {
    const numbers = dtype in INTEGERS ? integersOf(dtype as keyof typeof INTEGERS) : numbersOf(dtype as FewBitsFloat);
    cast(add(`codes of ${dtype}`, fromNumbers(dtype, [numbers.length], numbers)), 'float32', 1, undefined, numbers);
  }
  return { graph: builder.finish(Object.keys(expected)), inputs, expected };
}

function integersOf(dtype: keyof typeof INTEGERS): readonly number[] {
  const [modulus, low] = INTEGERS[dtype];
  return Array.from({ length: modulus }, (_, i) => i + low);
}
