import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { baselineVariantId, expandCases, idleParts, overrideSuite, standInForBaseline, variantId } from '../../../src/suite/expand.ts';
import { parseSuite } from '../../../src/suite/load.ts';
import { minimalSuite } from './helpers.ts';

const machine = { cores: 4 };

function suiteWith(changes: Readonly<Record<string, unknown>>) {
  return parseSuite(minimalSuite(changes), 'suite.yaml');
}
const sweep = {
  variants: [{ backend: 'onnxruntime', fusion: ['off', 'on'], backendOptions: { threads: [1, 'all'] } }],
  batches: [1, 8],
};
const idsOf = (...args: Parameters<typeof expandCases>) => expandCases(...args).map((entry) => entry.id);

describe('expandCases', () => {
  it('multiplies axes, batches and scenarios in the order of the file', () => {
    expect(idsOf(suiteWith(sweep), {}, machine)).toEqual([
      'onnxruntime/fp32/fusion-off/threads-1/b1/single-stream',
      'onnxruntime/fp32/fusion-off/threads-1/b8/single-stream',
      'onnxruntime/fp32/fusion-off/threads-4/b1/single-stream',
      'onnxruntime/fp32/fusion-off/threads-4/b8/single-stream',
      'onnxruntime/fp32/fusion-on/threads-1/b1/single-stream',
      'onnxruntime/fp32/fusion-on/threads-1/b8/single-stream',
      'onnxruntime/fp32/fusion-on/threads-4/b1/single-stream',
      'onnxruntime/fp32/fusion-on/threads-4/b8/single-stream',
    ]);
  });

  it('gives options of one backend to that one alone', () => {
    const suite = suiteWith({ variants: [{ backend: ['onnxruntime', 'webgpu'] }] });
    expect(idsOf(suite, { ownOptions: { webgpu: { fallback: ['onnxruntime'] } } }, machine)).toEqual([
      'onnxruntime/fp32/fusion-on/b1/single-stream',
      'webgpu/fp32/fusion-on/fallback-onnxruntime/b1/single-stream',
    ]);
  });

  it('takes an option of the suite away by an empty list', () => {
    const suite = suiteWith({ variants: [{ backend: 'webgpu', backendOptions: { fallback: 'onnxruntime' } }] });
    expect(idsOf(suite, { ownOptions: { webgpu: { fallback: [] } } }, machine)).toEqual(['webgpu/fp32/fusion-on/b1/single-stream']);
  });

  it('drops duplicates: on one core, 1 thread is all threads', () => {
    expect(idsOf(suiteWith(sweep), {}, { cores: 1 })).toHaveLength(4);
  });

  it('gives full build options', () => {
    const [first] = expandCases(suiteWith({ ...sweep, dims: { sequence: 128 } }), { batch: [2] }, machine);
    expect(first?.variant).toEqual({
      id: 'onnxruntime/fp32/fusion-off/threads-1',
      options: {
        backend: 'onnxruntime',
        precision: 'fp32',
        fusion: 'off',
        batch: 2,
        dims: { sequence: 128 },
        inputShapes: {},
        disabledPasses: [],
        workspaceBytes: undefined,
        backendOptions: { threads: 1 },
      },
    });
  });

  it('names scenarios by what sets them apart', () => {
    const scenarios = [
      { name: 'single-stream' },
      { name: 'single-stream', transfers: false },
      { name: 'multi-stream', streams: 4 },
      { name: 'server', targetQps: 12.5 },
      { name: 'server', targetQps: 12.5, streams: 2, maxQueueDelayMs: 0.5 },
    ];
    expect(idsOf(suiteWith({ scenarios }), {}, machine)).toEqual([
      'null/fp32/fusion-on/b1/single-stream',
      'null/fp32/fusion-on/b1/single-stream-without-transfers',
      'null/fp32/fusion-on/b1/multi-stream-4',
      'null/fp32/fusion-on/b1/server-12.5qps',
      'null/fp32/fusion-on/b1/server-2-12.5qps-batching-0.5ms',
    ]);
  });

  it('gives a batch the scenarios that are for it', () => {
    const scenarios = [{ name: 'single-stream' }, { name: 'multi-stream', streams: 2, batches: [8, 16] }];
    const suite = suiteWith({ scenarios, batches: [1, 8] });
    expect(idsOf(suite, {}, machine)).toEqual(['null/fp32/fusion-on/b1/single-stream', 'null/fp32/fusion-on/b8/single-stream', 'null/fp32/fusion-on/b8/multi-stream-2']);
    expect(expandCases(suite, {}, machine)[2]!.scenario).toEqual({ name: 'multi-stream', streams: 2, targetQps: undefined, transfers: true });
    const only = suiteWith({ scenarios: scenarios.slice(1), batches: [8] });
    expect(() => expandCases(only, { batch: [4] }, machine)).toThrow("none of the suite's scenarios is for batch 4");
    expect(() => suiteWith({ scenarios: [{ name: 'single-stream', batches: [] }] })).toThrow('the suite has a mistake');
  });

  it('takes away what exclude matches and adds include', () => {
    const suite = suiteWith({
      ...sweep,
      batches: 1,
      exclude: [{ fusion: 'off', backendOptions: { threads: 'all' } }],
      include: [{ backend: 'null', fusion: 'off', disabledPasses: ['fold-linear'] }],
    });
    expect(idsOf(suite, {}, machine)).toEqual([
      'onnxruntime/fp32/fusion-off/threads-1/b1/single-stream',
      'onnxruntime/fp32/fusion-on/threads-1/b1/single-stream',
      'onnxruntime/fp32/fusion-on/threads-4/b1/single-stream',
      'null/fp32/fusion-off/without-fold-linear/b1/single-stream',
    ]);
    expect(() => expandCases(suiteWith({ exclude: [{ backend: 'null' }] }), {}, machine)).toThrow('no cases');
  });

  it('names what the file says to no effect', () => {
    const idle = { exclude: [{ fusion: 'off', backendOptions: { threads: 'all' } }, { backend: 'onnxruntime', fusion: 'off', backendOptions: { threads: 2 } }], scenarios: [{ name: 'single-stream' }, { name: 'offline', batches: [32, 64] }] };
    expect(idleParts(suiteWith({ ...sweep, ...idle }), machine)).toEqual([
      'exclude[1] of the suite (backend onnxruntime, fusion off, threads 2) removes no variant',
      'scenarios[1] of the suite (offline) is for batch 32, 64, but the suite has 1, 8',
    ]);
    expect(idleParts(suiteWith({ ...sweep, ...idle, scenarios: [{ name: 'offline', batches: [8] }], exclude: [] }), machine)).toEqual([]);
  });

  it('says which variant stands in for the baseline', () => {
    const suite = suiteWith({ ...sweep, baselineVariant: { backend: 'onnxrutime', backendOptions: { threads: 1 } } });
    const cases = expandCases(suite, {}, machine);
    expect(standInForBaseline(suite, cases, machine)).toBe("the suite's baselineVariant (backend onnxrutime, threads 1) has no result here: speed-ups are against onnxruntime/fp32/fusion-off/threads-1");
    expect(standInForBaseline(suiteWith({ ...sweep, baselineVariant: { fusion: 'on' } }), cases, machine)).toBeUndefined();
    expect(standInForBaseline(suiteWith(sweep), cases, machine)).toBeUndefined();
    expect(standInForBaseline(suite, [], machine)).toBeUndefined();
  });

  it('refuses two variants that an id cannot tell apart', () => {
    const suite = suiteWith({ variants: [{ backend: 'null', backendOptions: { note: ['a b', 'a?b'] } }] });
    expect(() => expandCases(suite, {}, machine)).toThrow('two different cases have the id null/fp32/fusion-on/note-a_b/b1/single-stream');
  });
});

