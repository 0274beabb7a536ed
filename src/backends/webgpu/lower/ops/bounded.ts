/**
 * Ops whose output length the data decides: NonMaxSuppression and NonZero. The device fills an output of the largest size and counts;
 * whoever reads it back cuts it to the count (ops/bounded.ts).
 */
import type { Node } from '../../../../ir/graph.ts';
import { elementCount } from '../../../../ir/tensor.ts';
import { foldWorkgroups, flatWorkgroup } from '../../kernels/grid.ts';
import { BoundTensor, type Operands, pointKernel } from '../../kernels/pointwise.ts';
import { registerType } from '../../wgsl/access.ts';
import { type Block, ModuleBuilder } from '../../wgsl/module.ts';
import { decodeIndex } from '../space.ts';
import type { KernelCall } from '../call.ts';
import type { LowerContext, Lowering, LoweringTable } from '../context.ts';
import { type DeviceTensor, rowMajorStrides } from '../tensor.ts';
import { known } from './generate.ts';

/** What a workgroup of the suppression works on. */
interface Suppression {
  readonly boxes: DeviceTensor;
  readonly scores: DeviceTensor;
  /** A scalar, or `slots` where it is known at build, since the slots are as many; undefined: the node leaves it out, which is a limit of 0. */
  readonly limit: DeviceTensor | 'slots' | undefined;
  /** Scalars; undefined where the node leaves them out. */
  readonly iou: DeviceTensor | undefined;
  readonly floor: DeviceTensor | undefined;
  /** [batches, classes, boxes]: 1 while a box may still be chosen. */
  readonly alive: DeviceTensor;
  /** [batches, classes, slots]: the boxes chosen, the best first. */
  readonly chosen: DeviceTensor;
  /** [batches, classes]: how many. */
  readonly counts: DeviceTensor;
  readonly centered: boolean;
}

const SHARED_BYTES_PER_THREAD = 8;

/**
 * One workgroup per batch and class, a share of the boxes per thread. As often as the limit says: the best box that is alive is
 * chosen (of equals the first), and every box that overlaps it too much dies. The same boxes in the same order as the sequential
 * algorithm, which takes boxes by falling score unless one chosen before overlaps them.
 */
