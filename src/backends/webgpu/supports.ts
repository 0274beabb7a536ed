/** Whether a model can be built, before the passes have run. */
import type { AnyNode, Graph, ValueId } from '../../ir/graph.ts';
import type { BuildInput, Unsupported } from '../backend.ts';
import { headOf } from '../head.ts';
import { decomposeCustomNodes } from '../../passes/decompose-custom.ts';
import { inDeviceTypes } from '../../passes/device-types.ts';
import { splitVariadicNodes } from '../../passes/split-variadic.ts';
import { unsupportedPixels } from '../pixels.ts';
import { unsupportedNodes } from './lower/lower.ts';
import { webgpuOptions } from './options.ts';
import { precisionProblem } from './precision.ts';

export function supportsInput(input: BuildInput): readonly Unsupported[] {
  const { graph, model, options } = input;
  const falls = webgpuOptions(options).fallback === 'onnxruntime';
  const reasons: Unsupported[] = [];
  const head = graph.ok || falls ? headOf(input) : undefined;
  const problem = head && precisionProblem(input, head.graph);
  if (problem !== undefined) reasons.push({ node: model.name, op: 'precision', reason: problem });
  reasons.push(...unsupportedPixels(input));
  if (!graph.ok) return head ? reasons : [...reasons, ...graph.unsupported];
  if (falls) return reasons;
  return [...reasons, ...unsupportedNodes(withoutKnown(inDeviceTypes(splitVariadicNodes(decomposeCustomNodes(graph.graph, 'webgpu').graph))))];
}

/**
 * The graph without nodes that constant folding will take away: all that depends on constants and shapes alone. What they
 * give is assumed to be a constant of 32 bits; the build checks again, after the passes.
 */
function withoutKnown(graph: Graph): Graph {
  const known = new Set<ValueId>(graph.constants.keys());
  const constants = new Map(graph.constants);
  const nodes = graph.nodes.filter((node) => {
    if (!isKnown(node, known)) return true;
    for (const id of node.outputs) {
      const type = graph.types.get(id);
      if (!type) continue;
      known.add(id);
      constants.set(id, { ...type, data: new Uint8Array() });
    }
    return false;
  });
  return { ...graph, nodes, constants };
}

function isKnown(node: AnyNode, known: ReadonlySet<ValueId>): boolean {
  return node.op === 'Shape' || node.op === 'Size' || node.inputs.every((id) => id === '' || known.has(id));
}