describe('overrides', () => {
  it('narrow the sweep', () => {
    expect(idsOf(suiteWith(sweep), { fusion: ['on'], batch: [2], precision: ['fp16'] }, machine)).toEqual([
      'onnxruntime/fp16/fusion-on/threads-1/b2/single-stream',
      'onnxruntime/fp16/fusion-on/threads-4/b2/single-stream',
    ]);
  });

  it('give another backend the axes, but not the options of the first', () => {
    expect(idsOf(suiteWith({ ...sweep, batches: 1 }), { backend: ['null'] }, machine)).toEqual([
      'null/fp32/fusion-off/b1/single-stream',
      'null/fp32/fusion-on/b1/single-stream',
    ]);
  });

  it('keep the options of a backend that the suite names', () => {
    const suite = suiteWith({ variants: [...sweep.variants, { backend: ['webgpu', 'null'], precision: 'fp16' }] });
    expect(idsOf(suite, { backend: ['webgpu'] }, machine)).toEqual(['webgpu/fp16/fusion-on/b1/single-stream']);
    expect(idsOf(suite, { backend: ['onnxruntime'], backendOptions: { threads: [2] } }, machine)).toEqual([
      'onnxruntime/fp32/fusion-off/threads-2/b1/single-stream',
      'onnxruntime/fp32/fusion-on/threads-2/b1/single-stream',
    ]);
  });

  it('change measurement and dataset, and nothing else', () => {
    const suite = suiteWith({});
    const changed = overrideSuite(suite, { rounds: 9, timeMs: 7, budgetMs: 60_000, dataset: '/photos' });
    expect(changed.measure).toEqual({ ...suite.measure, rounds: 9, timeMs: 7, budgetMs: 60_000 });
    expect(changed.dataset).toEqual({ ...suite.dataset, path: '/photos' });
    expect(overrideSuite(suite, {})).toEqual(suite);
  });

  it('are idempotent, and ids stay unique', () => {
    const subset = <T>(...items: T[]) => fc.option(fc.uniqueArray(fc.constantFrom(...items), { minLength: 1 }), { nil: undefined });
    const overrides = fc.record({
      backend: subset('null', 'onnxruntime', 'webgpu'),
      precision: subset('fp32' as const, 'int8' as const),
      fusion: subset('on' as const, 'off' as const),
      batch: subset(1, 2, 64),
    });
    const suite = suiteWith(sweep);
    fc.assert(
      fc.property(overrides, (change) => {
        const once = overrideSuite(suite, change);
        expect(overrideSuite(once, change)).toEqual(once);
        const ids = idsOf(suite, change, machine);
        expect(new Set(ids).size).toBe(ids.length);
      }),
      { seed: 1, numRuns: 50 },
    );
  });
});

