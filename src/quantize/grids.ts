/**
 * From calibrated ranges to one grid per value: values that must agree share theirs.
 */
import { TsrtError } from '../errors.ts';
import type { CustomDefinition, Int8Behaviour, Int8Grid, Operands } from '../ir/custom.ts';
import type { Graph, ValueId } from '../ir/graph.ts';
import { inOp } from '../ops/custom.ts';
import type { Calibration } from './calibration.ts';
import { coveredRange, paramsOf, type QuantParams, type Range, type Scheme } from './params.ts';
import { dataInputs, type Placement } from './placement.ts';

/** A concatenation's part takes the whole's range where that costs it at most one bit. */
const MAX_WIDENING = 2;

/** The interval to which an activation has clipped a value, by the value. */
function clippedTo(graph: Graph, { activations }: Placement): Map<ValueId, Range> {
  const entries = graph.nodes.map((node) => [node.outputs[0]!, activations.get(node.name)] as const);
  return new Map(entries.filter((entry): entry is readonly [ValueId, Range] => entry[1] !== undefined));
}

/** A grid for each of the placement's quantized values. Throws TsrtError CALIBRATION_INVALID where the calibration lacks one. */
export function gridsFor(graph: Graph, placement: Placement, calibration: Pick<Calibration, 'tensors' | 'scheme'>): Map<ValueId, QuantParams> {
  const { quantized, sharedWith, roles } = placement;
  const own = new Map<ValueId, Range>();
  const missing: ValueId[] = [];
  for (const id of quantized) {
    const found = calibration.tensors[sharedWith.get(id) ?? id];
    if (found) own.set(id, found.range);
    else missing.push(id);
  }
  if (missing.length > 0) {
    throw new TsrtError('CALIBRATION_INVALID', `the calibration lacks ${missing.length} of the ${quantized.size} tensors that this build quantizes`, {
      details: missing.slice(0, 5),
      fix: 'calibrate again with this version: tsrt-bench calibrate',
    });
  }
  const computed = computedRanges(graph, placement, own, calibration.scheme);
  // Only a value with a grid of its own may change it: what shares it would have to follow.
  const roots = new Set(sharedWith.values());
  const clipped = clippedTo(graph, placement);
  for (const node of graph.nodes) {
    const whole = own.get(node.outputs[0]!);
    if (node.op !== 'Concat' || !roles.has(node.name) || !whole) continue;
    for (const id of node.inputs) {
      const part = own.get(id);
      const free = part && !sharedWith.has(id) && !roots.has(id) && !computed.has(id) && width(whole) <= MAX_WIDENING * width(part);
      // A grid beyond the interval would no longer perform the activation by saturating.
      const interval = clipped.get(id);
      if (free && (!interval || (whole.low >= interval.low && whole.high <= interval.high))) own.set(id, whole);
    }
  }
  return new Map([...own].map(([id, range]) => [id, paramsOf(range, calibration.scheme)]));
}

/**
 * Puts the ranges that custom ops compute from their inputs' grids in place of the calibrated ones, in the order of the graph, so that one
 * op's answer is the next one's question. Gives the values whose ranges they are.
 */
function computedRanges(graph: Graph, { roles, sharedWith }: Placement, own: Map<ValueId, Range>, scheme: Scheme): ReadonlySet<ValueId> {
  const computed = new Set<ValueId>();
  for (const node of graph.nodes) {
    const definition = node.op === 'Custom' && roles.has(node.name) ? node.attrs.definition : undefined;
    const output = definition?.op.int8?.output;
    const id = node.outputs[0]!;
    if (!definition || typeof output !== 'function' || !own.has(id)) continue;
    const data = new Set(dataInputs(node));
    const inputs = node.inputs.map((input) => {
      const range = data.has(input) ? own.get(input) : undefined;
      return range && gridOf(paramsOf(range, scheme));
    });
    const range = computedRange(definition, output, inputs as Operands<Int8Grid>);
    for (const [value, root] of [[id, id], ...sharedWith]) {
      if (root === id && own.has(value!)) own.set(value!, range);
    }
    computed.add(id);
  }
  return computed;
}

/** A grid as a plugin sees it. */
export function gridOf(params: QuantParams): Int8Grid {
  return { scale: params.scale, zeroPoint: params.zeroPoint, ...coveredRange(params) };
}

/** The range that an op computes from its inputs' grids. Throws what names the plugin. */
export function computedRange(definition: CustomDefinition, output: Extract<Int8Behaviour['output'], (...parameters: never[]) => unknown>, inputs: Operands<Int8Grid>): Range {
  return inOp(definition, 'int8 output', () => checkedRange(output({ attrs: definition.attrs, inputs })));
}

function checkedRange({ low, high }: Range): Range {
  if (!(Number.isFinite(low) && Number.isFinite(high) && low <= high)) throw new Error(`it gives no interval: ${low} to ${high}`);
  return { low, high };
}

function width({ low, high }: Range): number {
  return Math.max(0, high) - Math.min(0, low);
}
