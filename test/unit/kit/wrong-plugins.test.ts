/**
 * Plugins that are wrong in one way each: the kit names the way and the smallest input. Needs the built worker, and SwiftShader for
 * those that are wrong in a kernel.
 */
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { findSwiftshader } from '../../../src/backends/webgpu/swiftshader.ts';
import type { CheckName } from '../../../src/kit/checks.ts';
import type { ConformanceReport } from '../../../src/kit/conformance.ts';
import { testPlugin } from '../../../src/workflows/plugin-test.ts';
import { builtWorkers } from '../../helpers/built.ts';

const noDevice = (await findSwiftshader()) === undefined;

async function conformance(name: string, timeoutMs = 20_000): Promise<ConformanceReport> {
  const plugin = fileURLToPath(new URL(`../../fixtures/plugins/${name}.mjs`, import.meta.url));
  return testPlugin({ plugin, others: [], device: 'swiftshader', seed: 1, effort: 1, timeoutMs, signal: undefined });
}

function failureOf(report: ConformanceReport, check: CheckName): { readonly message: string; readonly input: string } {
  const found = report.ops[0]?.checks.find((result) => result.check === check);
  if (found?.status !== 'failed') throw new Error(`${check} ${found?.status ?? 'is missing'}`);
  return found;
}

const failedChecks = (report: ConformanceReport): readonly string[] => report.ops.flatMap(({ checks }) => checks.filter(({ status }) => status === 'failed').map(({ check }) => check));

describe.skipIf(noDevice)('wrong plugins (skipped without SwiftShader)', () => {
  beforeAll(builtWorkers);

  it.each<[string, CheckName, RegExp, RegExp]>([
    ['bad-shape', 'shapes', /infer says float32\[\]/, /^x float32\[0\] = empty; scale = 1$/],
    ['off-by-one-tail', 'kernel', /never writes element 4 of 'y'/, /^x float32\[5\] = .*; scale = 1$/],
    ['writes-past-end', 'kernel', /writes past the end of 'y', by 1/, /^x float32\[0\] = empty|^x float32\[\] = /],
    ['reads-past-end', 'kernel', /reads past the end: element 0 of 'y'/, /^x float32\[\] = -2; scale = 1$/],
    ['forgets-attribute', 'kernel', /element 0 is .*, the reference says .*; the op claims 2 ULP/, /^x float32\[\] = -2; scale = (?!1$)/],
    ['non-deterministic', 'reference', /the reference is not deterministic/, /^x float32\[\] = -2; scale = 1$/],
    ['other-code', 'kernel', /emit gives other code the second time/, /^x float32\[\] = -2; scale = 1$/],
    ['throws', 'shapes', /reference of wrong.Scale threw: no more than one axis/, /^x float32\[0,0\] = empty; scale = 1$/],
    ['imprecise', 'kernel', /the op claims 2 ULP/, /^x float32\[\] = /],
    ['no-such-type', 'kernel', /WGSL kernel of wrong.Scale threw: not written yet/, /^x float16\[\] = -2; scale = 1$/],
    ['broken-wgsl', 'kernel', /does not compile: unresolved value 'scale'.*in `y\[i\] = x\[i\] \* scale;`/, /^x float32\[\] = -2; scale = 1$/],
  ])('%s is caught by %s', async (name, check, message, input) => {
    const report = await conformance(name);
    expect(report.passed).toBe(false);
    const failure = failureOf(report, check);
    expect(failure.message).toMatch(message);
    expect(failure.input).toMatch(input);
  });

  it('hangs is caught: the worker is ended, and the smallest length that hangs is found', async () => {
    const report = await conformance('hangs', 1500);
    const failure = failureOf(report, 'shapes');
    expect(failure.message).toMatch(/hangs/);
    expect(failure.input).toMatch(/shape \[\d/);
  });

  it('a kernel that is wrong leaves what does not need it right', async () => {
    expect(failedChecks(await conformance('forgets-attribute'))).toEqual(['kernel', 'webgpu']);
  });
});