describe('baselineVariantId', () => {
  const cases = expandCases(suiteWith(sweep), {}, machine);

  it('is the first variant that matches', () => {
    const suite = suiteWith({ ...sweep, baselineVariant: { fusion: 'on', backendOptions: { threads: 'all' } } });
    expect(baselineVariantId(suite, cases, machine)).toBe('onnxruntime/fp32/fusion-on/threads-4');
  });

  it('is the first of all where none is named or none matches', () => {
    expect(baselineVariantId(suiteWith(sweep), cases, machine)).toBe('onnxruntime/fp32/fusion-off/threads-1');
    expect(baselineVariantId(suiteWith({ ...sweep, baselineVariant: { backend: 'webgpu' } }), cases, machine)).toBe('onnxruntime/fp32/fusion-off/threads-1');
    expect(baselineVariantId(suiteWith(sweep), [], machine)).toBeUndefined();
  });
});

describe('variantId', () => {
  it('sorts options and makes values fit for an id', () => {
    const options = {
      backend: 'null',
      precision: 'int8' as const,
      fusion: 'on' as const,
      dims: {},
      inputShapes: {},
      disabledPasses: ['z', 'a'],
      workspaceBytes: 1024,
      backendOptions: { b: true, a: 'x/y z' },
    };
    expect(variantId(options)).toBe('null/int8/fusion-on/a-x_y_z/b-true/without-a/without-z/workspace-1024');
  });
});
