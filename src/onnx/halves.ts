/** Whether a model's own nodes compute in halves. */
import type { OnnxModel, OnnxValue } from './model.ts';

const isHalf = ({ type }: OnnxValue): boolean => type.kind === 'tensor' && type.dtype === 'float16';

/** Halves that are only stored, and cast before anything is computed, do not count. */
export function computesInHalves({ inputs, outputs, initializers, nodes }: Pick<OnnxModel, 'inputs' | 'outputs' | 'initializers' | 'nodes'>): boolean {
  if ([...inputs, ...outputs].some(isHalf)) return true;
  const isHalfConstant = (name: string): boolean => {
    const value = initializers.get(name);
    return value?.kind === 'tensor' && value.tensor.dtype === 'float16';
  };
  return nodes.some(({ opType, inputs: read }) => opType !== 'Cast' && read.some(isHalfConstant));
}
