/** A backend that is a program: what it can do, what is said of it when it misbehaves, and that nothing stays behind. */
import { execFile, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compileModel } from '../../../../src/backends/compile.ts';
import { createProgramClock } from '../../../../src/backends/external/clock.ts';
import { externalBackend } from '../../../../src/backends/external/external.ts';
import { startGroup } from '../../../../src/backends/external/group.ts';
import { parseLine } from '../../../../src/backends/external/protocol.ts';
import type { Backend } from '../../../../src/backends/backend.ts';
import { deserializeEngine, serializeEngine } from '../../../../src/engine/file.ts';
import type { TsrtError } from '../../../../src/errors.ts';
import { fromNumbers, toNumbers } from '../../../../src/ir/tensor.ts';
import { temporaryFolder } from '../../../helpers/folder.ts';
import { buildOptions } from '../../../helpers/options.ts';
import { reluModel } from './model.ts';

const PROGRAM = fileURLToPath(new URL('../../../fixtures/external/double.mjs', import.meta.url));

function backend(fault = 'none', timeoutsMs: Record<string, number> = {}, ...more: string[]): Backend {
  return externalBackend({ name: 'double', description: 'doubles', timeoutsMs, command: () => ({ command: process.execPath, args: [PROGRAM, fault, ...more] }) });
}

function build(from: Backend, onProgress?: (step: string, done: number, total: number) => void) {
  const options = buildOptions({ backend: 'double' });
  return compileModel({ modelBytes: reluModel(), modelName: 'relu', folder: undefined, options, backend: from, context: { signal: undefined, onProgress } });
}

async function load(fault = 'none', timeoutsMs: Record<string, number> = {}, ...more: string[]) {
  return backend(fault, timeoutsMs, ...more).load(await build(backend()), { device: undefined, signal: undefined });
}

const X = { x: fromNumbers('float32', [1, 4], [1, 2, 3, 4.5]) };

async function failure(work: Promise<unknown>): Promise<TsrtError> {
  return work.then(
    () => expect.unreachable('it should have failed'),
    (error: unknown) => error as TsrtError,
  );
}

/** A zombie that nobody has waited for counts as gone. */
function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return process.platform !== 'linux' || !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

async function until(condition: () => boolean): Promise<boolean> {
  for (let i = 0; i < 500 && !condition(); i++) await new Promise((resolve) => setTimeout(resolve, 10));
  return condition();
}

describe('a backend that is a program', () => {
  it('builds, loads from a file, runs, executes and profiles', async () => {
    const steps: string[] = [];
    const engine = await build(backend('slow-build'), (step, done, total) => steps.push(`${step} ${done}/${total}`));
    expect(steps).toEqual(['compile 0/3', 'compile 1/3', 'compile 2/3']);
    expect(engine.header).toMatchObject({ backend: 'double', notices: ['doubles'], backendData: { factor: 2 }, requires: { driver: '1' } });
    const session = await backend().load(await deserializeEngine(await serializeEngine(engine)), { device: undefined, signal: undefined });
    expect(session.device.slug).toBe('fake-device');
    expect(toNumbers((await session.run(X))['y']!)).toEqual([2, 4, 6, 9]);
    const execution = await session.prepare(X);
    await execution.execute(3);
    expect(toNumbers((await execution.download())['y']!)).toEqual([2, 4, 6, 9]);
    expect(session.observeMemory().deviceBytes).toBeUndefined();
    await execution.dispose();
    expect(session.observeMemory().deviceBytes).toBe(4096);
    if (process.platform === 'linux') expect(session.observeMemory().outside!.peakBytes).toBeGreaterThan(1e6);
    expect(await session.profile!(X)).toEqual([{ layer: 'y', durationNs: 400 }]);
    await session.dispose();
    await session.dispose();
    await expect(session.run(X)).rejects.toMatchObject({ code: 'USAGE' });
  });

  it("keeps the program's time: what the conversation takes is in no sample", async () => {
    const session = await load();
    const clock = session.clock!;
    expect(clock.source).toBe('program');
    const execution = await session.prepare(X);
    const wallStart = process.hrtime.bigint();
    const start = clock.now();
    for (let i = 0; i < 20; i++) await execution.execute(4);
    const [took, wall] = [Number(clock.now() - start), Number(process.hrtime.bigint() - wallStart)];
    // 20 × 4 × 500 ns by the program's account; between requests the machine's time goes on.
    expect(took).toBeGreaterThanOrEqual(40_000);
    expect(took).toBeLessThan(wall);
    await session.dispose();
  });

  it('has no clock of its own without the program’s times, and holds whole requests where nothing stays on the device', async () => {
    const timed = await load('no-timing');
    expect(timed.clock).toBeUndefined();
    await timed.dispose();
    const engine = await build(backend('no-execute'));
    expect(engine.header.notices.at(-1)).toMatch(/can not keep inputs/);
    const session = await backend('no-execute').load(engine, { device: undefined, signal: undefined });
    const execution = await session.prepare(X);
    await execution.execute(2);
    expect(toNumbers((await execution.download())['y']!)).toEqual([2, 4, 6, 9]);
    expect(session.profile).toBeDefined();
    await session.dispose();
  });

  it('is probed, and unavailable with the reason where there is no such program', async () => {
    expect(await backend().probe()).toMatchObject({ status: 'available', devices: [{ slug: 'fake-device' }] });
    const missing = externalBackend({ name: 'gone', description: '', command: () => ({ command: 'no-such-program-here' }) });
    expect(await missing.probe()).toMatchObject({ status: 'unavailable', reason: expect.stringMatching(/no-such-program-here.*no such program/) });
  });

  it.each([
    ['banner', /a line during 'hello' that is not a reply, it is not JSON: double 1\.2\.3/],
    ['old', /speaks protocol 0/],
    ['slug', /the reply to 'probe' is wrong: devices\.0\.slug/],
  ])('is not taken for one that is not there where it breaks the protocol: %s', async (fault, message) => {
    expect(await failure(backend(fault).probe())).toMatchObject({ code: 'PLUGIN_INVALID', message: expect.stringMatching(message) });
  });

  it("refuses what the program can't build, and another device than the engine needs", async () => {
    expect(await failure(build(backend('unsupported')))).toMatchObject({ code: 'MODEL_UNSUPPORTED', details: ["Erf 'n': not in relu"] });
    expect(await failure(build(backend('no-build')))).toMatchObject({ code: 'PLUGIN_INVALID', plugin: 'double' });
    expect(await failure(build(backend('no-part')))).toMatchObject({ code: 'PLUGIN_INVALID', message: "double: the part 'plan' is in the file plan.bin, which can't be read (ENOENT)" });
    const engine = await build(backend());
    const other = { ...engine, header: { ...engine.header, requires: { driver: '2' } } };
    expect(await failure(backend().load(other, { device: undefined, signal: undefined }))).toMatchObject({ code: 'ENGINE_INCOMPATIBLE' });
  });
});

