/**
 * `debug precision`: which nodes int8 hurts, and the calibration for `mixed` that keeps the few that matter in fp32.
 *
 * Everything runs in this process, through onnxruntime, on a few samples held in memory. What each node costs is written as it
 * is found, so that a search that is cut off goes on where it was.
 */
import type { Registry } from '../../registry.ts';
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import { openGraph } from '../../backends/onnxruntime/observe.ts';
import type { TensorMap } from '../../backends/backend.ts';
import type { Config } from '../../config.ts';
import type { Binding } from '../../engine/engine.ts';
import { sha256Hex } from '../../engine/sha256.ts';
import { TsrtError } from '../../errors.ts';
import { typeOf, type Graph, type ValueId } from '../../ir/graph.ts';
import { type Calibration, checkCalibration, formatCalibration } from '../../quantize/calibration.ts';
import { productsOf } from '../../quantize/placement.ts';
import { calibrationPlacement, quantizeGraph } from '../../quantize/quantize-graph.ts';
import { type Evaluation, findKept, type KeptNodes, type NodeCost, rankNodes } from '../../quantize/sensitivity.ts';
import { boundedAxis } from '../../ops/bounded.ts';
import { accuracyAccumulator, brokenBudget, outputName } from '../../suite/accuracy.ts';
import type { Batch } from '../../suite/source.ts';
import { overrideSuite, type SuiteOverrides } from '../../suite/expand.ts';
import { loadSuite } from '../../suite/load.ts';
import { resolveModel } from '../../suite/models.ts';
import type { AccuracyBudget, Suite, Task } from '../../suite/schema.ts';
import { optimizedGraph, type GraphOptions, type OptimizedGraph } from '../calibrate/observe.ts';
import { calibrateSuite, calibrationDataset, readCalibration } from '../calibrate/suite.ts';
import type { OnRunEvent } from '../events.ts';
import { readModelFile } from '../model-file.ts';
import { openRegistry } from '../registry.ts';
import { writeText } from '../output.ts';
import { requireInputs } from '../suite-dataset.ts';

export interface PrecisionRequest {
  readonly suite: string;
  readonly modelFile: string | undefined;
  /** Of the suite. */
  readonly overrides: Pick<SuiteOverrides, 'dataset' | 'dims' | 'inputShapes'>;
  /** A cache to start from; undefined: calibrated now. */
  readonly calibration: string | undefined;
  /** Samples that costs are judged by; none of them calibrates. */
  readonly samples: number;
  /** In place of the suite's accuracy budget. */
  readonly minSnrDb: number | undefined;
  readonly out: string;
  readonly config: Config;
  readonly signal: AbortSignal;
  readonly onEvent: OnRunEvent;
}

export interface PrecisionResult {
  /** The costliest first. */
  readonly ranking: readonly NodeCost[];
  /** With every node in int8. */
  readonly int8: Evaluation;
  /** Undefined where no set of nodes meets the budget. */
  readonly kept: KeptNodes | undefined;
  /** The calibration that names the kept nodes; undefined where there is none. */
  readonly file: string | undefined;
  readonly samples: number;
  readonly dataset: string;
  readonly nodes: number;
}

