/**
 * Products and convolutions element by element: for integers, for weights that are not known at build, and for sums of nothing. One
 * thread sums up one output element; the fast kernels of matmul.ts and conv.ts are for everything else.
 */
import type { Expr } from '../../../../ir/expr.ts';
import { type Node, typeOf } from '../../../../ir/graph.ts';
import type { ConvAttrs } from '../../../../ir/ops.ts';
import { type Dims, elementCount } from '../../../../ir/tensor.ts';
import { type BoundTensor, elementKernel, type PointScope } from '../../kernels/pointwise.ts';
import { registerType } from '../../wgsl/access.ts';
import { ExprEmitter, literal } from '../../wgsl/expr.ts';
import type { Block } from '../../wgsl/module.ts';
import { saturate, wrapInteger } from '../../wgsl/narrow.ts';
import type { LowerContext, Lowering, LoweringTable } from '../context.ts';
import { lowerElements } from '../elements.ts';
import type { DeviceTensor } from '../tensor.ts';

/** Adds `term(x, w)` to `sum` for every tap of every input channel of the group that the output element belongs to. */
interface WindowSum {
  readonly x: BoundTensor;
  readonly w: BoundTensor;
  readonly output: Dims;
  readonly attrs: ConvAttrs;
  readonly transposed: boolean;
  term(x: string, w: string): string;
}

function emitWindowSum(block: Block, at: readonly string[], { x, w, output, attrs, transposed, term }: WindowSum, sum: string): void {
  const [n, o, ...pixel] = at as [string, string, ...string[]];
  const kernel = w.tensor.dims.slice(2);
  const [inputs, outputs] = [x.tensor.dims[1]! / attrs.group, output[1]! / attrs.group];
  const nest = (outer: Block, axis: number, places: readonly string[], taps: readonly string[]): void => {
    if (axis === kernel.length) {
      const weight = transposed ? [`(group * ${inputs}u + c)`, `${o} % ${outputs}u`, ...taps] : [o, 'c', ...taps];
      return outer.line(`${sum} += ${term(x.load([n, `group * ${inputs}u + c`, ...places]), w.load(weight))}`);
    }
    const [stride, dilation, pad, extent] = [attrs.strides[axis]!, attrs.dilations[axis]!, attrs.pads[axis]!, x.tensor.dims[axis + 2]!];
    outer.for(`k${axis}`, '0u', `${kernel[axis]}u`, '1u', (loop) => {
      const tap = `i32(k${axis} * ${dilation}u)`;
      const place = loop.let(`p${axis}`, transposed ? `i32(${pixel[axis]}) + ${pad} - ${tap}` : `i32(${pixel[axis]} * ${stride}u) - ${pad} + ${tap}`);
      const whole = transposed ? `${place} >= 0 && u32(${place}) % ${stride}u == 0u && ${place} / ${stride} < ${extent}` : `${place} >= 0 && ${place} < ${extent}`;
      const source = transposed ? `u32(${place} / ${stride})` : `u32(${place})`;
      loop.if(whole, (inside) => nest(inside, axis + 1, [...places, source], [...taps, `k${axis}`]));
    });
  };
  block.let('group', `${o} / ${outputs}u`);
  block.for('c', '0u', `${inputs}u`, '1u', (loop) => nest(loop, 0, [], []));
}

/** An epilogue and what it reads beside the accumulator. */
interface Epilogue {
  readonly expr: Expr;
  readonly extras: readonly string[];
}

function lowerDirectConv(node: Node<'Conv' | 'ConvTranspose' | 'FusedConv'>, epilogue: Epilogue | undefined, context: LowerContext): void {
  const [x, w] = [context.tensor(node.inputs[0]!), context.tensorIn(node.inputs[1]!, 'linear')];
  const bias = node.inputs[2] ? { bias: context.tensorIn(node.inputs[2], 'linear') } : {};
  const output = context.type(node.outputs[0]!).dims;
  lowerElements<string>(context, node.outputs[0]!, {
    label: node.op,
    inputs: { x, w, ...bias, ...extrasOf(epilogue, context) },
    body(scope) {
      const { block, at, inputs } = scope;
      const sum = block.var('sum', inputs['bias']?.loadFlat(at[1]!) ?? '0.0f');
      const window = { x: inputs['x']!, w: inputs['w']!, output, attrs: node.attrs, transposed: node.op === 'ConvTranspose', term: (a: string, b: string) => `${a} * ${b}` };
      emitWindowSum(block, at, window, sum);
      return ended(scope, sum, epilogue);
    },
  });
}

