/** The HTML report: read by a parser that follows the standard, as a browser would read it. */
import { createHash } from 'node:crypto';
import { type DefaultTreeAdapterTypes, defaultTreeAdapter, parse } from 'parse5';
import { describe, expect, it } from 'vitest';
import { htmlReporter } from '../../../src/report/html.ts';
import { distribution, inTime } from '../../../src/report/html/thin.ts';
import type { BenchRecord, CompletedRecord } from '../../../src/results/record.ts';
import { ACCURACY, aborted, completed, failed, skipped } from '../../helpers/records.ts';

type Element = DefaultTreeAdapterTypes.Element;

class Page {
  readonly elements: readonly Element[];
  readonly text: string;

  constructor(text: string) {
    this.text = text;
    const found: Element[] = [];
    const visit = (node: DefaultTreeAdapterTypes.Node): void => {
      if (defaultTreeAdapter.isElementNode(node)) found.push(node);
      if ('childNodes' in node) node.childNodes.forEach(visit);
    };
    visit(parse(text));
    this.elements = found;
  }

  all(name: string): readonly Element[] {
    return this.elements.filter(({ tagName }) => tagName === name);
  }

  section(id: string): readonly Element[] {
    const section = this.all('section').find((one) => attribute(one, 'aria-labelledby') === id);
    if (!section) return [];
    const within: Element[] = [];
    const visit = (node: DefaultTreeAdapterTypes.Node): void => {
      if (defaultTreeAdapter.isElementNode(node)) within.push(node);
      if ('childNodes' in node) node.childNodes.forEach(visit);
    };
    section.childNodes.forEach(visit);
    return within;
  }
}

const attribute = (element: Element, name: string) => element.attrs.find((one) => one.name === name)?.value;

function textOf(node: DefaultTreeAdapterTypes.Node): string {
  if (defaultTreeAdapter.isTextNode(node)) return node.value;
  return 'childNodes' in node ? node.childNodes.map(textOf).join('') : '';
}

async function page(records: readonly BenchRecord[], suite = 'resnet50'): Promise<Page> {
  return new Page(await htmlReporter.render({ suite, records, baselineVariant: undefined, color: false, width: 80 }));
}

const timings = (ms: number, rounds = 6) => Array.from({ length: rounds }, (_, round) => Array.from({ length: 20 }, (_, i) => ms * (1 + i * 1e-3 + round * 5e-4)));
const INT8 = 'onnxruntime/int8/fusion-on';
const proven = (record: CompletedRecord): CompletedRecord => ({ ...record, build: { ...record.build, precision: { int8: 0.987, float32: 0.013 }, loadSteps: { uploadMs: 5, pipelinesMs: 33 } } });

const RECORDS: readonly BenchRecord[] = [
  completed({ latencyMs: timings(30), accuracy: ACCURACY, warnings: [{ kind: 'few-samples', samples: 60, percentile: 99 }] }),
  completed({ batch: 8, latencyMs: timings(200), accuracy: ACCURACY }),
  proven(completed({ variant: INT8, latencyMs: timings(12), accuracy: { ...ACCURACY, top1Percent: 78.8 } })),
  proven(completed({ variant: INT8, batch: 8, latencyMs: timings(80), accuracy: { ...ACCURACY, top1Percent: 78.8 } })),
  failed({ variant: INT8, batch: 16 }),
  skipped({ variant: 'webgpu/fp32/fusion-on' }),
  aborted({ variant: 'webgpu/fp32/fusion-on', batch: 8 }),
];

const titles = (elements: readonly Element[]) => elements.filter(({ tagName }) => tagName === 'figcaption').map(textOf);

