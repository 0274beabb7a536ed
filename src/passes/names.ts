/** What a build can leave out by name, and the check of names that a user gave. */
import { TsrtError } from '../errors.ts';
import { nearest } from '../nearest.ts';

/** The webgpu backend's lowering without copies: no rewrite of the graph, but left out and reported like a pass. */
export const WINDOWS = 'windows';

/** The passes of the pipeline in their order, which a test holds to it: what reads a name needs no compiler. A new pass is entered here first. */
export const PASS_NAMES = [
  'decompose-custom',
  'dead-code',
  'shape-constants',
  'split-variadic',
  'halves-as-float32',
  'bfloat16-as-float32',
  'dequantize-blocks',
  'constant-folding',
  'narrow-types',
  'identities',
  'reshapes',
  'transposes',
  'common-subexpressions',
  'complete-qdq',
  'qlinear-products',
  'custom-patterns',
  'recover-activations',
  'recover-layer-norm',
  'recover-rms-norm',
  'pick-rows',
  'fold-linear',
  'fold-pads',
  'recover-swish',
  'batch-norm',
  'fuse-attention',
  'fuse-projections',
  'integer-chains',
  'early-addends',
  'dynamic-products',
  'fuse-conv',
  'fuse-matmul',
  'fuse-elementwise',
  'integer-products',
  'weight-only',
  'fold-dequantized',
  'fuse-concat',
  'fuse-cache-writes',
  'fuse-shortcuts',
  'fuse-siblings',
  WINDOWS,
] as const;

export type PassName = (typeof PASS_NAMES)[number];

const isPassName = (name: string): name is PassName => (PASS_NAMES as readonly string[]).includes(name);

/** The names, each checked. Throws USAGE for one that no pass has, with the nearest that there is. */
export function passNames(names: readonly string[], place: string): readonly string[] {
  for (const name of names) {
    if (isPassName(name)) continue;
    const guess = nearest(name, PASS_NAMES);
    throw new TsrtError('USAGE', `there is no pass '${name}'${guess === undefined ? '' : `; did you mean '${guess}'?`}`, { place, fix: `one of ${PASS_NAMES.join(', ')}` });
  }
  return names;
}
