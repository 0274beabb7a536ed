/** The surface of the command line: what it offers, and what it says to mistakes that need no model. */
import { Config } from '@oclif/core';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { workplace } from './cli.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));

describe('the surface', () => {
  it('is what the snapshot says', async () => {
    const config = await Config.load(root);
    const surface = config.commands
      .filter((command) => command.pluginName === 'tsrt-bench')
      .map(({ id, args, flags }) => {
        const names = Object.values(flags).map((flag) => `--${flag.name}${flag.type === 'option' ? ' …' : ''}`);
        return `${id} ${Object.keys(args).map((name) => name.toUpperCase()).join(' ')} ${names.sort().join(' ')}`;
      })
      .sort();
    expect(surface).toMatchSnapshot();
  });

  it('gives examples for every command', async () => {
    const config = await Config.load(root);
    const own = config.commands.filter((command) => command.pluginName === 'tsrt-bench');
    expect(own.length).toBeGreaterThan(10);
    expect(own.filter((command) => (command.examples ?? []).length === 0 || !command.summary).map(({ id }) => id)).toEqual([]);
  });
});

/** Every call of the tool that a document shows: in code blocks, between backquotes, in workflows. */
function shownCalls(text: string): string[] {
  return [...text.matchAll(/(?:^|[\s`"'(])tsrt-bench ([a-z][^`\n#|;&]*)/g)].map(([, words]) => words!);
}

describe('what the documents show', () => {
  it('is there: every command and every flag', async () => {
    const config = await Config.load(root);
    const files = ['README.md', 'action.yml', 'results/README.md', ...(await readdir(join(root, 'docs'))).filter((name) => name.endsWith('.md')).map((name) => `docs/${name}`)];
    const topics = new Set(config.commands.map(({ id }) => id.split(':')[0]!));
    const wrong: string[] = [];
    let seen = 0;
    for (const file of files) {
      for (const call of shownCalls(await readFile(join(root, file), 'utf8'))) {
        const words = call.trim().split(/\s+/);
        // Prose names the tool too.
        if (!topics.has(words[0]!.replace(/[^a-z-].*$/, ''))) continue;
        const command = config.findCommand(`${words[0]}:${words[1]}`) ?? config.findCommand(words[0]!);
        const names = Object.values(command?.flags ?? {}).flatMap((flag) => {
          const { name, char, aliases = [] } = flag;
          const refused = flag.type === 'boolean' && flag.allowNo ? [`--no-${name}`] : [];
          return [`--${name}`, ...refused, ...aliases.map((alias) => `--${alias}`), ...(char ? [`-${char}`] : [])];
        });
        const flags = new Set(['--help', ...names]);
        const unknown = words.flatMap((word) => /^(--?[a-z][a-z-]*)/.exec(word)?.[1] ?? []).filter((flag) => !flags.has(flag));
        seen++;
        if (command === undefined || unknown.length > 0) wrong.push(`${file}: tsrt-bench ${call.trim()}: ${unknown.join(', ') || 'no such command'}`);
      }
    }
    expect(seen).toBeGreaterThan(60);
    expect(wrong).toEqual([]);
  });
});

describe('mistakes', () => {
  it('prints its version', async () => {
    const place = await workplace();
    const { status, stdout } = await place.runApart('--version');
    expect({ status, stdout }).toEqual({ status: 0, stdout: expect.stringMatching(/^tsrt-bench\/\d+\.\d+\.\d+ /) as string });
  });

  it('names the nearest suite', async () => {
    const place = await workplace();
    const { status, stderr } = await place.run('run', 'suites/resnet5');
    expect(status).toBe(2);
    expect(stderr).toMatch(/error: .*resnet5/);
    expect(stderr).toMatch(/resnet50/);
  });

  it('names the wrong flag', async () => {
    const place = await workplace();
    const { status, stderr } = await place.run('run', 'smoke', '--bacth', '1');
    expect(status).toBe(2);
    expect(stderr).toMatch(/error: unknown flag --bacth; did you mean --batch\?/);
  });

  it('names the nearest command', async () => {
    const place = await workplace();
    const { status, stderr } = await place.runApart('inspct', 'model.onnx');
    expect(status).toBe(2);
    expect(stderr).toMatch(/there is no command 'inspct'; did you mean 'inspect'\?/);
    expect(JSON.parse((await place.runApart('nosuch', '--json')).stdout)).toMatchObject({ error: { code: 'USAGE' } });
  });

  it('takes one word for a flag that may be given again, so that arguments may stand behind it', async () => {
    const place = await workplace();
    const settings = await place.run('run', '--batch', '1,2', '--batch', '4', 'smoke', '--print-config');
    expect([settings.status, settings.stdout]).toEqual([0, expect.stringMatching(/batch +1, ?2, ?4/)]);
    expect(await place.runApart('compare', '--metric', 'latency-p50', 'main')).toMatchObject({ status: 2, stderr: expect.stringMatching(/^error: there is no run yet/) as string });
  });

  it.each([
    ['a.engine', 'b.engine', '--by', 'node', '--metric', 'latency-p50'],
    ['a.engine', 'b.engine', '--by', 'node', '--case', 'int8'],
    ['a.jsonl', 'b.jsonl', '--runs', '3'],
  ])('refuses flags of the other kind of comparison: %s %s %s %s', async (...words) => {
    const place = await workplace();
    expect(await place.run('compare', ...words)).toMatchObject({ status: 2, stderr: expect.stringMatching(/^error: --(metric|case|runs) (is for comparisons of runs, not|goes with) --by node/) as string });
  });

  it('names the argument that is missing', async () => {
    const place = await workplace();
    const { status, stderr } = await place.run('build');
    expect(status).toBe(2);
    expect(stderr).toMatch(/^error: Missing 1 required arg: target an ONNX file, or a suite's folder, file or name$/m);
  });

  it.each([
    ['--rounds', 'x', /--rounds: expected an integer/],
    ['--dim', 'seq=a', /NAME=N/],
    ['--shape', 'x=1,2', /INPUT=AxBxC/],
    ['--batch', '0', /whole numbers above 0/],
    ['--time', 'soon', /takes a duration/],
    ['--option', 'threads', /KEY=VALUE/],
    ['--precision', 'fp13', /fp32/],
    ['--backend', 'onnxruntme', /did you mean 'onnxruntime'/],
  ])('explains %s %s', async (flag, value, message) => {
    const place = await workplace();
    const { status, stderr } = await place.run('run', 'smoke', flag, value);
    expect(status).toBe(2);
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/ at .*\.js:\d+/);
  });

  it('reports an error as JSON where JSON was asked for', async () => {
    const place = await workplace();
    const { status, stdout } = await place.runApart('run', 'nowhere', '--json');
    expect(status).toBe(2);
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'SUITE_NOT_FOUND' } });
  });

  it('refuses a configuration with an unknown key, and names the nearest', async () => {
    const other = await workplace();
    const file = await other.write('.tsrt-benchrc.json', '{ "round": 3 }');
    const { status, stderr } = await other.run('run', 'smoke', '--print-config');
    expect(status).toBe(2);
    expect(stderr).toContain(file);
    expect(stderr).toMatch(/round: unknown key; did you mean 'rounds'\?/);
  });

  it('shows the settings in force and where each came from', async () => {
    const other = await workplace();
    const file = await other.write('.tsrt-benchrc.json', '{ "rounds": 7, "results": "out", "batch": [4] }');
    const { status, stdout } = await other.run('run', 'smoke', '--print-config', '--batch', '2', '--json');
    expect(status).toBe(0);
    const { config, origins } = JSON.parse(stdout) as { config: Record<string, unknown>; origins: Record<string, string> };
    expect(config).toMatchObject({ rounds: 7, batch: [2], results: expect.stringMatching(/out$/) as string });
    expect(origins).toMatchObject({ rounds: `file ${file}`, batch: 'flag', seed: 'default', cache: 'environment TSRT_BENCH_CACHE' });
  });

  it.each([
    ['a text file', 'notes.txt', 'Dear diary, this is not a model.'],
    ['an empty file', 'empty.onnx', ''],
    ['a JSON file', 'model.json', '{"model": true}'],
  ])('refuses %s as a model', async (_, name, content) => {
    const place = await workplace();
    const file = await place.write(name, content);
    const { status, stderr } = await place.run('run', 'smoke', '--model', file);
    expect(status).toBe(2);
    expect(stderr).toMatch(/^error: /m);
    expect(stderr).not.toMatch(/this is a bug/);
  });

  it('refuses a model that is not there', async () => {
    const place = await workplace();
    const { status, stderr } = await place.run('inspect', 'missing.onnx');
    expect(status).toBe(2);
    expect(stderr).toMatch(/no such model file/);
  });

  it('refuses a module that exports no plugin, and a plugin with mistakes', async () => {
    const place = await workplace();
    const none = await place.run('plugins', '--plugin', await place.write('none.mjs', 'export const name = "mine";'));
    expect(none.status).toBe(2);
    expect(none.stderr).toMatch(/the module does not export a plugin/);
    const wrong = await place.run('plugins', '--plugin', await place.write('plugin.mjs', 'export default { name: "Wrong Name", verison: "1" };'));
    expect(wrong.status).toBe(2);
    expect(wrong.stderr).toMatch(/\[plugin Wrong Name\] the plugin has mistakes/);
    expect(wrong.stderr).toMatch(/verison: unknown key; did you mean 'version'/);
  });
});