const extrasOf = (epilogue: Epilogue | undefined, context: LowerContext): Record<string, DeviceTensor> =>
  Object.fromEntries((epilogue?.extras ?? []).map((id, i) => [`extra${i}`, context.tensorIn(id, 'linear')]));

/** What the epilogue makes of a sum. */
function ended({ module, block, at, inputs }: PointScope<string, 'result'>, sum: string, epilogue: Epilogue | undefined): string {
  if (!epilogue) return sum;
  const registers = epilogue.extras.map((_, i) => {
    const extra = inputs[`extra${i}`]!;
    return block.let(`e${i}`, extra.load(broadcastPlace(extra.tensor.dims, at)));
  });
  return new ExprEmitter(module, block, 1, [sum, ...registers]).emit(epilogue.expr);
}

/** Where a tensor that broadcasts to the output holds the value for its element. */
function broadcastPlace(dims: Dims, at: readonly string[]): string[] {
  return dims.map((dim, axis) => (dim === 1 ? '0u' : at[axis + at.length - dims.length]!));
}

/** An optional zero point or scale: one value, one per row or column (or channel), or broadcast over the output. */
function parameter(bound: BoundTensor | undefined, at: readonly string[], own: string, none: string): string {
  if (!bound) return none;
  const { dims } = bound.tensor;
  if (elementCount(dims) === 1) return bound.loadFlat('0u');
  if (dims.length === 1) return bound.loadFlat(own);
  return bound.load(broadcastPlace(dims, at));
}

/** round(acc · scale) + zero point, saturated to the output's type. */
function requantized(output: DeviceTensor, acc: string, scale: string, zero: string): string {
  return saturate(output.dtype, `round(f32(${acc}) * ${scale}) + f32(${zero})`);
}

/** Present inputs by name. */
function named(node: Node, names: readonly string[], context: LowerContext): Record<string, DeviceTensor> {
  return Object.fromEntries(names.flatMap((name, i) => (node.inputs[i] ? [[name, context.tensorIn(node.inputs[i]!, 'linear')]] : [])));
}

const convInteger: Lowering<'ConvInteger'> = {
  lower(node, context) {
    const output = context.type(node.outputs[0]!).dims;
    lowerElements<string>(context, node.outputs[0]!, {
      label: 'ConvInteger',
      inputs: named(node, ['x', 'w', 'x_zero', 'w_zero'], context),
      body({ block, at, inputs }) {
        const xZero = block.let('xz', `i32(${parameter(inputs['x_zero'], at, '0u', '0')})`);
        const wZero = block.let('wz', `i32(${parameter(inputs['w_zero'], at, at[1]!, '0')})`);
        const sum = block.var('sum', '0i');
        const term = (a: string, b: string): string => `(i32(${a}) - ${xZero}) * (i32(${b}) - ${wZero})`;
        emitWindowSum(block, at, { x: inputs['x']!, w: inputs['w']!, output, attrs: node.attrs, transposed: false, term }, sum);
        return sum;
      },
    });
  },
};

/** A few numbers computed on the device into one buffer, where a kernel would bind more buffers than every device has. */
function gathered(
  label: string,
  dtype: 'float32' | 'int32',
  count: number,
  inputs: Readonly<Record<string, DeviceTensor>>,
  value: (bound: Readonly<Record<string, BoundTensor>>, at: string) => string,
  context: LowerContext,
): DeviceTensor {
  const output = context.scratch(dtype, [count]);
  context.dispatch(elementKernel({ label, inputs, output, body: ({ at, inputs: bound }) => value(bound, at[0]!) }, context.profile));
  return output;
}

