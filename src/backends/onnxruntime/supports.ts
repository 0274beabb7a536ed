/** What onnxruntime can't build as asked, known before anything is built. */
import { opTitle } from '../../ir/custom.ts';
import { isFewBits } from '../../ir/few-bits.ts';
import { type Graph, typeOf } from '../../ir/graph.ts';
import { decomposes } from '../../ops/custom-routes.ts';
import { isQuantized } from '../../quantize/detect.ts';
import type { BuildInput, Unsupported } from '../backend.ts';
import { unsupportedPixels } from '../pixels.ts';
import { ortOptions } from './options.ts';
import { isBoundDtype } from './tensors.ts';

export function supportsInput(input: BuildInput): readonly Unsupported[] {
  const { graph, model } = input;
  const reason = precisionProblem(input);
  const reasons: Unsupported[] = reason === undefined ? [] : [{ node: model.name, op: 'precision', reason }];
  reasons.push(...unsupportedPixels(input));
  if (graph.ok) {
    for (const id of [...graph.graph.inputs, ...graph.graph.outputs]) {
      const { dtype } = typeOf(graph.graph, id);
      if (!isBoundDtype(dtype)) reasons.push({ node: id, op: 'binding', reason: `onnxruntime-node has no ${dtype} tensors` });
    }
    reasons.push(...withoutDecomposition(graph.graph));
  } else if (!model.inputs || [...model.inputs, ...(model.outputs ?? [])].some(({ dtype }) => isFewBits(dtype))) {
    // Nor can the model run unchanged: a few bits' numbers lie in a wider type only in a graph of ours.
    reasons.push(...graph.unsupported);
  }
  return reasons;
}

/** Custom ops that a plugin has, but not in terms of ops that onnxruntime has. */
function withoutDecomposition(graph: Graph): Unsupported[] {
  return graph.nodes.flatMap((node) => {
    if (node.op !== 'Custom' || !node.attrs.definition || decomposes(node.attrs.definition.op)) return [];
    const { op, plugin } = node.attrs.definition;
    return [{ node: node.name, op: opTitle(op), reason: `the plugin ${plugin.name} gives it no decomposition into standard ops; --backend webgpu may run it` }];
  });
}

/** Why onnxruntime can't give the precision asked for: it would silently compute in another. */
function precisionProblem({ options, graph, calibration }: BuildInput): string | undefined {
  const { precision, fusion } = options;
  switch (precision) {
    case 'fp32':
      return undefined;
    case 'fp16':
      return "onnxruntime's processor kernels compute in fp32, and converting to fp16 and back costs more than it saves";
    case 'int8':
    case 'mixed': {
      if (ortOptions(options).provider !== 'cpu') return `${precision} is proven for the provider cpu only, not for ${ortOptions(options).provider}`;
      if (fusion === 'off') return 'onnxruntime makes integer kernels of Q/DQ while it fuses; with fusion off all would run in fp32';
      if (!graph.ok) return `the model can't be quantized: ${graph.unsupported[0]?.op}: ${graph.unsupported[0]?.reason}${graph.held ? '; --backend webgpu with --fallback onnxruntime quantizes what comes before' : ''}`;
      if (isQuantized(graph.graph)) return precision === 'int8' ? undefined : 'the model comes with scales of its own, so what runs in int8 is fixed';
      return calibration ? undefined : `${precision} needs a calibration: make one with tsrt-bench calibrate, and give it with --calibration`;
    }
    default:
      return precision satisfies never;
  }
}
