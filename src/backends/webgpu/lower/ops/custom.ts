/** Custom ops of plugins: by their expression as any elementwise op, or by their WGSL, one candidate per tile. */
import { opTitle, type CustomDefinition } from '../../../../ir/custom.ts';
import { typeOf, type AnyNode, type Graph, type Node } from '../../../../ir/graph.ts';
import { elementCount, formatType, type TensorType } from '../../../../ir/tensor.ts';
import { exprOf } from '../../../../passes/expr-of.ts';
import { nodeCost } from '../../../../ops/infer.ts';
import { kernelFor, noRoute, webgpuRoute } from '../../../../ops/custom-routes.ts';
import { customKernels, customScratch, kernelScalar, tileName } from '../../kernels/custom.ts';
import { PORTABLE_PROFILE } from '../../profile.ts';
import type { Candidate } from '../../tactics/tactic.ts';
import type { LowerContext, Lowering, LoweringTable } from '../context.ts';
import type { DeviceTensor } from '../tensor.ts';
import { lowerExprs } from './elementwise.ts';

/** Of each type that a kernel sees. */
const BYTES_PER_ELEMENT = 4;

const custom: Lowering<'Custom'> = {
  unsupported(node, graph) {
    const { definition, domain } = node.attrs;
    if (!definition) return domain === '' ? 'the webgpu backend has no kernel for this op' : 'no plugin that is loaded has this op';
    const types = typesOf(node, graph);
    switch (webgpuRoute(definition, types)) {
      case 'kernel':
        return kernelReason(node, graph);
      case 'expression':
        return undefined;
      case 'decomposed':
        return 'it runs decomposed, and the pass decompose-custom is switched off';
      default:
        return noRoute(definition, types);
    }
  },
  lower(node, context) {
    const definition = node.attrs.definition!;
    if (definition.op.expression) lowerExpression(node, context);
    else lowerKernel(node, definition, context);
  },
};

function typesOf(node: Node<'Custom'>, graph: Graph): (TensorType | undefined)[] {
  return node.inputs.map((id) => (id === '' ? undefined : typeOf(graph, id)));
}

function kernelReason(node: Node<'Custom'>, graph: Graph): string | undefined {
  if (node.outputs.includes('') || node.outputs.length < node.attrs.definition!.op.outputs.length) return 'an output that nobody uses is left out, and its kernel writes them all';
  const bound = [...node.inputs.filter(Boolean), ...node.outputs];
  if (bound.length > PORTABLE_PROFILE.maxStorageBuffers) return `a kernel binds at most ${PORTABLE_PROFILE.maxStorageBuffers} tensors, here ${bound.length}`;
  const foreign = bound.map((id) => typeOf(graph, id)).find(({ dtype }) => kernelScalar(dtype) === undefined);
  return foreign && `no device type holds ${foreign.dtype}`;
}

function lowerExpression(node: Node<'Custom'>, context: LowerContext): void {
  const operands = node.inputs.map((id, index) => ({ kind: 'input' as const, index, dtype: context.type(id).dtype }));
  lowerExprs(node as AnyNode, [exprOf(node as AnyNode, operands)!], context);
}

function lowerKernel(node: Node<'Custom'>, definition: CustomDefinition, context: LowerContext): void {
  const types = typesOf(node, context.graph);
  const outputTypes = node.outputs.map((id) => context.type(id));
  const kernel = kernelFor(definition, types)!;
  const inputs = node.inputs.filter(Boolean).map((id) => context.tensorIn(id, 'linear', 'canonical'));
  const outputs = node.outputs.map((id) => context.define(id, 'linear'));
  if (outputTypes.every(({ dims }) => elementCount(dims) === 0)) return;
  const { op } = definition;
  const operands = new Map<string, DeviceTensor>([
    ...op.inputs.flatMap(({ name }, index) => (types[index] ? [name] : [])).map((name, at) => [name, inputs[at]!] as const),
    ...op.outputs.map((name, index) => [name, outputs[index]!] as const),
  ]);
  const tiles = (kernel.tiles ?? [{}]).map((tile) => {
    const spec = { definition, kernel, inputs: types, outputs: outputTypes, tile };
    const scratch = Object.entries(customScratch(spec));
    return { name: tileName(tile), spec, scratch, bytes: scratch.reduce((sum, [, { dims }]) => sum + BYTES_PER_ELEMENT * elementCount(dims), 0) };
  });
  // What no tile can do without is none of the choice's.
  const least = Math.min(...tiles.map(({ bytes }) => bytes));
  const candidates = tiles.map(({ name, spec, scratch, bytes }): Candidate => {
    const kernels = () => {
      const all = new Map([...operands, ...scratch.map(([key, { dtype, dims }]) => [key, context.scratch(dtype, dims)] as const)]);
      return customKernels(spec, context.profile).map(({ source, workgroups, bound }) => ({ source, operands: bound.map((key) => all.get(key)!), workgroups, tactic: name }));
    };
    return { name, scratchBytes: bytes - least, kernels };
  });
  context.choose({ key: problemKey(definition, types), flops: nodeCost(context.graph, node as AnyNode).flops }, candidates);
}

/** The plugin's hash is part of it: what was measured of other code says nothing. */
function problemKey({ op, attrs, plugin }: CustomDefinition, types: readonly (TensorType | undefined)[]): string {
  return `${opTitle(op)} ${plugin.sha256.slice(0, 12)} ${JSON.stringify(attrs)} ${types.map((type) => (type ? formatType(type) : '_')).join(' ')}`;
}

export const CUSTOM_LOWERINGS: LoweringTable = { Custom: custom };
