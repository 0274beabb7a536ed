/**
 * How coarsely onnxruntime may multiply by weights of few bits: `accuracy_level` of MatMulNBits lets its kernels round what they read, at 4 to int8 with
 * a scale for each block. Quantizers of models for processors write it. It asks for speed and is no part of what the model computes.
 */
import type { onnx as Onnx } from 'onnx-proto';
import type { OnnxModel } from './model.ts';
import { onnx } from './proto.ts';
import { boundedReader } from './reader.ts';

const LEVEL = 'accuracy_level';
const INT8 = 4;

/** Whether a product may quantize what it reads to int8. */
export function allowsInt8({ nodes }: Pick<OnnxModel, 'nodes'>): boolean {
  return nodes.some(({ opType, attributes }) => {
    const level = attributes.get(LEVEL);
    return opType === 'MatMulNBits' && level?.kind === 'int' && level.value === INT8;
  });
}

/** The model whose products compute in the types of what they read; undefined where they do already. */
export function withoutAccuracyLevels(bytes: Uint8Array): Uint8Array | undefined {
  const model = onnx.ModelProto.decode(boundedReader(bytes));
  let removed = 0;
  const visit = (nodes: readonly Onnx.INodeProto[]): void => {
    for (const node of nodes) {
      const attributes = node.attribute ?? [];
      if (node.opType === 'MatMulNBits') node.attribute = attributes.filter(({ name }) => name !== LEVEL);
      removed += attributes.length - (node.attribute ?? []).length;
      for (const { g, graphs } of attributes) for (const graph of [...(g ? [g] : []), ...(graphs ?? [])]) visit(graph.node ?? []);
    }
  };
  visit(model.graph?.node ?? []);
  for (const { node } of model.functions ?? []) visit(node ?? []);
  return removed === 0 ? undefined : onnx.ModelProto.encode(model).finish().slice();
}
