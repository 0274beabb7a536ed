/**
 * Indexed writes: ScatterElements, ScatterND, MaxUnpool.
 *
 * Without a reduction, indices must not repeat (ONNX says so), and every update is written by a thread of its own over a
 * copy of the data. With one they may, and floating sums depend on the order: there every output element looks for its
 * updates itself, in order, so that results are the same in every run.
 */
import type { Node } from '../../../../ir/graph.ts';
import { type Dims, elementCount } from '../../../../ir/tensor.ts';
import { normalizeAxis } from '../../../../ops/shapes.ts';
import { inputExpr, mapKernel } from '../../kernels/map.ts';
import { elementKernel, pointKernel, wrapIndex } from '../../kernels/pointwise.ts';
import { wrapInteger } from '../../wgsl/narrow.ts';
import type { LowerContext, Lowering, LoweringTable } from '../context.ts';
import { decodeIndex } from '../space.ts';
import { type DeviceTensor, rowMajorStrides, stridesOf } from '../tensor.ts';

type Reduction = 'none' | 'add' | 'mul' | 'max' | 'min';

/** `acc` combined with `update`, in the register type. Narrow integers wrap, as in C. */
function combine(reduction: Exclude<Reduction, 'none'>, tensor: DeviceTensor, acc: string, update: string): string {
  switch (reduction) {
    case 'add':
      return wrapInteger(tensor.dtype, `${acc} + ${update}`);
    case 'mul':
      return wrapInteger(tensor.dtype, `${acc} * ${update}`);
    case 'max':
      return `max(${acc}, ${update})`;
    case 'min':
      return `min(${acc}, ${update})`;
    default:
      return reduction satisfies never;
  }
}

function unsupported(node: Node<'ScatterElements' | 'ScatterND'>, graph: { readonly types: ReadonlyMap<string, { readonly dtype: string }> }): string | undefined {
  const isBool = graph.types.get(node.inputs[0]!)?.dtype === 'bool';
  return isBool && node.attrs.reduction !== 'none' ? `no reduction '${node.attrs.reduction}' of bool` : undefined;
}

interface Scatter {
  readonly data: DeviceTensor;
  readonly indices: DeviceTensor;
  readonly updates: DeviceTensor;
  readonly output: DeviceTensor;
}

function operandsOf(node: Node<'ScatterElements' | 'ScatterND'>, context: LowerContext): Scatter {
  const [data, indices, updates] = node.inputs.map((id) => context.tensorIn(id, 'linear')) as [DeviceTensor, DeviceTensor, DeviceTensor];
  return { data, indices, updates, output: context.define(node.outputs[0]!, 'linear') };
}

function copy(context: LowerContext, label: string, source: DeviceTensor, target: DeviceTensor): void {
  const { dims } = target;
  if (elementCount(dims) === 0) return;
  const inputs = [{ tensor: source, view: { offset: 0, strides: stridesOf(source) } }];
  const outputs = [{ tensor: target, view: { offset: 0, strides: rowMajorStrides(dims) }, expr: inputExpr(source.dtype) }];
  context.dispatch(mapKernel({ label, dims, inputs, outputs }, context.profile));
}

const scatterElements: Lowering<'ScatterElements'> = {
  unsupported,
  lower(node, context) {
    const scatter = operandsOf(node, context);
    const { data, indices, updates, output } = scatter;
    const axis = normalizeAxis(node.attrs.axis, data.dims.length);
    const { reduction } = node.attrs;
    if (elementCount(output.dims) === 0) return;
    if (reduction === 'none' || elementCount(indices.dims) === 0) {
      copy(context, 'ScatterElements', data, output);
      if (elementCount(indices.dims) === 0) return;
      const write = pointKernel(
        {
          label: 'ScatterElements',
          extents: indices.dims,
          inputs: { indices, updates },
          outputs: { output },
          body({ block, at, inputs, outputs }) {
            const index = block.let('index', inputs.indices.load(at));
            const target = at.map((c, a) => (a === axis ? wrapIndex(index, data.dims[axis]!) : c));
            outputs.output.store(block, target, inputs.updates.load(at));
          },
        },
        context.profile,
      );
      return context.dispatch(write);
    }
    context.dispatch(reduceElements(scatter, axis, reduction, context));
  },
};

/** output[…, i, …] = data ∘ every update of the same row whose index is i. */
function reduceElements({ data, indices, updates, output }: Scatter, axis: number, reduction: Exclude<Reduction, 'none'>, context: LowerContext) {
  return elementKernel(
    {
      label: 'ScatterElements',
      inputs: { data, indices, updates },
      output,
      body({ block, at, inputs }) {
        const acc = block.var('acc', inputs.data.load(at));
        const reached = at.flatMap((c, a) => (a === axis || indices.dims[a]! >= data.dims[a]! ? [] : [`${c} < ${indices.dims[a]}u`]));
        block.if(reached.length > 0 ? reached.join(' && ') : 'true', (inside) => {
          inside.for('j', '0u', `${indices.dims[axis]}u`, '1u', (loop) => {
            const from = at.map((c, a) => (a === axis ? 'j' : c));
            const index = loop.let('index', inputs.indices.load(from));
            loop.if(`${wrapIndex(index, data.dims[axis]!)} == ${at[axis]}`, (hit) => {
              hit.line(`${acc} = ${combine(reduction, data, acc, inputs.updates.load(from))}`);
            });
          });
        });
        return acc;
      },
    },
    context.profile,
  );
}

