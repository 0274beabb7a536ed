/**
 * Plugins that are wrong in one way each: the kit names the way and the smallest input. Needs the built worker, and SwiftShader for
 * those that are wrong in a kernel.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import type { CheckName } from '../../../src/kit/checks.ts';
import type { ConformanceReport } from '../../../src/kit/conformance.ts';
import { testPlugin } from '../../../src/workflows/plugin-test.ts';
import { builtWorkers } from '../../helpers/built.ts';
import { temporaryFolder } from '../../helpers/folder.ts';
import { noDevice } from '../../helpers/swiftshader.ts';

const reports = new Map<string, Promise<ConformanceReport>>();

/** What the kit says of a plugin that is wrong, asked once. */
function conformance(name: string, timeoutMs = 20_000): Promise<ConformanceReport> {
  const plugin = fileURLToPath(new URL(`../../fixtures/plugins/${name}.mjs`, import.meta.url));
  const report = reports.get(name) ?? testPlugin({ plugin, others: [], device: 'swiftshader', seed: 1, effort: 1, timeoutMs, signal: undefined });
  reports.set(name, report);
  return report;
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

  it.each<[string, string, RegExp]>([
    ['a misspelt attribute', "reference: ({ attrs, inputs: [x] }) => [x.values.map((v) => v * attrs.scael)]", /there is no attribute 'scael'; did you mean 'scale'\?; at .*index\.mjs:\d+/],
    ['an unknown element type', "infer: ({ inputs: [x] }) => [{ dtype: 'float', dims: x.dims }]", /output 'y' would be \{"dtype":"float","dims":\[\]\}: a type is/],
    ['a misspelt standard op', "decompose: ({ graph }) => graph.op('Mull', graph.inputs)", /'Mull' is no standard op; did you mean 'Mul'\?/],
    ['a number in place of a constant', "decompose: ({ graph }) => graph.op('Mul', [graph.inputs[0], 3])", /Mul reads '3', which is no value: .*graph\.constant/],
    ['a decomposition that returns nothing', "decompose({ graph }) { graph.op('Neg', graph.inputs); }", /it returns no value: return what graph\.op gave/],
  ])('%s is named', async (_, part, message) => {
    const folder = await temporaryFolder();
    const file = join(folder, 'index.mjs');
    await writeFile(file, `const op = { domain: 'wrong', name: 'Scale', dtypes: ['float32'], attributes: { scale: { type: 'float', default: 1 } }, inputs: [{ name: 'x', dims: 'any' }], outputs: ['y'],
      infer: ({ inputs: [x] }) => [x],
      reference: ({ attrs, inputs: [x] }) => [x.values.map((v) => v * attrs.scale)] };
export default { name: 'wrong', version: '1.0.0', ops: [{ ...op, ${part} }] };`);
    const report = await testPlugin({ plugin: file, others: [], device: 'swiftshader', seed: 1, effort: 0.2, timeoutMs: 20_000, signal: undefined });
    expect(failureOf(report, 'shapes').message).toMatch(message);
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