const qLinearConv: Lowering<'QLinearConv'> = {
  lower(node, context) {
    const output = context.type(node.outputs[0]!).dims;
    const all = named(node, ['x', 'x_scale', 'x_zero', 'w', 'w_scale', 'w_zero', 'y_scale', 'y_zero', 'bias'], context);
    const { x_scale, x_zero, w_scale, y_scale, y_zero, ...bound } = all as Record<'x_scale' | 'x_zero' | 'w_scale' | 'y_scale' | 'y_zero', DeviceTensor>;
    const scale = gathered(
      'QLinearConv',
      'float32',
      output[1]!,
      { x_scale, w_scale, y_scale },
      (s, channel) => `${s['x_scale']!.loadFlat('0u')} * ${parameter(s['w_scale'], [], channel, '1.0f')} / ${s['y_scale']!.loadFlat('0u')}`,
      context,
    );
    const zeros = gathered(
      'QLinearConv',
      'int32',
      2,
      { x_zero, y_zero },
      (z, at) => `select(i32(${z['y_zero']!.loadFlat('0u')}), i32(${z['x_zero']!.loadFlat('0u')}), ${at} == 0u)`,
      context,
    );
    lowerElements<string>(context, node.outputs[0]!, {
      label: 'QLinearConv',
      inputs: { ...bound, scale, zeros },
      body({ block, at, inputs, outputs }) {
        const channel = at[1]!;
        const xZero = block.let('xz', inputs['zeros']!.loadFlat('0u'));
        const wZero = block.let('wz', `i32(${parameter(inputs['w_zero'], at, channel, '0')})`);
        const sum = block.var('sum', parameter(inputs['bias'], at, channel, '0i'));
        const term = (a: string, b: string): string => `(i32(${a}) - ${xZero}) * (i32(${b}) - ${wZero})`;
        emitWindowSum(block, at, { x: inputs['x']!, w: inputs['w']!, output, attrs: node.attrs, transposed: false, term }, sum);
        return requantized(outputs.result.tensor, sum, inputs['scale']!.loadFlat(channel), inputs['zeros']!.loadFlat('1u'));
      },
    });
  },
};

/** Which matrices lie with their last two axes swapped. */
interface Transposed {
  readonly transA: 0 | 1;
  readonly transB: 0 | 1;
}

const AS_GIVEN: Transposed = { transA: 0, transB: 0 };

/** Adds term(a, b) to `sum` along the inner axis of a product with MatMul's broadcasting. */
function emitDot(block: Block, at: readonly string[], a: BoundTensor, b: BoundTensor, sum: string, term: (a: string, b: string) => string, { transA, transB } = AS_GIVEN): void {
  const [aDims, bDims] = [a.tensor.dims, b.tensor.dims];
  const batch = at.slice(0, at.length - (aDims.length > 1 ? 1 : 0) - (bDims.length > 1 ? 1 : 0));
  const lead = (dims: Dims): string[] => {
    const own = dims.slice(0, -2);
    return own.map((dim, axis) => (dim === 1 ? '0u' : batch[axis + batch.length - own.length]!));
  };
  const { row, column } = placeOf(at, a, b);
  block.for('k', '0u', `${aDims.at(transA ? -2 : -1)}u`, '1u', (loop) => {
    const left = a.load(aDims.length === 1 ? ['k'] : [...lead(aDims), ...(transA ? ['k', row] : [row, 'k'])]);
    const right = b.load(bDims.length === 1 ? ['k'] : [...lead(bDims), ...(transB ? [column, 'k'] : ['k', column])]);
    loop.line(`${sum} += ${term(left, right)}`);
  });
}

function placeOf(at: readonly string[], a: BoundTensor, b: BoundTensor): { readonly row: string; readonly column: string } {
  const matrix = b.tensor.dims.length > 1;
  const column = matrix ? at.at(-1)! : '0u';
  const row = a.tensor.dims.length > 1 ? at.at(matrix ? -2 : -1)! : '0u';
  return { row, column };
}

const matMulInteger: Lowering<'MatMulInteger'> = {
  lower(node, context) {
    lowerElements<string>(context, node.outputs[0]!, {
      label: 'MatMulInteger',
      inputs: named(node, ['a', 'b', 'a_zero', 'b_zero'], context),
      body({ block, at, inputs }) {
        const [a, b] = [inputs['a']!, inputs['b']!];
        const { row, column } = placeOf(at, a, b);
        const aZero = block.let('az', `i32(${parameter(inputs['a_zero'], at, row, '0')})`);
        const bZero = block.let('bz', `i32(${parameter(inputs['b_zero'], at, column, '0')})`);
        const sum = block.var('sum', '0i');
        emitDot(block, at, a, b, sum, (x, y) => `(i32(${x}) - ${aZero}) * (i32(${y}) - ${bZero})`);
        return sum;
      },
    });
  },
};

