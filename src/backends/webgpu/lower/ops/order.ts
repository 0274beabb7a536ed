/**
 * Ops that compare or add up along an axis and keep its order: ArgMax, ArgMin, Hardmax, TopK, CumSum. Every output element
 * walks the axis itself: exact, deterministic, parallel over the outputs.
 */
import type { Node } from '../../../../ir/graph.ts';
import { type Dims, elementCount } from '../../../../ir/tensor.ts';
import { normalizeAxis } from '../../../../ops/shapes.ts';
import { type BoundTensor, elementKernel, pointKernel, wrapIndex } from '../../kernels/pointwise.ts';
import { registerType } from '../../wgsl/access.ts';
import type { Block } from '../../wgsl/module.ts';
import { wrapInteger } from '../../wgsl/narrow.ts';
import type { LowerContext, Lowering, LoweringTable } from '../context.ts';
import { lowerElements } from '../elements.ts';
import { type DeviceTensor, rowMajorStrides } from '../tensor.ts';

/** Declares `best_at`, the index along `axis` of the largest (or smallest) element of the row through `at`. */
function emitBest(block: Block, data: BoundTensor, at: readonly string[], axis: number, better: string): void {
  const along = (k: string): string => data.load(at.map((c, a) => (a === axis ? k : c)));
  block.var('best', along('0u'));
  block.var('best_at', '0u');
  block.for('k', '1u', `${data.tensor.dims[axis]}u`, '1u', (loop) => {
    loop.let('value', along('k'));
    loop.if(`value ${better} best`, (then) => {
      then.line('best = value');
      then.line('best_at = k');
    });
  });
}

function lowerArg(node: Node<'ArgMax' | 'ArgMin'>, context: LowerContext): void {
  const data = context.tensor(node.inputs[0]!);
  const { keepdims, select_last_index: last } = node.attrs;
  const axis = data.dims.length === 0 ? undefined : normalizeAxis(node.attrs.axis, data.dims.length);
  const better = `${node.op === 'ArgMax' ? '>' : '<'}${last ? '=' : ''}`;
  lowerElements(context, node.outputs[0]!, {
    label: node.op,
    inputs: { data },
    body({ block, at, inputs }) {
      if (axis === undefined) return '0i';
      emitBest(block, inputs.data, keepdims ? at : [...at.slice(0, axis), '0u', ...at.slice(axis)], axis, better);
      return 'i32(best_at)';
    },
  });
}

const hardmax: Lowering<'Hardmax'> = {
  lower(node, context) {
    const data = context.tensor(node.inputs[0]!);
    const axis = data.dims.length === 0 ? undefined : normalizeAxis(node.attrs.axis, data.dims.length);
    lowerElements(context, node.outputs[0]!, {
      label: 'Hardmax',
      inputs: { data },
      body({ block, at, inputs }) {
        if (axis === undefined) return '1.0f';
        emitBest(block, inputs.data, at, axis, '>');
        return `select(0.0f, 1.0f, best_at == ${at[axis]})`;
      },
    });
  },
};

/** A key whose order as an integer is that of the values: −0 equals 0, and NaN is beyond infinity. */
function emitKey(block: Block, name: string, value: string, type: string): string {
  if (type !== 'f32') return block.let(name, value);
  const bits = block.let(`${name}_bits`, `bitcast<u32>(select(${value}, 0.0f, ${value} == 0.0f))`);
  return block.let(name, `${bits} ^ select(0x80000000u, 0xffffffffu, ${bits} >= 0x80000000u)`);
}

/** What is left to choose from: elements, and where each stood along the axis; undefined: where it stands. */
interface Field {
  readonly data: DeviceTensor;
  readonly indices?: DeviceTensor;
}

interface Selection {
  readonly axis: number;
  /** An element is compared with those of its chunk alone; of each chunk so many are kept, in their order. */
  readonly chunk: number;
  readonly keep: number;
  readonly largest: boolean;
}

