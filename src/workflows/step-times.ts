/** How long the steps of a build or the stages of a run take, from what it says of its progress: a step lasts until the next is named. */

export interface StepTimes {
  /** For `BuildContext.onProgress`. */
  readonly onProgress: (step: string, done: number, total: number) => void;
  /** Ends the step that is under way; milliseconds by step, in the order in which they were first named. */
  end(): Readonly<Record<string, number>>;
}

/** Tells `also` everything that it is told. */
export function stepTimes(also?: StepTimes['onProgress'], now: () => number = () => performance.now()): StepTimes {
  const times = new Map<string, number>();
  let open: { readonly step: string; readonly sinceMs: number } | undefined;
  const close = (atMs: number): void => {
    if (open) times.set(open.step, (times.get(open.step) ?? 0) + atMs - open.sinceMs);
    open = undefined;
  };
  return {
    onProgress(step, done, total) {
      also?.(step, done, total);
      if (open?.step === step) return;
      const atMs = now();
      close(atMs);
      open = { step, sinceMs: atMs };
    },
    end() {
      close(now());
      return Object.fromEntries(times);
    },
  };
}
