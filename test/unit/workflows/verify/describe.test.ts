import { describe, expect, it } from 'vitest';
import { describeFailure, describeSummary, describeUnsupported } from '../../../../src/workflows/verify/describe.ts';
import { summarize, type CaseResult } from '../../../../src/workflows/verify/result.ts';

const base = (name: string) => ({ name, modelFile: `${name}/model.onnx` });
const good = { output: 'y', passed: true, maxAbsError: 2e-6, maxRelError: 1e-5, mismatches: 0, elements: 8, detail: undefined };
const bad = { output: 'z', passed: false, maxAbsError: 0.5, maxRelError: 0.25, mismatches: 3, elements: 8, detail: '[1] is 2, expected 1.5' };
const sized = { ...bad, output: 'w', elements: 0, mismatches: 0, maxAbsError: Infinity, detail: 'is float32[2], expected float32[3]' };
const unsupported = (name: string, ...ops: string[]): CaseResult => ({
  ...base(name),
  status: 'unsupported',
  reasons: ops.map((op) => ({ node: `${op}_0`, op, reason: 'no kernel' })),
  fix: 'take another backend',
});

const results: CaseResult[] = [
  { ...base('a'), status: 'passed', comparedWith: 'reference', tolerance: { rtol: 1e-3, atol: 1e-4, outlierShare: 1e-4 }, outputs: [good], notices: ['ran unchanged'] },
  { ...base('b'), status: 'failed', comparedWith: 'expected outputs', tolerance: { rtol: 1e-3, atol: 1e-5, outlierShare: 0 }, outputs: [good, bad, sized], notices: [] },
  unsupported('c', 'If'),
  unsupported('d', 'Loop', 'If'),
  unsupported('e', 'If'),
  unsupported('f', 'If'),
  { ...base('g'), status: 'error', error: { code: 'MODEL_INVALID', message: 'the file is cut short', fix: 'Copy it again.', place: 'file' } },
];

describe('the text of verify', () => {
  it('shows each failure with what differs', () => {
    expect(results.flatMap(describeFailure).join('\n')).toMatchInlineSnapshot(`
      "failed  b
                z: 3 of 8 elements differ, largest error 0.500 absolute, 0.250 relative; [1] is 2, expected 1.5
                w is float32[2], expected float32[3]
      error   g: the file is cut short (file)
                fix: Copy it again."
    `);
  });

  it('groups what is unsupported, the most frequent first', () => {
    expect(describeUnsupported(results)).toEqual(['unsupported  If: no kernel  (c, d, e and 1 more)', 'unsupported  Loop: no kernel  (d)', '             fix: take another backend']);
  });

  it('says what a single engine notes, and of several only that they do', () => {
    const [passed] = results;
    expect(describeSummary([passed!], summarize([passed!]))).toContain('note     ran unchanged');
    expect(describeSummary([passed!, passed!], summarize([passed!, passed!])).at(-1)).toBe('2 of the passed came with notices, such as a model run unchanged (see --json)');
  });

  it('ends in totals', () => {
    const summary = summarize(results);
    expect(summary).toEqual({ passed: 1, failed: 1, unsupported: 4, error: 1, total: 7 });
    expect(describeSummary(results, summary).join('\n')).toMatchInlineSnapshot(`
      "1 passed, 1 failed, 4 unsupported, 1 errors of 7
      compared with reference: tolerance 1e-4 × the output's scale + 1e-3 × |expected|, exceeded by up to ten times in at most 0.01 % of the elements
      compared with expected outputs: tolerance 1e-5 × the output's scale + 1e-3 × |expected|
      largest absolute error of the passed: 2.00e-6
      1 of the passed came with notices, such as a model run unchanged (see --json)"
    `);
  });
});
