/**
 * Staging of rows whose depths lie one after another: left matrices, images as left matrices (implicit GEMM), and right
 * matrices stored as [column, k]. Neighbouring invocations take neighbouring vectors of a row.
 *
 * What depends on the row is computed once, before the loop over the depth; what depends on the depth once per block. An
 * image's filter tap is found once per block and invocation, and whether it lies inside the image is a bit of a mask per row.
 */
import { address, collapse, decodeIndex } from '../../lower/space.ts';
import type { DeviceTensor, View } from '../../lower/tensor.ts';
import { storedBytes } from '../../lower/tensor.ts';
import type { Block, ModuleBuilder } from '../../wgsl/module.ts';
import { canLeave } from '../window.ts';
import { type PackedImage, product } from './spec.ts';

/** Loads of one operand's blocks: from device memory to registers, from registers to workgroup memory. */
export interface Stage {
  /** In the order of their bindings. */
  readonly tensors: readonly DeviceTensor[];
  bind(module: ModuleBuilder): void;
  /** Emits what does not change along the depth. */
  prepare(block: Block): void;
  /** Emits empty registers of a set; its name ends the registers' names. */
  declare(block: Block, set: string): void;
  /** Emits loads of the block at `k` (a name, in vectors): registers are declared the first time, assigned afterwards. */
  load(block: Block, k: string, how: 'var' | 'assign', set: string): void;
  /** Emits stores of a set of registers; `base` is the first vector of the staged blocks. */
  store(block: Block, base: string, set: string): void;
}

/** The tile that a stage fills. */
export interface StageShape {
  /** Prefix of registers, and the binding's name. */
  readonly name: 'a' | 'b' | 'scale';
  /** Rows of the tile, and the name of the first one's number. */
  readonly rows: number;
  readonly origin: string;
  /** Rows of the whole matrix. */
  readonly count: number;
  readonly threads: number;
  /** Depth of a block, of the whole, and vectors between staged rows. */
  readonly bk: number;
  readonly depth: number;
  readonly pitch: number;
  /** First vector of the tile within a staged block. */
  readonly begin: number;
  /** Where a row is staged. */
  readonly slot: ((row: string) => string) | undefined;
}

/** Addresses of rows and what they hold; depths are counted in vectors. */
export interface RowSource {
  /** The binding's name, and the prefix of registers. */
  readonly name: string;
  readonly tensor: DeviceTensor;
  /** Vectors are f32, and become halves on their way. */
  readonly split: boolean;
  /** Emits a row's registers and gives its name; `above` is the name of a row `step` rows above, where there is one. */
  row(block: Block, name: string, row: string, above: { readonly name: string; readonly step: number } | undefined, lane: string): string;
  /** Emits the registers of a depth: `k` is the block's first, `lane` the invocation's offset in it. */
  depth(block: Block, name: string, k: string, lane: string): void;
  value(block: Block, row: string, depth: string): string;
}

export function assign(block: Block, name: string, value: string, how: 'var' | 'assign'): void {
  if (how === 'var') block.var(name, value);
  else block.line(`${name} = ${value}`);
}

export function bindVectors(module: ModuleBuilder, name: string, tensor: DeviceTensor): void {
  module.storage(name, 'u32', 4, storedBytes(tensor) / 16, 'read');
}

/** Vectors of a block that each invocation loads; where there are fewer than invocations, the others load along. */
export function loadsOf(vectors: number, threads: number): number {
  return Math.max(1, vectors / threads);
}

/** Emits what only those invocations do that have a vector of their own. */
export function whereOwn(block: Block, vectors: number, threads: number, write: (inside: Block) => void): void {
  if (vectors < threads) block.if(`lid < ${vectors}u`, write);
  else write(block);
}

/** A source of rows that begins at a depth; the last one that has begun is read. */
export interface RowPart {
  readonly source: RowSource;
  readonly begin: number;
}

/**
 * The row of the invocations' line `line`. Stores of 16 bytes go eight invocations at a time: where those have several rows (blocks of two or
 * four vectors), neighbours would meet in the banks at a pitch of three or five, and rows two or four apart do not.
 */
function spreadRow(block: Block, name: string, line: string, { bk, threads }: StageShape): string {
  if ((bk !== 2 && bk !== 4) || threads % (8 * bk) !== 0) return line;
  const together = 8 / bk;
  const at = block.let(name, line);
  return `(${at} & ~7u) + (${at} % ${together}u) * ${bk}u + (${at} % 8u) / ${together}u`;
}

