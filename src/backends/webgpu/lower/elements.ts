/** An output computed or moved element by element: what most lowerings without a template of their own come down to. */
import { type Dims, elementCount } from '../../../ir/tensor.ts';
import { inputExpr, mapKernel } from '../kernels/map.ts';
import { elementKernel, type PointScope } from '../kernels/pointwise.ts';
import type { LowerContext } from './context.ts';
import type { DeviceTensor, Layout, View } from './tensor.ts';

/** Declares an output and the kernel that computes each of its elements; an empty output needs none. */
export function lowerElements<In extends string>(
  context: LowerContext,
  id: string,
  spec: {
    readonly label: string;
    readonly inputs: Readonly<Record<In, DeviceTensor>>;
    readonly layout?: Layout;
    body(scope: PointScope<In, 'result'>): string;
  },
): void {
  const output = context.target(id, spec.layout ?? 'linear');
  if (elementCount(output.dims) > 0) context.dispatch(elementKernel({ ...spec, output }, context.profile));
}

/** Elements on their way from one tensor to another. */
interface Move {
  readonly label: string;
  /** The walk's axes; axis 1 are the channels where `padChannels`. */
  readonly dims: Dims;
  readonly source: DeviceTensor;
  readonly from: View;
  readonly target: DeviceTensor;
  readonly to: View;
  readonly padChannels?: boolean;
}

export function move(context: LowerContext, { label, dims, source, from, target, to, padChannels = false }: Move): void {
  if (elementCount(dims) === 0) return;
  const inputs = [{ tensor: source, view: from }];
  const outputs = [{ tensor: target, view: to, expr: inputExpr(source.dtype) }];
  context.dispatch(mapKernel({ label, dims, inputs, outputs, padChannels }, context.profile));
}
