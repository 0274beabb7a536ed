/** A custom op's reference, run: plain TypeScript in float64, on tensors and with the result rounded to its element type. */
import type { CustomDefinition, Operands, ReferenceTensor } from '../ir/custom.ts';
import { elementCount, formatType, fromNumbers, toNumbers, type Tensor, type TensorType } from '../ir/tensor.ts';
import { inOp } from './custom.ts';

/** The outputs' values, unrounded; `outputs` are the types that the op inferred. Throws what names the plugin. */
export function referenceValues(definition: CustomDefinition, inputs: readonly (Tensor | undefined)[], outputs: readonly TensorType[]): readonly Float64Array[] {
  return runReferenceOn(definition, referenceInputs(definition, inputs), outputs);
}

/** Tensors as a reference gets them: copies, so that the caller may see what becomes of them. */
export function referenceInputs({ op }: CustomDefinition, inputs: readonly (Tensor | undefined)[]): readonly (ReferenceTensor | undefined)[] {
  return op.inputs.map((_, index) => {
    const tensor = inputs[index];
    return tensor && { dtype: tensor.dtype, dims: tensor.dims, values: Float64Array.from(toNumbers(tensor)) };
  });
}

export function runReferenceOn(definition: CustomDefinition, given: readonly (ReferenceTensor | undefined)[], outputs: readonly TensorType[]): readonly Float64Array[] {
  const { op, attrs } = definition;
  return inOp(definition, 'reference', () => {
    const values = op.reference({ attrs, inputs: given as Operands<ReferenceTensor>, outputs });
    if (!Array.isArray(values) || values.length !== outputs.length) throw new Error(`it gives ${Array.isArray(values) ? values.length : 'no list of'} outputs, the op has ${outputs.length}`);
    return outputs.map((type, index) => {
      const list = values[index] as ArrayLike<number> | undefined;
      const count = elementCount(type.dims);
      if (list?.length !== count) throw new Error(`output '${op.outputs[index]}' has ${list?.length ?? 'no'} values, and infer says ${formatType(type)}, that is ${count}`);
      const strange = Array.prototype.findIndex.call(list, (value: unknown) => typeof value !== 'number');
      if (strange >= 0) throw new Error(`element ${strange} of output '${op.outputs[index]}' is ${String(list[strange])}, a ${typeof list[strange]}: a reference gives numbers`);
      return Float64Array.from(list);
    });
  });
}

export function runReference(definition: CustomDefinition, inputs: readonly (Tensor | undefined)[], outputs: readonly TensorType[]): Tensor[] {
  return referenceValues(definition, inputs, outputs).map((values, index) => fromNumbers(outputs[index]!.dtype, outputs[index]!.dims, values));
}