const scatterND: Lowering<'ScatterND'> = {
  unsupported,
  lower(node, context) {
    const scatter = operandsOf(node, context);
    const { data, indices, updates, output } = scatter;
    const { reduction } = node.attrs;
    if (elementCount(output.dims) === 0) return;
    const tuples = elementCount(indices.dims.slice(0, -1));
    const shape = { tuples, depth: indices.dims.at(-1)! };
    if (reduction !== 'none' && tuples > 0) return context.dispatch(reduceND(scatter, shape, reduction, context));
    copy(context, 'ScatterND', data, output);
    if (elementCount(updates.dims) === 0) return;
    const inner = data.dims.slice(shape.depth);
    const write = pointKernel(
      {
        label: 'ScatterND',
        extents: [tuples, ...inner],
        inputs: { indices, updates },
        outputs: { output },
        body({ block, at, inputs, outputs }) {
          const [tuple, ...rest] = at as [string, ...string[]];
          const picked = tupleIndex(shape.depth, data.dims, (k) => block.let(`index${k}`, inputs.indices.loadFlat(`${tuple} * ${shape.depth}u + ${k}u`)));
          outputs.output.store(block, [...picked, ...rest], inputs.updates.loadFlat('i'));
        },
      },
      context.profile,
    );
    context.dispatch(write);
  },
};

function tupleIndex(depth: number, dims: Dims, load: (k: number) => string): string[] {
  return Array.from({ length: depth }, (_, k) => wrapIndex(load(k), dims[k]!));
}

/** output[p, q] = data ∘ every update whose index tuple is p. */
function reduceND(
  { data, indices, updates, output }: Scatter,
  { tuples, depth }: { readonly tuples: number; readonly depth: number },
  reduction: Exclude<Reduction, 'none'>,
  context: LowerContext,
) {
  const inner = elementCount(data.dims.slice(depth));
  return elementKernel(
    {
      label: 'ScatterND',
      inputs: { data, indices, updates },
      output,
      body({ block, at, inputs }) {
        const acc = block.var('acc', inputs.data.load(at));
        block.for('t', '0u', `${tuples}u`, '1u', (loop) => {
          const picked = tupleIndex(depth, data.dims, (k) => loop.let(`index${k}`, inputs.indices.loadFlat(`t * ${depth}u + ${k}u`)));
          const hits = picked.map((index, k) => `${index} == ${at[k]}`);
          loop.if(hits.length > 0 ? hits.join(' && ') : 'true', (hit) => {
            hit.line(`${acc} = ${combine(reduction, data, acc, inputs.updates.loadFlat(`t * ${inner}u + i % ${inner}u`))}`);
          });
        });
        return acc;
      },
    },
    context.profile,
  );
}

const maxUnpool: Lowering<'MaxUnpool'> = {
  lower(node, context) {
    const [x, indices] = [context.tensorIn(node.inputs[0]!, 'linear'), context.tensorIn(node.inputs[1]!, 'linear')];
    const output = context.define(node.outputs[0]!, 'linear');
    if (elementCount(output.dims) === 0) return;
    const zero = { kind: 'const', value: 0, dtype: output.dtype } as const;
    const view = { offset: 0, strides: rowMajorStrides(output.dims) };
    context.dispatch(mapKernel({ label: 'MaxUnpool', dims: output.dims, inputs: [], outputs: [{ tensor: output, view, expr: zero }] }, context.profile));
    if (elementCount(x.dims) === 0) return;
    context.dispatch(unpoolKernel(x, indices, output, placesOf(node, context), context));
  },
};

/** The shape in which MaxPool counted the indices: the window's own, also where output_shape asks for a larger tensor. */
function placesOf(node: Node<'MaxUnpool'>, context: LowerContext): number[] {
  const { kernel_shape: kernel, strides, pads } = node.attrs;
  const x = context.type(node.inputs[0]!).dims;
  const spatial = x.slice(2).map((dim, i) => (dim - 1) * strides[i]! + kernel[i]! - pads[i]! - pads[i + kernel.length]!);
  return [...x.slice(0, 2), ...spatial];
}

function unpoolKernel(x: DeviceTensor, indices: DeviceTensor, output: DeviceTensor, places: Dims, context: LowerContext) {
  return pointKernel(
    {
      label: 'MaxUnpool',
      extents: x.dims,
      inputs: { x, indices },
      outputs: { output },
      body({ block, inputs, outputs }) {
        block.let('place', `u32(clamp(${inputs.indices.loadFlat('i')}, 0, ${elementCount(places) - 1}))`);
        const target = decodeIndex('place', places).map((code, axis) => block.let(`p${axis}`, code));
        const inside = target.map((c, axis) => `${c} < ${output.dims[axis]}u`);
        block.if(inside.join(' && '), (hit) => outputs.output.store(hit, target, inputs.x.loadFlat('i')));
      },
    },
    context.profile,
  );
}

export const SCATTER_LOWERINGS: LoweringTable = { ScatterElements: scatterElements, ScatterND: scatterND, MaxUnpool: maxUnpool };
