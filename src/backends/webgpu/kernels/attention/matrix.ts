/**
 * Attention's products by subgroup matrices, and the same tiling in plain WGSL for tests.
 *
 * Matrices have no element access and can't be scaled by row: results leave through the scores' place in workgroup memory, and
 * come back where they had to be rescaled.
 */
import type { Block } from '../../wgsl/module.ts';
import type { AttentionEngine, AttentionGeometry } from './engine.ts';

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

/** A matrix in workgroup memory: its first vector, and vectors from one row (a column, where they are transposed) to the next. */
interface Place {
  readonly at: string;
  readonly pitch: number;
}

/** What a matrix is to the generator: matrices of the device, or places and loops. */
interface Matrices {
  readonly subgroupNumber: string;
  readonly subgroupSize: number | undefined;
  enable: AttentionEngine['declare'];
  begin(block: Block): void;
  zero(block: Block, name: string): void;
  /** Emits a left operand and gives what {@link multiply} calls it. */
  left(block: Block, name: string, place: Place): string;
  /** `transposed`: columns lie one after another. */
  right(block: Block, name: string, place: Place, transposed: boolean): string;
  multiply(block: Block, acc: string, left: string, right: string): void;
  store(block: Block, acc: string, place: Place): void;
  load(block: Block, acc: string, place: Place): void;
}

function deviceMatrices({ tactic }: AttentionGeometry): Matrices {
  const { m, n, k } = tactic.matrix!;
  const operand = (side: 'left' | 'right', order: string, { at, pitch }: Place): string => {
    const [columns, rows] = side === 'left' ? [k, m] : [n, k];
    return `subgroupMatrixLoad<subgroup_matrix_${side}<f16, ${columns}, ${rows}>, ${order}>(&tile, ${at}, ${pitch}u)`;
  };
  const result = `subgroup_matrix_result<f32, ${n}, ${m}>`;
  return {
    subgroupNumber: 'sgid',
    subgroupSize: tactic.demandsSubgroup ? tactic.subgroup : undefined,
    enable(module) {
      for (const extension of ['subgroups', 'chromium_experimental_subgroup_matrix', 'f16'] as const) module.enable(extension);
    },
    begin: () => undefined,
    zero: (block, name) => void block.var(name, `${result}()`),
    left: (block, name, place) => block.let(name, operand('left', 'row_major', place)),
    right: (block, name, place, transposed) => block.let(name, operand('right', transposed ? 'col_major' : 'row_major', place)),
    multiply: (block, acc, left, right) => block.line(`${acc} = subgroupMatrixMultiplyAccumulate(${left}, ${right}, ${acc})`),
    store: (block, acc, { at, pitch }) => block.line(`subgroupMatrixStore<row_major>(&tile, ${at}, ${acc}, ${pitch}u)`),
    load: (block, acc, { at, pitch }) => block.line(`${acc} = subgroupMatrixLoad<${result}, row_major>(&tile, ${at}, ${pitch}u)`),
  };
}

/** Every invocation holds the elements `lane`, `lane + subgroup` … of a result. */
function emulatedMatrices({ tactic }: AttentionGeometry): Matrices {
  const { m, n, k } = tactic.matrix!;
  const { subgroup } = tactic;
  const count = (m * n) / subgroup;
  const places = new Map<string, Place & { readonly transposed: boolean }>();
  const keep = (name: string, place: Place, transposed: boolean): string => {
    places.set(name, { ...place, transposed });
    return name;
  };
  const half = (at: string, element: string): string => `unpack2x16float(tile[${at} + (${element}) / 8u][((${element}) % 8u) / 2u])[(${element}) % 2u]`;
  const each = (block: Block, body: (block: Block) => void): void =>
    block.for('e', '0u', `${count}u`, '1u', (loop) => {
      loop.let('cell', `lane + e * ${subgroup}u`);
      loop.let('r', `cell / ${n}u`);
      loop.let('c', `cell % ${n}u`);
      body(loop);
    });
  const cell = ({ at, pitch }: Place): string => `tile[${at} + r * ${pitch}u + c / 4u][c % 4u]`;
  return {
    subgroupNumber: `(lid / ${subgroup}u)`,
    subgroupSize: undefined,
    enable: () => undefined,
    begin: (block) => void block.let('lane', `lid % ${subgroup}u`),
    zero: (block, name) => void block.var(name, `array<f32, ${count}>()`),
    left: (_, name, place) => keep(name, place, false),
    right: (_, name, place, transposed) => keep(name, place, transposed),
    multiply(block, acc, left, right) {
      const [a, b] = [places.get(left)!, places.get(right)!];
      each(block, (loop) =>
        loop.for('x', '0u', `${k}u`, '1u', (depth) => {
          const other = b.transposed ? half(`${b.at} + c * ${b.pitch}u`, 'x') : half(`${b.at} + x * ${b.pitch}u`, 'c');
          depth.line(`${acc}[e] += ${half(`${a.at} + r * ${a.pitch}u`, 'x')} * ${other}`);
        }),
      );
    },
    store: (block, acc, place) => each(block, (loop) => loop.line(`${cell(place)} = bitcast<u32>(${acc}[e])`)),
    load: (block, acc, place) => each(block, (loop) => loop.line(`${acc}[e] = bitcast<f32>(${cell(place)})`)),
  };
}

