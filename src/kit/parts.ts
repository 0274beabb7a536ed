/**
 * The parts of a plugin that are no ops, each checked by the worker process. What is random is drawn with a seed; what a check needs and
 * does not have, it says.
 */
import type { Plugin } from '../plugin.ts';
import type { Registry } from '../registry.ts';
import type { BenchRecord } from '../results/record.ts';
import type { Lane, PartAnswer } from './lane.ts';
import type { PartMaterial, PartName, PartVerdict } from './part-checks.ts';

export interface PartResult {
  /** `backend plain`. */
  readonly part: string;
  readonly status: 'passed' | 'failed' | 'skipped';
  /** What failed, or why it was not checked. */
  readonly message?: string;
}

export interface PartsRequest extends Omit<PartMaterial, 'records'> {
  readonly registry: Registry;
  readonly plugin: Plugin;
  /** The worker that has the same plugins. */
  readonly lane: Pick<Lane, 'checkPart' | 'end'>;
  /** A part that takes longer hangs. */
  readonly timeoutMs: number;
  /** Records of every status; asked for where there are reporters. */
  readonly records: () => Promise<readonly BenchRecord[]>;
}

/** Checks every part but the ops, in the order backends, datasets, calibrators, reporters, suites. Throws what the lane throws. */
export async function checkParts({ registry, plugin, lane, datasetFolder, seed, timeoutMs, records }: PartsRequest): Promise<readonly PartResult[]> {
  const parts = partsOf(registry, plugin);
  // The kit's own work, which takes nothing of a part's time.
  const material: PartMaterial = { datasetFolder, seed, records: plugin.reporters?.length ? await records() : [] };
  const results: PartResult[] = [];
  for (const part of parts) {
    const answer = await lane.checkPart({ kind: 'part', part, material }, timeoutMs);
    // A worker for each: what one leaves running (a timer that ends the process, say) is not another's fault.
    lane.end();
    results.push({ part: `${part.kind} ${part.name}`, ...verdictOf(answer, timeoutMs) });
  }
  return results;
}

function partsOf(registry: Registry, plugin: Plugin): readonly PartName[] {
  const named = (kind: PartName['kind'], parts: readonly { readonly name: string }[] = []): PartName[] => parts.map(({ name }) => ({ kind, name }));
  return [
    ...named('backend', plugin.backends),
    ...named('dataset', plugin.datasets),
    ...named('calibrator', plugin.calibrators),
    ...named('reporter', plugin.reporters),
    ...named('suite', suitesOf(registry, plugin)),
  ];
}

function suitesOf(registry: Registry, plugin: Plugin): readonly { readonly name: string }[] {
  const own = new Set((plugin.suites ?? []).map((place) => String(place).replace(/[\\/]+$/, '').split(/[\\/]/).at(-1)!));
  return [...registry.suites.keys()].filter((name) => own.has(name)).map((name) => ({ name }));
}

function verdictOf(answer: PartAnswer, timeoutMs: number): PartVerdict {
  switch (answer.kind) {
    case 'judged':
      return answer.verdict;
    case 'hung':
      return { status: 'failed', message: `hangs: no answer in ${timeoutMs / 1000} s` };
    case 'died':
      return { status: 'failed', message: answer.message };
    default:
      return answer satisfies never;
  }
}
