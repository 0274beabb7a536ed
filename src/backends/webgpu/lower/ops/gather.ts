/**
 * Indexed reads: Gather, GatherElements, GatherND, OneHot, ReverseSequence, Trilu. One thread per output element works out
 * where its value comes from. Indices beyond their axis, an error that a device can't raise, read the nearest element.
 */
import type { Node, ValueId } from '../../../../ir/graph.ts';
import { elementCount } from '../../../../ir/tensor.ts';
import { normalizeAxis } from '../../../../ops/shapes.ts';
import { gatherRowsKernel, hasWholeRows } from '../../kernels/gather-rows.ts';
import { elementKernel, wrapIndex } from '../../kernels/pointwise.ts';
import { registerType } from '../../wgsl/access.ts';
import { asStored, constantArray } from '../constants.ts';
import type { LowerContext, Lowering, LoweringTable } from '../context.ts';
import { lowerElements } from '../elements.ts';
import { type DeviceTensor, viewOf } from '../tensor.ts';
import { pickedRange, viewedAs } from '../windows.ts';

const gather: Lowering<'Gather'> = {
  lower(node, context) {
    if (takeWindow(node, context)) return;
    const source = context.source(node.inputs[0]!);
    const axis = normalizeAxis(node.attrs.axis, source.dims.length);
    // Elements of the last axis are gathered one by one, and narrow ones can't be written so.
    const areRows = axis < source.dims.length - 1 && hasWholeRows(source);
    const output = context.target(node.outputs[0]!, 'linear', areRows ? 'narrow' : 'canonical');
    if (elementCount(output.dims) === 0) return;
    const data = tableOf(node.inputs[0]!, output, context);
    const indices = context.tensorIn(node.inputs[1]!, 'linear');
    if (areRows && hasWholeRows(output)) return context.dispatch(gatherRowsKernel({ data, indices, output, axis }, context.profile));
    const rank = indices.dims.length;
    const kernel = elementKernel(
      {
        label: 'Gather',
        inputs: { data, indices },
        output,
        body({ block, at, inputs }) {
          const index = block.let('index', inputs.indices.load(at.slice(axis, axis + rank)));
          return inputs.data.load([...at.slice(0, axis), wrapIndex(index, data.dims[axis]!), ...at.slice(axis + rank)]);
        },
      },
      context.profile,
    );
    context.dispatch(kernel);
  },
};

/** One element of an axis, or several that follow one another, chosen at build, are a window. */
function takeWindow(node: Node<'Gather'>, context: LowerContext): boolean {
  const [data, picked] = node.inputs as [string, string];
  const { dims } = context.type(node.outputs[0]!);
  if (!context.windows || context.constant(data) || elementCount(dims) === 0) return false;
  const source = context.source(data);
  const axis = normalizeAxis(node.attrs.axis, source.dims.length);
  const range = pickedRange(context.constant(picked), source.dims[axis]!);
  if (!range) return false;
  const { offset, strides } = viewOf(source);
  const keepsAxis = context.type(picked).dims.length > 0;
  const view = { offset: offset + range.start * strides[axis]!, strides: keepsAxis ? strides : strides.filter((_, a) => a !== axis) };
  const window = viewedAs(source, dims, view);
  context.alias(node.outputs[0]!, window, window.layout);
  return true;
}

/** What rows are taken from; a constant table as the rows are stored. */
function tableOf(id: ValueId, output: DeviceTensor, context: LowerContext): DeviceTensor {
  const constant = context.constant(id);
  if (!constant || output.storage !== 'f16') return context.source(id);
  return context.pack(`${id}:halves`, { dtype: constant.dtype, dims: constant.dims, storage: 'f16' }, () => asStored(constantArray(constant) as Float32Array, true));
}