export function rowStage(shape: StageShape, ...parts: readonly [RowPart, ...RowPart[]]): Stage {
  const { name, rows, origin, count, threads, bk, pitch, begin, slot } = shape;
  const vectors = rows * bk;
  const loads = loadsOf(vectors, threads);
  const step = threads / bk;
  const clamps = count % rows !== 0;
  const names: string[][] = parts.map(() => []);
  const load = (block: Block, part: number, k: string, how: 'var' | 'assign', set: string): void => {
    const { source } = parts[part]!;
    const depth = how === 'var' ? `${source.name}d` : `${source.name}n`;
    source.depth(block, depth, k, `${name}_lane`);
    for (let i = 0; i < loads; i++) {
      const value = source.value(block, names[part]![i]!, depth);
      assign(block, `${name}${i}${set}`, source.split ? `split_halves(${value})` : value, how);
    }
  };
  const declare = (block: Block, set: string): void => {
    for (let i = 0; i < loads; i++) block.var(`${name}${i}${set}`, 'vec4<u32>()');
  };
  return {
    tensors: parts.map(({ source }) => source.tensor),
    bind(module) {
      for (const { source } of parts) bindVectors(module, source.name, source.tensor);
      if (parts.some(({ source }) => source.split)) module.helper('split_halves');
    },
    prepare(block) {
      block.let(`${name}_lane`, `lid % ${bk}u`);
      block.let(`${name}_row`, spreadRow(block, `${name}_line`, vectors < threads ? `(lid / ${bk}u) % ${rows}u` : `lid / ${bk}u`, shape));
      for (const [part, { source }] of parts.entries()) {
        for (let i = 0; i < loads; i++) {
          const row = `${origin} + ${name}_row + ${i * step}u`;
          const above = i > 0 && !clamps ? { name: names[part]![0]!, step: i * step } : undefined;
          names[part]!.push(source.row(block, `${source.name}r${i}`, clamps ? `min(${row}, ${count - 1}u)` : row, above, `${name}_lane`));
        }
      }
      if (!slot) block.let(`${name}_at`, `${name}_row * ${pitch}u + ${name}_lane + ${begin}u`);
    },
    declare,
    load(block, k, how, set) {
      if (parts.length === 1) return load(block, 0, k, how, set);
      if (how === 'var') declare(block, set);
      loadPart(block, shape, parts, k, (inside, part, from) => load(inside, part, from, 'assign', set), (inside) => {
        for (let i = 0; i < loads; i++) inside.line(`${name}${i}${set} = vec4<u32>()`);
      });
    },
    store(block, base, set) {
      const write = (inside: Block): void => {
        for (let i = 0; i < loads; i++) {
          const at = slot ? `${slot(`(${name}_row + ${i * step}u)`)} * ${pitch}u + ${name}_lane + ${begin}u` : `${name}_at + ${i * step * pitch}u`;
          inside.line(`tile[${base}${at}] = ${name}${i}${set}`);
        }
      };
      whereOwn(block, vectors, threads, write);
    },
  };
}

/** Emits the choice of a part by the depth: for all invocations alike where blocks do not lie across a border. */
function loadPart(
  block: Block,
  { name, bk, depth }: StageShape,
  parts: readonly RowPart[],
  k: string,
  load: (inside: Block, part: number, k: string) => void,
  empty: (inside: Block) => void,
): void {
  const at = parts.every(({ begin }) => begin % bk === 0) ? k : `${k} + ${name}_lane`;
  const from = (inside: Block, part: number): void => {
    const { begin } = parts[part]!;
    const last = part === parts.length - 1;
    const here = (then: Block): void => load(then, part, begin === 0 ? k : then.let(`${name}_k${part}`, `${k} - ${begin}u`));
    if (!last) inside.if(`${at} < ${parts[part + 1]!.begin}u`, here, (otherwise) => from(otherwise, part + 1));
    else if (depth % bk === 0) here(inside);
    else inside.if(`${k} + ${name}_lane < k_end`, here, empty);
  };
  from(block, 0);
}

/** Split vectors are read twice over: two depths have one address. */
const halving =
  (split: boolean) =>
  (depth: string): string =>
    split ? `${depth} / 2u` : depth;

/** What a source knows of the blocks in which it is read. */
export interface SourceBlocks {
  readonly name: string;
  readonly bk: number;
  /** Blocks end beyond the depth: what is there is zero. Of a part, whoever chooses it sees to that. */
  readonly tail: boolean;
  /** Blocks begin at multiples of their depth. */
  readonly aligned: boolean;
}

/** Rows read through strides; the view is over [batch axes…, row axes…], in vectors. */
export function matrixSource(
  { tensor, view, split = false }: { readonly tensor: DeviceTensor; readonly view: View; readonly split?: boolean | undefined },
  extents: { readonly batch: readonly number[]; readonly rows: readonly number[] },
  { name, tail, aligned }: SourceBlocks,
): RowSource {
  const part = (from: number, of: readonly number[], offset: number) =>
    collapse({ extents: of, views: [{ offset, strides: view.strides.slice(from, from + of.length) }] });
  const batch = part(0, extents.batch, view.offset);
  const rows = part(extents.batch.length, extents.rows, 0);
  // The invocation's own depth is part of the row, unless it decides something.
  const inRow = !tail && aligned;
  const halved = halving(split);
  return {
    name,
    tensor,
    split,
    row(block, register, row, above, lane) {
      const stride = rows.extents.length === 1 ? rows.views[0]!.strides[0]! : undefined;
      if (above && stride !== undefined && stride >= 0) return `${above.name} + ${above.step * stride}u`;
      const at = block.let(`${register}_m`, row);
      const base = address(batch.views[0]!, decodeIndex('batch', batch.extents).map((code) => `(${code})`));
      const offset = address(rows.views[0]!, decodeIndex(at, rows.extents).map((code) => `(${code})`));
      return block.let(register, `${base} + ${offset}${inRow ? ` + ${halved(lane)}` : ''}`);
    },
    depth(block, register, k, lane) {
      if (!tail) {
        block.let(register, halved(inRow ? k : `(${k} + ${lane})`));
        return;
      }
      block.let(`${register}_ok`, `${k} + ${lane} < k_end`);
      block.let(register, `select(0u, ${halved(`(${k} + ${lane})`)}, ${register}_ok)`);
    },
    value: (_block, row, at) => (tail ? `select(vec4<u32>(), ${name}[${row} + ${at}], ${at}_ok)` : `${name}[${at} + ${row}]`),
  };
}

