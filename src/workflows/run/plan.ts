/** From engines and inputs to what the measurement is asked to do. */
import { reportError } from '../../errors.ts';
import { DEFAULT_TIMING, type MeasurePlan } from '../../measure/plan.ts';
import type { Case } from '../../results/record.ts';
import { answerCheck } from './answers.ts';
import { engineKey, type EngineOutcome } from './engines.ts';
import type { TimingInputs } from './inputs.ts';
import type { Sweep } from './sweep.ts';

export interface PlanWithRemarks {
  readonly plan: MeasurePlan;
  /** What a case's record must say of how it was measured. */
  readonly remarks: (entry: Case) => readonly string[];
}

/** Where the reference can't answer, cases are measured all the same, and their records say that the answer is unchecked. */
export async function measurePlan(sweep: Sweep, outcomes: ReadonlyMap<string, EngineOutcome>, inputs: TimingInputs): Promise<PlanWithRemarks> {
  const { request, suite, cases } = sweep;
  const { rounds, timeMs, timeoutMs, budgetMs, isolation } = suite.measure;
  const plans: MeasurePlan['cases'][number][] = [];
  const unchecked = new Map<string, string>();
  for (const entry of cases) {
    const engine = outcomes.get(engineKey(entry.variant));
    if (engine?.status !== 'built') continue;
    request.signal.throwIfAborted();
    const { batch, precision } = entry.variant.options;
    const path = await inputs.path(batch, engine.header);
    const checkAnswer = await inputs.answer(batch, engine.backend).then(
      (answer) => answerCheck(precision, answer),
      (error: unknown) => void unchecked.set(entry.id, `the fp32 reference can't answer, so this variant's answer is unchecked: ${reportError(error).message}`),
    );
    plans.push({
      case: entry,
      enginePath: engine.path,
      device: engine.device,
      inputs: { kind: 'file', path },
      ...(checkAnswer && { checkAnswer }),
      environment: engine.environment,
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
  return { plan, remarks: ({ id }) => [unchecked.get(id)].filter((text) => text !== undefined) };
}
