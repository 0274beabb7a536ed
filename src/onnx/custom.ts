/**
 * Nodes that the vocabulary lacks, kept as they came: a backend that runs ONNX can run them still. Their output types must
 * be known, from a plugin or from the model's value_info.
 */
import type { RegisteredOp } from '../ir/custom.ts';
import { REFERENCE_OPSET } from '../ir/graph.ts';
import type { CustomAttribute } from '../ir/ops.ts';
import { UnsupportedError } from '../ops/def.ts';
import type { OnnxNode } from './model.ts';

/** Ops that plugins know, asked before the model's value_info. */
export type CustomOps = readonly RegisteredOp[];

/**
 * ONNX's own ops outside the vocabulary, with the first opset from which on they mean what they mean now: a graph is
 * written at one opset, so only these can be kept.
 */
const KEPT_ONNX_OPS: Readonly<Record<string, number>> = {
  AffineGrid: 20,
  Bernoulli: 15,
  BitCast: 26,
  BlackmanWindow: 17,
  CenterCropPad: 18,
  Col2Im: 18,
  Compress: 9,
  CumProd: 26,
  DFT: 20,
  DeformConv: 19,
  Det: 11,
  HammingWindow: 17,
  HannWindow: 17,
  MaxRoiPool: 1,
  MelWeightMatrix: 17,
  Multinomial: 7,
  NegativeLogLikelihoodLoss: 12,
  RandomNormal: 1,
  RandomNormalLike: 1,
  RandomUniform: 1,
  RandomUniformLike: 1,
  STFT: 17,
  SoftmaxCrossEntropyLoss: 12,
  TensorScatter: 24,
  Unique: 11,
};

const REASONS: readonly (readonly [RegExp, string])[] = [
  [/^If$/, 'control flow has no static graph, unless its condition is known at build'],
  [/^(Loop|Scan)$/, 'control flow has no static graph'],
  [/^(Sequence|SplitToSequence|ConcatFromSequence|Optional)/, 'sequences and optional values are not tensors'],
  [/^(String|Tfidf|TfIdf|RegexFullMatch)/, 'strings are not supported'],
];

/**
 * Where onnxruntime's last optimization level puts convolutions and pools of blocked channels: how many channels a block has is what the
 * processor that wrote the file had, and the file does not say it.
 */
const BLOCKED_CHANNELS = 'com.microsoft.nchwc';

/** The opset that a kept node needs, or undefined for one that can't be kept. */
export function keptOpset(node: OnnxNode): number | undefined {
  if (node.domain === BLOCKED_CHANNELS) return undefined;
  if (node.domain !== '') return node.opset;
  const since = Object.hasOwn(KEPT_ONNX_OPS, node.opType) ? KEPT_ONNX_OPS[node.opType] : undefined;
  if (since === undefined || node.opset < since) return undefined;
  // Ops newer than the reference opset still change: they keep the version that the model was written in.
  return since > REFERENCE_OPSET ? node.opset : since;
}

/** Why a node that the vocabulary lacks can't be imported. */
export function reasonFor(node: OnnxNode): string {
  if (node.domain === BLOCKED_CHANNELS) return 'channels and weights are in the order of the processor that onnxruntime optimized the model on: export it again, or have onnxruntime save it at ORT_ENABLE_EXTENDED at most';
  const known = node.domain === '' && REASONS.find(([pattern]) => pattern.test(node.opType));
  if (known) return known[1];
  const what = node.domain === '' ? `not in the op vocabulary (opset ${node.opset})` : 'not a known op';
  return keptOpset(node) === undefined ? what : `${what}, and the model does not declare static types for its outputs`;
}

/** The attributes of a kept node. Throws UnsupportedError for subgraphs, types and tensors of foreign types. */
export function customAttributes(node: OnnxNode): CustomAttribute[] {
  return [...node.attributes].map(([name, attribute]): CustomAttribute => {
    switch (attribute.kind) {
      case 'float':
      case 'int':
        return { name, kind: attribute.kind, value: attribute.value };
      case 'string':
        return { name, kind: 'string', value: attribute.value };
      case 'floats':
      case 'ints':
        return { name, kind: attribute.kind, value: attribute.value };
      case 'strings':
        return { name, kind: 'strings', value: attribute.value };
      case 'tensor':
        if (attribute.value.kind === 'tensor') return { name, kind: 'tensor', value: attribute.value.tensor };
        throw new UnsupportedError(`attribute '${name}' is a tensor of ${attribute.value.kind === 'strings' ? 'strings' : attribute.value.dtype}`);
      case 'reference':
        throw new UnsupportedError(`attribute '${name}' refers to an attribute outside a function`);
      case 'opaque':
        throw new UnsupportedError(`attribute '${name}' is a ${attribute.what}`);
      default:
        return attribute satisfies never;
    }
  });
}
