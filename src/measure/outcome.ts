/** Joins what the processes of one case saw into its outcome. */
import type { LoadSteps } from '../backends/backend.ts';
import type { Case, MemoryReading, Round } from '../results/record.ts';
import { quantile, sortSamples } from '../stats/samples.ts';
import { availableCores } from '../system.ts';
import type { CompletedOutcome } from './plan.ts';
import type { Sitting } from './sitting.ts';
import { warningsOf } from './warnings.ts';

type Ended = Pick<Sitting, 'loaded' | 'answered' | 'memory'>;

/** `rounds` and `sittings` hold at least one each. */
export function completedOutcome(
  { loadFirstMs, ...about }: { readonly case: Case; readonly plannedRounds: number; readonly loadFirstMs?: number },
  rounds: readonly Round[],
  sittings: readonly Ended[],
): CompletedOutcome {
  const median = (values: readonly number[]): number => quantile(sortSamples(values), 0.5);
  return {
    status: 'completed',
    rounds,
    device: sittings[0]!.loaded.device,
    loadMs: median(sittings.map(({ loaded }) => loaded.loadMs)),
    ...medianSteps(sittings),
    ...(loadFirstMs !== undefined && { loadFirstMs }),
    firstRunMs: median(sittings.map(({ answered }) => answered.firstRunMs)),
    memory: medianMemory(sittings),
    warnings: warningsOf({ ...about, rounds, quantumNs: sittings[0]!.loaded.quantumNs, cores: availableCores() }),
  };
}

/** Of the backends that tell them, which all processes of a case do or none. */
function medianSteps(sittings: readonly Ended[]): Pick<CompletedOutcome, 'loadSteps'> {
  const steps = sittings.flatMap(({ loaded }) => loaded.loadSteps ?? []);
  if (steps.length === 0) return {};
  const median = (key: keyof LoadSteps): number => quantile(sortSamples(steps.map((step) => step[key])), 0.5);
  return { loadSteps: { uploadMs: median('uploadMs'), pipelinesMs: median('pipelinesMs') } };
}

/** The readings of one process, so that they belong together: the one whose peak is the (lower) median. */
function medianMemory(sittings: readonly Ended[]): MemoryReading {
  const readings = sittings.map(({ loaded, memory }): MemoryReading => {
    const { residentAfterLoadBytes, residentBaselineBytes, planned } = loaded;
    const observed = memory();
    return {
      planned,
      residentAfterLoadBytes,
      residentBaselineBytes,
      residentPeakBytes: observed?.residentPeakBytes ?? residentAfterLoadBytes,
      deviceBytes: observed?.deviceBytes,
    };
  });
  readings.sort((a, b) => a.residentPeakBytes - b.residentPeakBytes);
  return readings[Math.floor((readings.length - 1) / 2)]!;
}