function suppressionKernel(s: Suppression, context: LowerContext): KernelCall {
  const { profile } = context;
  const [batches, classes, boxes] = s.scores.dims as [number, number, number];
  const slots = s.chosen.dims[2]!;
  const wanted = Math.min(256, profile.maxInvocations, Math.floor(profile.maxWorkgroupBytes / (2 * SHARED_BYTES_PER_THREAD)));
  const threads = 2 ** Math.floor(Math.log2(Math.max(1, Math.min(wanted, boxes))));
  const grid = foldWorkgroups(batches * classes, profile);
  const module = new ModuleBuilder('NonMaxSuppression');
  const named = { boxes: s.boxes, scores: s.scores, limit: s.limit === 'slots' ? undefined : s.limit, iou: s.iou, floor: s.floor };
  const operands: Operands = Object.fromEntries(Object.entries(named).flatMap(([name, tensor]) => (tensor ? [[name, tensor]] : [])));
  const written: Operands = { alive: s.alive, chosen: s.chosen, counts: s.counts };
  const bound = (list: Operands, access: 'read' | 'read_write') =>
    new Map(Object.entries(list).map(([name, tensor]) => [name, new BoundTensor(module, name, tensor, access)]));
  const read = bound(operands, 'read');
  const write = bound(written, 'read_write');
  const score = module.workgroup('best_score', 'f32', 1, threads);
  const index = module.workgroup('best_index', 'u32', 1, threads);
  const pick = module.workgroup('pick', 'u32', 1, 1);
  const none = `${boxes}u`;
  module.main(threads, (block) => {
    block.let('task', flatWorkgroup(grid));
    block.if(`task >= ${batches * classes}u`, (inside) => inside.line('return'));
    const [b, c] = decodeIndex('task', [batches, classes]) as [string, string];
    const at = (i: string): string[] => [b, c, i];
    const shares = (body: (block: Block) => void): void => block.for('i', 'lid', none, `${threads}u`, body);
    shares((each) => {
      const value = `f32(${read.get('scores')!.load(at('i'))})`;
      write.get('alive')!.store(each, at('i'), read.has('floor') ? `select(0u, 1u, ${value} > f32(${read.get('floor')!.loadFlat('0u')}))` : '1u');
    });
    const given = read.get('limit');
    block.let('most', given ? `u32(clamp(${given.loadFlat('0u')}, 0, ${slots}))` : s.limit === 'slots' ? `${slots}u` : '0u');
    block.let('threshold', read.has('iou') ? `f32(${read.get('iou')!.loadFlat('0u')})` : '0.0f');
    block.var('found', '0u');
    block.for('turn', '0u', 'most', '1u', (turn) => {
      turn.var('own_score', '0.0f');
      turn.var('own', none);
      turn.for('i', 'lid', none, `${threads}u`, (each) => {
        each.let('value', `f32(${read.get('scores')!.load(at('i'))})`);
        each.if(`${write.get('alive')!.load(at('i'))} != 0u && (own == ${none} || value > own_score)`, (better) => {
          better.line('own_score = value');
          better.line('own = i');
        });
      });
      turn.line(`${score}[lid] = own_score`);
      turn.line(`${index}[lid] = own`);
      turn.line('workgroupBarrier()');
      for (let half = threads / 2; half >= 1; half /= 2) {
        turn.if(`lid < ${half}u`, (upper) => {
          upper.let('mine', `${index}[lid]`);
          upper.let('theirs', `${index}[lid + ${half}u]`);
          const beats = `${score}[lid + ${half}u] > ${score}[lid] || (${score}[lid + ${half}u] == ${score}[lid] && theirs < mine)`;
          upper.if(`theirs != ${none} && (mine == ${none} || ${beats})`, (take) => {
            take.line(`${score}[lid] = ${score}[lid + ${half}u]`);
            take.line(`${index}[lid] = theirs`);
          });
        });
        turn.line('workgroupBarrier()');
      }
      turn.if('lid == 0u', (first) => first.line(`${pick}[0] = ${index}[0]`));
      turn.let('best', `workgroupUniformLoad(&${pick})[0]`);
      turn.if(`best == ${none}`, (end) => end.line('break'));
      turn.if('lid == 0u', (first) => write.get('chosen')!.store(first, [b, c, 'turn'], 'best'));
      turn.line('found = turn + 1u');
      emitBox(turn, 'p', read.get('boxes')!, b, 'best', s.centered);
      turn.for('i', 'lid', none, `${threads}u`, (each) => {
        emitBox(each, 'q', read.get('boxes')!, b, 'i', s.centered);
        each.let('overlap', 'min(p_high, q_high) - max(p_low, q_low)');
        each.let('common_area', 'overlap.x * overlap.y');
        each.let('joined', 'p_area + q_area - common_area');
        // A product and no quotient: division is a few ulps off, and a box exactly at the threshold would fall to either side.
        const over = 'overlap.x > 0.0f && overlap.y > 0.0f && p_area > 0.0f && q_area > 0.0f && joined > 0.0f && common_area > threshold * joined';
        each.if(`i == best || (${over})`, (dead) => write.get('alive')!.store(dead, at('i'), '0u'));
      });
    });
    block.if('lid == 0u', (first) => write.get('counts')!.store(first, [b, c], 'found'));
  });
  return { source: module.finish(), operands: [...Object.values(operands), ...Object.values(written)], workgroups: grid };
}

/** Declares a box's corners `${name}_low` and `${name}_high` and its area. Corners may be given in either order. */
function emitBox(block: Block, name: string, boxes: BoundTensor, batch: string, index: string, centered: boolean): void {
  const [a, b, c, d] = ['0u', '1u', '2u', '3u'].map((k) => `f32(${boxes.load([batch, index, k])})`) as [string, string, string, string];
  block.let(`${name}_first`, `vec2<f32>(${a}, ${b})`);
  block.let(`${name}_second`, `vec2<f32>(${c}, ${d})`);
  block.let(`${name}_low`, centered ? `${name}_first - ${name}_second * 0.5f` : `min(${name}_first, ${name}_second)`);
  block.let(`${name}_high`, centered ? `${name}_first + ${name}_second * 0.5f` : `max(${name}_first, ${name}_second)`);
  block.let(`${name}_size`, `${name}_high - ${name}_low`);
  block.let(`${name}_area`, `${name}_size.x * ${name}_size.y`);
}

