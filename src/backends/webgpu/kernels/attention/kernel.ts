/**
 * Attention in one kernel: softmax(scale · q·kᵀ + mask)·v without the scores ever leaving the workgroup.
 *
 * A workgroup takes some queries of one head and walks the keys in blocks. Weights are taken relative to the row's largest score
 * so far, and results are rescaled when it grows (online softmax: Milakov & Gimelshein 2018, arXiv:1805.02867; Dao et al. 2022,
 * "FlashAttention", arXiv:2205.14135). Where rescaling is costly it waits until a maximum grew by more than {@link SLACK}: weights up to
 * e^SLACK are as exact, and sums are in f32.
 *
 * Keys and values share one place in workgroup memory; the loads of either are under way while the other is used.
 *
 * Where there are few rows and many keys, as when a decoder adds a token, the keys are divided among workgroups too, and a second kernel combines what
 * each of them found (combine.ts; Dao et al. 2023, "Flash-Decoding for long-context inference").
 */
import type { KernelCall } from '../../lower/call.ts';
import { address, inUnits } from '../../lower/space.ts';
import { type DeviceTensor, storedBytes } from '../../lower/tensor.ts';
import type { DeviceProfile } from '../../profile.ts';
import {
  ATTENTION_LANES,
  attentionInvocations,
  attentionMemory,
  type AttentionProblem,
  attentionScratchBytes,
  attentionSpan,
  type AttentionTactic,
  attentionTacticName,
  partialVectors,
} from '../../tactics/attention.ts';
import { type Block, ModuleBuilder } from '../../wgsl/module.ts';
import { foldWorkgroups, repeatedWorkgroup } from '../grid.ts';
import { combineKernel } from './combine.ts';
import type { AttentionEngine, AttentionGeometry } from './engine.ts';
import { lanesAttention } from './lanes.ts';
import { bindMask } from './mask.ts';
import { matrixAttention } from './matrix.ts';
import { AttentionResults, hasSoftmax } from './results.ts';
import { type AttentionOperand, attentionProblemOf, type AttentionSpec, queryPlace } from './spec.ts';

/** By how much (as a logarithm) a score may exceed what its row's weights are relative to: e^8 is far within f16. */
const SLACK = 8;

/** The lowest f32: what a maximum starts from. Scores of −∞ stay below it, and give weights of zero. */
const LOWEST = '-0x1.fffffep+127f';

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

/** Whether floats become halves on their way. */
function narrows({ tensor }: AttentionOperand, element: 'f16' | 'f32'): boolean {
  return element === 'f16' && tensor.storage === 'f32';
}

/** The kernels of one attention, in order: one, or two where the keys are divided (`partial` is the memory between them, in f32). */
export function attentionKernels(spec: AttentionSpec, tactic: AttentionTactic, profile: DeviceProfile, partial: (elements: number) => DeviceTensor): KernelCall[] {
  const problem = attentionProblemOf(spec);
  if (tactic.splits === 1) return [walkingKernel(spec, problem, tactic, profile, undefined)];
  const partials = partial(attentionScratchBytes(problem, tactic) / 4);
  return [walkingKernel(spec, problem, tactic, profile, partials), combineKernel(spec, tactic, profile, partials)];
}

