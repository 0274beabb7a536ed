/** Golden texts of the built-in reporters, and what hostile messages may not do to them. */
import { stripVTControlCharacters } from 'node:util';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { REPORTERS } from '../../../src/report/reporters.ts';
import type { ReportInput } from '../../../src/report/reporter.ts';
import { ACCURACY, aborted, completed, failed, skipped } from '../../helpers/records.ts';
import { parseXml, type XmlNode } from '../../helpers/xml.ts';
import { anyText } from '../../helpers/text.ts';

const timings = (ms: number) => [1, 2, 3].map((round) => Array.from({ length: 20 }, (_, i) => ms + i * 0.01 + round * 0.005));

const RECORDS = [
  completed({ latencyMs: timings(31.4), accuracy: ACCURACY, warnings: [{ kind: 'few-samples', samples: 60, percentile: 99 }] }),
  completed({
    variant: 'onnxruntime/int8/fusion-on',
    latencyMs: timings(12.8),
    accuracy: { ...ACCURACY, top1Percent: 78.8, agreementPercent: 98.4 },
    warnings: [
      { kind: 'few-samples', samples: 55, percentile: 99 },
      { kind: 'busy-machine', loadAverage: 3.2, cores: 2 },
    ],
  }),
  completed({ batch: 8, latencyMs: timings(215), accuracy: ACCURACY }),
  failed({ variant: 'onnxruntime/int8/fusion-on', batch: 8 }),
  skipped({ variant: 'webgpu/fp32/fusion-on' }),
  aborted({ variant: 'webgpu/fp32/fusion-on', batch: 8 }),
];

const INPUT: ReportInput = { suite: 'resnet50', records: RECORDS, baselineVariant: undefined, color: false, width: 200 };

function render(name: string, input: Partial<ReportInput> = {}): string {
  const reporter = REPORTERS.find((one) => one.name === name);
  if (!reporter) throw new Error(`no reporter ${name}`);
  const text = reporter.render({ ...INPUT, ...input });
  if (typeof text !== 'string') throw new Error(`${name} gives a promise`);
  return text;
}

