/**
 * Whether the grid that an op says its int8 output has fits what it computes: with the inputs on their grids, no output may lie beyond
 * it, and it may not be so wide that the outputs use few of its levels. Decided on the reference, in float64.
 */
import type { CustomDefinition, CustomOp, Int8Grid, Operands, RegisteredOp } from '../ir/custom.ts';
import { elementCount, fromNumbers, toNumbers, type Tensor } from '../ir/tensor.ts';
import { inferCustom, inOp } from '../ops/custom.ts';
import { referenceValues } from '../ops/custom-reference.ts';
import { computedRange, gridOf } from '../quantize/grids.ts';
import { coveredRange, fakeQuantize, paramsOf, SCHEMES, type QuantParams, type Range, type Scheme } from '../quantize/params.ts';
import { DEFAULT_VALUES, type Material } from './case.ts';
import { NO_ERROR, type Worst } from './compare.ts';
import { Nonconforming } from './nonconforming.ts';
import { strict } from './strict.ts';

/** A grid this many times wider than what comes out wastes four of its eight bits. */
const MOST_WASTE = 16;

/** How activations lie on their grids; extremes show what drawn values may miss. */
const FILLINGS: Readonly<Record<string, (drawn: number, index: number, covered: Range) => number>> = {
  'values as drawn': (drawn) => drawn,
  'all at the lowest': (_, __, { low }) => low,
  'all at the highest': (_, __, { high }) => high,
  'lowest and highest by turns': (_, index, { low, high }) => (index % 2 === 0 ? low : high),
};

export function checkInt8({ op }: RegisteredOp, definition: CustomDefinition, { inputs }: Material): Worst {
  const data = (op.int8?.inputs ?? [0]).filter((index) => inputs[index]?.dtype === 'float32');
  if (data.length === 0) return NO_ERROR;
  for (const scheme of SCHEMES) {
    const grids = new Map(data.map((index) => [index, inputGrid(op, index, scheme)]));
    const out = outputGrid(definition, grids, scheme);
    if (out) checkOutputs(definition, inputs, grids, out);
  }
  return NO_ERROR;
}

function inputGrid(op: CustomOp, index: number, scheme: Scheme): QuantParams {
  const [low, high] = op.inputs[index]!.values ?? DEFAULT_VALUES;
  return paramsOf({ low, high }, scheme);
}

/** Undefined: calibration finds it, which fits by itself. */
function outputGrid(definition: CustomDefinition, grids: ReadonlyMap<number, QuantParams>, scheme: Scheme): QuantParams | undefined {
  const { output } = definition.op.int8!;
  if (output === 'own') return undefined;
  if (output === 'same') return [...grids.values()][0];
  const inputs = definition.op.inputs.map((_, index) => {
    const params = grids.get(index);
    return params && strict(gridOf(params), 'part of a grid');
  });
  return paramsOf(computedRange(definition, output, inputs as Operands<Int8Grid>), scheme);
}

function checkOutputs(definition: CustomDefinition, given: readonly (Tensor | undefined)[], grids: ReadonlyMap<number, QuantParams>, out: QuantParams): void {
  const covered = coveredRange(out);
  let [low, high] = [0, 0];
  for (const [how, filling] of Object.entries(FILLINGS)) {
    const inputs = given.map((tensor, index) => {
      const grid = grids.get(index);
      return tensor && grid ? onGrid(tensor, grid, filling) : tensor;
    });
    const types = inferCustom(definition, inputs);
    const [values] = inOp(definition, 'reference', () => referenceValues(definition, inputs, types)) as [Float64Array];
    for (const [index, value] of values.entries()) {
      if (value < covered.low - out.scale || value > covered.high + out.scale) {
        throw new Nonconforming(`the grid that goes out covers ${words(covered)}, and element ${index} is ${short(value)} (inputs on grids: ${how})`);
      }
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  // A symmetric grid is as wide below zero as above, whatever comes out.
  const [width, used] = out.dtype === 'int8' ? [covered.high, Math.max(-low, high)] : [covered.high - covered.low, high - low];
  if (used > 0 && used * MOST_WASTE < width) {
    throw new Nonconforming(`the grid that goes out covers ${words(covered)}, and with the inputs anywhere on theirs all that comes out is ${words({ low, high })}: about ${Math.max(1, Math.round((255 * used) / width))} of its 255 levels`);
  }
}

function onGrid(tensor: Tensor, grid: QuantParams, filling: (drawn: number, index: number, covered: Range) => number): Tensor {
  const covered = coveredRange(grid);
  const drawn = toNumbers(tensor);
  return fromNumbers(tensor.dtype, tensor.dims, Array.from({ length: elementCount(tensor.dims) }, (_, i) => fakeQuantize(filling(drawn[i]!, i, covered), grid)));
}

function words({ low, high }: Range): string {
  return `${short(low)} to ${short(high)}`;
}

function short(value: number): number {
  return Number(value.toPrecision(4));
}
