/** Real worker processes on the null backend, whose options make them crash, hang and run out of memory. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fromNumbers, toNumbers } from '../../../src/ir/tensor.ts';
import { openInference } from '../../../src/measure/inference.ts';
import { writeTensors } from '../../../src/measure/inputs.ts';
import { measureCases } from '../../../src/measure/orchestrate.ts';
import type { CaseOutcome, MeasurePlan } from '../../../src/measure/plan.ts';
import { type WorkerProcess, startWorker } from '../../../src/measure/process.ts';
import { type NullCase, plan, writeNullCase } from '../../helpers/measure.ts';
import { buildWorker } from '../../helpers/worker.ts';

let entry: string;
let folder: string;

beforeAll(async () => {
  entry = await buildWorker();
  folder = await mkdtemp(join(tmpdir(), 'tsrt-bench-measure-'));
});

afterAll(() => rm(folder, { recursive: true, force: true }));

interface Options {
  readonly plan?: Partial<MeasurePlan>;
  readonly signal?: AbortSignal;
  readonly onStart?: (worker: WorkerProcess) => void;
  /** In place of the generous limit that the orchestrator gives a round. */
  readonly roundTimeoutMs?: number;
}

/** Measures null cases in real processes; their outcomes by id. */
async function measure(specs: readonly NullCase[], { plan: overrides, signal, onStart, roundTimeoutMs }: Options = {}): Promise<Record<string, CaseOutcome>> {
  const cases = await Promise.all(specs.map((spec) => writeNullCase(folder, spec)));
  const outcomes: Record<string, CaseOutcome> = {};
  const start: typeof startWorker = (launch) => {
    const worker = startWorker({ ...launch, entry });
    onStart?.(worker);
    return { ...worker, ask: (request, timeoutMs) => worker.ask(request, request.kind === 'round' ? (roundTimeoutMs ?? timeoutMs) : timeoutMs) };
  };
  for await (const event of measureCases(plan(cases, { rounds: 2, ...overrides }), { start, yardstick: () => [] }, signal)) {
    if (event.kind === 'case-done') outcomes[event.case.id] = event.outcome;
  }
  return outcomes;
}