export function matrixAttention(geometry: AttentionGeometry): AttentionEngine {
  const { tactic, memory, threads, depthV } = geometry;
  const { bq, bk, down, across, engine } = tactic;
  const { m, n, k } = tactic.matrix!;
  const { keyVectors, valueVectors, keyPitch, valuePitch, scorePitch, weightPitch, rounds, blockBegin, queryBegin } = memory;
  const matrices = engine === 'matrix' ? deviceMatrices(geometry) : emulatedMatrices(geometry);
  const rows = bq / down / m;
  const keys = bk / across / n;
  const columns = (valueVectors * 8) / across / n;
  const perRound = columns / rounds;
  const acc = (i: number, j: number): string => `acc${i}_${j}`;
  const rowAt = (i: number, pitch: number): string => `(sub_y * ${rows * m}u + ${i * m}u) * ${pitch}u`;
  const slab = (i: number, j: number): Place => ({ at: `${rowAt(i, scorePitch)} + sub_x * ${(perRound * n) / 4}u + ${(j * n) / 4}u`, pitch: scorePitch });
  const held = engine === 'matrix';
  const queries = (block: Block): void => {
    for (const step of range((keyVectors * 8) / k)) {
      for (const i of range(rows)) matrices.left(block, `q${step}_${i}`, { at: `${queryBegin}u + ${rowAt(i, keyPitch)} + ${(step * k) / 8}u`, pitch: keyPitch });
    }
  };
  /** A round's results to the scores' place, and `body` between the barriers. */
  const eachRound = (block: Block, body: (round: number) => void): void => {
    for (const round of range(rounds)) {
      block.line('workgroupBarrier()');
      for (const i of range(rows)) for (const j of range(perRound)) matrices.store(block, acc(i, round * perRound + j), slab(i, j));
      block.line('workgroupBarrier()');
      body(round);
    }
  };
  /** Visits a round's vectors of four: their place in the slab. */
  const eachVector = (block: Block, body: (block: Block, row: string, vector: string) => void): void => {
    const width = (across * perRound * n) / 4;
    block.for('x', 'lid', `${bq * width}u`, `${threads}u`, (loop) => body(loop, loop.let('slab_row', `x / ${width}u`), loop.let('slab_vector', `x % ${width}u`)));
  };
  return {
    keySlot: undefined,
    halfWeights: true,
    rareScaling: true,
    subgroupSize: matrices.subgroupSize,
    declare: matrices.enable,
    begin(block) {
      block.let('sub_x', `${matrices.subgroupNumber} % ${across}u`);
      block.let('sub_y', `${matrices.subgroupNumber} / ${across}u`);
      matrices.begin(block);
      queries(block);
      for (const i of range(rows)) for (const j of range(columns)) matrices.zero(block, acc(i, j));
      // The scores are about to be written where the queries were.
      if (held) block.line('workgroupBarrier()');
    },
    scores(block) {
      for (const i of range(rows)) for (const j of range(keys)) matrices.zero(block, `s${i}_${j}`);
      for (const step of range((keyVectors * 8) / k)) {
        for (const j of range(keys)) {
          const right = matrices.right(block, `k${step}_${j}`, { at: `${blockBegin}u + (sub_x * ${keys * n}u + ${j * n}u) * ${keyPitch}u + ${(step * k) / 8}u`, pitch: keyPitch }, true);
          for (const i of range(rows)) matrices.multiply(block, `s${i}_${j}`, `q${step}_${i}`, right);
        }
      }
      for (const i of range(rows)) {
        for (const j of range(keys)) matrices.store(block, `s${i}_${j}`, { at: `${rowAt(i, scorePitch)} + sub_x * ${(keys * n) / 4}u + ${(j * n) / 4}u`, pitch: scorePitch });
      }
    },
    rescale(block) {
      eachRound(block, (round) => {
        eachVector(block, (loop, row, vector) => {
          const at = loop.let('slab_at', `${row} * ${scorePitch}u + ${vector}`);
          loop.line(`tile[${at}] = bitcast<vec4<u32>>(bitcast<vec4<f32>>(tile[${at}]) * factor[${row}])`);
        });
        block.line('workgroupBarrier()');
        for (const i of range(rows)) for (const j of range(perRound)) matrices.load(block, acc(i, round * perRound + j), slab(i, j));
      });
      block.line('workgroupBarrier()');
    },
    accumulate(block) {
      for (const step of range(bk / k)) {
        const lefts = range(rows).map((i) => matrices.left(block, `p${step}_${i}`, { at: `${rowAt(i, weightPitch)} + ${(step * k) / 8}u`, pitch: weightPitch }));
        for (const j of range(columns)) {
          const place = { at: `${blockBegin}u + ${step * k * valuePitch}u + sub_x * ${(columns * n) / 8}u + ${(j * n) / 8}u`, pitch: valuePitch };
          const right = matrices.right(block, `v${step}_${j}`, place, false);
          for (const [i, left] of lefts.entries()) matrices.multiply(block, acc(i, j), left, right);
        }
      }
    },
    finish(block, visit) {
      const width = perRound * n;
      eachRound(block, (round) =>
        eachVector(block, (loop, row, vector) => {
          const column = loop.let('column', `(${vector} * 4u / ${width}u) * ${columns * n}u + ${round * width}u + ${vector} * 4u % ${width}u`);
          loop.let('result', `bitcast<vec4<f32>>(tile[${row} * ${scorePitch}u + ${vector}])`);
          const emit = (inside: Block): void => visit(inside, row, column, 'result');
          if (depthV === valueVectors * 8) emit(loop);
          else loop.if(`${column} < ${depthV}u`, emit);
        }),
      );
    },
  };
}