describe('a program that misbehaves', () => {
  it.each([
    ['garbage', 'PLUGIN_INVALID', /double: the program wrote a line during 'load' that is not a reply, it is not JSON: Loading model… done/],
    ['escapes', 'PLUGIN_INVALID', /it is not JSON: ·\[2J·cleared/],
    ['stranger', 'PLUGIN_INVALID', /it answers request 3, and 2 is under way/],
    ['unknown-field', 'PLUGIN_INVALID', /the reply to 'load' is wrong: .*colour/],
    ['flood', 'PLUGIN_INVALID', /16777216 bytes during 'load' without a line feed/],
    ['old', 'PLUGIN_INVALID', /speaks protocol 0, this version speaks 1/],
    ['crash', 'BACKEND_FAILED', /the program ended by SIGSEGV during 'load'/],
    ['no-memory', 'OUT_OF_MEMORY', /double: not enough of it/],
    ['book', 'BACKEND_FAILED', /^double: line one\n·\[2Jx{3000,4000}… \(1000013 characters\)$/],
  ])('%s → %s', async (fault, code, message) => {
    const error = await failure(load(fault));
    expect(error).toMatchObject({ code, plugin: 'double', message: expect.stringMatching(message) });
    expect(error.fix).toBeTruthy();
  });

  it('its last words are in the error', async () => {
    const { details, fix } = await failure(load('crash'));
    expect(details).toEqual(['stderr: double: hello', 'stderr: double: about to die']);
    expect(fix).toBe('its last words: double: about to die; run it by hand to see more');
    const mute = externalBackend({ name: 'mute', description: '', command: () => ({ command: process.execPath, args: ['-e', 'process.exit(3)'] }) });
    expect(await mute.probe()).toMatchObject({ status: 'unavailable', fix: 'it wrote nothing to stderr; run it by hand to see more' });
  });

  it('silence ends it at the limit, by name', async () => {
    expect(await failure(load('hang', { load: 300 }))).toMatchObject({ code: 'BACKEND_FAILED', message: "double: no answer to 'load' in 0.3 s" });
  });

  it('outputs that are not what the engine says are refused, and files outside of the folder', async () => {
    for (const [fault, message] of [['wrong-shape', /output 'y' is float32\[1,4,1\], the engine's is float32\[1,4\]/], ['path', /name of a file in the exchange folder/]] as const) {
      const session = await load(fault);
      expect(await failure(session.run(X))).toMatchObject({ code: 'PLUGIN_INVALID', message: expect.stringMatching(message) });
      await session.dispose();
    }
  });

  it('times that it promised and does not give are refused, and those of no length', async () => {
    const untimed = await load('untimed');
    expect(await failure(untimed.run(X))).toMatchObject({ code: 'PLUGIN_INVALID', message: expect.stringContaining("'timing' among its capabilities, and its reply to 'run' has no elapsedNs") });
    const execution = await untimed.prepare(X);
    expect(await failure(execution.execute(1))).toMatchObject({ message: expect.stringContaining("reply to 'execute'") });
    await untimed.dispose();
    const coarse = await load('no-time');
    expect(await failure(coarse.run(X))).toMatchObject({ code: 'PLUGIN_INVALID', message: expect.stringMatching(/the reply to 'run' is wrong: elapsedNs: .*>0/) });
    await coarse.dispose();
  });

  it('an abort ends a request that is under way', async () => {
    const abort = new AbortController();
    const engine = await build(backend());
    setTimeout(() => abort.abort(new Error('enough')), 400);
    await expect(backend('hang').load(engine, { device: undefined, signal: abort.signal })).rejects.toThrow('enough');
  });

  it('any line is a reply or an error that says why', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json(), fc.object().map((value) => JSON.stringify({ id: 1, ok: true, ...value }))), (text) => {
        try {
          expect(parseLine(text)).toHaveProperty('id');
        } catch (error) {
          expect((error as Error).message).not.toBe('');
        }
      }),
    );
  });
});

