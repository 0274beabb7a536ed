/** An output computed element by element: what most lowerings without a template of their own come down to. */
import { elementCount } from '../../../ir/tensor.ts';
import { elementKernel, type PointScope } from '../kernels/pointwise.ts';
import type { LowerContext } from './context.ts';
import type { DeviceTensor, Layout } from './tensor.ts';

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
