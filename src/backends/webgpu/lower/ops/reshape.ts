/** Ops that only rename bytes (no kernel), and those that only move them (a map kernel with other strides). */
import type { OpKind } from '../../../../ir/ops.ts';
import { inputExpr, mapKernel } from '../../kernels/map.ts';
import type { Lowering, LoweringTable } from '../context.ts';
import { rowMajorStrides, stridesOf } from '../tensor.ts';

const rename: Lowering<OpKind> = {
  lower: (node, context) => context.alias(node.outputs[0]!, context.tensorIn(node.inputs[0]!, 'linear'), 'linear'),
};

const identity: Lowering<OpKind> = {
  lower(node, context) {
    const source = context.tensor(node.inputs[0]!);
    context.alias(node.outputs[0]!, source, source.layout);
  },
};

const transpose: Lowering<'Transpose'> = {
  lower(node, context) {
    const [input, output] = [node.inputs[0]!, node.outputs[0]!];
    const source = context.tensor(input);
    const { dims } = context.type(output);
    const strides = stridesOf(source);
    const moved = node.attrs.perm.map((axis) => strides[axis]!);
    const stored = context.type(output).dims;
    const own = rowMajorStrides(stored);
    // The source's bytes are already in the wanted order: no kernel.
    if (dims.every((extent, axis) => extent === 1 || moved[axis] === own[axis])) return context.alias(output, source, 'linear');
    const target = context.define(output, 'linear');
    const kernel = mapKernel(
      {
        label: 'Transpose',
        dims,
        inputs: [{ tensor: source, view: { offset: 0, strides: moved } }],
        outputs: [{ tensor: target, view: { offset: 0, strides: own }, expr: inputExpr(source.dtype) }],
      },
      context.profile,
    );
    context.dispatch(kernel);
  },
};

export const RESHAPE_LOWERINGS: LoweringTable = {
  Reshape: rename,
  Flatten: rename,
  Squeeze: rename,
  Unsqueeze: rename,
  Identity: identity,
  Dropout: identity,
  Transpose: transpose,
};
