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
function conformance(name: string, only?: CheckName, timeoutMs = 20_000): Promise<ConformanceReport> {
  const plugin = fileURLToPath(new URL(`../../fixtures/plugins/${name}.mjs`, import.meta.url));
  const report = reports.get(`${name} ${only}`) ?? testPlugin({ plugin, others: [], device: 'swiftshader', seed: 1, effort: 1, timeoutMs, ...(only && { only: [only] }), signal: undefined });
  reports.set(`${name} ${only}`, report);
  return report;
}

function failureOf(report: ConformanceReport, check: CheckName): { readonly message: string; readonly input: string } {
  const found = report.ops[0]?.checks.find((result) => result.check === check);
  if (found?.status !== 'failed') throw new Error(`${check} ${found?.status ?? 'is missing'}`);
  return found;
}

/** A plugin with one op: the identity, but for `part`. */
async function inline(part: string, device: string | undefined, effort: number, only?: CheckName): Promise<ConformanceReport> {
  const file = join(await temporaryFolder(), 'index.mjs');
  await writeFile(file, `let kept;
const op = { domain: 'wrong', name: 'Scale', dtypes: ['float32'], attributes: { scale: { type: 'float', default: 1, min: 0.5, max: 2 }, mode: { type: 'string', default: 'a', choices: ['a', 'b', 'c', 'd', 'e'] } },
  inputs: [{ name: 'x', dims: 'any' }], outputs: ['y'],
  infer: ({ inputs: [x] }) => [x],
  reference: ({ attrs, inputs: [x] }) => [x.values.map((v) => v * attrs.scale)] };
const op2 = (name, ...inputs) => ({ kind: 'op', op: name, inputs });
export default { name: 'wrong', version: '1.0.0', ops: [{ ...op, ${part} }] };`);
  return testPlugin({ plugin: file, others: [], device, seed: 1, effort, timeoutMs: 20_000, ...(only && { only: [only] }), signal: undefined });
}

const failedChecks = (report: ConformanceReport): readonly string[] => report.ops.flatMap(({ checks }) => checks.filter(({ status }) => status === 'failed').map(({ check }) => check));