const gatherElements: Lowering<'GatherElements'> = {
  lower(node, context) {
    const data = context.source(node.inputs[0]!);
    const indices = context.tensor(node.inputs[1]!);
    const axis = normalizeAxis(node.attrs.axis, data.dims.length);
    lowerElements(context, node.outputs[0]!, {
      label: 'GatherElements',
      inputs: { data, indices },
      body({ block, at, inputs }) {
        const index = block.let('index', inputs.indices.load(at));
        return inputs.data.load(at.map((c, a) => (a === axis ? wrapIndex(index, data.dims[axis]!) : c)));
      },
    });
  },
};

const gatherND: Lowering<'GatherND'> = {
  lower(node, context) {
    const data = context.source(node.inputs[0]!);
    const indices = context.tensorIn(node.inputs[1]!, 'linear');
    const batch = node.attrs.batch_dims;
    const depth = indices.dims.at(-1)!;
    const outer = indices.dims.length - 1;
    lowerElements(context, node.outputs[0]!, {
      label: 'GatherND',
      inputs: { data, indices },
      body({ block, at, inputs }) {
        const picked = Array.from({ length: depth }, (_, k) => {
          const index = block.let(`index${k}`, inputs.indices.load([...at.slice(0, outer), `${k}u`]));
          return wrapIndex(index, data.dims[batch + k]!);
        });
        return inputs.data.load([...at.slice(0, batch), ...picked, ...at.slice(outer)]);
      },
    });
  },
};

const oneHot: Lowering<'OneHot'> = {
  lower(node, context) {
    const indices = context.tensor(node.inputs[0]!);
    const values = context.tensorIn(node.inputs[2]!, 'linear');
    const { dims } = context.type(node.outputs[0]!);
    const axis = normalizeAxis(node.attrs.axis, dims.length);
    const depth = dims[axis]!;
    lowerElements(context, node.outputs[0]!, {
      label: 'OneHot',
      inputs: { indices, values },
      body({ block, at, inputs }) {
        const given = block.let('given', inputs.indices.load(at.filter((_, a) => a !== axis)));
        const hot = block.let('hot', `i32(${given})`);
        // Negative indices count from the end; others outside the depth give no hot element.
        block.let('chosen', `select(${hot}, ${hot} + ${depth}, ${hot} < 0) == i32(${at[axis]})`);
        return inputs.values.loadFlat('select(0u, 1u, chosen)');
      },
    });
  },
};

const reverseSequence: Lowering<'ReverseSequence'> = {
  lower(node, context) {
    const data = context.source(node.inputs[0]!);
    const lengths = context.tensorIn(node.inputs[1]!, 'linear');
    const { batch_axis: batch, time_axis: time } = node.attrs;
    lowerElements(context, node.outputs[0]!, {
      label: 'ReverseSequence',
      inputs: { data, lengths },
      body({ block, at, inputs }) {
        const length = block.let('length', `u32(clamp(${inputs.lengths.load([at[batch]!])}, 0, ${data.dims[time]!}))`);
        const from = `select(${at[time]}, ${length} - 1u - ${at[time]}, ${at[time]} < ${length})`;
        return inputs.data.load(at.map((c, a) => (a === time ? from : c)));
      },
    });
  },
};

const trilu: Lowering<'Trilu'> = {
  lower(node, context) {
    const data = context.source(node.inputs[0]!);
    const shift = node.inputs[1] ? { shift: context.tensorIn(node.inputs[1], 'linear') } : {};
    lowerElements<string>(context, node.outputs[0]!, {
      label: 'Trilu',
      inputs: { data, ...shift },
      body({ block, at, inputs }) {
        const k = block.let('k', inputs['shift']?.loadFlat('0u') ?? '0i');
        const above = `i32(${at.at(-1)}) - i32(${at.at(-2)})`;
        const kept = node.attrs.upper ? `${above} >= ${k}` : `${above} <= ${k}`;
        return `select(${registerType(data.dtype)}(), ${inputs['data']!.load(at)}, ${kept})`;
      },
    });
  },
};

export const GATHER_LOWERINGS: LoweringTable = {
  Gather: gather,
  GatherElements: gatherElements,
  GatherND: gatherND,
  OneHot: oneHot,
  ReverseSequence: reverseSequence,
  Trilu: trilu,
};