describe('a sweep in worker processes', () => {
  test('goes on past a crash, an error and an exhausted device', async () => {
    const outcomes = await measure(
      [
        { id: 'good' },
        { id: 'crash-load', options: { fault: 'crash', faultAt: 'load' } },
        { id: 'crash-run', options: { fault: 'crash', faultAfter: 20 } },
        { id: 'crash-late', options: { fault: 'crash', faultAfter: 110 } },
        { id: 'error', options: { fault: 'error', faultAfter: 0 } },
        { id: 'no-memory', options: { fault: 'out-of-memory', faultAt: 'load' } },
      ],
      { plan: { isolation: 'case' } },
    );
    expect(outcomes['good']).toMatchObject({ status: 'completed', device: { slug: 'null' }, firstRunMs: 1 });
    expect(outcomes['crash-load']).toMatchObject({ status: 'failed', stage: 'load', cause: 'crashed', rounds: [] });
    expect(outcomes['crash-run']).toMatchObject({
      status: 'failed',
      stage: 'warmup',
      cause: 'crashed',
      error: { message: 'the worker process ended by SIGSEGV while warming up' },
    });
    expect(outcomes['crash-late']).toMatchObject({ status: 'failed', stage: 'measure', cause: 'crashed' });
    expect(outcomes['error']).toMatchObject({ status: 'failed', stage: 'answer', cause: 'error', error: { code: 'DEVICE_LOST' } });
    expect(outcomes['no-memory']).toMatchObject({ status: 'failed', stage: 'load', cause: 'out-of-memory' });
  });

  test('a hang is ended, and rounds that had ended are kept', async () => {
    // The answer and the first round take 1 + 100 + 5 executions and some; the fault comes in the second round.
    const outcomes = await measure([{ id: 'hang', options: { fault: 'hang', faultAfter: 150 } }], {
      plan: { isolation: 'case', timing: { sampleMs: 1, minSamples: 5, maxSamples: 5, maxWarmupMs: 100 } },
      roundTimeoutMs: 1500,
    });
    expect(outcomes['hang']).toMatchObject({ status: 'failed', cause: 'timed-out', rounds: [{ index: 0 }] });
  });

  test('a heap that overflows is told from a crash, with its last words', async () => {
    const plugin = fileURLToPath(new URL('../../fixtures/measure/greedy.mjs', import.meta.url));
    const outcomes = await measure([{ id: 'greedy', build: { backend: 'greedy' } }], {
      plan: { plugins: [plugin], nodeArguments: ['--max-old-space-size=64'] },
    });
    expect(outcomes['greedy']).toMatchObject({ status: 'failed', stage: 'load', cause: 'out-of-memory', error: { code: 'OUT_OF_MEMORY' } });
    expect(outcomes['greedy']).toHaveProperty('stderr', expect.stringMatching(/about to be greedy[^]*heap out of memory/));
  });

  test('a wrong answer gets no timing', async () => {
    const outcomes = await measure([
      { id: 'wrong', plan: { checkAnswer: ({ y }) => (toNumbers(y!).length === 2 ? 'y[0] is 1, not 2' : undefined) } },
      { id: 'right', plan: { checkAnswer: ({ y }) => (toNumbers(y!).length === 2 ? undefined : 'y has another shape') } },
    ]);
    expect(outcomes['wrong']).toMatchObject({ status: 'failed', stage: 'answer', cause: 'wrong-answer', rounds: [] });
    expect(outcomes['right']).toMatchObject({ status: 'completed', rounds: [{ index: 0 }, { index: 1 }] });
  });

  test('inputs come from the file that the parent wrote, and a wrong one is the error it is', async () => {
    const path = join(folder, 'inputs.bin');
    await writeTensors(path, { x: fromNumbers('float32', [2, 3], [1, 2, 3, 4, 5, 6]) });
    const wrong = join(folder, 'wrong.bin');
    await writeTensors(wrong, { x: fromNumbers('float32', [1], [1]) });
    const outcomes = await measure(
      [
        { id: 'file', plan: { inputs: { kind: 'file', path } } },
        { id: 'shape', plan: { inputs: { kind: 'file', path: wrong } } },
      ],
      { plan: { rounds: 1 } },
    );
    expect(outcomes['file']?.status).toBe('completed');
    expect(outcomes['shape']).toMatchObject({ status: 'failed', stage: 'answer', cause: 'error', error: { code: 'USAGE' } });
  });

  test('an inference answers inputs of any number, untimed', async () => {
    const { enginePath, environment } = await writeNullCase(folder, { id: 'inference' });
    const start: typeof startWorker = (launch) => startWorker({ ...launch, entry });
    const inference = await openInference({ backend: 'null', plugins: [], enginePath, device: undefined, environment, timeoutMs: 20_000, start });
    const x = fromNumbers('float32', [2, 3], [1, 2, 3, 4, 5, 6]);
    const first = inference.run({ x });
    await expect(inference.run({ x })).rejects.toThrow('one thing at a time');
    expect((await first)['y']).toMatchObject({ dtype: 'float32', dims: [2] });
    expect(await inference.run({ x })).toEqual(await first);
    await inference.close();
    await expect(inference.run({})).rejects.toThrow(/ended with status 0/);
  });

  test('a worker leaves by itself, and is killed where it does not', async () => {
    const { enginePath, environment, ...rest } = await writeNullCase(folder, { id: 'leaving' });
    const note = join(folder, 'left.txt');
    const preload = join(folder, 'preload.cjs');
    await writeFile(preload, `process.on('exit', () => require('fs').writeFileSync(${JSON.stringify(note)}, 'left'));`);
    const task = { backend: 'null', plugins: [], enginePath, device: undefined, inputs: rest.inputs, scenario: rest.case.scenario, timing: plan([]).timing };
    const worker = startWorker({ environment, entry, nodeArguments: ['--require', preload] });
    await worker.ask<'load'>({ kind: 'load', task }, 20_000);
    await worker.leave();
    // What exit handlers do (a driver's write its cache) is done.
    expect(await readFile(note, 'utf8')).toBe('left');

    const { enginePath: stuck } = await writeNullCase(folder, { id: 'stuck', options: { fault: 'hang', faultAt: 'load' } });
    const hanging = startWorker({ environment, entry });
    const loading = hanging.ask<'load'>({ kind: 'load', task: { ...task, enginePath: stuck } }, 60_000);
    await Promise.all([expect(loading).rejects.toThrow('ended by SIGKILL'), hanging.leave(50)]);
  });

  test('a damaged engine file is one clear error', async () => {
    const enginePath = join(folder, 'damaged.bin');
    await writeFile(enginePath, 'no engine');
    const outcomes = await measure([{ id: 'damaged', plan: { enginePath } }], { plan: { rounds: 1 } });
    expect(outcomes['damaged']).toMatchObject({ status: 'failed', stage: 'load', cause: 'error', error: { code: 'ENGINE_INVALID' } });
  });

  test('an abort ends the worker at once and every case with what it has', async () => {
    const controller = new AbortController();
    const workers: WorkerProcess[] = [];
    const outcomes = await measure(
      [
        { id: 'a', options: { fault: 'hang', faultAt: 'load' } },
        { id: 'b', options: { fault: 'hang', faultAt: 'load' } },
      ],
      {
        signal: controller.signal,
        onStart: (worker) => {
          workers.push(worker);
          setTimeout(() => controller.abort(), 100);
        },
      },
    );
    expect(workers).toHaveLength(1);
    expect(outcomes).toEqual({
      a: { status: 'aborted', reason: 'interrupted', rounds: [] },
      b: { status: 'aborted', reason: 'interrupted', rounds: [] },
    });
  });

  test('memory is the process’s own: an engine of 64 MiB shows, and only where it is loaded', async () => {
    const outcomes = await measure([{ id: 'small' }, { id: 'large', options: { memoryBytes: 64 * 2 ** 20 } }], { plan: { rounds: 1 } });
    const growth = (id: string): number => {
      const outcome = outcomes[id]!;
      if (outcome.status !== 'completed') throw new Error(`${id} ${outcome.status}`);
      const { residentAfterLoadBytes, residentBaselineBytes, residentPeakBytes } = outcome.memory;
      expect(residentPeakBytes).toBeGreaterThanOrEqual(residentAfterLoadBytes);
      return (residentAfterLoadBytes - residentBaselineBytes) / 2 ** 20;
    };
    expect(growth('large')).toBeGreaterThan(60);
    expect(growth('small')).toBeLessThan(30);
    expect(outcomes['large']).toMatchObject({ memory: { deviceBytes: 64 * 2 ** 20 } });
  });
});