describe('table', () => {
  it('shows which option, model or node a failure is of', () => {
    const of = (details: readonly string[]) => {
      const record = failed();
      return render('table', { records: [{ ...record, error: { ...record.error, details } }] });
    };
    expect(of(["thread: no such option; did you mean 'threads'?"])).toContain("the worker ran out of memory (thread: no such option; did you mean 'threads'?)\n");
    expect(of(['a', 'b', 'c', 'd', 'e'])).toContain('(a; b; c; and 2 more)\n');
    expect(of([])).toContain('the worker ran out of memory\n');
  });

  it('shows what was measured, what was not and why', () => {
    expect(render('table')).toMatchInlineSnapshot(`
      "suite resnet50 · model resnet50-v1-7 (aaaaaaaaaaaa) · device cpu-test-2c (test device cpu-test-2c)

      variant                     batch  p50 ms      ±  p95 ms  p99 ms   QPS  memory   top-1  vs fp32  speed-up
      ─────────────────────────────────────────────────────────────────────────────────────────────────────────
      onnxruntime/fp32/fusion-on      1    31.5  0.1 %    31.6    31.6  31.7     190  79.2 %    100 %     1.00×
      onnxruntime/fp32/fusion-on      8     215  0.0 %     215     215  37.2     190  79.2 %    100 %     1.00×
      onnxruntime/int8/fusion-on      1    12.9  0.1 %    13.0    13.0  77.5     190  78.8 %   98.4 %     2.44×

      Latency is per request. ± is half the 95 % interval of p50. QPS counts items: requests × batch. Memory is in MiB: the worker's peak resident set above what it held before the engine was loaded.
      vs fp32 is the share of inputs that get the same first class, or else the signal-to-noise ratio. Speed-up is relative to onnxruntime/fp32/fusion-on at the same batch and scenario.

      failed   onnxruntime/int8/fusion-on/b8/single-stream: out-of-memory at measure: the worker ran out of memory
               fix: use a smaller batch
      skipped  webgpu/fp32/fusion-on/b1/single-stream: no adapter
               fix: install a Vulkan driver
      aborted  webgpu/fp32/fusion-on/b8/single-stream: cut off after 1 round; so far p50 10.1 ms, 796 QPS (2 samples)
               fix: continue with \`tsrt-bench run --resume\`
      warning  p99 rests on 55 samples, too few to bound it (2 cases)
               raise --rounds or --time
      warning  the machine was busy: other programs kept 3.20 of 2 cores (onnxruntime/int8/fusion-on/b1/single-stream)
               close other programs and run again

      fastest  at batch 1, single-stream, within the accuracy budget: onnxruntime/int8/fusion-on 12.9 ms, top-1 78.8 %, 190 MiB
      pareto   at batch 1, single-stream: onnxruntime/int8/fusion-on 12.9 ms, top-1 78.8 %, 190 MiB
      pareto   at batch 1, single-stream: onnxruntime/fp32/fusion-on 31.5 ms, top-1 79.2 %, 190 MiB
      "
    `);
  });

  it('leaves out what does not fit, and says so', () => {
    const narrow = render('table', { width: 80 });
    expect(narrow).toMatchInlineSnapshot(`
      "suite resnet50 · model resnet50-v1-7 (aaaaaaaaaaaa) · device cpu-test-2c (test
      device cpu-test-2c)

      variant                     batch  p50 ms   QPS  memory  vs fp32  speed-up
      ──────────────────────────────────────────────────────────────────────────
      onnxruntime/fp32/fusion-on      1    31.5  31.7     190    100 %     1.00×
      onnxruntime/fp32/fusion-on      8     215  37.2     190    100 %     1.00×
      onnxruntime/int8/fusion-on      1    12.9  77.5     190   98.4 %     2.44×

      Latency is per request. QPS counts items: requests × batch.
      Memory is in MiB: the worker's peak resident set above what it held before the
      engine was loaded.
      vs fp32 is the share of inputs that get the same first class, or else the
      signal-to-noise ratio.
      Speed-up is relative to onnxruntime/fp32/fusion-on at the same batch and
      scenario.
      Hidden at this width: ±, p99 ms, p95 ms, top-1; they are in --format csv.

      failed   onnxruntime/int8/fusion-on/b8/single-stream: out-of-memory at measure:
               the worker ran out of memory
               fix: use a smaller batch
      skipped  webgpu/fp32/fusion-on/b1/single-stream: no adapter
               fix: install a Vulkan driver
      aborted  webgpu/fp32/fusion-on/b8/single-stream: cut off after 1 round; so far
               p50 10.1 ms, 796 QPS (2 samples)
               fix: continue with \`tsrt-bench run --resume\`
      warning  p99 rests on 55 samples, too few to bound it (2 cases)
               raise --rounds or --time
      warning  the machine was busy: other programs kept 3.20 of 2 cores
               (onnxruntime/int8/fusion-on/b1/single-stream)
               close other programs and run again

      fastest  at batch 1, single-stream, within the accuracy budget:
               onnxruntime/int8/fusion-on 12.9 ms, top-1 78.8 %, 190 MiB
      pareto   at batch 1, single-stream: onnxruntime/int8/fusion-on 12.9 ms, top-1
               78.8 %, 190 MiB
      pareto   at batch 1, single-stream: onnxruntime/fp32/fusion-on 31.5 ms, top-1
               79.2 %, 190 MiB
      "
    `);
    expect(Math.max(...narrow.split('\n').map((line) => line.length))).toBeLessThanOrEqual(80);
  });

  it('says what QPS counts: items, and requests where they were collected into batches', () => {
    const alone = completed({ batch: 8 });
    const scenario = { ...alone.case.scenario, name: 'server', targetQps: 9, maxQueueDelayMs: 2 } as const;
    const collected = { ...alone, case: { ...alone.case, id: 'collected', scenario }, rounds: alone.rounds.map((round) => ({ ...round, batches: 2 })) };
    const legend = (records: ReportInput['records']): string => /QPS counts [^.]*\./.exec(render('table', { records }))![0];
    expect(legend([alone])).toBe('QPS counts items: requests × batch.');
    expect(legend([alone, collected])).toBe('QPS counts items: requests × batch, or requests of one item where these were collected into batches.');
    expect(legend([collected])).toBe('QPS counts requests of one item.');
  });

  it('names cases that ended alike under one reason', () => {
    const text = render('table', { records: [skipped(), skipped({ batch: 8 })] });
    expect(text.match(/no adapter/g)).toHaveLength(1);
    expect(text).toMatch(/^skipped  2 cases: no adapter\n {9}fix: install a Vulkan driver\n {9}\S+\/b1\/single-stream\n {9}\S+\/b8\/single-stream$/m);
  });

  it('colours only where colours are wanted', () => {
    expect(render('table')).not.toContain('\u001B');
    expect(render('table', { color: true })).toContain('\u001B[31mfailed');
    expect(stripVTControlCharacters(render('table', { color: true }))).toBe(render('table'));
  });

  it('says when nothing was measured', () => {
    expect(render('table', { records: [skipped()] })).toMatchInlineSnapshot(`
      "suite resnet50 · model resnet50-v1-7 (aaaaaaaaaaaa) · device cpu-test-2c (test device cpu-test-2c)
      No case was measured.

      skipped  onnxruntime/fp32/fusion-on/b1/single-stream: no adapter
               fix: install a Vulkan driver
      "
    `);
  });

  it('states speed-ups against the variant that is asked for, at the same batch', () => {
    const columns = render('table', { baselineVariant: 'onnxruntime/int8' });
    expect(columns).toContain('Speed-up is relative to onnxruntime/int8/fusion-on');
    expect(columns).toMatch(/fp32\/fusion-on +1 .* 0\.41×$/m);
    expect(columns).toMatch(/fp32\/fusion-on +8 .* –$/m);
  });
});