const nonMaxSuppression: Lowering<'NonMaxSuppression'> = {
  // "No limit" is the largest int64.
  hostInputs: [2],
  lower(node, context) {
    const [id, scores] = [node.outputs[0]!, context.tensor(node.inputs[1]!)];
    const [batches, classes, boxes] = scores.dims as [number, number, number];
    const slots = batches * classes === 0 ? 0 : context.type(id).dims[0]! / (batches * classes);
    if (slots === 0) return nothing(node, context);
    const scalar = (index: number): DeviceTensor | undefined => (node.inputs[index] ? context.tensorIn(node.inputs[index], 'linear') : undefined);
    const scratch = (last: readonly number[]): DeviceTensor => context.scratch('uint32', [batches, classes, ...last]);
    const [alive, chosen, counts] = [scratch([boxes]), scratch([slots]), scratch([])];
    const limit: Suppression['limit'] = context.graph.constants.has(node.inputs[2] ?? '') ? 'slots' : scalar(2);
    const scalars = { limit, iou: scalar(3), floor: scalar(4) };
    const centered = node.attrs.center_point_box === 1;
    context.dispatch(suppressionKernel({ boxes: context.tensor(node.inputs[0]!), scores, ...scalars, alive, chosen, counts, centered }, context));
    // Rows of one class after those of all classes before it.
    context.dispatch(
      pointKernel(
        {
          label: 'NonMaxSuppression',
          extents: [batches, classes, slots],
          inputs: { chosen, counts },
          outputs: { result: context.define(id, 'linear'), length: context.length(id) },
          body({ block, at: [b, c, slot], inputs, outputs }) {
            block.let('task', `${b} * ${classes}u + ${c}`);
            block.var('before', '0u');
            block.for('k', '0u', 'task', '1u', (loop) => loop.line(`before += ${inputs.counts.loadFlat('k')}`));
            block.let('own', inputs.counts.loadFlat('task'));
            block.if(`${slot} < own`, (real) => {
              const row = `before + ${slot}`;
              outputs.result.store(real, [row, '0u'], `i32(${b})`);
              outputs.result.store(real, [row, '1u'], `i32(${c})`);
              outputs.result.store(real, [row, '2u'], `i32(${inputs.chosen.load([b!, c!, slot!])})`);
            });
            block.if(`task == ${batches * classes - 1}u && ${slot} == 0u`, (last) => outputs.length.storeFlat(last, '0u', 'i32(before + own)'));
          },
        },
        context.profile,
      ),
    );
  },
};

/** An output that is empty whatever the data. */
function nothing(node: Node<'NonMaxSuppression' | 'NonZero'>, context: LowerContext): void {
  known(context, node.outputs[0]!, []);
}

/** Elements that one thread counts, and another numbers. */
const CHUNK = 256;

/** [rank, count]. Counts per chunk first, then every chunk numbers its own after those before it. */
const nonZero: Lowering<'NonZero'> = {
  lower(node, context) {
    const id = node.outputs[0]!;
    const constant = context.ints(node.inputs[0]!);
    const { dims } = context.type(node.inputs[0]!);
    const strides = rowMajorStrides(dims);
    if (constant) {
      const found = constant.flatMap((value, offset) => (value === 0 ? [] : [offset]));
      return known(context, id, strides.flatMap((stride, axis) => found.map((offset) => Math.floor(offset / stride) % dims[axis]!)));
    }
    const total = elementCount(dims);
    if (elementCount(context.type(id).dims) === 0) return nothing(node, context);
    const data = context.tensorIn(node.inputs[0]!, 'linear');
    // Negated, since NaN is not zero: compilers make a comparison that it fails of `!=`.
    const isSet = (value: string): string => (registerType(data.dtype) === 'bool' ? value : `!(${value} == ${registerType(data.dtype)}())`);
    const chunks = Math.ceil(total / CHUNK);
    const counts = context.scratch('int32', [chunks]);
    const walk = (block: Block, body: (block: Block) => void): void => block.for('k', `c0 * ${CHUNK}u`, `min(c0 * ${CHUNK}u + ${CHUNK}u, ${total}u)`, '1u', body);
    context.dispatch(
      pointKernel(
        {
          label: 'NonZero',
          extents: [chunks],
          inputs: { data },
          outputs: { counts },
          body({ block, inputs, outputs }) {
            block.var('count', '0i');
            walk(block, (loop) => loop.line(`count += select(0i, 1i, ${isSet(inputs.data.loadFlat('k'))})`));
            outputs.counts.storeFlat(block, 'c0', 'count');
          },
        },
        context.profile,
      ),
    );
    context.dispatch(
      pointKernel(
        {
          label: 'NonZero',
          extents: [chunks],
          inputs: { data, counts },
          outputs: { result: context.define(id, 'linear'), length: context.length(id) },
          body({ block, inputs, outputs }) {
            block.var('place', '0i');
            block.for('k', '0u', 'c0', '1u', (loop) => loop.line(`place += ${inputs.counts.loadFlat('k')}`));
            walk(block, (loop) =>
              loop.if(isSet(inputs.data.loadFlat('k')), (hit) => {
                for (const [axis, code] of decodeIndex('k', dims).entries()) outputs.result.store(hit, [`${axis}u`, 'u32(place)'], `i32(${code})`);
                hit.line('place += 1i');
              }),
            );
            block.if(`c0 == ${chunks - 1}u`, (last) => outputs.length.storeFlat(last, '0u', 'place'));
          },
        },
        context.profile,
      ),
    );
  },
};

export const BOUNDED_LOWERINGS: LoweringTable = { NonMaxSuppression: nonMaxSuppression, NonZero: nonZero };