/** More taps than a mask has bits are compared with the image's edges at every load. */
const MASK_BITS = 32;

/** An image as the left matrix. */
export function imageSource(image: PackedImage, { name, bk, tail, aligned }: SourceBlocks): RowSource {
  const taps = product(image.kernel);
  // Where a block lies within one tap, all invocations share the tap's arithmetic.
  const shared = aligned && image.channels % bk === 0;
  const leaves = image.kernel.some((_, axis) => canLeave(image, axis));
  const masked = leaves && taps <= MASK_BITS;
  const split = image.split ?? false;
  const halved = halving(split);
  return {
    name,
    tensor: image.tensor,
    split,
    row(block, register, row, _above, lane) {
      const at = block.let(`${register}_m`, row);
      const [index, ...outputs] = decodeIndex(at, [image.images, ...image.outputSpatial]);
      const positions = outputs.map((output, axis) =>
        block.let(`${register}_p${axis}`, `i32(${output}) * ${image.stride[axis]}i - ${image.padBegin[axis]}i`),
      );
      const terms = positions.map((position, axis) => `${position} * ${image.spatialStrides[axis]}i`);
      const fixed = `(${index}) * ${image.imageStride}u + batch * ${image.groupStride}u + ${image.offset}u`;
      // A window may begin outside the image: the sum wraps, and wraps back where the tap's offset is added.
      block.let(register, `bitcast<u32>(${['0i', ...terms].join(' + ')}) + ${fixed}${shared ? ` + ${halved(lane)}` : ''}`);
      if (masked) tapMask(block, image, register);
      return register;
    },
    depth(block, register, k, lane) {
      const at = shared ? k : block.let(`${register}_k`, `${k} + ${lane}`);
      const codes = decodeIndex(at, [...image.kernel, image.channels]);
      const [channel, tap] = [block.let(`${register}_c`, halved(`(${codes.at(-1)!})`)), block.let(`${register}_tap`, `${at} / ${image.channels}u`)];
      const offsets = codes.slice(0, -1).map((code, axis) => block.let(`${register}_t${axis}`, `(${code}) * ${image.dilation[axis]}u`));
      block.let(register, [channel, ...offsets.map((offset, axis) => `${offset} * ${image.spatialStrides[axis]}u`)].join(' + '));
      if (masked) block.let(`${register}_bit`, `1u << (${tap} & 31u)`);
      if (tail) block.let(`${register}_in`, `${at} < k_end`);
    },
    value(block, row, at) {
      if (!leaves && !tail) return `${name}[${row} + ${at}]`;
      const conditions = [
        ...(tail ? [`${at}_in`] : []),
        ...(masked ? [`((${row}_mask & ${at}_bit) != 0u)`] : leaves ? insideConditions(image, row, at) : []),
      ];
      const ok = block.let(`${row}_${at}_ok`, conditions.join(' & '));
      return `select(vec4<u32>(${image.pad}u), ${name}[select(0u, ${row} + ${at}, ${ok})], ${ok})`;
    },
  };
}

/** As an unsigned number a negative position is a large one. */
function insideConditions(image: PackedImage, row: string, at: string): string[] {
  return image.kernel.flatMap((_, axis) => (canLeave(image, axis) ? [`(bitcast<u32>(${row}_p${axis}) + ${at}_t${axis} < ${image.inputSpatial[axis]}u)`] : []));
}

/** Emits a bit per tap: whether it lies inside the image. The innermost axis repeats for every tap of the axes around it. */
function tapMask(block: Block, image: PackedImage, register: string): void {
  let inner = '1u';
  let span = 1;
  for (let axis = image.kernel.length - 1; axis >= 0; axis--) {
    const bits: string[] = [];
    for (let tap = 0; tap < image.kernel[axis]!; tap++) {
      const position = `bitcast<u32>(${register}_p${axis} + ${tap * image.dilation[axis]!}i)`;
      const shifted = tap === 0 ? inner : `(${inner} << ${tap * span}u)`;
      bits.push(canLeave(image, axis) ? `select(0u, ${shifted}, ${position} < ${image.inputSpatial[axis]}u)` : shifted);
    }
    inner = block.let(`${register}_mask${axis === 0 ? '' : axis}`, bits.join(' | '));
    span *= image.kernel[axis]!;
  }
}
