/**
 * The reference of made-up answers: what a fault-free fp32 engine of this backend says. A real reference would call every null
 * variant wrong.
 */
import type { BuildOptions } from '../../engine/engine.ts';
import { TsrtError } from '../../errors.ts';
import { readModel } from '../../onnx/model.ts';
import type { TensorValue } from '../../onnx/value.ts';
import type { Backend, ReferenceModel } from '../backend.ts';
import { readBuildInput } from '../compile.ts';
import { nullHeader } from './header.ts';
import { openNullSession } from './session.ts';

export function openNullReference({ bytes, folder }: Parameters<NonNullable<Backend['reference']>>[0]): ReferenceModel {
  const model = readModel(bytes, { folder });
  const run: ReferenceModel['run'] = async (values) => {
    const inputs = [...values].map(([name, value]) => {
      if (value.kind !== 'tensor') {
        throw new TsrtError('MODEL_UNSUPPORTED', `input '${name}' is not a tensor that the null backend reads`, { fix: 'use --backend onnxruntime' });
      }
      return [name, value.tensor] as const;
    });
    const options: BuildOptions = {
      backend: 'null',
      precision: 'fp32',
      fusion: 'off',
      batch: inputs[0]?.[1].dims[0] ?? 1,
      dims: {},
      inputShapes: Object.fromEntries(inputs.map(([name, tensor]) => [name, tensor.dims])),
      disabledPasses: [],
      workspaceBytes: undefined,
      backendOptions: {},
    };
    const input = await readBuildInput({ modelBytes: bytes, modelName: model.name, folder, options, rebatch: false });
    const session = await openNullSession({ header: nullHeader(input, 0), parts: new Map() });
    const outputs = await session.run(Object.fromEntries(inputs));
    return new Map(Object.entries(outputs).map(([name, tensor]): [string, TensorValue] => [name, { kind: 'tensor', tensor }]));
  };
  const names = (listed: readonly { readonly name: string }[]) => listed.map(({ name }) => name);
  return { inputNames: names(model.inputs), outputNames: names(model.outputs), run, dispose: () => Promise.resolve() };
}