describe('wrong plugins, without a device', () => {
  beforeAll(builtWorkers);

  const decompose = "decompose: ({ attrs, graph }) => graph.op('Mul', [graph.inputs[0], graph.constant('float32', [], [attrs.scale])])";
  const pattern = (attributes: string): string => `expression: ({ attrs, inputs: [x] }) => ({ kind: 'binary', fn: 'mul', a: x, b: { kind: 'const', value: attrs.scale, dtype: 'float32' } }), patterns: [{ name: 'written', match: op2('Mul', { kind: 'value', name: 'x' }, { kind: 'scalar', name: 's' }), inputs: ['x'], ${attributes} }]`;

  it.each<[string, string, CheckName, RegExp, RegExp]>([
    ['a reference that changes its input', 'reference: ({ inputs: [x] }) => { const y = x.values.slice(); x.values.fill(1); return [y]; }', 'reference', /changes its inputs: element 0 of 'x' was -2, and is 1/, /^x float32\[\] = -2/],
    ['an inference that changes dims', 'infer: ({ inputs: [x] }) => [{ dtype: x.dtype, dims: x.dims.reverse() }]', 'shapes', /infer of wrong.Scale threw: Cannot assign to read only/, /^x float32\[\d,\d\]/],
    ['an attribute that is set', 'infer: ({ attrs, inputs: [x] }) => { attrs.scale = 1; return [x]; }', 'shapes', /infer of wrong.Scale threw: (Cannot assign to read only property 'scale'|it changes the attribute 'scale')/, /./],
    ['something kept from one call to the next', 'reference: ({ attrs, inputs: [x] }) => { kept ??= attrs.scale; return [x.values.map((v) => v * kept)]; }, ' + decompose, 'onnxruntime', /^depends on earlier calls, for by itself this input passes/, /./],
    ['one mode of five', "decompose: ({ attrs, graph }) => graph.op('Mul', [graph.inputs[0], graph.constant('float32', [], [attrs.mode === 'd' ? 3 : attrs.scale])])", 'onnxruntime', /the reference says/, /^x float32\[\] = -2; scale = 1; mode = "d"$/],
    ['long lines', "decompose: ({ attrs, graph }) => graph.op(graph.type(graph.inputs[0]).dims[0] > 1100 ? 'Identity' : 'Mul', graph.type(graph.inputs[0]).dims[0] > 1100 ? graph.inputs : [graph.inputs[0], graph.constant('float32', [], [attrs.scale])])", 'onnxruntime', /the reference says/, /^x float32\[1101\]/],
    ['text for a number', 'reference: ({ inputs: [x] }) => [Array.from(x.values, String)]', 'shapes', /element 0 of output 'y' is -2, a string/, /./],
    ['flops that are none', 'flops: () => Number.NaN', 'shapes', /flops gives NaN/, /./],
    ['an int8 grid that is too narrow', 'int8: { output: ({ inputs: [x] }) => ({ low: x.low, high: x.high }) }', 'int8', /the grid that goes out covers .*, and element 0 is/, /scale = (?!1;)/],
    ['an int8 grid that is too wide', "int8: { output: ({ inputs: [x] }) => ({ low: 99 * x.low, high: 99 * x.high }) }", 'int8', /about \d+ of its 255 levels/, /./],
    ['int8 that claims to move elements', "int8: { output: 'same' }", 'int8', /the grid that goes out covers/, /scale = (?!1;)/],
    ['a pattern that forgets the attribute', pattern('attributes: () => ({})'), 'pattern', /the pattern written matches what is not the op with scale = 1, mode = "a" \(constants .*\): written out: element 0 is/, /^x float32\[\] = -2/],
    ['a pattern that reads it wrongly', pattern("attributes: (m) => (m.numbers('s')[0] >= 0.5 && m.numbers('s')[0] <= 2 ? { scale: 1 / m.numbers('s')[0] } : undefined)"), 'pattern', /matches what is not the op/, /./],
  ])('%s is caught', async (_, part, check, message, input) => {
    const failure = failureOf(await inline(part, undefined, 0.6, check), check);
    expect(failure.message).toMatch(message);
    expect(failure.input).toMatch(input);
  });

  it('a pattern that is right passes', async () => {
    const report = await inline(pattern("attributes: (m) => (m.numbers('s')[0] >= 0.5 && m.numbers('s')[0] <= 2 ? { scale: m.numbers('s')[0] } : undefined)"), undefined, 0.3);
    expect(failedChecks(report)).toEqual([]);
    expect(report.ops[0]!.checks.find(({ check }) => check === 'pattern')).toMatchObject({ status: 'passed' });
  });

  it('a module that never comes to an end is ended', async () => {
    const file = join(await temporaryFolder(), 'index.mjs');
    await writeFile(file, 'for (;;) {}');
    await expect(testPlugin({ plugin: file, others: [], device: undefined, seed: 1, effort: 1, timeoutMs: 1500, loadTimeoutMs: 2000, signal: undefined })).rejects.toMatchObject({ code: 'PLUGIN_FAILED', message: expect.stringMatching(/loading it takes longer than 2 s/) as string });
  });
});

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
    const report = await conformance(name, check);
    expect(report.passed).toBe(false);
    const failure = failureOf(report, check);
    expect(failure.message).toMatch(message);
    expect(failure.input).toMatch(input);
  });

  it.each<[string, string, RegExp]>([
    ['a misspelt attribute', "reference: ({ attrs, inputs: [x] }) => [x.values.map((v) => v * attrs.scael)]", /there is no attribute 'scael'; did you mean 'scale'\?; at .*index\.mjs:\d+/],
    ['an unknown element type', "infer: ({ inputs: [x] }) => [{ dtype: 'float', dims: x.dims }]", /output 'y' would be \{"dtype":"float","dims":\[\]\}: a type is/],
    ['a misspelt standard op', "decompose: ({ graph }) => graph.op('Mull', graph.inputs)", /'Mull' is not a standard op; did you mean 'Mul'\?/],
    ['a number in place of a constant', "decompose: ({ graph }) => graph.op('Mul', [graph.inputs[0], 3])", /Mul reads '3', which is not a value: .*graph\.constant/],
    ['an input too few', "decompose: ({ graph }) => graph.op('Add', [graph.inputs[0], ''])", /Add needs its input 1, which is absent here/],
    ['a decomposition that returns nothing', "decompose({ graph }) { graph.op('Neg', graph.inputs); }", /it returns no value: return what graph\.op gave/],
  ])('%s is named', async (_, part, message) => {
    expect(failureOf(await inline(part, 'swiftshader', 0.2, 'shapes'), 'shapes').message).toMatch(message);
  });

  it.each<[string, string, CheckName, RegExp, RegExp]>([
    ['a race', "kernels: [{ dtypes: ['float32'], emit: ({ inputs: [x] }) => ({ workgroupSize: 64, threads: x.count, body: 'y[i / 2u * 2u] = x[i / 2u * 2u] + f32(i % 2u); if (i % 2u == 1u) { y[i] = x[i]; }' }) }]", 'kernel', /has a race|is not deterministic/, /^x float32\[2\] = /],
    ['a minimum that reads on', "kernels: [{ dtypes: ['float32'], emit: ({ inputs: [x] }) => ({ workgroupSize: 64, threads: x.count, body: 'y[i] = min(x[i], x[i + 1u] + 1000.0);' }) }]", 'kernel', /reads past the end/, /^x float32\[\] = /],
    ['a row by the number of its workgroup', "reference: ({ inputs: [x] }) => [x.values.slice()], kernels: [{ dtypes: ['float32'], emit: ({ inputs: [x] }) => ({ workgroupSize: 64, threads: 64 * x.count, body: 'if (lid == 0u) { y[wid.x] = x[wid.x]; }' }) }]", 'kernel', /is wrong in a grid of two dimensions, .*element \d of 'y'/, /^x float32\[/],
    ['a division that WGSL promises and engines do not', "dtypes: ['int32'], attributes: {}, reference: ({ inputs: [x] }) => [x.values.slice()], kernels: [{ dtypes: ['int32'], emit: ({ inputs: [x] }) => ({ workgroupSize: 64, threads: x.count, body: 'let zero = min(abs(x[i]), 0); y[i] = x[i] / zero;' }) }]", 'webgpu', /^on webgpu \(without bounds checks and their like, as engines run\): element 0 is/, /^x int32\[\] = /],
    ['scratch memory that no pass wrote', "kernels: [{ dtypes: ['float32'], scratch: ({ outputs: [y] }) => ({ part: y }), emit: ({ inputs: [x] }) => [{ workgroupSize: 64, threads: x.count, body: 'if (i != 2u) { part[i] = x[i]; }' }, { workgroupSize: 64, threads: x.count, body: 'y[i] = part[i];' }] }]", 'kernel', /reads past the end: element 2 of 'y' .*\(or in scratch memory\) before/, /^x float32\[3\] = /],
    ['a second pass beyond the scratch memory', "kernels: [{ dtypes: ['float32'], scratch: () => ({ part: { dtype: 'float32', dims: [1] } }), emit: ({ inputs: [x] }) => [{ workgroupSize: 1, threads: 1, body: 'part[0] = x[0];' }, { workgroupSize: 64, threads: x.count, body: 'part[i] = x[i]; y[i] = x[i];' }] }]", 'kernel', /writes past the end of 'part', by 1/, /^x float32\[2\] = /],
    ['a second pass that does not compile', "kernels: [{ dtypes: ['float32'], emit: ({ inputs: [x] }) => [{ workgroupSize: 64, threads: x.count, body: 'y[i] = x[i];' }, { workgroupSize: 64, threads: x.count, body: 'y[i] = z;' }] }]", 'kernel', /does not compile: unresolved value 'z'.*, pass 2 of 2/, /^x float32\[\] = /],
    ['a barrier in half a workgroup', "kernels: [{ dtypes: ['float32'], emit: ({ inputs: [x] }) => ({ workgroupSize: 64, threads: x.count, body: 'workgroupBarrier(); y[i] = x[i];' }) }]", 'kernel', /threads must be whole workgroups: a multiple of 64, found 1/, /^x float32\[\] = /],
  ])('%s is caught', async (_, part, check, message, input) => {
    const failure = failureOf(await inline(part, 'swiftshader', 0.3, check), check);
    expect(failure.message).toMatch(message);
    expect(failure.input).toMatch(input);
  });

  it('names that the kit itself uses are no mistake, nor is a bound that float32 rounds', async () => {
    const named = "reference: ({ inputs: [x] }) => [x.values.slice()], kernels: [{ dtypes: ['float32'], emit: ({ inputs: [x] }) => ({ workgroupSize: 64, threads: x.count, declarations: 'fn last(a: f32) -> f32 { return a; } fn mirrored(a: f32) -> f32 { return last(a); }', body: 'y[i] = mirrored(x[i]);' }) }]";
    expect(failedChecks(await inline(named, 'swiftshader', 0.3, 'kernel'))).toEqual([]);
    const bound = "attributes: { scale: { type: 'float', default: 0.1, min: 0.1, max: 0.7 } }, decompose: ({ attrs, graph }) => graph.op('Mul', [graph.inputs[0], graph.constant('float32', [], [attrs.scale])])";
    expect(failedChecks(await inline(bound, undefined, 1, 'onnxruntime'))).toEqual([]);
  });

  it('hangs is caught: the worker is ended, and the smallest length that hangs is found', async () => {
    const report = await conformance('hangs', 'shapes', 1500);
    const failure = failureOf(report, 'shapes');
    expect(failure.message).toMatch(/hangs/);
    expect(failure.input).toMatch(/shape \[\d/);
  });

  it('a kernel that is wrong leaves what does not need it right', async () => {
    expect(failedChecks(await conformance('forgets-attribute'))).toEqual(['kernel', 'webgpu']);
  });
});
