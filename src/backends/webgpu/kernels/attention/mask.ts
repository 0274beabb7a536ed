/** The additive mask of attention: four neighbouring keys' values, whatever it is broadcast along. */
import { address, inUnits, isAligned } from '../../lower/space.ts';
import { storedBytes } from '../../lower/tensor.ts';
import { bindElements } from '../../wgsl/access.ts';
import type { ModuleBuilder } from '../../wgsl/module.ts';
import type { AttentionOperand } from './spec.ts';

/** Binds the mask; gives the code of a vec4<f32> at [batch, head, query, key], with the key a multiple of four. */
export function bindMask(module: ModuleBuilder, { tensor, view }: AttentionOperand, { length }: { readonly length: number }): (at: readonly string[]) => string {
  const perKey = view.strides[3]!;
  const whole = perKey === 1 && length % 4 === 0 && isAligned(view, 4, 3);
  const access = bindElements(module, 'mask', tensor, storedBytes(tensor), whole ? 4 : 1, 'read');
  const clamped = (key: string): string => `min(${key}, ${length - 1}u)`;
  if (whole) {
    const fours = inUnits(view, 4, 3);
    return ([batch, head, query, key]) => access.load(address(fours, [batch!, head!, query!, `(${clamped(key!)} / 4u)`]));
  }
  return ([batch, head, query, key]) => {
    const lane = (i: number): string => access.load(address(view, [batch!, head!, query!, clamped(`${key} + ${i}u`)]));
    return perKey === 0 ? `vec4<f32>(${lane(0)})` : `vec4<f32>(${[0, 1, 2, 3].map(lane).join(', ')})`;
  };
}
