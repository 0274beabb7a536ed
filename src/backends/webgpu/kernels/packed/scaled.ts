/**
 * Left matrices of halves that are multiplied by factors on their way into workgroup memory, such as an image by its gates of squeeze and
 * excitation: the product of the two is never written.
 */
import { loadsOf, type Stage, type StageShape } from './rows.ts';

/** The stage, with what it stores multiplied by what the other one has loaded at the same places. Until then both wait as they lie in memory. */
export function scaledStage(stage: Stage, { name, rows, bk, threads }: StageShape, factors: Stage): Stage {
  const loads = Array.from({ length: loadsOf(rows * bk, threads) }, (_, i) => i);
  return {
    tensors: [...stage.tensors, ...factors.tensors],
    bind(module) {
      stage.bind(module);
      factors.bind(module);
      module.helper('scale_halves');
    },
    prepare(block) {
      stage.prepare(block);
      factors.prepare(block);
    },
    declare(block, set) {
      stage.declare(block, set);
      factors.declare(block, set);
    },
    load(block, k, how, set) {
      stage.load(block, k, how, set);
      factors.load(block, k, how, set);
    },
    store(block, base, set) {
      for (const i of loads) block.line(`${name}${i}${set} = scale_halves(${name}${i}${set}, scale${i}${set})`);
      stage.store(block, base, set);
    },
  };
}
