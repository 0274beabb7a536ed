/** Which floats of few bits a model quantizes to, for the notice that its products run in wider ones. */
import { isFewBitsFloat } from '../ir/few-bits.ts';
import { dtypeOfOnnx } from '../ops/specs.ts';
import { elementName } from './dtype.ts';
import type { OnnxModel, OnnxNode } from './model.ts';

/** Names of the types, in the order of the file; none where no node dequantizes. */
export function fewBitsFloats({ nodes, functions, initializers, inputs, valueInfo }: OnnxModel): readonly string[] {
  const all = [...nodes, ...functions.flatMap((body) => body.nodes)];
  if (!all.some(({ opType }) => opType === 'DequantizeLinear')) return [];
  const declared = [...inputs.map(({ type }) => type), ...valueInfo.values()].flatMap((type) => (type.kind === 'tensor' ? [type.dtypeName] : []));
  const held = [...initializers.values()].flatMap((value) => (value.kind === 'tensor' ? [value.tensor.dtype] : []));
  return [...new Set([...declared, ...held, ...all.flatMap(madeBy)])].filter((name) => isFewBitsFloat(name));
}

/** Types that a node names, or has a constant of. */
function madeBy({ attributes }: OnnxNode): string[] {
  return [...attributes].flatMap(([name, attribute]) => {
    if (attribute.kind === 'tensor' && attribute.value.kind === 'tensor') return [attribute.value.tensor.dtype];
    const isType = (name === 'to' || name === 'output_dtype') && attribute.kind === 'int';
    return isType && dtypeOfOnnx(attribute.value) ? [elementName(attribute.value)] : [];
  });
}
