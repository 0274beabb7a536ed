/** Requests in a row whose outputs become inputs: on the device (SwiftShader), and through the host of any other session. */
import { describe, expect, it, vi } from 'vitest';
import type { Session } from '../../src/backends/backend.ts';
import { startLoop } from '../../src/backends/loop.ts';
import { fromNumbers, type Tensor, toNumbers } from '../../src/ir/tensor.ts';
import { newGraphBuilder } from '../../src/ops/builder.ts';
import { noDevice, testDevice, withSession } from './helpers.ts';

/** sum' = sum + x, count' = count + 1, y = sum' · 2 */
function counter() {
  const b = newGraphBuilder('counter');
  const [x, sum, count] = [b.input('x', { dtype: 'float32', dims: [3] }), b.input('sum', { dtype: 'float32', dims: [3] }), b.input('count', { dtype: 'int64', dims: [1] })];
  const next = b.node('Add', [sum, x], {}, { outputs: ['next_sum'] });
  const counted = b.node('Add', [count, b.constant(fromNumbers('int64', [1], [1]))], {}, { outputs: ['next_count'] });
  return b.finish([b.node('Mul', [next, b.constant(fromNumbers('float32', [1], [2]))], {}, { outputs: ['y'] }), next, counted]);
}

/** a' = b, b' = a + b, which y reads too, same' = same, flags' = not flags; and product' = c · d, which is c and d of the next step. */
function tangle() {
  const b = newGraphBuilder('tangle');
  const float = (name: string) => b.input(name, { dtype: 'float32', dims: [3] });
  const [x, one, two, c, d, same] = [float('x'), float('a'), float('b'), float('c'), float('d'), float('same')];
  const flags = b.input('flags', { dtype: 'bool', dims: [5] });
  const sum = b.node('Add', [one, two], {}, { outputs: ['next_b'] });
  return b.finish([
    b.node('Mul', [sum, x], {}, { outputs: ['y'] }),
    b.node('Identity', [two], {}, { outputs: ['next_a'] }),
    sum,
    b.node('Mul', [c, d], {}, { outputs: ['product'] }),
    b.node('Identity', [same], {}, { outputs: ['next_same'] }),
    b.node('Not', [flags], {}, { outputs: ['next_flags'] }),
  ]);
}

const CARRIED = { sum: 'next_sum', count: 'next_count' };
const vector = (...values: number[]): Tensor => fromNumbers('float32', [3], values);
const START = { sum: vector(1, 2, 3), count: fromNumbers('int64', [1], [5]) };

/** The session as one of a backend that keeps nothing. */
function withoutLoops(session: Session): Session {
  return { ...session, inputs: session.inputs, outputs: session.outputs, run: (inputs: Parameters<Session['run']>[0]) => session.run(inputs), loop: undefined } as unknown as Session;
}

