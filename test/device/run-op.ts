/** One op on SwiftShader, as a graph of its own. */
import { evaluateConstants } from '../../src/backends/onnxruntime/evaluate.ts';
import { buildPlan } from '../../src/backends/webgpu/build.ts';
import { PORTABLE_PROFILE } from '../../src/backends/webgpu/profile.ts';
import type { OpAttrs, OpKind } from '../../src/ir/ops.ts';
import { type Dims, type DType, elementCount, fromNumbers, type Tensor, toNumbers } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { runGraph } from './helpers.ts';

export interface Operand {
  readonly dtype: DType;
  readonly dims: Dims;
  readonly values: ArrayLike<number>;
  /** Known at build. */
  readonly constant?: boolean;
  /** Reaches the op as a convolution leaves it, in channels-last. */
  readonly channelsLast?: boolean;
}

export const floats = (dims: Dims, values: ArrayLike<number>, options: Partial<Operand> = {}): Operand => ({ dtype: 'float32', dims, values, ...options });
export const ints = (dims: Dims, values: ArrayLike<number>, options: Partial<Operand> = {}): Operand => ({ dtype: 'int64', dims, values, ...options });
/** A list of integers known at build. */
export const known = (...values: readonly number[]): Operand => ({ dtype: 'int64', dims: [values.length], values, constant: true });

type Builder = ReturnType<typeof newGraphBuilder>;

function addOperand(graph: Builder, name: string, { dtype, dims, values, constant, channelsLast }: Operand): string {
  if (constant) return graph.constant(fromNumbers(dtype, dims, values), name);
  graph.input(name, { dtype, dims });
  if (!channelsLast) return name;
  const channels = dims[1]!;
  const spatial = dims.slice(2).map(() => 1);
  const identity = Float32Array.from({ length: channels * channels }, (_, i) => (Math.floor(i / channels) === i % channels ? 1 : 0));
  const w = graph.constant(fromNumbers('float32', [channels, channels, ...spatial], identity));
  const attrs = { auto_pad: 'NOTSET', dilations: spatial, group: 1, kernel_shape: spatial, pads: [...spatial, ...spatial].map(() => 0), strides: spatial } as const;
  return graph.node('Conv', [name, w], attrs);
}

/** Runs the op; operands that are undefined are left out. Gives all outputs. */
export async function runOp<K extends OpKind>(op: K, attrs: OpAttrs[K], operands: readonly (Operand | undefined)[], outputs = 1): Promise<Tensor[]> {
  const graph = newGraphBuilder(op);
  const ids = operands.map((operand, i) => (operand ? addOperand(graph, `x${i}`, operand) : ''));
  const names = Array.from({ length: outputs }, (_, i) => `y${i}`);
  graph.node(op, ids, attrs, { outputs: names });
  const bound = operands.flatMap((operand, i) =>
    operand && !operand.constant ? [[`x${i}`, fromNumbers(operand.dtype, operand.dims, operand.values)] as const] : [],
  );
  const finished = graph.finish(names);
  const bindings = Math.max(...buildPlan(finished, PORTABLE_PROFILE).plan.shaders.map((shader) => shader.access.length), 0);
  if (bindings > PORTABLE_PROFILE.maxStorageBuffers) throw new Error(`${op} binds ${bindings} buffers, more than every device has`);
  const results = await runGraph(finished, Object.fromEntries(bound));
  return names.map((name) => results[name]!);
}

/** 0, 1, 2 … */
export const counting = (dims: Dims, from = 0): number[] => Array.from({ length: elementCount(dims) }, (_, i) => i + from);

/** What onnxruntime gives for the op on these values. */
export async function oracle<K extends OpKind>(op: K, attrs: OpAttrs[K], operands: readonly (Operand | undefined)[], outputs = 1): Promise<number[][]> {
  const graph = newGraphBuilder(op);
  const ids = operands.map((operand, i) => (operand ? graph.constant(fromNumbers(operand.dtype, operand.dims, operand.values), `x${i}`) : ''));
  const names = Array.from({ length: outputs }, (_, i) => `y${i}`);
  graph.node(op, ids, attrs, { outputs: names });
  const results = await evaluateConstants(graph.finish(names));
  return names.map((name) => toNumbers(results.get(name)!));
}
