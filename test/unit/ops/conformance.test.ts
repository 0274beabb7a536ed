/**
 * Shape inference against ONNX's own operator tests: every node of every model whose ops are in the table is inferred,
 * and what comes out must have the types of the expected outputs, and their values where inference claims to know them.
 */
import { readdirSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { isFewBits } from '../../../src/ir/few-bits.ts';
import { formatType, fromNumbers, toNumbers } from '../../../src/ir/tensor.ts';
import type { Tensor, TensorType } from '../../../src/ir/tensor.ts';
import type { OpKind } from '../../../src/ir/ops.ts';
import { importAttributes, readAttributes, writeAttributes } from '../../../src/ops/attributes.ts';
import { NotStaticError, UnsupportedError } from '../../../src/ops/def.ts';
import type { RawAttribute } from '../../../src/ops/def.ts';
import { boundedAxisOf } from '../../../src/ops/bounded.ts';
import { inferContext, inferNode, opCost, propagateNode } from '../../../src/ops/infer.ts';
import type { InputInfo } from '../../../src/ops/infer.ts';
import { OPS } from '../../../src/ops/table.ts';
import { sharedPath } from '../../helpers/shared.ts';
import { Exotic, readDataSet, readTestModel } from './decode.ts';
import type { TestModel, TestNode } from './decode.ts';

/** The opset at which an op's inputs became what the table says; older nodes are the importer's to upgrade. */
const UPGRADED_AT: Readonly<Record<string, number>> = {
  BatchNormalization: 14,
  Clip: 11,
  Dropout: 12,
  GroupNormalization: 21,
  Pad: 11,
  Resize: 11,
  Slice: 10,
  Split: 13,
  Squeeze: 13,
  TopK: 10,
  Unsqueeze: 13,
  ReduceSum: 13,
  ReduceL1: 18,
  ReduceL2: 18,
  ReduceLogSum: 18,
  ReduceLogSumExp: 18,
  ReduceMax: 18,
  ReduceMean: 18,
  ReduceMin: 18,
  ReduceProd: 18,
  ReduceSumSquare: 18,
};

type Outcome =
  | { readonly kind: 'compared'; readonly known: number }
  | { readonly kind: 'skipped'; readonly reason: 'op' | 'opset' | 'exotic' }
  | { readonly kind: 'unsupported' | 'dynamic'; readonly reason: string }
  | { readonly kind: 'wrong'; readonly reason: string };

function constantOf(attributes: ReadonlyMap<string, RawAttribute>): Tensor {
  const [[name, value] = []] = [...attributes];
  if (name === 'value') return value as Tensor;
  if (name === 'value_int') return fromNumbers('int64', [], [value as number]);
  if (name === 'value_float') return fromNumbers('float32', [], [value as number]);
  if (name === 'value_ints') return fromNumbers('int64', [(value as number[]).length], value as number[]);
  if (name === 'value_floats') return fromNumbers('float32', [(value as number[]).length], value as number[]);
  throw new Exotic(`Constant with ${name}`);
}

/** Infers one node; attributes must also survive the way to ONNX and back. */
function infer(node: TestNode, values: Map<string, Found>): void {
  if (node.op === 'Constant') {
    const tensor = constantOf(node.attributes());
    values.set(node.outputs[0]!, { type: tensor, constant: tensor });
    return;
  }
  const op = node.op as OpKind;
  const inputs = node.inputs.map((id) => (id === '' ? undefined : values.get(id)));
  // Taken apart at import: in the IR only casts know these types.
  if ((op === 'QuantizeLinear' || op === 'DequantizeLinear') && inputs.some((info) => info && isFewBits(info.type.dtype))) throw new Exotic(`${op} of few bits`);
  const context = inferContext(inputs, node.outputs.length);
  const attrs = importAttributes(op, node.attributes(), context);
  const written = new Map([...writeAttributes(op, attrs)].map(([name, { value }]) => [name, value]));
  expect(readAttributes(op, written)).toEqual(attrs);
  const types = inferNode(op, attrs, context);
  const known = propagateNode(op, attrs, context);
  const cost = opCost(op, attrs, inputs.map((info) => info?.type), types);
  expect(Number.isFinite(cost.flops) && cost.flops >= 0 && Number.isFinite(cost.bytes) && cost.bytes >= 0).toBe(true);
  const bounded = boundedAxisOf(op, attrs, context);
  for (const [i, id] of node.outputs.entries()) values.set(id, { type: types[i]!, known: known[i], ...(i === 0 && bounded !== undefined && { bounded }) });
}

/** The type that was found, with the length that the data gave where it is only bounded. */
function within({ type, bounded }: Found, { dims }: Tensor): TensorType {
  if (bounded === undefined || dims[bounded]! > type.dims[bounded]!) return type;
  return { dtype: type.dtype, dims: type.dims.with(bounded, dims[bounded]!) };
}

/** `bounded`: the axis along which the type is an upper bound. */
type Found = InputInfo & { readonly bounded?: number };

function differences(id: string, expected: Tensor, found: Found): string[] {
  const type = within(found, expected);
  if (formatType(type) !== formatType(expected)) return [`${id} is ${formatType(expected)}, inferred ${formatType(type)}`];
  if (!found.known) return [];
  const values = toNumbers(expected);
  const same = found.known.length === values.length && found.known.every((value, i) => Object.is(value + 0, values[i]! + 0));
  return same ? [] : [`${id} is [${values.join(',')}], propagated [${found.known.join(',')}]`];
}

function runCase(folder: string, model: TestModel): Outcome {
  if (!model.nodes.every((node) => node.domain === '' && (node.op in OPS || node.op === 'Constant'))) return { kind: 'skipped', reason: 'op' };
  if (model.nodes.some((node) => model.opset < (UPGRADED_AT[node.op] ?? 0))) return { kind: 'skipped', reason: 'opset' };
  try {
    const expected = readDataSet(folder, model.name, 'output');
    const values = new Map<string, Found>();
    for (const [id, tensor] of model.initializers()) values.set(id, { type: tensor, constant: tensor });
    for (const [i, tensor] of readDataSet(folder, model.name, 'input').entries()) {
      values.set(model.inputs[i]!, { type: tensor, constant: tensor });
    }
    for (const node of model.nodes) infer(node, values);
    const wrong = model.outputs.flatMap((id, i) => differences(id, expected[i]!, values.get(id)!));
    if (wrong.length > 0) return { kind: 'wrong', reason: wrong.join('; ') };
    return { kind: 'compared', known: model.outputs.filter((id) => values.get(id)?.known).length };
  } catch (error) {
    if (error instanceof Exotic) return { kind: 'skipped', reason: 'exotic' };
    const reason = error instanceof Error ? error.message : String(error);
    if (error instanceof UnsupportedError) return { kind: 'unsupported', reason };
    if (error instanceof NotStaticError) return { kind: 'dynamic', reason };
    return { kind: 'wrong', reason };
  }
}

const folder = sharedPath('conformance', 'node');

describe.skipIf(!folder)(`inference on ONNX operator tests${folder ? '' : ' (skipped: no conformance data beside the repository)'}`, () => {
  const outcomes = new Map<string, Outcome>();
  const namesOf = (kind: Outcome['kind']): string[] => [...outcomes].filter(([, outcome]) => outcome.kind === kind).map(([name]) => name);
  const skipped = (reason: string): number =>
    [...outcomes.values()].filter((outcome) => outcome.kind === 'skipped' && outcome.reason === reason).length;

  beforeAll(() => {
    for (const name of readdirSync(folder!)) outcomes.set(name, runCase(folder!, readTestModel(folder!, name)));
  }, 120_000);

  it('gives the types and values that the models really give', () => {
    const wrong = [...outcomes].flatMap(([name, outcome]) => (outcome.kind === 'wrong' ? [`${name}: ${outcome.reason}`] : []));
    expect(wrong).toEqual([]);
    expect(namesOf('compared').length).toBeGreaterThanOrEqual(840);
    const known = [...outcomes.values()].filter((outcome) => outcome.kind === 'compared' && outcome.known > 0);
    expect(known.length).toBeGreaterThanOrEqual(190);
  });

  it('refuses only what the table leaves out', () => {
    expect(namesOf('unsupported')).toEqual(['test_spacetodepth_dcr_mode_example']);
    expect(namesOf('dynamic').filter((name) => !name.startsWith('test_nonmaxsuppression'))).toEqual([]);
  });

  it('skips few models', () => {
    expect(skipped('op')).toBeLessThanOrEqual(197);
    expect(skipped('opset')).toBeLessThanOrEqual(26);
    expect(skipped('exotic')).toBeLessThanOrEqual(7);
  });
});

const models = sharedPath('conformance', 'models');

describe.skipIf(!models)(`inference on exported networks${models ? '' : ' (skipped: no conformance data beside the repository)'}`, () => {
  it.each(['mobilenetv3_small_050_dynamo18', 'resnet10t_dynbatch17', 'vit_tiny_depth4_dynamo20', 'regnetx_002_13'])('%s', (name) => {
    expect(runCase(models!, readTestModel(models!, name))).toEqual({ kind: 'compared', known: 0 });
  });
});