/** Throws TsrtError for a suite, model, dataset or cache that can't be used. */
export async function debugPrecision(request: PrecisionRequest): Promise<PrecisionResult> {
  const { config, signal, onEvent } = request;
  const registry = await openRegistry(config.plugins);
  const suite = overrideSuite(await loadSuite(request.suite, { cwd: process.cwd(), plugins: registry.suites }), request.overrides);
  requireInputs(suite);
  onEvent({ kind: 'stage', stage: 'model', text: request.modelFile ?? suite.model.name });
  const model = await resolveModel(suite, { modelFile: request.modelFile, cacheFolder: config.cache, signal });
  const modelBytes = await readModelFile(model.path);
  const about = { name: model.name, bytes: modelBytes, folder: dirname(model.path) };
  const calibration = await startingPoint(request, { suite, registry }, model, modelBytes);
  const { fusion, disabledPasses } = calibration.graph;
  const options: GraphOptions = { fusion, disabledPasses, dims: suite.dims, inputShapes: suite.inputShapes };
  const network = await optimizedGraph({ model: about, options, customOps: registry.ops, signal });
  const { graph, sha256 } = network;
  checkCalibration(calibration, { model: { name: model.name, sha256 }, fusion, disabledPasses });

  const judge = await openJudge(request, { suite, registry }, network, calibration, model.untrained);
  const products = [...productsOf(calibrationPlacement(graph, calibration.scheme))];
  const others = (node: string) => products.filter((name) => name !== node);
  const key = await sha256Hex(new TextEncoder().encode(JSON.stringify([formatCalibration(calibration), judge.dataset, judge.samples, judge.budget])));
  const state = await openState(`${request.out}.search`, key);
  const ranking = await rankNodes(products, state.known, (node) => judge.evaluate(others(node)), async (cost, done) => {
    onEvent({ kind: 'progress', stage: 'accuracy', label: cost.node, done, total: products.length, unit: 'nodes' });
    await state.add(cost);
  });
  onEvent({ kind: 'stage', stage: 'accuracy', text: 'which of them to keep in fp32' });
  const int8 = await judge.evaluate([]);
  const kept = await findKept(ranking.map(({ node }) => node), (keep) => (keep.length === 0 ? Promise.resolve(int8) : judge.evaluate(keep)));
  const file = kept ? request.out : undefined;
  if (kept) await writeText(request.out, formatCalibration({ ...calibration, quantization: { ...calibration.quantization, keep: [...kept.keep] } }));
  return { ranking, int8, kept, file, samples: judge.samples, dataset: judge.dataset, nodes: products.length };
}

/**
 * What costs are judged by: of the graph's outputs those that have a length of their own, for what the data select changes as a whole. Of a model that a
 * fallback runs a part of, they are what that part reads. Throws TsrtError SUITE_INVALID where the task is about another output.
 */
function judgedOutputs(graph: Graph, outputs: readonly Binding[], task: Task): readonly ValueId[] {
  const judged = graph.outputs.filter((id) => boundedAxis(graph, id) === undefined);
  const asked = task.kind === 'raw' ? undefined : outputName(task.output, outputs.map(({ name }) => name));
  if (asked === undefined ? judged.length > 0 : judged.includes(asked)) return asked === undefined ? judged : [asked];
  throw new TsrtError('SUITE_INVALID', `${asked === undefined ? 'all outputs are' : `the output '${asked}' is`} selected by the data, or computed from what is, so there is nothing to judge a precision by`, {
    fix: 'make what they are selected from outputs of the model too, and compare these (task: { kind: raw })',
  });
}

async function startingPoint(
  { calibration, config, signal, onEvent }: PrecisionRequest,
  { suite, registry }: Source,
  model: Awaited<ReturnType<typeof resolveModel>>,
  modelBytes: Uint8Array,
): Promise<Calibration> {
  if (calibration !== undefined) return (await readCalibration(calibration)).cache;
  const options: GraphOptions = { fusion: 'on', disabledPasses: [], dims: suite.dims, inputShapes: suite.inputShapes };
  const { quantization: settings } = suite;
  const made = await calibrateSuite({
    suite, registry, model, modelBytes, options, settings, signal,
    part: { take: 'calibration', calibrationSamples: settings.samples },
    seed: config.seed,
    onProgress: (done, total) => onEvent({ kind: 'progress', stage: 'dataset', label: 'calibrating', done, total, unit: 'samples' }),
  });
  return made.calibration;
}

/** A suite with what plugins give to it. */
interface Source {
  readonly suite: Suite;
  readonly registry: Registry;
}

/** Judges sets of kept nodes on the same samples. */
interface Judge {
  readonly dataset: string;
  readonly samples: number;
  readonly budget: AccuracyBudget;
  evaluate(keep: readonly string[]): Promise<Evaluation>;
}