/** The place of an element is how many of its chunk come before it; among equals the first does, which chunks leave in their order. */
function select({ data, indices }: Field, results: Readonly<Record<string, DeviceTensor>>, { axis, chunk, keep, largest }: Selection, context: LowerContext): void {
  const { dims } = data;
  const extent = dims[axis]!;
  const whole = chunk >= extent;
  const type = registerType(data.dtype);
  const beats = largest ? '>' : '<';
  const call = pointKernel<string, string>(
    {
      label: 'TopK',
      extents: dims,
      inputs: { data, ...(indices && { from: indices }) },
      outputs: results,
      body({ block, at, inputs, outputs }) {
        const along = (place: string): string[] => at.map((c, a) => (a === axis ? place : c));
        const own = block.let('own', inputs['data']!.load(at));
        const key = emitKey(block, 'key', own, type);
        const first = whole ? '0u' : block.let('first', `${at[axis]} / ${chunk}u * ${chunk}u`);
        block.var('place', '0u');
        block.for('j', first, whole ? `${extent}u` : `min(${first} + ${chunk}u, ${extent}u)`, '1u', (loop) => {
          const other = loop.let('other', inputs['data']!.load(along('j')));
          const otherKey = emitKey(loop, 'other_key', other, type);
          loop.line(`place += select(0u, 1u, ${otherKey} ${beats} ${key} || (${otherKey} == ${key} && j < ${at[axis]}))`);
        });
        block.if(`place < ${keep}u`, (hit) => {
          const target = along(whole ? 'place' : `${at[axis]} / ${chunk}u * ${keep}u + place`);
          outputs['values']?.store(hit, target, own);
          outputs['indices']?.store(hit, target, inputs['from'] ? inputs['from'].load(at) : `i32(${at[axis]})`);
        });
      },
    },
    context.profile,
  );
  context.dispatch(call);
}

/** Chunks of fewer elements are not worth a kernel. */
const LEAST_CHUNK = 512;

/** What is kept of a chunk is at most this part of it, so that each pass leaves as much of the axis. */
const CHUNKS_SHRINK = 4;

/** Drops what is among the first of no chunk, until the axis is about as long as a chunk: comparisons grow with its length, no longer with its square. */
function shorten(field: Field, axis: number, keep: number, largest: boolean, context: LowerContext): Field {
  const { dims, dtype } = field.data;
  const extent = dims[axis]!;
  const chunk = Math.max(LEAST_CHUNK, CHUNKS_SHRINK * keep);
  if (extent <= 2 * chunk) return field;
  // Only the last chunk may hold fewer elements than are kept of one, so that what is kept lies together.
  const last = extent % chunk || chunk;
  const left = dims.map((dim, a) => (a === axis ? (Math.ceil(extent / chunk) - 1) * keep + Math.min(keep, last) : dim));
  const values = context.scratch(dtype, left);
  const indices = context.scratch('int32', left);
  select(field, { values, indices }, { axis, chunk, keep, largest }, context);
  return shorten({ data: values, indices }, axis, keep, largest, context);
}

const topK: Lowering<'TopK'> = {
  lower(node, context) {
    const data = context.tensor(node.inputs[0]!);
    const axis = normalizeAxis(node.attrs.axis, data.dims.length);
    const [values = '', indices = ''] = node.outputs;
    const named = Object.entries({ values, indices }).filter(([, id]) => id !== '');
    const results = Object.fromEntries(named.map(([name, id]) => [name, context.define(id, 'linear')]));
    const found = Object.values(results)[0]!.dims;
    if (elementCount(found) === 0) return;
    const keep = found[axis]!;
    const largest = node.attrs.largest === 1;
    const field = shorten({ data }, axis, keep, largest, context);
    select(field, results, { axis, chunk: field.data.dims[axis]!, keep, largest }, context);
  },
};

/** Longer axes are summed in chunks first, so that the work of an element grows with the root of the length. */
const LONG_AXIS = 256;

