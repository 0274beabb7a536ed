/**
 * The pass pipeline: the ordered list of every pass, and the one function that runs it.
 */
import type { RegisteredOp } from '../ir/custom.ts';
import type { Graph, ValueId } from '../ir/graph.ts';
import { verifyGraph, type Stage } from '../ir/verify.ts';
import { OP_RULES } from '../ops/builder.ts';
import { batchNormToAffine } from './batch-norm.ts';
import { constantFolding } from './constant-folding.ts';
import { commonSubexpressions } from './cse.ts';
import { completeQdq } from './complete-qdq.ts';
import { customPatterns } from './custom-patterns.ts';
import { deadCode } from './dead-code.ts';
import { decomposeCustom } from './decompose-custom.ts';
import { bfloat16AsFloat32, halvesAsFloat32, narrowTypes } from './device-types.ts';
import { dequantizeBlocks } from './dequantize-blocks.ts';
import { dynamicProducts } from './dynamic-products.ts';
import { earlyAddends } from './early-addends.ts';
import { foldLinear } from './fold-linear.ts';
import { foldPads } from './fold-pads.ts';
import { integerChains } from './integer-chains.ts';
import { foldDequantized, integerProducts } from './integer-products.ts';
import { fuseAttention } from './fuse-attention.ts';
import { fuseCacheWrites } from './fuse-cache-writes.ts';
import { fuseConcat } from './fuse-concat.ts';
import { fuseElementwise } from './fuse-elementwise.ts';
import { fuseConvEpilogues, fuseMatMulEpilogues } from './fuse-epilogue.ts';
import { fuseProjections } from './fuse-projections.ts';
import { fuseShortcuts } from './fuse-shortcuts.ts';
import { fuseSiblings } from './fuse-siblings.ts';
import { identities } from './identities.ts';
import type { Evaluator, Pass, PassContext, PassReport, Target } from './pass.ts';
import { pickRows } from './pick-rows.ts';
import { qlinearProducts } from './qlinear-products.ts';
import { recoverActivations, recoverSwish } from './recover-activations.ts';
import { recoverLayerNorm, recoverRmsNorm } from './recover-norms.ts';
import { reshapes } from './reshapes.ts';
import { shapeConstants } from './shape-constants.ts';
import { splitVariadic } from './split-variadic.ts';
import { transposes } from './transposes.ts';
import { weightOnly } from './weight-only.ts';

/** Every pass, in the order in which they run. Names are unique: they are what `--disable-pass` takes. */
export const PASSES: readonly Pass[] = [
  decomposeCustom,
  deadCode,
  shapeConstants,
  splitVariadic,
  halvesAsFloat32,
  bfloat16AsFloat32,
  dequantizeBlocks,
  constantFolding,
  narrowTypes,
  identities,
  reshapes,
  transposes,
  commonSubexpressions,
  completeQdq,
  qlinearProducts,
  customPatterns,
  recoverActivations,
  recoverLayerNorm,
  recoverRmsNorm,
  pickRows,
  foldLinear,
  foldPads,
  recoverSwish,
  batchNormToAffine,
  fuseAttention,
  fuseProjections,
  integerChains,
  earlyAddends,
  dynamicProducts,
  fuseConvEpilogues,
  fuseMatMulEpilogues,
  fuseElementwise,
  integerProducts,
  weightOnly,
  foldDequantized,
  fuseConcat,
  fuseCacheWrites,
  fuseShortcuts,
  fuseSiblings,
];

export interface PipelineOptions {
  readonly target: Target;
  /** `off` runs only the basic passes, so that each op stays a kernel of its own. */
  readonly fusion: 'on' | 'off';
  /** Names of passes to leave out. Names that no pass has are ignored here; what reads them from a user checks them (names.ts). */
  readonly disabled: readonly string[];
  /** Whether a calibration is to quantize the result, or to be made of it; default not. */
  readonly forInt8?: boolean | undefined;
  /** Without it, constant subgraphs stay. */
  readonly fold: Evaluator | undefined;
  /** Ops of plugins, for their patterns. */
  readonly customOps?: readonly RegisteredOp[] | undefined;
  /** Values that a calibration saw beyond the largest half. */
  readonly wide?: ReadonlySet<ValueId> | undefined;
  /** Verify the graph before the first pass and after every one; on in tests. */
  readonly verify?: boolean;
  /** Between passes. */
  readonly signal?: AbortSignal | undefined;
}

export interface PipelineResult {
  readonly graph: Graph;
  readonly reports: readonly PassReport[];
}

/** The passes that these options choose, in order. */
export function selectPasses({ target, fusion, disabled, forInt8 = false }: Pick<PipelineOptions, 'target' | 'fusion' | 'disabled' | 'forInt8'>): readonly Pass[] {
  const isLeftOut = ({ name, needs }: Pass): boolean => disabled.includes(name) || (needs !== undefined && disabled.includes(needs));
  return PASSES.filter((pass) => (fusion === 'on' || pass.basic) && (forInt8 || !pass.forInt8) && (pass.targets?.includes(target) ?? true) && !isLeftOut(pass));
}

/** Runs the chosen passes over an imported graph. Rejects with the signal's reason when it aborts. */
export async function runPasses(graph: Graph, options: PipelineOptions): Promise<PipelineResult> {
  const context: PassContext = { target: options.target, fusion: options.fusion, fold: options.fold, customOps: options.customOps, wide: options.wide };
  const reports: PassReport[] = [];
  let current = graph;
  if (options.verify) verifyAfter('import', current, 'imported');
  for (const pass of selectPasses(options)) {
    options.signal?.throwIfAborted();
    const result = await pass.run(current, context);
    if (options.verify) verifyAfter(pass.name, result.graph, options.target);
    const rewrites = Object.fromEntries(Object.entries(result.rewrites).filter(([, count]) => count > 0));
    reports.push({ pass: pass.name, nodesBefore: current.nodes.length, nodesAfter: result.graph.nodes.length, rewrites });
    current = result.graph;
  }
  return { graph: current, reports };
}

function verifyAfter(step: string, graph: Graph, stage: Stage): void {
  try {
    verifyGraph(graph, { stage, rules: OP_RULES });
  } catch (error) {
    throw new Error(`after ${step}: ${(error as Error).message}`, { cause: error });
  }
}
