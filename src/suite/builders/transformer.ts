/** What the built transformers have in common. The order of the calls is part of a builder's version: weights are drawn in it. */
import type { OnnxWriter } from './onnx-writer.ts';

/** Of biases, and of the embeddings. */
export const STD = 0.02;

/** Scalars of {@link gelu}. */
interface GeluConstants {
  readonly one: string;
  readonly half: string;
  readonly sqrt2: string;
}

/** x · W + b, with W [from, to] as MatMul wants it, its weights of the spread `std`. */
export function linear(writer: OnnxWriter, name: string, x: string, [from, to]: readonly [number, number], std: number): string {
  const product = writer.node('MatMul', [x, writer.normal(`${name}.weight`, [from, to], std)], { name });
  return writer.node('Add', [writer.normal(`${name}.bias`, [to], STD), product]);
}

export function layerNorm(writer: OnnxWriter, name: string, x: string, size: number, epsilon: number): string {
  const scale = writer.weight(`${name}.weight`, [size], () => 1);
  const bias = writer.weight(`${name}.bias`, [size], () => 0);
  return writer.node('LayerNormalization', [x, scale, bias], { name, attrs: { axis: -1, epsilon: { float: epsilon } } });
}

/** x/2 · (1 + erf(x/√2)). */
export function gelu(writer: OnnxWriter, { one, half, sqrt2 }: GeluConstants, x: string): string {
  const erf = writer.node('Erf', [writer.node('Div', [x, sqrt2])]);
  const gate = writer.node('Mul', [x, writer.node('Add', [erf, one])]);
  return writer.node('Mul', [gate, half]);
}