/** Walks keys: to the results, or to those of a span of keys where there are `partials`. */
function walkingKernel(spec: AttentionSpec, problem: AttentionProblem, tactic: AttentionTactic, profile: DeviceProfile, partials: DeviceTensor | undefined): KernelCall {
  const { element } = problem;
  const { splits } = tactic;
  const threads = attentionInvocations(tactic);
  const memory = attentionMemory(problem, tactic);
  const geometry: AttentionGeometry = { tactic, memory, element, threads, depthV: spec.depthV };
  const engine = tactic.engine === 'lanes' ? lanesAttention(geometry) : matrixAttention(geometry);
  const name = attentionTacticName(tactic);
  const module = new ModuleBuilder(`Attention ${name}`);
  for (const [operand, label] of [[spec.q, 'q'], [spec.k, 'k'], [spec.v, 'v']] as const) {
    module.storage(label, operand.tensor.storage === 'f16' ? 'u32' : 'f32', 4, storedBytes(operand.tensor) / 16, 'read');
    if (narrows(operand, element)) module.helper('f32_to_halves');
  }
  if (spec.softcap !== 0) module.helper('tanh14');
  const mask = spec.mask && bindMask(module, spec.mask, spec);
  const results = partials ? undefined : new AttentionResults(module, spec);
  if (partials) module.storage('partials', 'f32', 4, storedBytes(partials) / 16, 'read_write');
  engine.declare(module);
  module.workgroup('tile', 'u32', 4, memory.vectors);
  module.workgroup('partial', 'f32', 1, threads);
  module.workgroup('factor', 'f32', 1, tactic.bq);
  if (engine.rareScaling && attentionSpan(spec, tactic) > tactic.bk) module.workgroup('grown', 'u32', 1, 1);
  const tiles = Math.ceil(spec.rows / tactic.bq);
  const groups = tiles * spec.batch * spec.heads * splits;
  const grid = foldWorkgroups(groups, profile);
  const emit = (block: Block): void => {
    const place = block.let('place', repeatedWorkgroup(grid, groups));
    // Spans of one head run side by side.
    if (partials) block.let('split', `${place} % ${splits}u`);
    const flat = partials ? block.let('whole', `${place} / ${splits}u`) : place;
    block.let('first', `(${flat} % ${tiles}u) * ${tactic.bq}u`);
    block.let('head', `(${flat} / ${tiles}u) % ${spec.heads}u`);
    block.let('batch', `${flat} / ${tiles * spec.heads}u`);
    const emitter = new Emitter(block, spec, geometry, engine, mask);
    if (results) emitter.emit((inside, row, column, value) => results.emit(inside, ['batch', 'head', row, column], value));
    else emitter.emitSpan();
  };
  module.main(threads, emit, engine.subgroupSize);
  const operands = [spec.q, spec.k, spec.v, ...(spec.mask ? [spec.mask] : [])].map(({ tensor }) => tensor);
  return { source: module.finish(), operands: [...operands, ...(partials ? [partials] : AttentionResults.operands(spec))], workgroups: grid, tactic: name };
}

type Store = (block: Block, row: string, column: string, value: string) => void;

class Emitter {
  readonly #block: Block;
  readonly #spec: AttentionSpec;
  readonly #geometry: AttentionGeometry;
  readonly #engine: AttentionEngine;
  readonly #mask: ReturnType<typeof bindMask> | undefined;
  /** Invocations that share a row of scores, and vectors of four scores of each. */
  readonly #team: number;
  readonly #shares: number;
  /** Keys that the workgroup walks, and code for the first of them and the end. */
  readonly #span: number;
  readonly #begin: string;
  readonly #end: string;

  constructor(block: Block, spec: AttentionSpec, geometry: AttentionGeometry, engine: AttentionEngine, mask: ReturnType<typeof bindMask> | undefined) {
    this.#block = block;
    this.#spec = spec;
    this.#geometry = geometry;
    this.#engine = engine;
    this.#mask = mask;
    this.#team = geometry.threads / geometry.tactic.bq;
    this.#shares = geometry.tactic.bk / 4 / this.#team;
    const { length } = spec;
    this.#span = attentionSpan(spec, geometry.tactic);
    const isDivided = geometry.tactic.splits > 1;
    this.#begin = isDivided ? block.let('begin_keys', `split * ${this.#span}u`) : '0u';
    this.#end = isDivided ? block.let('end_keys', length % this.#span === 0 ? `begin_keys + ${this.#span}u` : `min(begin_keys + ${this.#span}u, ${length}u)`) : `${length}u`;
  }

  /** Emits all of the keys, and visits the results. */
  emit(store: Store): void {
    this.#walk();
    this.#finish(store);
  }