describe('what the device takes', () => {
  const records = [completed({ deviceNs: 241_000 }), completed({ variant: 'pytorch/fp32/fusion-on' })];
  const rendered = (name: string) => render(name, { records });

  it('has a column where one tells it, with a dash for who does not', () => {
    const lines = rendered('markdown').split('\n').filter((line) => line.startsWith('|'));
    const cells = lines.map((line) => line.split('|').map((cell) => cell.trim()));
    const at = cells[0]!.indexOf('device ms');
    expect(cells.slice(2).map((row) => row[at])).toEqual(['0.241', '–']);
    expect(rendered('markdown')).toContain('Device ms is the time of one execution on the device, by its own clock.');
  });

  it('stands in the CSV in milliseconds', () => {
    const rows = rendered('csv').split('\r\n').map((line) => line.split(','));
    const at = rows[0]!.indexOf('device_ms');
    expect(rows.slice(1, 3).map((row) => row[at])).toEqual(['0.241', '']);
  });
});

describe('an interval that the rounds are too few for', () => {
  const records = [completed({ latencyMs: timings(31.4).slice(0, 2) }), completed({ batch: 8, latencyMs: timings(215) })];

  it('is a dash in the table, which says how many it takes', () => {
    const table = render('markdown', { records });
    const cells = table.split('\n').filter((line) => line.startsWith('|')).map((line) => line.split('|').map((cell) => cell.trim()));
    expect(cells.slice(2).map((row) => row[cells[0]!.indexOf('±')])).toEqual(['–', '0.0 %']);
    expect(table).toContain('± is half the 95 % interval of p50, which needs 3 rounds.');
  });

  it('is empty in the CSV', () => {
    const rows = render('csv', { records }).split('\r\n').map((line) => line.split(','));
    for (const bound of ['latency_p50_low_ms', 'latency_p50_high_ms']) {
      const cells = rows.slice(1, 3).map((row) => row[rows[0]!.indexOf(bound)]!);
      expect(cells[0]).toBe('');
      expect(Number(cells[1])).toBeCloseTo(215.1, 1);
    }
  });
});

