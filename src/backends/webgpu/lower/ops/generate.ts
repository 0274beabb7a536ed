/** Ops whose values follow from shapes or from constants alone: Shape, Size, ConstantOfShape, Range, EyeLike. */
import type { Graph, Node } from '../../../../ir/graph.ts';
import { elementCount, is32Bits } from '../../../../ir/tensor.ts';
import { elementKernel } from '../../kernels/pointwise.ts';
import { mapKernel } from '../../kernels/map.ts';
import { registerType } from '../../wgsl/access.ts';
import type { LowerContext, Lowering, LoweringTable } from '../context.ts';
import { hostArray } from '../constants.ts';
import { mustBeConstant } from '../support.ts';
import { rowMajorStrides, storageOf } from '../tensor.ts';

/** Gives an output values that are known now. */
export function known(context: LowerContext, id: string, values: readonly number[]): void {
  const { dtype, dims } = context.type(id);
  const tensor = context.pack(`${id}:known`, { dtype, dims, storage: storageOf(dtype) }, () => hostArray(dtype, values));
  context.alias(id, tensor, 'linear');
}

const shape: Lowering<'Shape'> = {
  lower(node, context) {
    const { dims } = context.type(node.inputs[0]!);
    known(context, node.outputs[0]!, dims.slice(node.attrs.start, node.attrs.end ?? dims.length));
  },
};

const size: Lowering<'Size'> = {
  lower: (node, context) => known(context, node.outputs[0]!, [elementCount(context.type(node.inputs[0]!).dims)]),
};

function beyond32Bits(node: Node<'ConstantOfShape'>): string | undefined {
  const { dtype, value } = node.attrs.value;
  return is32Bits(value, dtype) ? undefined : `the value ${value} is beyond 32 bits`;
}

const constantOfShape: Lowering<'ConstantOfShape'> = {
  unsupported: beyond32Bits,
  lower(node, context) {
    const tensor = context.define(node.outputs[0]!, 'linear');
    const { dims, dtype } = tensor;
    if (elementCount(dims) === 0) return;
    const view = { offset: 0, strides: rowMajorStrides(dims) };
    const expr = { kind: 'const', value: node.attrs.value.value, dtype } as const;
    context.dispatch(mapKernel({ label: 'ConstantOfShape', dims, inputs: [], outputs: [{ tensor, view, expr }] }, context.profile));
  },
};

const range: Lowering<'Range'> = {
  unsupported: (node: Node<'Range'>, graph: Graph) => mustBeConstant(node, graph, { 0: 'start', 1: 'limit', 2: 'delta' }),
  lower(node, context) {
    const [start, delta] = [context.ints(node.inputs[0]!)![0]!, context.ints(node.inputs[2]!)![0]!];
    const count = elementCount(context.type(node.outputs[0]!).dims);
    known(context, node.outputs[0]!, Array.from({ length: count }, (_, i) => start + i * delta));
  },
};

const eyeLike: Lowering<'EyeLike'> = {
  lower(node, context) {
    const output = context.define(node.outputs[0]!, 'linear');
    if (elementCount(output.dims) === 0) return;
    const type = registerType(output.dtype);
    const body = ({ at: [row, column] }: { readonly at: readonly string[] }): string =>
      `select(${type}(), ${type}(1), i32(${column}) - i32(${row}) == ${node.attrs.k})`;
    context.dispatch(elementKernel({ label: 'EyeLike', inputs: {}, output, body }, context.profile));
  },
};

export const GENERATE_LOWERINGS: LoweringTable = {
  Shape: shape,
  Size: size,
  ConstantOfShape: constantOfShape,
  Range: range,
  EyeLike: eyeLike,
};
