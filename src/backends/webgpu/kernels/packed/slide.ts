/**
 * Staging of images whose output pixels overlap along a line of memory, such as the runs of pixels of a first convolution: what the rows of
 * a matrix share is loaded and staged once.
 *
 * The rows of a matrix are neighbours of one line, so that a run of all of them is one piece of memory. Invocations take vectors of the
 * pieces as they come; which piece and place in the image that is, is found once per tile.
 */
import { leftLoads, leftTileOf, pieceVectors, slideCopies, type PackedProblem, type PackedTactic } from '../../tactics/packed.ts';
import type { Block } from '../../wgsl/module.ts';
import { canLeave } from '../window.ts';
import { assign, bindVectors, imageSource, type Stage, type StageShape } from './rows.ts';
import type { PackedImage, PackedLeft } from './spec.ts';

/** How the rows of an image as the left matrix overlap; undefined where they do not, or where rows are not simply one after another. */
export function overlapOf(a: PackedLeft): PackedProblem['overlap'] {
  if (a.kind !== 'image' || a.split) return undefined;
  const axis = a.outputSpatial.findLastIndex((extent) => extent > 1);
  const step = (a.spatialStrides[axis] ?? 0) * (a.stride[axis] ?? 0);
  const simple = a.kernel.every((taps, i) => (i === 0 || taps === 1) && !canLeave(a, i));
  return simple && step > 0 && step < a.channels ? { step, run: a.channels, line: a.outputSpatial[axis]! } : undefined;
}

/** The stage of a left matrix that {@link overlapOf} describes. */
export function slideStage({ name, origin, count, threads, bk, begin }: StageShape, a: PackedLeft, tactic: PackedTactic): Stage {
  const image = a as PackedImage;
  const { m } = tactic.matrix!;
  const slide = tactic.slide!;
  const { step, run } = slide;
  const source = imageSource(image, { name, bk: run, tail: false, aligned: true });
  const total = leftLoads(tactic);
  const loads = Math.ceil(total / threads);
  const runs = bk / run;
  const piece = pieceVectors(tactic);
  const tile = leftTileOf(tactic);
  const tap = image.spatialStrides[0]! * image.dilation[0]!;
  const rows: string[] = [];
  /** Emits where the vector of a load lies in the image, and in the tile. */
  const place = (block: Block, i: number): void => {
    const vector = i === 0 ? 'lid' : `lid + ${i * threads}u`;
    const at = block.let(`${name}_v${i}`, (i + 1) * threads > total ? `min(${vector}, ${total - 1}u)` : vector);
    const [of, lane] = [block.let(`${name}_p${i}`, `${at} / ${piece}u`), block.let(`${name}_l${i}`, `${at} % ${piece}u`)];
    const first = `${origin} + ${runs === 1 ? of : `(${of} / ${runs}u)`} * ${m}u`;
    const offset = runs === 1 ? lane : `${lane} + (${of} % ${runs}u) * ${tap}u`;
    rows[i] = source.row(block, `${name}r${i}`, count % tactic.bm === 0 ? first : `min(${first}, ${count - m}u)`, undefined, offset);
    // Where rows are one vector apart, pieces follow one another as their vectors do: windows beyond a piece are those that the next one has no use for.
    block.let(`${name}_at${i}`, step === 1 ? `${at} * ${tile.pitch}u` : `${of} * ${tile.run}u + ${lane} / ${step}u * ${tile.pitch}u + ${lane} % ${step}u`);
  };
  const each = Array.from({ length: loads }, (_, i) => i);
  return {
    tensors: [image.tensor],
    bind: (module) => bindVectors(module, name, image.tensor),
    prepare: (block) => each.forEach((i) => place(block, i)),
    declare: (block, set) => each.forEach((i) => block.var(`${name}${i}${set}`, 'vec4<u32>()')),
    load(block, k, how, set) {
      const depth = how === 'var' ? `${name}d` : `${name}n`;
      source.depth(block, depth, k, '0u');
      for (const i of each) assign(block, `${name}${i}${set}`, source.value(block, rows[i]!, depth), how);
    },
    store(block, base, set) {
      for (const i of each) {
        const write = (inside: Block): void => {
          for (let copy = 0; copy < slideCopies(slide); copy++) {
            inside.line(`tile[${base}${name}_at${i} + ${begin + tile.begin - copy * tile.pitch + copy}u] = ${name}${i}${set}`);
          }
        };
        if ((i + 1) * threads > total) block.if(`lid < ${total - i * threads}u`, write);
        else write(block);
      }
    },
  };
}
