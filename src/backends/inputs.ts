/** Checks requests against an engine's bindings, for every backend in the same words. */
import type { Binding } from '../engine/engine.ts';
import { TsrtError } from '../errors.ts';
import { formatType, sameDims, tensorBytes, type Dims, type Tensor } from '../ir/tensor.ts';
import type { TensorMap } from './backend.ts';

/** Where the data decide a length, the binding has its upper bound. */
function fits(dims: Dims, binding: Binding): boolean {
  if (!binding.dynamic) return sameDims(dims, binding.dims);
  return dims.length === binding.dims.length && dims.every((dim, axis) => dim <= binding.dims[axis]!);
}

/** The request's tensors in the bindings' order. Throws TsrtError USAGE that names every input that is wrong. */
export function checkInputs(bindings: readonly Binding[], inputs: TensorMap): readonly Tensor[] {
  const details: string[] = [];
  const tensors = bindings.flatMap((binding): Tensor[] => {
    const tensor = Object.hasOwn(inputs, binding.name) ? inputs[binding.name] : undefined;
    if (!tensor) details.push(`${binding.name}: expected ${formatType(binding)}, found nothing`);
    else if (tensor.dtype !== binding.dtype || !fits(tensor.dims, binding)) {
      details.push(`${binding.name}: expected ${formatType(binding)}, found ${formatType(tensor)}`);
    } else if (tensor.data.byteLength !== tensorBytes(tensor)) {
      details.push(`${binding.name}: ${formatType(tensor)} takes ${tensorBytes(tensor)} bytes, found ${tensor.data.byteLength}`);
    } else return [tensor];
    return [];
  });
  const known = new Set(bindings.map((binding) => binding.name));
  for (const name of Object.keys(inputs)) if (!known.has(name)) details.push(`${name}: no such input`);
  if (details.length === 0) return tensors;
  throw new TsrtError('USAGE', 'the inputs do not fit the engine', {
    details,
    fix: `The engine takes ${bindings.map((binding) => `${binding.name} ${formatType(binding)}`).join(', ') || 'no inputs'}.`,
  });
}