  /** Emits a span of the keys; what it gives, by row, goes to `partials`: sums, what they are relative to, and the sum of the weights. */
  emitSpan(): void {
    this.#walk();
    const block = this.#block;
    const { batch, heads, rows } = this.#spec;
    const vectors = partialVectors(this.#spec);
    const at = (row: string, vector: string): string => `partials[((split * ${batch * heads}u + batch * ${heads}u + head) * ${rows}u + first + ${row}) * ${vectors}u + ${vector}]`;
    this.#gatherSums();
    block.if(`(part == 0u) & (first + row < ${rows}u)`, (inside) => {
      inside.line(`${at('row', `${vectors - 1}u`)} = vec4<f32>(largest, ${this.#rowSum()}, 0.0f, 0.0f)`);
    });
    this.#engine.finish(block, (inside, row, column, value) => inside.if(`first + ${row} < ${rows}u`, (then) => then.line(`${at(row, `${column} / 4u`)} = ${value}`)));
  }

  #walk(): void {
    const block = this.#block;
    const { tactic } = this.#geometry;
    const { rows } = this.#spec;
    const isOneBlock = this.#span <= tactic.bk;
    this.#declare(block, 'k');
    this.#fetch(block, 'k', this.#begin);
    this.#stageQueries();
    this.#engine.begin(block);
    block.let('row', `lid / ${this.#team}u`);
    block.let('part', `lid % ${this.#team}u`);
    block.let('query', `min(first + row, ${rows - 1}u)`);
    block.var('largest', LOWEST);
    block.var('sum', 'f32()');
    if (isOneBlock) this.#emitBlock(block, this.#begin, true);
    else block.for('begin', this.#begin, this.#end, `${tactic.bk}u`, (loop) => this.#emitBlock(loop, 'begin', false));
  }

  #stageQueries(): void {
    const { tactic, memory, threads, element } = this.#geometry;
    const { keyVectors, keyPitch, queryBegin } = memory;
    const { depth, rows, q } = this.#spec;
    const lanes = ATTENTION_LANES[element];
    this.#block.for('x', 'lid', `${tactic.bq * keyVectors}u`, `${threads}u`, (loop) => {
      loop.let('at', `x / ${keyVectors}u`);
      loop.let('vector', `x % ${keyVectors}u`);
      loop.var('value', 'vec4<u32>()');
      const inside = [`first + at < ${rows}u`, ...(depth === keyVectors * lanes ? [] : [`vector < ${depth / lanes}u`])];
      const value = this.#staged(q, this.#read('q', q, queryPlace(this.#spec, 'head', '(first + at)'), 'vector'));
      loop.if(inside.map((condition) => `(${condition})`).join(' & '), (then) => then.line(`value = ${value}`));
      loop.line(`tile[${queryBegin}u + at * ${keyPitch}u + vector] = value`);
    });
    this.#block.line('workgroupBarrier()');
  }

  /** What a staged vector is loaded from, as bits: a vector, or two of floats that become one of halves. */
  #read(name: string, operand: AttentionOperand, [head, position]: readonly [string, string], vector: string): string[] {
    const { element } = this.#geometry;
    const loads = narrows(operand, element) ? 2 : 1;
    const from = (part: number): string => (loads === 1 ? vector : `(${vector} * 2u + ${part}u)`);
    return range(loads).map((part) => {
      const code = `${name}[${address(inUnits(operand.view, ATTENTION_LANES[element] / loads, 3), ['batch', head, position, from(part)])}]`;
      return operand.tensor.storage === 'f16' ? code : `bitcast<vec4<u32>>(${code})`;
    });
  }

  /** A vector as it is staged, of what {@link #read} loads. */
  #staged(operand: AttentionOperand, loaded: readonly string[]): string {
    if (!narrows(operand, this.#geometry.element)) return loaded[0]!;
    return `vec4<u32>(${loaded.map((bits) => `f32_to_halves(bitcast<vec4<f32>>(${bits}))`).join(', ')})`;
  }

  /** Names of the registers that hold what is loaded for the i-th vector of an invocation until it is staged. */
  #registers(name: 'k' | 'v', i: number): string[] {
    const prefix = name === 'k' ? 'key' : 'value';
    return narrows(this.#spec[name], this.#geometry.element) ? [`${prefix}_${i}_low`, `${prefix}_${i}_high`] : [`${prefix}_${i}`];
  }

  #vectors(name: 'k' | 'v'): { readonly stored: number; readonly pitch: number; readonly extent: number; readonly fetches: number } {
    const { memory, tactic, threads, element } = this.#geometry;
    const { keyVectors, valueVectors, keyPitch, valuePitch } = memory;
    const [stored, pitch, depth] = name === 'k' ? [keyVectors, keyPitch, this.#spec.depth] : [valueVectors, valuePitch, this.#spec.depthV];
    return { stored, pitch, extent: depth / ATTENTION_LANES[element], fetches: Math.ceil((tactic.bk * stored) / threads) };
  }

  #declare(block: Block, name: 'k' | 'v'): void {
    for (const i of range(this.#vectors(name).fetches)) for (const register of this.#registers(name, i)) block.var(register, 'vec4<u32>()');
  }

  /** Emits loads of a block into registers; rows beyond the last and padding are zero. */
  #fetch(block: Block, name: 'k' | 'v', begin: string): void {
    const { threads, tactic } = this.#geometry;
    const { stored, extent, fetches } = this.#vectors(name);
    const { length } = this.#spec;
    for (const i of range(fetches)) {
      const x = `(lid + ${i * threads}u)`;
      const [at, vector] = [`(${begin} + ${x} / ${stored}u)`, `(${x} % ${stored}u)`];
      const registers = this.#registers(name, i);
      const loads = this.#read(name, this.#spec[name], ['head', at], vector).map((value, part) => `${registers[part]} = ${value}`);
      const inside = [
        ...(length % tactic.bk === 0 && (tactic.bk * stored) % threads === 0 ? [] : [`${at} < ${length}u`]),
        ...(extent === stored ? [] : [`${vector} < ${extent}u`]),
      ];
      for (const register of registers) block.line(`${register} = vec4<u32>()`);
      const load = (then: Block): void => loads.forEach((line) => then.line(line));
      if (inside.length === 0) load(block);
      else block.if(inside.map((condition) => `(${condition})`).join(' & '), load);
    }
  }

  #stage(block: Block, name: 'k' | 'v'): void {
    const { threads, tactic, memory } = this.#geometry;
    const { stored, pitch, fetches } = this.#vectors(name);
    for (const i of range(fetches)) {
      const x = `(lid + ${i * threads}u)`;
      const key = `(${x} / ${stored}u)`;
      const slot = name === 'k' && this.#engine.keySlot ? this.#engine.keySlot(key) : key;
      const value = this.#staged(this.#spec[name], this.#registers(name, i));
      const store = (inside: Block): void => inside.line(`tile[${memory.blockBegin}u + ${slot} * ${pitch}u + ${x} % ${stored}u] = ${value}`);
      if (tactic.bk * stored >= (i + 1) * threads) store(block);
      else block.if(`${x} < ${tactic.bk * stored}u`, store);
    }
  }

  #emitBlock(block: Block, begin: string, isOnly: boolean): void {
    const { bk } = this.#geometry.tactic;
    const engine = this.#engine;
    const isRare = engine.rareScaling && !isOnly;
    block.line('workgroupBarrier()');
    this.#stage(block, 'k');
    if (isRare) block.if('lid == 0u', (inside) => inside.line('grown[0] = 0u'));
    block.line('workgroupBarrier()');
    this.#declare(block, 'v');
    this.#fetch(block, 'v', begin);
    this.#fetchMask(block, begin);
    engine.scores(block);
    block.line('workgroupBarrier()');
    this.#stage(block, 'v');
    this.#largestOfShare(block);
    // A row of one invocation has nobody to ask.
    const alone = this.#team === 1;
    if (!alone) block.line(`partial[lid] = most`);
    // Whoever sees a maximum grow too much writes the same word.
    if (isRare) block.if(`most > largest + ${SLACK}f && ${begin} > ${this.#begin}`, (inside) => inside.line('grown[0] = 1u'));
    if (isRare) block.let('must_scale', 'workgroupUniformLoad(&grown[0])');
    else block.line('workgroupBarrier()');
    block.let('now', alone ? 'max(largest, most)' : range(this.#team).reduce((code, i) => `max(${code}, partial[row * ${this.#team}u + ${i}u])`, 'largest'));
    this.#takeLargest(block, begin, isOnly, isRare);
    this.#writeWeights(block);
    if (!isOnly) {
      block.if(`${begin} + ${bk}u < ${this.#end}`, (next) => {
        next.let('next', `${begin} + ${bk}u`);
        this.#fetch(next, 'k', 'next');
      });
    }
    block.line('workgroupBarrier()');
    if (!isOnly && !engine.rareScaling) engine.rescale(block);
    engine.accumulate(block);
  }

  /** Which vector of its row's scores an invocation takes as its j-th: pairs of neighbours, where two become a vector of halves. */
  #share(j: number): string {
    if (!this.#engine.halfWeights) return `part + ${j * this.#team}u`;
    return `part * 2u + ${Math.floor(j / 2) * this.#team * 2 + (j % 2)}u`;
  }

  /** Emits the columns of the invocation's scores, and loads of what is added to them. */
  #fetchMask(block: Block, begin: string): void {
    for (const j of range(this.#shares)) {
      const column = block.let(`column${j}`, `${begin} + (${this.#share(j)}) * 4u`);
      if (this.#mask) block.let(`added${j}`, this.#mask(['batch', ...queryPlace(this.#spec, 'head', 'query'), column]));
    }
  }

  /** Reads the invocation's scores, `share0` …, and their maximum `most`. */
  #largestOfShare(block: Block): void {
    const { memory, tactic } = this.#geometry;
    const { scale, softcap, length } = this.#spec;
    const tail = length % tactic.bk !== 0;
    for (const j of range(this.#shares)) {
      const scaled = `bitcast<vec4<f32>>(tile[row * ${memory.scorePitch}u + ${this.#share(j)}]) * ${Math.fround(softcap === 0 ? scale : scale / softcap)}f`;
      const raw = softcap === 0 ? scaled : `tanh14(${scaled}) * ${Math.fround(softcap)}f`;
      const value = this.#mask ? `${raw} + added${j}` : raw;
      if (tail) block.let(`inside${j}`, `vec4<u32>(column${j}) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(${length}u)`);
      block.let(`share${j}`, tail ? `select(vec4<f32>(${LOWEST}), ${value}, inside${j})` : value);
    }
    const four = block.let('most4', range(this.#shares).map((j) => `share${j}`).reduce((a, b) => `max(${a}, ${b})`));
    block.let('most', `max(max(${four}.x, ${four}.y), max(${four}.z, ${four}.w))`);
  }

  /** What the weights are relative to, and what that changes of earlier ones. */
  #takeLargest(block: Block, begin: string, isOnly: boolean, isRare: boolean): void {
    if (isOnly) return block.line('largest = now');
    const scaled = (inside: Block): void => {
      inside.let('by', 'exp(largest - now)');
      inside.line('largest = now');
      inside.line('sum *= by');
      inside.if('part == 0u', (then) => then.line('factor[row] = by'));
    };
    if (!isRare) return scaled(block);
    block.if(`${begin} == ${this.#begin}`, (inside) => inside.line('largest = now'));
    block.if('must_scale != 0u', (inside) => {
      scaled(inside);
      this.#engine.rescale(inside);
    });
  }

  #writeWeights(block: Block): void {
    const { memory, tactic } = this.#geometry;
    const tail = this.#spec.length % tactic.bk !== 0;
    for (const j of range(this.#shares)) {
      const value = `exp(share${j} - vec4<f32>(largest))`;
      const weight = block.let(`weight${j}`, tail ? `select(vec4<f32>(), ${value}, inside${j})` : value);
      block.line(`sum += dot(${weight}, vec4<f32>(1.0f))`);
    }
    // Weights go where other invocations' scores were: these have been read before the last barrier.
    if (!this.#engine.halfWeights) {
      for (const j of range(this.#shares)) block.line(`tile[row * ${memory.scorePitch}u + ${this.#share(j)}] = bitcast<vec4<u32>>(weight${j})`);
      return;
    }
    for (let j = 0; j < this.#shares; j += 2) {
      const halves = [j, j + 1].flatMap((i) => [`pack2x16float(weight${i}.xy)`, `pack2x16float(weight${i}.zw)`]);
      block.line(`tile[row * ${memory.weightPitch}u + part + ${(j / 2) * this.#team}u] = vec4<u32>(${halves.join(', ')})`);
    }
  }

  /** Brings the sums of a row's weights to where its first invocation finds them. */
  #gatherSums(): void {
    this.#block.line('workgroupBarrier()');
    this.#block.line('partial[lid] = sum');
    this.#block.line('workgroupBarrier()');
  }

  #rowSum(): string {
    return range(this.#team).map((i) => `partial[lid + ${i}u]`).join(' + ');
  }

  #finish(store: Store): void {
    const block = this.#block;
    const { rows, zeroEmptyRows } = this.#spec;
    const nan = `bitcast<f32>(all_masked)`;
    this.#gatherSums();
    // A row without any weight is 0/0, as in ONNX's reference.
    if (!zeroEmptyRows) block.var('all_masked', '0x7fc00000u');
    block.if('part == 0u', (inside) => {
      inside.let('all', this.#rowSum());
      inside.line(`factor[row] = ${zeroEmptyRows ? `select(0.0f, 1.0f / all, ${hasSoftmax('all')})` : `select(1.0f / all, ${nan}, all == 0.0f)`}`);
    });
    block.line('workgroupBarrier()');
    const scaled = (value: string, factor: string): string => (zeroEmptyRows ? `select(vec4<f32>(), ${value} * ${factor}, ${factor} > 0.0f)` : `${value} * ${factor}`);
    this.#engine.finish(block, (inside, row, column, value) =>
      inside.if(`first + ${row} < ${rows}u`, (then) => store(then, `(first + ${row})`, column, scaled(value, `factor[${row}]`))),
    );
  }
}
