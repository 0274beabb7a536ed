/**
 * The ways in which a custom op can run, in words and for the passes: by its own kernel, by its expression, or decomposed.
 */
import { opTitle, type CustomDefinition, type CustomOp, type Int8Behaviour, type WgslKernel } from '../ir/custom.ts';
import type { DType, TensorType } from '../ir/tensor.ts';
import { kernelDtype } from './custom.ts';

/** How a node runs on the webgpu backend; undefined: not at all. */
export type Route = 'expression' | 'kernel' | 'decomposed';

/** Whether the op can be written in standard ONNX ops. */
export function decomposes(op: CustomOp): boolean {
  return op.decompose !== undefined || op.expression !== undefined;
}

export function kernelFor({ op }: CustomDefinition, inputs: readonly (TensorType | undefined)[]): WgslKernel | undefined {
  const dtype = kernelDtype(op, inputs);
  return op.kernels?.find(({ dtypes }) => dtype !== undefined && dtypes.includes(dtype));
}

/** An expression fuses, a kernel is made for the op, a decomposition is what is left. */
export function webgpuRoute(definition: CustomDefinition, inputs: readonly (TensorType | undefined)[]): Route | undefined {
  if (definition.op.expression) return 'expression';
  if (kernelFor(definition, inputs)) return 'kernel';
  return definition.op.decompose ? 'decomposed' : undefined;
}

/** Why a node has no route, with what the plugin could give. */
export function noRoute({ op, plugin }: CustomDefinition, inputs: readonly (TensorType | undefined)[]): string {
  return `the plugin ${plugin.name} gives ${opTitle(op)} neither a WGSL kernel for ${kernelDtype(op, inputs) ?? 'its types'} nor an expression nor a decomposition`;
}

/** One line of `inspect`. */
export interface OpCoverage {
  readonly op: string;
  readonly plugin: string;
  readonly gives: readonly string[];
  readonly missing: readonly string[];
}

function int8Words(output: Int8Behaviour['output']): string {
  if (typeof output === 'function') return 'a grid computed from those that come in';
  return output === 'same' ? 'the grid that comes in goes out' : 'a grid of its own';
}

/** What an op gives and what that leaves out, by element type. */
export function coverage({ op, plugin }: Pick<CustomDefinition, 'op' | 'plugin'>): OpCoverage {
  const kernels = [...new Set(op.kernels?.flatMap(({ dtypes }) => dtypes) ?? [])];
  const gives = [
    ...(op.expression ? ['expression (fuses)'] : []),
    ...(op.decompose ? ['decomposition'] : []),
    ...(kernels.length > 0 ? [`WGSL for ${kernels.join(', ')}`] : []),
    ...(op.int8 ? [`int8 (${int8Words(op.int8.output)})`] : []),
    ...(op.patterns ?? []).map(({ name }) => `pattern ${name}`),
  ];
  const missing: string[] = [];
  if (!op.expression) {
    const without = op.dtypes.filter((dtype: DType) => !kernels.includes(dtype));
    const instead = op.decompose ? 'runs decomposed' : 'does not run on webgpu';
    if (without.length > 0) missing.push(`no WGSL kernel for ${without.join(', ')}: ${instead}`);
  }
  if (!decomposes(op)) missing.push('no decomposition: does not run on onnxruntime');
  if (!op.int8) missing.push('no int8 behaviour: float ops around it');
  return { op: opTitle(op), plugin: `${plugin.name} ${plugin.version}`, gives, missing };
}