/** Extent and stride of the axis, and an element's place on it. */
function emitPlace(block: Block, dims: Dims, axis: number | BoundTensor): void {
  const strides = rowMajorStrides(dims);
  if (typeof axis === 'number') {
    block.let('extent', `${dims[axis]}u`);
    block.let('stride', `${strides[axis]}u`);
  } else {
    const table = (values: readonly number[]): string => `array<u32, ${dims.length}>(${values.map((v) => `${v}u`).join(', ')})`;
    const given = block.let('given', axis.loadFlat('0u'));
    block.let('which', wrapIndex(given, dims.length));
    block.var('extents', table(dims));
    block.var('strides', table(strides));
    block.let('extent', 'extents[which]');
    block.let('stride', 'strides[which]');
  }
  block.let('place', '(i / stride) % extent');
  block.let('base', 'i - place * stride');
}

/** Sums of `size` elements each along the axis, in the axis's place. */
function chunkSums(data: DeviceTensor, axis: number, size: number, context: LowerContext): DeviceTensor {
  const chunks = data.dims.map((dim, a) => (a === axis ? Math.ceil(dim / size) : dim));
  const output = context.scratch(data.dtype, chunks);
  const call = elementKernel(
    {
      label: 'CumSum',
      inputs: { data },
      output,
      body({ block, at, inputs }) {
        const sum = block.var('sum', `${registerType(data.dtype)}()`);
        block.for('k', `${at[axis]} * ${size}u`, `min(${at[axis]} * ${size}u + ${size}u, ${data.dims[axis]}u)`, '1u', (loop) => {
          loop.line(`${sum} += ${inputs.data.load(at.map((c, a) => (a === axis ? 'k' : c)))}`);
        });
        return sum;
      },
    },
    context.profile,
  );
  context.dispatch(call);
  return output;
}

const cumSum: Lowering<'CumSum'> = {
  lower(node, context) {
    const data = context.tensorIn(node.inputs[0]!, 'linear');
    const { dims } = data;
    const { exclusive, reverse } = node.attrs;
    const given = context.ints(node.inputs[1]!)?.[0];
    const known = given === undefined ? undefined : normalizeAxis(given, dims.length);
    const chunked = known !== undefined && dims[known]! > LONG_AXIS && elementCount(dims) > 0;
    const size = chunked ? Math.ceil(Math.sqrt(dims[known]!)) : 1;
    const more = chunked ? { chunks: chunkSums(data, known, size, context) } : known === undefined ? { axis: context.tensorIn(node.inputs[1]!, 'linear') } : {};
    lowerElements<string>(context, node.outputs[0]!, {
      label: 'CumSum',
      inputs: { data, ...more },
      body({ block, at, inputs }) {
        emitPlace(block, dims, known ?? inputs['axis']!);
        const sum = block.var('sum', `${registerType(data.dtype)}()`);
        // [begin, stop) are the elements to add; of those in whole chunks the sums are known.
        block.var('begin', reverse ? (exclusive ? 'place + 1u' : 'place') : '0u');
        block.var('stop', reverse ? 'extent' : exclusive ? 'place' : 'place + 1u');
        if (chunked) {
          const [first, last] = reverse ? [`(begin + ${size - 1}u) / ${size}u`, `${Math.ceil(dims[known]! / size)}u`] : ['0u', `stop / ${size}u`];
          block.let('first_chunk', first);
          block.let('last_chunk', last);
          block.for('k', 'first_chunk', 'last_chunk', '1u', (loop) => {
            loop.line(`${sum} += ${inputs['chunks']!.load(at.map((c, a) => (a === known ? 'k' : c)))}`);
          });
          block.line(reverse ? `stop = min(stop, first_chunk * ${size}u)` : `begin = last_chunk * ${size}u`);
        }
        block.for('k', 'begin', 'stop', '1u', (loop) => loop.line(`${sum} += ${inputs['data']!.loadFlat('base + k * stride')}`));
        return wrapInteger(data.dtype, sum);
      },
    });
  },
};

export const ORDER_LOWERINGS: LoweringTable = {
  ArgMax: { lower: lowerArg },
  ArgMin: { lower: lowerArg },
  CumSum: cumSum,
  Hardmax: hardmax,
  TopK: topK,
};
