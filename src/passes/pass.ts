/**
 * What a pass is: a named function Graph → Graph that counts what it rewrote, switchable by name.
 *
 * Most passes are lists of rules run to a fixpoint; a rule is a row with a name, the ops at which it is tried and a rewrite.
 * Prior art: tinygrad's PatternMatcher and its list of named rewrites, MLIR's greedy pattern driver.
 */
import type { AnyNode, Graph, ValueId } from '../ir/graph.ts';
import type { RegisteredOp } from '../ir/custom.ts';
import { GraphEditor } from '../ir/edit.ts';
import type { OpKind } from '../ir/ops.ts';
import type { Tensor } from '../ir/tensor.ts';
import type { PassName } from './names.ts';

export type Target = 'onnx' | 'webgpu';

/**
 * Computes the outputs of a graph without inputs, whose values are all constants. May reject where it lacks an op: what it
 * can't compute stays in the graph.
 */
export type Evaluator = (graph: Graph) => Promise<ReadonlyMap<ValueId, Tensor>>;

export interface PassContext {
  readonly target: Target;
  readonly fusion: 'on' | 'off';
  readonly fold: Evaluator | undefined;
  /** Ops of plugins, for their patterns. */
  readonly customOps?: readonly RegisteredOp[] | undefined;
  /** Values that a calibration saw beyond the largest half: who stores halves tells them by their names. */
  readonly wide?: ReadonlySet<ValueId> | undefined;
}

export interface PassResult {
  readonly graph: Graph;
  /** Rewrites by rule. */
  readonly rewrites: Readonly<Record<string, number>>;
}

export interface Pass {
  readonly name: PassName;
  /** One line, what it is for. */
  readonly summary: string;
  /** Where it applies; default: every target. */
  readonly targets?: readonly Target[];
  /** Needed for correctness or for plain kernels, so that it runs with fusion off too. */
  readonly basic?: true;
  /** Left out where this is: without it, what the pass makes has no kernel. */
  readonly needs?: PassName;
  /** Only where a calibration is to quantize the result. */
  readonly forInt8?: true;
  run(graph: Graph, context: PassContext): PassResult | Promise<PassResult>;
}

/** One rewrite: tried at each node of the given ops. Gives true where it changed the graph; must then not apply forever. */
export interface Rule {
  readonly name: string;
  readonly ops: readonly OpKind[];
  rewrite(node: AnyNode, edit: GraphEditor): boolean;
}

/** Every rule shrinks the graph or moves a node one way, so that a node is rewritten a few times at most. */
const MAX_REWRITES_PER_NODE = 50;

/** Sweeps over the graph until no rule applies. Throws where the rules don't terminate, which is a bug. */
export function applyRules(graph: Graph, rules: readonly Rule[]): PassResult {
  const edit = new GraphEditor(graph);
  const rewrites: Record<string, number> = {};
  let left = MAX_REWRITES_PER_NODE * graph.nodes.length;
  for (let changed = true; changed; ) {
    changed = false;
    for (const name of edit.names()) {
      for (const rule of rules) {
        const node = edit.node(name);
        if (!node || !rule.ops.includes(node.op) || !rule.rewrite(node, edit)) continue;
        rewrites[rule.name] = (rewrites[rule.name] ?? 0) + 1;
        changed = true;
        if (left-- === 0) throw new Error(`rules don't terminate: ${JSON.stringify(rewrites)}`);
      }
    }
  }
  return { graph: edit.finish(), rewrites };
}

/** A pass that is a list of rules. */
export function rulePass(description: Omit<Pass, 'run'>, rules: readonly Rule[]): Pass {
  return { ...description, run: (graph) => applyRules(graph, rules) };
}

/** What one pass changed, for `inspect`; engines carry it. */
export interface PassReport {
  readonly pass: string;
  readonly nodesBefore: number;
  readonly nodesAfter: number;
  /** Rewrites by rule name; rules that did not apply are left out. */
  readonly rewrites: Readonly<Record<string, number>>;
}