describe('golden texts', () => {
  it('markdown', () => {
    expect(render('markdown')).toMatchInlineSnapshot(`
      "### suite resnet50 · model resnet50-v1-7 (aaaaaaaaaaaa) · device cpu-test-2c (test device cpu-test-2c)

      | variant | batch | p50 ms | ± | p95 ms | p99 ms | QPS | memory | top-1 | vs fp32 | speed-up |
      | :-- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |
      | onnxruntime/fp32/fusion-on | 1 | 31.5 | 0.1 % | 31.6 | 31.6 | 31.7 | 190 | 79.2 % | 100 % | 1.00× |
      | onnxruntime/fp32/fusion-on | 8 | 215 | 0.0 % | 215 | 215 | 37.2 | 190 | 79.2 % | 100 % | 1.00× |
      | onnxruntime/int8/fusion-on | 1 | 12.9 | 0.1 % | 13.0 | 13.0 | 77.5 | 190 | 78.8 % | 98.4 % | 2.44× |

      Latency is per request. ± is half the 95 % interval of p50. QPS counts items: requests × batch. Memory is in MiB: the worker's peak resident set above what it held before the engine was loaded. vs fp32 is the share of inputs that get the same first class, or else the signal-to-noise ratio. Speed-up is relative to onnxruntime/fp32/fusion-on at the same batch and scenario.

      - **fastest** at batch 1, single-stream, within the accuracy budget: onnxruntime/int8/fusion-on 12.9 ms, top-1 78.8 %, 190 MiB
      - **pareto** at batch 1, single-stream: onnxruntime/int8/fusion-on 12.9 ms, top-1 78.8 %, 190 MiB
      - **pareto** at batch 1, single-stream: onnxruntime/fp32/fusion-on 31.5 ms, top-1 79.2 %, 190 MiB

      - **failed** onnxruntime/int8/fusion-on/b8/single-stream: out-of-memory at measure: the worker ran out of memory (fix: use a smaller batch)
      - **skipped** webgpu/fp32/fusion-on/b1/single-stream: no adapter (fix: install a Vulkan driver)
      - **aborted** webgpu/fp32/fusion-on/b8/single-stream: cut off after 1 round; so far p50 10.1 ms, 796 QPS (2 samples) (fix: continue with \\\`tsrt-bench run --resume\\\`)
      - **warning** p99 rests on 55 samples, too few to bound it (2 cases)
      - **warning** the machine was busy: other programs kept 3.20 of 2 cores (1 case)
      "
    `);
  });

  it('csv', () => {
    expect(render('csv').replaceAll('\r\n', '\n')).toMatchInlineSnapshot(`
      "case,status,variant,backend,precision,batch,scenario,device,latency_p50_ms,latency_p50_low_ms,latency_p50_high_ms,latency_p95_ms,latency_p99_ms,device_ms,items_per_second,items_per_batch,memory_bytes,device_bytes,engine_bytes,build_ms,load_ms,load_pipelines_ms,load_first_ms,top1_percent,top5_percent,agreement_percent,snr_db,cosine_min,max_abs_error,speedup,rounds,samples,reason
      onnxruntime/fp32/fusion-on/b1/single-stream,completed,onnxruntime/fp32/fusion-on,onnxruntime,fp32,1,single-stream,cpu-test-2c,31.505,31.488078000728134,31.521931093318805,31.595,31.602050000000002,,31.740993493096333,,199229440,,104857600,812,95,,,79.2,94.6,100,96.5,0.9999,0.001,1,3,60,
      onnxruntime/fp32/fusion-on/b8/single-stream,completed,onnxruntime/fp32/fusion-on,onnxruntime,fp32,8,single-stream,cpu-test-2c,215.105,215.0880741206302,215.12192721131433,215.195,215.20204999999999,,37.19113921108296,,199229440,,104857600,812,95,,,79.2,94.6,100,96.5,0.9999,0.001,1,3,60,
      onnxruntime/int8/fusion-on/b1/single-stream,completed,onnxruntime/int8/fusion-on,onnxruntime,int8,1,single-stream,cpu-test-2c,12.905,12.888084549531767,12.921937651786314,12.995,13.00205,,77.48934521503293,,199229440,,104857600,812,95,,,78.8,94.6,98.4,96.5,0.9999,0.001,2.4413018209996125,3,60,
      onnxruntime/int8/fusion-on/b8/single-stream,failed,onnxruntime/int8/fusion-on,onnxruntime,int8,8,single-stream,cpu-test-2c,,,,,,,,,,,,,,,,,,,,,,,,,out-of-memory at measure: the worker ran out of memory
      webgpu/fp32/fusion-on/b1/single-stream,skipped,webgpu/fp32/fusion-on,webgpu,fp32,1,single-stream,cpu-test-2c,,,,,,,,,,,,,,,,,,,,,,,,,no adapter
      webgpu/fp32/fusion-on/b8/single-stream,aborted,webgpu/fp32/fusion-on,webgpu,fp32,8,single-stream,cpu-test-2c,,,,,,,,,,,,,,,,,,,,,,,,,"cut off after 1 round; so far p50 10.1 ms, 796 QPS (2 samples)"
      "
    `);
  });

  it('junit', () => {
    expect(render('junit')).toMatchInlineSnapshot(`
      "<?xml version="1.0" encoding="UTF-8"?>
      <testsuites>
        <testsuite name="resnet50" tests="6" failures="1" errors="1" skipped="1">
          <testcase name="onnxruntime/fp32/fusion-on/b1/single-stream" classname="onnxruntime/fp32/fusion-on">
            <system-out>p50 / p95 / p99 31.5 / 31.6 / 31.6 ms, 31.7 items/s, 190 MiB, top-1 79.2 %, vs fp32 100 %</system-out>
          </testcase>
          <testcase name="onnxruntime/fp32/fusion-on/b8/single-stream" classname="onnxruntime/fp32/fusion-on">
            <system-out>p50 / p95 / p99 215 / 215 / 215 ms, 37.2 items/s, 190 MiB, top-1 79.2 %, vs fp32 100 %</system-out>
          </testcase>
          <testcase name="onnxruntime/int8/fusion-on/b1/single-stream" classname="onnxruntime/int8/fusion-on">
            <system-out>p50 / p95 / p99 12.9 / 13.0 / 13.0 ms, 77.5 items/s, 190 MiB, top-1 78.8 %, vs fp32 98.4 %</system-out>
          </testcase>
          <testcase name="onnxruntime/int8/fusion-on/b8/single-stream" classname="onnxruntime/int8/fusion-on">
            <failure message="out-of-memory at measure: the worker ran out of memory" type="failed">fix: use a smaller batch</failure>
          </testcase>
          <testcase name="webgpu/fp32/fusion-on/b1/single-stream" classname="webgpu/fp32/fusion-on">
            <skipped message="no adapter"/>
          </testcase>
          <testcase name="webgpu/fp32/fusion-on/b8/single-stream" classname="webgpu/fp32/fusion-on">
            <error message="cut off after 1 round; so far p50 10.1 ms, 796 QPS (2 samples)" type="aborted"/>
          </testcase>
        </testsuite>
      </testsuites>
      "
    `);
  });

  it('github', () => {
    expect(render('github')).toMatchInlineSnapshot(`
      "::error title=failed%3A onnxruntime/int8/fusion-on/b8/single-stream::out-of-memory at measure: the worker ran out of memory%0Afix: use a smaller batch
      ::warning title=skipped%3A webgpu/fp32/fusion-on/b1/single-stream::no adapter%0Afix: install a Vulkan driver
      ::warning title=aborted%3A webgpu/fp32/fusion-on/b8/single-stream::cut off after 1 round; so far p50 10.1 ms, 796 QPS (2 samples)%0Afix: continue with \`tsrt-bench run --resume\`
      ::warning title=resnet50%3A 2 cases::p99 rests on 55 samples, too few to bound it%0Araise --rounds or --time
      ::warning title=resnet50%3A 1 case::the machine was busy: other programs kept 3.20 of 2 cores%0Aclose other programs and run again
      ::group::results of resnet50
      suite resnet50 · model resnet50-v1-7 (aaaaaaaaaaaa) · device cpu-test-2c (test device cpu-test-2c)

      variant                     batch  p50 ms      ±  p95 ms  p99 ms   QPS  memory   top-1  vs fp32  speed-up
      ─────────────────────────────────────────────────────────────────────────────────────────────────────────
      onnxruntime/fp32/fusion-on      1    31.5  0.1 %    31.6    31.6  31.7     190  79.2 %    100 %     1.00×
      onnxruntime/fp32/fusion-on      8     215  0.0 %     215     215  37.2     190  79.2 %    100 %     1.00×
      onnxruntime/int8/fusion-on      1    12.9  0.1 %    13.0    13.0  77.5     190  78.8 %   98.4 %     2.44×

      Latency is per request. ± is half the 95 % interval of p50. QPS counts items: requests × batch.
      Memory is in MiB: the worker's peak resident set above what it held before the engine was loaded.
      vs fp32 is the share of inputs that get the same first class, or else the signal-to-noise ratio.
      Speed-up is relative to onnxruntime/fp32/fusion-on at the same batch and scenario.

      failed   onnxruntime/int8/fusion-on/b8/single-stream: out-of-memory at measure: the worker ran out of memory
               fix: use a smaller batch
      skipped  webgpu/fp32/fusion-on/b1/single-stream: no adapter
               fix: install a Vulkan driver
      aborted  webgpu/fp32/fusion-on/b8/single-stream: cut off after 1 round; so far p50 10.1 ms, 796 QPS (2 samples)
               fix: continue with \`tsrt-bench run --resume\`
      warning  p99 rests on 55 samples, too few to bound it (2 cases)
               raise --rounds or --time
      warning  the machine was busy: other programs kept 3.20 of 2 cores (onnxruntime/int8/fusion-on/b1/single-stream)
               close other programs and run again

      fastest  at batch 1, single-stream, within the accuracy budget: onnxruntime/int8/fusion-on 12.9 ms, top-1 78.8 %, 190 MiB
      pareto   at batch 1, single-stream: onnxruntime/int8/fusion-on 12.9 ms, top-1 78.8 %, 190 MiB
      pareto   at batch 1, single-stream: onnxruntime/fp32/fusion-on 31.5 ms, top-1 79.2 %, 190 MiB
      ::endgroup::
      "
    `);
  });

  it('json', () => {
    const report = JSON.parse(render('json')) as { readonly rows: readonly Record<string, unknown>[] };
    expect(Object.keys(report)).toEqual(['suite', 'rows', 'baselineVariant', 'devices', 'models', 'runIds', 'warnings']);
    expect(report.rows.map((row) => row['status'])).toEqual(['completed', 'completed', 'completed', 'failed', 'skipped', 'aborted']);
    expect(report.rows[1]).toMatchInlineSnapshot(`
      {
        "accuracy": {
          "agreementPercent": 100,
          "cosineMin": 0.9999,
          "inputs": "imagenet-sample 0f3a",
          "maxAbsError": 0.001,
          "samples": 500,
          "snrDb": 96.5,
          "top1Percent": 79.2,
          "top5Percent": 94.6,
          "untrained": false,
        },
        "backend": "onnxruntime",
        "batch": 8,
        "buildMs": 812,
        "caseId": "onnxruntime/fp32/fusion-on/b8/single-stream",
        "device": "cpu-test-2c",
        "engineBytes": 104857600,
        "itemsPerSecond": {
          "confidence": 0.95,
          "high": 37.194065885369696,
          "low": 37.188212767086256,
          "point": 37.19113921108296,
        },
        "latencyMs": {
          "p50": {
            "confidence": 0.95,
            "high": 215.12192721131433,
            "low": 215.0880741206302,
            "point": 215.105,
          },
          "p95": {
            "confidence": 0.95,
            "high": "Infinity",
            "low": "-Infinity",
            "point": 215.195,
            "roundsNeeded": 144,
          },
          "p99": {
            "confidence": 0.95,
            "high": "Infinity",
            "low": "-Infinity",
            "point": 215.20204999999999,
            "roundsNeeded": 736,
          },
        },
        "loadMs": 95,
        "memoryBytes": 199229440,
        "overBudget": false,
        "precision": "fp32",
        "rounds": 3,
        "samples": 60,
        "scenario": "single-stream",
        "speedup": 1,
        "status": "completed",
        "variant": "onnxruntime/fp32/fusion-on",
      }
    `);
  });
});