describe.skipIf(process.platform === 'win32')('nothing stays behind', () => {
  it('a killed program takes its children with it', async () => {
    const pidFile = join(await temporaryFolder(), 'pid');
    const session = await load('grandchild', {}, pidFile);
    const grandchild = Number(await readFile(pidFile, 'utf8'));
    expect(alive(grandchild)).toBe(true);
    await session.dispose();
    expect(await until(() => !alive(grandchild))).toBe(true);
  });

  it('a program that ignores the end of its stdin is ended all the same', async () => {
    const session = await load('deaf');
    await expect(session.dispose()).resolves.toBeUndefined();
  });

  it('a parent that is killed takes a deaf program, its children and its folder with it', async () => {
    const folder = await temporaryFolder();
    const pids = join(folder, 'pids');
    const exchanged = await temporaryFolder();
    await writeFile(join(exchanged, 'in-0.bin'), 'x');
    const inner = `const { spawn } = require('node:child_process'); const { writeFileSync } = require('node:fs');
      const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
      writeFileSync(${JSON.stringify(pids)}, process.pid + ' ' + child.pid); setInterval(() => {}, 1000);`;
    const parent = join(folder, 'parent.mjs');
    await writeFile(parent, `import { startGroup } from ${JSON.stringify(await compiledGroup(folder))};
      startGroup({ command: process.execPath, args: ['-e', ${JSON.stringify(inner)}], stdio: ['pipe', 'pipe', 'pipe'], folder: ${JSON.stringify(exchanged)} });
      setInterval(() => {}, 1000);`);
    const running = spawn(process.execPath, [parent], { stdio: 'ignore' });
    expect(await until(() => fileText(pids).includes(' '))).toBe(true);
    const [program, child] = fileText(pids).split(' ').map(Number) as [number, number];
    expect([alive(program), alive(child)]).toEqual([true, true]);
    running.kill('SIGKILL');
    expect(await until(() => !alive(program) && !alive(child))).toBe(true);
    expect(await until(() => !existsSync(exchanged))).toBe(true);
  });

  it('what ends by itself leaves no children', async () => {
    const folder = await temporaryFolder();
    const file = join(folder, 'pid');
    const group = startGroup({ command: '/bin/sh', args: ['-c', 'sleep 100 & echo $! > "$1"; exit 7', 'sh', file], stdio: 'ignore' });
    expect(await group.exited).toMatchObject({ code: 7 });
    const left = Number(fileText(file));
    expect(await until(() => !alive(left))).toBe(true);
  });
});

describe('the clock of a program', () => {
  it('stands still during a request, then goes on by what the program says, and never goes back', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.record({ gap: fc.nat(1000), took: fc.nat(1000), said: fc.option(fc.nat(2000), { nil: undefined }) }), { maxLength: 20 }), async (requests) => {
        let wall = 0n;
        const clock = createProgramClock(() => wall);
        let expected = 0;
        for (const { gap, took, said } of requests) {
          wall += BigInt(gap);
          expected += gap;
          await clock.during(async () => {
            wall += BigInt(took);
            expect(Number(clock.now())).toBe(expected);
            return { elapsedNs: said };
          });
          expected += said ?? took;
          expect(Number(clock.now())).toBe(expected);
        }
      }),
    );
  });
});

/** The module as JavaScript, for a process outside of the test runner. */
async function compiledGroup(folder: string): Promise<string> {
  const root = fileURLToPath(new URL('../../../../', import.meta.url));
  const config = {
    extends: join(root, 'tsconfig.json'),
    compilerOptions: { rootDir: join(root, 'src/backends/external'), outDir: folder, declaration: false, typeRoots: [join(root, 'node_modules/@types')] },
    files: [join(root, 'src/backends/external/group.ts')],
    include: [],
  };
  const file = join(folder, 'tsconfig.json');
  await writeFile(file, JSON.stringify(config));
  await writeFile(join(folder, 'package.json'), '{ "type": "module" }');
  await promisify(execFile)(join(root, 'node_modules/.bin/tsc'), ['-p', file]).catch(() => {});
  return join(folder, 'group.js');
}

function fileText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
