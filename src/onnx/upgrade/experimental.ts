/**
 * Experimental ops, which ONNX removed at opset 10 (https://github.com/onnx/onnx/blob/rel-1.4/docs/Operators.md): converters from Core ML and
 * Keras wrote them, and networks of that time are still about. onnxruntime keeps their kernels.
 */
import { fromNumbers } from '../../ir/tensor.ts';
import { ShapeError } from '../../ops/def.ts';
import type { Scope, SourceNode } from '../scope.ts';
import { inputOf, int64Input, intsAttribute, numberAttribute, scalarInput, type Rule } from './rule.ts';

/** x · `factor`, as the node's output or on the way there. */
function times(node: SourceNode, scope: Scope, id: string, factor: number, outputs?: readonly string[]): string {
  return scope.emit(node, 'Mul', [id, scalarInput(scope, scope.type(id).dtype, factor)], {}, outputs)[0]!;
}

/** scale · x + a bias for each channel. */
const imageScaler: Rule = (node, scope) => {
  const data = inputOf(node, 0);
  const { dtype, dims } = scope.type(data);
  const bias = node.attributes.get('bias');
  if (dims.length !== 4 || !Array.isArray(bias) || bias.length !== dims[1]) throw new ShapeError(`attribute 'bias' must hold a number for each channel of [${dims.join(',')}]`);
  const column = scope.addConstant(fromNumbers(dtype, [bias.length, 1, 1], bias as readonly number[]));
  scope.emit(node, 'Add', [times(node, scope, data, numberAttribute(node, 'scale', 1)), column], {}, node.outputs);
};

/** alpha · x + beta. */
const affine: Rule = (node, scope) => {
  const data = inputOf(node, 0);
  const beta = scalarInput(scope, scope.type(data).dtype, numberAttribute(node, 'beta'));
  scope.emit(node, 'Add', [times(node, scope, data, numberAttribute(node, 'alpha')), beta], {}, node.outputs);
};

/** alpha · f(beta · x). */
function scaled(op: 'Softplus' | 'Tanh'): Rule {
  return (node, scope) => {
    const [inner] = scope.emit(node, op, [times(node, scope, inputOf(node, 0), numberAttribute(node, 'beta'))], {});
    times(node, scope, inner!, numberAttribute(node, 'alpha'), node.outputs);
  };
}

/** Borders left, top, right and bottom taken off a picture, or `scale` rows and columns of it behind the first two. */
const crop: Rule = (node, scope) => {
  const data = inputOf(node, 0);
  const { dims } = scope.type(data);
  const [border, size] = [intsAttribute(node, 'border'), intsAttribute(node, 'scale')];
  if (dims.length !== 4 || border?.length !== 4) throw new ShapeError(`attribute 'border' must hold 4 numbers for a picture of [${dims.join(',')}]`);
  if (size && size.length !== 2) throw new ShapeError(`attribute 'scale' must hold 2 numbers`);
  const [left, top, right, bottom] = border as readonly [number, number, number, number];
  const starts = [top, left];
  const ends = size ? starts.map((start, at) => start + size[at]!) : [dims[2]! - bottom, dims[3]! - right];
  if (starts.some((start, at) => start < 0 || ends[at]! <= start || ends[at]! > dims[2 + at]!)) throw new ShapeError(`rows and columns from [${starts.join(',')}] to [${ends.join(',')}] are not in [${dims.join(',')}]`);
  scope.emit(node, 'Slice', [data, ...[starts, ends, [2, 3]].map((values) => int64Input(scope, values))], {}, node.outputs);
};

export const EXPERIMENTAL_RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  ['Affine', affine],
  ['Crop', crop],
  ['ImageScaler', imageScaler],
  ['ParametricSoftplus', scaled('Softplus')],
  ['ScaledTanh', scaled('Tanh')],
]);
