/**
 * A model whose inputs and outputs are of types of few bits, for the reference: onnxruntime runs the file's own nodes, and casts to and from the wider types that
 * its JavaScript tensors have stand at the borders. The casts are exact, as what comes in has one of the type's numbers.
 */
import type { onnx as Onnx } from 'onnx-proto';
import { freshName } from '../../ir/build.ts';
import { isFewBitsFloat } from '../../ir/few-bits.ts';
import type { DType } from '../../ir/tensor.ts';
import { onnx } from '../../onnx/proto.ts';
import { boundedReader } from '../../onnx/reader.ts';
import { dtypeOfOnnx, ONNX_DTYPE } from '../../ops/specs.ts';
import { carrierOf } from './carriers.ts';

type GraphProto = Onnx.IGraphProto;
type NodeProto = Onnx.INodeProto;
type ValueInfo = Onnx.IValueInfoProto;

export interface CastModel {
  readonly bytes: Uint8Array;
  /** The outputs' types in the file, by name. */
  readonly outputs: ReadonlyMap<string, DType>;
}

/** Undefined for a model without such inputs and outputs. */
export function castBindings(bytes: Uint8Array): CastModel | undefined {
  const model = onnx.ModelProto.decode(boundedReader(bytes));
  const { graph } = model;
  if (!graph) return undefined;
  const given = new Set((graph.initializer ?? []).map(({ name }) => name));
  const inputs = (graph.input ?? []).filter((value) => !given.has(value.name) && fewBitsOf(value));
  const outputs = (graph.output ?? []).filter(fewBitsOf);
  if (inputs.length + outputs.length === 0) return undefined;
  const names = new Set(namesIn(graph));
  const renamed = new Map([...inputs, ...outputs].map(({ name }) => [name!, freshName(names, `${name}_few_bits`)] as const));
  rename(graph.node ?? [], renamed);
  const before = inputs.map((value) => castNode(value.name!, renamed.get(value.name!)!, fewBitsOf(value)!));
  const behind = outputs.map((value) => castNode(renamed.get(value.name!)!, value.name!, carrierOf(fewBitsOf(value)!)));
  const types = new Map(outputs.map((value) => [value.name!, fewBitsOf(value)!] as const));
  for (const value of [...inputs, ...outputs]) value.type!.tensorType!.elemType = ONNX_DTYPE[carrierOf(fewBitsOf(value)!)];
  graph.node = [...before, ...(graph.node ?? []), ...behind];
  // Types that the file says of values which are others now.
  graph.valueInfo = (graph.valueInfo ?? []).filter(({ name }) => !renamed.has(name!));
  return { bytes: onnx.ModelProto.encode(model).finish().slice(), outputs: types };
}

/** The type where it is one that onnxruntime-node's tensors lack. */
function fewBitsOf({ type }: ValueInfo): DType | undefined {
  const dtype = type?.tensorType?.elemType ? dtypeOfOnnx(type.tensorType.elemType) : undefined;
  return dtype && carrierOf(dtype) !== dtype ? dtype : undefined;
}

/** Without saturation, which would take infinities away, and which onnxruntime lets nobody speak of but for floats of 8 bits. */
function castNode(from: string, to: string, dtype: DType): NodeProto {
  const { INT } = onnx.AttributeProto.AttributeType;
  const open = isFewBitsFloat(dtype) && dtype !== 'float8e8m0' ? [{ name: 'saturate', type: INT, i: 0 }] : [];
  return { opType: 'Cast', name: `cast of ${from}`, input: [from], output: [to], attribute: [{ name: 'to', type: INT, i: ONNX_DTYPE[dtype] }, ...open] };
}

const graphsIn = (node: NodeProto): readonly GraphProto[] => (node.attribute ?? []).flatMap(({ g, graphs }) => [...(g ? [g] : []), ...(graphs ?? [])]);

function namesIn(graph: GraphProto): string[] {
  const nodes = graph.node ?? [];
  return [...(graph.input ?? []), ...(graph.output ?? []), ...(graph.initializer ?? [])].map(({ name }) => name ?? '').concat(nodes.flatMap((node) => [...(node.input ?? []), ...(node.output ?? []), ...graphsIn(node).flatMap(namesIn)]));
}

function rename(nodes: readonly NodeProto[], renamed: ReadonlyMap<string, string>): void {
  const known = (name: string): string => renamed.get(name) ?? name;
  for (const node of nodes) {
    node.input = (node.input ?? []).map(known);
    node.output = (node.output ?? []).map(known);
    for (const graph of graphsIn(node)) {
      rename(graph.node ?? [], renamed);
      for (const output of graph.output ?? []) output.name = known(output.name ?? '');
    }
  }
}
