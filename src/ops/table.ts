/**
 * Every op's definition, joined from the families. A new op in the vocabulary does not compile until it is here.
 */
import { CONV } from './conv.ts';
import type { OpTable } from './def.ts';
import { DETECT } from './detect.ts';
import { BROADCAST } from './elementwise-broadcast.ts';
import { UNARY } from './elementwise-unary.ts';
import { GATHER } from './gather.ts';
import { GENERATE } from './generate.ts';
import { INTERNAL } from './internal.ts';
import { MATMUL } from './matmul.ts';
import { NORMALIZE } from './normalize.ts';
import { POOL } from './pool.ts';
import { QUANTIZE } from './quantize.ts';
import { RECURRENT } from './recurrent.ts';
import { REDUCE } from './reduce.ts';
import { RESHAPE } from './reshape.ts';
import { SLICE } from './slice.ts';
import { SPATIAL } from './spatial.ts';

/** The families, as the documentation groups them. */
export const FAMILIES = {
  'Elementwise, one input': UNARY,
  'Elementwise with broadcasting': BROADCAST,
  Convolutions: CONV,
  'Matrix products': MATMUL,
  Pools: POOL,
  Normalizations: NORMALIZE,
  Reductions: REDUCE,
  'Shapes and views': RESHAPE,
  'Slices and joins': SLICE,
  'Gather and scatter': GATHER,
  'Images and resampling': SPATIAL,
  Generators: GENERATE,
  Quantization: QUANTIZE,
  Recurrent: RECURRENT,
  Detection: DETECT,
  Internal: INTERNAL,
} as const satisfies Record<string, Partial<OpTable>>;

export const OPS: OpTable = {
  ...UNARY,
  ...BROADCAST,
  ...CONV,
  ...MATMUL,
  ...POOL,
  ...NORMALIZE,
  ...REDUCE,
  ...RESHAPE,
  ...SLICE,
  ...GATHER,
  ...SPATIAL,
  ...GENERATE,
  ...QUANTIZE,
  ...RECURRENT,
  ...DETECT,
  ...INTERNAL,
};