const qLinearMatMul: Lowering<'QLinearMatMul'> = {
  lower(node, context) {
    const all = named(node, ['a', 'a_scale', 'a_zero', 'b', 'b_scale', 'b_zero', 'y_scale', 'y_zero'], context);
    const { y_scale, y_zero, ...bound } = all as Record<'y_scale' | 'y_zero', DeviceTensor>;
    const result = gathered(
      'QLinearMatMul',
      'float32',
      2,
      { y_scale, y_zero },
      (y, at) => `select(f32(${y['y_zero']!.loadFlat('0u')}), ${y['y_scale']!.loadFlat('0u')}, ${at} == 0u)`,
      context,
    );
    lowerElements<string>(context, node.outputs[0]!, {
      label: 'QLinearMatMul',
      inputs: { ...bound, result_parameters: result },
      body({ block, at, inputs, outputs }) {
        const [a, b] = [inputs['a']!, inputs['b']!];
        const { row, column } = placeOf(at, a, b);
        const aZero = block.let('az', `i32(${parameter(inputs['a_zero'], at, row, '0')})`);
        const bZero = block.let('bz', `i32(${parameter(inputs['b_zero'], at, column, '0')})`);
        const scales = `${parameter(inputs['a_scale'], at, row, '1.0f')} * ${parameter(inputs['b_scale'], at, column, '1.0f')}`;
        const scale = block.let('scale', `${scales} / ${inputs['result_parameters']!.loadFlat('0u')}`);
        const sum = block.var('sum', '0i');
        emitDot(block, at, a, b, sum, (x, y) => `(i32(${x}) - ${aZero}) * (i32(${y}) - ${bZero})`);
        return requantized(outputs.result.tensor, sum, scale, inputs['result_parameters']!.loadFlat('1u'));
      },
    });
  },
};

/** A product with factors, an addend and an epilogue: of floats where there is nothing to sum, of integers modulo the type's range. */
interface DirectProduct extends Transposed {
  readonly alpha: number;
  readonly beta: number;
  readonly epilogue?: Epilogue;
}

function lowerDirectProduct(node: Node<'MatMul' | 'Gemm' | 'FusedMatMul'>, product: DirectProduct, context: LowerContext): void {
  const { alpha, beta, epilogue } = product;
  lowerElements<string>(context, node.outputs[0]!, {
    label: node.op,
    inputs: { ...named(node, ['a', 'b', 'c'], context), ...extrasOf(epilogue, context) },
    body(scope) {
      const { module, block, at, inputs } = scope;
      const { dtype } = inputs['a']!.tensor;
      const type = registerType(dtype);
      const times = (factor: number, value: string): string => (factor === 1 ? value : `${literal(module, factor, type)} * ${value}`);
      const sum = block.var('sum', `${type}()`);
      emitDot(block, at, inputs['a']!, inputs['b']!, sum, (x, y) => `${x} * ${y}`, product);
      const addend = beta === 0 ? undefined : inputs['c'];
      const added = addend ? ` + ${times(beta, addend.load(broadcastPlace(addend.tensor.dims, at)))}` : '';
      return ended(scope, wrapInteger(dtype, block.let('scaled', `${times(alpha, sum)}${added}`)), epilogue);
    },
  });
}

const matMul: Lowering<'MatMul'> = {
  lower: (node, context) => lowerDirectProduct(node, { ...AS_GIVEN, alpha: 1, beta: 0 }, context),
};

const gemm: Lowering<'Gemm'> = {
  unsupported(node, graph) {
    const { dtype } = typeOf(graph, node.inputs[0]!);
    const factors = [node.attrs.alpha, node.attrs.beta];
    return registerType(dtype) === 'f32' || factors.every(Number.isInteger) ? undefined : `no kernel for ${dtype} with factors of ${factors.join(' and ')}`;
  },
  lower: (node, context) => lowerDirectProduct(node, node.attrs, context),
};

const fusedMatMul: Lowering<'FusedMatMul'> = {
  lower(node, context) {
    const { transA, transB, alpha, epilogue: expr } = node.attrs;
    lowerDirectProduct(node, { transA, transB, alpha, beta: 1, epilogue: { expr, extras: node.inputs.slice(3) } }, context);
  },
};

export const DIRECT_LOWERINGS = {
  Conv: { lower: (node, context) => lowerDirectConv(node, undefined, context) },
  ConvInteger: convInteger,
  ConvTranspose: { lower: (node, context) => lowerDirectConv(node, undefined, context) },
  FusedConv: { lower: (node, context) => lowerDirectConv(node, { expr: node.attrs.epilogue, extras: node.inputs.slice(3) }, context) },
  FusedMatMul: fusedMatMul,
  Gemm: gemm,
  MatMul: matMul,
  MatMulInteger: matMulInteger,
  QLinearConv: qLinearConv,
  QLinearMatMul: qLinearMatMul,
} satisfies LoweringTable;