describe('html', () => {
  it('has every part, each reachable from the top', async () => {
    const found = await page(RECORDS);
    expect(found.all('h1').map(textOf)).toEqual(['Suite resnet50']);
    expect(found.all('h2').map(textOf)).toEqual(['Results', 'Not measured', 'Warnings', 'Latency and throughput', 'What speed costs', 'Speed-up', 'Engines', 'Samples', 'Conditions']);
    const ids = found.elements.flatMap((element) => attribute(element, 'id') ?? []);
    expect(new Set(ids).size).toBe(ids.length);
    const targets = found.all('a').map((link) => attribute(link, 'href')!.slice(1));
    expect(targets.filter((target) => !ids.includes(target))).toEqual([]);
    expect(textOf(found.all('header')[0]!)).toMatch(/7 cases \(4 completed, 1 failed, 1 skipped, 1 aborted\) on cpu-test-2c.*20260131T080509Z-a1b2c3.*resnet50-v1-7.*Test CPU, 2 cores.*0123456789ab/s);
  });

  it('charts latency, throughput, what speed costs and speed-ups, and the samples of each case that has some', async () => {
    const found = await page(RECORDS);
    expect(titles(found.section('batch'))).toEqual(['Latency p50 by batch, ms', 'Throughput by batch, items/s']);
    expect(titles(found.section('trade-off'))).toEqual(['Latency and top-1 at batch 1', 'Latency and top-1 at batch 8']);
    expect(titles(found.section('speed-up'))).toEqual(['Speed-up at batch 1', 'Speed-up at batch 8']);
    const cases = found.section('samples').filter((element) => attribute(element, 'class') === 'case');
    expect(cases.map((one) => attribute(one, 'id'))).toEqual(['case-1', 'case-2', 'case-3', 'case-4', 'case-5']);
    expect(textOf(cases[4]!)).toMatch(/^webgpu\/fp32\/fusion-on\/b8\/single-stream aborted, 2 samples/);
  });

  it('says every chart in words', async () => {
    const charts = (await page(RECORDS)).all('figure').map((figure) => figure.childNodes.filter(defaultTreeAdapter.isElementNode).find(({ tagName }) => tagName === 'svg')!);
    expect(charts.map((svg) => attribute(svg, 'role'))).toEqual(charts.map(() => 'img'));
    const words = charts.map((svg) => attribute(svg, 'aria-label')!);
    expect(words[0]).toMatch(/^Latency p50 in ms by batch\. onnxruntime\/fp32\/fusion-on, batch 1: 30\.\d \(30\.\d to 30\.\d\)|batch 1: 30\.\d ms \(30\.\d to 30\.\d\)/);
    expect(words[2]).toMatch(/^Latency and top-1 at batch 1\. .*onnxruntime\/int8\/fusion-on: 12\.1 ms, 78\.8 %\.$/);
    expect(words[4]).toBe('Speed-up at batch 1 against onnxruntime/fp32/fusion-on. onnxruntime/fp32/fusion-on: 1.00×; onnxruntime/int8/fusion-on: 2.50×.');
    expect(words[6]).toMatch(/^Distribution of onnxruntime\/fp32\/fusion-on\/b1\/single-stream: least 30\.0, .* p99 30\.\d, most 30\.\d ms\.$/);
    expect(words[7]).toMatch(/Medians of the 6 rounds: 30\.3, /);
  });

  it('has tables with heads, in full precision for sorting, and the proof of the precision', async () => {
    const found = await page(RECORDS);
    expect(found.all('table').map((table) => textOf(table.childNodes.find((node): node is Element => 'tagName' in node && node.tagName === 'caption')!))).toEqual(['Results', 'Engines']);
    const heads = found.all('th');
    expect(heads.filter((head) => attribute(head, 'scope') === undefined)).toEqual([]);
    const cells = found.section('results').filter(({ tagName }) => tagName === 'td').filter((cell) => attribute(cell, 'class') === 'number');
    expect(cells.filter((cell) => textOf(cell) !== '–' && !Number.isFinite(Number(attribute(cell, 'data-order'))))).toEqual([]);
    const engines = found.section('engines').filter(({ tagName }) => tagName === 'tr').map((row) => row.childNodes.map(textOf));
    expect(engines[0]).toEqual(['case', 'asked for', 'operations run in', 'engine', 'build ms', 'load ms', 'driver compiles ms', 'first inference ms']);
    expect(engines[3]).toEqual([`${INT8}/b1/single-stream`, 'int8', '98.7 % int8, 1.3 % float32', '100 MiB', '812', '95.0', '33.0', '40.0']);
  });

  it('says how each run is measured again, by its command line where the records have it', async () => {
    const [first, ...others] = RECORDS;
    const called = { ...first!, provenance: { ...first!.provenance, command: "tsrt-bench run suites/resnet50 --model 'my net.onnx'" } };
    const facts = (await page([called, ...others])).all('div').find(({ childNodes }) => childNodes[0] !== undefined && textOf(childNodes[0]) === 'Measure again')!;
    expect(facts.childNodes.slice(1).map(textOf)).toEqual(["tsrt-bench run suites/resnet50 --model 'my net.onnx'", 'tsrt-bench run resnet50 --seed 1, and the flags of then, which these records do not have']);
  });

  it('fetches nothing, and its policy lets its own style and script alone through', async () => {
    const found = await page(RECORDS);
    const outside = found.elements.flatMap(({ tagName, attrs }) => attrs.filter(({ name, value }) => ['src', 'srcset', 'data', 'xlink:href', 'style'].includes(name) || (name === 'href' && !value.startsWith('#')) || /url\(|https?:/.test(value)).map(({ name }) => `${tagName} ${name}`));
    expect(outside).toEqual([]);
    const [script, ...scripts] = found.all('script');
    expect(scripts).toEqual([]);
    const hash = (element: Element) => createHash('sha256').update(textOf(element)).digest('base64');
    const policy = found.all('meta').find((meta) => attribute(meta, 'http-equiv') === 'Content-Security-Policy')!;
    expect(found.all('style')).toHaveLength(1);
    expect(attribute(policy, 'content')).toBe(`default-src 'none'; style-src 'sha256-${hash(found.all('style')[0]!)}'; script-src 'sha256-${hash(script!)}'`);
  });

  it('shows names as they are, whatever they hold', async () => {
    const name = `</title></style><script>alert(1)</script>"'&amp;<!--<svg onload=alert(1)>`;
    const variant = `${name}/fp32/fusion-on`;
    const hostile = { suite: name, variant, device: name, runId: name };
    const found = await page(
      [
        completed({ ...hostile, latencyMs: timings(1), accuracy: ACCURACY, warnings: [{ kind: 'notice', text: name }] }),
        completed({ ...hostile, variant: `${variant}/2`, latencyMs: timings(2), accuracy: { ...ACCURACY, top1Percent: 1 } }),
        failed({ ...hostile, batch: 2, message: name }),
      ],
      name,
    );
    expect(textOf(found.all('title')[0]!)).toBe(`${name} – tsrt-bench`);
    expect(found.all('h1').map(textOf)).toEqual([`Suite ${name}`]);
    expect(found.all('script')).toHaveLength(1);
    expect(found.elements.filter(({ attrs }) => attrs.some((one) => one.name.startsWith('on')))).toEqual([]);
    expect(found.section('not-measured').map(textOf)[1]).toContain(`out-of-memory at measure: ${name}`);
    expect(found.section('warnings').map(textOf)[1]).toContain(name);
    expect(textOf(found.section('results').find(({ tagName }) => tagName === 'a')!)).toBe(variant);
  });

  it('of one batch, variants stand one below the other; of one variant there is neither a trade nor a speed-up', async () => {
    const found = await page([completed({ latencyMs: [[10, 11]] })]);
    expect(titles(found.section('batch'))).toEqual(['Latency p50 at batch 1, ms', 'Throughput at batch 1, items/s']);
    expect([found.section('trade-off'), found.section('speed-up'), found.section('warnings')]).toEqual([[], [], []]);
    // Too few rounds for an interval.
    expect(found.section('results').filter(({ tagName }) => tagName === 'td').map(textOf)).toContain('–');
    expect(textOf(found.all('main')[0]!)).not.toMatch(/NaN|Infinity|undefined|∞/);
    expect(found.elements.flatMap(({ attrs }) => attrs.map(({ value }) => value)).filter((value) => /NaN|Infinity|undefined/.test(value))).toEqual([]);
  });

  it('without accuracy memory is what speed costs', async () => {
    const found = await page([completed({ latencyMs: timings(10) }), completed({ variant: INT8, latencyMs: timings(5), residentPeakBytes: 2 ** 29 })]);
    expect(titles(found.section('trade-off'))).toEqual(['Latency and memory at batch 1']);
    expect(found.section('trade-off').filter(({ tagName }) => tagName === 'p').map(textOf)).toEqual([expect.stringMatching(/fastest first: onnxruntime\/int8\/fusion-on: 5\.0\d ms, 452 MiB; onnxruntime\/fp32\/fusion-on: 10\.1 ms, 190 MiB\.$/)]);
  });

  it('nothing measured, and nothing at all', async () => {
    const broken = await page([failed(), skipped({ batch: 8 })]);
    expect(broken.all('h2').map(textOf)).toEqual(['Results', 'Not measured', 'Conditions']);
    expect(broken.section('results').map(textOf)).toEqual(['Results', 'No case was measured.']);
    expect((await page([])).all('h2').map(textOf)).toEqual(['Results']);
  });

  it('is the same twice', async () => {
    expect((await page(RECORDS)).text).toBe((await page(RECORDS)).text);
  });

  it('stays small for many cases', async () => {
    const many = Array.from({ length: 60 }, (_, i) => completed({ variant: `backend/fp32/fusion-on/threads-${i}`, latencyMs: timings(10 + i, 24) }));
    const found = await page(many);
    expect(found.text.length).toBeLessThan(2e6);
    // Six are open, the others a key away.
    expect(found.elements.filter((element) => attribute(element, 'class') === 'case' && attribute(element, 'open') !== undefined)).toHaveLength(6);
  }, 60_000);
});

describe('thinning', () => {
  it('keeps every sample where they are few, and outliers where they are many', () => {
    expect(inTime([[3, 1], [2]], 3)).toEqual([{ x: 0, y: 3 }, { x: 1, y: 1 }, { x: 2, y: 2 }]);
    const samples = Array.from({ length: 10_000 }, (_, i) => (i === 4321 ? 99 : i === 8765 ? 0.1 : 1 + (i % 10) / 100));
    const points = inTime([samples.slice(0, 5000), samples.slice(5000)], 200);
    expect(points.length).toBeLessThanOrEqual(200);
    expect(points).toEqual(expect.arrayContaining([{ x: 4321, y: 99 }, { x: 8765, y: 0.1 }]));
    expect(points.every(({ x, y }, i) => samples[x] === y && (i === 0 || x > points[i - 1]!.x))).toBe(true);
  });

  it('draws a distribution in steps, or by quantiles with both ends', () => {
    expect(distribution([2, 1], 4)).toEqual([{ x: 1, y: 0 }, { x: 1, y: 0.5 }, { x: 2, y: 1 }]);
    const points = distribution(Array.from({ length: 1001 }, (_, i) => i), 11);
    expect(points.map(({ x }) => x)).toEqual([0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]);
    expect(points.at(-1)!.y).toBe(1);
  });

  it('takes as many samples as a record may hold', async () => {
    const found = await page([completed({ latencyMs: [Array.from({ length: 200_000 }, (_, i) => 1 + (i % 100) / 1000)] })]);
    expect(found.text.length).toBeLessThan(100_000);
  }, 30_000);
});
