/** What README and docs/ point to is there: links, headings, files; and their tables are tables. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defaultLoaders } from 'cosmiconfig';
import { describe, expect, it } from 'vitest';
import { DEFAULT_ROUNDS, PAIRED_LOOKS, PAIRED_ROUNDS } from '../../src/gate/sequential.ts';
import { shortestSampleNs } from '../../src/measure/round.ts';
import { GATE_METRICS, suiteSchema } from '../../src/suite/schema.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const PAGES = ['README.md', 'CHANGELOG.md', 'results/README.md', ...readdirSync(join(root, 'docs')).flatMap((name) => (name.endsWith('.md') ? [`docs/${name}`] : []))];

const read = (page: string): string => readFileSync(join(root, page), 'utf8');

/** Without fenced blocks, whose lines are no markdown. */
const prose = (page: string): string => read(page).replaceAll(/^```[\s\S]*?^```$/gm, '');

/** As GitHub makes them: lower case, spaces to dashes, punctuation left out. */
function anchorsOf(page: string): Set<string> {
  const headings = [...prose(page).matchAll(/^#+ (.+)$/gm)].map(([, heading]) => heading!.toLowerCase());
  return new Set(headings.map((heading) => heading.replaceAll(/[^\p{L}\p{N}\s_-]/gu, '').trim().replaceAll(' ', '-')));
}

function brokenLinks(page: string): string[] {
  return [...prose(page).matchAll(/\]\(([^)\s]+)\)/g)].flatMap(([, target]) => {
    if (/^https?:/.test(target!)) return [];
    const [path = '', anchor] = target!.split('#');
    const file = path === '' ? page : relative(root, join(root, dirname(page), path));
    if (!existsSync(join(root, file))) return [`${target}: no such file`];
    return anchor === undefined || anchorsOf(file).has(anchor) ? [] : [`${target}: no such heading`];
  });
}

/** `a | b` within a cell is written `a \| b`. */
const cellsOf = (row: string): number => row.replaceAll('\\|', '').split('|').length - 2;

/** Rows without a head above them, or with more or fewer cells than it has: markdown shows them as text, or drops cells. */
function strayRows(page: string): string[] {
  return prose(page)
    .split(/\n(?!\|)/)
    .flatMap((block) => {
      const [head, rule, ...rows] = block.split('\n').filter((line) => line.startsWith('|'));
      if (head === undefined) return [];
      if (rule === undefined || !/^\|( ?:?-+:? ?\|)+$/.test(rule)) return [head];
      return [rule, ...rows].filter((row) => cellsOf(row) !== cellsOf(head));
    });
}

const FILES = new Set(readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((path) => !/^(node_modules|dist|\.git)(\/|$)/.test(path)));

/** Files and folders of the repository by their whole path, sources also by the end of it. */
function missingFiles(page: string): string[] {
  const named = [...prose(page).matchAll(/(?<![\w./@-])((?:src|test|docs|bench|scripts|plugins|suites|results)\/[\w./-]*\w|[\w-]+\/[\w./-]+\.(?:ts|mjs))(?![\w/*<{-])/g)].map(([, path]) => path!);
  return named.filter((path) => !FILES.has(path) && ![...FILES].some((file) => file.startsWith('src/') && file.endsWith(`/${path}`)));
}

describe.each(PAGES)('%s', (page) => {
  it('links to files and headings that exist', () => {
    expect(brokenLinks(page)).toEqual([]);
  });

  it('has tables whose rows have a head, and its number of cells', () => {
    expect(strayRows(page)).toEqual([]);
  });

  it('names files that exist', () => {
    expect(missingFiles(page)).toEqual([]);
  });
});

describe('docs/format.md', () => {
  const [suites = ''] = /^## Suites$[\s\S]*?^(?=## )/m.exec(read('docs/format.md')) ?? [];

  it('shows a suite that the schema takes', () => {
    const [, example = ''] = /^```yaml\n([\s\S]*?)^```/m.exec(suites) ?? [];
    expect(suiteSchema.safeParse(defaultLoaders['.yaml']('suite.yaml', example)).error).toBeUndefined();
  });

  it('names every key of a suite, of its sections and every metric of the gate', () => {
    const { shape } = suiteSchema;
    const sections = [shape.dataset, shape.quantization, shape.measure, shape.accuracy, shape.gate].map((section) => section.unwrap().shape);
    const words = [...Object.keys(shape), ...sections.flatMap((section) => Object.keys(section)), ...GATE_METRICS];
    expect(words.filter((word) => !suites.includes(`\`${word}\``))).toEqual([]);
  });
});

describe('docs/methodology.md', () => {
  it('has the numbers of the code', () => {
    const text = read('docs/methodology.md').replaceAll(/\s+/g, ' ');
    const phrases = [
      `a sample lasts at least 1,000 quanta and ${shortestSampleNs(1) / 1e6} ms`,
      `after ${PAIRED_LOOKS.slice(0, 6).join(', ')} … rounds, up to all of them (\`--rounds\`: ${PAIRED_ROUNDS} for \`--against\`, ${DEFAULT_ROUNDS} for \`--measure\``,
    ];
    expect(phrases.filter((phrase) => !text.includes(phrase))).toEqual([]);
  });
});
