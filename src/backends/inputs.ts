/** Checks requests against an engine's bindings, for every backend in the same words. */
import type { Binding } from '../engine/engine.ts';
import { TsrtError } from '../errors.ts';
import { formatType, sameDims, tensorBytes, unshared, type Dims, type Tensor } from '../ir/tensor.ts';
import type { TensorMap } from './backend.ts';

/** Where the data decide a length, the binding has its upper bound. */
function fits(dims: Dims, binding: Binding): boolean {
  if (!binding.dynamic) return sameDims(dims, binding.dims);
  return dims.length === binding.dims.length && dims.every((dim, axis) => dim <= binding.dims[axis]!);
}

/** Of whichever realm: a page's frames and tests have classes of their own. A Buffer is one, too. */
function isBytes(data: unknown): boolean {
  return ArrayBuffer.isView(data) && classOf(data) === 'Uint8Array';
}

function classOf(value: unknown): string {
  return Object.prototype.toString.call(value).slice('[object '.length, -1);
}

/** What does not fit; undefined where all does. Programs in plain JavaScript give anything, other libraries' tensors and bare arrays before all. */
function misfit(binding: Binding, given: unknown): string | undefined {
  const expected = `expected ${formatType(binding)}`;
  if (given === undefined || given === null) return `${expected}, found nothing`;
  const { dtype, dims, data } = given as Partial<Tensor>;
  if (typeof dtype !== 'string' || !Array.isArray(dims)) return `${expected} as { dtype, dims, data }, found ${classOf(given)} without ${typeof dtype === 'string' ? 'dims' : 'dtype'}`;
  const type = { dtype, dims: dims as Dims };
  if (dtype !== binding.dtype || !fits(type.dims, binding)) return `${expected}, found ${formatType(type)}`;
  // Elements of another class would be taken for bytes, or converted one by one, according to the type.
  if (!isBytes(data)) return `expected the elements' bytes in a Uint8Array, found ${classOf(data)}`;
  const bytes = tensorBytes(type);
  return data!.byteLength === bytes ? undefined : `${formatType(type)} takes ${bytes} bytes, found ${data!.byteLength}`;
}

/** The request's tensors in the bindings' order. Throws TsrtError USAGE that names every input that is wrong. */
export function checkInputs(bindings: readonly Binding[], inputs: TensorMap): readonly Tensor[] {
  const given: Readonly<Record<string, Tensor>> = Object(inputs) === inputs ? inputs : {};
  const known = new Set(bindings.map((binding) => binding.name));
  const tensorOf = ({ name }: Binding): Tensor | undefined => (Object.hasOwn(given, name) ? given[name] : undefined);
  const details = bindings.flatMap((binding) => {
    const wrong = misfit(binding, tensorOf(binding));
    return wrong === undefined ? [] : [`${binding.name}: ${wrong}`];
  });
  for (const name of Object.keys(given)) if (!known.has(name)) details.push(`${name}: no such input`);
  if (details.length === 0) return bindings.map((binding) => {
    const tensor = tensorOf(binding)!;
    const data = unshared(tensor.data);
    return data === tensor.data ? tensor : { ...tensor, data };
  });
  throw new TsrtError('USAGE', 'the inputs do not fit the engine', {
    details,
    fix: `The engine takes ${bindings.map((binding) => `${binding.name} ${formatType(binding)}`).join(', ') || 'no inputs'}.`,
  });
}
