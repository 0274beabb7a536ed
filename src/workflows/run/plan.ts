/** From engines and inputs to what the measurement is asked to do. */
import { reportError } from '../../errors.ts';
import { DEFAULT_TIMING, type MeasurePlan } from '../../measure/plan.ts';
import type { Case } from '../../results/record.ts';
import type { Availability, Backend, TensorMap } from '../../backends/backend.ts';
import { comparable, selectedOutputs } from '../../suite/accuracy.ts';
import { judgedPrecision } from '../../engine/precision.ts';
import { answerCheck } from './answers.ts';
import { type BuiltEngine, engineKey, type EngineOutcome } from './engines.ts';
import type { TimingInputs } from './inputs.ts';
import type { Sweep } from './sweep.ts';

export interface PlanWithRemarks {
  readonly plan: MeasurePlan;
  /** What a case's record must say of how it was measured. */
  readonly remarks: (entry: Case) => readonly string[];
}

/** Whether the driver of the engine's device compiles kernels that it keeps for later processes: a GPU's does. */
export function loadsFirst({ compilesAtLoad = false }: Backend, device: string | undefined, availability: Availability): boolean {
  if (!compilesAtLoad || availability.status === 'unavailable') return false;
  const meant = availability.devices.find(({ slug }) => slug === device) ?? availability.devices[0];
  return meant?.kind === 'gpu';
}

/** What the fp32 reference answers, of outputs that this engine's can be compared with. Rejects, with why, where there is nothing. */
export async function rightAnswer(inputs: TimingInputs, { header, backend }: Pick<BuiltEngine, 'header' | 'backend'>): Promise<TensorMap> {
  return comparable(await inputs.answer(header.options.batch, backend), header, { kind: 'raw' });
}

/** What the reference says against a request, in its own words. */
export function whyUnchecked(error: unknown): string {
  const { message, details = [] } = reportError(error);
  return [message, ...details].join(': ');
}

/** Where the reference can't answer, cases are measured all the same, and their records say that the answer is unchecked. */
export async function measurePlan(sweep: Sweep, outcomes: ReadonlyMap<string, EngineOutcome>, inputs: TimingInputs): Promise<PlanWithRemarks> {
  const { request, suite, cases } = sweep;
  const { rounds, timeMs, timeoutMs, budgetMs, isolation } = suite.measure;
  const plans: MeasurePlan['cases'][number][] = [];
  const remarks = new Map<string, string>();
  for (const entry of cases) {
    const engine = outcomes.get(engineKey(entry.variant));
    if (engine?.status !== 'built') continue;
    request.signal.throwIfAborted();
    const { batch, precision } = entry.variant.options;
    const path = await inputs.path(batch, engine.header);
    const checkAnswer = await rightAnswer(inputs, engine).then(
      (answer) => answerCheck(judgedPrecision(precision, engine.header), answer),
      (error: unknown) => void remarks.set(entry.id, `this variant's answer is unchecked: ${whyUnchecked(error)}`),
    );
    const selected = selectedOutputs(engine.header.outputs, precision);
    if (checkAnswer && selected.length > 0) remarks.set(entry.id, `not compared with fp32, because ${precision} may select other elements: ${selected.join(', ')}`);
    plans.push({
      case: entry,
      enginePath: engine.path,
      device: engine.device,
      inputs: { kind: 'file', path },
      ...(checkAnswer && { checkAnswer }),
      environment: engine.environment,
      ...(loadsFirst(engine.backend, engine.device, await sweep.probe(engine.backend)) && { loadFirst: true }),
    });
  }
  const plan: MeasurePlan = {
    cases: plans,
    plugins: request.settings.config.plugins,
    seed: request.settings.config.seed,
    rounds,
    ...(request.watch && { looks: request.watch.rounds.filter((count) => count < rounds) }),
    minRounds: Math.min(2, rounds),
    isolation,
    timing: { ...DEFAULT_TIMING, sampleMs: timeMs },
    budgetMs,
    timeoutMs,
  };
  return { plan, remarks: ({ id }) => [remarks.get(id)].filter((text) => text !== undefined) };
}