describe('hostile messages', () => {
  const hostile = (message: string): Partial<ReportInput> => ({ records: [completed(), failed({ batch: 2, message })] });
  const text = fc.oneof(
    anyText,
    fc.string({ unit: fc.constantFrom('<', '>', '&', '"', "'", ']', ']]>', '\u0000', '\u001B', '\r', '\n', '%', ':', ',', '|', '`', '\uD800', '&amp;', '::error::') }),
  );

  const messages = fc.sample(text, { seed: 5, numRuns: 300 });

  it('junit stays well-formed, and its message comes back', () => {
    const readable = messages.map((message) => message.replace(/[^\t\n\r\u{20}-\u{D7FF}\u{E000}-\u{FFFD}\u{10000}-\u{10FFFF}]/gu, '\u{FFFD}'));
    const read = messages.map((message) => {
      const suite = parseXml(render('junit', hostile(message))).children[0] as XmlNode;
      const failure = (suite.children[1] as XmlNode).children[0] as XmlNode;
      return failure.attributes['message'];
    });
    expect(read).toEqual(readable.map((message) => `out-of-memory at measure: ${message}`));
  });

  it('csv keeps its lines and columns', () => {
    const tables = messages.map((message) => parseCsv(render('csv', hostile(message))));
    expect(tables.map((rows) => rows.map((row) => row.length))).toEqual(messages.map(() => [33, 33, 33]));
    expect(tables.map((rows) => rows[2]?.at(-1))).toEqual(messages.map((message) => `out-of-memory at measure: ${message}`));
  });

  it('csv gives a spreadsheet no formula', () => {
    const row = parseCsv(render('csv', { records: [skipped({ variant: '=cmd()/fp32' })] }))[1];
    expect(row?.[0]).toBe("'=cmd()/fp32/b1/single-stream");
  });

  it('github: a message is one line, and only our own lines are commands', () => {
    const commands = messages.slice(0, 100).map((message) =>
      render('github', hostile(message))
        .split(/\r\n|\r|\n/)
        .filter((line) => /^\s*::/.test(line))
        .map((line) => /^::(\w+)/.exec(line)?.[1])
        .join(),
    );
    expect(new Set(commands)).toEqual(new Set(['error,group,endgroup']));
  });

  it('markdown: a message is text', () => {
    const lines = render('markdown', hostile('<img src=x> | [a](b) @team\n# head `code`')).split('\n');
    expect(lines.filter((line) => line.includes('failed'))).toEqual([
      '- **failed** onnxruntime/fp32/fusion-on/b2/single-stream: out-of-memory at measure: &lt;img src=x&gt; \\| \\[a\\](b) &#64;team # head \\`code\\` (fix: use a smaller batch)',
    ]);
  });

  it('numbers that JSON lacks are written as words', () => {
    const broken = completed({ accuracy: { ...ACCURACY, cosineMin: NaN, maxAbsError: Infinity, snrDb: -Infinity } });
    const report = JSON.parse(render('json', { records: [broken] })) as { rows: { accuracy: unknown }[] };
    expect(report.rows[0]?.accuracy).toMatchObject({ cosineMin: 'NaN', maxAbsError: 'Infinity', snrDb: '-Infinity' });
  });
});

/** RFC 4180. */
function parseCsv(csv: string): string[][] {
  const rows: string[][] = [];
  let row: string[] = [];
  for (const [, quoted, bare, end] of csv.matchAll(/(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n)/g)) {
    row.push(quoted === undefined ? (bare ?? '') : quoted.replaceAll('""', '"'));
    if (end === ',') continue;
    rows.push(row);
    row = [];
  }
  return rows;
}