async function openJudge(request: PrecisionRequest, { suite, registry }: Source, { graph, outputs, batch }: OptimizedGraph, calibration: Calibration, untrained: boolean): Promise<Judge> {
  const { signal, config, samples, minSnrDb } = request;
  const judged = judgedOutputs(graph, outputs, suite.task);
  const task: Task = suite.task.kind === 'raw' ? suite.task : { ...suite.task, output: judged[0]! };
  const open = calibrationDataset({
    suite,
    registry,
    settings: { ...suite.quantization, samples },
    part: { take: 'rest', calibrationSamples: calibration.dataset.samples },
    seed: config.seed,
    signal,
  });
  const dataset = await open(graph.inputs.map((name) => ({ name, ...typeOf(graph, name) })), outputs, batch);
  const batches: Batch[] = [];
  for await (const some of dataset.batches(signal)) batches.push(some);
  const references = await answers(graph, judged, batches, signal);
  const budget: AccuracyBudget = minSnrDb === undefined ? suite.accuracy : { samples: suite.accuracy.samples, minSnrDb };
  return {
    dataset: dataset.description,
    samples: batches.reduce((sum, { count }) => sum + count, 0),
    budget,
    async evaluate(keep) {
      const quantized = quantizeGraph(graph, { ...calibration, quantization: { ...calibration.quantization, keep: [...keep] } }, 'mixed').graph;
      const accumulator = accuracyAccumulator(task, { inputs: dataset.description, untrained });
      const found = await answers(quantized, judged, batches, signal);
      batches.forEach(({ labels, count }, index) => accumulator.add({ variant: found[index]!, reference: references[index]!, labels, count, batch }));
      const result = accumulator.result();
      return { snrDb: result.reading.snrDb ?? Number.POSITIVE_INFINITY, withinBudget: brokenBudget(budget, result).length === 0 };
    },
  };
}

async function answers(graph: Graph, judged: readonly ValueId[], batches: readonly Batch[], signal: AbortSignal): Promise<TensorMap[]> {
  const runner = await openGraph(graph);
  try {
    const results: TensorMap[] = [];
    for (const { inputs } of batches) {
      signal.throwIfAborted();
      const outputs = await runner.run(inputs);
      results.push(Object.fromEntries(judged.map((id) => [id, outputs.get(id)!])));
    }
    return results;
  } finally {
    await runner.dispose();
  }
}

const stateSchema = z.strictObject({
  key: z.string(),
  /** Decibels; null where the answers were the same. */
  costs: z.array(z.strictObject({ node: z.string(), snrDb: z.number().nullable(), withinBudget: z.boolean() })),
});

/** Costs found so far, for the same calibration, samples and budget; anything else in the file is of another search. */
async function openState(path: string, key: string): Promise<{ readonly known: ReadonlyMap<string, Evaluation>; add(cost: NodeCost): Promise<void> }> {
  const text = await readFile(path, 'utf8').catch(() => undefined);
  const costs: NodeCost[] = text === undefined ? [] : readState(text, key);
  return {
    known: new Map(costs.map(({ node, ...evaluation }) => [node, evaluation])),
    async add(cost) {
      costs.push(cost);
      const rows = costs.map(({ node, snrDb, withinBudget }) => ({ node, snrDb: Number.isFinite(snrDb) ? snrDb : null, withinBudget }));
      await writeText(path, `${JSON.stringify({ key, costs: rows })}\n`);
    },
  };
}

function readState(text: string, key: string): NodeCost[] {
  try {
    const parsed = stateSchema.parse(JSON.parse(text));
    return parsed.key === key ? parsed.costs.map((cost) => ({ ...cost, snrDb: cost.snrDb ?? Number.POSITIVE_INFINITY })) : [];
  } catch (cause) {
    throw new TsrtError('CALIBRATION_INVALID', 'the saved search is damaged', { fix: 'remove the .search file beside --out to start again', cause });
  }
}
