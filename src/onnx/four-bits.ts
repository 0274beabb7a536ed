/**
 * Weights that are 4-bit integers in the file, as quantizers write them since opset 21: what a DequantizeLinear reads in 8 bits is the same
 * numbers. With a scale for each block no integer kernel could multiply them, and they are dequantized here; with one for each channel they
 * are weights of 8 bits as any other. What else reads such integers is refused with them.
 */
import { elementCount, fromNumbers, type Tensor, toNumbers, typedView } from '../ir/tensor.ts';
import { readsOf } from './branches.ts';
import type { OnnxNode } from './model.ts';
import type { TensorValue } from './value.ts';

interface Parts {
  readonly nodes: readonly OnnxNode[];
  readonly initializers: ReadonlyMap<string, TensorValue>;
}

/** The 4-bit integers of a value in 8 bits. */
export function wideOf(value: TensorValue | undefined): Tensor | undefined {
  return value?.kind === 'unsupported' ? value.wide : undefined;
}

/** The same model without 4-bit initializers, as far as DequantizeLinear alone reads them. `outputs` keep their nodes. */
export function withoutFourBits({ nodes, initializers }: Parts, outputs: ReadonlySet<string>): Parts {
  const wide = new Map([...initializers].flatMap(([name, value]): [string, Tensor][] => (wideOf(value) && !outputs.has(name) ? [[name, wideOf(value)!]] : [])));
  if (wide.size === 0) return { nodes, initializers };
  for (const node of nodes) if (!isDequantization(node)) for (const name of readsOf(node)) wide.delete(name);
  const made = new Map<string, TensorValue>(initializers);
  for (const [name, tensor] of wide) made.set(name, { kind: 'tensor', tensor });
  const left = nodes.filter((node) => {
    const [output = ''] = node.outputs;
    const tensor = isDequantization(node) && wide.has(node.inputs[0]!) && !outputs.has(output) ? dequantized(node, made) : undefined;
    if (tensor) made.set(output, { kind: 'tensor', tensor });
    return !tensor;
  });
  return { nodes: left, initializers: made };
}

function isDequantization({ domain, opType }: OnnxNode): boolean {
  return domain === '' && opType === 'DequantizeLinear';
}

/** (q − zero)·scale by blocks along an axis; undefined where there are none, or where what it reads is not as it should be. */
function dequantized(node: OnnxNode, initializers: ReadonlyMap<string, TensorValue>): Tensor | undefined {
  const [data, scale, zero] = node.inputs.map((name) => {
    const value = initializers.get(name);
    return value?.kind === 'tensor' ? value.tensor : undefined;
  });
  const number = (name: string, fallback: number): number => {
    const attribute = node.attributes.get(name);
    return attribute?.kind === 'int' ? attribute.value : fallback;
  };
  const block = number('block_size', 0);
  if (!data || !scale || block <= 0 || (node.inputs[2] && !zero)) return undefined;
  const { dims } = data;
  const axis = number('axis', 1) < 0 ? number('axis', 1) + dims.length : number('axis', 1);
  const length = dims[axis];
  if (length === undefined) return undefined;
  const blocks = Math.ceil(length / block);
  const wanted = dims.map((size, at) => (at === axis ? blocks : size)).join();
  if (scale.dims.join() !== wanted || (zero && zero.dims.join() !== wanted)) return undefined;
  const inner = elementCount(dims.slice(axis + 1));
  const [integers, steps, zeros] = [typedView(data), toNumbers(scale), zero && toNumbers(zero)];
  // Weights are many: no list of numbers.
  const values = new Float32Array(integers.length);
  for (let i = 0; i < values.length; i++) {
    const [outer, along] = [Math.floor(i / (length * inner)), Math.floor(i / inner) % length];
    const at = (outer * blocks + Math.floor(along / block)) * inner + (i % inner);
    values[i] = (Number(integers[i]) - (zeros?.[at] ?? 0)) * steps[at]!;
  }
  return scale.dtype === 'float32' ? { dtype: 'float32', dims, data: new Uint8Array(values.buffer) } : fromNumbers(scale.dtype, dims, values);
}
