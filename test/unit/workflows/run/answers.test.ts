import { describe, expect, it } from 'vitest';
import type { DType } from '../../../../src/ir/tensor.ts';
import { fromNumbers } from '../../../../src/ir/tensor.ts';
import { answerCheck } from '../../../../src/workflows/run/answers.ts';

const tensor = (values: readonly number[], dims: readonly number[] = [values.length], dtype: DType = 'float32') => ({ y: fromNumbers(dtype, dims, values) });
const reference = tensor([1, -2, 3, 4]);

describe('answerCheck', () => {
  it('lets the reference itself pass, integers and bools included', () => {
    expect(answerCheck('fp32', reference)(reference)).toBeUndefined();
    expect(answerCheck('fp32', tensor([1, 2], [2], 'int64'))(tensor([1, 2], [2], 'int64'))).toBeUndefined();
    expect(answerCheck('fp32', tensor([1, 0], [2], 'bool'))(tensor([1, 0], [2], 'bool'))).toBeUndefined();
    expect(answerCheck('fp32', tensor([], [0, 4]))(tensor([], [0, 4]))).toBeUndefined();
  });

  it('draws the line by precision', () => {
    // 1 % of error in every number is 40 dB less than the signal; 5 % is 26 dB.
    const off = (share: number) => tensor([1, -2, 3, 4].map((value) => value * (1 + share)));
    expect(answerCheck('fp32', reference)(off(0.009))).toBeUndefined();
    expect(answerCheck('fp32', reference)(off(0.05))).toMatch(/26\.0 dB of signal over error, at least 40 dB/);
    expect(answerCheck('fp16', reference)(off(0.05))).toBeUndefined();
    expect(answerCheck('int8', reference)(off(0.6))).toBeUndefined();
    expect(answerCheck('int8', reference)(off(2))).toMatch(/dB/);
  });

  it('names what is missing, has another shape, or is no number', () => {
    expect(answerCheck('fp32', reference)({})).toBe('outputs are missing: y');
    expect(answerCheck('fp32', reference)(tensor([1, -2, 3, 4], [2, 2]))).toBe("output 'y' is [2,2], the fp32 reference's [4]");
    expect(answerCheck('int8', reference)(tensor([1, Number.NaN, 3, 4]))).toMatch(/NaN or infinity/);
    expect(answerCheck('fp32', tensor([1, Number.NaN]))(tensor([1, Number.NaN]))).toBeUndefined();
  });
});
