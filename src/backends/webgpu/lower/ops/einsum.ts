/**
 * Einsum: a matrix product where two operands share what is summed over and nothing repeats, after bringing their axes in
 * order; otherwise one thread per output element sums over the labels that the output lacks.
 */
import type { Node } from '../../../../ir/graph.ts';
import { type Dims, elementCount } from '../../../../ir/tensor.ts';
import { type Einsum, parseEinsum } from '../../../../ops/einsum.ts';
import { inputExpr, mapKernel } from '../../kernels/map.ts';
import { registerType } from '../../wgsl/access.ts';
import type { Block } from '../../wgsl/module.ts';
import { wrapInteger } from '../../wgsl/narrow.ts';
import type { LowerContext, Lowering, LoweringTable } from '../context.ts';
import { lowerElements } from '../elements.ts';
import { type DeviceTensor, rowMajorStrides, stridesOf } from '../tensor.ts';
import { lowerProduct } from './matmul.ts';

/** With the output, as many buffers as every device binds at once. */
const MAX_OPERANDS = 7;

function parse(node: Node<'Einsum'>, context: LowerContext): Einsum {
  return parseEinsum(node.attrs.equation, node.inputs.map((id) => context.type(id).dims));
}

function lowerDirect(node: Node<'Einsum'>, { operands, output, sizes }: Einsum, context: LowerContext): void {
  const tensors = node.inputs.map((id) => context.tensor(id));
  const summed = [...sizes.keys()].filter((label) => !output.includes(label));
  lowerElements<string>(context, node.outputs[0]!, {
    label: 'Einsum',
    inputs: Object.fromEntries(tensors.map((tensor, i) => [`x${i}`, tensor])),
    body({ block, at, inputs, outputs }) {
      const { dtype } = outputs.result.tensor;
      const coordinates = new Map(output.map((label, axis) => [label, at[axis]!]));
      for (const [k, label] of summed.entries()) coordinates.set(label, `k${k}`);
      const sum = block.var('sum', `${registerType(dtype)}()`);
      const factors = operands.map((labels, i) => {
        const { dims } = tensors[i]!;
        return inputs[`x${i}`]!.load(labels.map((label, axis) => (dims[axis] === 1 ? '0u' : coordinates.get(label)!)));
      });
      const nest = (outer: Block, level: number): void => {
        if (level === summed.length) return outer.line(`${sum} += ${factors.join(' * ')}`);
        outer.for(`k${level}`, '0u', `${sizes.get(summed[level]!)}u`, '1u', (loop) => nest(loop, level + 1));
      };
      nest(block, 0);
      return wrapInteger(dtype, sum);
    },
  });
}

/** Labels by their part in a product: of both and kept, of both and summed, of the left only, of the right only. */
interface Roles {
  readonly batch: readonly string[];
  readonly depth: readonly string[];
  readonly rows: readonly string[];
  readonly columns: readonly string[];
}

/** Undefined where the equation is no plain product of two tensors. */
function rolesOf({ operands, output, sizes }: Einsum, shapes: readonly Dims[]): Roles | undefined {
  const [left, right, ...more] = operands;
  if (!left || !right || more.length > 0) return undefined;
  const repeats = [left, right].some((labels) => new Set(labels).size < labels.length);
  const broadcasts = operands.some((labels, i) => labels.some((label, axis) => shapes[i]![axis] !== sizes.get(label)));
  if (repeats || broadcasts) return undefined;
  const roles = {
    batch: left.filter((label) => right.includes(label) && output.includes(label)),
    depth: left.filter((label) => right.includes(label) && !output.includes(label)),
    rows: left.filter((label) => !right.includes(label)),
    columns: right.filter((label) => !left.includes(label)),
  };
  const alone = [...roles.rows, ...roles.columns].some((label) => !output.includes(label));
  return alone || roles.depth.length === 0 ? undefined : roles;
}

function lowerAsProduct(node: Node<'Einsum'>, { operands, output, sizes }: Einsum, roles: Roles, context: LowerContext): void {
  const size = (labels: readonly string[]): number => elementCount(labels.map((label) => sizes.get(label)!));
  const { batch, depth, rows, columns } = roles;
  const operand = (index: number, order: readonly (readonly string[])[]): DeviceTensor => {
    const tensor = context.tensorIn(node.inputs[index]!, 'linear');
    const ordered = reordered(tensor, operands[index]!, order.flat(), context);
    return { ...ordered, dims: order.map(size) };
  };
  const a = operand(0, [batch, rows, depth]);
  // The right operand may lie either way: whichever it is in already costs no copy.
  const transB = operands[1]!.join() === [...batch, ...columns, ...depth].join();
  const b = operand(1, transB ? [batch, columns, depth] : [batch, depth, columns]);
  const natural = [...batch, ...rows, ...columns];
  const target = context.define(node.outputs[0]!, 'linear');
  const inOrder = natural.join() === output.join();
  const dims = [size(batch), size(rows), size(columns)];
  const result = inOrder ? { ...target, dims } : context.scratch('float32', dims);
  lowerProduct({ a, b, c: undefined, extras: [], alpha: 1, beta: 1, transA: false, transB, epilogue: undefined, output: result }, context);
  if (!inOrder) copyReordered({ ...result, dims: natural.map((label) => sizes.get(label)!) }, natural, target, output, context);
}

function reordered(tensor: DeviceTensor, labels: readonly string[], wanted: readonly string[], context: LowerContext): DeviceTensor {
  if (labels.join() === wanted.join()) return tensor;
  const target = context.scratch(tensor.dtype, wanted.map((label) => tensor.dims[labels.indexOf(label)]!));
  copyReordered(tensor, labels, target, wanted, context);
  return target;
}

function copyReordered(source: DeviceTensor, from: readonly string[], target: DeviceTensor, to: readonly string[], context: LowerContext): void {
  const strides = stridesOf(source);
  const inputs = [{ tensor: source, view: { offset: 0, strides: to.map((label) => strides[from.indexOf(label)]!) } }];
  const outputs = [{ tensor: target, view: { offset: 0, strides: rowMajorStrides(target.dims) }, expr: inputExpr(source.dtype) }];
  context.dispatch(mapKernel({ label: 'Einsum', dims: target.dims, inputs, outputs }, context.profile));
}

const einsum: Lowering<'Einsum'> = {
  unsupported: (node) => (node.inputs.length > MAX_OPERANDS ? `${node.inputs.length} operands, more than ${MAX_OPERANDS}` : undefined),
  lower(node, context) {
    const equation = parse(node, context);
    const shapes = node.inputs.map((id) => context.type(id).dims);
    const roles = rolesOf(equation, shapes);
    const isFloat = context.type(node.outputs[0]!).dtype === 'float32';
    const some = [...equation.sizes.values()].every((size) => size > 0);
    if (roles && isFloat && some) lowerAsProduct(node, equation, roles, context);
    else lowerDirect(node, equation, context);
  },
};

export const EINSUM_LOWERINGS: LoweringTable = { Einsum: einsum };
