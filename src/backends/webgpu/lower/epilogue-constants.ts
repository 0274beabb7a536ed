/**
 * Factors of an epilogue as data in place of code: layers that differ in their scales alone then share a pipeline. A pipeline of a matrix
 * kernel costs a driver up to a second, and a network of one kernel after another runs from the caches of their instructions.
 */
import type { Expr } from '../../../ir/expr.ts';
import { rightTensors } from '../kernels/few-bits/weights.ts';
import type { PackedSpec } from '../kernels/packed/spec.ts';
import { wideTensors } from '../kernels/packed/epilogue.ts';
import { momentTensors } from '../kernels/packed/moments.ts';
import type { LowerContext } from './context.ts';

/** The specification with the numbers of its expression in a buffer; as it is where there are none, or the device has no binding left. */
export function withConstants(spec: PackedSpec, context: Pick<LowerContext, 'profile' | 'pack'>): PackedSpec {
  const bound = 1 + (spec.scaleOfA ? 1 : 0) + rightTensors(spec.b).length + wideTensors(spec).length + (spec.normalization ? momentTensors(spec.normalization).length : 0);
  if (!spec.epilogue || spec.constants || bound >= context.profile.maxStorageBuffers) return spec;
  const values: number[] = [];
  const epilogue = lift(spec.epilogue, spec.extras.length + 1, values);
  if (values.length === 0) return spec;
  const stored = Math.ceil(values.length / 4) * 4;
  const constants = context.pack(`epilogue:${values.join()}`, { dtype: 'float32', dims: [stored], storage: 'f32' }, () => Float32Array.from({ length: stored }, (_, i) => values[i] ?? 0));
  return { ...spec, epilogue, constants };
}

/**
 * Replaces factors, and whatever else is no whole number, by inputs from `first` on. Whole bounds and zero points stay: layers share them,
 * and a quantization is known by them.
 */
function lift(expr: Expr, first: number, values: number[]): Expr {
  const input = ({ value }: Extract<Expr, { kind: 'const' }>): Expr => ({ kind: 'input', index: first + values.push(value) - 1, dtype: 'float32' });
  const visit = (x: Expr, isFactor: boolean): Expr => {
    switch (x.kind) {
      case 'input':
        return x;
      case 'const':
        return x.dtype === 'float32' && Number.isFinite(x.value) && (isFactor || !Number.isInteger(x.value)) ? input(x) : x;
      case 'unary':
        return { ...x, x: visit(x.x, false) };
      case 'binary': {
        const factors = x.fn === 'mul' || x.fn === 'div';
        return { ...x, a: visit(x.a, factors), b: visit(x.b, factors) };
      }
      case 'select':
        return { ...x, condition: visit(x.condition, false), a: visit(x.a, false), b: visit(x.b, false) };
      case 'cast':
        return { ...x, x: visit(x.x, false) };
      default:
        return x satisfies never;
    }
  };
  return visit(expr, false);
}