describe.skipIf(noDevice)('loops (skipped without SwiftShader)', () => {
  it.each([['on the device', (session: Session) => session], ['through the host', withoutLoops]] as const)('%s: steps see what the ones before left', async (_, as) => {
    await withSession(counter(), async (own) => {
      const session = as(own);
      const [loop, other] = [await startLoop(session, CARRIED, START), await startLoop(session, { sum: 'next_sum' }, { sum: vector(0, 0, 0) })];
      const steps = [vector(1, 1, 1), vector(10, 20, 30), vector(0, 0, 0)].map((x) => loop.step({ x }));
      const count = fromNumbers('int64', [1], [40]);
      expect(Object.fromEntries(Object.entries(await other.step({ x: vector(7, 8, 9), count })).map(([name, tensor]) => [name, toNumbers(tensor)]))).toEqual({ y: [14, 16, 18], next_count: [41] });
      // Requests of the session's own come between.
      expect(toNumbers((await session.run({ x: vector(0, 0, 1), sum: vector(4, 4, 4), count }))['y']!)).toEqual([8, 8, 10]);
      const answers = await Promise.all(steps);
      expect(answers.map((answer) => Object.keys(answer))).toEqual([['y'], ['y'], ['y']]);
      expect(answers.map((answer) => toNumbers(answer['y']!))).toEqual([[4, 6, 8], [24, 46, 68], [24, 46, 68]]);
      const state = await loop.state();
      expect([toNumbers(state['sum']!), toNumbers(state['count']!)]).toEqual([[12, 23, 34], [8]]);
      expect(toNumbers((await other.state())['sum']!)).toEqual([7, 8, 9]);
      await loop.dispose();
      await expect(loop.step({ x: vector(0, 0, 0) })).rejects.toMatchObject({ code: 'USAGE', message: 'the loop was disposed of' });
      expect(toNumbers((await other.step({ x: vector(1, 1, 1), count }))['y']!)).toEqual([16, 18, 20]);
    });
  });

  it.each([['on the device', (session: Session) => session], ['through the host', withoutLoops]] as const)('%s: says what does not fit, and goes on', async (_, as) => {
    await withSession(counter(), async (own) => {
      const session = as(own);
      await expect(startLoop(session, { sum: 'next_count', cache: 'y', x: 'present' }, START)).rejects.toMatchObject({
        code: 'USAGE', details: ['sum is float32[3], but next_count is int64[1]', 'cache: no such input', 'present: no such output'],
      });
      await expect(startLoop(session, CARRIED, { sum: vector(1, 2, 3) })).rejects.toMatchObject({ code: 'USAGE', details: ['count: expected int64[1], found nothing'] });
      const loop = await startLoop(session, CARRIED, START);
      await expect(loop.step({ x: vector(0, 0, 0), sum: vector(0, 0, 0) })).rejects.toMatchObject({ code: 'USAGE', details: ['sum: no such input'] });
      expect(toNumbers((await loop.step({ x: vector(1, 0, 0) }))['y']!)).toEqual([4, 4, 6]);
      await loop.dispose();
    });
  });

  it.each([['on the device', (session: Session) => session], ['through the host', withoutLoops]] as const)('%s: outputs that are inputs, go to two inputs, or are read in their own step', async (_, as) => {
    await withSession(tangle(), async (own) => {
      const flags = (...bits: number[]): Tensor => fromNumbers('bool', [5], bits);
      const loop = await startLoop(as(own), { a: 'next_a', b: 'next_b', c: 'product', d: 'product', same: 'next_same', flags: 'next_flags' }, {
        a: vector(0, 1, 2), b: vector(1, 1, 1), c: vector(1, 2, -1), d: vector(1, 3, 1), same: vector(7, 8, 9), flags: flags(1, 0, 0, 1, 1),
      });
      const state = async () => Object.fromEntries(Object.entries(await loop.state()).map(([name, tensor]) => [name, toNumbers(tensor)]));
      const step = async (x: number) => toNumbers((await loop.step({ x: vector(x, x, x) }))['y']!);
      expect(await step(1)).toEqual([1, 2, 3]);
      expect(await state()).toEqual({ a: [1, 1, 1], b: [1, 2, 3], c: [1, 6, -1], d: [1, 6, -1], same: [7, 8, 9], flags: [0, 1, 1, 0, 0] });
      expect([await step(1), await step(-1)]).toEqual([[2, 3, 4], [-3, -5, -7]]);
      // A step that is refused changes nothing.
      await expect(loop.step({})).rejects.toMatchObject({ code: 'USAGE' });
      expect(await step(1)).toEqual([5, 8, 11]);
      expect(await state()).toEqual({ a: [3, 5, 7], b: [5, 8, 11], c: [1, 6 ** 8, 1], d: [1, 6 ** 8, 1], same: [7, 8, 9], flags: [1, 0, 0, 1, 1] });
      await loop.dispose();
    });
  });

  it('copies only what the host reads', async () => {
    const encoder = (await testDevice()).device.createCommandEncoder();
    const copies = vi.spyOn(Object.getPrototypeOf(encoder) as GPUCommandEncoder, 'copyBufferToBuffer');
    await withSession(counter(), async (session) => {
      const loop = await startLoop(session, CARRIED, START);
      await loop.step({ x: vector(1, 1, 1) });
      copies.mockClear();
      for (let i = 0; i < 5; i++) await loop.step({ x: vector(1, 1, 1) });
      // Of y, the only output that is not carried.
      expect(copies).toHaveBeenCalledTimes(5);
      await loop.dispose();
    });
    copies.mockRestore();
  });

  it('waits for steps of which the host reads nothing', async () => {
    const { device } = await testDevice();
    const b = newGraphBuilder('sum');
    const graph = b.finish([b.node('Add', [b.input('sum', { dtype: 'float32', dims: [3] }), b.input('x', { dtype: 'float32', dims: [3] })], {}, { outputs: ['next_sum'] })]);
    await withSession(graph, async (session) => {
      const loop = await startLoop(session, { sum: 'next_sum' }, { sum: vector(0, 0, 0) });
      const waits = vi.spyOn(device.queue, 'onSubmittedWorkDone');
      for (let i = 0; i < 3; i++) expect(await loop.step({ x: vector(1, 2, 3) })).toEqual({});
      expect(waits).toHaveBeenCalledTimes(3);
      waits.mockRestore();
      expect(toNumbers((await loop.state())['sum']!)).toEqual([3, 6, 9]);
      await loop.dispose();
    });
  });

  it('gives its memory back, also with the session', async () => {
    await withSession(counter(), async (session) => {
      const before = session.observeMemory().deviceBytes;
      const loop = await startLoop(session, CARRIED, START);
      expect(session.observeMemory().deviceBytes).toBeGreaterThan(before!);
      await loop.dispose();
      await loop.dispose();
      expect(session.observeMemory().deviceBytes).toBe(before);
      const left = await startLoop(session, CARRIED, START);
      const step = left.step({ x: vector(1, 1, 1) });
      await session.dispose();
      await step.catch(() => undefined);
      await expect(left.step({ x: vector(1, 1, 1) })).rejects.toMatchObject({ code: 'USAGE', message: 'the session was disposed of' });
    });
  });
});
